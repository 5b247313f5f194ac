//! Reads a provider's own account of a session that has ended, which completes what its webhooks told: one of those may be
//! lost, or never have come. Where the account knows a connection, it counts instead of the webhooks (`domain::attendance`).
//! Files of recordings that nobody told of are announced as well.
//!
//! The account comes some time after the end, a recording later still. What is read is kept at once; then the job waits
//! for the rest, for a day.

use std::time::Duration;

use chrono::TimeDelta;
use shared::{
    db::{
        attendance, meeting_registrants,
        meetings::{self, StoredMeeting},
        recordings, sessions,
        sightings::{self, NewSighting},
    },
    domain::{
        attendance::{SightingKind, Source},
        session::Session,
    },
    jobs::{FinalizeSession, ImportRecording, ReconcileAttendance},
    meetings::zoom::Report,
    providers::{
        Meeting, RecordedFile,
        zoom::{Stay, Zoom, ZoomMeeting},
    },
};

use super::process_webhook::announce_file;
use crate::{
    handler::{Ctx, Done, Handler, JobError, asked},
    state::State,
};

/// Until it is looked for again.
const REPORT_WAIT: Duration = Duration::from_secs(10 * 60);
const RECORDING_WAIT: Duration = Duration::from_secs(30 * 60);
/// What is not there by then will not come.
const PATIENCE: TimeDelta = TimeDelta::hours(24);

/// What a meeting's provider has to say.
struct Account {
    stays: Vec<Stay>,
    files: Vec<RecordedFile>,
    /// A run whose report is still being made.
    incomplete: bool,
}

impl Handler for ReconcileAttendance {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let Some(session) = sessions::find(&mut *tx, self.session_id).await? else { return Ok(Done::nothing()) };
        let Some(ended_at) = session.ended_at else { return Ok(Done::nothing()) };
        let rows = meetings::list_unreported(&mut *tx, session.id).await?;
        tx.rollback().await?;
        let late = state.clock.now() > ended_at + PATIENCE;
        let mut wait = None;
        for row in rows {
            let Some(account) = account(&row, state, ctx).await? else { continue };
            let has_files = !account.files.is_empty();
            let awaited = match (account.incomplete, session.recording_enabled && !has_files) {
                (true, _) => Some((REPORT_WAIT, "the report is still being made")),
                (_, true) => Some((RECORDING_WAIT, "the recording is still being made")),
                _ => None,
            };
            let awaited = awaited.filter(|_| !late);
            keep(&session, &row, &account, awaited.is_none(), state, ctx).await?;
            wait = wait.or(awaited);
        }
        match wait {
            Some((wait, why)) => Err(JobError::Snooze(wait, why.into())),
            None => Ok(Done::nothing()),
        }
    }
}

/// Asks with nothing held of the database. `None`: there is nobody to ask any more.
async fn account(row: &StoredMeeting, state: &State, ctx: &Ctx) -> Result<Option<Account>, JobError> {
    let (Some(Meeting::Zoom(meeting)), Some(config)) =
        (row.details.as_ref().map(|details| &details.0), row.provider_config_id)
    else {
        return Ok(None);
    };
    let mut tx = ctx.begin(state).await?;
    let Some(providers) = state.providers_of(&mut tx, config).await? else { return Ok(None) };
    tx.rollback().await?;
    at_zoom(providers.zoom()?, (*meeting, row.server.as_deref()), state).await.map(Some)
}

async fn at_zoom(
    zoom: &Zoom,
    (meeting, host): (ZoomMeeting, Option<&str>),
    state: &State,
) -> Result<Account, JobError> {
    let api = state.meetings.zoom();
    let mut account = Account { stays: Vec::new(), files: Vec::new(), incomplete: false };
    let runs = api.runs(zoom, meeting).await.map_err(asked)?;
    // It only makes the host known; an app that may not read users does without.
    let host = host.or(zoom.user_ids.first().map(String::as_str)).filter(|_| !runs.is_empty());
    let host_id = match host {
        Some(host) => api.user_id(zoom, host).await.ok(),
        None => None,
    };
    for uuid in &runs {
        match api.report(zoom, uuid, host_id.as_deref()).await.map_err(asked)? {
            Report::Stays(stays) => account.stays.extend(stays),
            Report::NotYet => account.incomplete = true,
        }
        account.files.extend(api.files(zoom, uuid).await.map_err(asked)?);
    }
    Ok(account)
}

/// Writes down what was told. All of it may be written again.
async fn keep(
    session: &Session,
    row: &StoredMeeting,
    account: &Account,
    complete: bool,
    state: &State,
    ctx: &Ctx,
) -> Result<(), JobError> {
    let mut tx = ctx.begin(state).await?;
    sightings::lock_session(&mut tx, session.id, true).await?;
    let mut people = Vec::with_capacity(account.stays.len());
    for stay in &account.stays {
        let person = match &stay.person {
            Some(person) => Some(person.clone()),
            None => meeting_registrants::find_person(&mut tx, session, &stay.known_as).await?,
        };
        people.push(person);
    }
    let told = account.stays.iter().zip(&people).flat_map(|(stay, person)| {
        let sighting = |kind, at| NewSighting {
            connection: &stay.connection,
            person: person.as_deref(),
            name: &stay.name,
            kind,
            at,
        };
        let left = stay.left_at.map(|at| sighting(SightingKind::Left, at));
        [Some(sighting(SightingKind::Joined, stay.joined_at)), left].into_iter().flatten()
    });
    let told: Vec<_> = told.collect();
    if sightings::insert_from(&mut tx, session, Source::EndReport, &told).await? {
        sightings::derive_participants(&mut tx, session.id, None).await?;
        if attendance::invalidate(&mut *tx, session.id).await? {
            tx.enqueue(&FinalizeSession { session_id: session.id }).await?;
        }
    }
    for file in &account.files {
        // Those that a webhook told of are on their way, or here.
        if !recordings::is_known(&mut *tx, session.id, &file.external_id).await?
            && let Some(recording_id) = announce_file(&mut tx, session, file, state.clock.now()).await?
        {
            tx.enqueue(&ImportRecording { recording_id }).await?;
        }
    }
    if complete {
        meetings::mark_reported(&mut *tx, row.id).await?;
    }
    Ok(tx.commit().await?)
}
