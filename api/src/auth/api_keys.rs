//! Judges the keys of machines. A key's row is remembered for a moment, since a machine calls often; so a revoked key works
//! on for at most [`REMEMBERED`] in other processes than the one that revoked it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use shared::{
    db::api_keys::{self, ApiKey},
    domain::{api_key::ApiKeySecret, ids::ApiKeyId},
};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::refusal::{Denial, Refusal};
use crate::error::Error;

const REMEMBERED: Duration = Duration::from_secs(5);
/// Keys remembered at most; unknown ones are not, so callers cannot fill it.
const MOST: usize = 10_000;
/// Look-ups at once: who tries made-up keys must not take the database from those who have tokens.
const ASKING: usize = 4;

struct Known {
    at: Instant,
    key: ApiKey,
    /// Whether the next use is to be noted.
    use_is_due: AtomicBool,
}

type Remembered = HashMap<ApiKeyId, Arc<Known>>;

/// Cheap to clone.
#[derive(Clone)]
pub struct ApiKeys {
    db: PgPool,
    known: Arc<Mutex<Remembered>>,
    asking: Arc<Semaphore>,
}

impl ApiKeys {
    pub fn new(db: PgPool) -> Self {
        Self { db, known: Arc::default(), asking: Arc::new(Semaphore::new(ASKING)) }
    }

    /// The key, if it is good at this moment.
    pub async fn judge(&self, text: &str, now: DateTime<Utc>) -> Result<ApiKey, Error> {
        let refused = |why| Error::from(Denial::Refused(why));
        let secret = ApiKeySecret::parse(text).ok_or_else(|| refused(Refusal::ApiKey))?;
        let known = self.find(secret.id).await?.ok_or_else(|| refused(Refusal::ApiKey))?;
        // Before anything else is told: ids are no secret, and are shown in lists.
        if !secret.is(&known.key.hash) {
            return Err(refused(Refusal::ApiKey));
        }
        if known.key.revoked_at.is_some() {
            return Err(refused(Refusal::ApiKeyRevoked));
        }
        if known.key.expires_at.is_some_and(|at| at <= now) {
            return Err(refused(Refusal::ApiKeyExpired));
        }
        if known.use_is_due.swap(false, Ordering::Relaxed) {
            self.note_use(secret.id);
        }
        Ok(known.key.clone())
    }

    /// What is remembered of a key is no longer true.
    pub fn forget(&self, id: ApiKeyId) {
        self.lock().remove(&id);
    }

    async fn find(&self, id: ApiKeyId) -> Result<Option<Arc<Known>>, Error> {
        if let Some(known) = self.remembered(id) {
            return Ok(Some(known));
        }
        let _place = self.asking.acquire().await.map_err(anyhow::Error::from)?;
        // Somebody else may have asked meanwhile.
        if let Some(known) = self.remembered(id) {
            return Ok(Some(known));
        }
        // The time is that of the question: a key that is revoked while the answer comes is not remembered longer.
        let at = Instant::now();
        let Some(key) = api_keys::find(&self.db, id).await? else { return Ok(None) };
        let known = Arc::new(Known { at, use_is_due: AtomicBool::new(key.use_is_due), key });
        let mut all = self.lock();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(id, known.clone());
        Ok(Some(known))
    }

    fn remembered(&self, id: ApiKeyId) -> Option<Arc<Known>> {
        self.lock().get(&id).filter(|known| known.at.elapsed() < REMEMBERED).cloned()
    }

    /// Beside the request, which does not wait for it. What is lost with the process is this one note: the next look at the
    /// row finds it due again.
    fn note_use(&self, id: ApiKeyId) {
        let db = self.db.clone();
        tokio::spawn(async move {
            if let Err(error) = api_keys::touch(&db, id).await {
                tracing::debug!(error = %error, "the use of an API key could not be noted; its next use will be");
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
