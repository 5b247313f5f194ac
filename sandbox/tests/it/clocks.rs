//! Hosts whose clocks are ten minutes off: leases, due times and ticks go by the database's clock.

use std::time::Duration;

use sandbox::provision::{self, Tool, find_faketime};
use shared::{jobs::Noop, queue::Tx};

use crate::{
    faults::Bench,
    support::{count, eventually, launch},
};

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_ten_minutes_off_start_no_job_early_and_take_no_lease_away() {
    tokio::task::spawn_blocking(|| provision::ensure(&[Tool::Faketime])).await.expect("awaited").expect("libfaketime");
    let library = find_faketime().expect("the library").path.display().to_string();
    for offset in ["+10m", "-10m"] {
        let bench = Bench::new(1, &[("SCHEDULE_CLOSE_STALE_ATTENDANCE", "* * * * * *")]).await;
        let env = [("LD_PRELOAD", library.as_str()), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let others =
            [launch(&bench.system, &bench.dir, "worker", &env), launch(&bench.system, &bench.dir, "scheduler", &env)];
        for other in &others {
            other.ready().await;
        }
        let mut tx = Tx::begin(&bench.db, &bench.dispatcher).await.expect("a transaction");
        for n in 0..10 {
            let later = Noop { note: n.to_string(), sleep_ms: 0 };
            tx.enqueue_in(&later, Duration::from_secs(3)).await.expect("enqueued");
        }
        tx.commit().await.expect("committed");
        // Longer than a lease, on both workers.
        bench.enqueue(8, 5_000).await;
        eventually("all eight to run", async || bench.running().await >= 8).await;
        eventually("the long and the late ones to be done", async || {
            count(&bench.db, "select count(*) from jobs where kind = 'noop' and state <> 'done'").await == 0
        })
        .await;
        let early = "select count(*) from jobs where payload->>'sleep_ms' = '0' \
                     and (started_at < created_at + interval '3 s' or started_at > created_at + interval '13 s')";
        assert_eq!(count(&bench.db, early).await, 0, "{offset}: at their time");
        let twice = "select count(*) from jobs where lease_token > 1 or attempt > 1 or crashes > 0";
        assert_eq!(count(&bench.db, twice).await, 0, "{offset}: each once, its lease kept");
        let future = "select count(*) from schedule_ticks where tick > now() or tick < now() - interval '1 minute'";
        assert_eq!(count(&bench.db, future).await, 0, "{offset}: ticks go by the database's clock");
        bench.system.stop().await;
    }
}
