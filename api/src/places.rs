//! How many requests go on at a time, of one person and of one tenant, in this process: slow ones of a few must not take
//! all places of [`Limits`](crate::middleware::Limits) from the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use shared::{domain::ids::TenantId, domain::person::Role};

use crate::{auth::Caller, error::Problem, middleware};

/// A browser with several tabs needs a few.
const MOST_OF_A_PERSON: usize = 32;

/// Cheap to clone.
#[derive(Clone)]
pub struct Places {
    most_of_a_tenant: usize,
    taken: Arc<Mutex<Taken>>,
}

/// By tenant, and by tenant and person.
type Taken = HashMap<(TenantId, Option<String>), usize>;

impl Places {
    /// One tenant gets at most half of them.
    pub fn new(all: usize) -> Self {
        Self { most_of_a_tenant: (all / 2).max(1), taken: Arc::default() }
    }

    /// Takes a place until this request is answered. Services speak for many people: their tenant's limit is theirs.
    pub fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let mut wanted = vec![((caller.tenant.id, None), self.most_of_a_tenant)];
        if !caller.is(Role::Service) {
            wanted.push(((caller.tenant.id, Some(caller.id.clone())), MOST_OF_A_PERSON));
        }
        let mut taken = self.lock();
        if wanted.iter().any(|(who, most)| taken.get(who).is_some_and(|n| n >= most)) {
            metrics::counter!("http_requests_over_places_total").increment(1);
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-at-once",
                "Too many requests at a time",
                "So many requests of this caller or tenant are not answered yet that no more are taken; wait for their answers.",
            )
            .retry_after(1));
        }
        for (who, _) in &wanted {
            *taken.entry(who.clone()).or_default() += 1;
        }
        drop(taken);
        let held = wanted.into_iter().map(|(who, _)| who).collect();
        middleware::hold(Place { places: self.clone(), held });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped.
pub struct Place {
    places: Places,
    held: Vec<(TenantId, Option<String>)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        for who in &self.held {
            if let Some(n) = taken.get_mut(who) {
                *n -= 1;
                if *n == 0 {
                    taken.remove(who);
                }
            }
        }
    }
}
