//! Servers for tests: one Postgres, Redis, S3, mail sink and meeting host per test program, started with the
//! first call and gone with the program. Isolation between tests: a database and a key prefix for each.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use sqlx::migrate::Migrator;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::postgres::{Durability, Postgres};
use crate::process::lock;
use crate::provision::{self, Tool, user_id};
use crate::recording_host::RecordingHost;
use crate::redis::{Persistence, Redis};
use crate::s3::S3;
use crate::smtp::{SmtpSettings, SmtpSink};

/// The bucket that exists in [`TestServers::s3`].
pub const BUCKET: &str = "recordings";

/// The servers of this test program.
#[derive(Debug)]
pub struct TestServers {
    /// Without `fsync`; for each test a database of its own, see [`TestServers::database`].
    pub postgres: Postgres,
    /// Without persistence; each test uses keys with its own [`unique_prefix`].
    pub redis: Redis,
    /// With the bucket [`BUCKET`].
    pub s3: S3,
    /// One mailbox for all: use addresses that belong to one test.
    pub smtp: SmtpSink,
    /// One for all: use recording names that belong to one test.
    pub recording_host: RecordingHost,
    templates: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    /// Held as long as the program lives: it says that `run-…` is in use.
    _in_use: File,
}

/// The servers of this test program, started with the first call. They live on a runtime of their own, so
/// they outlive the test that came first.
///
/// # Panics
/// When a server cannot be started: no test could go on.
pub async fn servers() -> &'static TestServers {
    static SERVERS: OnceCell<TestServers> = OnceCell::const_new();
    SERVERS
        .get_or_init(|| async {
            // The start itself must not be cut off with the runtime of the first test.
            let started = crate::runtime::servers().spawn(TestServers::start()).await;
            match started {
                Ok(Ok(servers)) => servers,
                Ok(Err(error)) => panic!("the servers for the tests do not start: {error:#}"),
                Err(error) => panic!("the start of the servers for the tests broke off: {error}"),
            }
        })
        .await
}

/// A short text that nobody else uses: for key prefixes, mail addresses, recording names. Lower-case
/// letters and digits.
#[must_use]
pub fn unique_prefix() -> String {
    format!("t{}", hex::encode(rand::random::<[u8; 8]>()))
}

impl TestServers {
    async fn start() -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| provision::ensure(&Tool::ALL)).await??;
        let (run, in_use) = tokio::task::spawn_blocking(run_directory).await??;
        let (postgres_dir, redis_dir, s3_dir) = (run.join("postgres"), run.join("redis"), run.join("s3"));
        let (postgres, redis, s3, smtp, recording_host) = tokio::try_join!(
            Postgres::start(&postgres_dir, None, Durability::Fast),
            Redis::start(&redis_dir, None, Persistence::None),
            S3::start(&s3_dir, None),
            SmtpSink::start(SmtpSettings::default()),
            RecordingHost::start(None),
        )?;
        s3.create_bucket(BUCKET)?;
        Ok(Self { postgres, redis, s3, smtp, recording_host, templates: Mutex::new(HashMap::new()), _in_use: in_use })
    }

    /// The URL of a fresh database with the migrations of `migrator`. They run once per program, in a
    /// template; each call gets a copy of it.
    ///
    /// # Panics
    /// When a migration fails: no test could go on.
    pub async fn database(&self, migrator: &Migrator) -> String {
        let fresh = async {
            let template = template_name(migrator);
            let cell = Arc::clone(lock(&self.templates).entry(template.clone()).or_default());
            cell.get_or_try_init(|| self.make_template(&template, migrator)).await?;
            let name = format!("test_{}", Uuid::now_v7().simple());
            self.postgres.copy_database(&template, &name).await?;
            anyhow::Ok(self.postgres.url(&name))
        };
        match fresh.await {
            Ok(url) => url,
            Err(error) => panic!("no database for the test: {error:#}"),
        }
    }

    async fn make_template(&self, name: &str, migrator: &Migrator) -> anyhow::Result<()> {
        use sqlx::Connection as _;

        self.postgres.create_database(name).await?;
        let mut connection = sqlx::PgConnection::connect(&self.postgres.url(name)).await?;
        migrator.run_direct(None, &mut connection, false).await.context("a migration failed")?;
        // A template that somebody is connected to cannot be copied.
        connection.close().await?;
        Ok(())
    }
}

/// One template for each set of migrations.
fn template_name(migrator: &Migrator) -> String {
    use sha2::{Digest as _, Sha256};

    let mut hash = Sha256::new();
    for migration in migrator.iter() {
        hash.update(migration.version.to_be_bytes());
        hash.update(&migration.checksum);
    }
    format!("template_{}", hex::encode(&hash.finalize()[..8]))
}

/// Where the test programs of this user keep their files, below the temporary directory.
pub(crate) fn base_directory() -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir().join(format!("live-sessions-tests-{}", user_id()));
    match fs::DirBuilder::new().mode(0o711).create(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", base.display()));
        }
        _ => {}
    }
    // Anybody may make a directory of that name before us.
    let metadata = fs::symlink_metadata(&base)?;
    ensure!(
        metadata.is_dir() && metadata.uid() == user_id(),
        "{} belongs to somebody else: remove it, or set TMPDIR to a directory of your own",
        base.display()
    );
    Ok(base)
}

/// A directory for this program, and the lock that says it is in use. Directories of programs that have ended
/// are removed: statics are never dropped, and a killed program cleans nothing.
fn run_directory() -> anyhow::Result<(PathBuf, File)> {
    let base = base_directory()?;
    let sweeping =
        File::options().create(true).truncate(false).write(true).mode(0o600).open(base.join("sweep.lock"))?;
    // Between making a directory and locking it, nobody else may sweep.
    sweeping.lock()?;
    for entry in fs::read_dir(&base)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("run-") {
            remove_if_unused(&entry.path());
        }
    }
    let run = base.join(format!("run-{}", Uuid::now_v7().simple()));
    fs::DirBuilder::new().mode(0o711).create(&run)?;
    let in_use = File::options().create_new(true).write(true).open(run.join("lock"))?;
    in_use.lock()?;
    Ok((run, in_use))
}

fn remove_if_unused(run: &Path) {
    let unused = File::options().write(true).open(run.join("lock")).is_ok_and(|file| file.try_lock().is_ok());
    if unused {
        // Data that Postgres could not keep here, see `Cluster::open`.
        if let Ok(elsewhere) = fs::read_link(run.join("postgres")) {
            let _ = fs::remove_dir_all(elsewhere);
        }
        // A server that is just ending may still write: the next sweep gets the rest.
        let _ = fs::remove_dir_all(run);
    }
}
