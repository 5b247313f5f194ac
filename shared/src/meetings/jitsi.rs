//! Commands for our module in a self-hosted Jitsi's Prosody.

use reqwest::{Response, StatusCode};

use super::{End, MeetingError, Removal};
use crate::{
    clock::Clock,
    outbound::{Outbound, causes},
    providers::{JitsiCommand, JitsiControl},
};

pub async fn end(outbound: &Outbound, control: &JitsiControl, room: &str) -> Result<End, MeetingError> {
    // Once it has answered, the room is gone.
    ask(outbound, control, JitsiCommand::EndRoom { room }).await.map(|_| End::Over)
}

pub async fn remove(
    outbound: &Outbound,
    control: &JitsiControl,
    room: &str,
    person_id: &str,
) -> Result<Removal, MeetingError> {
    match ask(outbound, control, JitsiCommand::RemovePerson { room, person_id }).await? {
        Some(_) => Ok(Removal::Removed),
        None => Ok(Removal::NobodyThere),
    }
}

/// `None`: there is no such room.
async fn ask(
    outbound: &Outbound,
    control: &JitsiControl,
    command: JitsiCommand<'_>,
) -> Result<Option<Response>, MeetingError> {
    let signed = control.sign(command, Clock::System.now());
    outbound.check(&signed.url).map_err(|e| MeetingError::Refused(e.to_string()))?;
    let mut request = outbound.client().post(signed.url).header("content-type", "application/json").body(signed.body);
    for (name, value) in signed.headers {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| match &error {
        error if crate::outbound::is_private(error) => MeetingError::Refused(causes(error)),
        error if error.is_timeout() => MeetingError::Unavailable("it is not reached in time".to_owned()),
        error => MeetingError::Unavailable(format!("it is not reached: {}", causes(error))),
    })?;
    let is_json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    match response.status() {
        StatusCode::OK if is_json => Ok(Some(response)),
        // Of the module, and not of a web server that does not know the address.
        StatusCode::NOT_FOUND if is_json => Ok(None),
        StatusCode::UNAUTHORIZED => Err(MeetingError::Refused("the control secret is wrong".to_owned())),
        // Signed before Prosody's start, or the clocks differ.
        StatusCode::CONFLICT => Err(MeetingError::NotNow("the signature is out of time for it".to_owned())),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(MeetingError::Unavailable(format!("it answers with status {}", status.as_u16())))
        }
        _ => Err(MeetingError::Refused("what answers there is not mod_webhook_control of a Prosody".to_owned())),
    }
}
