//! One row of `reminders` becomes one mail: what all mail handlers have in common.
//!
//! The row is claimed before the mail is sent and marked after. A crash between the server's "250" and that mark is
//! the only way to a double, and the double carries the same Message-ID. So the mark is one statement of its own, not
//! part of the job's outcome: a repeated job finds the row sent, and the gap is as short as it can be.

use anyhow::Context;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use shared::{
    calendar::{CalendarAddress, CalendarEvent, Method},
    db::{
        reminders::{self, DueMail},
        sessions,
    },
    domain::{
        ids::ReminderId,
        reminder::still_makes_sense,
        session::{Session, SessionStatus},
    },
};

use super::{Lang, Mail, MailContext, MailKind, SendError, render};
use crate::{
    handler::{Ctx, Done, JobError, is_shortage},
    run::with_patience,
    state::State,
};

/// Sends the mail of one row, or drops it where it no longer makes sense.
pub async fn deliver(state: &State, ctx: &Ctx, id: ReminderId, kind: MailKind) -> Result<Done, JobError> {
    let now = state.clock.now();
    let mut tx = ctx.begin(state).await?;
    let Some(due) = reminders::find_due_mail(&mut *tx, id, now).await? else { return Ok(Done::nothing()) };
    let Some(session) = sessions::find(&mut *tx, due.session_id).await? else { return Ok(Done::nothing()) };
    if due.mail != kind.as_str() {
        return Err(JobError::fail(format!("the row is a mail of kind {}", due.mail)));
    }
    let why_not = match &due.email {
        None => Some("the person has no address, or is not invited any more"),
        Some(_) => why_not(kind, &due, &session, now),
    };
    let (Some(address), None) = (&due.email, why_not) else {
        reminders::mark_dropped(&mut *tx, id, why_not.unwrap_or_default()).await?;
        count(kind, "dropped");
        return Ok(Done::with(tx));
    };
    let words = render(kind, lang(&due), &context(state, &due, &session, now)).context("the mail's words")?;
    let event = kind.has_calendar().then(|| calendar_event(state, kind, &due, address, &session));
    let mail = Mail {
        to_name: due.name.clone(),
        to_address: address.clone(),
        id: id.to_string(),
        date: now,
        lang: lang(&due),
        words,
        calendar: event.map(|event| (event.to_ics(), event.method_name())),
    };
    // Committed before anything is sent: from here on nobody takes the mail back.
    if !reminders::claim(&mut *tx, id, (ctx.lease.id, ctx.lease.token)).await? {
        return Ok(Done::nothing());
    }
    tx.commit().await?;
    // The mail is out by then: not to know it later would send it twice, so this waits for Postgres to come back.
    let db = state.db.clone();
    let mark = async move { with_patience(|| reminders::mark_sent(&db, id)).await };
    match state.mailer.send(&mail, mark).await {
        Ok(marked) => {
            marked.context("a mail that was sent is not marked")?;
            count(kind, "sent");
            Ok(Done::nothing())
        }
        Err(error) => Err(not_sent(state, ctx, id, kind, error).await),
    }
}

/// A refusal is final; anything else is tried again until the attempts are used up.
async fn not_sent(state: &State, ctx: &Ctx, id: ReminderId, kind: MailKind, error: SendError) -> JobError {
    let refused = matches!(error, SendError::Permanent(_));
    if refused || (ctx.is_last_attempt() && !is_shortage(&error.to_string())) {
        count(kind, "failed");
        if let Err(error) = reminders::mark_failed(&state.db, id, &error.to_string()).await {
            return error.into();
        }
    } else {
        count(kind, "retried");
    }
    if refused { JobError::Fail(error.into()) } else { JobError::Retry(error.into()) }
}

/// Why a mail is dropped: the session has moved on since it was planned.
fn why_not(kind: MailKind, due: &DueMail, session: &Session, now: DateTime<Utc>) -> Option<&'static str> {
    let over = now >= session.ends_at || session.status == SessionStatus::Ended;
    let cancelled = session.status == SessionStatus::Cancelled;
    match kind {
        MailKind::RecordingReady if !due.recorded => Some("there is no recording any more"),
        MailKind::RecordingMissing if due.recorded => Some("the recording has come"),
        MailKind::RecordingReady | MailKind::RecordingMissing => None,
        MailKind::Cancellation if !cancelled && !due.uninvited => Some("the session was not cancelled"),
        MailKind::Cancellation if over => Some("the session's time is over"),
        MailKind::Cancellation => None,
        _ if cancelled => Some("the session was cancelled"),
        _ if over => Some("the session is over"),
        MailKind::Reminder if !still_makes_sense(due.due_at, session.starts_at, now) => {
            Some("too late, or the session was moved")
        }
        _ if due.superseded => Some("a newer mail says it"),
        _ => None,
    }
}

fn lang(due: &DueMail) -> Lang {
    Lang::from_tag(&due.locale)
}

fn context(state: &State, due: &DueMail, session: &Session, now: DateTime<Utc>) -> MailContext {
    MailContext {
        person_name: due.name.clone(),
        session_title: session.title.clone(),
        starts_at: session.starts_at,
        ends_at: session.ends_at,
        timezone: zone(&due.timezone, session),
        join_url: Some(session_url(state, session)),
        host_name: session.host_name.clone(),
        tenant_name: due.tenant_name.clone(),
        // Rounded up: a mail for a quarter of an hour says 15 minutes, not 14.
        minutes_before: ((session.starts_at - now).num_seconds() + 59).div_euclid(60),
        uninvited: due.uninvited,
        // The session's own, not why one person was taken off the list.
        reason: session.cancel_reason.clone().filter(|_| !due.uninvited).unwrap_or_default(),
    }
}

fn calendar_event(state: &State, kind: MailKind, due: &DueMail, address: &str, session: &Session) -> CalendarEvent {
    CalendarEvent {
        uid: format!("{}@live-sessions", session.id),
        sequence: u32::try_from(session.sequence).unwrap_or_default(),
        method: if kind == MailKind::Cancellation { Method::Cancel } else { Method::Request },
        title: session.title.clone(),
        description: session.description.clone(),
        url: Some(session_url(state, session)),
        starts_at: session.starts_at,
        ends_at: session.ends_at,
        timezone: session.timezone.parse().unwrap_or(Tz::UTC),
        organizer: CalendarAddress::organizer(&session.host_name, &due.tenant_name, &state.config.mail.mail_from),
        attendees: vec![CalendarAddress { name: due.name.clone(), email: address.to_owned() }],
        created_at: session.created_at,
        updated_at: session.updated_at,
        reminder_minutes: due.reminder_minutes.iter().filter_map(|minutes| u32::try_from(*minutes).ok()).collect(),
    }
}

/// The person's zone; names that are none (any text may come from the LMS) leave the session's.
fn zone(name: &str, session: &Session) -> Tz {
    name.parse().or_else(|_| session.timezone.parse()).unwrap_or(Tz::UTC)
}

fn session_url(state: &State, session: &Session) -> String {
    state.config.mail.session_url.replace("{id}", &session.id.to_string())
}

fn count(kind: MailKind, outcome: &'static str) {
    metrics::counter!("mails_sent_total", "mail" => kind.as_str(), "outcome" => outcome).increment(1);
}
