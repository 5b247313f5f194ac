//! The database keeps tenants apart, also where a query forgets to.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use shared::{
    db::{self, attendance, audit_log, invitees, participants, recordings, reminders, sightings, tenants},
    domain::{
        ids::{JobId, RecordingId, ReminderId, SessionId, TenantId},
        session::EndReason,
    },
    jobs::FinalizeSession,
    queue::control,
};
use sqlx::PgConnection;

use crate::support::TestWorker;

/// Tables of no tenant; the service's own.
const OF_NOBODY: [&str; 7] =
    ["_sqlx_migrations", "api_pauses", "queue_states", "rates", "schedule_ticks", "schedules", "tenants"];

async fn names(connection: &mut PgConnection, sql: &'static str) -> BTreeSet<String> {
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn every_table_of_tenants_is_closed_to_other_tenants() {
    let worker = TestWorker::new().await;
    let mut connection = worker.db().acquire().await.unwrap();
    let all = names(&mut connection, "select tablename::text from pg_tables where schemaname = current_schema()").await;
    let closed = names(
        &mut connection,
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' \
         where c.relnamespace = current_schema()::regnamespace and c.relrowsecurity \
         and (select array_agg(polname::text order by polname) from pg_policy where polrelid = c.oid) \
             @> array['every_tenant', 'own_tenant']",
    )
    .await;
    let open: Vec<_> = all.difference(&closed).map(String::as_str).collect();
    assert_eq!(open, OF_NOBODY, "these tables have no policies, or no tenant_id");
    let reachable = names(
        &mut connection,
        "select relname::text from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'r' \
         and has_table_privilege('live_sessions_tenant', oid, 'select')",
    )
    .await;
    let nobodys: Vec<_> = reachable.difference(&closed).map(String::as_str).collect();
    assert_eq!(nobodys, ["tenants"], "tables of nobody that a tenant can read");
}

#[tokio::test]
async fn the_services_own_nothing_and_cannot_lift_the_policies() {
    let worker = TestWorker::new().await;
    for statement in [
        "alter table sessions disable row level security",
        "drop policy own_tenant on sessions",
        "truncate sessions",
        "alter role live_sessions_tenant bypassrls",
    ] {
        let refused = sqlx::query(statement).execute(worker.db()).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{statement}");
    }
}

#[tokio::test]
async fn a_tenant_finds_changes_and_writes_nothing_of_another() {
    let worker = TestWorker::new().await;
    let (own, other) = (worker.tenant, tenants::insert(worker.db(), "baska", "Başka Okul").await.unwrap());
    let session = worker.session(TimeDelta::hours(1)).await;

    for (tenant, seen) in [(own, 1), (other, 0)] {
        let mut tx = worker.begin_for(tenant).await;
        let count: i64 = sqlx::query_scalar("select count(*) from sessions").fetch_one(&mut *tx).await.unwrap();
        assert_eq!(count, seen);
        let known = names(&mut tx, "select slug from tenants").await;
        assert_eq!(known.len(), 1, "its own: {known:?}");
        assert_eq!(db::sessions::find(&mut *tx, session).await.unwrap().is_some(), tenant == own);
        let changed = sqlx::query("update sessions set title = 'x'").execute(&mut *tx).await.unwrap().rows_affected();
        assert_eq!(changed, seen as u64);
        let deleted = sqlx::query("delete from sessions").execute(&mut *tx).await.unwrap().rows_affected();
        assert_eq!(deleted, seen as u64);
        tx.rollback().await.unwrap();
    }
    let mut tx = worker.begin_for(other).await;
    let forged = "insert into attendance (session_id, tenant_id, person_id, name) values ($1, $2, 'p', 'P')";
    let refused = sqlx::query(forged).bind(session).bind(own).execute(&mut *tx).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
}

#[tokio::test]
async fn a_transaction_that_names_no_tenant_sees_none_and_the_next_one_on_its_connection_sees_all() {
    let worker = TestWorker::new().await;
    worker.session(TimeDelta::hours(1)).await;
    let mut connection = worker.db().acquire().await.unwrap();
    let count = "select count(*) from sessions";
    for (scope, seen) in [("set local role live_sessions_tenant", 0_i64), ("select 1", 1)] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("begin; {scope}"))).execute(&mut *connection).await.unwrap();
        let found: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.unwrap();
        assert_eq!(found, seen, "{scope}");
        sqlx::raw_sql("rollback").execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_may_go_from_one_tenant_to_the_next() {
    let worker = TestWorker::new().await;
    let other = tenants::insert(worker.db(), "baska", "Başka Okul").await.unwrap();
    let session = worker.session(TimeDelta::hours(1)).await;
    let mut tx = worker.begin().await;
    for (tenant, seen) in [(other, false), (worker.tenant, true)] {
        tx.see(Some(tenant)).await.unwrap();
        assert_eq!(db::sessions::find(&mut *tx, session).await.unwrap().is_some(), seen);
        tx.see(None).await.unwrap();
        assert!(db::sessions::find(&mut *tx, session).await.unwrap().is_some());
    }
}

/// What each query finds, or changes, of the things of one session when it is asked by their ids alone.
async fn found(worker: &TestWorker, tenant: TenantId, things: &Things) -> Vec<(&'static str, u64)> {
    let mut all = Vec::new();
    // Each in a transaction of its own, which is not committed: what one changes does not hide from the next.
    macro_rules! ask {
        ($name:literal, |$tx:ident| $query:expr) => {{
            let mut $tx = worker.begin_for(tenant).await;
            let count: u64 = $query;
            all.push(($name, count));
            $tx.rollback().await.unwrap();
        }};
    }
    let Things { session, recording, reminder, .. } = *things;
    let (now, who) = (worker.now(), things.who());
    ask!("sessions::find", |tx| db::sessions::find(&mut *tx, session).await.unwrap().iter().len() as u64);
    ask!("sessions::find_in", |tx| {
        db::sessions::find_in(&mut *tx, worker.tenant, session, "somebody").await.unwrap().iter().len() as u64
    });
    ask!("sessions::lock_in", |tx| {
        db::sessions::lock_in(&mut *tx, worker.tenant, session, "somebody").await.unwrap().iter().len() as u64
    });
    ask!("sessions::find_by_room", |tx| {
        let room = format!("oda-{}", session.0.simple());
        db::sessions::find_by_room(&mut *tx, &room).await.unwrap().iter().len() as u64
    });
    ask!("sessions::count_live", |tx| db::sessions::count_live(&mut *tx).await.unwrap() as u64);
    ask!("sessions::end", |tx| {
        db::sessions::end(&mut *tx, session, EndReason::Host, None).await.unwrap().iter().len() as u64
    });
    ask!("invitees::find", |tx| invitees::find(&mut *tx, session, "ali").await.unwrap().iter().len() as u64);
    ask!("invitees::list", |tx| invitees::list(&mut *tx, session).await.unwrap().len() as u64);
    ask!("invitees::page", |tx| invitees::page(&mut *tx, session, None, true, 10).await.unwrap().len() as u64);
    ask!("participants::page", |tx| {
        participants::page(&mut *tx, session, false, None, true, 10).await.unwrap().len() as u64
    });
    ask!("participants::names", |tx| participants::names(&mut *tx, session).await.unwrap().len() as u64);
    ask!("participants::beat", |tx| u64::from(participants::beat(&mut *tx, &who).await.unwrap()));
    ask!("participants::leave", |tx| participants::leave(&mut *tx, &who).await.unwrap());
    ask!("participants::count_live", |tx| participants::count_live(&mut *tx).await.unwrap() as u64);
    ask!("attendance::load", |tx| attendance::load(&mut tx, session).await.unwrap().len() as u64);
    ask!("sightings::load", |tx| sightings::load(&mut *tx, session).await.unwrap().len() as u64);
    ask!("recordings::find", |tx| recordings::find(&mut *tx, recording).await.unwrap().iter().len() as u64);
    ask!("recordings::page", |tx| recordings::page(&mut *tx, session, true, None, true, 10).await.unwrap().len()
        as u64);
    ask!("recordings::list_without_import", |tx| {
        recordings::list_without_import(&mut *tx, 10).await.unwrap().len() as u64
    });
    ask!("reminders::find_due_mail", |tx| {
        reminders::find_due_mail(&mut *tx, reminder, now).await.unwrap().iter().len() as u64
    });
    ask!("reminders::enqueue_due", |tx| {
        sqlx::query("update reminders set state = 'pending'").execute(&mut *tx).await.unwrap();
        reminders::enqueue_due(&mut tx, 10).await.unwrap() as u64
    });
    ask!("audit_log::page", |tx| {
        let all = audit_log::Filter::default();
        audit_log::page(&mut *tx, Some(worker.tenant), &all, None, false, 10).await.unwrap().len() as u64
    });
    ask!("control::find", |tx| { control::find(&mut *tx, things.job).await.unwrap().iter().len() as u64 });
    all
}

/// Of one session of the worker's tenant.
struct Things {
    tenant: TenantId,
    session: SessionId,
    recording: RecordingId,
    reminder: ReminderId,
    job: JobId,
}

impl Things {
    fn who(&self) -> participants::Presence<'static> {
        let (tenant, session) = (self.tenant, self.session);
        participants::Presence { tenant, session, person: "ali", connection: None, timeout_s: 90 }
    }
}

#[tokio::test]
async fn no_query_finds_what_belongs_to_another_tenant_though_it_knows_the_id() {
    let worker = TestWorker::new().await;
    let other = tenants::insert(worker.db(), "baska", "Başka Okul").await.unwrap();
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    worker.invite(session, "ali", &[]).await;
    let seen = worker.now() - TimeDelta::seconds(5);
    worker.heartbeats(session, "ali", (seen, seen), false).await;
    for (table, columns, values) in [
        (
            "attendance",
            "person_id, name, invited, present_seconds, percent, status, intervals",
            "'ali', 'Ali', true, 60, 5, 'partial', '[]'",
        ),
        ("sightings", "person_id, connection_key, source, kind, at", "'ali', 'c', 'webhook', 'joined', now()"),
    ] {
        let insert = format!("insert into {table} (session_id, tenant_id, {columns}) values ($1, $2, {values})");
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(session).bind(worker.tenant);
        insert.execute(worker.db()).await.unwrap();
    }
    let things = Things {
        tenant: worker.tenant,
        session,
        recording: worker.recording(session, "https://host.test/a").await,
        reminder: worker.mail(session, "ali", "reminder", 15).await,
        job: worker.enqueue(&FinalizeSession { session_id: session }).await,
    };
    for (query, count) in found(&worker, worker.tenant, &things).await {
        assert!(count > 0, "{query} finds the tenant's own");
    }
    for (query, count) in found(&worker, other, &things).await {
        assert_eq!(count, 0, "{query} finds what is another tenant's");
    }
}

#[tokio::test]
async fn a_tenant_s_job_needs_no_right_of_the_role_that_sees_all_tenants() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(60)).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = ends_at").await;
    worker.invite(session, "ali", &[]).await;
    let owner = worker.owner().await;
    for table in ["sessions", "invitees", "participants", "attendance", "sightings"] {
        let revoke = format!("revoke all on {table} from live_sessions_service");
        sqlx::query(sqlx::AssertSqlSafe(revoke)).execute(&owner).await.unwrap();
    }
    let job = worker.run(&FinalizeSession { session_id: session }).await;
    assert_eq!(job.state, "done", "{}", job.error());
    let rows: i64 = sqlx::query_scalar("select count(*) from attendance").fetch_one(&owner).await.unwrap();
    assert_eq!(rows, 1);
}
