//! Forgets the people of sessions that ended longer ago than their tenant keeps personal data, session by session: each is a
//! commit of its own; a run that is cut off is gone on with the next night.

use shared::{db::personal_data, jobs::CleanupPersonalData};

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

/// Sessions per look.
const STEP: i64 = 100;

impl Handler for CleanupPersonalData {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let (mut sessions, mut rows) = (0, 0);
        loop {
            let step = personal_data::list_to_forget(&state.db, STEP).await?;
            for session in &step {
                if ctx.stop.is_cancelled() {
                    return Ok(Done::nothing());
                }
                let mut tx = ctx.begin(state).await?;
                rows += personal_data::forget_people(&mut tx, *session).await?;
                tx.commit().await?;
                sessions += 1;
            }
            if step.is_empty() {
                break;
            }
        }
        if sessions > 0 {
            tracing::info!(sessions, rows, "forgot the people of old sessions");
        }
        Ok(Done::nothing())
    }
}
