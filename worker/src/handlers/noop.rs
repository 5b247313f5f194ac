//! Does nothing, at most waits, so that the queue itself can be measured and tried out.

use std::time::Duration;

use shared::jobs::Noop;

use crate::{
    handler::{Ctx, Done, Handler, JobError},
    state::State,
};

impl Handler for Noop {
    async fn run(self, _: &State, _: &Ctx) -> Result<Done, JobError> {
        if self.sleep_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.sleep_ms)).await;
        }
        Ok(Done::nothing())
    }
}
