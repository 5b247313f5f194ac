use reqwest::StatusCode;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn start_and_end_are_idempotent_and_finalize_is_queued_once() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let teacher = app.teacher();
    let started = teacher.call(&path(&made, "start/")).await.expect(StatusCode::OK);
    assert_eq!(started["status"], "live");
    assert_eq!(teacher.call(&path(&made, "start/")).await.expect(StatusCode::OK), started);
    let ended = teacher.call(&path(&made, "end/")).await.expect(StatusCode::OK);
    assert_eq!(
        (&ended["status"], &ended["end_reason"], &ended["attendance_final"]),
        (&json!("ended"), &json!("host"), &json!(false))
    );
    assert_eq!(teacher.call(&path(&made, "end/")).await.expect(StatusCode::OK), ended);
    assert_eq!(app.jobs().await, [("finalize-session".to_owned(), json!({"session_id": made["id"]}))]);
}

#[tokio::test]
async fn many_ends_at_once_are_one() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let teacher = app.teacher();
    let to = path(&made, "end/");
    let answers = futures::future::join_all((0..16).map(|_| teacher.call(&to))).await;
    let bodies: std::collections::BTreeSet<String> =
        answers.into_iter().map(|a| a.expect(StatusCode::OK).to_string()).collect();
    assert_eq!((bodies.len(), app.jobs().await.len()), (1, 1));
}

#[tokio::test]
async fn what_the_state_does_not_allow_is_a_conflict_that_names_it() {
    let app = TestApp::start().await;
    let teacher = app.teacher();
    let refused = async |made: &serde_json::Value, verb: &str, status: &str| {
        let problem = teacher.call(&path(made, verb)).await.problem(409, "illegal-transition");
        assert_eq!(problem["session_status"], status, "{verb}");
    };
    let made = app.planned(json!({})).await;
    refused(&made, "end/", "scheduled").await;
    teacher.call(&path(&made, "start/")).await.expect(StatusCode::OK);
    refused(&made, "cancel/", "live").await;
    teacher.call(&path(&made, "end/")).await.expect(StatusCode::OK);
    refused(&made, "start/", "ended").await;
    refused(&made, "cancel/", "ended").await;
    let made = app.planned(json!({})).await;
    teacher.call(&path(&made, "cancel/")).await.expect(StatusCode::OK);
    refused(&made, "start/", "cancelled").await;
    refused(&made, "end/", "cancelled").await;
}

#[tokio::test]
async fn cancelling_tells_those_who_were_told_and_nobody_else() {
    let app = TestApp::start().await;
    let people =
        json!([{"person_id": "s1", "email": "s1@okul.example"}, {"person_id": "s2", "email": "s2@okul.example"}]);
    let made = app.planned(json!({"invitees": people})).await;
    app.sql("update reminders set state = 'sent' where mail = 'invitation' and person_id = 's1'").await;
    let teacher = app.teacher();
    let cancelled = teacher.post(&path(&made, "cancel/"), &json!({"reason": "Snow"})).await.expect(StatusCode::OK);
    assert_eq!(
        (&cancelled["status"], &cancelled["cancel_reason"], &cancelled["sequence"]),
        (&json!("cancelled"), &json!("Snow"), &json!(1))
    );
    let mails = [
        "cancellation s1 0 pending",
        "invitation s1 0 sent",
        "invitation s2 0 dropped",
        "reminder s1 15 dropped",
        "reminder s2 15 dropped",
        "reminder teacher 15 dropped",
    ];
    assert_eq!(app.mails(&made).await, mails);
    assert_eq!(teacher.call(&path(&made, "cancel/")).await.expect(StatusCode::OK), cancelled);
    assert_eq!(app.mails(&made).await, mails);
    assert_eq!(teacher.post(&path(&made, "cancel/"), &json!({"why": 1})).await.pointers(), ["/why"]);
}

#[tokio::test]
async fn the_end_closes_open_connections() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    for who in ["s1", "s2"] {
        app.student(who).call(&path(&made, "join/")).await.expect(StatusCode::OK);
    }
    app.sql("update participants set joined_at = now() - interval '10 min', last_seen_at = now() - interval '5 min' where person_id = 's2'").await;
    app.sql("update sessions set started_at = now() - interval '20 min'").await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let rows: Vec<(String, String, bool)> =
        sqlx::query_as("select person_id, left_reason, left_at = last_seen_at from participants order by person_id")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(rows, [("s1".into(), "ended".into(), false), ("s2".into(), "stale".into(), true)]);
}
