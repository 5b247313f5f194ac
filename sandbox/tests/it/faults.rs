//! Stores that die, stall, fill up and forget; processes that stop and go on; strangers' entries in Redis. After each
//! the system has to work again by itself, and every job is done.

use std::time::Duration;

use rustix::process::Signal;
use sandbox::system::System;
use shared::{
    jobs::{Job, Noop, Queue},
    queue::{Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::PgPool;

use crate::support::{count, database, eventually, system};

/// The system without anything that comes by the clock, so that only the test's own jobs run.
const QUIET: [(&str, &str); 8] = [
    ("RUST_LOG", "warn"),
    ("JOB_LEASE", "3"),
    ("SCHEDULE_CLOSE_STALE_ATTENDANCE", "off"),
    ("SCHEDULE_AUTO_END_SESSIONS", "off"),
    ("SCHEDULE_PROVIDER_HEALTH", "off"),
    ("SCHEDULE_SYNC_RECORDINGS", "off"),
    ("SCHEDULE_CLEANUP", "off"),
    ("WORKER_CONCURRENCY", "4"),
];

pub const UNDONE: &str = "select count(*) from jobs where state <> 'done'";

pub struct Bench {
    pub system: System,
    pub db: PgPool,
    pub redis: RedisQueues,
    pub dispatcher: Dispatcher,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub async fn new(workers: usize, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let system = system(&dir, workers, &[&QUIET, env].concat()).await;
        let db = database(&system).await;
        let redis = RedisQueues::connect(system.var("REDIS_URL"), "live-sessions").expect("a Redis address");
        let dispatcher = Dispatcher::start(redis.clone());
        Self { system, db, redis, dispatcher, dir }
    }

    /// Writes jobs that take `sleep_ms` each.
    pub async fn enqueue(&self, jobs: usize, sleep_ms: u64) {
        let jobs: Vec<Noop> = (0..jobs).map(|n| Noop { note: n.to_string(), sleep_ms }).collect();
        let mut tx = Tx::begin(&self.db, &self.dispatcher).await.expect("a transaction");
        assert_eq!(tx.enqueue_all(&jobs).await.expect("written"), jobs.len());
        tx.commit().await.expect("committed");
    }

    pub async fn all_done(&self) {
        eventually("every job to be done", async || count(&self.db, UNDONE).await == 0).await;
    }

    pub async fn running(&self) -> i64 {
        count(&self.db, "select count(*) from jobs where state = 'running'").await
    }

    pub async fn redis_command<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.system.var("REDIS_URL"))?;
        command.query_async(&mut client.get_multiplexed_async_connection().await?).await
    }

    pub async fn ready(&self, process: usize) -> bool {
        self.system.workers[process].ready().await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_jobs_are_not_interrupted_and_nothing_is_lost_when_redis_dies_again_and_again() {
    let bench = Bench::new(1, &[]).await;
    let pid = bench.system.workers[0].process().pid();
    bench.enqueue(4, 4_000).await;
    eventually("four long jobs to run", async || bench.running().await == 4).await;
    for _ in 0..3 {
        bench.system.redis.kill9().await;
        bench.enqueue(20, 0).await;
        bench.system.redis.restart().await.expect("Redis starts again");
        bench.enqueue(20, 0).await;
    }
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1 or crashes <> 0").await, 0);
    assert_eq!(bench.system.workers[0].process().pid(), pid, "the worker lives");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stalls_costs_nothing_but_time() {
    let bench = Bench::new(1, &[]).await;
    let pid = bench.system.workers[0].process().pid();
    bench.enqueue(4, 3_000).await;
    eventually("four long jobs to run", async || bench.running().await == 4).await;
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(30_000).arg("ALL");
    bench.redis_command::<()>(&pause).await.expect("Redis takes the command");
    // Written while nobody can be told.
    bench.enqueue(50, 0).await;
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1 or crashes <> 0").await, 0);
    assert_eq!(bench.system.workers[0].process().pid(), pid, "the worker lives");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_accepted_while_redis_is_full_and_done_when_it_has_room() {
    let bench = Bench::new(1, &[]).await;
    let limit = |bytes: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        command
    };
    bench.redis_command::<()>(&limit("1")).await.expect("a limit");
    bench.enqueue(200, 0).await;
    assert_eq!(bench.redis.depth(Queue::Default).await.expect("Redis answers"), 0, "it really takes nothing");
    bench.redis_command::<()>(&limit("0")).await.expect("no limit");
    bench.all_done().await;
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_put_into_redis_harms_nobody() {
    let bench = Bench::new(1, &[]).await;
    let pid = bench.system.workers[0].process().pid();
    let key = bench.redis.key(Queue::Default);
    let mut foreign = redis::cmd("ZADD");
    foreign.arg(&key);
    for member in ["", "no id", "\u{0}", "00000000-0000-0000-0000-000000000000", "x".repeat(100_000).as_str()] {
        foreign.arg(0).arg(member);
    }
    foreign.arg(0).arg(&[0xff_u8, 0xfe, 0x00][..]);
    bench.redis_command::<()>(&foreign).await.expect("added");
    bench.enqueue(50, 0).await;
    bench.all_done().await;

    // A key of another type: the relay clears it away.
    let mut wrong = redis::cmd("SET");
    wrong.arg(&key).arg("not a sorted set");
    bench.redis_command::<()>(&wrong).await.expect("set");
    bench.enqueue(50, 0).await;
    bench.all_done().await;
    assert_eq!(bench.system.workers[0].process().pid(), pid, "the worker lives");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_jobs_write_their_outcomes_when_postgres_is_back_after_longer_than_their_leases() {
    let bench = Bench::new(1, &[]).await;
    let pid = bench.system.workers[0].process().pid();
    bench.enqueue(2, 1_500).await;
    bench.enqueue(6, 9_000).await;
    eventually("four jobs to run", async || bench.running().await == 4).await;
    bench.system.postgres.stop_immediate().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.system.postgres.restart().await.expect("Postgres starts again");
    let db = database(&bench.system).await;
    eventually("every job to be done", async || count(&db, UNDONE).await == 0).await;
    let again = count(&db, "select count(*) from jobs where attempt <> 1 or crashes <> 0").await;
    assert_eq!(again, 0, "no job ran twice for the loss of Postgres");
    assert_eq!(bench.system.workers[0].process().pid(), pid, "the worker lives");
    assert!(bench.ready(0).await);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_stopped_longer_than_its_lease_writes_nothing_when_it_goes_on() {
    let bench = Bench::new(2, &[("WORKER_CONCURRENCY", "2")]).await;
    bench.enqueue(4, 1_500).await;
    eventually("all four to run, two on each", async || bench.running().await == 4).await;
    let stopped = bench.system.workers[0].process();
    stopped.signal(Signal::STOP);
    bench.all_done().await;
    let crashed = count(&bench.db, "select count(*) from jobs where crashes = 1").await;
    assert_eq!(crashed, 2, "the other worker took over what the stopped one held");
    let tokens = "select sum(lease_token)::int8 from jobs";
    let before = count(&bench.db, tokens).await;
    stopped.signal(Signal::CONT);
    bench.enqueue(20, 0).await;
    bench.all_done().await;
    assert!(count(&bench.db, tokens).await >= before);
    let twice = "select count(*) from jobs where payload->>'sleep_ms' = '1500' and (state <> 'done' or attempt <> 1)";
    assert_eq!(count(&bench.db, twice).await, 0, "the resumed worker changed no outcome");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_gives_unfinished_jobs_to_the_others_at_once() {
    let bench = Bench::new(2, &[("WORKER_CONCURRENCY", "2"), ("SHUTDOWN_GRACE", "1"), ("JOB_LEASE", "60")]).await;
    bench.enqueue(4, 6_000).await;
    eventually("all four to run, two on each", async || bench.running().await == 4).await;
    bench.system.workers[0].stop().await;
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1 or crashes <> 0").await, 0);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_is_a_dead_letter_after_three_deaths_and_takes_nobody_with_it() {
    // Jobs of one kind kill the process each time they start; the others only run beside them.
    let bench = Bench::new(1, &[("FAILPOINTS", "before_effect=cleanup!")]).await;
    let mut tx = Tx::begin(&bench.db, &bench.dispatcher).await.expect("a transaction");
    tx.enqueue(&shared::jobs::Cleanup {}).await.expect("enqueued");
    tx.commit().await.expect("committed");
    bench.enqueue(30, 300).await;
    let poison = format!("select count(*) from jobs where kind = '{}' and state = 'dead'", shared::jobs::Cleanup::NAME);
    let poison: &'static str = poison.leak();
    eventually("the poison to be given up", async || count(&bench.db, poison).await == 1).await;
    let rest = "select count(*) from jobs where kind = 'noop' and state <> 'done'";
    eventually("the others to be done", async || count(&bench.db, rest).await == 0).await;
    assert_eq!(count(&bench.db, "select crashes::int8 from jobs where state = 'dead'").await, 3);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_recordings_leave_room_for_everything_else_in_their_queue() {
    let bench = Bench::new(1, &[("WORKER_CONCURRENCY", "6")]).await;
    sqlx::query(
        "with session as ( \
             insert into sessions (id, tenant_id, kind, title, host_id, provider, room, starts_at, ends_at, timezone, created_by) \
             select gen_random_uuid(), id, 'scheduled', 'Many recordings', 'host', 'jitsi', 'many-recordings', now(), \
                 now() + interval '1 hour', 'UTC', 'host' from tenants limit 1 returning id, tenant_id) \
         insert into recordings (id, tenant_id, session_id, external_id, state, source_url, deadline_at) \
         select gen_random_uuid(), tenant_id, id, n::text, 'available', $1, now() + interval '1 hour' \
         from session, generate_series(1, 12) as n",
    )
    .bind(format!("{}&bytes_per_second=200000", bench.system.recording_host.recording_url("slow.mp4", 600_000, 1)))
    .execute(&bench.db)
    .await
    .expect("recordings are announced");
    let ids: Vec<shared::domain::ids::RecordingId> =
        sqlx::query_scalar("select id from recordings").fetch_all(&bench.db).await.expect("their ids");
    let mut tx = Tx::begin(&bench.db, &bench.dispatcher).await.expect("a transaction");
    for recording_id in ids {
        tx.enqueue(&shared::jobs::ImportRecording { recording_id }).await.expect("enqueued");
    }
    tx.commit().await.expect("committed");
    eventually("the cap to be reached", async || bench.running().await == 4).await;
    // While twelve are due, no more than four run, and another job of the queue starts at once.
    let mut tx = Tx::begin(&bench.db, &bench.dispatcher).await.expect("a transaction");
    tx.enqueue(&shared::jobs::CloseStaleAttendance {}).await.expect("enqueued");
    tx.commit().await.expect("committed");
    let quick = "select count(*) from jobs where kind = 'close-stale-attendance' and state = 'done'";
    eventually("the quick job to be done", async || {
        assert!(bench.running().await <= 5, "four recordings and the quick one");
        count(&bench.db, quick).await == 1
    })
    .await;
    let imported = "select count(*) from jobs where kind = 'import-recording' and state = 'done'";
    assert!(count(&bench.db, imported).await < 12, "it did not wait for the recordings");
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1").await, 0, "waiting uses no attempt");
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_over_all_workers_and_puts_no_job_off_twice() {
    const PER_SECOND: usize = 20;
    let bench = Bench::new(2, &[("WORKER_RATES", "noop=20")]).await;
    bench.enqueue(60, 0).await;
    bench.all_done().await;
    let starts: Vec<f64> =
        sqlx::query_scalar("select extract(epoch from started_at)::float8 from jobs order by started_at")
            .fetch_all(&bench.db)
            .await
            .expect("the starts");
    // A turn may be taken late, by the rhythm of the relay, and so come closer to the next one.
    let late = 0.5;
    for (first, last) in starts.iter().zip(&starts[PER_SECOND..]) {
        assert!(last - first > 1.0 - late, "{PER_SECOND} starts in {} s", last - first);
    }
    assert_eq!(count(&bench.db, "select count(*) from jobs where attempt <> 1 or lease_token > 2").await, 0);
    bench.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_waits_in_the_ledger_and_never_starts_before_its_time() {
    let bench = Bench::new(1, &[]).await;
    let mut tx = Tx::begin(&bench.db, &bench.dispatcher).await.expect("a transaction");
    for n in 0..40 {
        tx.enqueue_in(&Noop::default(), Duration::from_millis(500 + n * 50)).await.expect("enqueued");
    }
    tx.commit().await.expect("committed");
    assert_eq!(bench.redis.depth(Queue::Default).await.expect("Redis answers"), 0, "the future is not in Redis");
    bench.all_done().await;
    assert_eq!(count(&bench.db, "select count(*) from jobs where started_at < run_at").await, 0);
    bench.system.stop().await;
}
