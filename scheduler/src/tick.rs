//! From due ticks to jobs. Any number of schedulers may do it at the same time: the row
//! (schedule, tick) decides who enqueues, and the database's clock says what is due.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    db::schedule_ticks,
    queue::{Dispatcher, Tx},
};
use sqlx::PgPool;

use crate::schedules::{CatchUp, Schedule};

/// With [`CatchUp::None`], a tick that is older than this has been missed.
const PUNCTUAL: TimeDelta = TimeDelta::seconds(60);

/// What one round did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The ticks whose jobs this call enqueued, in the order of the schedules.
    pub ran: Vec<(&'static str, DateTime<Utc>)>,
    /// How long until the next tick is due; `None` when there is none any more.
    pub next_in: Option<Duration>,
}

/// Enqueues the job of each tick that is due. What fails for one schedule does not keep the others
/// from running; the first error is returned at the end. A schedule that this database has never
/// seen starts now.
pub async fn run_due(pool: &PgPool, dispatcher: &Dispatcher, schedules: &[Schedule]) -> anyhow::Result<Round> {
    let names: Vec<_> = schedules.iter().map(|schedule| schedule.name).collect();
    let (now, newest) = schedule_ticks::newest(pool, &names).await?;
    let mut ran = Vec::new();
    let mut failed = Ok(());
    for schedule in schedules {
        let result = match newest.get(schedule.name) {
            Some(last) => run(pool, dispatcher, schedule, &due(schedule, *last, now)).await,
            None => schedule_ticks::start(pool, schedule.name, now).await.map(|()| Vec::new()),
        };
        match result {
            Ok(ticks) => ran.extend(ticks.into_iter().map(|tick| (schedule.name, tick))),
            Err(error) => {
                failed = failed.and(Err(anyhow::Error::from(error).context(format!("schedule {}", schedule.name))));
            }
        }
    }
    failed?;
    let next = schedules.iter().filter_map(|schedule| schedule.cron.next(now)).min();
    // Not negative: each tick is later than `now`.
    let next_in = next.map(|tick| (tick - now).to_std().unwrap_or_default());
    Ok(Round { ran, next_in })
}

/// The ticks after `last` that shall run now, oldest first.
pub fn due(schedule: &Schedule, last: DateTime<Utc>, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let latest = schedule.cron.latest(last, now);
    match schedule.catch_up {
        CatchUp::None => latest.into_iter().filter(|tick| now - *tick <= PUNCTUAL).collect(),
        CatchUp::Latest => latest.into_iter().collect(),
        CatchUp::All(max) => {
            let mut newest = VecDeque::new();
            for tick in schedule.cron.between(last, now) {
                if newest.len() == max {
                    newest.pop_front();
                }
                newest.push_back(tick);
            }
            newest.truncate(max);
            newest.into()
        }
    }
}

/// Enqueues those of `ticks` that nobody has run: all of them, or none when it fails.
async fn run(
    pool: &PgPool,
    dispatcher: &Dispatcher,
    schedule: &Schedule,
    ticks: &[DateTime<Utc>],
) -> sqlx::Result<Vec<DateTime<Utc>>> {
    if ticks.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = Tx::begin(pool, dispatcher).await?;
    schedule_ticks::lock(&mut tx, schedule.name).await?;
    let mut ran = Vec::new();
    for tick in ticks {
        if !schedule_ticks::insert(&mut tx, schedule.name, *tick).await? {
            continue;
        }
        let job_id = (schedule.enqueue)(&mut tx).await?.job_id();
        schedule_ticks::update_job(&mut tx, schedule.name, *tick, job_id).await?;
        ran.push(*tick);
    }
    tx.commit().await?;
    metrics::counter!("schedule_ticks_total", "schedule" => schedule.name).increment(ran.len() as u64);
    for tick in &ran {
        tracing::debug!(schedule = schedule.name, %tick, "enqueued the job of a tick");
    }
    Ok(ran)
}
