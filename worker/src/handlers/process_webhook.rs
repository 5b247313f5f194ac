//! Applies one stored webhook to session, connections and recordings.
//!
//! Events come in any order and more than once. What they say about people is kept as sightings, from which everything
//! else is computed anew; what they say about the session's life is guarded by its state and the event's time.
//!
//! - The first host who comes starts a planned session.
//! - A room that opens is empty: whoever is still noted down as being in it left before, with a server that fell.
//! - A closed room ends the session only past its planned end: Jitsi closes a room whenever it is empty for a
//!   moment, and opens it again for the next who comes. Before that, `auto-end-sessions` decides.
//! - Where a provider tells the lives of a room apart (BigBlueButton), the end of one concerns the connections of that one alone,
//!   and the session only if there is no other.
//! - What cannot be told from the event itself is asked for, by a job.
//! - An event about people of a session that has ended has the report computed again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    db::{
        attendance, invitees, meeting_registrants, meetings, participants, recordings, sessions, sightings, tenants,
        webhook_events::{self, WebhookState},
    },
    domain::{
        attendance::{SightingKind, Source},
        ids::{ProviderConfigId, RecordingId},
        provider::ProviderKind,
        session::{EndReason, Session, SessionStatus},
    },
    jobs::{FinalizeSession, ImportRecording, ListRecordings, PollMeeting, ProcessWebhook},
    providers::{
        Alias, EventKind, FileKind, Occupancy, ProviderEvent, RecordedFile, WebhookSource, bbb::webhook::connections_of,
    },
    queue::Tx,
};
use sightings::NewSighting;

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Late events of one session come in bursts: the report waits this long for the others.
const REPORT_DELAY: Duration = Duration::from_secs(2);

impl Handler for ProcessWebhook {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin_for_all(state).await?;
        let stored = webhook_events::find(&mut *tx, self.webhook_event_id).await?;
        let Some(stored) = stored.filter(|event| event.state == WebhookState::Stored) else {
            return Ok(Done::nothing());
        };

        let parsed = stored.provider.parse::<WebhookSource>().and_then(|source| {
            let event = state.providers.parse_stored(source, &stored.body).map_err(|e| e.to_string())?;
            Ok((source, event))
        });
        let mut applied = None;
        let mut note = "nothing in it changes a session".to_owned();
        match parsed {
            Err(fault) => note = fault,
            Ok((_, event)) if event.kind == EventKind::Other => {}
            Ok((source, event)) => {
                let aliases = state.providers.aliases(source, &stored.body);
                applied = apply(&mut tx, (source, event, &aliases), stored.provider_config_id).await?;
                "no session meets in this room".clone_into(&mut note);
                tx.see(None).await?;
            }
        }
        match &applied {
            Some(session) => webhook_events::mark_processed(&mut *tx, stored.id, session).await?,
            None => webhook_events::mark_ignored(&mut *tx, stored.id, &note).await?,
        }
        Ok(Done::with(tx))
    }
}

/// Applies one event; `None` when no session meets in its room. Whose secret the event was verified by decides which
/// sessions it may be about: a tenant's own secret is good for the sessions of that configuration alone.
async fn apply(
    tx: &mut Tx,
    (source, mut event, aliases): (WebhookSource, ProviderEvent, &[Alias]),
    verified_by: Option<ProviderConfigId>,
) -> Result<Option<Session>, JobError> {
    let mut found = sessions::find_by_room(&mut **tx, &event.room).await?;
    if found.is_none()
        && let Some(id) = meetings::find_session(&mut **tx, (source.kind(), verified_by), &event.room).await?
    {
        found = sessions::find(&mut **tx, id).await?;
    }
    let found = found.filter(|found| source.is_about(found.provider) && found.provider_config_id == verified_by);
    let Some(found) = found else { return Ok(None) };
    // Until here nobody knows whose the event is.
    tx.see(Some(found.tenant_id)).await?;
    if let EventKind::Joined { person, .. } | EventKind::Left { person, .. } = &mut event.kind
        && person.is_none()
    {
        *person = meeting_registrants::find_person(tx, &found, aliases).await?;
    }
    let event = &event;
    let alone = needs_session_alone(&found, event);
    sightings::lock_session(tx, found.id, alone).await?;
    let Some(session) = sessions::find(&mut **tx, found.id).await? else { return Ok(None) };
    if needs_session_alone(&session, event) && !alone {
        // It started or ended between the two looks; a shared hold cannot be made an exclusive one.
        return Err(JobError::Snooze(Duration::from_millis(100), "the session was just changing".into()));
    }
    let at = event.occurred_at;
    match &event.kind {
        EventKind::Joined { connection, person, name } => {
            let joined = NewSighting { connection, person: person.as_deref(), name, kind: SightingKind::Joined, at };
            see(tx, &session, joined).await?;
            if let Some(person) = person {
                start_by_host(tx, &session, person, event).await?;
            }
        }
        EventKind::Left { connection, person, name } => {
            let left = NewSighting { connection, person: person.as_deref(), name, kind: SightingKind::Left, at };
            see(tx, &session, left).await?;
        }
        EventKind::RoomDestroyed { occupants } => {
            let new_stays = see_stays(tx, &session, Source::Webhook, occupants, at).await?;
            let new_end = sightings::insert_room_end(tx, &session, at).await?;
            close_room(tx, &session, at, new_stays || new_end).await?;
        }
        EventKind::MeetingEnded { meeting } => end_life(tx, &session, meeting, at).await?,
        EventKind::EndReport { stays } => {
            let new = see_stays(tx, &session, Source::EndReport, stays, at).await?;
            sightings::derive_participants(tx, session.id, None).await?;
            if new {
                correct_report(tx, &session).await?;
            }
        }
        EventKind::MeetingInDoubt => _ = tx.enqueue(&PollMeeting { session_id: session.id }).await?,
        EventKind::RecordingsChanged => _ = tx.enqueue(&ListRecordings { session_id: session.id }).await?,
        EventKind::NothingRecorded => recordings::expect_none(&mut **tx, &session).await?,
        // The next join makes another one.
        EventKind::MeetingDeleted => meetings::end_of(&mut **tx, session.id, &event.room).await?,
        EventKind::RecordingStarted => {
            let deadline = at.max(session.ends_at) + TimeDelta::hours(recordings::DEADLINE_HOURS);
            recordings::expect(&mut **tx, &session, deadline).await?;
        }
        EventKind::RecordingUploaded { external_id, url, duration_seconds, from, to } => {
            let told = recordings::Announced {
                external_id,
                source_url: url,
                duration_seconds: *duration_seconds,
                from: *from,
                to: *to,
                deadline_at: at + TimeDelta::hours(recordings::DEADLINE_HOURS),
                bytes: None,
                form: FileKind::Film.form(),
                is_awaited: true,
            };
            if let Some(recording_id) = recordings::announce(tx, &session, &told).await? {
                tx.enqueue(&ImportRecording { recording_id }).await?;
            }
        }
        EventKind::FileRecorded(file) => {
            if let Some(recording_id) = announce_file(tx, &session, file, at).await? {
                tx.enqueue(&ImportRecording { recording_id }).await?;
            }
        }
        // JaaS does not say which comes first by its clock, a room or the first person in it.
        EventKind::RoomCreated { .. } if session.provider == ProviderKind::Jitsi => {
            open_room(tx, &session, event).await?;
        }
        EventKind::RoomCreated { .. } | EventKind::RecordingEnded | EventKind::Other => {}
    }
    Ok(Some(session))
}

/// A file can be fetched, as told at this time. The recording, if it has to be imported.
pub(super) async fn announce_file(
    tx: &mut Tx,
    session: &Session,
    file: &RecordedFile,
    at: DateTime<Utc>,
) -> sqlx::Result<Option<RecordingId>> {
    let seconds = file.from.zip(file.to).map(|(from, to)| (to - from).num_seconds());
    let told = recordings::Announced {
        external_id: &file.external_id,
        source_url: &file.url,
        duration_seconds: seconds.filter(|seconds| *seconds >= 0),
        from: file.from,
        to: file.to,
        deadline_at: at + TimeDelta::hours(recordings::DEADLINE_HOURS),
        bytes: file.bytes,
        form: file.kind.form(),
        is_awaited: file.kind != FileKind::Transcript,
    };
    recordings::announce(tx, session, &told).await
}

/// Whether the event may change the session itself or many of its connections. Others hold it together, so that a
/// thousand people can come at once.
fn needs_session_alone(session: &Session, event: &ProviderEvent) -> bool {
    match &event.kind {
        EventKind::Joined { .. } => matches!(session.status, SessionStatus::Scheduled | SessionStatus::Ended),
        EventKind::Left { .. } => session.status == SessionStatus::Ended,
        EventKind::RoomCreated { .. }
        | EventKind::RoomDestroyed { .. }
        | EventKind::MeetingEnded { .. }
        | EventKind::EndReport { .. } => true,
        _ => false,
    }
}

async fn see(tx: &mut Tx, session: &Session, sighting: NewSighting<'_>) -> Result<(), JobError> {
    sightings::lock_connection(tx, session.id, sighting.connection).await?;
    let connection = sighting.connection;
    let new = sightings::insert(tx, session, &[sighting]).await?;
    sightings::derive_participants(tx, session.id, Some(connection)).await?;
    if new { correct_report(tx, session).await } else { Ok(()) }
}

pub(super) async fn correct_report(tx: &mut Tx, session: &Session) -> Result<(), JobError> {
    if session.status == SessionStatus::Ended && attendance::invalidate(&mut **tx, session.id).await? {
        tx.enqueue_in(&FinalizeSession { session_id: session.id }, REPORT_DELAY).await?;
    }
    Ok(())
}

async fn start_by_host(tx: &mut Tx, session: &Session, person: &str, event: &ProviderEvent) -> Result<(), JobError> {
    if session.status != SessionStatus::Scheduled {
        return Ok(());
    }
    // A host who comes earlier is only setting up the room.
    let opens_before = tenants::find(&mut **tx, session.tenant_id).await?.map_or(0, |t| t.join_opens_before_s);
    if event.occurred_at < session.opens_at(opens_before) {
        return Ok(());
    }
    let moderates = person == session.host_id
        || invitees::find(&mut **tx, session.id, person)
            .await?
            .is_some_and(|invitee| invitee.role == invitees::InviteeRole::CoHost);
    if moderates && sessions::start(&mut **tx, session.id).await?.is_some() {
        sessions::backdate_start(&mut **tx, session.id, event.occurred_at).await?;
        tracing::info!(session.id = %session.id, "the host came: the session is live");
    }
    Ok(())
}

async fn open_room(tx: &mut Tx, session: &Session, event: &ProviderEvent) -> Result<(), JobError> {
    // The first person comes in the same moment, perhaps.
    let before = event.occurred_at - TimeDelta::milliseconds(1);
    let new_end = sightings::insert_room_end(tx, session, before).await?;
    sightings::derive_participants(tx, session.id, None).await?;
    if new_end { correct_report(tx, session).await } else { Ok(()) }
}

/// The provider's account of who was there completes its own joined and left events: one of them may be lost. It does not
/// replace them: of people who came back on the same connection it may tell the last stay only.
async fn see_stays(
    tx: &mut Tx,
    session: &Session,
    source: Source,
    stays: &[Occupancy],
    end: DateTime<Utc>,
) -> Result<bool, JobError> {
    let stays = stays.iter().flat_map(|stay| {
        let told = |kind, at| NewSighting {
            connection: &stay.connection,
            person: stay.person.as_deref(),
            name: &stay.name,
            kind,
            at,
        };
        [told(SightingKind::Joined, stay.joined_at), told(SightingKind::Left, stay.left_at.unwrap_or(end))]
    });
    Ok(sightings::insert_from(tx, session, source, &stays.collect::<Vec<_>>()).await?)
}

/// One life of a room is over. The caller holds the session alone.
pub(super) async fn end_life(tx: &mut Tx, session: &Session, meeting: &str, at: DateTime<Utc>) -> Result<(), JobError> {
    let new_end = sightings::insert_life_end(tx, session, &connections_of(meeting), at).await?;
    if meetings::end_named(tx, session.id, meeting).await? {
        // The class goes on, at another server perhaps: who is there came by another link.
        sightings::derive_participants(tx, session.id, None).await?;
        return if new_end { correct_report(tx, session).await } else { Ok(()) };
    }
    close_room(tx, session, at, new_end).await
}

/// Nobody is in the room any more: `news` says whether that is new.
async fn close_room(tx: &mut Tx, session: &Session, at: DateTime<Utc>, news: bool) -> Result<(), JobError> {
    sightings::derive_participants(tx, session.id, None).await?;

    let live = session.status == SessionStatus::Live && session.started_at.is_some_and(|started| started <= at);
    if live && at >= session.ends_at && !sightings::anybody_joined_after(&mut **tx, session.id, at).await? {
        if sessions::end(&mut **tx, session.id, EndReason::Provider, Some(at)).await?.is_some() {
            let timeout = tenants::find(&mut **tx, session.tenant_id).await?.map_or(0, |t| t.heartbeat_timeout_s);
            participants::close_all(&mut **tx, session.id, timeout, Some(at)).await?;
            tx.enqueue(&FinalizeSession { session_id: session.id }).await?;
            tracing::info!(session.id = %session.id, "the provider closed the room past the planned end: the session has ended");
        }
    } else if news {
        correct_report(tx, session).await?;
    }
    Ok(())
}
