//! The list of sessions.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use shared::{
    db::sessions::{Filter, Keyset, Viewer, list},
    domain::{
        ids::SessionId,
        person::Role,
        session::{SessionKind, SessionStatus},
    },
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::body::SessionBody;
use crate::{
    auth::Caller,
    error::{Problem, Result, bad_parameter},
    extract::Query,
    page::{Address, Page, Wanted},
    router::BASE,
    schema,
    state::AppState,
};

/// Which sessions, and how many at once.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSessions {
    /// One or more states, comma separated: scheduled, live, ended, cancelled.
    #[param(example = "scheduled,live")]
    status: Option<String>,
    #[param(schema_with = schema::kind)]
    kind: Option<SessionKind>,
    course_id: Option<String>,
    /// From here on, inclusive.
    starts_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    starts_before: Option<DateTime<Utc>>,
    /// Part of the title, in any case.
    #[param(max_length = 200)]
    search: Option<String>,
    /// `starts_at` (earliest first) or `-starts_at` (latest first, when left out).
    #[param(schema_with = schema::ordering)]
    ordering: Option<String>,
    /// From `next` or `previous` of a page.
    cursor: Option<String>,
    /// 20 when left out.
    #[param(minimum = 1, maximum = 200)]
    page_size: Option<u32>,
}

/// The key of the order, with the order itself: a cursor is good for one order only.
type Key = (bool, DateTime<Utc>, Uuid);

/// Sessions that the caller may see: all of the tenant for administrators and services, else those
/// which they host or are invited to, and those open to the tenant.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/sessions/", tag = "sessions", params(ListSessions),
    responses((status = 200, body = Page<SessionBody>)),
)]
pub async fn list_sessions(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<ListSessions>,
) -> Result<Json<Page<SessionBody>>> {
    let ascending = match query.ordering.as_deref() {
        None | Some("-starts_at") => false,
        Some("starts_at") => true,
        Some(_) => return Err(bad_parameter("ordering", "is neither starts_at nor -starts_at").into()),
    };
    let wanted = Wanted::<Key>::parse(query.cursor.as_deref(), query.page_size)?;
    if wanted.after.is_some_and(|(order, at, _)| order != ascending || !is_sane(at)) {
        return Err(bad_parameter("cursor", "is of a list in another order").into());
    }
    let filter = filter(&query)?;
    let viewer = match caller.is(Role::Admin) || caller.is(Role::Service) {
        true => Viewer::Tenant,
        false => Viewer::Person(caller.id.clone()),
    };
    let keyset = Keyset {
        ascending: ascending != wanted.backwards,
        after: wanted.after.map(|(_, at, id)| (at, SessionId(id))),
        limit: wanted.limit(),
    };
    let mut tx = state.begin_for(&caller).await?;
    let rows = list(&mut *tx, caller.tenant.id, &viewer, &filter, keyset).await?;
    let address = address(&state, query);
    Ok(Json(wanted.page(rows, &address, |s| (ascending, s.starts_at, s.id.0), SessionBody::from)))
}

fn filter(query: &ListSessions) -> Result<Filter, Problem> {
    let mut status = Vec::new();
    for word in query.status.iter().flat_map(|list| list.split(',')) {
        let known = serde_json::from_value::<SessionStatus>(word.trim().into());
        status
            .push(known.map_err(|_| bad_parameter("status", format!("is not made of {}", schema::STATUS.join(", "))))?);
    }
    for (name, at) in [("starts_after", query.starts_after), ("starts_before", query.starts_before)] {
        if !at.is_none_or(is_sane) {
            return Err(bad_parameter(name, "is not within the years 1 to 9999"));
        }
    }
    if query.search.as_ref().is_some_and(|text| text.chars().count() > 200) {
        return Err(bad_parameter("search", "is longer than 200 characters"));
    }
    Ok(Filter {
        status,
        kind: query.kind,
        course_id: query.course_id.clone(),
        starts_after: query.starts_after,
        starts_before: query.starts_before,
        search: query.search.clone().filter(|text| !text.is_empty()),
    })
}

/// Within what the database can hold.
fn is_sane(at: DateTime<Utc>) -> bool {
    use chrono::Datelike as _;
    (1..=9999).contains(&at.year())
}

fn address(state: &AppState, query: ListSessions) -> Address {
    let kind = query.kind.and_then(|kind| serde_json::to_value(kind).ok()?.as_str().map(str::to_owned));
    let parameters = [
        ("status", query.status),
        ("kind", kind),
        ("course_id", query.course_id),
        ("starts_after", query.starts_after.map(|at| at.to_rfc3339())),
        ("starts_before", query.starts_before.map(|at| at.to_rfc3339())),
        ("search", query.search),
        ("ordering", query.ordering),
    ];
    Address {
        path: format!("{}{BASE}/sessions/", state.config.public_url.trim_end_matches('/')),
        parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    }
}
