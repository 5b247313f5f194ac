//! What was measured, as JSON for programs and as Markdown tables for people.

use std::path::Path;

use anyhow::Context;

use crate::{
    chart,
    figures::{Spread, number},
    history::History,
    limits::Limit,
    ours::{Batch, Idle},
    plans::Plan,
};

const BEGIN: &str = "<!-- measured: written by the bench -->";
const END: &str = "<!-- end of measured -->";

/// One system's figures; a quantity that was not measured has no runs.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct System {
    pub name: String,
    pub versions: String,
    pub jobs: usize,
    pub push_per_second: Spread,
    pub push_cpu: Spread,
    pub push16_per_second: Spread,
    pub bulk_per_second: Spread,
    pub bulk_cpu: Spread,
    pub drain_per_second: Spread,
    /// All processes, µs per job.
    pub drain_cpu: Spread,
    pub drain_worker_cpu: Spread,
    pub drain_redis_cpu: Spread,
    pub drain_postgres_cpu: Spread,
    pub worker_mib: Spread,
    /// Cores that others kept busy during the drains.
    pub noise: Spread,
    pub sleep_per_second: Spread,
    pub sleep_cpu: Spread,
    /// From the call to enqueue until the job starts.
    pub pick_up_p50: Spread,
    pub pick_up_p99: Spread,
}

impl System {
    /// Fills the columns of the drain.
    pub fn drained(&mut self, runs: &[Batch]) {
        let of = |f: &dyn Fn(&Batch) -> f64| Spread::of(&runs.iter().map(f).collect::<Vec<_>>());
        self.drain_per_second = of(&Batch::per_second);
        self.drain_cpu = of(&Batch::cpu_per_job);
        self.drain_worker_cpu = of(&|b| b.role_per_job("worker") + b.role_per_job("scheduler"));
        self.drain_redis_cpu = of(&|b| b.role_per_job("redis"));
        self.drain_postgres_cpu = of(&|b| b.role_per_job("postgres"));
        self.worker_mib = of(&|b| b.worker_memory as f64 / f64::from(1 << 20));
        self.noise = of(&|b| b.used.noise);
    }
}

/// A backlog and what its drain took, beside a small one.
#[derive(Debug, serde::Serialize)]
pub struct Backlog {
    pub small: Batch,
    pub large: Batch,
    pub plans: Vec<Plan>,
}

/// What only our engine is asked for.
#[derive(Debug, Default, serde::Serialize)]
pub struct Own {
    /// p50 and p99 in milliseconds, as [`crate::latency::Latencies`].
    pub commit_to_claim: [Spread; 2],
    pub commit_to_start: [Spread; 2],
    pub commit_to_done: [Spread; 2],
    /// Delayed jobs start so long after their time, in milliseconds.
    pub late_p50_p99_max: [f64; 3],
    pub idle: Option<Idle>,
    pub backlog: Option<Backlog>,
    pub history: Option<History>,
}

#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    pub date: String,
    pub command: String,
    pub machine: String,
    pub servers: String,
    pub systems: Vec<System>,
    pub own: Own,
    pub limits: Vec<Limit>,
    pub skipped: Vec<String>,
}

impl Report {
    /// Writes `BENCHMARKS.md` (between its marks, where it is there already), and `benchmarks/latest.json` and
    /// `benchmarks/drain.svg` beside it.
    pub fn write(&self, docs: &Path) -> anyhow::Result<()> {
        let folder = docs.join("benchmarks");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("latest.json"), serde_json::to_string_pretty(self)? + "\n")?;
        let bars: Vec<(String, f64)> = self.systems.iter().map(|s| (s.name.clone(), s.drain_cpu.median)).collect();
        std::fs::write(
            folder.join("drain.svg"),
            chart::bars("CPU per no-op job, all processes (µs, less is better)", &bars),
        )?;
        let document = docs.join("BENCHMARKS.md");
        let old = std::fs::read_to_string(&document).unwrap_or_else(|_| format!("# Benchmarks\n\n{BEGIN}\n{END}\n"));
        std::fs::write(&document, replace_between(&old, (BEGIN, END), &self.markdown())?)?;
        Ok(())
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}. `{}`\n\n{}. {}.\n\nCells are median (min-max) over the runs; CPU counts every process that works for it.\n",
            self.date, self.command, self.machine, self.servers
        );
        for system in &self.systems {
            text += &format!("- {}: {}\n", system.name, system.versions);
        }
        for line in &self.skipped {
            text += &format!("- left out: {line}\n");
        }
        text += &self.table("Push", PUSH);
        text += &self.table("Drain of no-op jobs", DRAIN);
        text += &self.table("Jobs of 10 ms, and pick-up at 20 jobs/s on an idle worker", LIGHT);
        text += &self.own_tables();
        text += "\n### What the bare servers do\n\n| operation | per second | server CPU µs | others' cores |\n|---|---|---|---|\n";
        for limit in &self.limits {
            let row = [limit.per_second, limit.server_cpu, limit.noise].map(number).join(" | ");
            text += &format!("| {} | {row} |\n", limit.what);
        }
        text
    }

    fn table(&self, title: &str, columns: &[Column]) -> String {
        let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        let mut text =
            format!("\n### {title}\n\n| system | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
        for system in &self.systems {
            let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(system)).collect();
            text += &format!("| {} | {} |\n", system.name, cells.join(" | "));
        }
        text
    }

    fn own_tables(&self) -> String {
        let own = &self.own;
        let mut text = String::from("\n### Ours alone\n\n| what | measured |\n|---|---|\n");
        let mut row = |what: &str, value: String| text += &format!("| {what} | {value} |\n");
        row("enqueue committed to being claimed, p50 / p99 ms", pair(&own.commit_to_claim));
        row("enqueue committed to job started, claim committed, p50 / p99 ms", pair(&own.commit_to_start));
        row("enqueue committed to outcome committed, p50 / p99 ms", pair(&own.commit_to_done));
        row(
            "delayed jobs: started after their time by, p50 / p99 / max ms",
            own.late_p50_p99_max.map(number).join(" / "),
        );
        if let Some(idle) = &own.idle {
            let share = |role: &str| format!("{:.2} %", idle.used.of(role) / idle.used.seconds * 100.0);
            let mib = |bytes: u64| format!("{} MiB", number(bytes as f64 / f64::from(1 << 20)));
            row("idle worker: CPU of a core, memory", format!("{}, {}", share("worker"), mib(idle.worker_memory)));
            row("idle scheduler", format!("{}, {}", share("scheduler"), mib(idle.scheduler_memory)));
            row("Redis / Postgres meanwhile", format!("{} / {}", share("redis"), share("postgres")));
        }
        if let Some(backlog) = &own.backlog {
            for batch in [&backlog.small, &backlog.large] {
                row(
                    &format!("backlog of {}: jobs/s, CPU µs per job, Redis peak", number(batch.jobs as f64)),
                    format!(
                        "{}, {}, {} MiB",
                        number(batch.per_second()),
                        number(batch.cpu_per_job()),
                        number(batch.redis_memory as f64 / f64::from(1 << 20))
                    ),
                );
            }
            let ratio = backlog.large.cpu_per_job() / backlog.small.cpu_per_job();
            row("CPU per job, large against small", format!("{ratio:.2} ×"));
            for (what, value) in backlog.plans.iter().map(|plan| plan.line("at that backlog")) {
                row(&what, value);
            }
        }
        for (what, value) in own.history.iter().flat_map(History::lines) {
            row(&what, value);
        }
        text
    }
}

fn pair([p50, p99]: &[Spread; 2]) -> String {
    format!("{} / {}", p50.text(), p99.text())
}

type Column = (&'static str, fn(&System) -> String);

const PUSH: &[Column] = &[
    ("one by one /s", |s| s.push_per_second.text()),
    ("pusher's CPU µs/job", |s| s.push_cpu.text()),
    ("16 at once /s", |s| s.push16_per_second.text()),
    ("bulk /s", |s| s.bulk_per_second.text()),
    ("pusher's CPU µs/job", |s| s.bulk_cpu.text()),
];

const DRAIN: &[Column] = &[
    ("jobs", |s| number(s.jobs as f64)),
    ("jobs/s", |s| s.drain_per_second.text()),
    ("CPU µs/job, all", |s| s.drain_cpu.text()),
    ("worker", |s| s.drain_worker_cpu.text()),
    ("Redis", |s| s.drain_redis_cpu.text()),
    ("Postgres", |s| s.drain_postgres_cpu.text()),
    ("worker peak MiB", |s| s.worker_mib.text()),
    ("others' cores", |s| s.noise.text()),
];

const LIGHT: &[Column] = &[
    ("10 ms jobs/s", |s| s.sleep_per_second.text()),
    ("CPU µs/job, all", |s| s.sleep_cpu.text()),
    ("call to start p50 ms", |s| s.pick_up_p50.text()),
    ("p99 ms", |s| s.pick_up_p99.text()),
];

/// What stands around the marks is written by hand and stays.
pub fn replace_between(document: &str, (begin, end): (&str, &str), measured: &str) -> anyhow::Result<String> {
    let (before, rest) = document.split_once(begin).context("the document has lost its begin mark")?;
    let (_, after) = rest.split_once(end).context("the document has lost its end mark")?;
    Ok(format!("{before}{begin}\n{measured}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_part_is_replaced() {
        let old = format!("# A\n\nby hand\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let new = replace_between(&old, (BEGIN, END), "new\n").unwrap();
        assert_eq!(new, format!("# A\n\nby hand\n\n{BEGIN}\nnew\n{END}\n\nmore\n"));
        assert!(replace_between("# A\n", (BEGIN, END), "new").is_err());
    }

    #[test]
    fn every_row_has_a_cell_per_column() {
        let report =
            Report { systems: vec![System { name: "a".to_owned(), ..System::default() }], ..Report::default() };
        for table in report.markdown().split("\n\n").filter(|part| part.starts_with('|')) {
            let cells: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(cells.windows(2).all(|w| w[0] == w[1]), "{table}");
        }
    }
}
