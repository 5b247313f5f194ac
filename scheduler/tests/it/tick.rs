//! Each tick once, whoever is there and whatever was missed.

use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use sandbox::testing::{servers, unique_prefix};
use scheduler::{
    cron_local::LocalCron,
    schedules::{self, CatchUp, Schedule, TABLE},
    tick,
};
use shared::{
    db::schedule_ticks,
    jobs::{Job, Noop},
    queue::{Dispatcher, redis::RedisQueues},
};
use sqlx::PgPool;

struct World {
    db: PgPool,
    dispatcher: Dispatcher,
}

impl World {
    async fn new() -> Self {
        let servers = servers().await;
        let url = servers.database(&shared::db::MIGRATOR).await;
        let redis = RedisQueues::connect(&servers.redis.url(), &unique_prefix()).unwrap();
        Self { db: PgPool::connect(&url).await.unwrap(), dispatcher: Dispatcher::start(redis) }
    }

    async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select now()").fetch_one(&self.db).await.unwrap()
    }

    /// As if the last scheduler had stopped so long ago.
    async fn stopped(&self, schedule: &Schedule, ago: TimeDelta) {
        let at = self.now().await - ago;
        schedule_ticks::start(&self.db, schedule.name, at).await.unwrap();
    }

    async fn run(&self, schedules: &[Schedule]) -> Vec<DateTime<Utc>> {
        let round = tick::run_due(&self.db, &self.dispatcher, schedules).await.unwrap();
        round.ran.into_iter().map(|(_, tick)| tick).collect()
    }

    /// Ticks that became jobs, in order.
    async fn ticks(&self) -> Vec<DateTime<Utc>> {
        sqlx::query_scalar("select tick from schedule_ticks where job_id is not null order by tick")
            .fetch_all(&self.db)
            .await
            .unwrap()
    }

    async fn jobs(&self) -> i64 {
        sqlx::query_scalar("select count(*) from jobs where kind = $1")
            .bind(Noop::NAME)
            .fetch_one(&self.db)
            .await
            .unwrap()
    }
}

fn schedule(cron: &str, catch_up: CatchUp) -> Schedule {
    Schedule {
        name: "test",
        cron: LocalCron::parse(cron, Tz::UTC).unwrap(),
        catch_up,
        enqueue: |tx| Box::pin(async move { tx.enqueue(&Noop::default()).await }),
    }
}

fn minute(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::minutes(1)).unwrap()
}

fn are_a_minute_apart(ticks: &[DateTime<Utc>]) -> bool {
    ticks.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(1))
}

#[tokio::test]
async fn a_new_schedule_starts_now() {
    let world = World::new().await;
    let schedules = [schedule("* * * * * *", CatchUp::Latest)];
    let first = tick::run_due(&world.db, &world.dispatcher, &schedules).await.unwrap();
    assert!(first.ran.is_empty(), "what was before the first start was not missed");
    let mut next_in = first.next_in.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(next_in <= Duration::from_secs(1));
        tokio::time::sleep(next_in).await;
        let round = tick::run_due(&world.db, &world.dispatcher, &schedules).await.unwrap();
        next_in = round.next_in.unwrap();
        seen.extend(round.ran.into_iter().map(|(_, tick)| tick));
    }
    assert_eq!(world.ticks().await, seen);
    assert_eq!(world.jobs().await, seen.len() as i64);
    assert!(seen.iter().all(|tick| tick.nanosecond() == 0));
}

#[tokio::test]
async fn after_three_hours_the_latest_tick_runs() {
    let world = World::new().await;
    let schedules = [schedule("* * * * *", CatchUp::Latest)];
    world.stopped(&schedules[0], TimeDelta::hours(3)).await;
    let before = world.now().await;
    let ran = world.run(&schedules).await;
    let after = world.now().await;
    assert_eq!(ran.len(), 1);
    assert!(ran[0] == minute(before) || ran[0] == minute(after), "{ran:?}");
    assert_eq!((world.ticks().await, world.jobs().await), (ran, 1));
}

#[tokio::test]
async fn after_three_hours_all_ticks_run_in_order_or_the_newest_of_them() {
    let world = World::new().await;
    let all = [schedule("* * * * *", CatchUp::All(1_000))];
    world.stopped(&all[0], TimeDelta::hours(3)).await;
    let ran = world.run(&all).await;
    assert!((180..=181).contains(&ran.len()), "{}", ran.len());
    assert!(are_a_minute_apart(&ran));
    assert_eq!((world.ticks().await, world.jobs().await), (ran.clone(), ran.len() as i64));
    assert!(world.run(&all).await.len() <= 1, "each tick once");

    let world = World::new().await;
    let some = [schedule("* * * * *", CatchUp::All(5))];
    world.stopped(&some[0], TimeDelta::hours(3)).await;
    let ran = world.run(&some).await;
    assert_eq!(ran.len(), 5);
    assert!(are_a_minute_apart(&ran) && world.now().await - ran[4] < TimeDelta::minutes(2));
    assert!(world.run(&some).await.len() <= 1, "what was left out stays out");
}

#[tokio::test]
async fn a_missed_tick_is_left_out_or_caught_up() {
    for (catch_up, expected) in [(CatchUp::None, 0), (CatchUp::Latest, 1), (CatchUp::All(9), 1)] {
        let world = World::new().await;
        let missed = minute(world.now().await - TimeDelta::hours(2));
        let schedules = [schedule(&format!("{} {} * * *", missed.minute(), missed.hour()), catch_up)];
        world.stopped(&schedules[0], TimeDelta::hours(3)).await;
        let ran = world.run(&schedules).await;
        assert_eq!(ran, vec![missed; expected], "{catch_up:?}");
        assert!(world.run(&schedules).await.is_empty());
        assert_eq!(world.jobs().await, expected as i64);
    }
    // A tick of just now has not been missed.
    let world = World::new().await;
    let schedules = [schedule("* * * * * *", CatchUp::None)];
    world.stopped(&schedules[0], TimeDelta::hours(3)).await;
    assert_eq!(world.run(&schedules).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_schedulers_at_once_run_each_tick_once() {
    for catch_up in [CatchUp::All(1_000), CatchUp::Latest] {
        let world = World::new().await;
        let schedules = [schedule("* * * * *", catch_up)];
        world.stopped(&schedules[0], TimeDelta::hours(3)).await;
        let rounds = (0..8).map(|_| {
            let (db, dispatcher, schedules) = (world.db.clone(), world.dispatcher.clone(), schedules.clone());
            tokio::spawn(async move { tick::run_due(&db, &dispatcher, &schedules).await.unwrap().ran })
        });
        let mut ran = Vec::new();
        for round in rounds.collect::<Vec<_>>() {
            ran.extend(round.await.unwrap().into_iter().map(|(_, tick)| tick));
        }
        ran.sort_unstable();
        assert!(are_a_minute_apart(&ran));
        assert!(if catch_up == CatchUp::Latest { 1..=2 } else { 180..=181 }.contains(&ran.len()), "{}", ran.len());
        assert_eq!((world.ticks().await, world.jobs().await), (ran.clone(), ran.len() as i64));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_schedulers_share_every_second() {
    let world = World::new().await;
    let schedules = [schedule("* * * * * *", CatchUp::Latest)];
    let deadline = Instant::now() + Duration::from_secs(4);
    let loops = (0..2).map(|_| {
        let (db, dispatcher, schedules) = (world.db.clone(), world.dispatcher.clone(), schedules.clone());
        tokio::spawn(async move {
            while Instant::now() < deadline {
                let round = tick::run_due(&db, &dispatcher, &schedules).await.unwrap();
                tokio::time::sleep(round.next_in.unwrap()).await;
            }
        })
    });
    for task in loops.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let ticks = world.ticks().await;
    assert!(ticks.len() >= 2, "{ticks:?}");
    assert_eq!(world.jobs().await, ticks.len() as i64);
}

#[tokio::test]
async fn a_tick_whose_job_cannot_be_written_comes_again_and_holds_up_nobody() {
    let world = World::new().await;
    let good = Schedule { name: "good", ..schedule("* * * * *", CatchUp::Latest) };
    let mut bad = schedule("* * * * *", CatchUp::Latest);
    bad.enqueue = |_| Box::pin(async { Err(sqlx::Error::PoolTimedOut) });
    for schedule in [&bad, &good] {
        world.stopped(schedule, TimeDelta::hours(3)).await;
    }
    let error = tick::run_due(&world.db, &world.dispatcher, &[bad.clone(), good]).await.unwrap_err();
    assert!(format!("{error:#}").contains("schedule test"), "{error:#}");
    assert_eq!((world.ticks().await.len(), world.jobs().await), (1, 1), "the good one ran");

    bad.enqueue = |tx| Box::pin(async move { tx.enqueue(&Noop::default()).await });
    assert_eq!(world.run(&[bad]).await.len(), 1);
}

#[tokio::test]
async fn a_scheduler_that_slept_runs_no_tick_before_one_that_has_run() {
    let world = World::new().await;
    let now = minute(world.now().await);
    let mut db = world.db.acquire().await.unwrap();
    assert!(schedule_ticks::insert(&mut db, "test", now).await.unwrap());
    assert!(!schedule_ticks::insert(&mut db, "test", now).await.unwrap());
    assert!(!schedule_ticks::insert(&mut db, "test", now - TimeDelta::minutes(1)).await.unwrap());
    assert!(schedule_ticks::insert(&mut db, "other", now - TimeDelta::minutes(1)).await.unwrap());
}

#[tokio::test]
async fn what_is_off_does_not_start() {
    let world = World::new().await;
    let off = [("SCHEDULE_CLEANUP".to_owned(), "off".to_owned())];
    let schedules = schedules::resolve(TABLE, off).unwrap();
    world.run(&schedules).await;
    let known: Vec<String> =
        sqlx::query_scalar("select schedule from schedule_ticks order by schedule").fetch_all(&world.db).await.unwrap();
    assert_eq!(
        known,
        [
            "auto-end-sessions",
            "cleanup-personal-data",
            "close-stale-attendance",
            "poll-meetings",
            "provider-health",
            "register-webhooks",
            "sync-recordings"
        ]
    );
    let nothing = tick::run_due(&world.db, &world.dispatcher, &[]).await.unwrap();
    assert_eq!(nothing, tick::Round { ran: vec![], next_in: None });
}

#[tokio::test]
async fn the_tables_jobs_are_written() {
    let world = World::new().await;
    let schedules = schedules::resolve(TABLE, []).unwrap();
    for schedule in &schedules {
        world.stopped(schedule, TimeDelta::days(2)).await;
    }
    assert_eq!(world.run(&schedules).await.len(), TABLE.len());
    let pairs: Vec<(String, String)> =
        sqlx::query_as("select schedule, kind from schedule_ticks join jobs on jobs.id = job_id order by schedule")
            .fetch_all(&world.db)
            .await
            .unwrap();
    assert_eq!(pairs.len(), TABLE.len());
    assert!(pairs.iter().all(|(schedule, kind)| schedule == kind), "{pairs:?}");
}

#[tokio::test]
async fn old_ticks_go_but_the_newest_stays() {
    let world = World::new().await;
    let monthly = schedule("0 0 1 * *", CatchUp::Latest);
    for days in [90, 60, 40] {
        world.stopped(&monthly, TimeDelta::days(days)).await;
    }
    assert_eq!(schedule_ticks::delete_older_than(&world.db, 30).await.unwrap(), 2);
    let (now, newest) = schedule_ticks::newest(&world.db, &["test", "unknown"]).await.unwrap();
    assert_eq!(newest.len(), 1);
    assert_eq!((now - newest["test"]).num_days(), 40);
}
