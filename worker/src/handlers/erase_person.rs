//! Erases a person over all tables. Each step is a commit of its own and changes nothing when it is done again, so a run that is
//! cut off begins anew.

use std::time::Duration;

use serde_json::json;
use shared::{
    db::{
        erasures::{self, Erasure},
        personal_data::{self, Received, Subject},
    },
    jobs::ErasePerson,
    queue::Tx,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Webhooks per step.
const STEP: i64 = 1_000;
/// What is told of somebody who is just in a session would come after it was erased.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

impl Handler for ErasePerson {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let Some(tenant) = ctx.tenant else { return Err(JobError::fail("an erasure belongs to a tenant")) };
        let mut tx = ctx.begin_for_all(state).await?;
        let Some(erasure) = erasures::find(&mut *tx, tenant, self.erasure_id).await? else {
            return Ok(Done::nothing());
        };
        let Some(person) = erasure.person_id.clone() else { return Ok(Done::nothing()) };
        if personal_data::hosts(&mut *tx, tenant, &person).await?
            || personal_data::is_in_live_session(&mut *tx, tenant, &person).await?
        {
            return Err(JobError::Snooze(LOOK_AGAIN, "the person is in a session, or holds one".into()));
        }
        let terms = terms(&mut tx, &erasure, &person).await?;
        tx.commit().await?;

        let subject = Subject::new(tenant, &person, &erasure.pseudonym, &terms);
        let stop = || JobError::Snooze(Duration::ZERO, "the worker stops".into());
        let mut behind: Option<Received> = None;
        loop {
            let mut tx = ctx.begin_for_all(state).await?;
            let (changed, last) = personal_data::erase_from_webhooks(&mut tx, &subject, behind, STEP).await?;
            erasures::count(&mut *tx, erasure.id, "webhook_events", changed).await?;
            tx.commit().await?;
            behind = last;
            if behind.is_none() {
                break;
            }
            if ctx.stop.is_cancelled() {
                return Err(stop());
            }
        }
        for (table, number) in personal_data::steps() {
            let mut tx = ctx.begin_for_all(state).await?;
            let changed = personal_data::erase_step(&mut tx, &subject, number).await?;
            erasures::count(&mut *tx, erasure.id, table, changed).await?;
            tx.commit().await?;
            if ctx.stop.is_cancelled() {
                return Err(stop());
            }
        }
        let mut tx = ctx.begin_for_all(state).await?;
        let recordings = personal_data::count_recordings(&mut *tx, tenant, &erasure.pseudonym).await?;
        let lines = personal_data::erase_from_audit_log(&mut tx, &subject).await?;
        erasures::count(&mut *tx, erasure.id, "audit_log", lines).await?;
        erasures::finish(&mut *tx, erasure.id, &kept(recordings)).await?;
        tracing::info!(erasure.id = %erasure.id, "a person was erased");
        Ok(Done::with(tx))
    }
}

/// Found once: the first step already erases some of them.
async fn terms(tx: &mut Tx, erasure: &Erasure, person: &str) -> Result<Vec<String>, JobError> {
    if let Some(terms) = &erasure.terms {
        return Ok(terms.clone());
    }
    let terms = personal_data::terms(&mut **tx, erasure.tenant_id, person).await?;
    erasures::keep_terms(&mut **tx, erasure.id, &terms).await?;
    Ok(terms)
}

/// What stays, and why; in the receipt.
fn kept(recordings: i64) -> serde_json::Value {
    json!([
        {"what": "attendance, under a pseudonym", "why": "the counts of sessions stay right; nothing leads back to the person"},
        {"what": "recordings in which the person may be seen or heard", "count": recordings,
         "why": "they are recordings of others, too; they go with the tenant's retention of recordings"},
        {"what": "titles and descriptions of sessions, reasons of cancellations", "why": "texts of others; a person named there is to be taken out by hand"},
        {"what": "answers kept for repeats", "why": "encrypted under keys that the service does not have; deleted after 24 hours"},
        {"what": "webhooks about rooms that no session has", "why": "they belong to no tenant; deleted after 90 days"},
        {"what": "mails that were sent, records at meeting providers, backups", "why": "not held here"},
    ])
}
