use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

fn people(ids: &[&str]) -> Value {
    let list: Vec<Value> =
        ids.iter().map(|id| json!({"person_id": id, "email": format!("{id}@okul.example"), "name": id})).collect();
    json!({"invitees": list})
}

#[tokio::test]
async fn replacing_the_list_invites_the_new_and_drops_the_mails_of_the_old() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let put =
        async |ids: &[&str]| app.teacher().put(&path(&made, "invitees/"), &people(ids)).await.expect(StatusCode::OK);
    assert_eq!(put(&["a", "b"]).await, json!({"total": 2, "added": 2, "removed": 0}));
    app.sql("update reminders set state = 'sent' where mail = 'invitation' and person_id = 'a'").await;
    assert_eq!(put(&["b", "c"]).await, json!({"total": 2, "added": 1, "removed": 1}));
    assert_eq!(put(&["b", "c"]).await, json!({"total": 2, "added": 0, "removed": 0}));
    // Only a was told; the calendar entry goes.
    assert_eq!(
        app.mails(&made).await,
        [
            "cancellation a 0 pending",
            "invitation a 0 sent",
            "invitation b 0 pending",
            "invitation c 0 pending",
            "reminder a 15 dropped",
            "reminder b 15 pending",
            "reminder c 15 pending",
            "reminder teacher 15 pending",
        ]
    );
    put(&["a"]).await;
    let list = app.teacher().get(&path(&made, "invitees/")).await.expect(StatusCode::OK);
    assert_eq!(
        list["results"],
        json!([{
            "person_id": "a", "name": "a", "email": "a@okul.example", "locale": null, "timezone": null,
            "role": "participant", "excused": false,
        }])
    );
}

#[tokio::test]
async fn ten_thousand_people_fit_into_one_call_and_one_more_does_not() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let many = |n: usize| {
        let list: Vec<Value> = (0..n)
            .map(|n| json!({"person_id": format!("student-{n:05}"), "name": format!("Öğrenci Numara {n}"), "email": format!("student-{n:05}@university.example.edu"), "locale": "tr", "timezone": "Europe/Istanbul", "role": "participant", "excused": false}))
            .collect();
        json!({"invitees": list})
    };
    let to = path(&made, "invitees/");
    assert_eq!(app.teacher().put(&to, &many(10_001)).await.pointers(), ["/invitees"]);
    let done = app.teacher().put(&to, &many(10_000)).await.expect(StatusCode::OK);
    assert_eq!(done, json!({"total": 10_000, "added": 10_000, "removed": 0}));
    assert_eq!(app.count("reminders where mail = 'invitation'").await, 10_000);
    let mut seen = 0;
    let mut next = Some(format!("{to}?page_size=200"));
    while let Some(address) = next {
        let page = app.teacher().get(&address).await.expect(StatusCode::OK);
        seen += page["results"].as_array().unwrap().len();
        next = page["next"].as_str().map(|link| link.strip_prefix(BASE).unwrap().to_owned());
    }
    assert_eq!(seen, 10_000);
}

#[tokio::test]
async fn nobody_is_on_the_list_twice_or_invited_to_what_is_over() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let to = path(&made, "invitees/");
    assert_eq!(app.teacher().put(&to, &people(&["a", "b", "a"])).await.pointers(), ["/invitees/2/person_id"]);
    let bad =
        json!({"invitees": [{"person_id": "a", "timezone": "X/Y", "locale": "de", "role": "host", "email": "a b@c"}]});
    assert_eq!(
        app.teacher().put(&to, &bad).await.pointers(),
        ["/invitees/0/email", "/invitees/0/locale", "/invitees/0/role", "/invitees/0/timezone"]
    );
    // Late guests of a live session are invited, not reminded.
    app.teacher().put(&to, &people(&["a"])).await.expect(StatusCode::OK);
    assert_eq!(app.mails(&made).await, ["invitation a 0 pending"]);
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    app.teacher().put(&to, &people(&["b"])).await.problem(409, "session-over");
}

/// `mail person sequence state address` of the mails to one person.
#[tokio::test]
async fn the_list_of_a_session_that_has_changed_meanwhile_is_not_replaced() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let to = path(&made, "invitees/");
    let seen = app.teacher().get(&path(&made, "")).await.header("etag").to_owned();
    app.teacher().patch(&path(&made, ""), &json!({"title": "Other"})).await.expect(StatusCode::OK);
    let put = async |etag: &str, person: &str| {
        let request = app.teacher().request(reqwest::Method::PUT, &to).header("if-match", etag);
        answer(request.json(&json!({"invitees": [{"person_id": person}]}))).await
    };
    put(&seen, "s1").await.problem(412, "precondition-failed");
    assert_eq!(app.count("invitees").await, 0);
    let now = app.teacher().get(&path(&made, "")).await.header("etag").to_owned();
    let made_by_one = put(&now, "s1").await;
    let newer = made_by_one.header("etag").to_owned();
    made_by_one.expect(StatusCode::OK);
    put(&now, "s2").await.problem(412, "precondition-failed");
    put(&newer, "s2").await.expect(StatusCode::OK);
    let at_once: Vec<_> = {
        let now = app.teacher().get(&path(&made, "")).await.header("etag").to_owned();
        let put = &put;
        futures::future::join_all((0..12).map(|n| {
            let now = now.clone();
            async move { put(&now, &format!("p{n}")).await.status }
        }))
        .await
    };
    assert_eq!(at_once.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{at_once:?}");
}

async fn mails_to(app: &TestApp, person: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select concat_ws(' ', mail, sequence, state, email) from reminders \
         where person_id = $1 and mail <> 'reminder' order by id",
    )
    .bind(person)
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn invited_taken_off_invited_again_and_called_off_are_one_mail_each() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"invitees": people(&["a", "b"])["invitees"]})).await;
    let put = async |ids: &[&str]| {
        app.teacher().put(&path(&made, "invitees/"), &people(ids)).await.expect(StatusCode::OK);
        app.teacher().get(&path(&made, "")).await.expect(StatusCode::OK)["sequence"].as_i64().unwrap()
    };
    let sent =
        async || app.sql("update reminders set state = 'sent' where state = 'pending' and mail <> 'reminder'").await;
    sent().await;
    assert_eq!(put(&["b"]).await, 1, "the cancellation is newer than the invitation");
    assert_eq!(mails_to(&app, "a").await, ["invitation 0 sent", "cancellation 1 pending a@okul.example"]);

    // Back before it was told: the entry in the calendar is renewed.
    assert_eq!(put(&["a", "b"]).await, 1);
    let mut expected = vec!["invitation 0 sent", "cancellation 1 dropped a@okul.example", "invitation 1 pending"];
    assert_eq!(mails_to(&app, "a").await, expected);
    sent().await;
    put(&["b"]).await;
    sent().await;
    assert_eq!(put(&["a", "b"]).await, 3, "the invitation is newer than the cancellation");
    expected[2] = "invitation 1 sent";
    expected.extend(["cancellation 2 sent a@okul.example", "invitation 3 pending"]);
    assert_eq!(mails_to(&app, "a").await, expected);

    // Nothing has told a of the session since: off the list again, no further mail, and none when it is cancelled.
    assert_eq!(put(&["b"]).await, 3);
    app.teacher().call(&path(&made, "cancel/")).await.expect(StatusCode::OK);
    expected[4] = "invitation 3 dropped";
    assert_eq!(mails_to(&app, "a").await, expected);
    assert_eq!(mails_to(&app, "b").await, ["invitation 0 sent", "cancellation 4 pending"]);
}

#[tokio::test]
async fn the_host_taken_off_the_list_goes_on_to_be_reminded() {
    let app = TestApp::start().await;
    let made = app.planned(json!({"invitees": people(&["teacher"])["invitees"]})).await;
    app.sql("update reminders set state = 'sent' where mail = 'invitation'").await;
    app.teacher().put(&path(&made, "invitees/"), &people(&[])).await.expect(StatusCode::OK);
    assert_eq!(app.mails(&made).await, ["invitation teacher 0 sent", "reminder teacher 15 pending"]);
}
