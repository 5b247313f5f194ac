//! What goes wrong, by a seeded sequence: kills, stops, flushes, stalls, restarts.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use sandbox::{services::Supervised, system::System};
use tokio_util::sync::CancellationToken;

/// How many faults there were.
pub async fn run(system: Arc<System>, seed: u64, stop: CancellationToken) -> anyhow::Result<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = 0;
    loop {
        let pause = Duration::from_millis(rng.random_range(500..3_000));
        tokio::select! {
            () = stop.cancelled() => return Ok(faults),
            () = tokio::time::sleep(pause) => {}
        }
        let worker = rng.random_range(0..system.workers.len());
        let stall = rng.random_range(200..4_000);
        let what = match rng.random_range(0..100) {
            0..35 => kill(&system.workers[worker]).await,
            35..45 => kill(&system.api).await,
            45..55 => kill(&system.scheduler).await,
            55..70 => command(&system, redis::cmd("FLUSHALL")).await,
            70..80 => {
                let mut pause = redis::cmd("CLIENT");
                pause.arg("PAUSE").arg(stall).arg("ALL");
                command(&system, pause).await
            }
            80..88 => {
                system.redis.kill9().await;
                tokio::time::sleep(Duration::from_millis(stall / 4)).await;
                system.redis.restart().await?;
                format!("killed Redis, away for {} ms", stall / 4)
            }
            88..94 => freeze(&system.workers[worker]).await,
            _ => {
                system.postgres.stop_immediate().await;
                system.postgres.restart().await?;
                "stopped Postgres in the middle of everything".to_owned()
            }
        };
        faults += 1;
        println!("  ⚡ {what}");
    }
}

async fn kill(service: &Supervised) -> String {
    let process = service.process();
    let what = format!("killed {} ({}) with signal 9", process.name(), process.pid());
    process.kill9().await;
    what
}

/// Longer than the lease of its jobs.
async fn freeze(service: &Supervised) -> String {
    let process = service.process();
    process.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(7)).await;
    process.signal(Signal::CONT);
    format!("froze {} for 7 s, its leases were 5 s", process.name())
}

async fn command(system: &System, command: redis::Cmd) -> String {
    let sent = async {
        let client = redis::Client::open(system.var("REDIS_URL"))?;
        command.query_async::<()>(&mut client.get_multiplexed_async_connection().await?).await
    };
    let name: Vec<_> = command
        .args_iter()
        .filter_map(|arg| match arg {
            redis::Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect();
    match sent.await {
        Ok(()) => format!("Redis: {}", name.join(" ")),
        Err(error) => format!("Redis: {} (it did not answer: {error})", name.join(" ")),
    }
}
