//! Calls of a BigBlueButton's API.

use reqwest::StatusCode;
use url::Url;

use super::{End, MeetingError, NewMeeting};
use crate::{
    outbound::{Outbound, causes},
    providers::bbb::{Answer, Bbb, BbbMeeting, Refusal},
};

/// So much of an answer is read.
const MOST_BYTES: usize = 64 * 1024;

pub async fn make(outbound: &Outbound, bbb: &Bbb, new: &NewMeeting<'_>) -> Result<BbbMeeting, MeetingError> {
    let made = call(outbound, bbb.create(new.room, new.title, new.recording)).await?.meeting();
    made.map_err(MeetingError::from)
}

pub async fn end(outbound: &Outbound, bbb: &Bbb, room: &str) -> Result<End, MeetingError> {
    let over = |refusal: Refusal| match refusal {
        Refusal::NotFound | Refusal::Ending => Ok(End::Over),
        other => Err(MeetingError::from(other)),
    };
    if let Err(refusal) = call(outbound, bbb.end(room)).await?.success() {
        return over(refusal);
    }
    // What was answered is that the wish was heard.
    match call(outbound, bbb.info(room)).await?.meeting() {
        Ok(_) => Ok(End::Told),
        Err(refusal) => over(refusal),
    }
}

async fn call(outbound: &Outbound, url: Option<Url>) -> Result<Answer, MeetingError> {
    let url = url.ok_or_else(|| MeetingError::Refused("its address cannot be signed".to_owned()))?;
    outbound.check(&url).map_err(|e| MeetingError::Refused(e.to_string()))?;
    let mut response = outbound.client().get(url).send().await.map_err(|error| match &error {
        error if crate::outbound::is_private(error) => MeetingError::Refused(causes(error)),
        error if error.is_timeout() => MeetingError::Unavailable("it is not reached in time".to_owned()),
        error => MeetingError::Unavailable(format!("it is not reached: {}", causes(error))),
    })?;
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(MeetingError::Unavailable(format!("it answers with status {}", status.as_u16())));
    }
    let mut body = Vec::new();
    while body.len() < MOST_BYTES {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(_) => return Err(MeetingError::Unavailable("its answer breaks off".to_owned())),
        }
    }
    let answer = Answer::read(&body).filter(|_| status.is_success());
    answer.ok_or_else(|| MeetingError::Refused("what answers there is not the API of a BigBlueButton".to_owned()))
}

impl From<Refusal> for MeetingError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ending => Self::NotNow(refusal.to_string()),
            Refusal::Trouble => Self::Unavailable(refusal.to_string()),
            Refusal::Checksum | Refusal::NotFound | Refusal::Other(_) => Self::Refused(refusal.to_string()),
        }
    }
}
