//! The plans that Postgres makes for the ledger's own statements while the backlog is there. The statements are
//! not repeated here: they are called, and then explained under the name by which the driver prepared them.

use anyhow::{Context, ensure};
use serde_json::Value;
use shared::{
    config::DatabaseConfig,
    db,
    jobs::{Job, Noop},
    queue::{ledger, redis::SLICE},
};
use sqlx::{Connection, PgConnection, postgres::PgRow};

use crate::{figures::number, rig::Rig};

/// One statement under load.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Plan {
    pub statement: &'static str,
    pub milliseconds: f64,
    /// Pages of 8 KiB that were touched.
    pub pages: u64,
    /// Its nodes on the table `jobs`, e.g. `Index Scan on jobs_available_idx`.
    pub nodes: Vec<String>,
}

impl Plan {
    /// A row of the report.
    pub fn line(&self, when: &str) -> (String, String) {
        let nodes = self.nodes.join(", ");
        let took = format!("{} ms, {} pages: {nodes}", number(self.milliseconds), self.pages);
        (format!("{} {when}", self.statement), took)
    }
}

/// Plans of `due_head`, `claim` and `complete` for what is in the ledger now. Nothing is changed.
///
/// # Errors
/// Also when one of them reads the whole table, or all running jobs.
pub async fn explain(rig: &Rig) -> anyhow::Result<Vec<Plan>> {
    // One connection: prepared statements belong to it.
    let config = DatabaseConfig { database_url: rig.postgres.url("bench"), database_pool: 1 };
    let pool = db::connect(&config, "bench-plans").await?;
    let head = ledger::due_head(&pool, Noop::QUEUE, SLICE as i64).await?;
    // No ids: this prepares the statements and changes nothing.
    ledger::claim(&pool, &[], &[Noop::NAME], "bench", std::time::Duration::from_secs(10)).await?;
    ledger::complete(&pool, &[]).await?;
    let ids: Vec<String> = head.iter().take(100).map(|entry| format!("\"{}\"", entry.id)).collect();
    let tokens = vec!["1"; ids.len()].join(",");
    let ids = ids.join(",");
    let mut connection = pool.acquire().await?;
    let mut tx = connection.begin().await?;
    let plans = vec![
        explain_one(&mut tx, "due_head", "lateral", &format!("'{}', {SLICE}", Noop::QUEUE)).await?,
        explain_one(&mut tx, "claim of 100", "lease_token + 1", &format!("'{{{ids}}}', '{{noop}}', 10, 'bench'"))
            .await?,
        explain_one(&mut tx, "complete of 100", "set state = 'done'", &format!("'{{{ids}}}', '{{{tokens}}}'")).await?,
    ];
    tx.rollback().await?;
    drop(connection);
    pool.close().await;
    for plan in &plans {
        let bad = plan.nodes.iter().any(|node| node.contains("Seq Scan") || node.contains("jobs_running_idx"));
        ensure!(!bad, "{} does not go by the ids: {:?}", plan.statement, plan.nodes);
    }
    Ok(plans)
}

async fn explain_one(
    connection: &mut PgConnection,
    statement: &'static str,
    part: &str,
    arguments: &str,
) -> anyhow::Result<Plan> {
    let name: String = sqlx::query_scalar(
        "select name from pg_prepared_statements where position($1 in statement) > 0 and name like 'sqlx%' \
         order by prepare_time limit 1",
    )
    .bind(part)
    .fetch_optional(&mut *connection)
    .await?
    .with_context(|| format!("{statement} was not prepared"))?;
    let explain = format!("explain (analyze, buffers, format json) execute {name} ({arguments})");
    let rows: Vec<PgRow> = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *connection).await?;
    let row = rows.first().context("no plan")?;
    let plan: Value = sqlx::Row::try_get(row, 0)?;
    let top = &plan[0]["Plan"];
    let mut nodes = Vec::new();
    collect(top, &mut nodes);
    let pages = ["Shared Hit Blocks", "Shared Read Blocks"].iter().filter_map(|key| top[*key].as_u64()).sum();
    Ok(Plan { statement, milliseconds: plan[0]["Execution Time"].as_f64().unwrap_or(f64::NAN), pages, nodes })
}

fn collect(node: &Value, nodes: &mut Vec<String>) {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    if text("Node Type").contains("Scan") && (text("Relation Name") == "jobs" || !text("Index Name").is_empty()) {
        let on = if text("Index Name").is_empty() { text("Relation Name") } else { text("Index Name") };
        nodes.push(format!("{} on {on}", text("Node Type")));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, nodes);
    }
}
