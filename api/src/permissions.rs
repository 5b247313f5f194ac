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
//! of all tenants, are for operators alone ([`Operator`]); API keys, provider configurations and the audit log for the
//! tenant's administrators ([`Admin`]).
//!
//! A machine with an API key is a `service` or an `admin` of its tenant, whatever its key says. It is nobody in a class:
//! only a key with `admin` gets in, as a co-host. A key with `admin` makes keys, of its tenant and not beyond its own end.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use shared::{
    db::{invitees, sessions},
    domain::{
        ids::SessionId,
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
    /// Start and end it.
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
    let session = sessions::find_in(&mut *connection, caller.tenant.id, id).await?;
    let session = session.ok_or_else(|| error::not_found("session"))?;
    let invited = invitees::find(connection, id, &caller.id).await?;
    judge(caller, session, invited.map(|i| i.role.into()), right)
}

/// The same, with the session's row held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, caller: &Caller, id: SessionId, right: Right) -> Result<Seen, Error> {
    let session = sessions::lock_in(connection, caller.tenant.id, id).await?;
    let session = session.ok_or_else(|| error::not_found("session"))?;
    let invited = invitees::find(connection, id, &caller.id).await?;
    judge(caller, session, invited.map(|i| i.role.into()), right)
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
        Right::Run => "Only hosts, co-hosts and administrators start and end a session.",
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
