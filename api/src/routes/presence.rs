//! Being in a session: join, heartbeat, leave.

use axum::{
    Json as Answer,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    db::participants::{self, Presence},
    domain::{
        ids::SessionId,
        person::Part,
        provider::ProviderKind,
        session::{Session, SessionStatus},
    },
    queue::Tx,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Caller,
    body::OptionalJson,
    error::{Problem, Result, conflict, forbidden},
    extract::Id,
    idempotency,
    permissions::{self, Right, Seen},
    routes::sessions::lifecycle::start,
    schema,
    state::AppState,
};

mod links;
pub(super) mod meetings;
pub(super) mod way_in;

use way_in::way_in;

/// Hosts and co-hosts may set up the room this long before the planned start; that does not start the session.
pub(super) const HOST_EARLY: Duration = Duration::hours(24);
/// A token is good for this long after the planned end, for classes that overrun …
const TOKEN_GRACE: Duration = Duration::minutes(30);
/// … at least for this long from now, and at most for that long.
const TOKEN_LEAST: Duration = Duration::minutes(10);
const TOKEN_MOST: Duration = Duration::hours(6);

/// The way into the meeting.
#[derive(Debug, Serialize, ToSchema)]
pub struct JoinBody {
    /// Opens the meeting; for this person only.
    #[schema(example = "https://meet.example.org/algebra-ii-x7k2?jwt=…")]
    pub join_url: String,
    /// The credential alone, for pages that embed the meeting; empty at a `bbb`, where the link is the
    /// credential. At a `zoom` the signature for its Meeting SDK; empty where no SDK app is configured.
    pub token: String,
    /// A link to a `bbb` is good until its meeting is over.
    pub expires_at: DateTime<Utc>,
    #[schema(schema_with = schema::provider)]
    pub provider: ProviderKind,
    #[schema(schema_with = schema::part)]
    pub role: Part,
    /// To be sent with heartbeats and on leaving.
    pub connection_id: Uuid,
    /// Seconds between heartbeats.
    pub heartbeat_interval: i32,
}

/// Which connection; the person's connections when left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// From the answer to join.
    pub connection_id: Option<Uuid>,
}

crate::input!(Connection);

/// A heartbeat that was written down.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeartbeatBody {
    /// Seconds until the next one; a little different each time, so that a class does not knock at once.
    #[schema(example = 29)]
    pub next_in: u64,
    pub server_time: DateTime<Utc>,
}

/// Get a link into the meeting.
///
/// Participants may join from the tenant's `join_opens_before` on (15 minutes before the planned start, where the tenant
/// has set nothing else), hosts and co-hosts from 24 hours before it. Their first join within the participants' time
/// starts the session; an earlier one lets them set up the room and leaves it `scheduled`. Who waits for the start
/// sends heartbeats, which are answered with `session-not-started` until then; a host's or co-host's starts the session
/// as a join does.
///
/// At a `bbb` or a `zoom` the first join makes the meeting; that takes as long as the server does, but 4 seconds at most.
///
/// At a `zoom` everybody gets a link of their own, by which they are known there. The host's opens the meeting and is good for
/// two hours: call this when the host wants to go there, not before.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/join/", tag = "presence",
    params(("id" = Uuid, Path, description = "The session")),
    responses(
        (status = 200, body = JoinBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`join-not-open` (with Retry-After), `session-full` or `provider-config-disabled`"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-ended` or `session-cancelled`"),
        (status = 502, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-refused`: the meeting server does not take what it is asked; nothing was changed"),
        (status = 503, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`provider-unavailable`: the meeting server does not answer in time; `provider-busy`: it takes no \
                more calls before Retry-After; nothing was changed. Or one of the service's own reasons"),
    ),
)]
pub async fn join_session(State(state): State<AppState>, caller: Caller, Id(id): Id<SessionId>) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let seen = permissions::see_on(&mut tx, &caller, id, Right::View).await?;
    let mut made = None;
    if seen.session.provider.makes_meetings() {
        let (meeting, anew) = meetings::make(&state, tx, &caller, id).await?;
        (made, tx) = (Some(meeting), anew);
    } else if seen.session.status == SessionStatus::Live
        && seen.session.max_participants.is_none()
        && let Some(part) = seen.part
    {
        // The common case, in which nobody waits for anybody: a class that goes on and has room for all.
        let now = state.clock.now();
        let expires_at = way_in_until(&seen.session, now);
        let way = way_in(&state, &mut tx, &caller, (&seen.session, None), part, (now, expires_at)).await?;
        let who = (caller.tenant.id, id, (caller.id.as_str(), caller.name.as_str()), part);
        if let Some(connection_id) = participants::open_in_live(&mut *tx, who).await? {
            tx.commit().await?;
            return Ok(joined(&caller, &seen.session, part, way, expires_at, connection_id));
        }
        // It has ended, or was given a limit, just now.
    }
    let now = state.clock.now();
    // The row is held, so that two people cannot both get the last place, and nobody gets into a session
    // that is just being ended.
    let Seen { session, part, .. } = permissions::lock(&mut tx, &caller, id, Right::View).await?;
    let part = part.ok_or_else(no_person)?;
    let opens_at = session.opens_at(caller.tenant.join_opens_before_s);
    may_enter(&session, part, now, opens_at)?;
    let session = match session.status {
        SessionStatus::Scheduled if part.moderates() && opens_at <= now => start(&mut tx, &session).await?,
        _ => session,
    };
    let who = presence(&caller, id, Connection::default());
    has_place(&mut tx, &session, part, &who).await?;
    let expires_at = way_in_until(&session, now);
    let way = way_in(&state, &mut tx, &caller, (&session, made.as_ref()), part, (now, expires_at)).await?;
    let connection_id = participants::open(&mut tx, session.tenant_id, id, (&caller.id, &caller.name), part).await?;
    tx.commit().await?;
    Ok(joined(&caller, &session, part, way, expires_at, connection_id))
}

fn joined(
    caller: &Caller,
    session: &Session,
    part: Part,
    way: shared::providers::Join,
    expires_at: DateTime<Utc>,
    connection_id: Uuid,
) -> Response {
    let body = JoinBody {
        join_url: way.url,
        token: way.token,
        expires_at,
        provider: session.provider,
        role: part,
        connection_id,
        heartbeat_interval: caller.tenant.heartbeat_interval_s,
    };
    // It lets in whoever has it.
    ([(header::CACHE_CONTROL, "no-store")], Answer(body)).into_response()
}

/// Until when a link is good that is given now.
pub(super) fn way_in_until(session: &Session, now: DateTime<Utc>) -> DateTime<Utc> {
    (session.ends_at + TOKEN_GRACE).max(now + TOKEN_LEAST).min(now + TOKEN_MOST)
}

fn no_person() -> Problem {
    forbidden("A service joins on nobody's behalf; send the person's token.")
}

/// Whether the session takes people of this part now.
fn may_enter(session: &Session, part: Part, now: DateTime<Utc>, opens_at: DateTime<Utc>) -> Result<(), Problem> {
    let from = if part.moderates() { opens_at.min(session.starts_at - HOST_EARLY) } else { opens_at };
    let wait = from - now;
    match session.status {
        SessionStatus::Scheduled if wait > Duration::zero() => Err(conflict(
            "join-not-open",
            "Too early",
            format!("The session can be joined from {} on.", from.to_rfc3339()),
        )
        .session_status(session.status)
        .retry_after(wait.num_seconds() + 1)),
        SessionStatus::Scheduled | SessionStatus::Live => Ok(()),
        SessionStatus::Ended | SessionStatus::Cancelled => Err(over(session.status)),
    }
}

/// 410: it will not come back.
pub(super) fn over(status: SessionStatus) -> Problem {
    let problem = match status {
        SessionStatus::Cancelled => {
            Problem::new(StatusCode::GONE, "session-cancelled", "Cancelled", "The session was cancelled.")
        }
        _ => Problem::new(StatusCode::GONE, "session-ended", "Ended", "The session has ended."),
    };
    problem.session_status(status)
}

async fn has_place(tx: &mut Tx, session: &Session, part: Part, who: &Presence<'_>) -> Result<()> {
    let Some(most) = session.max_participants.filter(|_| part != Part::Host) else { return Ok(()) };
    if participants::count_others(&mut **tx, who).await? < i64::from(most) {
        return Ok(());
    }
    let problem = conflict("session-full", "Full", format!("All {most} places of the session are taken."));
    Err(problem.session_status(session.status).retry_after(30).into())
}

/// Say that the person is still there. Durable when answered.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/heartbeat/", tag = "presence",
    params(("id" = Uuid, Path, description = "The session")),
    request_body = Option<Connection>,
    responses(
        (status = 200, body = HeartbeatBody),
        (status = 409, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-not-started`; `not-joined`: join first, also after leaving; `session-full`: the place \
                was given away during a silence"),
        (status = 410, body = crate::error::ProblemBody, content_type = "application/problem+json",
            description = "`session-ended` or `session-cancelled`: send no more"),
    ),
)]
pub async fn heartbeat(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    OptionalJson(body): OptionalJson<Connection>,
) -> Result<Answer<HeartbeatBody>> {
    let who = presence(&caller, id, body.check(|_| Vec::new())?);
    // What comes most often shares its commit with others.
    let known = match idempotency::joint() {
        // Where another one is just changing the connection, the single statement waits for it.
        None => state.heartbeats.beat(who.into()).await? || participants::beat(&state.db, &who).await?,
        Some(joint) => {
            let mut tx = joint.begin()?;
            let known = participants::beat(&mut *tx, &who).await?;
            tx.commit().await?;
            known
        }
    };
    if !known {
        come_back(&state, &caller, &who).await?;
    }
    let now = state.clock.now();
    Ok(Answer(HeartbeatBody { next_in: next_in(caller.tenant.heartbeat_interval_s, now), server_time: now }))
}

/// A heartbeat that no open connection took: after silence, or not to be taken at all.
async fn come_back(state: &AppState, caller: &Caller, who: &Presence<'_>) -> Result<()> {
    let mut tx = state.begin_for(caller).await?;
    let Seen { session, part, .. } = permissions::lock(&mut tx, caller, who.session, Right::View).await?;
    let moderates = part.is_some_and(Part::moderates);
    let now = state.clock.now();
    let opens_at = session.opens_at(caller.tenant.join_opens_before_s);
    match session.status {
        SessionStatus::Live => {}
        // Came early to set up the room, and is there.
        SessionStatus::Scheduled if moderates && opens_at <= now => drop(start(&mut tx, &session).await?),
        SessionStatus::Scheduled => {
            return Err(not_started(&session, if moderates { opens_at } else { session.starts_at } - now).into());
        }
        status => return Err(over(status).into()),
    }
    let Some(silent) = participants::find_silent(&mut tx, who).await? else {
        let detail = "Join the session first; heartbeats keep a join alive until it is left.";
        return Err(conflict("not-joined", "Not joined", detail).session_status(SessionStatus::Live).into());
    };
    // Somebody else may have got the place meanwhile.
    has_place(&mut tx, &session, part.unwrap_or(Part::Participant), who).await?;
    participants::come_back(&mut tx, who, silent).await?;
    tx.commit().await?;
    Ok(())
}

fn not_started(session: &Session, wait: Duration) -> Problem {
    conflict("session-not-started", "Not started", "The session has not started yet.")
        .session_status(session.status)
        .retry_after(wait.num_seconds().clamp(5, 3600))
}

/// Say that the person leaves. Idempotent; heartbeats that come later are refused until the person joins again.
#[utoipa::path(
    post, path = "/api/v1/live-sessions/sessions/{id}/leave/", tag = "presence",
    params(("id" = Uuid, Path, description = "The session")),
    request_body = Option<Connection>,
    responses((status = 204, description = "The person is not there any more, through this connection")),
)]
pub async fn leave_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id<SessionId>,
    OptionalJson(body): OptionalJson<Connection>,
) -> Result<StatusCode> {
    let who = presence(&caller, id, body.check(|_| Vec::new())?);
    let mut tx = state.begin_for(&caller).await?;
    if participants::leave(&mut *tx, &who).await? == 0 {
        permissions::see_on(&mut tx, &caller, id, Right::View).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn presence(caller: &Caller, session: SessionId, connection: Connection) -> Presence<'_> {
    Presence {
        tenant: caller.tenant.id,
        session,
        person: &caller.id,
        connection: connection.connection_id,
        timeout_s: caller.tenant.heartbeat_timeout_s,
    }
}

/// The interval, up to a fifth shorter: never late, and never all at once. The clock's microseconds are
/// chance enough.
fn next_in(interval_s: i32, now: DateTime<Utc>) -> u64 {
    let interval = u64::try_from(interval_s).unwrap_or(30).max(1);
    let spread = interval / 5 + 1;
    interval - u64::from(now.timestamp_subsec_micros()) % spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_asked_for_a_little_early_and_spread() {
        let at = |micros: i64| DateTime::from_timestamp_micros(1_795_766_400_000_000 + micros).unwrap();
        let seen: std::collections::BTreeSet<u64> = (0..1000).map(|n| next_in(30, at(n * 997))).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [24, 25, 26, 27, 28, 29, 30]);
    }
}
