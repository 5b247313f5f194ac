//! Tells a provider of a session's new name or time. The session is read again after the provider's answer: whatever was
//! changed meanwhile, and however many of these jobs run at once, the last thing that the provider hears is what the
//! session is like.

use std::time::Duration;

use shared::{
    db::{meetings, sessions},
    domain::session::{Session, SessionStatus},
    jobs::UpdateMeeting,
    meetings::{MeetingError, NewMeeting},
    providers::Meeting,
};

use crate::{
    handler::{Ctx, Done, Handler, JobError, asked},
    state::State,
};

/// Somebody is just making the meeting, perhaps of what the session was like before.
const BEING_MADE_WAIT: Duration = Duration::from_secs(5);

impl Handler for UpdateMeeting {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let mut told: Option<Session> = None;
        loop {
            let mut tx = ctx.begin(state).await?;
            let session = sessions::find(&mut *tx, self.session_id).await?;
            let goes_on = |session: &Session| matches!(session.status, SessionStatus::Scheduled | SessionStatus::Live);
            let Some(session) = session.filter(goes_on) else { return Ok(Done::nothing()) };
            // Nothing was made that could be wrong.
            let Some(row) = meetings::find_open(&mut *tx, session.id).await? else { return Ok(Done::nothing()) };
            let Some(details) = row.details else {
                return Err(JobError::Snooze(BEING_MADE_WAIT, "the meeting is just being made".into()));
            };
            let (Meeting::Zoom(meeting), Some(config)) = (details.0, row.provider_config_id) else {
                return Ok(Done::nothing());
            };
            if told.as_ref().is_some_and(|told| UpdateMeeting::of(told, &session).is_none()) {
                return Ok(Done::nothing());
            }
            let Some(providers) = state.providers_of(&mut tx, config).await? else { return Ok(Done::nothing()) };
            tx.rollback().await?;
            let new = NewMeeting::of(&session, false);
            match state.meetings.zoom().update(providers.zoom()?, meeting, &new).await {
                Ok(()) => told = Some(session),
                // Deleted there. The next who joins has another one made.
                Err(MeetingError::Gone) => {
                    let mut tx = ctx.begin(state).await?;
                    meetings::end(&mut *tx, row.id).await?;
                    return Ok(Done::with(tx));
                }
                Err(error) => return Err(asked(error)),
            }
        }
    }
}
