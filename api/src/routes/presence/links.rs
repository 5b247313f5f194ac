//! Links that a provider makes for each person: Zoom's.

use shared::{
    db::meeting_registrants,
    domain::{ids::MeetingId, person::Part, session::Session},
    meetings::{MeetingError, NamedBy},
    providers::{
        Meeting,
        zoom::{Zoom, ZoomMeeting, registrant_address},
    },
    secrets::{Place, Sealed, Secret},
};
use tokio::time::Instant;

use super::meetings::NotMade;
use crate::{
    auth::Caller,
    provider_configs::{Opened, unavailable},
    state::AppState,
};

/// The person's own link into this meeting; `None` where links are made without the provider. Nothing of the database is
/// held while the provider is asked.
pub async fn link(
    state: &AppState,
    caller: &Caller,
    (session, part, opened): (&Session, Part, &Opened),
    (id, meeting): (MeetingId, &Meeting),
    deadline: Instant,
) -> Result<Option<Secret>, NotMade> {
    let Meeting::Zoom(meeting) = meeting else { return Ok(None) };
    let zoom = opened.providers.zoom().map_err(MeetingError::from)?;
    let api = state.meetings.zoom();
    let link = match part {
        Part::Host => guarded(state, opened, deadline, api.host_link(zoom, *meeting)).await?,
        _ if meeting.registers => registered(state, caller, (session, opened, zoom), (id, *meeting), deadline).await?,
        _ => guarded(state, opened, deadline, api.guest_link(zoom, *meeting)).await?,
    };
    Ok(Some(link))
}

async fn guarded<T>(
    state: &AppState,
    opened: &Opened,
    deadline: Instant,
    asking: impl Future<Output = Result<T, MeetingError>>,
) -> Result<T, MeetingError> {
    state.meetings.guarded((opened.kind, NamedBy::Tenant(opened.id), ""), deadline, asking).await
}

/// The link of somebody who is registered, or will be. Two at once, or a repeat after a crash, are registered twice, which is
/// once to Zoom: it knows people by their address.
async fn registered(
    state: &AppState,
    caller: &Caller,
    (session, opened, zoom): (&Session, &Opened, &Zoom),
    (id, meeting): (MeetingId, ZoomMeeting),
    deadline: Instant,
) -> Result<Secret, NotMade> {
    let keys = state.provider_configs.keys();
    let field = format!("{FIELD}{id}/{}", caller.id);
    let place = Place { tenant: session.tenant_id, config: opened.id, field: &field };
    let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
    let known: Option<Sealed> = meeting_registrants::find_link(&mut *tx, id, &caller.id).await?;
    tx.commit().await?;
    // One that does not open, because its key is gone, is asked for again.
    if let Some(link) = known.and_then(|sealed| keys.open(&sealed, place).ok()) {
        return Ok(link);
    }
    let address = registrant_address(&session.room, &caller.id);
    let asking = state.meetings.zoom().register(zoom, meeting, (&caller.name, &address));
    let made = guarded(state, opened, deadline, asking).await?;
    let sealed = keys.seal(&made.join_url, place);
    let sealed = sealed.map_err(|error| NotMade::Ours(unavailable(&error, Some(opened.id)).into()))?;
    let mut tx = state.begin_alone(caller, Some(session.tenant_id)).await?;
    let of = (session.tenant_id, id);
    meeting_registrants::put(&mut *tx, of, &caller.id, (&made.registrant_id, &sealed)).await?;
    tx.commit().await?;
    Ok(made.join_url)
}

/// Begins the name of the place where a link belongs.
const FIELD: &str = "registrant/";
