//! What is held about one person, over all tables: to be handed out, and to be erased; and the people of old sessions, to be
//! forgotten.
//!
//! Erasing puts a pseudonym in the place of the person, so that reports of sessions keep their counts; names, addresses and
//! reasons are emptied. The steps come in an order in which nothing brings erased data back: first what is still to be read
//! (webhooks), then what is computed from it, last the audit log, which has recorded the steps themselves.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::domain::ids::{SessionId, TenantId};

/// Where personal data is, and how it is read: `$1` is the tenant, `$2` the person.
const HELD: &[(&str, &str)] = &[
    (
        "sessions_hosted",
        "select to_jsonb(t) from sessions t where tenant_id = $1 and (host_id = $2 or created_by = $2)",
    ),
    ("invitees", "select to_jsonb(t) from invitees t where tenant_id = $1 and person_id = $2"),
    ("participants", "select to_jsonb(t) from participants t where tenant_id = $1 and person_id = $2"),
    ("sightings", "select to_jsonb(t) from sightings t where tenant_id = $1 and person_id = $2"),
    ("attendance", "select to_jsonb(t) from attendance t where tenant_id = $1 and person_id = $2"),
    (
        "attendance_corrections",
        "select to_jsonb(t) from attendance_corrections t where tenant_id = $1 and (person_id = $2 or made_by = $2)",
    ),
    (
        "attendance_objections",
        "select to_jsonb(t) from attendance_objections t where tenant_id = $1 and (person_id = $2 or answered_by = $2)",
    ),
    (
        "meeting_registrants",
        "select to_jsonb(t) - 'ciphertext' - 'key_id' from meeting_registrants t where tenant_id = $1 and person_id = $2",
    ),
    ("reminders", "select to_jsonb(t) from reminders t where tenant_id = $1 and person_id = $2"),
    (
        "api_keys",
        "select to_jsonb(t) - 'hash' from api_keys t where tenant_id = $1 and (created_by = $2 or revoked_by = $2)",
    ),
    (
        "webhook_events",
        "select to_jsonb(t) from webhook_events t where tenant_id = $1 and position(to_json($2)::text in body::text) > 0",
    ),
    (
        "audit_log",
        "select to_jsonb(t) from audit_log t where tenant_id = $1 and (actor = 'person:' || $2 or subject_id = $2 \
             or position(to_json($2)::text in changes::text) > 0)",
    ),
    (
        "recordings",
        "select jsonb_build_object('id', t.id, 'session_id', t.session_id, 'state', t.state, 'file_name', t.file_name, \
             'size_bytes', t.size_bytes, 'recorded_from', t.recorded_from, 'recorded_to', t.recorded_to) \
         from recordings t where tenant_id = $1 and exists ( \
             select from participants p where p.session_id = t.session_id and p.person_id = $2)",
    ),
];

/// All that is held about a person, by table.
pub async fn export(connection: &mut PgConnection, tenant: TenantId, person: &str) -> sqlx::Result<Map<String, Value>> {
    let mut all = Map::new();
    for (name, query) in HELD {
        let rows: Vec<Value> = sqlx::query_scalar(*query).bind(tenant).bind(person).fetch_all(&mut *connection).await?;
        all.insert((*name).to_owned(), rows.into());
    }
    Ok(all)
}

/// Whether the person holds a session that is planned or live.
pub async fn hosts<'e>(executor: impl PgExecutor<'e>, tenant: TenantId, person: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from sessions where tenant_id = $1 and host_id = $2 and status in ('scheduled', 'live'))",
    )
    .bind(tenant)
    .bind(person)
    .fetch_one(executor)
    .await
}

/// Whether more may be told of the person at any moment: they were seen in a session that is live.
pub async fn is_in_live_session<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    person: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from sessions s where s.tenant_id = $1 and s.status = 'live' and ( \
             exists (select from participants p where p.session_id = s.id and p.person_id = $2) \
             or exists (select from sightings g where g.session_id = s.id and g.person_id = $2)))",
    )
    .bind(tenant)
    .bind(person)
    .fetch_one(executor)
    .await
}

/// Names and addresses by which the person is known.
pub async fn terms<'e>(executor: impl PgExecutor<'e>, tenant: TenantId, person: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct term from ( \
             select unnest(array[name, email]) as term from invitees where tenant_id = $1 and person_id = $2 \
             union all select unnest(array[name, email]) from attendance where tenant_id = $1 and person_id = $2 \
             union all select unnest(array[name, email]) from reminders where tenant_id = $1 and person_id = $2 \
             union all select name from participants where tenant_id = $1 and person_id = $2 \
             union all select name from sightings where tenant_id = $1 and person_id = $2 \
             union all select unnest(array[host_name, host_email]) from sessions where tenant_id = $1 and host_id = $2 \
         ) as terms where term <> ''",
    )
    .bind(tenant)
    .bind(person)
    .fetch_all(executor)
    .await
}

/// Who is erased.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub tenant: TenantId,
    pub person: &'a str,
    pub pseudonym: &'a str,
    /// The id, and what [`terms`] found.
    exact: Vec<String>,
    /// Finds the id and addresses within longer texts; names alone would hit others of the same name.
    pattern: Option<String>,
}

/// Shorter ids are found as whole texts alone: `17` is part of many.
const SHORTEST_IN_TEXT: usize = 4;

impl<'a> Subject<'a> {
    pub fn new(tenant: TenantId, person: &'a str, pseudonym: &'a str, terms: &[String]) -> Self {
        let long = |text: &&str| text.chars().count() >= SHORTEST_IN_TEXT;
        let addresses = terms.iter().map(String::as_str).filter(|term| term.contains('@'));
        let within: Vec<String> = addresses.chain([person]).filter(long).map(escaped).collect();
        let pattern =
            (!within.is_empty()).then(|| format!("(?<![[:alnum:]_.@-])(?:{})(?![[:alnum:]_@-])", within.join("|")));
        let exact = terms.iter().map(String::as_str).chain([person]).map(str::to_owned).collect();
        Self { tenant, person, pseudonym, exact, pattern }
    }
}

/// As a part of a pattern that means this very text.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c])).collect()
}

/// What is done to one table: `$1` tenant, `$2` person, `$3` pseudonym, `$4` and `$5` what finds the person in texts.
const STEPS: &[(&str, &str)] = &[
    (
        "invitees",
        "delete from invitees i using sessions s where s.id = i.session_id and i.tenant_id = $1 and i.person_id = $2 \
             and s.status = 'scheduled'",
    ),
    (
        "invitees",
        "update invitees set person_id = $3, name = '', email = null, locale = null, timezone = null \
         where tenant_id = $1 and person_id = $2",
    ),
    ("reminders", "delete from reminders where tenant_id = $1 and person_id = $2 and state in ('pending', 'queued')"),
    (
        "reminders",
        "update reminders set person_id = $3, name = null, email = null, locale = null, timezone = null, \
             note = erase_text(note, $4, $5, $3) where tenant_id = $1 and person_id = $2",
    ),
    (
        "participants",
        "update participants set person_id = $3, name = '', connection_key = erase_text(connection_key, $4, $5, $3) \
         where tenant_id = $1 and person_id = $2",
    ),
    ("meeting_registrants", "delete from meeting_registrants where tenant_id = $1 and person_id = $2"),
    (
        "sightings",
        "update sightings set person_id = $3, name = '', connection_key = erase_text(connection_key, $4, $5, $3) \
         where tenant_id = $1 and person_id = $2",
    ),
    (
        "attendance",
        "update attendance set person_id = $3, name = '', email = null, \
             corrected = case when corrected is not null then corrected || '{\"reason\": \"…\"}' end \
         where tenant_id = $1 and person_id = $2",
    ),
    (
        "attendance",
        "update attendance set corrected = corrected || jsonb_build_object('by', $3) \
         where tenant_id = $1 and corrected ->> 'by' = $2",
    ),
    (
        "attendance_corrections",
        "update attendance_corrections set person_id = $3, reason = '…' where tenant_id = $1 and person_id = $2",
    ),
    ("attendance_corrections", "update attendance_corrections set made_by = $3 where tenant_id = $1 and made_by = $2"),
    (
        "attendance_objections",
        "update attendance_objections set person_id = $3, reason = '…', \
             answer = case when answer is not null then '…' end where tenant_id = $1 and person_id = $2",
    ),
    (
        "attendance_objections",
        "update attendance_objections set answered_by = $3 where tenant_id = $1 and answered_by = $2",
    ),
    (
        "sessions",
        "update sessions set host_id = $3, host_name = '', host_email = null, version = version + 1, updated_at = now() \
         where tenant_id = $1 and host_id = $2",
    ),
    ("sessions", "update sessions set created_by = $3 where tenant_id = $1 and created_by = $2"),
    (
        "api_keys",
        "update api_keys set created_by = case when created_by = $2 then $3 else created_by end, \
             revoked_by = case when revoked_by = $2 then $3 else revoked_by end \
         where tenant_id = $1 and $2 in (created_by, revoked_by)",
    ),
    (
        "meetings",
        "update meetings set details = erase_json(details, $4, $5, $3) \
         where tenant_id = $1 and details is distinct from erase_json(details, $4, $5, $3)",
    ),
    (
        "jobs",
        "update jobs set errors = erase_json(errors, $4, $5, $3) \
         where tenant_id = $1 and errors is distinct from erase_json(errors, $4, $5, $3)",
    ),
    ("erasures", "update erasures set requested_by = $3 where tenant_id = $1 and requested_by = $2"),
];

/// The steps, by their table.
pub fn steps() -> impl Iterator<Item = (&'static str, usize)> {
    STEPS.iter().enumerate().map(|(number, (table, _))| (*table, number))
}

/// Does one of [`steps`]; returns how many rows it changed. Done once more it changes nothing.
pub async fn erase_step(connection: &mut PgConnection, subject: &Subject<'_>, number: usize) -> sqlx::Result<u64> {
    let Some((_, statement)) = STEPS.get(number) else { return Ok(0) };
    let done = sqlx::query(*statement)
        .bind(subject.tenant)
        .bind(subject.person)
        .bind(subject.pseudonym)
        .bind(&subject.exact)
        .bind(&subject.pattern)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Where a batch of webhooks begins: behind this one.
pub type Received = (DateTime<Utc>, Uuid);

/// Erases the person from up to `limit` webhooks of the tenant, behind one. Returns how many changed, and the last one that was looked at;
/// `None` when there was none.
pub async fn erase_from_webhooks(
    connection: &mut PgConnection,
    subject: &Subject<'_>,
    behind: Option<Received>,
    limit: i64,
) -> sqlx::Result<(u64, Option<Received>)> {
    let (changed, received_at, id): (i64, Option<DateTime<Utc>>, Option<Uuid>) = sqlx::query_as(
        "with batch as materialized ( \
             select id, received_at from webhook_events \
             where tenant_id = $1 and ($6::timestamptz is null or (received_at, id) > ($6, $7)) \
             order by received_at, id limit $8), \
         changed as ( \
             update webhook_events w set body = erase_json(w.body, $4, $5, $3), note = erase_text(w.note, $4, $5, $3) \
             from batch b where b.id = w.id and (w.body, w.note) is distinct from \
                 (erase_json(w.body, $4, $5, $3), erase_text(w.note, $4, $5, $3)) returning w.id) \
         select (select count(*) from changed), last.received_at, last.id from (select) as one \
         left join (select received_at, id from batch order by received_at desc, id desc limit 1) as last on true",
    )
    .bind(subject.tenant)
    .bind(subject.person)
    .bind(subject.pseudonym)
    .bind(&subject.exact)
    .bind(&subject.pattern)
    .bind(behind.map(|(at, _)| at))
    .bind(behind.map(|(_, id)| id))
    .bind(limit)
    .fetch_one(connection)
    .await?;
    Ok((u64::try_from(changed).unwrap_or_default(), received_at.zip(id)))
}

/// Erases the person from the audit log, and adds the line that says so. Returns how many lines changed.
pub async fn erase_from_audit_log(connection: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<u64> {
    let lines: i64 = sqlx::query_scalar("select audit_erase($1, $2, $4, $5, $3)")
        .bind(subject.tenant)
        .bind(subject.person)
        .bind(subject.pseudonym)
        .bind(&subject.exact)
        .bind(&subject.pattern)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("select audit_write($1, 'person.erased', $2, jsonb_build_object('audit_lines', jsonb_build_array(null, $3::bigint)))")
        .bind(subject.tenant)
        .bind(subject.pseudonym)
        .bind(lines)
        .execute(connection)
        .await?;
    Ok(u64::try_from(lines).unwrap_or_default())
}

/// Recordings in which the person may be seen or heard.
pub async fn count_recordings<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    pseudonym: &str,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from recordings r where r.tenant_id = $1 and r.object_key is not null and exists ( \
             select from participants p where p.session_id = r.session_id and p.person_id = $2)",
    )
    .bind(tenant)
    .bind(pseudonym)
    .fetch_one(executor)
    .await
}

/// Up to `limit` sessions that ended longer ago than their tenant keeps personal data.
pub async fn list_to_forget<'e>(executor: impl PgExecutor<'e>, limit: i64) -> sqlx::Result<Vec<SessionId>> {
    sqlx::query_scalar(
        "select s.id from tenants t join lateral ( \
             select id from sessions where tenant_id = t.id and people_forgotten_at is null \
                 and ended_at < now() - make_interval(days => t.personal_data_retention_days) \
             order by ended_at limit $1) as s on true \
         where t.personal_data_retention_days is not null limit $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Tables whose rows are about the people of a session.
const OF_SESSION: &[&str] = &[
    "sightings",
    "participants",
    "reminders",
    "attendance_objections",
    "attendance_corrections",
    "attendance",
    "invitees",
    "webhook_events",
];

/// Deletes what is held about the people of a session; the session itself, with its host, stays. The caller commits: all of it
/// or nothing. Returns how many rows there were.
pub async fn forget_people(connection: &mut PgConnection, session: SessionId) -> sqlx::Result<u64> {
    let mut rows = 0;
    let registrants =
        "delete from meeting_registrants r using meetings m where m.id = r.meeting_id and m.session_id = $1";
    rows += sqlx::query(registrants).bind(session).execute(&mut *connection).await?.rows_affected();
    for table in OF_SESSION {
        let statement = AssertSqlSafe(format!("delete from {table} where session_id = $1"));
        rows += sqlx::query(statement).bind(session).execute(&mut *connection).await?.rows_affected();
    }
    sqlx::query("update sessions set people_forgotten_at = now() where id = $1")
        .bind(session)
        .execute(connection)
        .await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_addresses_are_found_in_texts_and_names_are_not() {
        let of = |person: &str, terms: &[&str]| {
            let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
            Subject::new(TenantId::new(), person, "erased:x", &terms).pattern
        };
        assert_eq!(of("17", &["Ali"]), None);
        let found = of("u+17", &["Ali", "a.b@c.d"]).unwrap();
        assert!(found.contains(r"(?:a\.b\@c\.d|u\+17)"), "{found}");
    }
}
