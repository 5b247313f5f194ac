use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn the_hosts_first_join_within_the_window_starts_the_session() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"starts_at": in_minutes(14)})).await;
    let joined = app.teacher().call(&path(&made, "join/")).await.expect(StatusCode::OK);
    assert_eq!(
        (&joined["role"], &joined["provider"], &joined["heartbeat_interval"]),
        (&json!("host"), &json!("jitsi"), &json!(30))
    );
    let url = joined["join_url"].as_str().unwrap();
    assert!(url.starts_with(&format!("https://meet.example.org/{}", made["room"].as_str().unwrap())), "{url}");
    let claims: Value = {
        use base64::Engine as _;
        let body = joined["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
    };
    assert_eq!((&claims["room"], &claims["context"]["user"]["id"]), (&made["room"], &json!("teacher")));
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["status"], "live");
    app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn participants_wait_for_the_window_and_are_told_how_long() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let answer = app.student("s1").call(&path(&made, "join/")).await;
    let wait: i64 = answer.header("retry-after").parse().unwrap();
    assert!((44 * 60..=45 * 60).contains(&wait), "{wait}");
    answer.problem(409, "join-not-open");
    app.sql("update sessions set starts_at = now() + interval '14 min'").await;
    let joined = app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    assert_eq!(joined["role"], "participant");
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["status"], "scheduled");
    // Nobody is present before the start.
    let answer = app.student("s1").call(&path(&made, "heartbeat/")).await;
    assert!(!answer.header("retry-after").is_empty());
    answer.problem(409, "session-not-started");
    app.sql("update sessions set starts_at = now() + interval '3 day', ends_at = now() + interval '4 day'").await;
    app.teacher().call(&path(&made, "join/")).await.problem(409, "join-not-open");
}

#[tokio::test]
async fn a_host_who_comes_early_sets_up_the_room_and_nothing_else_changes() {
    let app = TestApp::start().await;
    let people = json!([{"person_id": "s1", "email": "s1@okul.example"}, {"person_id": "c1", "role": "co_host"}]);
    let made = app.planned(json!({"invitees": people})).await;
    let mails = app.mails(&made).await;
    let status = async || app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["status"].clone();
    for host in [app.teacher(), app.student("c1")] {
        assert!(host.call(&path(&made, "join/")).await.expect(StatusCode::OK)["token"].is_string());
        let answer = host.call(&path(&made, "heartbeat/")).await;
        let wait: i64 = answer.header("retry-after").parse().unwrap();
        assert!((44 * 60..=45 * 60).contains(&wait), "{wait}");
        answer.problem(409, "session-not-started");
    }
    assert_eq!((status().await, app.mails(&made).await), (json!("scheduled"), mails.clone()));
    app.student("s1").call(&path(&made, "join/")).await.problem(409, "join-not-open");

    app.sql("update sessions set starts_at = now() + interval '14 min'").await;
    app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    app.student("s1").call(&path(&made, "heartbeat/")).await.problem(409, "session-not-started");
    assert_eq!(status().await, "scheduled");
    // Still there when the others may come.
    app.student("c1").call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    assert_eq!(status().await, "live");
    app.student("s1").call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    assert_eq!(app.mails(&made).await, mails, "the planned start is ahead: reminders stay");
}

#[tokio::test]
async fn a_host_who_has_not_joined_starts_nothing_by_heartbeats() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"starts_at": in_minutes(5)})).await;
    app.teacher().call(&path(&made, "heartbeat/")).await.problem(409, "not-joined");
    assert_eq!(app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["status"], "scheduled");
}

#[tokio::test]
async fn nobody_joins_what_is_over() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    app.student("s1").call(&path(&made, "join/")).await.expect(StatusCode::OK);
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    for verb in ["join/", "heartbeat/"] {
        let problem = app.student("s1").call(&path(&made, verb)).await.problem(410, "session-ended");
        assert_eq!(problem["session_status"], "ended");
    }
    let made = app.planned(json!({})).await;
    app.teacher().call(&path(&made, "cancel/")).await.expect(StatusCode::OK);
    app.teacher().call(&path(&made, "join/")).await.problem(410, "session-cancelled");
}

#[tokio::test]
async fn the_last_place_is_given_once() {
    let app = TestApp::start().await;
    let made = app.live(json!({"max_participants": 3})).await;
    let to = path(&made, "join/");
    let students: Vec<_> = (0..20).map(|n| app.student(&format!("s{n}"))).collect();
    let answers = futures::future::join_all(students.iter().map(|s| s.call(&to))).await;
    let joined: Vec<usize> =
        answers.iter().enumerate().filter(|(_, a)| a.status == StatusCode::OK).map(|(n, _)| n).collect();
    assert_eq!(joined.len(), 3);
    for answer in answers {
        if answer.status != StatusCode::OK {
            answer.problem(409, "session-full");
        }
    }
    // A second tab takes no second place, and the host none at all.
    students[joined[0]].call(&to).await.expect(StatusCode::OK);
    app.teacher().call(&to).await.expect(StatusCode::OK);
    // Who leaves makes room.
    let late = app.student("late");
    late.call(&to).await.problem(409, "session-full");
    assert_eq!(students[joined[1]].call(&path(&made, "leave/")).await.status, StatusCode::NO_CONTENT);
    late.call(&to).await.expect(StatusCode::OK);
}

async fn rows(app: &TestApp) -> Vec<(String, bool, Option<String>)> {
    sqlx::query_as("select person_id, left_at is null, left_reason from participants order by joined_at, id")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_heartbeat_extends_the_connection_and_silence_breaks_it() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let student = app.student("s1");
    let joined = student.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let beat =
        async || student.post(&path(&made, "heartbeat/"), &json!({"connection_id": joined["connection_id"]})).await;
    app.sql("update participants set joined_at = now() - interval '80 s', last_seen_at = now() - interval '80 s'")
        .await;
    let answer = beat().await.expect(StatusCode::OK);
    assert!((24..=30).contains(&answer["next_in"].as_i64().unwrap()));
    assert!(answer["server_time"].is_string());
    assert_eq!(rows(&app).await, [("s1".into(), true, None)]);
    assert_eq!(app.count("participants where last_seen_at > now() - interval '10 s'").await, 1);

    app.sql("update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min'")
        .await;
    beat().await.expect(StatusCode::OK);
    assert_eq!(rows(&app).await, [("s1".into(), false, Some("stale".into())), ("s1".into(), true, None)]);
    assert_eq!(
        app.count("participants where left_at = last_seen_at and last_seen_at < now() - interval '9 min'").await,
        1
    );
}

#[tokio::test]
async fn heartbeats_after_silence_at_once_open_one_row() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let student = app.student("s1");
    student.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    app.sql("update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min'")
        .await;
    let to = path(&made, "heartbeat/");
    for answer in futures::future::join_all((0..12).map(|_| student.call(&to))).await {
        answer.expect(StatusCode::OK);
    }
    assert_eq!(rows(&app).await.len(), 2);
}

#[tokio::test]
async fn leaving_is_idempotent_and_no_late_heartbeat_undoes_it() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let student = app.student("s1");
    let a = student.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let b = student.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let body = json!({"connection_id": a["connection_id"]});
    for _ in 0..2 {
        assert_eq!(student.post(&path(&made, "leave/"), &body).await.status, StatusCode::NO_CONTENT);
        assert_eq!(rows(&app).await, [("s1".into(), false, Some("left".into())), ("s1".into(), true, None)]);
    }
    student.post(&path(&made, "heartbeat/"), &body).await.problem(409, "not-joined");
    // The other tab is still there, also after a silence.
    student.call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    assert_eq!(rows(&app).await.len(), 2);
    app.sql("update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min' where left_at is null").await;
    student.call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    assert_eq!(rows(&app).await.len(), 3);
    assert_eq!(student.call(&path(&made, "leave/")).await.status, StatusCode::NO_CONTENT);
    assert!(rows(&app).await.iter().all(|(_, open, _)| !open));
    student.call(&path(&made, "heartbeat/")).await.problem(409, "not-joined");
    // Nobody speaks for another person's connection.
    let other = app.student("s2");
    let theirs = json!({"connection_id": b["connection_id"]});
    other.post(&path(&made, "heartbeat/"), &theirs).await.problem(409, "not-joined");
    other.post(&path(&made, "leave/"), &theirs).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(rows(&app).await.len(), 3);
    assert_eq!(
        student.post(&path(&made, "heartbeat/"), &json!({"connection_id": "x"})).await.pointers(),
        ["/connection_id"]
    );
}

#[tokio::test]
async fn a_silent_connection_that_is_left_stays_left() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    for (who, swept) in [("s1", false), ("s2", true)] {
        let student = app.student(who);
        student.call(&path(&made, "join/")).await.expect(StatusCode::OK);
        app.sql(
            "update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min' where left_at is null",
        )
        .await;
        if swept {
            app.sql("update participants set left_at = last_seen_at, left_reason = 'stale' where left_at is null")
                .await;
        }
        assert_eq!(student.call(&path(&made, "leave/")).await.status, StatusCode::NO_CONTENT);
        student.call(&path(&made, "heartbeat/")).await.problem(409, "not-joined");
    }
    assert_eq!(app.count("participants where left_reason = 'left' and left_at = last_seen_at").await, 2);
}

#[tokio::test]
async fn a_heartbeat_after_silence_needs_a_place() {
    let app = TestApp::start().await;
    let made = app.live(json!({"max_participants": 1})).await;
    let (first, second) = (app.student("s1"), app.student("s2"));
    first.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let silence = "update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min' where person_id = 's1'";
    app.sql(silence).await;
    first.call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    app.sql(silence).await;
    second.call(&path(&made, "join/")).await.expect(StatusCode::OK);
    let problem = first.call(&path(&made, "heartbeat/")).await;
    assert!(!problem.header("retry-after").is_empty());
    problem.problem(409, "session-full");
    second.call(&path(&made, "leave/")).await.expect(StatusCode::NO_CONTENT);
    first.call(&path(&made, "heartbeat/")).await.expect(StatusCode::OK);
    assert_eq!(app.count("participants where left_at is null").await, 1);
}

#[tokio::test]
async fn hosts_see_who_is_there() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    for n in 0..5 {
        app.student(&format!("s{n}")).call(&path(&made, "join/")).await.expect(StatusCode::OK);
    }
    app.student("s2").call(&path(&made, "leave/")).await;
    let list = async |query: &str| {
        let page = app.teacher().get(&path(&made, &format!("participants/{query}"))).await.expect(StatusCode::OK);
        let people: Vec<String> =
            page["results"].as_array().unwrap().iter().map(|p| p["person_id"].as_str().unwrap().to_owned()).collect();
        (people, page)
    };
    assert_eq!(list("").await.0, ["s0", "s1", "s2", "s3", "s4"]);
    let (people, page) = list("?open=true&page_size=3").await;
    assert_eq!(people, ["s0", "s1", "s3"]);
    assert_eq!((&page["results"][0]["name"], &page["results"][0]["left_at"]), (&json!("Name of s0"), &Value::Null));
    let next = page["next"].as_str().unwrap().split_once('?').unwrap().1.to_owned();
    assert_eq!(list(&format!("?{next}")).await.0, ["s4"]);
}
