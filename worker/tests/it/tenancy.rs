//! The database keeps tenants apart, also where a query forgets to.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use shared::db::{self, tenants};
use sqlx::PgConnection;

use crate::support::TestWorker;

/// Tables of no tenant; the service's own.
const OF_NOBODY: [&str; 6] = ["_sqlx_migrations", "queue_states", "rates", "schedule_ticks", "schedules", "tenants"];

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
