//! Workers that lose one of the stores while the others have both; answers that are lost after the question arrived;
//! workers and schedulers that come and go.

use std::{
    process::{Child, Command},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::{ports::free_port, proxy::Proxy, system::System};
use serde_json::json;
use shared::clock::Clock;

use crate::{
    faults::Bench,
    support::{PROGRAM, count, eventually},
};

const AGAIN: &str = "select count(*) from jobs where kind = 'noop' and (attempt <> 1 or crashes <> 0)";

/// A process beside the sandbox's own; killed when the test ends.
struct Service {
    child: Child,
    health: String,
}

impl Service {
    fn start(system: &System, kind: &str, env: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let child = Command::new(PROGRAM)
            .args(["service", kind, "--health-addr", &address])
            .envs(&system.env)
            .envs(env.iter().copied())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        Self { child, health: format!("http://{address}/readyz") }
    }

    async fn is_ready(&self) -> bool {
        reqwest::get(&self.health).await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn ready(self) -> Self {
        eventually("it to be ready", async || self.is_ready().await).await;
        self
    }

    async fn metrics(&self) -> String {
        let answer = reqwest::get(self.health.replace("readyz", "metrics")).await.expect("it answers");
        answer.text().await.expect("a text")
    }

    /// Asks it to stop and waits until it has.
    async fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it is told");
        eventually("it to end", async || self.child.try_wait().expect("its state").is_some()).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Proxies to Redis and Postgres, with the addresses that lead over them.
async fn proxied(bench: &Bench) -> ((Proxy, String), (Proxy, String)) {
    let over = async |name: &str| {
        let url = bench.system.var(name);
        let address = url::Url::parse(url).expect("a URL");
        let port = address.port().expect("a port");
        let proxy = Proxy::start(port).await.expect("a proxy");
        let url = url.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
        (proxy, url)
    };
    (over("REDIS_URL").await, over("DATABASE_URL").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_redis_alone_finishes_what_it_has_and_the_others_do_the_rest() {
    let bench = Bench::new(0, &[("WORKER_CONCURRENCY", "2")]).await;
    let ((redis, redis_url), _) = proxied(&bench).await;
    let cut_off = Service::start(&bench.system, "worker", &[("REDIS_URL", &redis_url)]).ready().await;
    bench.enqueue(2, 3_000).await;
    eventually("two jobs to run", async || bench.running().await == 2).await;
    redis.silence();
    let other = Service::start(&bench.system, "worker", &[]).ready().await;
    bench.enqueue(30, 0).await;
    bench.all_done().await;
    assert_eq!(count(&bench.db, AGAIN).await, 0, "nothing ran twice");
    redis.open();
    other.stop().await;
    bench.enqueue(30, 0).await;
    bench.all_done().await;
    drop(cut_off);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_postgres_alone_writes_nothing_and_its_jobs_go_to_the_others() {
    let bench = Bench::new(0, &[("WORKER_CONCURRENCY", "2")]).await;
    let (_, (postgres, database_url)) = proxied(&bench).await;
    let cut_off = Service::start(&bench.system, "worker", &[("DATABASE_URL", &database_url)]).ready().await;
    bench.enqueue(2, 2_000).await;
    eventually("two jobs to run", async || bench.running().await == 2).await;
    postgres.silence();
    let other = Service::start(&bench.system, "worker", &[]).ready().await;
    bench.enqueue(30, 0).await;
    bench.all_done().await;
    let taken_over = "select count(*) from jobs where payload ->> 'sleep_ms' = '2000' and crashes = 1 and attempt = 1";
    assert_eq!(count(&bench.db, taken_over).await, 2);
    let outcomes = "select sum(extract(epoch from finished_at) * 1000 + lease_token)::int8 from jobs";
    let before = count(&bench.db, outcomes).await;
    postgres.open();
    eventually("it to be ready again", async || cut_off.is_ready().await).await;
    assert_eq!(count(&bench.db, outcomes).await, before, "what was kept back changes no outcome");
    other.stop().await;
    bench.enqueue(30, 0).await;
    bench.all_done().await;
    drop(cut_off);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten() {
    const EVENTS: usize = 20;
    let bench = Bench::new(0, &[]).await;
    let (_, (postgres, database_url)) = proxied(&bench).await;
    let worker = Service::start(&bench.system, "worker", &[("DATABASE_URL", &database_url)]).ready().await;
    sqlx::query(
        "insert into sessions (id, tenant_id, kind, title, host_id, provider, room, starts_at, ends_at, timezone, created_by, \
             status, started_at) \
         select gen_random_uuid(), id, 'scheduled', 'Lossy', 'host', 'jitsi', 'lossy', now(), now() + interval '1 hour', \
             'UTC', 'host', 'live', now() from tenants limit 1",
    )
    .execute(&bench.db)
    .await
    .expect("a session");
    postgres.lose_answers("COMMIT", 10);
    let http = reqwest::Client::new();
    let url = format!("{}/api/v1/live-sessions/webhooks/jitsi/events/occupant/joined", bench.system.var("API_URL"));
    for n in 0..EVENTS {
        let body = json!({
            "event_name": "muc-occupant-joined", "room_name": "lossy", "room_jid": "lossy@muc", "is_breakout": false,
            "occupant": {"occupant_jid": format!("a@b/{n}"), "id": format!("p{n}"), "joined_at": Clock::System.now().timestamp()},
        });
        let sent = http.post(&url).bearer_auth(bench.system.var("JITSI_WEBHOOK_SECRET")).json(&body).send().await;
        assert!(sent.expect("the API answers").status().is_success());
    }
    let open = "select count(*) from jobs where kind = 'process-webhook' and state <> 'done'";
    eventually("every event to be processed", async || count(&bench.db, open).await == 0).await;
    assert_eq!(postgres.still_losing(), 0, "ten answers were lost");
    assert_eq!(count(&bench.db, "select count(*) from sightings").await, EVENTS as i64);
    assert_eq!(count(&bench.db, "select count(*) from participants").await, EVENTS as i64);
    let again = "select count(*) from jobs where kind = 'process-webhook' and (attempt <> 1 or crashes <> 0)";
    assert_eq!(count(&bench.db, again).await, 0, "what was committed is not tried again");
    let metrics = worker.metrics().await;
    assert!(!metrics.contains("outcome=\"lost\""), "nor counted as lost: {metrics}");
    drop(worker);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_runtime_is_blocked_ends_itself_and_its_jobs_go_on_elsewhere() {
    let fired = tempfile::tempdir().expect("a directory");
    let fired = fired.path().to_str().expect("a path in UTF-8");
    let blocked = [
        ("FAILPOINTS", "before_effect=noop~"),
        ("FAILPOINTS_DIR", fired),
        ("TOKIO_WORKER_THREADS", "1"),
        ("WORKER_STUCK_AFTER", "3"),
    ];
    let bench = Bench::new(0, &[]).await;
    let mut stuck = Service::start(&bench.system, "worker", &blocked).ready().await;
    bench.enqueue(4, 0).await;
    eventually("it to end itself", async || stuck.child.try_wait().expect("its state").is_some()).await;
    let next = Service::start(&bench.system, "worker", &blocked).ready().await;
    bench.all_done().await;
    drop(next);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_lose_nothing_and_use_no_attempt() {
    const ROUNDS: usize = 10;
    let bench = Bench::new(0, &[("WORKER_CONCURRENCY", "4")]).await;
    let mut old = Service::start(&bench.system, "worker", &[]).ready().await;
    for _ in 0..ROUNDS {
        bench.enqueue(30, 100).await;
        let new = Service::start(&bench.system, "worker", &[]).ready().await;
        std::mem::replace(&mut old, new).stop().await;
    }
    bench.all_done().await;
    assert_eq!(count(&bench.db, AGAIN).await, 0);
    assert_eq!(count(&bench.db, "select count(*) from jobs where kind = 'noop'").await, 30 * ROUNDS as i64);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_run_no_job_twice() {
    let bench = Bench::new(0, &[("WORKER_CONCURRENCY", "3")]).await;
    bench.enqueue(400, 60).await;
    let first = Service::start(&bench.system, "worker", &[]).ready().await;
    for _ in 0..2 {
        let mut more = Vec::new();
        for _ in 0..4 {
            more.push(Service::start(&bench.system, "worker", &[]).ready().await);
        }
        for worker in more {
            worker.stop().await;
        }
    }
    bench.all_done().await;
    assert_eq!(count(&bench.db, AGAIN).await, 0);
    drop(first);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tick_runs_once_while_schedulers_are_killed_and_started() {
    const ROUNDS: usize = 6;
    let bench = Bench::new(0, &[("SCHEDULE_CLEANUP", "* * * * * *")]).await;
    let mut more: Vec<Service> = Vec::new();
    for _ in 0..2 {
        more.push(Service::start(&bench.system, "scheduler", &[]).ready().await);
    }
    for round in 0..ROUNDS {
        let ticks = count(&bench.db, "select count(*) from schedule_ticks").await;
        let next = async || count(&bench.db, "select count(*) from schedule_ticks").await > ticks;
        eventually("the next tick", next).await;
        // In the moment of a tick.
        let mut killed = more.remove(round % 2);
        killed.child.kill().expect("killed");
        more.insert(round % 2, Service::start(&bench.system, "scheduler", &[]));
    }
    let missing = "select (extract(epoch from max(tick) - min(tick)) + 1 - count(*))::int8 from schedule_ticks \
                   where job_id is not null";
    assert_eq!(count(&bench.db, missing).await, 0, "one row and one job for each second, from the first one on");
    tokio::time::timeout(Duration::from_secs(30), bench.system.stop()).await.expect("it stops");
}
