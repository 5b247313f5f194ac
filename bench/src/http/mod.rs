//! `bench api`: what a request of the API costs, beside an empty route with the same token check, beside a small Django REST
//! behind gunicorn on the same Postgres, and beside the bare statement.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use sandbox::{ports::free_port, services::Supervised};
use serde_json::json;
use shared::{clock::Clock, db::participants, domain::ids::SessionId};

use crate::{
    Arguments,
    figures::{Spread, number, percentile},
    meter::{Meter, Roles},
    rig::{Rig, USUAL_LOG, problems_only},
    usage,
};

mod django;
mod load;
mod report;
mod seed;

use load::{CONNECTIONS, Load, request};
pub use report::{Report, Row};
use seed::{CLASSES, PEOPLE, Seeded};

pub const TOKEN_SECRET: &str = "a-secret-of-the-bench-with-32-bytes-";
pub const WEBHOOK_SECRET: &str = "a-webhook-secret-of-the-bench";
const BASE: &str = "/api/v1/live-sessions";
/// Different webhooks; each is new to the database once.
const WEBHOOKS: usize = 400_000;
const STALE: i32 = 100_000;

/// A token of the bench's LMS, as the API and the peer take it.
pub fn token(tenant: &str, person: &str, role: &str) -> String {
    let claims = json!({
        "sub": person, "tenant": tenant, "roles": [role], "name": "Somebody", "email": "somebody@school.example", "locale": "tr",
        "zoneinfo": "Europe/Istanbul", "exp": Clock::System.now().timestamp() + 86_400,
    });
    sandbox::people::sign(&claims, TOKEN_SECRET).unwrap_or_default()
}

/// One load, with what the processes used for it.
#[derive(Debug, Clone)]
pub struct Run {
    pub load: Load,
    /// µs per request, of all processes that work for it.
    pub cpu: f64,
    /// Of the server's own, of Postgres.
    pub own_cpu: f64,
    pub postgres_cpu: f64,
    pub noise: f64,
}

/// Everything of `bench api`.
pub async fn all(arguments: &Arguments, sessions: usize) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&arguments.dir)?;
    let dir = arguments.dir.canonicalize()?;
    println!("Starting Postgres and Redis …");
    let rig = Rig::start(&dir, arguments.concurrency).await?;
    println!("Writing {} sessions and {} people in classes …", number(sessions as f64), number(PEOPLE as f64));
    let seeded = seed::all(&rig.owner, sessions).await?;
    let mut report = Report { sessions, ..Report::default() };
    ours(arguments, &rig, &seeded, &mut report).await?;
    bare(arguments, &rig, &seeded, &mut report).await?;
    report.sweep = Some(sweep(&rig, &seeded).await?);
    match django::measure(arguments, &rig, &dir).await {
        Ok((versions, rows)) => {
            report.peer = versions;
            report.rows.extend(rows);
        }
        Err(error) => {
            println!("  LEFT OUT Django: {error:#}");
            report.skipped.push(format!("Django: {error:#}"));
        }
    }
    rig.redis.stop().await;
    rig.postgres.stop().await;
    Ok(report)
}

async fn ours(arguments: &Arguments, rig: &Rig, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    let (bare, address) = serve(rig, "bare").await?;
    let roles = vec![("own", bare.process().pid())];
    let empty = Arc::new((0..PEOPLE).map(|n| request("POST /", &person(n), "", "")).collect::<Vec<_>>());
    report.add("ours", "empty route, token checked", repeat(arguments, (address, &roles), &empty, CONNECTIONS).await?);
    bare.stop().await;

    let (api, address) = serve(rig, "api").await?;
    let pid = api.process().pid();
    let roles: Roles = vec![("own", pid), ("postgres", rig.postgres_pid()), ("redis", rig.redis_pid())];
    let at = |what: &str, class: SessionId| format!("{BASE}/sessions/{class}/{what}/");
    let of_people = |what: &str| {
        let one = |n: usize| request(&format!("POST {}", at(what, seeded.classes[n % CLASSES])), &person(n), "", "");
        Arc::new((0..PEOPLE).map(one).collect::<Vec<_>>())
    };
    let heartbeats = of_people("heartbeat");
    report.add("ours", "heartbeat", repeat(arguments, (address, &roles), &heartbeats, CONNECTIONS).await?);
    report.add("ours", "join", repeat(arguments, (address, &roles), &of_people("join"), CONNECTIONS).await?);
    let webhooks = Arc::new((0..WEBHOOKS).map(webhook).collect::<Vec<_>>());
    // Once through: what comes again costs less.
    let most = repeat_once(arguments, (address, &roles), &webhooks).await?;
    report.add("ours", "webhook, stored and queued", most);
    for (name, tenant) in
        [("list of 20 sessions, of 10,000", "small"), ("list of 20 sessions, of the large tenant", "large")]
    {
        // One person has 32 requests at a time.
        let one = |n: usize| {
            let admin = token(tenant, &format!("admin-{n}"), "admin");
            request(&format!("GET {BASE}/sessions/?page_size=20"), &admin, "", "")
        };
        let list = Arc::new((0..CONNECTIONS).map(one).collect::<Vec<_>>());
        report.add("ours", name, repeat(arguments, (address, &roles), &list, CONNECTIONS).await?);
    }
    let admin = token("school", "admin", "admin");
    for format in ["json", "csv", "xlsx"] {
        let path = format!("GET {}?format={format}", at("attendance", seeded.reported));
        let one = Arc::new(vec![request(&path, &admin, "", "")]);
        let name = format!("report of 5,000 people, {format}");
        report.add("ours", &name, repeat(arguments, (address, &roles), &one, 4).await?);
    }
    let path = format!("GET {}?format=csv", at("attendance", seeded.many_reported));
    let many = Arc::new(vec![request(&path, &admin, "", "")]);
    usage::forget_peak(pid);
    let before = usage::memory(pid);
    let load = load::run(address, &many, 1, Duration::from_millis(1)).await?;
    report.many = Some((load.latencies[0], usage::peak_memory(pid).saturating_sub(before)));
    api.stop().await;
    Ok(())
}

async fn serve(rig: &Rig, kind: &'static str) -> anyhow::Result<(Supervised, SocketAddr)> {
    let port = free_port()?;
    let service = rig.service_at(port, kind, USUAL_LOG, problems_only()).await?;
    Ok((service, SocketAddr::from(([127, 0, 0, 1], port))))
}

fn person(n: usize) -> String {
    token("school", &format!("p{n}"), "student")
}

/// As our Prosody module sends it: somebody comes into a room.
fn webhook(n: usize) -> Vec<u8> {
    let now = Clock::System.now();
    let (id, room) = (format!("bench-{n}"), format!("class-{}", n % CLASSES));
    let body = json!({
        "id": id, "event_name": "muc-occupant-joined", "room_name": room, "room_jid": format!("{room}@conference.meet.bench"),
        "is_breakout": false, "meeting_id": "m", "created_at": now.timestamp(), "sequence": n, "start_id": "bench",
        "occupant": {
            "id": format!("p{n}"), "name": "Somebody", "occupant_jid": format!("{n}@meet.bench/x"), "joined_at": now.timestamp(),
        },
    })
    .to_string();
    let headers = shared::providers::sign_standard(WEBHOOK_SECRET, &id, now, body.as_bytes());
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = format!("Content-Type: application/json\r\n{headers}");
    request(&format!("POST {BASE}/webhooks/jitsi/"), "", &headers, &body)
}

/// So many runs, after one that only warms up.
async fn repeat(
    arguments: &Arguments,
    (address, roles): (SocketAddr, &Roles),
    requests: &Arc<Vec<Vec<u8>>>,
    connections: usize,
) -> anyhow::Result<Vec<Run>> {
    let time = arguments.watch() / 2;
    load::run(address, requests, connections, time / 5).await?;
    let mut runs = Vec::new();
    for _ in 0..arguments.runs() {
        runs.push(once((address, roles), requests, connections, time).await?);
    }
    Ok(runs)
}

/// The same for requests that count once each: the runs share them out.
async fn repeat_once(
    arguments: &Arguments,
    (address, roles): (SocketAddr, &Roles),
    requests: &Arc<Vec<Vec<u8>>>,
) -> anyhow::Result<Vec<Run>> {
    let share = requests.len() / arguments.runs();
    let mut runs = Vec::new();
    for part in requests.chunks(share).take(arguments.runs()) {
        let part = Arc::new(part.to_vec());
        runs.push(once((address, roles), &part, CONNECTIONS, arguments.watch() / 2).await?);
    }
    Ok(runs)
}

async fn once(
    (address, roles): (SocketAddr, &Roles),
    requests: &Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Run> {
    let meter = Meter::start(roles.clone());
    let load = load::run(address, requests, connections, time).await?;
    let used = meter.stop();
    let each = |seconds: f64| seconds * 1e6 / load.requests as f64;
    let run = Run {
        cpu: each(used.total()),
        own_cpu: each(used.of("own")),
        postgres_cpu: each(used.of("postgres")),
        noise: used.noise,
        load,
    };
    let (p50, p99) = (percentile(&run.load.latencies, 50.0), percentile(&run.load.latencies, 99.0));
    println!(
        "    {}/s, {} µs CPU, p50 {p50:.2} ms, p99 {p99:.2} ms{}",
        number(run.load.per_second()),
        number(run.cpu),
        if run.load.refused > 0 { format!(", {} REFUSED", run.load.refused) } else { String::new() }
    );
    Ok(run)
}

/// The bare statement of a heartbeat, by `pgbench`: nothing that commits each can be faster.
async fn bare(arguments: &Arguments, rig: &Rig, seeded: &Seeded, report: &mut Report) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "create table bare (n int primary key, seen timestamptz not null default now()) with (fillfactor = 50); \
         insert into bare select generate_series(0, 4999); create table bare_webhook (id uuid primary key, body jsonb)",
    )
    .execute(&rig.owner)
    .await?;
    let list = format!(
        "select id, title, status, starts_at, ends_at, host_id, course_id from sessions where tenant_id = '{}' \
         order by starts_at, id limit 20;",
        seeded.large
    );
    for (name, script) in [
        ("heartbeat", "\\set n random(0, 4999)\nupdate bare set seen = now() where n = :n;".to_owned()),
        (
            "webhook, stored and queued",
            "insert into bare_webhook values (gen_random_uuid(), '{\"event\": \"joined\", \"room\": \"class-1\"}');"
                .to_owned(),
        ),
        ("list of 20 sessions, of the large tenant", list),
    ] {
        let file = rig.dir.join("bare.sql");
        std::fs::write(&file, script)?;
        let mut rows = Vec::new();
        for _ in 0..arguments.runs() {
            rows.push(pgbench(arguments, rig, &file).await?);
        }
        report.add("bare statement (pgbench)", name, rows);
    }
    Ok(())
}

async fn pgbench(arguments: &Arguments, rig: &Rig, script: &std::path::Path) -> anyhow::Result<Run> {
    let seconds = (arguments.watch() / 2).as_secs().max(2);
    let mut command = tokio::process::Command::new(sandbox::provision::find_postgres()?.path.join("pgbench"));
    command.args([
        "--no-vacuum",
        "--protocol",
        "prepared",
        "--client",
        "64",
        "--jobs",
        "2",
        "--time",
        &seconds.to_string(),
    ]);
    command.arg("--file").arg(script).arg(rig.url());
    let meter = Meter::start(vec![("postgres", rig.postgres_pid())]);
    let output = command.output().await.context("pgbench")?;
    let used = meter.stop();
    let text = String::from_utf8_lossy(&output.stdout);
    let number_after = |name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let requests = number_after("number of transactions actually processed: ")
        .with_context(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)))?;
    let latency = number_after("latency average = ").unwrap_or(f64::NAN);
    let cpu = used.total() * 1e6 / requests;
    println!("    {}/s, {} µs CPU", number(requests / seconds as f64), number(cpu));
    let load = Load { requests: requests as usize, refused: 0, seconds: seconds as f64, latencies: vec![latency] };
    Ok(Run { load, cpu, own_cpu: 0.0, postgres_cpu: cpu, noise: used.noise })
}

/// Closing 100,000 silent connections, beside the shortest statement that does as much to as many rows; in seconds.
async fn sweep(rig: &Rig, seeded: &Seeded) -> anyhow::Result<[Spread; 2]> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        for by_us in [true, false] {
            sqlx::query("delete from participants").execute(&rig.owner).await?;
            sqlx::query(
                "insert into participants (id, tenant_id, session_id, person_id, source, connection_key, joined_at, last_seen_at) \
                 select gen_random_uuid(), $1, $2, 'p' || p, 'heartbeat', gen_random_uuid()::text, \
                     now() - interval '1 hour', now() - interval '10 minutes' from generate_series(1, $3) as p",
            )
            .bind(seeded.school)
            .bind(seeded.classes[0])
            .bind(STALE)
            .execute(&rig.owner)
            .await?;
            sqlx::query("vacuum analyze participants").execute(&rig.owner).await?;
            sqlx::query("checkpoint").execute(&rig.owner).await?;
            let started = Instant::now();
            let closed = if by_us {
                participants::close_stale(&rig.owner).await?
            } else {
                let bare =
                    "update participants set left_at = last_seen_at, left_reason = 'stale' where left_at is null";
                sqlx::query(bare).execute(&rig.owner).await?.rows_affected()
            };
            anyhow::ensure!(closed == u64::try_from(STALE)?, "{closed} of {STALE} were closed");
            let list = if by_us { &mut ours } else { &mut bare };
            list.push(started.elapsed().as_secs_f64());
        }
    }
    println!("  100,000 silent connections: {:.2} s, bare {:.2} s", Spread::of(&ours).median, Spread::of(&bare).median);
    Ok([Spread::of(&ours), Spread::of(&bare)])
}
