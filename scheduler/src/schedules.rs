//! THE table of schedules: which job starts when. How a due tick becomes a job is in `tick`.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use shared::{
    db::schedules::Known,
    jobs::{
        AutoEndSessions, Cleanup, CleanupPersonalData, CloseStaleAttendance, Job, PollMeetings, ProviderHealth,
        RegisterWebhooks, SyncRecordings,
    },
    queue::{Enqueued, Tx},
};

use crate::cron_local::LocalCron;

/// What to do about ticks that passed while no scheduler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing: the next tick is early enough.
    None,
    /// Run the last of them.
    Latest,
    /// Run each of them, in order, but only so many: the newest.
    All(usize),
}

type Enqueue = for<'a> fn(&'a mut Tx) -> Pin<Box<dyn Future<Output = sqlx::Result<Enqueued>> + Send + 'a>>;

/// One line of the table, as it holds without configuration.
#[derive(Clone, Copy)]
pub struct Entry {
    /// In `schedule_ticks`, and in the variable `SCHEDULE_<NAME>`.
    pub name: &'static str,
    /// See [`LocalCron::parse`].
    pub cron: &'static str,
    pub zone: Tz,
    pub catch_up: CatchUp,
    pub enqueue: Enqueue,
}

/// A schedule that is on.
#[derive(Clone)]
pub struct Schedule {
    pub name: &'static str,
    pub cron: LocalCron,
    pub catch_up: CatchUp,
    pub enqueue: Enqueue,
}

/// All schedules, by name.
pub const TABLE: &[Entry] = &[
    Entry {
        name: AutoEndSessions::NAME,
        cron: "* * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&AutoEndSessions {})),
    },
    Entry {
        name: Cleanup::NAME,
        cron: "0 3 * * *",
        zone: Tz::Europe__Istanbul,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&Cleanup {})),
    },
    Entry {
        name: CleanupPersonalData::NAME,
        cron: "30 3 * * *",
        zone: Tz::Europe__Istanbul,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&CleanupPersonalData {})),
    },
    Entry {
        name: CloseStaleAttendance::NAME,
        cron: "*/30 * * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&CloseStaleAttendance {})),
    },
    Entry {
        name: PollMeetings::NAME,
        cron: "* * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&PollMeetings {})),
    },
    Entry {
        name: ProviderHealth::NAME,
        cron: "* * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::None,
        enqueue: |tx| Box::pin(tx.enqueue(&ProviderHealth {})),
    },
    Entry {
        name: RegisterWebhooks::NAME,
        cron: "*/5 * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&RegisterWebhooks { provider_config_id: None })),
    },
    Entry {
        name: SyncRecordings::NAME,
        cron: "*/5 * * * *",
        zone: Tz::UTC,
        catch_up: CatchUp::Latest,
        enqueue: |tx| Box::pin(tx.enqueue(&SyncRecordings {})),
    },
];

/// The table with the environment's changes: `SCHEDULE_<NAME>=<cron> [zone]` or `off`.
pub fn from_env() -> anyhow::Result<Vec<Schedule>> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    resolve(TABLE, variables)
}

/// The schedules of `table` that are on, as `variables` (name, value) change them. Other variables
/// than `SCHEDULE_…` are passed over.
///
/// # Errors
/// Name the variable, and show a right value.
pub fn resolve(
    table: &[Entry],
    variables: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Vec<Schedule>> {
    let mut changes: BTreeMap<_, _> = variables.into_iter().filter(|(name, _)| name.starts_with("SCHEDULE_")).collect();
    let mut schedules = Vec::new();
    for entry in table {
        let variable = variable(entry.name);
        let cron = match changes.remove(&variable) {
            Some(value) => change(entry, &value).with_context(|| {
                format!(
                    "{variable}={value:?} cannot be understood; examples of right values: \
                     \"0 3 * * *\", \"0 */10 8-18 * * MON-FRI Europe/Istanbul\", \"off\""
                )
            })?,
            None => Some(LocalCron::parse(entry.cron, entry.zone).with_context(|| entry.name)?),
        };
        if let Some(cron) = cron {
            let Entry { name, catch_up, enqueue, .. } = *entry;
            schedules.push(Schedule { name, cron, catch_up, enqueue });
        }
    }
    if let Some(unknown) = changes.keys().next() {
        let known: Vec<_> = table.iter().map(|entry| variable(entry.name)).collect();
        bail!("{unknown} names no schedule; there are {}", known.join(", "));
    }
    Ok(schedules)
}

/// All of `table`, for others to see: `schedules` are those of them that are on.
pub fn known(table: &[Entry], schedules: &[Schedule], now: DateTime<Utc>) -> Vec<Known> {
    table
        .iter()
        .map(|entry| match schedules.iter().find(|schedule| schedule.name == entry.name) {
            Some(Schedule { name, cron, .. }) => Known {
                name,
                cron: cron.expression().to_owned(),
                zone: cron.zone().name(),
                enabled: true,
                next_run: cron.next(now),
            },
            None => Known {
                name: entry.name,
                cron: entry.cron.to_owned(),
                zone: entry.zone.name(),
                enabled: false,
                next_run: None,
            },
        })
        .collect()
}

fn variable(name: &str) -> String {
    format!("SCHEDULE_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// `None` when it is switched off. Without a zone the entry keeps its own.
fn change(entry: &Entry, value: &str) -> anyhow::Result<Option<LocalCron>> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    // No field of an expression is the name of a zone.
    let (cron, zone) = match value.rsplit_once(char::is_whitespace) {
        Some((cron, last)) => match last.parse() {
            Ok(zone) => (cron, zone),
            Err(_) if value.split_whitespace().count() == 7 => bail!("there is no time zone {last:?}"),
            Err(_) => (value, entry.zone),
        },
        None => (value, entry.zone),
    };
    LocalCron::parse(cron, zone).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> anyhow::Result<Vec<Schedule>> {
        resolve(TABLE, [("PATH".to_owned(), "x".to_owned()), (name.to_owned(), value.to_owned())])
    }

    fn cleanup(value: &str) -> anyhow::Result<String> {
        with("SCHEDULE_CLEANUP", value)
            .map(|all| all.iter().find(|s| s.name == "cleanup").map_or("off".to_owned(), |s| s.cron.to_string()))
    }

    #[test]
    fn the_table_is_right_and_sorted() {
        let schedules = resolve(TABLE, []).unwrap();
        let names: Vec<_> = schedules.iter().map(|s| s.name).collect();
        assert_eq!(
            names,
            [
                "auto-end-sessions",
                "cleanup",
                "cleanup-personal-data",
                "close-stale-attendance",
                "poll-meetings",
                "provider-health",
                "register-webhooks",
                "sync-recordings",
            ]
        );
        // So that a run by hand knows its job by the schedule's name.
        let nothing = serde_json::json!({});
        assert!(names.iter().all(|name| (shared::jobs::find(name).unwrap().read)(nothing.clone()).is_ok()));
    }

    #[test]
    fn a_variable_changes_a_schedule_or_switches_it_off() {
        assert_eq!(cleanup("30 4 * * SUN Europe/Berlin").unwrap(), "30 4 * * SUN Europe/Berlin");
        assert_eq!(cleanup(" 0 30 4 * * * UTC ").unwrap(), "0 30 4 * * * UTC");
        assert_eq!(cleanup("30 4 * * 1-5/2").unwrap(), "30 4 * * 1-5/2 Europe/Istanbul");
        assert_eq!(cleanup("OFF").unwrap(), "off");
        assert_eq!(with("SCHEDULE_CLEANUP", "off").unwrap().len(), TABLE.len() - 1);
    }

    #[test]
    fn others_see_all_schedules_with_their_next_runs() {
        let now = "2026-03-01T00:30:00Z".parse().unwrap();
        let known = known(TABLE, &with("SCHEDULE_SYNC_RECORDINGS", "off").unwrap(), now);
        assert_eq!(known.len(), TABLE.len());
        let cleanup = &known[1];
        assert_eq!((cleanup.cron.as_str(), cleanup.zone, cleanup.enabled), ("0 3 * * *", "Europe/Istanbul", true));
        // Midnight by UTC has passed; 03:00 in Istanbul is that midnight.
        assert_eq!(cleanup.next_run, Some("2026-03-02T00:00:00Z".parse().unwrap()));
        let sync = &known[7];
        assert_eq!((sync.name, sync.enabled, sync.next_run), ("sync-recordings", false, None));
    }

    #[test]
    fn a_wrong_value_names_the_variable_and_the_fault() {
        for (value, fault) in [
            ("", "there are 0"),
            ("never", "there are 1"),
            ("0 3 * *", "there are 4"),
            ("0 3 * * * * Europe/Istambul", "there is no time zone \"Europe/Istambul\""),
            ("0 3 * * Europe/Istambul", "weekday"),
            ("0 3 * * 8", "8 is no weekday"),
            ("0 3 * * FRO", "\"FRO\" is no weekday"),
            ("0 3 31 2 *", "there is no such day"),
            ("0 24 * * *", "Hours"),
            ("0 3 * * * * 2030 2031", "there are 8"),
        ] {
            let error = format!("{:#}", cleanup(value).unwrap_err());
            assert!(error.contains("SCHEDULE_CLEANUP"), "{error}");
            assert!(error.contains(fault), "{value}: {error}");
        }
        let error = format!("{:#}", with("SCHEDULE_CLEAN_UP", "off").err().unwrap());
        assert!(error.contains("SCHEDULE_CLEAN_UP") && error.contains("SCHEDULE_CLEANUP,"), "{error}");
    }
}
