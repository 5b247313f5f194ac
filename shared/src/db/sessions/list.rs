//! Pages of sessions, by keyset: the cost of a page does not grow with its depth. What a person sees is
//! found branch by branch (invited, host, open to the tenant), each by its own index and already cut to
//! the page's size, so that it does not grow with the tenant either.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, Postgres, QueryBuilder};

use super::COLUMNS;
use crate::domain::{
    ids::{SessionId, TenantId},
    session::{Session, SessionKind, SessionStatus},
};

/// Which sessions.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these; all when empty.
    pub status: Vec<SessionStatus>,
    pub kind: Option<SessionKind>,
    pub course_id: Option<String>,
    /// From here on, inclusive.
    pub starts_after: Option<DateTime<Utc>>,
    /// Up to here, exclusive.
    pub starts_before: Option<DateTime<Utc>>,
    /// Part of the title, in any case.
    pub search: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Viewer {
    /// Sees the whole tenant.
    Tenant,
    /// Sees sessions which they host, made, or are invited to, and those open to the tenant.
    Person(String),
}

/// Where a page begins, and in which order it is read.
#[derive(Debug, Clone, Copy)]
pub struct Keyset {
    /// Earliest start first.
    pub ascending: bool,
    /// The row before the first one, in that order.
    pub after: Option<(DateTime<Utc>, SessionId)>,
    pub limit: i64,
}

/// The sessions of `tenant` that `viewer` may see, by start and id.
pub async fn list<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    viewer: &Viewer,
    filter: &Filter,
    keyset: Keyset,
) -> sqlx::Result<Vec<Session>> {
    let mut sql = QueryBuilder::new("");
    match viewer {
        Viewer::Tenant => branch(&mut sql, tenant, Scope::All, filter, keyset),
        Viewer::Person(person) => {
            sql.push(format!("select {COLUMNS} from (("));
            branch(&mut sql, tenant, Scope::Own(person), filter, keyset);
            sql.push(") union (");
            branch(&mut sql, tenant, Scope::Open, filter, keyset);
            sql.push(") union (");
            branch(&mut sql, tenant, Scope::Invited(person), filter, keyset);
            sql.push(")) as s");
            order(&mut sql, keyset);
        }
    }
    sql.build_query_as().fetch_all(executor).await
}

/// Sessions that are found through one index.
enum Scope<'a> {
    All,
    Own(&'a str),
    Open,
    Invited(&'a str),
}

fn branch(sql: &mut QueryBuilder<Postgres>, tenant: TenantId, scope: Scope<'_>, filter: &Filter, keyset: Keyset) {
    sql.push(format!("select {COLUMNS} from sessions s where s.tenant_id = ")).push_bind(tenant);
    match scope {
        Scope::All => {}
        Scope::Own(person) => {
            sql.push(" and (s.host_id = ").push_bind(person.to_owned());
            sql.push(" or s.created_by = ").push_bind(person.to_owned()).push(")");
        }
        Scope::Open => {
            sql.push(" and s.access = 'tenant'");
        }
        Scope::Invited(person) => {
            sql.push(" and s.id in (select i.session_id from invitees i where i.tenant_id = ").push_bind(tenant);
            sql.push(" and i.person_id = ").push_bind(person.to_owned()).push(")");
        }
    }
    conditions(sql, filter, keyset);
    order(sql, keyset);
}

fn conditions(sql: &mut QueryBuilder<Postgres>, filter: &Filter, keyset: Keyset) {
    if !filter.status.is_empty() {
        let names: Vec<String> = filter.status.iter().map(|status| status.as_str().to_owned()).collect();
        sql.push(" and s.status = any(").push_bind(names).push(")");
    }
    if let Some(kind) = filter.kind {
        sql.push(" and s.kind = ").push_bind(kind);
    }
    if let Some(course) = &filter.course_id {
        sql.push(" and s.course_id = ").push_bind(course.clone());
    }
    if let Some(from) = filter.starts_after {
        sql.push(" and s.starts_at >= ").push_bind(from);
    }
    if let Some(to) = filter.starts_before {
        sql.push(" and s.starts_at < ").push_bind(to);
    }
    if let Some(search) = &filter.search {
        let escaped = search.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        sql.push(" and s.title ilike ").push_bind(format!("%{escaped}%"));
    }
    if let Some((at, id)) = keyset.after {
        sql.push(if keyset.ascending { " and (s.starts_at, s.id) > (" } else { " and (s.starts_at, s.id) < (" });
        sql.push_bind(at).push(", ").push_bind(id).push(")");
    }
}

fn order(sql: &mut QueryBuilder<Postgres>, keyset: Keyset) {
    sql.push(match keyset.ascending {
        true => " order by s.starts_at, s.id limit ",
        false => " order by s.starts_at desc, s.id desc limit ",
    });
    sql.push_bind(keyset.limit);
}
