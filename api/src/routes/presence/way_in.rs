//! The link into a session's meeting, by whoever is configured for it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use shared::{
    domain::{person::Part, session::Session},
    providers::{Join, JoinPerson, JoinRequest, ProviderError},
    queue::Tx,
};

use super::meetings::Made;
use crate::{
    auth::Caller,
    error::{Result, conflict, unavailable},
    provider_configs::Opened,
    state::AppState,
};

/// The link for one person, who may come.
pub async fn way_in(
    state: &AppState,
    tx: &mut Tx,
    caller: &Caller,
    (session, made): (&Session, Option<&Made>),
    part: Part,
    (now, expires_at): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Join> {
    let request = JoinRequest {
        kind: session.provider,
        room: &session.room,
        person: JoinPerson { id: &caller.id, name: &caller.name, email: caller.email.as_deref() },
        part,
        not_before: now,
        expires_at,
        now,
        recording: session.recording_enabled,
        subject: &session.title,
        meeting: made.map(|made| &made.meeting),
        link: made.and_then(|made| made.link.as_ref()),
    };
    let configured = configured(state, tx, session).await?;
    let providers = configured.as_ref().map_or(&state.providers, |opened| &opened.providers);
    providers.join(&request).map_err(|error| match error {
        ProviderError::NotConfigured(kind) => unavailable(format!("No {} server is configured.", kind.as_str())).into(),
        other => anyhow::Error::new(other).into(),
    })
}

/// The session's configuration, through the transaction's own connection; `None`: it is the environment's.
pub async fn configured(state: &AppState, tx: &mut Tx, session: &Session) -> Result<Option<Arc<Opened>>> {
    let Some(id) = session.provider_config_id else { return Ok(None) };
    let opened = state.provider_configs.find(&mut *tx, id).await?.filter(|opened| opened.tenant == session.tenant_id);
    let opened = opened.ok_or_else(|| unavailable("The session's provider configuration is gone."))?;
    if !opened.enabled {
        let detail = "The session's provider configuration is disabled; an administrator may enable it again.";
        return Err(conflict("provider-config-disabled", "The provider is disabled", detail).into());
    }
    Ok(Some(opened))
}
