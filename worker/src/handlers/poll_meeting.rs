//! Asks who is in a meeting. Where webhooks come, this says nothing new; where they are lost, presence is known to the minute,
//! and a "left" that never came costs no more than that.
//!
//! - Who is there and is not noted down gets a connection of this source, one for each life of the meeting and person.
//! - Who is noted down and is not there has left.
//! - A meeting that is not there is over, as if its server had said so.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use shared::{
    db::{meetings, sessions, sightings},
    domain::{
        attendance::{SightingKind, Source},
        provider::ProviderKind,
        session::{Session, SessionStatus},
    },
    jobs::PollMeeting,
    providers::bbb::{
        Info,
        webhook::{connection_of, connections_of},
    },
    queue::Tx,
};
use sightings::NewSighting;

use super::process_webhook::{correct_report, end_life};
use crate::{
    handler::{Ctx, Done, Handler, JobError},
    provider_configs,
    state::State,
};

/// Whoever came so lately may be missing in the server's list, and its clock may differ from ours.
const LATELY: TimeDelta = TimeDelta::seconds(20);

impl Handler for PollMeeting {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut tx = ctx.begin(state).await?;
        let session = sessions::find(&mut *tx, self.session_id).await?;
        let meeting = meetings::find_open(&mut *tx, self.session_id).await?;
        tx.rollback().await?;
        let (Some(session), Some(meeting)) = (session, meeting.filter(|meeting| meeting.made_at.is_some())) else {
            return Ok(Done::nothing());
        };
        if session.provider != ProviderKind::Bbb {
            return Ok(Done::nothing());
        }
        let Some((providers, by)) = provider_configs::open(state, ctx, session.provider_config_id).await? else {
            return Ok(Done::nothing());
        };
        let Some(server) = providers.bbb()?.server(meeting.server.as_deref().unwrap_or_default()) else {
            return Ok(Done::nothing());
        };
        let told = match state.meetings.info(server, by, &session.room).await {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(session.id = %session.id, server = server.name, error = %error, "a meeting could not be asked about");
                return Ok(Done::nothing());
            }
        };

        let mut tx = ctx.begin(state).await?;
        sightings::lock_session(&mut tx, session.id, true).await?;
        let Some(session) = sessions::find(&mut *tx, session.id).await? else { return Ok(Done::nothing()) };
        let still = meetings::find_open(&mut *tx, session.id).await?;
        if still.is_none_or(|still| still.id != meeting.id) {
            return Ok(Done::nothing());
        }
        let life = meeting.external_id.as_deref().unwrap_or_default();
        match told.filter(|told| told.internal_id == life || told.internal_id.is_empty()) {
            Some(told) => {
                meetings::seen(&mut *tx, meeting.id).await?;
                see(&mut tx, &session, (life, &told), state).await?;
            }
            None => end_life(&mut tx, &session, life, state.clock.now()).await?,
        }
        Ok(Done::with(tx))
    }
}

async fn see(tx: &mut Tx, session: &Session, (life, told): (&str, &Info), state: &State) -> Result<(), JobError> {
    if session.status == SessionStatus::Ended {
        return Ok(());
    }
    let now = state.clock.now();
    let there: BTreeMap<&str, &str> =
        told.attendees.iter().map(|one| (one.person.as_str(), one.name.as_str())).collect();
    let noted = sightings::list_present(&mut **tx, session.id, &connections_of(life)).await?;
    let known: BTreeSet<&str> = noted.iter().map(|one| one.person_id.as_str()).collect();
    let is_guest = |person: &str| person.starts_with("guest:");

    // Who came without an id of ours is known by the server's own, which the webhooks have as the connection.
    let new: Vec<_> = there
        .iter()
        .filter(|(person, _)| !known.contains(*person) && !known.contains(guest(life, person).as_str()))
        .map(|(person, name)| (connection_of(life, &format!("poll:{person}")), *person, *name))
        .collect();
    let seen = new.iter().map(|(connection, person, name)| NewSighting {
        connection,
        person: Some(person).filter(|person| !person.starts_with("w_")).copied(),
        name,
        kind: SightingKind::Seen,
        at: now,
    });
    let gone = noted.iter().filter(|one| {
        let is_there = there.iter().any(|(person, _)| {
            one.person_id == *person
                || one.person_id == guest(life, person)
                || one.connection_key == connection_of(life, &format!("poll:{person}"))
        });
        !is_there && one.joined_at < now - LATELY
    });
    let left = gone.map(|one| NewSighting {
        connection: &one.connection_key,
        person: Some(one.person_id.as_str()).filter(|person| !is_guest(person)),
        name: "",
        kind: SightingKind::Left,
        at: now,
    });
    let all: Vec<_> = seen.chain(left).collect();
    if all.is_empty() {
        return Ok(());
    }
    if sightings::insert_from(tx, session, Source::Poll, &all).await? {
        sightings::derive_participants(tx, session.id, None).await?;
        correct_report(tx, session).await?;
    }
    Ok(())
}

/// As whom the webhooks know somebody without an id of ours.
fn guest(meeting: &str, internal: &str) -> String {
    format!("guest:{}", connection_of(meeting, internal))
}
