//! The ledger beside a model of it: seeded sequences of whatever workers, schedulers and operators may do to a few jobs, in
//! any order, with leases that are long lost, under a clock that the test moves. After each step every row is as the
//! model says. The model is written from docs/JOBS.md, not from the SQL.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde::{Deserialize, Serialize};
use shared::{
    domain::ids::JobId,
    jobs::{Job, Queue},
    queue::{
        Enqueued,
        control::{self, Change},
        ledger::{self, Lease, MAX_CRASHES, Unfinished},
    },
};

use crate::support::{TestWorker, on};

const SEEDS: u64 = 25;
const STEPS: usize = 120;
const MAX_ATTEMPTS: i32 = 3;
/// All times are multiples of it, and far longer than a run of the test takes.
const UNIT: i64 = 1_000;
const LEASE: Duration = Duration::from_secs(2 * UNIT as u64);
const KINDS: [&str; 1] = ["modelled"];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Modelled {
    key: Option<String>,
}

impl Job for Modelled {
    const NAME: &'static str = KINDS[0];
    const QUEUE: Queue = Queue::Default;
    const MAX_ATTEMPTS: i32 = MAX_ATTEMPTS;

    fn unique_key(&self) -> Option<String> {
        self.key.clone()
    }
}

/// What has to be true of a row. Times are units by the test's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    state: &'static str,
    attempt: i32,
    crashes: i32,
    token: i64,
    run_at: i64,
    lease_until: Option<i64>,
    cancel_requested: bool,
    key: Option<String>,
}

impl Row {
    fn waits_or_runs(&self) -> bool {
        matches!(self.state, "available" | "running")
    }

    fn ends(&mut self, state: &'static str) {
        (self.state, self.lease_until) = (state, None);
    }

    fn waits(&mut self, run_at: i64) {
        self.ends("available");
        self.run_at = run_at;
    }
}

#[derive(Default)]
struct Model {
    now: i64,
    rows: BTreeMap<JobId, Row>,
    /// Every lease that was ever given out.
    leases: Vec<Lease>,
    log: Vec<String>,
}

impl Model {
    fn held(&mut self, lease: Lease) -> Option<&mut Row> {
        self.rows.get_mut(&lease.id).filter(|row| row.state == "running" && row.token == lease.token)
    }

    fn with_key(&self, key: &Option<String>) -> Option<JobId> {
        let same = |row: &Row| row.waits_or_runs() && row.key.is_some() && row.key == *key;
        self.rows.iter().find(|(_, row)| same(row)).map(|(id, _)| *id)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

struct Run<'a> {
    worker: &'a TestWorker,
    rng: StdRng,
    model: Model,
}

impl Run<'_> {
    fn some_job(&mut self) -> Option<JobId> {
        let ids: Vec<JobId> = self.model.rows.keys().copied().collect();
        ids.choose(&mut self.rng).copied()
    }

    /// One that was given out at any time, mostly one of the newest.
    fn some_lease(&mut self) -> Option<Lease> {
        let all = &self.model.leases;
        let newest = &all[all.len().saturating_sub(4)..];
        if self.rng.random_bool(0.8) { newest.choose(&mut self.rng) } else { all.choose(&mut self.rng) }.copied()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..15 => self.enqueue().await,
            15..40 => self.claim().await,
            40..48 => self.renew().await,
            48..58 => self.complete().await,
            58..72 => self.unfinished().await,
            72..76 => self.release().await,
            76..84 => self.rescue().await,
            84..88 => self.cancel().await,
            88..92 => self.retry().await,
            _ => self.advance().await,
        }
    }

    async fn enqueue(&mut self) {
        let key = self.rng.random_bool(0.6).then(|| format!("key {}", self.rng.random_range(0..3)));
        let delay = self.rng.random_range(0..2) * UNIT;
        self.model.log.push(format!("enqueue {key:?} in {delay}"));
        let mut tx = self.worker.begin().await;
        let job = Modelled { key: key.clone() };
        let enqueued = tx.enqueue_in(&job, Duration::from_secs(delay as u64)).await.unwrap();
        tx.commit().await.unwrap();
        match (enqueued, self.model.with_key(&key)) {
            (Enqueued::Created(id), None) => {
                let run_at = self.model.now + delay;
                let row = Row {
                    state: "available",
                    attempt: 0,
                    crashes: 0,
                    token: 0,
                    run_at,
                    lease_until: None,
                    cancel_requested: false,
                    key,
                };
                self.model.rows.insert(id, row);
            }
            (Enqueued::DuplicateOf(id), other) => assert_eq!(Some(id), other),
            (Enqueued::Created(_), Some(other)) => panic!("{other:?} has the same key"),
        }
    }

    async fn claim(&mut self) {
        let ids: Vec<uuid::Uuid> =
            self.model.rows.keys().filter(|_| self.rng.random_bool(0.3)).map(|id| id.0).collect();
        self.model.log.push(format!("claim {ids:?}"));
        let mut claimed = ledger::claim(self.worker.db(), &ids, &KINDS, "modelled", LEASE).await.unwrap();
        claimed.sort_by_key(|job| job.id);
        let now = self.model.now;
        let mut expected = Vec::new();
        for (id, row) in &mut self.model.rows {
            if ids.contains(&id.0) && row.state == "available" && row.run_at <= now {
                row.state = "running";
                row.attempt += 1;
                row.token += 1;
                row.lease_until = Some(now + LEASE.as_secs() as i64);
                row.cancel_requested = false;
                expected.push(Lease { id: *id, token: row.token });
            }
        }
        assert_eq!(claimed.iter().map(|job| job.lease()).collect::<Vec<_>>(), expected);
        self.model.leases.extend(expected);
    }

    async fn renew(&mut self) {
        let Some(lease) = self.some_lease() else { return };
        self.model.log.push(format!("renew {lease:?}"));
        let renewed = ledger::renew(self.worker.db(), &[lease], LEASE).await.unwrap();
        let until = self.model.now + LEASE.as_secs() as i64;
        let expected = self.model.held(lease).map(|row| {
            row.lease_until = Some(until);
            (lease.id, row.cancel_requested)
        });
        assert_eq!(renewed.first().copied(), expected);
    }

    async fn complete(&mut self) {
        let Some(lease) = self.some_lease() else { return };
        self.model.log.push(format!("complete {lease:?}"));
        let done = ledger::complete(self.worker.db(), &[lease]).await.unwrap();
        let expected = self.model.held(lease).map(|row| row.ends("done")).is_some();
        assert_eq!(!done.is_empty(), expected);
    }

    async fn unfinished(&mut self) {
        let Some(lease) = self.some_lease() else { return };
        let units = self.rng.random_range(0..3) * UNIT;
        let wait = Duration::from_secs(units as u64);
        let outcome = match self.rng.random_range(0..4) {
            0 => Unfinished::Snooze { reason: None, wait },
            1 => Unfinished::Fail { error: "never".into() },
            2 => Unfinished::Cancelled,
            _ => Unfinished::Retry { error: "not now".into(), wait },
        };
        self.model.log.push(format!("{lease:?} ends as {outcome:?}"));
        let state = ledger::unfinished(self.worker.db(), lease, &outcome).await.unwrap();
        let run_at = self.model.now + units;
        let Some(row) = self.model.held(lease) else { return assert_eq!(state, None) };
        if matches!(outcome, Unfinished::Snooze { .. }) {
            row.attempt -= 1;
        }
        match outcome {
            Unfinished::Fail { .. } => row.ends("dead"),
            Unfinished::Cancelled => row.ends("cancelled"),
            _ if row.cancel_requested => row.ends("cancelled"),
            Unfinished::Retry { .. } if row.attempt >= MAX_ATTEMPTS => row.ends("dead"),
            Unfinished::Retry { .. } | Unfinished::Snooze { .. } => row.waits(run_at),
        }
        assert_eq!(state.as_deref(), Some(row.state));
    }

    async fn release(&mut self) {
        let Some(lease) = self.some_lease() else { return };
        self.model.log.push(format!("release {lease:?}"));
        let released = ledger::release(self.worker.db(), &[lease]).await.unwrap();
        let now = self.model.now;
        let row = self.model.held(lease);
        assert_eq!(released, u64::from(row.is_some()));
        if let Some(row) = row {
            row.attempt -= 1;
            row.waits(now);
            if row.cancel_requested {
                row.ends("cancelled");
            }
        }
    }

    async fn rescue(&mut self) {
        self.model.log.push("rescue".into());
        ledger::rescue(self.worker.db()).await.unwrap();
        let now = self.model.now;
        for row in self.model.rows.values_mut().filter(|row| row.lease_until.is_some_and(|until| until <= now)) {
            row.attempt -= 1;
            row.crashes += 1;
            row.token += 1;
            row.waits(now);
            match (row.cancel_requested, row.crashes >= MAX_CRASHES) {
                (true, _) => row.ends("cancelled"),
                (false, true) => row.ends("dead"),
                (false, false) => {}
            }
        }
    }

    async fn cancel(&mut self) {
        let Some(id) = self.some_job() else { return };
        self.model.log.push(format!("cancel {id:?}"));
        let change = control::cancel(&mut *on(self.worker.db()).await, id, "somebody").await.unwrap();
        let row = self.model.rows.get_mut(&id).unwrap();
        assert_eq!(matches!(change, Change::Made(_)), row.waits_or_runs());
        match row.state {
            "available" => row.ends("cancelled"),
            "running" => row.cancel_requested = true,
            _ => {}
        }
    }

    async fn retry(&mut self) {
        let Some(id) = self.some_job() else { return };
        self.model.log.push(format!("retry {id:?}"));
        let change = control::retry(&mut *on(self.worker.db()).await, id, "somebody").await.unwrap();
        let (now, row) = (self.model.now, self.model.rows[&id].clone());
        let other = self.model.with_key(&row.key).filter(|other| *other != id);
        match change {
            Change::Made(_) => {
                assert!(matches!(row.state, "dead" | "cancelled" | "available") && other.is_none());
                let row = self.model.rows.get_mut(&id).unwrap();
                row.waits(now);
                (row.attempt, row.crashes, row.cancel_requested) = (0, 0, false);
            }
            Change::DuplicateOf(duplicate) => assert_eq!(Some(duplicate), other),
            Change::Refused(_) => assert!(matches!(row.state, "running" | "done")),
            Change::NotFound => panic!("it is there"),
        }
    }

    /// Moves the clock: whatever the rows say of time is that much longer ago.
    async fn advance(&mut self) {
        let units = self.rng.random_range(1..4) * UNIT;
        self.model.log.push(format!("{units} s later"));
        sqlx::query(
            "update jobs set run_at = run_at - make_interval(secs => $1), lease_until = lease_until - make_interval(secs => $1)",
        )
        .bind(units as f64)
        .execute(self.worker.db())
        .await
        .unwrap();
        self.model.now += units;
    }

    async fn compare(&self, seed: u64) {
        type Found = (JobId, String, i32, i32, i64, bool, f64, Option<f64>);
        let found: Vec<Found> = sqlx::query_as(
            "select id, state, attempt, crashes, lease_token, cancel_requested, \
                 extract(epoch from run_at - now())::float8, extract(epoch from lease_until - now())::float8 \
             from jobs order by id",
        )
        .fetch_all(self.worker.db())
        .await
        .unwrap();
        let log = || format!("seed {seed}:\n{}", self.model);
        assert_eq!(found.len(), self.model.rows.len(), "{}", log());
        for ((id, state, attempt, crashes, token, cancel, run_in, lease_for), (known, row)) in
            found.into_iter().zip(&self.model.rows)
        {
            let unit = |seconds: f64| (seconds / UNIT as f64).round() as i64 * UNIT + self.model.now;
            let found = Row {
                state: row.state,
                attempt,
                crashes,
                token,
                // When a job that has ended was due is of no interest.
                run_at: if row.waits_or_runs() { unit(run_in) } else { row.run_at },
                lease_until: lease_for.map(unit),
                cancel_requested: if state == "running" { cancel } else { row.cancel_requested },
                key: row.key.clone(),
            };
            assert_eq!((id, state.as_str(), &found), (*known, row.state, row), "{}", log());
        }
    }
}

#[tokio::test]
async fn whatever_happens_in_whichever_order_every_row_is_as_the_model_says() {
    let worker = TestWorker::new().await;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        sqlx::query("delete from jobs").execute(worker.db()).await.unwrap();
        let mut run = Run { worker: &worker, rng: StdRng::seed_from_u64(seed), model: Model::default() };
        for _ in 0..STEPS {
            run.step().await;
            run.compare(seed).await;
        }
    }
}
