//! A database that is in use is brought up to date.

use sandbox::testing::{servers, unique_prefix};
use shared::db::{self, MIGRATOR};
use sqlx::{Connection as _, PgConnection};

/// The newest migration of the version before tenants were kept apart by roles.
const BEFORE_ROLES: i64 = 20_261_124_000_001;

#[tokio::test]
async fn what_an_older_version_left_is_still_there_and_belongs_to_its_tenant() {
    let postgres = &servers().await.postgres;
    let name = unique_prefix();
    postgres.create_database(&name).await.unwrap();
    let mut old = PgConnection::connect(&postgres.url(&name)).await.unwrap();
    MIGRATOR.run_to(BEFORE_ROLES, &mut old).await.unwrap();
    sqlx::raw_sql(
        "insert into tenants (id, slug, name) values ('00000000-0000-7000-8000-000000000001', 'okul', 'Okul'); \
         insert into sessions (id, tenant_id, kind, title, host_id, provider, room, starts_at, ends_at, timezone, created_by) \
         values ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'scheduled', 'Cebir', 'host', \
             'jitsi', 'oda', now(), now() + interval '1 hour', 'UTC', 'host'); \
         insert into jobs (id, queue, kind, payload, max_attempts) values \
             (gen_random_uuid(), 'live', 'finalize-session', '{\"session_id\": \"00000000-0000-7000-8000-000000000002\"}', 10), \
             (gen_random_uuid(), 'default', 'cleanup', '{}', 10);",
    )
    .execute(&mut old)
    .await
    .unwrap();

    let config = shared::config::DatabaseConfig { database_url: postgres.url(&name), database_pool: 2 };
    // Several processes start at once, and one more later.
    let (one, other) = tokio::join!(db::migrate(&config), db::migrate(&config));
    one.and(other).unwrap();
    db::migrate(&config).await.unwrap();
    let pool = db::connect(&config, "test").await.unwrap();
    let jobs: Vec<(String, Option<String>)> =
        sqlx::query_as("select kind, (select slug from tenants t where t.id = tenant_id) from jobs order by kind")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(jobs, [("cleanup".to_owned(), None), ("finalize-session".to_owned(), Some("okul".to_owned()))]);

    // The older version is still running, as the user of the address.
    let made = sqlx::query("update sessions set title = 'Geometri', version = version + 1").execute(&mut old).await;
    assert_eq!(made.unwrap().rows_affected(), 1);
    let (actor, action): (String, String) =
        sqlx::query_as("select actor, action from audit_log").fetch_one(&pool).await.unwrap();
    assert!(actor.starts_with("sql:") && action == "session.changed", "{actor} {action}");
}
