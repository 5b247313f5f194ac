//! The LMS's public keys, kept at hand. One task looks after them: on a beat, and when a token names a key that is not
//! known, which is how a rotation is seen at once. However many tokens do that, it looks once in [`BETWEEN`], so nobody can
//! make us flood the LMS. While the keys' place is away, the known ones are used on, up to a limit.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jsonwebtoken::Algorithm;
use shared::{clock::Clock, config::AuthConfig};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, Semaphore, watch},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    key_set::{Key, KeySet},
    refusal::{Denial, Refusal},
};

/// Shortest time from one look to the next, whoever wants it.
const BETWEEN: Duration = Duration::from_secs(2);
/// Longest time to the next look while looks fail.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// What a look may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long a request waits for one.
const WAIT: Duration = Duration::from_secs(3);
/// Requests that wait at once. Others are told to come back: tokens with made-up keys must not take all places of the
/// process while the keys' server is slow.
const WAITING: usize = 32;
/// Largest set that is read, in bytes.
const LARGEST: usize = 256 << 10;

/// Where the keys are.
enum Source {
    Address(reqwest::Client, url::Url),
    File(PathBuf),
}

/// What the looks have found so far.
#[derive(Clone, Default)]
struct Known {
    set: KeySet,
    /// Of the last look that succeeded.
    read_at: Option<Instant>,
    /// Of the last look.
    looked_at: Option<Instant>,
    failing: bool,
}

/// The keys, looked after until this is dropped.
pub struct Jwks {
    known: watch::Receiver<Arc<Known>>,
    wanted: Arc<Notify>,
    waiting: Semaphore,
    max_age: Duration,
    _task: AbortOnDropHandle<()>,
}

impl Jwks {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn start(config: &AuthConfig) -> anyhow::Result<Self> {
        let source = Source::of(config)?;
        let (sender, known) = watch::channel(Arc::new(Known::default()));
        let wanted = Arc::new(Notify::new());
        let beat = Duration::from_secs(config.auth_jwks_refresh);
        let task = tokio::spawn(look_after(source, sender, wanted.clone(), beat));
        Ok(Self {
            known,
            wanted,
            waiting: Semaphore::new(WAITING),
            max_age: Duration::from_secs(config.auth_jwks_max_age),
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Returns when the first look is over, or takes too long.
    pub async fn ready(&self) {
        let mut known = self.known.clone();
        _ = tokio::time::timeout(WAIT, known.wait_for(|known| known.looked_at.is_some())).await;
    }

    /// The key that a token means.
    pub async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Denial> {
        if let Some(key) = self.known.borrow().find(kid, algorithm, self.max_age) {
            return Ok(key.clone());
        }
        let known = self.look_again().await.ok_or(Denial::Undecided)?;
        match known.find(kid, algorithm, self.max_age) {
            Some(key) => Ok(key.clone()),
            // It may be a new one.
            None if known.failing => Err(Denial::Undecided),
            None => Err(Refusal::Key.into()),
        }
    }

    /// What is known after a look that is younger than [`BETWEEN`]; `None` when there was none in time.
    async fn look_again(&self) -> Option<Arc<Known>> {
        let mut known = self.known.clone();
        let last = known.borrow_and_update().clone();
        if last.looked_at.is_some_and(|at| at.elapsed() < BETWEEN) {
            return Some(last);
        }
        let _place = self.waiting.try_acquire().ok()?;
        self.wanted.notify_one();
        tokio::time::timeout(WAIT, known.changed()).await.ok()?.ok()?;
        Some(known.borrow().clone())
    }
}

impl Known {
    fn find(&self, kid: Option<&str>, algorithm: Algorithm, max_age: Duration) -> Option<&Arc<Key>> {
        self.read_at.filter(|at| at.elapsed() < max_age)?;
        self.set.find(kid, algorithm)
    }
}

/// Looks for ever.
async fn look_after(source: Source, known: watch::Sender<Arc<Known>>, wanted: Arc<Notify>, beat: Duration) {
    loop {
        let found = source.look().await;
        let mut now = known.borrow().as_ref().clone();
        now.looked_at = Some(Instant::now());
        report(&now, &found);
        now.failing = found.is_err();
        if let Ok(set) = found {
            (now.set, now.read_at) = (set, now.looked_at);
        }
        let pause = if now.failing { beat.min(AFTER_FAILURE) } else { beat };
        known.send_replace(Arc::new(now));
        tokio::time::sleep(BETWEEN).await;
        _ = tokio::time::timeout(pause.saturating_sub(BETWEEN), wanted.notified()).await;
    }
}

/// An outage when it begins and when it ends, a set when it changes.
fn report(before: &Known, found: &anyhow::Result<KeySet>) {
    let outcome = if found.is_ok() { "read" } else { "failed" };
    metrics::counter!("jwks_looks_total", "outcome" => outcome).increment(1);
    match found {
        Ok(set) => {
            metrics::gauge!("jwks_keys").set(set.count() as f64);
            metrics::gauge!("jwks_read_timestamp_seconds").set(Clock::System.now().timestamp() as f64);
            let changed =
                before.read_at.is_none() || (set.count(), set.left_out) != (before.set.count(), before.set.left_out);
            match set.last_reason {
                Some(reason) if changed => {
                    tracing::warn!(
                        keys = set.count(),
                        left_out = set.left_out,
                        reason,
                        "keys of the JWK set are left out"
                    );
                }
                _ if changed || before.failing => tracing::info!(keys = set.count(), "the JWK set was read"),
                _ => {}
            }
        }
        Err(error) if !before.failing => {
            tracing::error!(error = format!("{error:#}"), "the JWK set cannot be read; known keys are used on");
        }
        Err(_) => {}
    }
}

/// Looks once: how many keys there are.
///
/// # Errors
/// Why there are none, with the variable.
pub async fn check(config: &AuthConfig) -> anyhow::Result<usize> {
    let variable = if config.auth_jwks_url.is_empty() { "AUTH_JWKS_FILE" } else { "AUTH_JWKS_URL" };
    let set = Source::of(config)?.look().await.context(variable)?;
    let reason = set.last_reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    anyhow::ensure!(set.count() > 0, "{variable}: none of the {} keys can be used{reason}", set.left_out);
    Ok(set.count())
}

impl Source {
    fn of(config: &AuthConfig) -> anyhow::Result<Self> {
        if config.auth_jwks_url.is_empty() {
            return Ok(Self::File(PathBuf::from(&config.auth_jwks_file)));
        }
        let url = url::Url::parse(&config.auth_jwks_url).context("AUTH_JWKS_URL is no address")?;
        if url.scheme() == "http" {
            tracing::warn!("AUTH_JWKS_URL is not https: who can change what comes from there, can sign any token");
        }
        let client = reqwest::Client::builder()
            // Keys come from where the operator says, not from where an answer says.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("live-sessions/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self::Address(client, url))
    }

    async fn look(&self) -> anyhow::Result<KeySet> {
        let bytes = tokio::time::timeout(LOOK, self.read()).await.context("it took longer than 5 seconds")??;
        KeySet::parse(&bytes)
    }

    async fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Address(client, url) => {
                let request = client.get(url.clone()).header("accept", "application/jwk-set+json, application/json");
                // Addresses may carry credentials.
                let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
                anyhow::ensure!(answer.status() == 200, "the answer has status {}", answer.status());
                while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                    anyhow::ensure!(bytes.len() + chunk.len() <= LARGEST, "it is larger than {LARGEST} bytes");
                    bytes.extend_from_slice(&chunk);
                }
            }
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await?;
                file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).await?;
                anyhow::ensure!(bytes.len() <= LARGEST, "it is larger than {LARGEST} bytes");
            }
        }
        Ok(bytes)
    }
}
