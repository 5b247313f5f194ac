//! Many heartbeats at once.

use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

/// A live session with so many people in it, and the bodies of their heartbeats.
async fn class(app: &TestApp, people: usize) -> (Value, Vec<(String, Value)>) {
    let made = app.live(json!({})).await;
    let to = path(&made, "join/");
    let joins = (0..people).map(|n| {
        let (app, to) = (app, &to);
        async move {
            let joined = app.student(&format!("s{n}")).call(to).await.expect(StatusCode::OK);
            (format!("s{n}"), json!({"connection_id": joined["connection_id"]}))
        }
    });
    (made.clone(), join_all(joins).await)
}

async fn beat_all(app: &TestApp, made: &Value, people: &[(String, Value)]) -> Vec<Answer> {
    let to = path(made, "heartbeat/");
    let students: Vec<_> = people.iter().map(|(id, _)| app.student(id)).collect();
    join_all(students.iter().zip(people).map(|(student, (_, body))| student.post(&to, body))).await
}

#[tokio::test]
async fn heartbeats_that_come_at_once_share_commits_and_each_is_written() {
    let app = TestApp::start().await;
    let (made, people) = class(&app, 200).await;
    app.sql("update participants set last_seen_at = now() - interval '60 s', joined_at = now() - interval '60 s'")
        .await;
    for answer in beat_all(&app, &made, &people).await {
        answer.expect(StatusCode::OK);
    }
    assert_eq!(app.count("participants where last_seen_at > now() - interval '20 s'").await, 200);
    // Of one statement all have the same time.
    let statements = app.count("(select distinct last_seen_at from participants) as times").await;
    assert!(statements < 100, "{statements} statements for 200 heartbeats");
    println!("{statements} statements for 200 heartbeats");
}

#[tokio::test]
async fn a_statement_that_fails_fails_each_heartbeat_in_it() {
    let app = TestApp::start().await;
    let (made, people) = class(&app, 40).await;
    app.sql("alter table participants rename to away").await;
    for answer in beat_all(&app, &made, &people).await {
        answer.problem(500, "internal");
    }
    app.sql("alter table away rename to participants").await;
    for answer in beat_all(&app, &made, &people).await {
        answer.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_connection_that_another_is_changing_keeps_nobody_else_waiting() {
    let app = TestApp::start().await;
    let (made, people) = class(&app, 20).await;
    let mut holder = app.pool.begin().await.unwrap();
    sqlx::query("select from participants where person_id = 's0' for update").execute(&mut *holder).await.unwrap();
    let (first, student, to) = (&people[0].1, app.student("s0"), path(&made, "heartbeat/"));
    let others = async {
        for answer in beat_all(&app, &made, &people[1..]).await {
            answer.expect(StatusCode::OK);
        }
        holder.rollback().await.unwrap();
    };
    let waits = student.post(&to, first);
    let (waited, ()) =
        tokio::time::timeout(Duration::from_secs(20), futures::future::join(waits, others)).await.unwrap();
    waited.expect(StatusCode::OK);
}

#[tokio::test]
async fn each_heartbeat_of_a_mixed_lot_gets_its_own_answer() {
    let app = TestApp::start().await;
    let (made, people) = class(&app, 6).await;
    let (over, gone) = class(&app, 3).await;
    app.teacher().call(&path(&over, "end/")).await.expect(StatusCode::OK);
    app.student("s1").post(&path(&made, "leave/"), &people[1].1).await.expect(StatusCode::NO_CONTENT);
    app.sql("update participants set joined_at = now() - interval '20 min', last_seen_at = now() - interval '10 min' where person_id = 's2' and left_at is null").await;
    let of_another = json!({"connection_id": people[4].1["connection_id"]});
    let students: Vec<_> = (0..6).map(|n| app.student(&format!("s{n}"))).collect();
    let (beat, beat_over) = (path(&made, "heartbeat/"), path(&over, "heartbeat/"));
    let everywhere = json!({});
    let answers = join_all([
        students[0].post(&beat, &people[0].1),
        students[1].post(&beat, &people[1].1),
        students[2].post(&beat, &people[2].1),
        students[3].post(&beat, &of_another),
        students[5].post(&beat, &everywhere),
        students[0].post(&beat_over, &gone[0].1),
    ])
    .await;
    let found: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(found, [200, 409, 200, 409, 200, 410]);
    assert_eq!(app.count("participants where person_id = 's2' and left_reason = 'stale'").await, 1);
    // What time it is, is not the page's to say.
    let forged = json!({"at": "2020-01-01T00:00:00Z", "connection_id": people[0].1["connection_id"]});
    assert_eq!(students[0].post(&beat, &forged).await.pointers(), ["/at"]);
}

#[tokio::test]
async fn a_heartbeat_writes_to_no_index() {
    let app = TestApp::start().await;
    let (made, people) = class(&app, 5).await;
    for _ in 0..4 {
        for answer in beat_all(&app, &made, &people).await {
            answer.expect(StatusCode::OK);
        }
    }
    eventually("the statistics are told", async || {
        app.count(
            "pg_stat_user_tables where relname = 'participants' and n_tup_upd >= 20 and n_tup_hot_upd = n_tup_upd",
        )
        .await
            == 1
    })
    .await;
}
