use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_session_is_a_calendar_entry_with_a_stable_uid() {
    let app = TestApp::start_with(&["--mail-from", "School <live@school.test>"]).await;
    let made = app.planned(json!({"title": "Algebra; II, part 1"})).await;
    let answer = app.student("s1").get(&path(&made, "calendar/")).await;
    assert!(answer.header("content-type").starts_with("text/calendar"));
    let tag = answer.header("etag").to_owned();
    let text = answer.text();
    for line in [
        "BEGIN:VCALENDAR\r\n",
        "METHOD:PUBLISH\r\n",
        "BEGIN:VTIMEZONE\r\n",
        "SEQUENCE:0\r\n",
        "BEGIN:VALARM\r\n",
        "SUMMARY:Algebra\\; II\\, part 1\r\n",
        "DTSTART;TZID=Europe/Istanbul:",
        // As in the mails.
        "ORGANIZER;CN=Name of teacher:mailto:live@school.test\r\n",
        &format!("UID:{}@live-sessions\r\n", made["id"].as_str().unwrap()),
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("okul.example"), "addresses are not told to everybody");
    let request = app.student("s1").request(Method::GET, &path(&made, "calendar/")).header("if-none-match", tag);
    assert_eq!(crate::support::answer(request).await.status, StatusCode::NOT_MODIFIED);
    app.teacher().call(&path(&made, "cancel/")).await.expect(StatusCode::OK);
    let text = app.student("s1").get(&path(&made, "calendar/")).await.text();
    assert!(text.contains("STATUS:CANCELLED\r\n") && text.contains("SEQUENCE:1\r\n"), "{text}");
}
