//! Puts the peers on this machine, each from its own registry, once: a Python environment and a Node folder below
//! the bench's directory, Debian's package for Ruby. What cannot be installed is left out of the run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

/// Celery 5 with its Redis client; the versions.
pub fn celery(dir: &Path) -> anyhow::Result<String> {
    let venv = dir.join("venv");
    let pip = venv.join("bin/pip");
    if !venv.join("bin/celery").is_file() {
        eprintln!("  installing Celery into {} …", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&pip).args(["install", "--quiet", "celery[redis]>=5,<6", "hiredis"]))?;
    }
    let list = run(Command::new(&pip).args(["list", "--format", "freeze"]))?;
    let version = |name: &str| {
        let prefix = format!("{name}==");
        list.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("?").to_owned()
    };
    let python = run(Command::new(venv.join("bin/python")).arg("--version"))?;
    Ok(format!(
        "Celery {}, kombu {}, redis-py {}, {}",
        version("celery"),
        version("kombu"),
        version("redis"),
        python.trim()
    ))
}

/// Django REST framework behind gunicorn; the versions.
pub fn django(dir: &Path) -> anyhow::Result<String> {
    let venv = dir.join("django");
    let pip = venv.join("bin/pip");
    if !venv.join("bin/gunicorn").is_file() {
        eprintln!("  installing Django into {} …", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let packages =
            ["django>=5.2,<6", "djangorestframework", "gunicorn", "psycopg[binary]", "pyjwt", "redis", "hiredis"];
        run(Command::new(&pip).args(["install", "--quiet"]).args(packages))?;
    }
    let list = run(Command::new(&pip).args(["list", "--format", "freeze"]))?.to_lowercase();
    let version = |name: &str| {
        let prefix = format!("{name}==");
        list.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("?").to_owned()
    };
    let python = run(Command::new(venv.join("bin/python")).arg("--version"))?;
    Ok(format!(
        "Django {}, REST framework {}, gunicorn {}, psycopg {}, {}",
        version("django"),
        version("djangorestframework"),
        version("gunicorn"),
        version("psycopg"),
        python.trim()
    ))
}

/// BullMQ with its Redis client; the versions.
pub fn bullmq(dir: &Path) -> anyhow::Result<String> {
    let node = dir.join("node");
    let modules = node.join("node_modules");
    if !modules.join("bullmq/package.json").is_file() {
        eprintln!("  installing BullMQ into {} …", node.display());
        std::fs::create_dir_all(&node)?;
        let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").arg("install").args(quiet).arg("--prefix").arg(&node).args(["bullmq", "ioredis"]))?;
    }
    let version = |name: &str| -> anyhow::Result<String> {
        let text = std::fs::read_to_string(modules.join(name).join("package.json"))?;
        let package: serde_json::Value = serde_json::from_str(&text)?;
        Ok(package["version"].as_str().unwrap_or("?").to_owned())
    };
    let runtime = run(Command::new("node").arg("--version"))?;
    Ok(format!("BullMQ {}, ioredis {}, Node {}", version("bullmq")?, version("ioredis")?, runtime.trim()))
}

/// Debian's Sidekiq; the versions.
pub fn sidekiq() -> anyhow::Result<String> {
    if run(Command::new("sidekiq").arg("--version")).is_err() {
        ensure!(rustix::process::geteuid().is_root(), "not installed; as root: apt-get install ruby-sidekiq");
        eprintln!("  installing Sidekiq with apt-get …");
        let install = || {
            let mut command = Command::new("apt-get");
            command.args(["install", "-y", "-q", "--no-install-recommends", "ruby-sidekiq"]);
            run(command.env("DEBIAN_FRONTEND", "noninteractive"))
        };
        if install().is_err() {
            run(Command::new("apt-get").args(["update", "-q"]))?;
            install()?;
        }
    }
    let version = run(Command::new("sidekiq").arg("--version"))?;
    let ruby = run(Command::new("ruby").args(["-e", "print RUBY_VERSION"]))?;
    Ok(format!("{}, Ruby {ruby}", version.trim()))
}

/// River for Rust, built on its own; the version.
pub fn river(dir: &Path) -> anyhow::Result<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/river/Cargo.toml");
    if !river_program(dir).is_file() {
        eprintln!("  building River's peer program …");
    }
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(&manifest);
    run(command.arg("--target-dir").arg(dir.join("river")))?;
    let lock = std::fs::read_to_string(manifest.with_file_name("Cargo.lock"))?;
    let version = lock.split_once("name = \"riverqueue\"\nversion = \"").and_then(|(_, rest)| rest.split('"').next());
    Ok(format!("riverqueue {}", version.unwrap_or("?")))
}

/// Where [`river`] puts the program.
pub fn river_program(dir: &Path) -> PathBuf {
    dir.join("river/release/river-peer")
}

/// Runs a short command; what it wrote, or its complaint.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = complaint.lines().rev().take(3).collect();
        bail!("{name} failed: {}", last.into_iter().rev().collect::<Vec<_>>().join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
