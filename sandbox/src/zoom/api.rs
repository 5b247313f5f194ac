//! The API below `/v2`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::{
    Json,
    body::Bytes,
    extract::{OriginalUri, Query, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::clock::Clock;

use super::{Server, USER_ID, acts::end, meetings::Registrant, pause};
use crate::process::lock;

pub(super) type Parameters = HashMap<String, String>;

/// An answer: its status and body (none, where it is null).
pub(super) type Reply = (u16, Value);

pub(super) fn refusal(status: u16, code: i64, message: &str) -> Reply {
    (status, json!({"code": code, "message": message}))
}

pub(super) fn no_meeting(id: &str) -> Reply {
    refusal(404, 3001, &format!("Meeting does not exist: {id}."))
}

/// Whether this call is one too many; counts it.
pub(super) fn limited(server: &Server, call: &str) -> bool {
    let mut faults = lock(&server.faults);
    if !faults.about(call) {
        return false;
    }
    let Some(limit) = &mut faults.rate_limit else { return false };
    match &mut limit.times {
        None => true,
        Some(0) => false,
        Some(times) => {
            *times -= 1;
            true
        }
    }
}

pub(super) async fn call(
    State(server): State<Arc<Server>>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().trim_start_matches("/v2/").to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let segments: Vec<String> = path.split('/').map(decoded).collect();
    let name = name(&method, &segments);
    let faults = lock(&server.faults).clone();
    let about = faults.about(name);
    let limit = faults.rate_limit.clone().unwrap_or_default();
    let mut is_limited = false;
    let (status, answer) = if let Some(status) = faults.status.filter(|_| about) {
        (status, Value::String("<html><body>Bad Gateway</body></html>".into()))
    } else if limited(&server, name) {
        is_limited = true;
        let message = match limit.kind.as_deref() {
            Some("Daily-limit") => "You have reached the daily rate limit for this API. Refer to the response header.",
            _ => "You have reached the maximum per-second rate limit for this API. Try again later.",
        };
        refusal(429, 429, message)
    } else if !server.lets_in(&headers) {
        refusal(401, 124, "Invalid access token.")
    } else if let Some(code) = faults.code.filter(|_| about) {
        refusal(400, code, "Invalid access token, does not contain scopes:[meeting:write:meeting:admin].")
    } else {
        server.reply(name, &segments, &parameters, &body)
    };
    let caused = std::mem::take(&mut lock(&server.world).outbox);
    if !caused.is_empty() {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.tell(caused).await });
    }
    let lost = faults.lose_answers_of.iter().any(|lost| lost == name);
    let status = if lost { 502 } else { status };
    server.note(name, uri.path_and_query().map_or("", |p| p.as_str()), status, &body);
    if about {
        pause(faults.delay_ms).await;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = match answer {
        _ if lost => (status, Html("<html><body>Bad Gateway</body></html>")).into_response(),
        Value::Null => status.into_response(),
        Value::String(page) => (status, Html(page)).into_response(),
        answer => (status, Json(answer)).into_response(),
    };
    if is_limited {
        let told = [("x-ratelimit-type", limit.kind), ("retry-after", limit.retry_after)];
        for (name, value) in told {
            if let Some(value) = value.and_then(|value| value.parse().ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response.headers_mut().insert("x-ratelimit-category", header::HeaderValue::from_static("Light"));
    }
    response
}

/// What a call is called in [`super::Call`] and in faults.
fn name(method: &Method, segments: &[String]) -> &'static str {
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method.as_str(), path.as_slice()) {
        ("GET", ["users", _]) => "user",
        ("POST", ["users", _, "meetings"]) => "create",
        ("GET", ["users", _, "meetings"]) => "list",
        ("GET", ["users", _, "token"]) => "zak",
        ("GET", ["meetings", _]) => "get",
        ("PATCH", ["meetings", _]) => "update",
        ("DELETE", ["meetings", _]) => "delete",
        ("PUT", ["meetings", _, "status"]) => "end",
        ("POST", ["meetings", _, "registrants"]) => "register",
        ("GET", ["meetings", _, "registrants", _]) => "registrant",
        ("GET", ["meetings", _, "recordings"]) => "recordings",
        ("GET", ["past_meetings", _, "instances"]) => "instances",
        ("GET", ["past_meetings", _, "participants"]) => "participants",
        ("GET", ["report", "meetings", _, "participants"]) => "report",
        _ => "unknown",
    }
}

/// Percent-decoded once, as a gateway does.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A meeting's number, or the UUID of a run. One that was encoded once has slashes now, which the real API takes for parts
/// of the path.
pub(super) fn run_name(segment: &str) -> Option<String> {
    let sane = !segment.starts_with('/') && !segment.contains("//");
    sane.then(|| if segment.contains('%') { decoded(segment) } else { segment.to_owned() })
}

impl Server {
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = value.strip_prefix("Bearer ").unwrap_or_default();
        lock(&self.world).tokens.get(token).is_some_and(|until| Instant::now() < *until)
    }

    fn reply(&self, name: &str, segments: &[String], parameters: &Parameters, body: &Value) -> Reply {
        let named = segments.get(1).map(String::as_str).unwrap_or_default();
        match name {
            "user" | "create" | "list" | "zak" if self.user(named).is_none() => {
                refusal(404, 1001, &format!("User does not exist: {named}."))
            }
            "user" => (
                200,
                json!({"id": self.user(named).unwrap_or_default().0, "email": self.user(named).unwrap_or_default().1, "type": 2, "status": "active", "display_name": "Classes"}),
            ),
            "zak" => (200, json!({"token": hex::encode(rand::random::<[u8; 24]>())})),
            "create" => self.create(named, body),
            "list" => self.list(named, parameters),
            "recordings" => self.recordings(named, parameters),
            "instances" => self.instances(named),
            "participants" => self.participants(named, parameters),
            "report" => self.participants(segments.get(2).map_or("", String::as_str), parameters),
            "unknown" => refusal(404, 2300, "This API endpoint is not recognized."),
            _ => self.one_meeting(name, named, segments.get(3).map_or("", String::as_str), body),
        }
    }

    /// Id and address of a user of the account, by either.
    fn user(&self, named: &str) -> Option<(String, String)> {
        let first = &self.account.user_email;
        if named == USER_ID || named == first {
            return Some((USER_ID.to_owned(), first.clone()));
        }
        let domain = first.rsplit('@').next().unwrap_or_default();
        let (_, of) = named.split_once('@')?;
        (of == domain).then(|| (hex::encode(named).chars().take(22).collect(), named.to_owned()))
    }

    fn create(&self, named: &str, body: &Value) -> Reply {
        if let Some(fault) = fault(body, true) {
            return fault;
        }
        let host = self.user(named).unwrap_or_default();
        let meeting = lock(&self.world).create(host, body);
        (201, meeting.whole(&self.url()))
    }

    fn list(&self, named: &str, parameters: &Parameters) -> Reply {
        let host = self.user(named).unwrap_or_default();
        let world = lock(&self.world);
        let theirs = world.meetings.values().filter(|meeting| meeting.host_id == host.0);
        let lines: Vec<Value> = theirs.map(|meeting| meeting.line(&self.url())).collect();
        page("meetings", &lines, parameters)
    }

    /// What is about one meeting by its number.
    fn one_meeting(&self, name: &str, id: &str, registrant: &str, body: &Value) -> Reply {
        let url = self.url();
        let mut world = lock(&self.world);
        let number = id.parse::<i64>().unwrap_or_default();
        let Some(meeting) = world.meetings.get_mut(&number) else { return no_meeting(id) };
        match name {
            "get" => (200, meeting.whole(&url)),
            "update" => {
                if let Some(fault) = fault(body, false) {
                    return fault;
                }
                let set = |target: &mut String, field: &str| {
                    if let Some(text) = body[field].as_str() {
                        text.clone_into(target);
                    }
                };
                set(&mut meeting.topic, "topic");
                set(&mut meeting.agenda, "agenda");
                set(&mut meeting.start_time, "start_time");
                set(&mut meeting.timezone, "timezone");
                meeting.duration = body["duration"].as_i64().unwrap_or(meeting.duration);
                if let (Some(settings), Some(changes)) =
                    (meeting.settings.as_object_mut(), body["settings"].as_object())
                {
                    settings.extend(changes.clone());
                }
                (204, Value::Null)
            }
            "delete" => {
                // One that goes on cannot be deleted.
                if meeting.going_on().is_some() {
                    return refusal(400, 3002, "Sorry, you cannot delete this meeting since it's in progress.");
                }
                if let Some(meeting) = world.meetings.remove(&number) {
                    world.outbox.push(("meeting.deleted", meeting.object(&meeting.uuid, true), Value::Null));
                    world.deleted.insert(number, meeting);
                }
                (204, Value::Null)
            }
            "end" if body["action"] != "end" => refusal(400, 300, "Validation Failed."),
            // Of one that does not go on, the real API says that too.
            "end" => match end(meeting, Clock::System.now()) {
                Ok((_, events)) => {
                    world.outbox.extend(events);
                    (204, Value::Null)
                }
                Err(_) => refusal(400, 3001, "This meeting is not in progress."),
            },
            "registrant" => match meeting.registrants.iter().find(|known| known.registrant_id == registrant) {
                Some(known) => {
                    (200, json!({"id": known.registrant_id, "join_url": known.join_url, "email": known.email}))
                }
                None => refusal(404, 3043, "Registrant does not exist."),
            },
            _ => {
                if !meeting.registers() {
                    return refusal(400, 3038, "Registration has not been enabled for this meeting.");
                }
                let text = |field: &str| body[field].as_str().unwrap_or_default().trim().to_owned();
                let (email, first_name) = (text("email"), text("first_name"));
                if !email.contains('@') || email.len() > 128 || first_name.is_empty() || first_name.chars().count() > 64
                {
                    return (
                        400,
                        json!({"code": 300, "message": "Validation Failed.", "errors": [
                        {"field": "email", "message": "Invalid field."}]}),
                    );
                }
                // The same address is the same registrant.
                let known = meeting.registrants.iter_mut().find(|known| known.email.eq_ignore_ascii_case(&email));
                let registrant = match known {
                    Some(known) if known.times >= 3 => {
                        return refusal(
                            429,
                            429,
                            "You have exceeded the daily rate limit of \"3\" for Add meeting \
                            registrant API requests for the registrant.",
                        );
                    }
                    Some(known) => {
                        known.times += 1;
                        known.clone()
                    }
                    None => {
                        let registrant_id = hex::encode(rand::random::<[u8; 11]>());
                        let tk = hex::encode(rand::random::<[u8; 20]>());
                        let join_url = format!("{url}/j/{number}?tk={tk}&pwd={}", hex::encode(&meeting.password));
                        let last_name = text("last_name");
                        let new = Registrant { registrant_id, email, first_name, last_name, join_url, times: 1 };
                        meeting.registrants.push(new.clone());
                        new
                    }
                };
                (
                    201,
                    json!({
                        "id": number, "registrant_id": registrant.registrant_id, "join_url": registrant.join_url,
                        "topic": meeting.topic, "start_time": meeting.start_time,
                    }),
                )
            }
        }
    }
}

/// A page of a list, and where the next one begins.
pub(super) fn page(list: &str, lines: &[Value], parameters: &Parameters) -> Reply {
    let size = parameters.get("page_size").and_then(|size| size.parse::<usize>().ok()).unwrap_or(30);
    if !(1..=300).contains(&size) {
        return refusal(400, 300, "The value that you entered for the page_size field is invalid.");
    }
    let token = parameters.get("next_page_token").filter(|token| !token.is_empty());
    let from = match token.map(|token| token.strip_prefix("from").and_then(|from| from.parse::<usize>().ok())) {
        None => 0,
        Some(Some(from)) => from,
        Some(None) => return refusal(400, 300, "The next page token is invalid or expired."),
    };
    let next = if from + size < lines.len() { format!("from{}", from + size) } else { String::new() };
    let shown: Vec<_> = lines.iter().skip(from).take(size).cloned().collect();
    (200, json!({"page_size": size, "total_records": lines.len(), "next_page_token": next, list: shown}))
}

/// What Zoom refuses of a meeting's fields.
fn fault(body: &Value, new: bool) -> Option<Reply> {
    let text = |field: &str| body[field].as_str();
    let invalid = |field: &str| {
        (
            400,
            json!({"code": 300, "message": "Validation Failed.", "errors": [{"field": field, "message": "Invalid field."}]}),
        )
    };
    let time = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().is_ok() && text.ends_with('Z');
    if text("topic").map_or(new, |topic| topic.is_empty() || topic.chars().count() > 200) {
        return Some(invalid("topic"));
    }
    if text("agenda").is_some_and(|agenda| agenda.chars().count() > 2_000) {
        return Some(invalid("agenda"));
    }
    if text("start_time").map_or(new, |at| !time(at)) {
        return Some(invalid("start_time"));
    }
    if text("timezone").is_some_and(|zone| zone.parse::<chrono_tz::Tz>().is_err()) {
        return Some(invalid("timezone"));
    }
    if body
        .get("duration")
        .is_some_and(|duration| !duration.as_i64().is_some_and(|minutes| (1..=1_440).contains(&minutes)))
    {
        return Some(invalid("duration"));
    }
    let recording = body["settings"]["auto_recording"].as_str();
    recording.is_some_and(|word| !["none", "local", "cloud"].contains(&word)).then(|| invalid("auto_recording"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_with_slashes_has_to_be_encoded_twice() {
        assert_eq!(run_name(&decoded("%252Fab%252F%252Fc%253D%253D")).as_deref(), Some("/ab//c=="));
        assert_eq!(run_name(&decoded("ab%2Fc%3D%3D")).as_deref(), Some("ab/c=="));
        assert_eq!(run_name(&decoded("%2Fab%2F%2Fc%3D%3D")), None);
    }
}
