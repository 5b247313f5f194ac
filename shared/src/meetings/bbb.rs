//! Calls of a BigBlueButton's API, and the choice of a server where there are several.

use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use tokio::time::timeout;
use url::Url;

use super::{End, LIMIT, MeetingError, NewMeeting, Place};
use crate::{
    outbound::{Outbound, causes},
    providers::bbb::{self, Answer, Bbb, BbbMeeting, Create, Element, Hook, Info, Playback, Refusal, Server, webhook},
};

/// So much of an answer is read: a hundred recordings, a thousand people.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// For the server that has the meeting, where another one could take it over. The rest of [`LIMIT`] is for that one.
const PATIENCE: Duration = Duration::from_millis(1500);
/// For telling how much is going on.
const LOAD_LIMIT: Duration = Duration::from_millis(1000);

/// Of a server that is there and does not tell: it is behind all others.
const UNKNOWN_LOAD: (i64, i64) = (i64::MAX, i64::MAX);

pub async fn make(outbound: &Outbound, bbb: &Bbb, new: &NewMeeting<'_>) -> Result<BbbMeeting, MeetingError> {
    if let Place::At(name) = new.place {
        let gone = || MeetingError::Elsewhere("its server is not configured any more".to_owned());
        let server = bbb.server(name).ok_or_else(gone)?;
        let patience = if can_move(bbb, name) { PATIENCE } else { LIMIT };
        let late = |_| Err(unavailable("the meeting's server does not answer in time"));
        return timeout(patience, at(outbound, bbb, server, new)).await.unwrap_or_else(late);
    }
    let avoided = if let Place::NotAt(name) = new.place { name } else { "" };
    let open = bbb.servers().iter().filter(|server| !server.drained && server.name != avoided);
    let mut last = unavailable("none of its servers takes new meetings");
    for server in by_load(outbound, open.collect()).await {
        match create(outbound, bbb, server, new).await {
            Ok(meeting) => return Ok(meeting),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether another server could have the meeting.
pub fn can_move(bbb: &Bbb, from: &str) -> bool {
    bbb.servers().iter().any(|server| !server.drained && server.name != from)
}

/// The meeting where it is, or was.
async fn at(outbound: &Outbound, bbb: &Bbb, server: &Server, new: &NewMeeting<'_>) -> Result<BbbMeeting, MeetingError> {
    if !server.drained {
        return create(outbound, bbb, server, new).await;
    }
    // A repeat of `create` would make another one, where the first is over.
    match call(outbound, server.info(new.room)).await?.meeting() {
        Ok(meeting) => Ok(BbbMeeting { server: server.name.clone(), ..meeting }.named(new.room)),
        Err(Refusal::NotFound) => Err(MeetingError::Elsewhere("its server takes no new meetings".to_owned())),
        Err(refusal) => Err(refusal.into()),
    }
}

async fn create(
    outbound: &Outbound,
    bbb: &Bbb,
    server: &Server,
    new: &NewMeeting<'_>,
) -> Result<BbbMeeting, MeetingError> {
    let session = new.session.to_string();
    let callbacks = new.callbacks.map(|base| bbb.callbacks(base, &session));
    let wish = Create {
        room: new.room,
        title: new.title,
        recording: new.recording,
        session: &session,
        callbacks: callbacks.as_ref(),
    };
    let meeting = call(outbound, server.create(&wish)).await?.meeting()?;
    Ok(BbbMeeting { server: server.name.clone(), ..meeting }.named(new.room))
}

/// Those that answer, the least busy first. One alone is not asked.
async fn by_load<'a>(outbound: &Outbound, servers: Vec<&'a Server>) -> Vec<&'a Server> {
    if servers.len() < 2 {
        return servers;
    }
    let asked = servers.into_iter().map(async |server| {
        let load = match timeout(LOAD_LIMIT, list(outbound, server.meetings())).await.ok()? {
            Ok(root) => bbb::load(&root),
            // It is there; some operators of Scalelite do not let anybody ask.
            Err(MeetingError::Refused(_)) => UNKNOWN_LOAD,
            Err(_) => return None,
        };
        Some((load, server))
    });
    let mut known: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    known.sort_by_key(|(load, _)| *load);
    known.into_iter().map(|(_, server)| server).collect()
}

pub async fn end(outbound: &Outbound, server: &Server, room: &str) -> Result<End, MeetingError> {
    let over = |refusal: Refusal| match refusal {
        Refusal::NotFound | Refusal::Ending => Ok(End::Over),
        other => Err(MeetingError::from(other)),
    };
    if let Err(refusal) = call(outbound, server.end(room)).await?.success() {
        return over(refusal);
    }
    // What was answered is that the wish was heard.
    match call(outbound, server.info(room)).await?.meeting() {
        Ok(_) => Ok(End::Told),
        Err(refusal) => over(refusal),
    }
}

/// `None` when there is no such meeting, or not any more.
pub async fn info(outbound: &Outbound, server: &Server, room: &str) -> Result<Option<Info>, MeetingError> {
    let (answer, body) = ask(outbound, server.info(room)).await?;
    match answer.meeting() {
        Ok(_) => {
            let root = Element::read(&body).ok_or_else(|| unavailable("its answer breaks off"))?;
            Ok(Some(Info::read(&root)))
        }
        Err(Refusal::NotFound | Refusal::Ending) => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

pub async fn recordings(outbound: &Outbound, server: &Server, room: &str) -> Result<Vec<Playback>, MeetingError> {
    Ok(bbb::playbacks(&list(outbound, server.recordings(room)).await?))
}

/// One that is not there is deleted.
pub async fn delete_recording(outbound: &Outbound, server: &Server, record: &str) -> Result<(), MeetingError> {
    match call(outbound, server.delete_recording(record)).await?.success() {
        Ok(()) | Err(Refusal::NotFound) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// One that is not there has nothing to be shown.
pub async fn publish_recording(
    outbound: &Outbound,
    server: &Server,
    record: &str,
    publish: bool,
) -> Result<(), MeetingError> {
    match call(outbound, server.publish_recording(record, publish)).await?.success() {
        Ok(()) | Err(Refusal::NotFound) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Sees to it that webhooks are sent here. Whether something had to be changed for that.
pub async fn register_webhooks(outbound: &Outbound, server: &Server, callback_url: &str) -> Result<bool, MeetingError> {
    let ours: Vec<Hook> = bbb::hooks(&list(outbound, server.hooks()).await?)
        .into_iter()
        .filter(|hook| hook.callback_url == callback_url)
        .collect();
    let mut wanted = webhook::EVENTS.to_vec();
    wanted.sort_unstable();
    let good = |hook: &Hook| hook.permanent || hook.meeting.is_empty() && !hook.raw && hook.events == wanted;
    if ours.iter().any(good) {
        return Ok(false);
    }
    // A repeat of `hooks/create` keeps the filters of the hook that is there.
    for hook in &ours {
        call(outbound, server.destroy_hook(&hook.id)).await?.success()?;
    }
    call(outbound, server.create_hook(callback_url)).await?.success()?;
    Ok(true)
}

fn unavailable(why: &str) -> MeetingError {
    MeetingError::Unavailable(why.to_owned())
}

async fn call(outbound: &Outbound, url: Option<Url>) -> Result<Answer, MeetingError> {
    Ok(ask(outbound, url).await?.0)
}

async fn list(outbound: &Outbound, url: Option<Url>) -> Result<Element, MeetingError> {
    let (answer, body) = ask(outbound, url).await?;
    answer.success()?;
    Element::read(&body).ok_or_else(|| unavailable("its answer breaks off"))
}

async fn ask(outbound: &Outbound, url: Option<Url>) -> Result<(Answer, Vec<u8>), MeetingError> {
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
    let answer = answer
        .ok_or_else(|| MeetingError::Refused("what answers there is not the API of a BigBlueButton".to_owned()))?;
    Ok((answer, body))
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
