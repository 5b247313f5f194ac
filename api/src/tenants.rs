//! The tenants that tokens name, remembered for a short while: every request needs one, and they hardly
//! ever change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use shared::{
    db::tenants::{self, Tenant},
    domain::ids::TenantId,
};
use sqlx::PgPool;

/// A change of a tenant's settings is seen after this time.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Names remembered at most; unknown names are not remembered, so callers cannot fill it.
const MOST: usize = 10_000;

type Known = HashMap<String, (Instant, Arc<Tenant>)>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Tenants {
    db: PgPool,
    known: Arc<Mutex<Known>>,
}

impl Tenants {
    pub fn new(db: PgPool) -> Self {
        Self { db, known: Arc::default() }
    }

    /// The tenant of this slug or id.
    pub async fn find(&self, claim: &str) -> sqlx::Result<Option<Arc<Tenant>>> {
        if let Some((at, tenant)) = self.lock().get(claim)
            && at.elapsed() < REMEMBERED
        {
            return Ok(Some(tenant.clone()));
        }
        let Some(tenant) = tenants::find_by_claim(&self.db, claim).await?.map(Arc::new) else { return Ok(None) };
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(claim.to_owned(), (Instant::now(), tenant.clone()));
        Ok(Some(tenant))
    }

    /// After a change: by whatever name it is remembered.
    pub fn forget(&self, id: TenantId) {
        self.lock().retain(|_, (_, tenant)| tenant.id != id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
