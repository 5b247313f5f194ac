//! The table of `bench api`.

use std::path::Path;

use super::Run;
use crate::{
    figures::{Spread, number, percentile},
    report::replace_between,
};

const BEGIN: &str = "<!-- api: written by the bench -->";
const END: &str = "<!-- end of api -->";

/// Every run of one operation at one system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    pub system: String,
    pub operation: String,
    pub figures: Measured,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Measured {
    pub per_second: Spread,
    /// In milliseconds.
    pub p50: Spread,
    pub p99: Spread,
    /// µs per request: of all processes, of the server's own, of Postgres.
    pub cpu: Spread,
    pub own_cpu: Spread,
    pub postgres_cpu: Spread,
    pub refused: usize,
    pub noise: Spread,
}

impl Row {
    pub fn of(system: &str, operation: &str, runs: &[Run]) -> Self {
        let of = |f: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(f).collect::<Vec<_>>());
        let figures = Measured {
            per_second: of(&|run| run.load.per_second()),
            p50: of(&|run| percentile(&run.load.latencies, 50.0)),
            p99: of(&|run| percentile(&run.load.latencies, 99.0)),
            cpu: of(&|run| run.cpu),
            own_cpu: of(&|run| run.own_cpu),
            postgres_cpu: of(&|run| run.postgres_cpu),
            refused: runs.iter().map(|run| run.load.refused).sum(),
            noise: of(&|run| run.noise),
        };
        Self { system: system.to_owned(), operation: operation.to_owned(), figures }
    }
}

#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    pub date: String,
    pub command: String,
    pub machine: String,
    pub servers: String,
    pub peer: String,
    /// Of all tenants; a tenth is the large one's.
    pub sessions: usize,
    pub rows: Vec<Row>,
    /// Seconds for 100,000 silent connections: ours, the bare statement.
    pub sweep: Option<[Spread; 2]>,
    /// Milliseconds for the report of 50,000 people, and the bytes by which memory grew meanwhile.
    pub many: Option<(f64, u64)>,
    pub skipped: Vec<String>,
}

impl Report {
    pub fn add(&mut self, system: &str, operation: &str, runs: Vec<Run>) {
        println!("  {system}: {operation}");
        self.rows.push(Row::of(system, operation, &runs));
    }

    /// Writes the part of `BENCHMARKS.md` between its marks, and `benchmarks/api.json`.
    pub fn write(&self, docs: &Path) -> anyhow::Result<()> {
        let folder = docs.join("benchmarks");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("api.json"), serde_json::to_string_pretty(self)? + "\n")?;
        let document = docs.join("BENCHMARKS.md");
        let old = std::fs::read_to_string(&document).unwrap_or_default();
        let old = if old.contains(BEGIN) { old } else { format!("{old}\n## The API\n\n{BEGIN}\n{END}\n") };
        std::fs::write(&document, replace_between(&old, (BEGIN, END), &self.markdown())?)?;
        Ok(())
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}. `{}`\n\n{}. {}. {}.\n\n64 connections (reports: 4); {} sessions in all, a tenth of them the large tenant's. Cells are \
             median (min-max) over the runs; CPU counts the server's processes, Postgres and Redis, not who asks.\n\n",
            self.date,
            self.command,
            self.machine,
            self.servers,
            if self.peer.is_empty() { "No peer" } else { &self.peer },
            number(self.sessions as f64)
        );
        for line in &self.skipped {
            text += &format!("- left out: {line}\n\n");
        }
        text += "| operation | system | requests/s | p50 ms | p99 ms | CPU µs, all | server | Postgres | refused | others' cores |\n";
        text += "|---|---|---|---|---|---|---|---|---|---|\n";
        let mut operations: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !operations.contains(&row.operation.as_str()) {
                operations.push(&row.operation);
            }
        }
        for operation in operations {
            for row in self.rows.iter().filter(|row| row.operation == operation) {
                let f = &row.figures;
                let cells =
                    [&f.per_second, &f.p50, &f.p99, &f.cpu, &f.own_cpu, &f.postgres_cpu].map(Spread::text).join(" | ");
                text += &format!("| {operation} | {} | {cells} | {} | {} |\n", row.system, f.refused, f.noise.text());
            }
        }
        text += "\n| what | measured |\n|---|---|\n";
        if let Some([ours, bare]) = &self.sweep {
            text += &format!("| closing 100,000 silent connections, s | {} |\n", ours.text());
            text += &format!("| the bare statement on as many rows, s | {} |\n", bare.text());
            text += &format!("| ours against it | {:.2} × |\n", ours.median / bare.median);
        }
        if let Some((ms, bytes)) = self.many {
            let mib = number(bytes as f64 / f64::from(1 << 20));
            text += &format!(
                "| report of 50,000 people (CSV): ms, and by how much the API's memory grew | {}, {mib} MiB |\n",
                number(ms)
            );
        }
        text
    }
}
