//! Sessions that are held at a tenant's own provider.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{provider_configs::*, support::*};

/// The claims of a token that this secret has signed.
fn claims_of(joined: &Value, secret: &str) -> Option<Value> {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_audience(&["jitsi"]);
    let key = DecodingKey::from_secret(secret.as_bytes());
    decode::<Value>(joined["token"].as_str().unwrap(), &key, &rules).ok().map(|token| token.claims)
}

#[tokio::test]
async fn a_session_is_held_where_it_says_else_at_the_default_else_at_the_operators() {
    let app = TestApp::start().await;
    let own = app.planned(json!({})).await;
    assert_eq!((&own["provider"], &own["provider_config_id"]), (&json!("jitsi"), &Value::Null));
    let first = app.configure(&jitsi("First", json!({}))).await;
    assert_eq!(app.planned(json!({})).await["provider_config_id"], Value::Null, "there is no default yet");
    assert_eq!(app.planned(json!({"provider": "jitsi"})).await["provider_config_id"], first["id"]);
    let second = app.configure_default(&jitsi("Second", json!({}))).await;
    assert_eq!(app.planned(json!({})).await["provider_config_id"], second["id"]);
    assert_eq!(app.planned(json!({"provider": "jitsi"})).await["provider_config_id"], second["id"]);
    let named = app.planned(json!({"provider_config_id": first["id"]})).await;
    assert_eq!((&named["provider"], &named["provider_config_id"]), (&json!("jitsi"), &first["id"]));
    app.admin().patch(&config_path(&second, ""), &json!({"enabled": false})).await.expect(StatusCode::OK);
    assert_eq!(app.planned(json!({})).await["provider_config_id"], Value::Null);
}

#[tokio::test]
async fn a_session_is_not_planned_where_it_could_not_be_held() {
    let app = TestApp::start().await;
    let plan = async |changes: Value| app.teacher().post("/sessions/", &session(changes)).await;
    let foreign =
        app.foreigner().post("/provider-configs/", &jitsi("Theirs", json!({}))).await.expect(StatusCode::CREATED);
    let disabled = app.configure(&jitsi("Disabled", json!({"enabled": false}))).await;
    let good = app.configure(&jitsi("Good", json!({}))).await;
    let nobody = "019abcde-0000-7000-8000-000000000000";
    for id in [&foreign["id"], &disabled["id"], &json!(nobody), &json!("x")] {
        assert_eq!(plan(json!({"provider_config_id": id})).await.pointers(), ["/provider_config_id"], "{id}");
    }
    let other_kind = json!({"provider_config_id": good["id"], "provider": "bbb"});
    assert_eq!(plan(other_kind).await.pointers(), ["/provider_config_id"]);
    assert_eq!(app.count("sessions").await, 0);
}

#[tokio::test]
async fn a_join_leads_to_the_configured_server_with_its_secret() {
    let app = TestApp::start().await;
    let config = app.configure_default(&jitsi("Main campus", json!({}))).await;
    let session = app.live(json!({})).await;
    let join = async || app.teacher().call(&path(&session, "join/")).await;
    let joined = join().await.expect(StatusCode::OK);
    assert!(joined["join_url"].as_str().unwrap().starts_with("https://meet.school.test/"), "{joined}");
    assert_eq!(claims_of(&joined, JWT_SECRET).unwrap()["iss"], "school");
    assert!(claims_of(&joined, SECRET).is_none());

    // A change is seen at once by the process that made it.
    let new = "another-jwt-secret-of-the-school-77";
    let change = json!({"settings": {"domain": "meet2.school.test"}, "secrets": {"jwt_secret": new}});
    app.admin().patch(&config_path(&config, ""), &change).await.expect(StatusCode::OK);
    let joined = join().await.expect(StatusCode::OK);
    assert!(joined["join_url"].as_str().unwrap().starts_with("https://meet2.school.test/"));
    assert!(claims_of(&joined, new).is_some());

    app.admin().patch(&config_path(&config, ""), &json!({"enabled": false})).await.expect(StatusCode::OK);
    join().await.problem(409, "provider-config-disabled");
    app.admin().patch(&config_path(&config, ""), &json!({"enabled": true})).await.expect(StatusCode::OK);
    join().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_configuration_is_not_deleted_while_something_needs_it() {
    let app = TestApp::start().await;
    let config = app.configure_default(&jitsi("Main campus", json!({}))).await;
    let delete = async || app.admin().delete(&config_path(&config, "")).await;
    let planned = app.planned(json!({})).await;
    delete().await.problem(409, "provider-config-in-use");
    app.teacher().call(&path(&planned, "start/")).await.expect(StatusCode::OK);
    delete().await.problem(409, "provider-config-in-use");
    app.teacher().call(&path(&planned, "end/")).await.expect(StatusCode::OK);
    app.sql(
        "insert into recordings (id, tenant_id, session_id, external_id, state) \
         select gen_random_uuid(), tenant_id, id, 'r1', 'available' from sessions",
    )
    .await;
    delete().await.problem(409, "provider-config-in-use");
    app.sql("update recordings set state = 'published'").await;
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    let session = app.teacher().get(&path(&planned, "")).await.expect(StatusCode::OK);
    assert_eq!((&session["status"], &session["provider_config_id"]), (&json!("ended"), &Value::Null));
}

async fn send(app: &TestApp, to: &str, secret: &str, room: &Value, connection: &str) -> Answer {
    let body = json!({
        "event_name": "muc-occupant-joined", "room_name": room, "room_jid": "r@conference.meet.school.test",
        "occupant": {"name": "Ali", "id": "s1", "occupant_jid": connection, "joined_at": now().timestamp()},
    });
    answer(app.anonymous().request(Method::POST, to).bearer_auth(secret).json(&body)).await
}

#[tokio::test]
async fn webhooks_are_judged_by_their_own_configuration_s_secret() {
    let app = TestApp::start().await;
    let config = app.configure_default(&jitsi("Main campus", json!({}))).await;
    let session = app.live(json!({})).await;
    let room = &session["room"];
    let own = config["webhook_url"].as_str().unwrap().strip_prefix(BASE).unwrap();
    for wrong in [JITSI_SECRET, JWT_SECRET, ""] {
        send(&app, own, wrong, room, "a@x").await.problem(401, "unauthorized");
        if wrong != JITSI_SECRET {
            send(&app, "/webhooks/jitsi/", wrong, room, "a@x").await.problem(401, "unauthorized");
        }
    }
    assert_eq!(send(&app, own, WEBHOOK_SECRET, room, "a@x").await.expect(StatusCode::OK)["status"], "stored");
    let events = format!("{own}events/occupant/joined");
    assert_eq!(send(&app, &events, WEBHOOK_SECRET, room, "a@x").await.expect(StatusCode::OK)["status"], "duplicate");
    // The short address finds the configuration by the room.
    let again = send(&app, "/webhooks/jitsi/", WEBHOOK_SECRET, room, "a@x").await.expect(StatusCode::OK);
    assert_eq!(again["status"], "duplicate");
    send(&app, "/webhooks/jitsi/", WEBHOOK_SECRET, &json!("nowhere"), "a@x").await.problem(401, "unauthorized");
    let stored: Vec<(Option<uuid::Uuid>, bool)> =
        sqlx::query_as("select provider_config_id, session_id is not null from webhook_events")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(stored, [(Some(config["id"].as_str().unwrap().parse().unwrap()), true)]);

    let jaas = own.replace("jitsi", "jaas");
    send(&app, &jaas, WEBHOOK_SECRET, room, "a@x").await.problem(404, "not-found");
    let nowhere = "/webhooks/jitsi/019abcde-0000-7000-8000-000000000000/";
    send(&app, nowhere, WEBHOOK_SECRET, room, "a@x").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_tenant_s_secret_is_good_for_its_own_sessions_alone() {
    let app = TestApp::start().await;
    let other =
        app.foreigner().post("/provider-configs/", &jitsi("Theirs", json!({}))).await.expect(StatusCode::CREATED);
    let to = other["webhook_url"].as_str().unwrap().strip_prefix(BASE).unwrap();
    let victim = app.live(json!({})).await;
    // Rightly signed, so it is kept; but it is about no session of theirs.
    assert_eq!(send(&app, to, WEBHOOK_SECRET, &victim["room"], "a@x").await.expect(StatusCode::OK)["status"], "stored");
    assert_eq!(app.count("webhook_events where session_id is null").await, 1);
    // Nor does it use up the event of the session that it names.
    let event = send(&app, "/webhooks/jitsi/", JITSI_SECRET, &victim["room"], "a@x").await.expect(StatusCode::OK);
    assert_eq!(event["status"], "stored");
    assert_eq!(app.count("webhook_events where session_id is not null").await, 1);
}
