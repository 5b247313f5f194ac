//! The stand-in for BigBlueButton, asked as its documentation says, with a signature of this test's own.

use std::time::Duration;

use sandbox::bigbluebutton::{BigBlueButton, Faults, WebhookFaults};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

/// Status and body of a call.
async fn raw(server: &BigBlueButton, call: &str, query: &str) -> (u16, String) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(format!("{}api/{call}?{query}", server.url())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn signed(server: &BigBlueButton, call: &str, query: &str) -> (u16, String) {
    let checksum = hex::encode(Sha256::digest(format!("{call}{query}{SECRET}")));
    raw(server, call, &format!("{query}&checksum={checksum}")).await
}

/// What stands in an element of an answer.
fn field(xml: &str, name: &str) -> String {
    let rest = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name}: {xml}")).1;
    rest.split_once("</").unwrap().0.trim_start_matches("<![CDATA[").trim_end_matches("]]>").to_owned()
}

#[tokio::test]
async fn a_meeting_is_made_once_however_often_it_is_asked_for() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    let create = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
    let (status, first) = signed(&server, "create", create).await;
    assert_eq!((status, field(&first, "returncode").as_str()), (200, "SUCCESS"));
    assert_eq!(field(&first, "messageKey"), "");
    let created = field(&first, "createTime");
    // hex(sha1("abc123")), then the time.
    assert_eq!(field(&first, "internalMeetingID"), format!("6367c48dd193d56ea7b0baad25b19455e529f5ee-{created}"));
    for again in [create, "meetingID=abc123&name=Another"] {
        let (_, again) = signed(&server, "create", again).await;
        assert_eq!(
            (field(&again, "messageKey"), field(&again, "createTime")),
            ("duplicateWarning".into(), created.clone())
        );
    }
    let (_, other) = signed(&server, "create", "name=Test&meetingID=abc123&moderatorPW=other").await;
    assert_eq!(field(&other, "messageKey"), "idNotUnique");
    assert_eq!(server.meetings().len(), 1);
}

#[tokio::test]
async fn what_the_real_server_refuses_is_refused() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    signed(&server, "create", "name=Test&meetingID=m1&attendeePW=aaa&moderatorPW=mmm").await;
    for (call, query, key) in [
        ("create", "name=X&meetingID=m2".to_owned(), "validationError"),
        ("create", format!("name={}&meetingID=m2", "x".repeat(65)), "validationError"),
        ("create", "name=Test&meetingID=m,2".to_owned(), "validationError"),
        ("create", "name=Test&meetingID=m2&record=True".to_owned(), "validationError"),
        ("create", "name=Test".to_owned(), "missingParamMeetingID"),
        ("join", "meetingID=m1&role=VIEWER".to_owned(), "missingParamFullName"),
        ("join", "meetingID=m1&fullName=A".to_owned(), "invalidPassword"),
        ("join", "meetingID=m1&fullName=A&password=no".to_owned(), "invalidPassword"),
        ("join", "meetingID=m1&fullName=A&role=VIEWER&createTime=1".to_owned(), "mismatchCreateTimeParam"),
        ("join", "meetingID=m2&fullName=A&role=VIEWER".to_owned(), "invalidMeetingIdentifier"),
        ("end", "meetingID=m1&password=no".to_owned(), "invalidPassword"),
        ("end", "meetingID=m2".to_owned(), "notFound"),
        ("getMeetingInfo", "meetingID=m2".to_owned(), "notFound"),
        ("dance", "meetingID=m1".to_owned(), "unsupportedRequest"),
    ] {
        let (status, refusal) = signed(&server, call, &query).await;
        assert!(
            status == 200 && refusal.contains("<returncode>FAILED</returncode>") && refusal.contains(key),
            "{refusal}"
        );
        let (_, unsigned) = raw(&server, call, &query).await;
        assert_eq!(field(&unsigned, "messageKey"), "checksumError");
    }
}

#[tokio::test]
async fn people_come_by_role_or_password_and_an_end_takes_a_moment() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    server.set_faults(Faults { end_ms: Some(200), ..Faults::default() });
    signed(&server, "create", "name=Test&meetingID=m1&attendeePW=aaa&moderatorPW=mmm").await;
    for by in ["role=MODERATOR&userID=u7", "password=aaa"] {
        let (status, _) = signed(&server, "join", &format!("meetingID=m1&fullName=A%26B&{by}")).await;
        assert_eq!(status, 302);
    }
    let roles: Vec<_> = server.meetings()[0].attendees.iter().map(|a| a.role.clone()).collect();
    assert_eq!(roles, ["MODERATOR", "VIEWER"]);
    let (_, info) = signed(&server, "getMeetingInfo", "meetingID=m1").await;
    assert_eq!((field(&info, "running"), field(&info, "userID")), ("true".into(), "u7".into()));
    let (_, ended) = signed(&server, "end", "meetingID=m1").await;
    assert_eq!(field(&ended, "messageKey"), "sentEndMeetingRequest");
    let (_, info) = signed(&server, "getMeetingInfo", "meetingID=m1").await;
    assert_eq!(field(&info, "hasBeenForciblyEnded"), "false");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !server.meetings().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it never goes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, running) = signed(&server, "isMeetingRunning", "meetingID=m1").await;
    assert_eq!(field(&running, "running"), "false");
}

/// Does what a person would, over the control API.
async fn control(server: &BigBlueButton, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
    let root = server.url().replace("/bigbluebutton/", "");
    let request = reqwest::Client::new().request(method, format!("{root}/{path}"));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hooks_are_kept_by_their_address_and_given_up_when_nobody_is_there() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    let callback = "callbackURL=http%3A%2F%2F127.0.0.1%3A9%2Fhook";
    let (status, first) =
        signed(&server, "hooks/create", &format!("{callback}&meetingID=m1&eventID=User-Joined")).await;
    assert_eq!(status, 200);
    let (_, again) = signed(&server, "hooks/create", callback).await;
    assert_eq!(
        (field(&again, "messageKey"), field(&again, "hookID")),
        ("duplicateWarning".into(), field(&first, "hookID"))
    );
    let (_, list) = signed(&server, "hooks/list", "").await;
    assert_eq!((field(&list, "meetingID"), field(&list, "eventID")), ("m1".into(), "user-joined".into()));
    for (call, query, key) in [
        ("hooks/list", "meetingID=m2", "listHookError"),
        ("hooks/create", "meetingID=m2", "missingParamCallbackURL"),
        ("hooks/destroy", "", "missingParamHookID"),
        ("hooks/destroy", "hookID=7", "destroyMissingHook"),
    ] {
        assert_eq!(field(&signed(&server, call, query).await.1, "messageKey"), key);
    }
    let faults = json!({"webhooks": {"pauses_ms": [10, 10]}});
    control(&server, reqwest::Method::PUT, "faults", Some(faults)).await;
    signed(&server, "create", "name=Test&meetingID=m1").await;
    signed(&server, "join", "meetingID=m1&fullName=A&role=VIEWER").await;
    eventually("the hook is given up", async || server.hooks().is_empty()).await;
    let deliveries = control(&server, reqwest::Method::GET, "deliveries", None).await;
    assert_eq!(deliveries.as_array().unwrap().len(), 3);
    assert_eq!((&deliveries[0]["events"], &deliveries[0]["status"]), (&json!(["user-joined"]), &Value::Null));
}

#[tokio::test]
async fn recordings_are_listed_as_the_real_server_lists_them() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    let (_, none) = signed(&server, "getRecordings", "meetingID=m1").await;
    assert_eq!(field(&none, "messageKey"), "noRecordings");
    let new =
        json!({"meeting_id": "m1", "formats": [{"type": "presentation", "url": "https://b.test/p?a&b", "length": 3}]});
    let made = control(&server, reqwest::Method::POST, "recordings", Some(new)).await;
    let id = made["record_id"].as_str().unwrap().to_owned();
    let (_, one) = signed(&server, "getRecordings", &format!("recordID={}", &id[..10])).await;
    assert_eq!((field(&one, "recordID"), field(&one, "meetingID")), (id.clone(), "m1".into()));
    assert_eq!(field(&one, "url").trim(), "https://b.test/p?a&amp;b");
    let (_, hidden) = signed(&server, "publishRecordings", &format!("recordID={id}&publish=false")).await;
    assert_eq!(field(&hidden, "published"), "false");
    let (_, published) = signed(&server, "getRecordings", "state=published").await;
    assert_eq!(field(&published, "messageKey"), "noRecordings");
    for (query, key) in [("", "missingParamRecordID"), ("recordID=x", "notFound")] {
        assert_eq!(field(&signed(&server, "deleteRecordings", query).await.1, "messageKey"), key);
    }
    let (_, deleted) = signed(&server, "deleteRecordings", &format!("recordID={id}")).await;
    assert_eq!(field(&deleted, "deleted"), "true");
    assert!(server.recordings().is_empty());
}

#[tokio::test]
async fn a_dead_server_says_nothing_but_to_who_controls_it() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    server.set_faults(Faults { dead: true, webhooks: WebhookFaults::default(), ..Faults::default() });
    let asked = tokio::time::timeout(Duration::from_millis(200), signed(&server, "getMeetings", "")).await;
    assert!(asked.is_err());
    control(&server, reqwest::Method::PUT, "faults", Some(json!({}))).await;
    assert_eq!(signed(&server, "getMeetings", "").await.0, 200);
}
