//! The whole programme, with a line per step.

use shared::clock::Clock;

use crate::{
    Arguments, Part,
    figures::{Spread, number, percentile},
    history,
    latency::{self, Latencies},
    limits,
    ours::{self, Batch},
    peers::Installed,
    plans,
    report::{Backlog, Own, Report, System},
    rig::Rig,
};

/// Jobs per second while latency is measured.
const LIGHT_LOAD: u32 = 20;
/// Jobs whose time comes while they are watched.
const DELAYED: u32 = 500;
const SMALL_BACKLOG: usize = 10_000;

/// Everything that `arguments` ask for.
pub async fn all(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report {
        date: Clock::System.now().format("%Y-%m-%d").to_string(),
        command: command_line(),
        ..Report::default()
    };
    std::fs::create_dir_all(&arguments.dir)?;
    let dir = arguments.dir.canonicalize()?;
    let mut peers = Vec::new();
    for &peer in &arguments.peers.0 {
        match peer.install(&dir) {
            Ok(versions) => peers.push(Installed { peer, versions, dir: dir.clone() }),
            Err(error) => {
                let line = format!("{}: {error:#}", peer.name());
                println!("  LEFT OUT {line}");
                report.skipped.push(line);
            }
        }
    }
    println!("Starting Postgres and Redis …");
    let rig = Rig::start(&dir, arguments.concurrency).await?;
    if arguments.wants(Part::Limits) {
        report.limits = limits::all(&rig, if arguments.quick { 0.2 } else { 1.0 }).await?;
        for limit in &report.limits {
            println!("  {}: {}/s", limit.what, number(limit.per_second));
        }
    }
    let (system, own) = ours(arguments, &rig).await?;
    report.systems.push(system);
    report.own = own;
    for peer in &peers {
        match beside(arguments, &rig, peer).await {
            Ok(system) => report.systems.push(system),
            Err(error) => {
                let line = format!("{}: {error:#}", peer.peer.name());
                println!("  BROKEN OFF {line}");
                report.skipped.push(line);
            }
        }
    }
    rig.redis.stop().await;
    rig.postgres.stop().await;
    Ok(report)
}

async fn ours(arguments: &Arguments, rig: &Rig) -> anyhow::Result<(System, Own)> {
    let jobs = arguments.jobs();
    println!("ours");
    let mut system = System {
        name: "ours".to_owned(),
        versions: format!("{}, concurrency {}, durable in Postgres", env!("CARGO_PKG_VERSION"), rig.concurrency),
        jobs,
        ..System::default()
    };
    let mut own = Own::default();
    if arguments.wants(Part::Push) {
        let one = repeat(arguments, "push, one by one", || ours::push_single(rig, jobs / 20, 1)).await?;
        let sixteen = repeat(arguments, "push, 16 at once", || ours::push_single(rig, jobs / 10, 16)).await?;
        let bulk = repeat(arguments, "push in bulk", || ours::push_bulk(rig, jobs)).await?;
        pushed(&mut system, &one, &sixteen, &bulk);
    }
    let nothing = async || Ok(());
    if arguments.wants(Part::Drain) {
        system.drained(&repeat(arguments, "drain", || ours::drain(rig, jobs, 0, nothing)).await?);
    }
    if arguments.wants(Part::Sleep) {
        let runs = repeat(arguments, "10 ms jobs", || ours::drain(rig, jobs / 10, 10, nothing)).await?;
        slept(&mut system, &runs);
    }
    if arguments.wants(Part::Latency) {
        pick_up(arguments, rig, &mut system, &mut own).await?;
    }
    if arguments.wants(Part::Idle) {
        let idle = ours::idle(rig, arguments.watch()).await?;
        println!("  idle: {:.2} % of a core in the worker", idle.used.of("worker") / idle.used.seconds * 100.0);
        own.idle = Some(idle);
    }
    if arguments.wants(Part::Backlog) {
        own.backlog = Some(backlog(arguments, rig).await?);
    }
    if arguments.wants(Part::History) {
        println!("  a ledger with {} finished jobs …", number(arguments.history() as f64));
        let history = history::measure(rig, arguments.history(), SMALL_BACKLOG).await?;
        tell("drain, without a past", &history.without);
        tell("drain, with it", &history.with);
        own.history = Some(history);
    }
    Ok((system, own))
}

async fn pick_up(arguments: &Arguments, rig: &Rig, system: &mut System, own: &mut Own) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for _ in 0..arguments.runs() {
        let run = latency::measure(rig, LIGHT_LOAD, arguments.watch()).await?;
        let text = |values: &[f64]| format!("{:.2} / {:.2}", percentile(values, 50.0), percentile(values, 99.0));
        println!(
            "  committed to claimed {}, to started {}, to done {} ms (p50 / p99)",
            text(&run.commit_to_claim),
            text(&run.commit_to_start),
            text(&run.commit_to_done)
        );
        runs.push(run);
    }
    let of = |values: fn(&Latencies) -> &Vec<f64>| {
        let at = |p: f64| Spread::of(&runs.iter().map(|run| percentile(values(run), p)).collect::<Vec<_>>());
        [at(50.0), at(99.0)]
    };
    [system.pick_up_p50, system.pick_up_p99] = of(|run| &run.call_to_start);
    own.commit_to_claim = of(|run| &run.commit_to_claim);
    own.commit_to_start = of(|run| &run.commit_to_start);
    own.commit_to_done = of(|run| &run.commit_to_done);
    let late = latency::lateness(rig, DELAYED).await?;
    own.late_p50_p99_max = [50.0, 99.0, 100.0].map(|p| percentile(&late, p));
    println!("  delayed jobs: late by {:.0?} ms (p50, p99, max)", own.late_p50_p99_max);
    Ok(())
}

async fn backlog(arguments: &Arguments, rig: &Rig) -> anyhow::Result<Backlog> {
    let small = ours::drain(rig, SMALL_BACKLOG, 0, async || Ok(())).await?;
    tell("backlog, small", &small);
    let mut plans = Vec::new();
    let look = async || {
        plans = plans::explain(rig).await?;
        Ok(())
    };
    let large = ours::drain(rig, arguments.backlog(), 0, look).await?;
    tell("backlog, large", &large);
    Ok(Backlog { small, large, plans })
}

async fn beside(arguments: &Arguments, rig: &Rig, peer: &Installed) -> anyhow::Result<System> {
    let jobs = peer.peer.jobs(arguments.jobs());
    println!("{} ({})", peer.peer.name(), peer.versions);
    let mut system = System {
        name: peer.peer.name().to_owned(),
        versions: format!("{}; {}", peer.peer.setting(), peer.versions),
        jobs,
        ..System::default()
    };
    if arguments.wants(Part::Push) {
        let one = repeat(arguments, "push, one by one", || peer.push(rig, jobs / 10, Some(1))).await?;
        let sixteen = repeat(arguments, "push, 16 at once", || peer.push(rig, jobs / 10, Some(16))).await?;
        let bulk = repeat(arguments, "push in bulk", || peer.push(rig, jobs, None)).await?;
        pushed(&mut system, &one, &sixteen, &bulk);
    }
    if arguments.wants(Part::Drain) {
        system.drained(&repeat(arguments, "drain", || peer.drain(rig, jobs, 0)).await?);
    }
    if arguments.wants(Part::Sleep) {
        slept(&mut system, &repeat(arguments, "10 ms jobs", || peer.drain(rig, jobs / 10, 10)).await?);
    }
    if arguments.wants(Part::Latency) {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..arguments.runs() {
            let samples = peer.latency(rig, LIGHT_LOAD, arguments.watch()).await?;
            p50.push(percentile(&samples, 50.0));
            p99.push(percentile(&samples, 99.0));
        }
        (system.pick_up_p50, system.pick_up_p99) = (Spread::of(&p50), Spread::of(&p99));
        println!(
            "  pick-up: called to started {} / {} ms (p50 / p99)",
            system.pick_up_p50.text(),
            system.pick_up_p99.text()
        );
    }
    Ok(system)
}

async fn repeat<F>(arguments: &Arguments, what: &str, mut run: impl FnMut() -> F) -> anyhow::Result<Vec<Batch>>
where
    F: Future<Output = anyhow::Result<Batch>>,
{
    let mut batches = Vec::new();
    for _ in 0..arguments.runs() {
        let batch = run().await?;
        tell(what, &batch);
        batches.push(batch);
    }
    Ok(batches)
}

fn tell(what: &str, batch: &Batch) {
    let roles: Vec<String> =
        batch.used.cpu.iter().map(|(role, _)| format!("{role} {}", number(batch.role_per_job(role)))).collect();
    let commits = match batch.commits {
        0 => String::new(),
        n => format!(", {} jobs per commit", number(batch.jobs as f64 / n as f64)),
    };
    println!(
        "  {what}: {} jobs, {}/s, CPU µs per job: {}, bench {}{commits}; others {:.2} cores",
        number(batch.jobs as f64),
        number(batch.per_second()),
        roles.join(", "),
        number(batch.own_per_job()),
        batch.used.noise
    );
}

fn pushed(system: &mut System, one: &[Batch], sixteen: &[Batch], bulk: &[Batch]) {
    system.push_per_second = spread(one, Batch::per_second);
    system.push_cpu = spread(one, Batch::own_per_job);
    system.push16_per_second = spread(sixteen, Batch::per_second);
    system.bulk_per_second = spread(bulk, Batch::per_second);
    system.bulk_cpu = spread(bulk, Batch::own_per_job);
}

fn slept(system: &mut System, runs: &[Batch]) {
    system.sleep_per_second = spread(runs, Batch::per_second);
    system.sleep_cpu = spread(runs, Batch::cpu_per_job);
}

fn spread(runs: &[Batch], value: impl Fn(&Batch) -> f64) -> Spread {
    Spread::of(&runs.iter().map(value).collect::<Vec<_>>())
}

pub fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.is_empty() {
        true => "cargo run --release -p bench".to_owned(),
        false => format!("cargo run --release -p bench -- {}", arguments.join(" ")),
    }
}
