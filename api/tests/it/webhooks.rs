use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::*;

fn joined(room: &str) -> Value {
    json!({
        "event_name": "muc-occupant-joined", "room_name": room, "room_jid": format!("{room}@conference.meet.example.org"),
        "is_breakout": false,
        "occupant": {"name": "Ali", "id": "s1", "occupant_jid": "a1b2@meet.example.org/x", "joined_at": now().timestamp()},
    })
}

async fn jitsi(app: &TestApp, to: &str, secret: Option<&str>, body: &Value) -> Answer {
    let request = app.anonymous().request(Method::POST, to).json(body);
    answer(match secret {
        Some(secret) => request.bearer_auth(secret),
        None => request,
    })
    .await
}

#[tokio::test]
async fn a_webhook_is_stored_and_queued_once() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let body = joined(made["room"].as_str().unwrap());
    let first = jitsi(&app, "/webhooks/jitsi/", Some(JITSI_SECRET), &body).await.expect(StatusCode::OK);
    assert_eq!(first, json!({"status": "stored"}));
    // The same by the path that event_sync itself uses.
    let again = jitsi(&app, "/webhooks/jitsi/events/occupant/joined", Some(JITSI_SECRET), &body).await;
    assert_eq!(again.expect(StatusCode::OK), json!({"status": "duplicate"}));
    let stored: (String, Value, Option<uuid::Uuid>, String) =
        sqlx::query_as("select provider, body, session_id, state from webhook_events")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!((stored.0.as_str(), &stored.1, stored.3.as_str()), ("jitsi", &body, "stored"));
    assert_eq!(stored.2.unwrap().to_string(), made["id"].as_str().unwrap());
    let jobs = app.jobs().await;
    assert_eq!((jobs.len(), jobs[0].0.as_str()), (1, "process-webhook"));
}

#[tokio::test]
async fn one_event_told_many_times_at_once_is_one() {
    let app = TestApp::start().await;
    let body = joined("some-room");
    let answers =
        futures::future::join_all((0..32).map(|_| jitsi(&app, "/webhooks/jitsi/", Some(JITSI_SECRET), &body))).await;
    let stored = answers.into_iter().filter(|a| a.status == StatusCode::OK && a.json()["status"] == "stored").count();
    assert_eq!((stored, app.count("webhook_events").await, app.count("jobs").await), (1, 1, 1));
}

#[tokio::test]
async fn webhooks_that_come_at_once_are_each_kept_once_and_one_that_cannot_be_stored_harms_no_other() {
    let app = TestApp::start().await;
    sqlx::raw_sql(
        "create function spoil() returns trigger language plpgsql as $$ begin \
             if new.body ->> 'room_name' = 'room-7' then raise exception 'spoilt'; end if; return new; end $$; \
         create trigger spoil before insert on webhook_events for each row execute function spoil()",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let bodies: Vec<Value> = (0..40).map(|n| joined(&format!("room-{n}"))).collect();
    let all = bodies.iter().chain(&bodies).map(|body| jitsi(&app, "/webhooks/jitsi/", Some(JITSI_SECRET), body));
    let answers = futures::future::join_all(all).await;
    let told = |status: &str| answers.iter().filter(|a| a.status == 200 && a.json()["status"] == status).count();
    assert_eq!((told("stored"), told("duplicate")), (39, 39));
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::INTERNAL_SERVER_ERROR).count(), 2);
    assert_eq!((app.count("webhook_events").await, app.count("jobs").await), (39, 39));
}

#[tokio::test]
async fn unknown_rooms_and_events_are_kept() {
    let app = TestApp::start().await;
    let unknown = json!({"event_name": "muc-something-new", "room_name": "nowhere", "room_jid": "nowhere@x"});
    for body in [joined("nowhere"), unknown] {
        let kept = jitsi(&app, "/webhooks/jitsi/", Some(JITSI_SECRET), &body).await.expect(StatusCode::OK);
        assert_eq!(kept["status"], "stored");
    }
    assert_eq!(app.count("webhook_events where session_id is null").await, 2);
}

#[tokio::test]
async fn what_is_not_signed_writes_nothing() {
    let app = TestApp::start().await;
    let body = joined("room");
    for secret in [None, Some(""), Some("jitsi-webhook-secreT"), Some(SECRET)] {
        jitsi(&app, "/webhooks/jitsi/", secret, &body).await.problem(401, "unauthorized");
        jitsi(&app, "/webhooks/jitsi/events/occupant/joined", secret, &body).await.problem(401, "unauthorized");
        jitsi(&app, "/webhooks/jaas/", secret, &body).await.problem(401, "unauthorized");
    }
    app.teacher().post("/webhooks/jitsi/", &body).await.problem(401, "unauthorized");
    let request = |body: &'static str| {
        answer(app.anonymous().request(Method::POST, "/webhooks/jitsi/").bearer_auth(JITSI_SECRET).body(body))
    };
    for body in ["", "{", "[]", "null", "{\"event_name\":\"a\\u0000b\"}"] {
        request(body).await.problem(400, "malformed-webhook");
    }
    assert_eq!((app.count("webhook_events").await, app.count("jobs").await), (0, 0));
}

#[tokio::test]
async fn without_a_configured_secret_nothing_is_taken() {
    let app = TestApp::start_with(&["--jitsi-webhook-secret", ""]).await;
    jitsi(&app, "/webhooks/jitsi/", Some(""), &joined("room")).await.problem(401, "unauthorized");
    assert_eq!(app.count("webhook_events").await, 0);
}

#[tokio::test]
async fn our_prosody_module_signs_and_a_repeat_is_known_by_its_id() {
    let app = TestApp::start().await;
    let made = app.live(json!({})).await;
    let mut event = joined(made["room"].as_str().unwrap());
    event["id"] = json!("0d2f-1");
    let send = async |signed_at: i64, event: &Value, secret: &str| {
        let body = event.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("0d2f-1.{signed_at}.{body}").as_bytes());
        let request = app.anonymous().request(Method::POST, "/webhooks/jitsi/");
        let request = request.header("webhook-id", "0d2f-1").header("webhook-timestamp", signed_at);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        answer(request.header("webhook-signature", signature).header("content-type", "application/json").body(body))
            .await
    };
    let t = now().timestamp();
    send(t, &event, "another secret").await.problem(401, "unauthorized");
    // No secret will ever be right for it: the module gives it up, and goes on with the next event.
    send(t, &joined("nowhere"), "another secret").await.problem(401, "webhook-room-unknown");
    send(t - 301, &event, JITSI_SECRET).await.problem(409, "webhook-stale");
    assert_eq!(app.count("webhook_events").await, 0);
    assert_eq!(send(t, &event, JITSI_SECRET).await.expect(StatusCode::OK)["status"], "stored");
    // Signed anew, as each attempt is.
    assert_eq!(send(t - 5, &event, JITSI_SECRET).await.expect(StatusCode::OK)["status"], "duplicate");
    assert_eq!((app.count("webhook_events").await, app.jobs().await.len()), (1, 1));
}

fn signature(t: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(JAAS_SECRET.as_bytes()).unwrap();
    mac.update(format!("{t}.{body}").as_bytes());
    format!("t={t},v1={}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn jaas_signatures_are_checked_against_the_raw_body_and_the_clock() {
    let app = TestApp::start().await;
    let body = json!({
        "eventType": "PARTICIPANT_JOINED", "sessionId": "9a441d60", "timestamp": now().timestamp_millis(),
        "fqn": "vpaas-magic-cookie-1/room", "idempotencyKey": "key-1", "customerId": "1", "appId": "vpaas-magic-cookie-1",
        "data": {"name": "Test", "id": "s1", "participantJid": "fc1@8x8.vc", "moderator": false},
    })
    .to_string();
    let send = async |signature: String, body: String| {
        let request = app.anonymous().request(Method::POST, "/webhooks/jaas/").header("x-jaas-signature", signature);
        answer(request.header("content-type", "application/json").body(body)).await
    };
    let t = now().timestamp();
    send(signature(t, &body), body.replace("Test", "Tesd")).await.problem(401, "unauthorized");
    send(signature(t - 7 * 86_400, &body), body.clone()).await.problem(409, "webhook-stale");
    assert_eq!(app.count("webhook_events").await, 0);
    assert_eq!(send(signature(t, &body), body.clone()).await.expect(StatusCode::OK)["status"], "stored");
    assert_eq!(send(signature(t, &body), body).await.expect(StatusCode::OK)["status"], "duplicate");
}

/// A webhook of a session of the tenant, processed to no effect.
pub async fn webhook_event(app: &TestApp) -> String {
    // At the environment's Jitsi.
    app.sql("update provider_configs set is_default = false").await;
    let made = app.live(json!({})).await;
    let mut body = joined(made["room"].as_str().unwrap());
    body["occupant"]["occupant_jid"] = format!("{}@x/y", uuid::Uuid::now_v7()).into();
    jitsi(app, "/webhooks/jitsi/", Some(JITSI_SECRET), &body).await.expect(StatusCode::OK);
    app.sql("update webhook_events set state = 'ignored', note = 'so'").await;
    app.sql("delete from jobs where kind = 'process-webhook'").await;
    let id: uuid::Uuid = sqlx::query_scalar("select id from webhook_events order by id desc limit 1")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    id.to_string()
}

async fn inbox(client: &Client<'_>, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/webhook-events/?{query}")).await.expect(StatusCode::OK);
    page["results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_inbox_shows_what_came_and_an_event_can_be_processed_again() {
    let app = TestApp::start().await;
    let id = webhook_event(&app).await;
    let (admin, operator) = (app.admin(), app.somebody("other", "op", &["operator"]));
    let listed = inbox(&admin, "").await;
    let [event] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(
        (&event["id"], &event["provider"], &event["event_type"], &event["state"], &event["note"]),
        (&json!(id), &json!("jitsi"), &json!("muc-occupant-joined"), &json!("ignored"), &json!("so"))
    );
    for (query, found) in [
        ("state=ignored&provider=jitsi&event_type=muc-occupant-joined", 1),
        ("state=stored", 0),
        ("provider=bbb", 0),
        ("received_before=2026-01-01T00:00:00Z", 0),
        (&format!("session_id={}", event["session_id"].as_str().unwrap()), 1),
    ] {
        assert_eq!(inbox(&admin, query).await.len(), found, "{query}");
    }
    for wrong in ["state=lost", "provider=teams", "page_size=0", "room=x"] {
        admin.get(&format!("/webhook-events/?{wrong}")).await.problem(400, "invalid-parameter");
    }
    let shown = admin.get(&format!("/webhook-events/{id}/")).await.expect(StatusCode::OK);
    assert_eq!(shown["body"]["occupant"]["name"], "Ali");

    let to = format!("/webhook-events/{id}/replay/");
    let replayed = admin.call(&to).await.expect(StatusCode::OK);
    assert_eq!((&replayed["state"], &replayed["note"]), (&json!("stored"), &Value::Null));
    operator.call(&to).await.expect(StatusCode::OK);
    let jobs: Vec<String> = app.jobs().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(jobs, ["process-webhook"], "it waits once");
    let log = admin.get("/audit-log/?action=webhook-event.replayed").await.expect(StatusCode::OK);
    assert_eq!(log["results"].as_array().unwrap().len(), 1, "the second changed nothing");

    // Another tenant has no part in it; nor has what belongs to nobody a place but with operators.
    let foreign = app.foreigner();
    for path in [format!("/webhook-events/{id}/"), to] {
        let method = if path.ends_with("replay/") { Method::POST } else { Method::GET };
        answer(foreign.request(method, &path)).await.problem(404, "not-found");
    }
    jitsi(&app, "/webhooks/jitsi/", Some(JITSI_SECRET), &joined("nowhere")).await.expect(StatusCode::OK);
    assert_eq!((inbox(&admin, "").await.len(), inbox(&operator, "").await.len()), (1, 2));
}

#[tokio::test]
async fn the_inbox_shows_no_password_and_no_link_that_carries_one() {
    let app = TestApp::start().await;
    let id = webhook_event(&app).await;
    app.sql(
        r#"update webhook_events set body = '{"data": {"preAuthenticatedLink": "https://x/?token=geheim", "list": [{"moderator-pass": "geheim"}]},
            "download_token": "geheim", "passcodes": null, "name": "Ali"}'"#,
    )
    .await;
    let shown = app.admin().get(&format!("/webhook-events/{id}/")).await.expect(StatusCode::OK);
    assert_eq!(
        shown["body"],
        json!({"data": {"preAuthenticatedLink": "…", "list": [{"moderator-pass": "…"}]}, "download_token": "…",
            "passcodes": null, "name": "Ali"})
    );
}
