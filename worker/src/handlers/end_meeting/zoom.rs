//! At Zoom a meeting is known by a number that Zoom gave it, and one that was called off is deleted.

use shared::{
    clock::Clock,
    db::{
        meetings::{self, StoredMeeting},
        sessions,
    },
    domain::session::SessionStatus,
    jobs::EndMeeting,
    meetings::{End, zoom::ZoomApi},
    providers::{
        Meeting, Providers,
        zoom::{Zoom, ZoomMeeting},
    },
};

use super::{LOOKS, PAUSE};
use crate::{
    handler::{Ctx, Done, JobError, asked},
    state::State,
};

/// Which meeting it is, and what is to become of it.
struct Wanted {
    row: Option<StoredMeeting>,
    /// Nobody ever wished for one.
    none: bool,
    /// It was called off.
    delete: bool,
}

pub async fn end(job: &EndMeeting, providers: &Providers, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
    let zoom = providers.zoom()?;
    let wanted = wanted(job, state, ctx).await?;
    let number = wanted.row.as_ref().and_then(|row| row.details.as_ref()).map(|details| &details.0);
    let meeting = match number {
        Some(Meeting::Zoom(meeting)) => Some(*meeting),
        _ if wanted.none => None,
        // The row went with its session; or somebody died, or gave up, between the wish and Zoom's answer.
        _ => match wanted.row.as_ref().and_then(being_made) {
            Some(wait) => return Err(JobError::Snooze(wait, "the meeting is just being made".into())),
            None => state.meetings.zoom().find(zoom, &job.room).await.map_err(asked)?,
        },
    };
    if let Some(meeting) = meeting {
        over(state.meetings.zoom(), zoom, meeting, wanted.delete).await?;
        tracing::info!(room = job.room, provider = job.provider.as_str(), "the meeting is over");
    }
    let mut tx = ctx.begin(state).await?;
    if let Some(row) = &wanted.row {
        meetings::end(&mut *tx, row.id).await?;
    }
    Ok(Done::with(tx))
}

async fn over(api: &ZoomApi, zoom: &Zoom, meeting: ZoomMeeting, delete: bool) -> Result<(), JobError> {
    for _ in 0..LOOKS {
        match api.end(zoom, meeting, delete).await.map_err(asked)? {
            End::Over => return Ok(()),
            End::Told => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(JobError::Retry(anyhow::anyhow!("the meeting goes on, although Zoom was told to end it")))
}

/// Nothing is held of the database while Zoom is asked.
async fn wanted(job: &EndMeeting, state: &State, ctx: &Ctx) -> Result<Wanted, JobError> {
    let mut tx = ctx.begin(state).await?;
    let session = sessions::find_by_room(&mut *tx, &job.room).await?;
    let row = match &session {
        Some(session) => meetings::find_last(&mut *tx, session.id).await?,
        None => None,
    };
    tx.rollback().await?;
    Ok(Wanted {
        none: session.is_some() && row.is_none(),
        delete: session.is_none_or(|session| session.status == SessionStatus::Cancelled),
        row,
    })
}

/// How long somebody may still be at making it.
fn being_made(row: &StoredMeeting) -> Option<std::time::Duration> {
    (row.claimed_until - Clock::System.now()).to_std().ok().filter(|wait| !wait.is_zero())
}
