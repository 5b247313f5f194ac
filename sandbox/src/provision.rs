//! Finds the programs of the servers and installs what is missing, on Debian and Ubuntu as root; elsewhere it
//! says which command to type. It never touches a Postgres or Redis that is running already.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// The oldest Postgres that the migrations and queries are written for.
pub const OLDEST_POSTGRES: u32 = 14;
/// The oldest Redis: `BZMPOP` came with 7.0.
pub const OLDEST_REDIS: u32 = 7;

/// A server program that the sandbox starts as a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `initdb` and `postgres`, version 14 or later.
    Postgres,
    /// `redis-server` or `valkey-server`, version 7.0 or later.
    Redis,
    /// The library that gives a process another clock; only tests use it.
    Faketime,
    /// `prosody`, the XMPP server of Jitsi, 0.12 or later; only tests use it.
    Prosody,
}

impl Tool {
    /// Every program that `cargo run` needs.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Redis];

    fn find(self) -> anyhow::Result<Found> {
        match self {
            Self::Postgres => find_postgres(),
            Self::Redis => find_redis(),
            Self::Faketime => find_faketime(),
            Self::Prosody => find_prosody(),
        }
    }

    fn apt_package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Faketime => "libfaketime",
            Self::Prosody => "prosody",
        }
    }
}

/// A program and its major version.
#[derive(Debug, Clone)]
pub struct Found {
    /// Postgres: the directory of `initdb` and `postgres`. Redis and Prosody: the server program. Faketime: the library.
    pub path: PathBuf,
    /// The major version.
    pub major: u32,
}

/// Makes sure that each of `tools` is on this machine, installing it where that is possible.
///
/// # Errors
/// When something is missing that cannot be installed from here; the message holds the command to type.
pub fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    if missing(tools).is_empty() {
        return Ok(());
    }
    // Test programs start at the same time; the second finds what the first has installed.
    let lock_path = std::env::temp_dir().join(format!("live-sessions-install-{}.lock", user_id()));
    let lock_file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .with_context(|| format!("cannot open {}", lock_path.display()))?;
    lock_file.lock()?;
    let missing_tools = missing(tools);
    if missing_tools.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing_tools.iter().map(|tool| tool.apt_package()).collect();
    if user_id() == 0 && has_program("apt-get") {
        install_with_apt(&packages)?;
    } else {
        let reasons: Vec<String> =
            missing_tools.iter().filter_map(|tool| tool.find().err()).map(|error| format!("{error:#}")).collect();
        bail!("{}\n{}", reasons.join("\n"), advice(&missing_tools));
    }
    for tool in missing_tools {
        tool.find().context("installed, but still not usable; see the packages of your system for a newer one")?;
    }
    Ok(())
}

/// The newest Postgres of this machine that is new enough.
///
/// # Errors
/// When there is none.
pub fn find_postgres() -> anyhow::Result<Found> {
    let mut newest: Option<Found> = None;
    for directory in postgres_directories() {
        // A directory with the client alone, or a wrapper of one program, is of no use.
        if !["initdb", "postgres"].iter().all(|name| directory.join(name).is_file()) {
            continue;
        }
        let Some(major) = version_of(&directory.join("postgres"), "--version").and_then(|text| major_in(&text)) else {
            continue;
        };
        if newest.as_ref().is_none_or(|best| major > best.major) {
            newest = Some(Found { path: directory, major });
        }
    }
    let found = newest.context("Postgres is not installed (no initdb and postgres found)")?;
    ensure!(
        found.major >= OLDEST_POSTGRES,
        "Postgres {} in {} is too old: {OLDEST_POSTGRES} or later is needed",
        found.major,
        found.path.display()
    );
    Ok(found)
}

/// The Redis (or Valkey) server of this machine.
///
/// # Errors
/// When there is none, or only one that is too old.
pub fn find_redis() -> anyhow::Result<Found> {
    let mut too_old = None;
    for name in ["redis-server", "valkey-server"] {
        let Some(path) = program(name) else { continue };
        let text = version_of(&path, "--version").unwrap_or_default();
        // "Redis server v=7.0.15 sha=…", "Valkey server v=8.1.1 sha=…" (older Valkeys say "Server v=").
        let Some(major) = text.split_once("v=").and_then(|(_, rest)| major_in(rest)) else {
            continue;
        };
        if major >= OLDEST_REDIS {
            return Ok(Found { path, major });
        }
        too_old = Some((path, major));
    }
    match too_old {
        Some((path, major)) => bail!(
            "{} is Redis {major}: {OLDEST_REDIS}.0 or later is needed (BZMPOP); \
             newer packages are at https://redis.io/docs/latest/operate/oss_and_stack/install/",
            path.display()
        ),
        None => bail!("Redis is not installed (neither redis-server nor valkey-server found)"),
    }
}

/// The library to preload (Linux), where Debian and Red Hat put it.
///
/// # Errors
/// When there is none.
pub fn find_faketime() -> anyhow::Result<Found> {
    let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    multiarch
        .chain([PathBuf::from("/usr/lib64")])
        .map(|directory| directory.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.is_file())
        .map(|path| Found { path, major: 0 })
        .context("libfaketime is not installed")
}

/// The Prosody of this machine.
///
/// # Errors
/// When there is none.
pub fn find_prosody() -> anyhow::Result<Found> {
    // It tells its version only to who may read its configuration.
    program("prosody").map(|path| Found { path, major: 0 }).context("Prosody is not installed")
}

/// The user that this process runs as.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| tool.find().is_err()).collect()
}

/// `PATH` (with links followed, so that a link to one program leads to its whole directory), what
/// `pg_config` says, and where Debian, Red Hat and Homebrew put their versions.
fn postgres_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = search_path()
        .into_iter()
        .filter_map(|directory| directory.join("postgres").canonicalize().ok())
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    if let Some(config) = program("pg_config")
        && let Some(text) = version_of(&config, "--bindir")
    {
        directories.push(PathBuf::from(text.trim()));
    }
    let parents = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"];
    for parent in parents {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if parent == "/usr/lib/postgresql" || name.starts_with("postgresql@") || name.starts_with("pgsql") {
                directories.push(entry.path().join("bin"));
            }
        }
    }
    directories
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

fn program(name: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        // A user's PATH often lacks the directories of servers.
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/opt/homebrew/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn has_program(name: &str) -> bool {
    program(name).is_some()
}

fn version_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first number of a text such as `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
fn major_in(text: &str) -> Option<u32> {
    let digits = text
        .trim_start_matches(|letter: char| !letter.is_ascii_digit())
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

fn advice(tools: &[Tool]) -> String {
    let words = |apt: bool| {
        tools
            .iter()
            .map(|tool| match (tool, apt) {
                (Tool::Postgres, true) => "postgresql",
                (Tool::Redis, true) => "redis-server",
                (Tool::Postgres, false) => "postgresql-server",
                (Tool::Redis, false) => "redis",
                (Tool::Faketime, _) => "libfaketime",
                (Tool::Prosody, _) => "prosody",
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let command = if has_program("apt-get") {
        format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {}", words(true))
    } else if has_program("dnf") {
        format!("sudo dnf install -y {}", words(false))
    } else if has_program("brew") {
        let formulae = words(false).replace("postgresql-server", "postgresql@17");
        format!("brew install {formulae}")
    } else {
        return format!(
            "Install Postgres {OLDEST_POSTGRES} or later and Redis {OLDEST_REDIS} or later, so that initdb, \
             postgres and redis-server are in PATH, and start again."
        );
    };
    format!("Install what is missing and start again:\n    {command}")
}

/// Installs `packages` without letting them start services or create a database of their own.
fn install_with_apt(packages: &[&str]) -> anyhow::Result<()> {
    eprintln!("Installing {} with apt-get (once) …", packages.join(", "));
    let _no_services = TemporaryFile::create(
        Path::new("/usr/sbin/policy-rc.d"),
        "#!/bin/sh\n# Written by the sandbox while it installs packages.\nexit 101\n",
        0o755,
    )?;
    // Debian's own switch against the cluster that the package makes at its installation.
    let _no_cluster = TemporaryFile::create(
        Path::new("/etc/postgresql-common/createcluster.d/live-sessions.conf"),
        "create_main_cluster = false\n",
        0o644,
    )?;
    if apt_get(&install_arguments(packages)).is_err() {
        // A fresh image has no package lists, or old ones.
        apt_get(&["update", "-q"])?;
        apt_get(&install_arguments(packages))?;
    }
    Ok(())
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        // Another apt-get may be at work, as on a freshly started cloud machine.
        "-oDPkg::Lock::Timeout=120",
    ];
    arguments.extend_from_slice(packages);
    arguments
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    ensure!(
        output.status.success(),
        "apt-get {} failed:\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A file that exists only during the installation; a file that was there before stays as it was.
struct TemporaryFile {
    /// What to remove again, files before their directories.
    created: Vec<PathBuf>,
}

impl TemporaryFile {
    fn create(path: &Path, content: &str, mode: u32) -> anyhow::Result<Self> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        let mut created = Vec::new();
        let missing_parents: Vec<PathBuf> =
            path.ancestors().skip(1).take_while(|parent| !parent.exists()).map(Path::to_owned).collect();
        for parent in missing_parents.iter().rev() {
            fs::create_dir(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        match File::options().write(true).create_new(true).mode(mode).open(path) {
            Ok(mut file) => {
                file.write_all(content.as_bytes())?;
                created.push(path.to_owned());
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
        }
        created.extend(missing_parents);
        Ok(Self { created })
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        for path in &self.created {
            // A directory that a package has filled meanwhile belongs to the package, and stays.
            if path.is_dir() {
                let _ = fs::remove_dir(path);
            } else {
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::major_in;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)"), Some(15));
        assert_eq!(major_in("7.0.15 sha=00000000:0 malloc=jemalloc"), Some(7));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_in("no number"), None);
    }
}
