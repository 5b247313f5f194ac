//! The directory in which a sandbox keeps everything: whose it is, that only one sandbox uses it, and how it is
//! emptied. Nothing is ever written to or removed from a directory that no sandbox has made.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use sandbox::postgres;

/// Says that a sandbox has made the directory that it lies in.
const MARKER: &str = "made-by-the-sandbox";
const LOCK: &str = "lock";
const EXPLANATION: &str = "A sandbox of the live-session service keeps its data in this directory; \
                           `cargo run -- --fresh` removes them.\n";

/// A directory that is ours, locked until this is dropped: two sandboxes in one directory would destroy each
/// other's data.
pub struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes `dir`, making it when it is not there.
    ///
    /// # Errors
    /// When it belongs to something else, another sandbox runs in it, or it cannot be written to.
    pub fn take(dir: &Path) -> anyhow::Result<Self> {
        make(dir)?;
        ensure_ours(dir)?;
        let path = dir.join(LOCK);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "a sandbox runs in {} already; use it, end it with Ctrl-C, or start another one with --dir",
                dir.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let marker = dir.join(MARKER);
        fs::write(&marker, EXPLANATION).with_context(|| format!("cannot write {}", marker.display()))?;
        // Others see no names; Postgres, which runs as another user when we are root, may pass through.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711))
            .with_context(|| format!("cannot restrict {} to its owner", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Removes what sandboxes have made here, and nothing else.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn forget(&self) -> anyhow::Result<()> {
        postgres::remove_data(&self.dir.join("postgres"))?;
        for entry in read(&self.dir)? {
            let name = entry.file_name();
            if name.to_str().is_some_and(is_made_by_sandbox) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a sandbox runs in `dir`.
pub fn is_in_use(dir: &Path) -> bool {
    let lock = File::options().write(true).open(dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn make(dir: &Path) -> anyhow::Result<()> {
    match fs::metadata(dir) {
        Ok(metadata) => ensure!(metadata.is_dir(), "{} is no directory; choose another one with --dir", dir.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = dir.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            }
            DirBuilder::new().mode(0o711).create(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", dir.display())),
    }
    Ok(())
}

/// Empty, marked, or with the secrets of a sandbox from before there was a marker.
fn ensure_ours(dir: &Path) -> anyhow::Result<()> {
    let names: Vec<_> = read(dir)?.iter().map(fs::DirEntry::file_name).collect();
    let empty = names.iter().all(|name| name == LOCK);
    let secrets = ["auth", "jitsi-webhook"].iter().all(|name| dir.join("secrets").join(name).is_file());
    ensure!(
        empty || secrets || names.iter().any(|name| name == MARKER),
        "{} has files in it that no sandbox has made, and stays as it is; choose an empty directory with --dir",
        dir.display()
    );
    Ok(())
}

fn read(dir: &Path) -> anyhow::Result<Vec<fs::DirEntry>> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect);
    entries.with_context(|| format!("cannot read {}", dir.display()))
}

/// The names that the sandbox gives; `postgres` has rules of its own.
fn is_made_by_sandbox(name: &str) -> bool {
    let is_pid_file = || {
        let service = name.strip_suffix(".pid").unwrap_or_default();
        let number = service.strip_prefix("worker-").unwrap_or("x");
        ["api", "scheduler", "worker"].contains(&service) || number.parse::<usize>().is_ok()
    };
    ["redis", "s3", "mails", "secrets", "env", "env.partial"].contains(&name) || is_pid_file()
}

/// A link goes, what it leads to stays.
fn remove(path: &Path) -> anyhow::Result<()> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::is_made_by_sandbox;

    #[test]
    fn only_the_sandboxs_own_names_are_its_own() {
        for name in ["secrets", "env", "worker.pid", "worker-12.pid", "api.pid"] {
            assert!(is_made_by_sandbox(name), "{name}");
        }
        for name in ["postgres", "lock", "nginx.pid", "worker-x.pid", "environment", ".pid", "photos"] {
            assert!(!is_made_by_sandbox(name), "{name}");
        }
    }
}
