use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    provider_configs::{JWT_SECRET, WEBHOOK_SECRET, config_path, jitsi},
    support::*,
};

async fn log(client: &Client<'_>, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/audit-log/?page_size=200&{query}")).await.expect(StatusCode::OK);
    page["results"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_change_of_a_session_is_on_record_with_who_and_from_what_to_what() {
    let app = TestApp::start().await;
    let (teacher, admin) = (app.teacher(), app.admin());
    let made = app.planned(json!({"title": "Algebra"})).await;
    let id = made["id"].as_str().unwrap();
    teacher
        .patch(&path(&made, ""), &json!({"title": "Geometry", "max_participants": 5, "host_email": "a@okul.example"}))
        .await
        .expect(StatusCode::OK);
    teacher.put(&path(&made, "invitees/"), &json!({"invitees": [{"person_id": "s1"}]})).await.expect(StatusCode::OK);
    admin.post(&path(&made, "cancel/"), &json!({"reason": "Ill"})).await.expect(StatusCode::OK);
    // What changes nothing is no change.
    admin.call(&path(&made, "cancel/")).await.expect(StatusCode::OK);

    let entries = log(&admin, &format!("subject_id={id}")).await;
    assert_eq!(actions(&entries), ["session.created", "session.changed", "invitees.added", "session.cancelled"]);
    let [cancelled, added, changed, created] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(
        changed["changes"],
        json!({"title": ["Algebra", "Geometry"], "max_participants": [null, 5], "host_email": ["…", "…"]})
    );
    assert_eq!(cancelled["changes"]["status"], json!(["scheduled", "cancelled"]));
    assert_eq!(cancelled["changes"]["cancel_reason"], json!([null, "Ill"]));
    assert_eq!(added["changes"], json!({"count": [null, 1], "people": [null, ["s1"]]}));
    assert_eq!([&created["actor"], &cancelled["actor"]], ["person:teacher", "person:admin"]);
    assert!(entries.iter().all(|entry| entry["request_id"].as_str().is_some_and(|id| !id.is_empty())));

    assert_eq!(log(&admin, "action=session.cancelled").await.len(), 1);
    assert_eq!(log(&admin, "actor=person%3Anobody").await.len(), 0);
    let to = format!("subject_id={id}&before={}", created["at"].as_str().unwrap().replace('+', "%2B"));
    assert_eq!(log(&admin, &to).await.len(), 0);
}

#[tokio::test]
async fn configurations_and_keys_are_on_record_without_their_secrets() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let made = app.configure_default(&jitsi("Campus", json!({}))).await;
    let secret = json!({"secrets": {"jwt_secret": "another-secret-of-the-school-t5-x"}});
    admin.patch(&config_path(&made, ""), &secret).await.expect(StatusCode::OK);
    let key = json!({"name": "LMS", "roles": ["admin"]});
    let key = admin.post("/api-keys/", &key).await.expect(StatusCode::CREATED);
    let machine = app.with_token(key["key"].as_str().unwrap());
    assert_eq!(machine.delete(&config_path(&made, "")).await.status, StatusCode::NO_CONTENT);

    assert_eq!(
        admin.delete(&format!("/api-keys/{}/", key["id"].as_str().unwrap())).await.status,
        StatusCode::NO_CONTENT
    );

    let entries = log(&admin, "").await;
    let found = actions(&entries);
    for action in [
        "provider-config.created",
        "provider-secret.created",
        "provider-config.changed",
        "provider-secret.changed",
        "api-key.created",
        "api-key.revoked",
        "provider-config.deleted",
    ] {
        assert!(found.contains(&action), "{action}: {found:?}");
    }
    let actor = format!("api-key:{}", key["id"].as_str().unwrap());
    assert!(entries.iter().any(|e| e["actor"] == actor.as_str() && e["action"] == "provider-config.deleted"));
    let text = serde_json::to_string(&entries).unwrap();
    let secret_part = key["key"].as_str().unwrap().rsplit('_').next().unwrap();
    for secret in [JWT_SECRET, WEBHOOK_SECRET, "another-secret-of-the-school-t5-x", secret_part, "\"hash\""] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn the_log_is_for_the_tenant_s_administrators() {
    let app = TestApp::start().await;
    app.planned(json!({})).await;
    assert_eq!(log(&app.foreigner(), "").await.iter().filter(|e| e["action"] == "session.created").count(), 0);
    for client in [app.teacher(), app.student("s1"), app.service()] {
        client.get("/audit-log/").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn the_services_can_add_to_the_log_but_change_nothing_in_it() {
    let app = TestApp::start().await;
    app.planned(json!({})).await;
    let mut service = app.pool.acquire().await.unwrap();
    sqlx::query("set role live_sessions_service").execute(&mut *service).await.unwrap();
    for statement in [
        "update audit_log set actor = 'person:somebody-else'",
        "delete from audit_log",
        "insert into audit_log (actor, action, subject_id, changes) values ('a', 'b', 'c', '{}')",
        "truncate audit_log",
        "alter table sessions disable trigger audit",
    ] {
        let refused = sqlx::query(statement).execute(&mut *service).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{statement}");
    }
}

#[tokio::test]
async fn what_operators_do_with_jobs_and_queues_is_on_record() {
    let app = TestApp::start().await;
    let operator = app.somebody("other", "op", &["operator"]);
    app.sql(
        "insert into jobs (id, tenant_id, queue, kind, payload, max_attempts, state) \
         select gen_random_uuid(), id, 'default', 'noop', '{}', 1, 'dead' from tenants where slug = 'okul'",
    )
    .await;
    operator.post("/jobs/retry-dead/", &json!({})).await.expect(StatusCode::OK);
    operator.call("/queues/default/pause/").await.expect(StatusCode::OK);
    operator.call("/queues/default/pause/").await.expect(StatusCode::OK);
    operator.call("/queues/default/resume/").await.expect(StatusCode::OK);
    assert_eq!(actions(&log(&app.admin(), "action=job.retried").await), ["job.retried"]);
    // What is no tenant's, operators see, beside all that is some tenant's.
    for action in ["queue.paused", "queue.resumed"] {
        let entries = log(&operator, &format!("action={action}")).await;
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((&entry["actor"], &entry["tenant_id"]), (&json!("operator:op"), &Value::Null));
        assert_eq!(log(&app.admin(), &format!("action={action}")).await, Vec::<Value>::new());
    }
    assert_eq!(actions(&log(&operator, "action=job.retried").await), ["job.retried"]);
}
