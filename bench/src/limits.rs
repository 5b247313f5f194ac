//! What the bare servers can do on this machine, driven from this process: no queue can be faster.

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use crate::{meter::Meter, rig::Rig};

/// A bare operation.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Limit {
    pub what: &'static str,
    pub per_second: f64,
    /// CPU of the server, in microseconds per operation.
    pub server_cpu: f64,
    pub noise: f64,
}

/// All of them; `scale` 1.0 takes about 15 s.
pub async fn all(rig: &Rig, scale: f64) -> anyhow::Result<Vec<Limit>> {
    rig.clear().await?;
    let count = |n: f64| ((n * scale) as usize).max(100);
    let mut limits = redis_limits(rig, count(5_000.0), count(100_000.0)).await?;
    limits.extend(postgres_limits(rig, count(1_000.0), count(100_000.0)).await?);
    rig.clear().await?;
    Ok(limits)
}

async fn redis_limits(rig: &Rig, single: usize, piped: usize) -> anyhow::Result<Vec<Limit>> {
    let mut connection = rig.redis_connection().await?;
    let value = "x".repeat(200);
    let one = measure("Redis: LPUSH, then BRPOP, one by one", ("redis", rig.redis_pid()), single, async || {
        for _ in 0..single {
            let _: i64 = redis::cmd("LPUSH").arg("list").arg(&value).query_async(&mut connection).await?;
            let _: (String, String) = redis::cmd("BRPOP").arg("list").arg(1).query_async(&mut connection).await?;
        }
        Ok(())
    })
    .await?;
    let mut connection = rig.redis_connection().await?;
    let many = measure("Redis: LPUSH, then RPOP, 100 per round trip", ("redis", rig.redis_pid()), piped, async || {
        for _ in 0..piped / 100 {
            pipe(&mut connection, "LPUSH", Some(&value)).await?;
            pipe(&mut connection, "RPOP", None).await?;
        }
        Ok(())
    })
    .await?;
    Ok(vec![one, many])
}

async fn pipe(connection: &mut MultiplexedConnection, command: &str, value: Option<&str>) -> anyhow::Result<()> {
    let mut pipe = redis::pipe();
    for _ in 0..100 {
        let command = pipe.cmd(command).arg("list");
        if let Some(value) = value {
            command.arg(value);
        }
        command.ignore();
    }
    pipe.query_async::<()>(connection).await?;
    Ok(())
}

async fn postgres_limits(rig: &Rig, single: usize, bulk: usize) -> anyhow::Result<Vec<Limit>> {
    let pool = &rig.owner;
    sqlx::raw_sql("drop table if exists bare; create table bare (id uuid primary key, payload jsonb, state int) with (fillfactor = 80)")
        .execute(pool)
        .await?;
    let postgres = ("postgres", rig.postgres_pid());
    let insert = |id: Uuid| sqlx::query("insert into bare values ($1, '{\"note\": \"\"}', 0)").bind(id).execute(pool);
    let one = measure("Postgres: insert and commit, one by one", postgres, single, async || {
        for _ in 0..single {
            insert(Uuid::now_v7()).await?;
        }
        Ok(())
    })
    .await?;
    let sixteen = measure("Postgres: insert and commit, 16 at once", postgres, single * 4, async || {
        let tasks = (0..16).map(|_| async {
            for _ in 0..single * 4 / 16 {
                insert(Uuid::now_v7()).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(tasks).await?;
        Ok(())
    })
    .await?;
    let ids: Vec<Uuid> = (0..bulk).map(|_| Uuid::now_v7()).collect();
    let many = measure("Postgres: insert, 1,000 per commit", postgres, bulk, async || {
        for chunk in ids.chunks(1_000) {
            sqlx::query("insert into bare select id, '{\"note\": \"\"}', 0 from unnest($1::uuid[]) as t (id)")
                .bind(chunk)
                .execute(pool)
                .await?;
        }
        Ok(())
    })
    .await?;
    let update = measure("Postgres: update by key, 100 per commit, twice", postgres, bulk, async || {
        for chunk in ids.chunks(100) {
            for _ in 0..2 {
                sqlx::query("update bare set state = state + 1 where id = any($1)").bind(chunk).execute(pool).await?;
            }
        }
        Ok(())
    })
    .await?;
    sqlx::raw_sql("drop table bare").execute(pool).await?;
    Ok(vec![one, sixteen, many, update])
}

async fn measure(
    what: &'static str,
    server: (&'static str, u32),
    operations: usize,
    work: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Limit> {
    let meter = Meter::start(vec![server]);
    work().await.with_context(|| what.to_owned())?;
    let used = meter.stop();
    let operations = operations as f64;
    Ok(Limit {
        what,
        per_second: operations / used.seconds,
        server_cpu: used.total() * 1e6 / operations,
        noise: used.noise,
    })
}
