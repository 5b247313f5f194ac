//! Who may do what. One table: rows are what somebody is to a session, columns are what they want.
//!
//! |                        | view | inspect | run | manage |
//! |------------------------|------|---------|-----|--------|
//! | admin, service         | yes  | yes     | yes | yes    |
//! | host, maker            | yes  | yes     | yes | yes    |
//! | co-host                | yes  | yes     | yes |        |
//! | invitee                | yes  |         |     |        |
//! | anybody of the tenant, where `access` is `tenant` | yes | | | |
//! | anybody else           |      |         |     |        |
//!
//! Who may not view a session gets 404, as for a session that does not exist; who may view it, but not do the
//! rest, gets 403. New sessions are made by instructors, admins and services. Jobs, queues and schedules, which are those
//! of all tenants, are for operators alone ([`Operator`]); API keys, provider configurations and personal data for the tenant's
//! administrators ([`Admin`]); the audit log and the webhooks that came for both ([`Overseer`]).
//!
//! A machine with an API key is a `service` or an `admin` of its tenant, whatever its key says. It is nobody in a class:
//! only a key with `admin` gets in, as a co-host. A key with `admin` makes keys, of its tenant and not beyond its own end.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use shared::{
    db::sessions::{self, Invitation},
    domain::{
        ids::{SessionId, TenantId},
        person::{Part, Role},
        session::{Access, Session},
    },
    queue::Tx,
};
use sqlx::PgConnection;

use crate::{
    auth::Caller,
    error::{self, Error, Problem},
    state::AppState,
};

/// What a caller wants to do with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// See it, join it, see its recordings, the calendar entry, the own attendance.
    View,
    /// See the people: invitees, connections, everybody's attendance.
    Inspect,
    /// Start and end it, remove people from it.
    Run,
    /// Change, cancel, delete it, replace its invitees.
    Manage,
}

/// What a caller is to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Administers,
    Hosts,
    CoHosts,
    Invited,
    Member,
    Stranger,
}

impl Standing {
    /// The table.
    pub fn may(self, right: Right) -> bool {
        match self {
            Self::Administers | Self::Hosts => true,
            Self::CoHosts => right != Right::Manage,
            Self::Invited | Self::Member => right == Right::View,
            Self::Stranger => false,
        }
    }
}

/// What an operation asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    Open,
    /// A provider's signature or secret instead of a token.
    Provider,
    /// A valid token; it shows what is the caller's to see.
    Known,
    /// To be one who makes sessions.
    MakeSessions,
    /// This right on the session, or on the session of the recording.
    OnSession(Right),
    /// The same as `View`, and to be somebody who can be in a meeting, or could have been.
    Join,
    /// To administer the tenant to which the thing belongs.
    Administer,
    /// To administer the tenant to which the thing belongs, or to run the service.
    Oversee,
    /// To run the service.
    Operate,
}

/// The rule of every operation, by its name in the OpenAPI document. A test tries each of them with every kind of caller,
/// and fails for an operation that is not here; `docs/SECURITY.md` shows it.
pub const RULES: &[(&str, Rule)] = &[
    ("cancel_job", Rule::Operate),
    ("cancel_session", Rule::OnSession(Right::Manage)),
    ("correct_attendance", Rule::OnSession(Right::Manage)),
    ("create_api_key", Rule::Administer),
    ("create_provider_config", Rule::Administer),
    ("create_session", Rule::MakeSessions),
    ("delete_provider_config", Rule::Administer),
    ("delete_recording", Rule::OnSession(Right::Manage)),
    ("delete_reservation", Rule::Provider),
    ("delete_reservation_of_config", Rule::Provider),
    ("delete_session", Rule::OnSession(Right::Manage)),
    ("discard_job", Rule::Operate),
    ("docs", Rule::Open),
    ("docs_file", Rule::Open),
    ("docs_page", Rule::Open),
    ("download_recording", Rule::OnSession(Right::View)),
    ("end_session", Rule::OnSession(Right::Run)),
    ("erase_person", Rule::Administer),
    ("export_person", Rule::Administer),
    ("get_api_key", Rule::Administer),
    ("get_asap_key", Rule::Open),
    ("get_asap_key_of_config", Rule::Open),
    ("get_attendance", Rule::OnSession(Right::View)),
    ("get_calendar", Rule::OnSession(Right::View)),
    ("get_erasure", Rule::Administer),
    ("get_job", Rule::Operate),
    ("get_ops", Rule::Open),
    ("get_provider_config", Rule::Administer),
    ("get_provider_health", Rule::Administer),
    ("get_recording", Rule::OnSession(Right::View)),
    ("get_reservation", Rule::Provider),
    ("get_reservation_of_config", Rule::Provider),
    ("get_session", Rule::OnSession(Right::View)),
    ("get_session_analytics", Rule::OnSession(Right::Inspect)),
    ("get_tenant", Rule::Administer),
    ("get_webhook_event", Rule::Oversee),
    ("hand_over_recording", Rule::Provider),
    ("hand_over_recording_of_config", Rule::Provider),
    ("heartbeat", Rule::OnSession(Right::View)),
    ("join_session", Rule::Join),
    ("leave_session", Rule::OnSession(Right::View)),
    ("list_analytics_of_people", Rule::Known),
    ("list_analytics_of_sessions", Rule::Known),
    ("list_api_keys", Rule::Administer),
    ("list_attendance", Rule::Known),
    ("list_attendance_objections", Rule::OnSession(Right::View)),
    ("list_audit_log", Rule::Oversee),
    ("list_invitees", Rule::OnSession(Right::Inspect)),
    ("list_jobs", Rule::Operate),
    ("list_participants", Rule::OnSession(Right::Inspect)),
    ("list_present", Rule::OnSession(Right::Inspect)),
    ("list_provider_configs", Rule::Administer),
    ("list_providers", Rule::Known),
    ("list_queues", Rule::Operate),
    ("list_recordings", Rule::OnSession(Right::View)),
    ("list_schedules", Rule::Operate),
    ("list_sessions", Rule::Known),
    ("list_webhook_events", Rule::Oversee),
    ("livez", Rule::Open),
    ("make_provider_config_default", Rule::Administer),
    ("metrics", Rule::Open),
    ("object_to_attendance", Rule::Join),
    ("openapi", Rule::Open),
    ("patch_provider_config", Rule::Administer),
    ("patch_recording", Rule::OnSession(Right::Manage)),
    ("patch_session", Rule::OnSession(Right::Manage)),
    ("patch_tenant", Rule::Administer),
    ("pause_queue", Rule::Operate),
    ("readyz", Rule::Open),
    ("receive_bbb_analytics", Rule::Provider),
    ("receive_bbb_end", Rule::Provider),
    ("receive_bbb_recording_ready", Rule::Provider),
    ("receive_jitsi_event", Rule::Provider),
    ("receive_jitsi_event_of_config", Rule::Provider),
    ("receive_webhook", Rule::Provider),
    ("receive_webhook_of_config", Rule::Provider),
    ("refuse_attendance_objection", Rule::OnSession(Right::Manage)),
    ("remove_participant", Rule::OnSession(Right::Run)),
    ("replace_invitees", Rule::OnSession(Right::Manage)),
    ("replace_session", Rule::OnSession(Right::Manage)),
    ("replay_webhook_event", Rule::Oversee),
    ("reserve_room", Rule::Provider),
    ("reserve_room_of_config", Rule::Provider),
    ("resume_queue", Rule::Operate),
    ("retry_dead_jobs", Rule::Operate),
    ("retry_job", Rule::Operate),
    ("retry_recording", Rule::OnSession(Right::Manage)),
    ("revoke_api_key", Rule::Administer),
    ("run_schedule", Rule::Operate),
    ("start_session", Rule::OnSession(Right::Run)),
    ("test_provider_config", Rule::Administer),
    ("upload_recording", Rule::OnSession(Right::Manage)),
    ("welcome", Rule::Open),
];

/// A session, and what the caller is to it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub session: Session,
    pub standing: Standing,
    /// What the caller would be in the meeting; `None` for machines.
    pub part: Option<Part>,
}

/// What `caller` is to `session`, given whether (and as what) they are invited.
pub fn standing(caller: &Caller, session: &Session, invited: Option<Part>) -> (Standing, Option<Part>) {
    let hosts = session.host_id == caller.id;
    let part = match invited {
        _ if hosts => Some(Part::Host),
        Some(part) => Some(part),
        None if caller.is(Role::Admin) => Some(Part::CoHost),
        None if caller.is(Role::Service) => None,
        None => Some(Part::Participant),
    };
    let standing = if caller.is(Role::Admin) || caller.is(Role::Service) {
        Standing::Administers
    } else if hosts || (session.created_by == caller.id && caller.is(Role::Instructor)) {
        Standing::Hosts
    } else {
        match (invited, session.access) {
            (Some(Part::CoHost), _) => Standing::CoHosts,
            (Some(_), _) => Standing::Invited,
            (None, Access::Tenant) => Standing::Member,
            (None, Access::Invitees) => Standing::Stranger,
        }
    };
    (standing, part)
}

/// A caller who runs the service. As an extractor it comes first in a handler's signature, so that nobody else learns
/// what exists.
pub struct Operator(pub Caller);

impl FromRequestParts<AppState> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.is(Role::Operator) {
            return Err(error::forbidden("Jobs, queues and schedules are for operators.").into());
        }
        Ok(Self(caller))
    }
}

/// A caller who administers a tenant. As an extractor it comes first in a handler's signature, so that nobody else learns
/// what exists.
pub struct Admin(pub Caller);

impl FromRequestParts<AppState> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.is(Role::Admin) {
            return Err(error::forbidden("This is for administrators of the tenant.").into());
        }
        Ok(Self(caller))
    }
}

/// A caller who administers a tenant, and sees what is the tenant's; or who runs the service, and sees what is anybody's and
/// nobody's. As an extractor it comes first, like [`Admin`].
pub struct Overseer(pub Caller);

impl FromRequestParts<AppState> for Overseer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.is(Role::Admin) && !caller.is(Role::Operator) {
            return Err(error::forbidden("This is for administrators of the tenant, and for operators.").into());
        }
        Ok(Self(caller))
    }
}

impl Overseer {
    /// Whose things they see; `None`: everybody's.
    pub fn tenant(&self) -> Option<TenantId> {
        (!self.0.is(Role::Operator)).then_some(self.0.tenant.id)
    }

    /// A transaction that sees what they do.
    pub async fn begin(&self, state: &AppState) -> sqlx::Result<Tx> {
        match self.tenant() {
            Some(_) => state.begin_for(&self.0).await,
            None => state.begin_for_all(&self.0).await,
        }
    }
}

/// Whether the caller may make sessions.
pub fn may_create(caller: &Caller) -> Result<(), Problem> {
    let may = [Role::Instructor, Role::Admin, Role::Service].iter().any(|role| caller.is(*role));
    may.then_some(()).ok_or_else(|| error::forbidden("Sessions are made by instructors, administrators and services."))
}

/// Whether the caller may name somebody else as the host.
pub fn may_name_host(caller: &Caller) -> bool {
    caller.is(Role::Admin) || caller.is(Role::Service)
}

/// The session, if it is the caller's to see and to do `right` with; and the transaction in which it was seen, for what
/// else is to be read.
pub async fn see(state: &AppState, caller: &Caller, id: SessionId, right: Right) -> Result<(Tx, Seen), Error> {
    let mut tx = state.begin_for(caller).await?;
    let seen = see_on(&mut tx, caller, id, right).await?;
    Ok((tx, seen))
}

/// The same, over a connection that the caller has.
pub async fn see_on(
    connection: &mut PgConnection,
    caller: &Caller,
    id: SessionId,
    right: Right,
) -> Result<Seen, Error> {
    let found = sessions::find_in(connection, caller.tenant.id, id, &caller.id).await?;
    let Invitation { session, invited_as } = found.ok_or_else(|| error::not_found("session"))?;
    judge(caller, session, invited_as.map(Part::from), right)
}

/// The same, with the session's row held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, caller: &Caller, id: SessionId, right: Right) -> Result<Seen, Error> {
    let found = sessions::lock_in(connection, caller.tenant.id, id, &caller.id).await?;
    let Invitation { session, invited_as } = found.ok_or_else(|| error::not_found("session"))?;
    judge(caller, session, invited_as.map(Part::from), right)
}

fn judge(caller: &Caller, session: Session, invited: Option<Part>, right: Right) -> Result<Seen, Error> {
    let (standing, part) = standing(caller, &session, invited);
    if !standing.may(Right::View) {
        return Err(error::not_found("session").into());
    }
    if !standing.may(right) {
        return Err(refused(right).into());
    }
    Ok(Seen { session, standing, part })
}

fn refused(right: Right) -> Problem {
    let who = match right {
        Right::View => "Only people of the session see it.",
        Right::Inspect => "Only hosts, co-hosts and administrators see this.",
        Right::Run => "Only hosts, co-hosts and administrators start and end a session, or remove people from it.",
        Right::Manage => "Only its host and administrators change a session.",
    };
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", who)
}

#[cfg(test)]
mod tests {
    use super::{Right::*, Standing::*};

    #[test]
    fn the_table_is_as_documented() {
        let rights = [View, Inspect, Run, Manage];
        for (standing, may) in [
            (Administers, [true, true, true, true]),
            (Hosts, [true, true, true, true]),
            (CoHosts, [true, true, true, false]),
            (Invited, [true, false, false, false]),
            (Member, [true, false, false, false]),
            (Stranger, [false, false, false, false]),
        ] {
            assert_eq!(rights.map(|right| standing.may(right)), may, "{standing:?}");
        }
    }
}
