//! The files of a private Postgres: a data directory made by `initdb`, owned by a user under which Postgres
//! agrees to run, with a password of its own. Not for the running server: see `postgres`.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::postgres::Durability;
use crate::private;
use crate::provision::{self, Found, user_id};

/// How the names of directories begin that hold data which could not lie where they were wanted.
const ELSEWHERE: &str = "live-sessions-postgres-";

/// The user and group that Postgres runs as when we are root: it refuses root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A data directory, ready for `postgres`.
#[derive(Debug)]
pub struct Cluster {
    data: PathBuf,
    password: String,
    binaries: PathBuf,
    account: Option<Account>,
}

impl Cluster {
    /// Opens the cluster in `dir`, making it when there is none. Files: `data/` and `password`.
    ///
    /// Run as root, Postgres needs a directory that its unprivileged user can reach; a checkout in `/root` is
    /// none. The cluster then lies in a fresh directory in `/var/tmp`, and `dir` is a link to it.
    ///
    /// # Errors
    /// When `initdb` fails, when the data are of another major version, or when a server that runs there does not end.
    pub fn open(dir: &Path, durability: Durability) -> anyhow::Result<Self> {
        let found = provision::find_postgres()?;
        let account = if user_id() == 0 { Some(unprivileged_account()?) } else { None };
        let dir = reachable_directory(dir, account)?;
        let data = dir.join("data");
        let password_file = dir.join("password");
        if !data.join("PG_VERSION").is_file() || !password_file.is_file() {
            make(&dir, &found, account, durability)?;
        }
        let made_by = fs::read_to_string(data.join("PG_VERSION"))?;
        ensure!(
            made_by.trim() == found.major.to_string(),
            "{} was made by Postgres {}, but Postgres {} is installed: remove that directory to start afresh, \
             or install the former version",
            dir.display(),
            made_by.trim(),
            found.major
        );
        end_leftover_server(&data)?;
        Ok(Self { data, password: fs::read_to_string(password_file)?.trim().to_owned(), binaries: found.path, account })
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The command that starts the server, without settings.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = as_account(self.binaries.join("postgres"), self.account);
        command.arg("-D").arg(&self.data).current_dir(&self.data);
        command
    }
}

/// The account `postgres` where there is one, else `nobody`.
fn unprivileged_account() -> anyhow::Result<Account> {
    for name in ["postgres", "nobody"] {
        let number = |option: &str| -> Option<u32> {
            let output = Command::new("id").args([option, name]).output().ok()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().ok()
        };
        if let (Some(uid), Some(gid)) = (number("-u"), number("-g")) {
            return Ok(Account { uid, gid });
        }
    }
    bail!("Postgres refuses to run as root, and there is neither a user postgres nor nobody")
}

/// `dir` made, with links followed, or a directory in `/var/tmp` to which `dir` then is a link.
fn reachable_directory(dir: &Path, account: Option<Account>) -> anyhow::Result<PathBuf> {
    if dir.is_symlink() && !dir.exists() {
        // What it led to was cleaned away.
        fs::remove_file(dir)?;
    }
    if !dir.exists() {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)?;
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        if let Some(account) = account
            && !can_reach(&parent.canonicalize()?, account)?
        {
            let fresh = fresh_directory()?;
            eprintln!(
                "Postgres cannot run as root and its user cannot enter {}: its data go to {}",
                parent.display(),
                fresh.display()
            );
            std::os::unix::fs::symlink(&fresh, dir)?;
        } else {
            fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
    }
    let dir = dir.canonicalize()?;
    if let Some(account) = account {
        // Only the way in: the password file stays root's.
        std::os::unix::fs::chown(&dir, Some(0), Some(account.gid))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o750))?;
        ensure!(
            can_reach(dir.parent().unwrap_or(Path::new("/")), account)?,
            "the user of Postgres cannot enter {}: remove it, so that another place is chosen",
            dir.display()
        );
    } else {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(dir)
}

fn fresh_directory() -> anyhow::Result<PathBuf> {
    let base = Path::new("/var/tmp");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    let fresh = tempfile::Builder::new().prefix(ELSEWHERE).tempdir_in(base)?;
    Ok(fresh.keep())
}

/// See `postgres::remove_data`.
pub(crate) fn remove(dir: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(dir) else { return Ok(()) };
    let real = dir.canonicalize().ok();
    let ours = match &real {
        Some(_) if metadata.is_dir() => true,
        Some(real) => metadata.is_symlink() && is_elsewhere(real),
        None => false,
    };
    if let Some(real) = real.filter(|_| ours) {
        end_leftover_server(&real.join("data"))?;
        fs::remove_dir_all(&real).with_context(|| format!("cannot remove {}", real.display()))?;
    }
    if !metadata.is_dir() {
        fs::remove_file(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Whether `path` is a directory that [`fresh_directory`] made.
fn is_elsewhere(path: &Path) -> bool {
    let bases = [PathBuf::from("/var/tmp"), std::env::temp_dir()].map(|base| base.canonicalize().unwrap_or(base));
    let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ELSEWHERE));
    let made_by_us = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user_id());
    named && made_by_us && bases.iter().any(|base| path.parent() == Some(base))
}

/// Whether `account` may pass through `path` and all that leads to it.
fn can_reach(path: &Path, account: Account) -> anyhow::Result<bool> {
    for ancestor in path.ancestors() {
        let metadata = fs::metadata(ancestor).with_context(|| ancestor.display().to_string())?;
        let execute_bit = if metadata.uid() == account.uid {
            0o100
        } else if metadata.gid() == account.gid {
            0o010
        } else {
            0o001
        };
        if metadata.mode() & execute_bit == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fills `dir` beside its final place and moves it there last, so that a start that was cut off leaves
/// nothing that looks complete.
fn make(dir: &Path, found: &Found, account: Option<Account>, durability: Durability) -> anyhow::Result<()> {
    let data = dir.join("data");
    ensure!(
        !data.exists() || !data.join("PG_VERSION").is_file(),
        "{} has data but no password file beside them: remove the directory to start afresh",
        dir.display()
    );
    let unfinished = dir.join("data.new");
    for leftover in [&data, &unfinished] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
    if let Some(account) = account {
        std::os::unix::fs::chown(&unfinished, Some(account.uid), Some(account.gid))?;
    }
    let password = match durability {
        Durability::Fast => initialise_from_cache(&unfinished, found, account)?,
        Durability::Durable => initialise(&unfinished, found, account, durability)?,
    };
    private::write(&dir.join("password"), &password)?;
    fs::rename(&unfinished, &data)?;
    Ok(())
}

/// Runs `initdb` in the empty directory `data`; returns the superuser's password.
fn initialise(data: &Path, found: &Found, account: Option<Account>, durability: Durability) -> anyhow::Result<String> {
    let password = hex::encode(rand::random::<[u8; 16]>());
    // initdb takes the password from a file only, and insists on an empty data directory.
    let password_file = data.with_extension("initial-password");
    private::write(&password_file, &password)?;
    if let Some(account) = account {
        std::os::unix::fs::chown(&password_file, Some(account.uid), Some(account.gid))?;
    }
    let result = run_initdb(data, &password_file, found, account, durability);
    fs::remove_file(&password_file)?;
    result.map(|()| password)
}

fn run_initdb(
    data: &Path,
    password_file: &Path,
    found: &Found,
    account: Option<Account>,
    durability: Durability,
) -> anyhow::Result<()> {
    let mut failure = String::new();
    // With C.UTF-8, upper and lower case work beyond ASCII; not every system has it.
    for locale in ["C.UTF-8", "C"] {
        let mut command = as_account(found.path.join("initdb"), account);
        command
            .arg("-D")
            .arg(data)
            .args(["--username=postgres", "--encoding=UTF8", "--pwfile"])
            .arg(password_file)
            // Sent in clear over the loopback: a scram exchange would cost every connection of the tests milliseconds.
            .args(["--auth-local=peer", "--auth-host=password"])
            .arg(format!("--locale={locale}"))
            .current_dir(data);
        if durability == Durability::Fast {
            command.arg("--no-sync");
        }
        let output = command.output().context("cannot start initdb")?;
        if output.status.success() {
            return Ok(());
        }
        failure = String::from_utf8_lossy(&output.stderr).into_owned();
        if !failure.contains("locale") {
            break;
        }
    }
    bail!("initdb failed:\n{failure}")
}

/// As [`initialise`], from a copy that the first call of this user has kept in the temporary directory:
/// `initdb` takes a second, a copy a few hundredths.
fn initialise_from_cache(data: &Path, found: &Found, account: Option<Account>) -> anyhow::Result<String> {
    let base = crate::testing::base_directory()?;
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(base.join("template.lock"))?;
    lock.lock()?;
    let uid = account.map_or_else(user_id, |account| account.uid);
    let template = base.join(format!("template-{}-{uid}", found.major));
    let password_file = template.join("password");
    if !password_file.is_file() {
        if template.exists() {
            fs::remove_dir_all(&template)?;
        }
        fs::DirBuilder::new().mode(0o711).create(&template)?;
        let template_data = template.join("data");
        fs::DirBuilder::new().mode(0o700).create(&template_data)?;
        if let Some(account) = account {
            std::os::unix::fs::chown(&template_data, Some(account.uid), Some(account.gid))?;
        }
        let password = initialise(&template_data, found, account, Durability::Fast)?;
        // Written last: its presence says that the template is complete.
        private::write(&password_file, &password)?;
    }
    copy_tree(&template.join("data"), data, account)?;
    Ok(fs::read_to_string(password_file)?)
}

fn copy_tree(from: &Path, to: &Path, account: Option<Account>) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&target)?;
            copy_tree(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
        if let Some(account) = account {
            std::os::unix::fs::chown(&target, Some(account.uid), Some(account.gid))?;
        }
    }
    Ok(())
}

fn as_account(program: PathBuf, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    // Settings of the user's own Postgres must not leak into this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// Ends the server that the pid file of *this* data directory names, if that process is indeed one of this
/// directory. A stale file whose number has gone to a stranger is removed: Postgres itself would take the
/// stranger for a server and refuse to start.
fn end_leftover_server(data: &Path) -> anyhow::Result<()> {
    let pid_file = data.join("postmaster.pid");
    let Ok(content) = fs::read_to_string(&pid_file) else {
        return Ok(());
    };
    let Some(pid) = content.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw) else {
        return Ok(());
    };
    if rustix::process::test_kill_process(pid).is_err() {
        return Ok(());
    }
    if !runs_in(pid, data) {
        fs::remove_file(&pid_file)?;
        return Ok(());
    }
    for (signal, limit) in [(Signal::INT, 10), (Signal::QUIT, 10), (Signal::KILL, 5)] {
        let _ = rustix::process::kill_process(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(limit);
        while Instant::now() < deadline {
            if rustix::process::test_kill_process(pid).is_err() || !runs_in(pid, data) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    bail!("a Postgres of an earlier run (process {pid:?}) in {} does not end", data.display())
}

/// Whether process `pid` is a Postgres whose data are in `data`: the server makes it its working directory.
fn runs_in(pid: Pid, data: &Path) -> bool {
    let number = pid.as_raw_nonzero();
    if let Ok(working_directory) = fs::read_link(format!("/proc/{number}/cwd")) {
        return working_directory == data;
    }
    let listed = Command::new("ps").args(["-o", "command=", "-p", &number.to_string()]).output();
    listed.is_ok_and(|output| {
        let command = String::from_utf8_lossy(&output.stdout).into_owned();
        command.contains("postgres") && command.contains(&data.display().to_string())
    })
}
