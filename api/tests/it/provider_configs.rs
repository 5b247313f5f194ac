use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

pub const JWT_SECRET: &str = "the-school-s-own-jwt-secret-x7k2";
pub const WEBHOOK_SECRET: &str = "the-school-s-own-webhook-secret-q9";

/// A good Jitsi configuration, with changes.
pub fn jitsi(name: &str, changes: Value) -> Value {
    let mut body = json!({
        "name": name, "provider": "jitsi", "settings": {"domain": "meet.school.test", "app_id": "school"},
        "secrets": {"jwt_secret": JWT_SECRET, "webhook_secret": WEBHOOK_SECRET},
    });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

pub fn bbb(name: &str, server_url: &str) -> Value {
    json!({
        "name": name, "provider": "bbb", "settings": {"server_url": server_url},
        "secrets": {"shared_secret": "639259d4-9dd8-4b25-bf01-95f9567eaf4b"},
    })
}

pub fn config_path(made: &Value, rest: &str) -> String {
    format!("/provider-configs/{}/{rest}", made["id"].as_str().unwrap())
}

impl TestApp {
    pub async fn configure(&self, body: &Value) -> Value {
        self.admin().post("/provider-configs/", body).await.expect(StatusCode::CREATED)
    }

    pub async fn configure_default(&self, body: &Value) -> Value {
        let made = self.configure(body).await;
        self.admin().call(&config_path(&made, "make-default/")).await.expect(StatusCode::OK)
    }
}

#[tokio::test]
async fn a_configuration_is_made_shown_changed_and_deleted() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let answer = admin.post("/provider-configs/", &jitsi("Main campus", json!({}))).await;
    let (location, etag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
    let made = answer.expect(StatusCode::CREATED);
    let id = made["id"].as_str().unwrap();
    assert_eq!(location, format!("{BASE}/provider-configs/{id}/"));
    assert_eq!(made["webhook_url"], format!("{BASE}/webhooks/jitsi/{id}/"));
    // With all defaults, as it is understood.
    let settings = json!({
        "domain": "meet.school.test", "app_id": "school", "audience": "jitsi", "xmpp_domain": "*", "recording_hosts": [],
        "algorithm": "HS256", "prejoin": false, "lobby": false, "start_muted": false, "hide_participants_from_recorder": false,
    });
    assert_eq!(made["key_server_url"], Value::Null);
    assert_eq!(made["settings"], settings);
    assert_eq!((&made["enabled"], &made["is_default"], etag.as_str()), (&json!(true), &json!(false), "\"1\""));

    assert_eq!(admin.get(&config_path(&made, "")).await.expect(StatusCode::OK), made);
    let change = json!({"name": "North campus", "settings": {"audience": "school", "xmpp_domain": null}});
    let changed = admin.patch(&config_path(&made, ""), &change).await.expect(StatusCode::OK);
    assert_eq!((&changed["name"], &changed["version"]), (&json!("North campus"), &json!(2)));
    assert_eq!(changed["settings"]["audience"], "school");
    assert_eq!(changed["settings"]["domain"], "meet.school.test");
    assert_eq!(changed["secrets"], made["secrets"]);
    // The same again changes nothing.
    assert_eq!(admin.patch(&config_path(&made, ""), &change).await.expect(StatusCode::OK), changed);

    let stale = |method: Method| admin.request(method, &config_path(&made, "")).header("if-match", &etag);
    answer_of(stale(Method::PATCH).json(&json!({"name": "x"}))).await.problem(412, "precondition-failed");
    answer_of(stale(Method::DELETE)).await.problem(412, "precondition-failed");
    assert_eq!(admin.delete(&config_path(&made, "")).await.status, StatusCode::NO_CONTENT);
    admin.get(&config_path(&made, "")).await.problem(404, "not-found");
    assert_eq!((app.count("provider_configs").await, app.count("provider_secrets").await), (0, 0));
}

async fn answer_of(request: reqwest::RequestBuilder) -> Answer {
    answer(request).await
}

#[tokio::test]
async fn lists_are_pages_of_the_tenants_own() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.configure(&jitsi(&format!("Campus {n}"), json!({}))).await;
    }
    app.foreigner().post("/provider-configs/", &jitsi("Campus 0", json!({}))).await.expect(StatusCode::CREATED);
    let mut names = Vec::new();
    let mut next = "/provider-configs/?page_size=2".to_owned();
    loop {
        let page = app.admin().get(&next).await.expect(StatusCode::OK);
        let results = page["results"].as_array().unwrap();
        names.extend(results.iter().map(|config| config["name"].as_str().unwrap().to_owned()));
        assert!(results.iter().all(|config| config["secrets"]["jwt_secret"] == "••••x7k2"));
        let Some(link) = page["next"].as_str() else { break };
        next = link.strip_prefix(BASE).unwrap().to_owned();
    }
    assert_eq!(names, ["Campus 0", "Campus 1", "Campus 2", "Campus 3", "Campus 4"]);
}

#[tokio::test]
async fn all_faults_of_settings_and_secrets_are_told_at_once() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let body = json!({
        "name": "", "provider": "jitsi", "nmae": 1,
        "settings": {"domain": "a b", "audience": 7, "recording_hosts": ["x/y"], "realm": "z"},
        "secrets": {"webhook_secret": "short", "password": "x"},
    });
    let expected = [
        "/name",
        "/nmae",
        "/secrets/jwt_secret",
        "/secrets/password",
        "/secrets/webhook_secret",
        "/settings/app_id",
        "/settings/audience",
        "/settings/domain",
        "/settings/realm",
        "/settings/recording_hosts/0",
    ];
    assert_eq!(admin.post("/provider-configs/", &body).await.pointers(), expected);
    assert_eq!(
        admin.post("/provider-configs/", &json!({})).await.pointers(),
        ["/name", "/provider", "/secrets", "/settings"]
    );
    for wrong in [json!(7), json!("x"), json!([])] {
        let body = jitsi("x", json!({"settings": wrong, "secrets": wrong}));
        assert_eq!(admin.post("/provider-configs/", &body).await.pointers(), ["/secrets", "/settings"]);
    }
    let other = json!({"name": "x", "provider": "teams", "settings": {"domain": 7}, "secrets": {}});
    assert_eq!(admin.post("/provider-configs/", &other).await.pointers(), ["/provider"]);

    let made = app.configure(&jitsi("Main campus", json!({}))).await;
    let change = json!({
        "provider": "bbb", "settings": {"domain": null, "audience": 7}, "secrets": {"jwt_secret": null, "x": "y"},
    });
    let expected = ["/provider", "/secrets/jwt_secret", "/secrets/x", "/settings/audience", "/settings/domain"];
    assert_eq!(admin.patch(&config_path(&made, ""), &change).await.pointers(), expected);
    for wrong in [json!(7), json!(null)] {
        let change = json!({"settings": wrong, "secrets": wrong, "name": null});
        let pointers = admin.patch(&config_path(&made, ""), &change).await.pointers();
        assert_eq!(pointers, ["/name", "/secrets", "/settings"]);
    }
    admin.patch(&config_path(&made, ""), &json!([])).await.problem(422, "validation-failed");
    assert_eq!(admin.get(&config_path(&made, "")).await.expect(StatusCode::OK), made);
}

#[tokio::test]
async fn secrets_are_written_and_what_stands_for_them_is_not() {
    let app = TestApp::start().await;
    let admin = app.admin();
    let made = app.configure(&jitsi("Main campus", json!({"secrets": {"jwt_secret": JWT_SECRET}}))).await;
    assert_eq!(
        made["secrets"],
        json!({"jwt_secret": "••••x7k2", "webhook_secret": null, "private_key": null, "control_secret": null})
    );
    let to = config_path(&made, "");
    for mask in ["••••x7k2", "••••"] {
        let problem =
            admin.patch(&to, &json!({"secrets": {"jwt_secret": mask}})).await.problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], "/secrets/jwt_secret");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("leave the field out"));
    }
    let change = json!({"secrets": {"webhook_secret": "a-new-secret-for-webhooks"}});
    let changed = admin.patch(&to, &change).await.expect(StatusCode::OK);
    assert_eq!(
        changed["secrets"],
        json!({"jwt_secret": "••••x7k2", "webhook_secret": "••••ooks", "private_key": null, "control_secret": null})
    );
    let removed = admin.patch(&to, &json!({"secrets": {"webhook_secret": null}})).await.expect(StatusCode::OK);
    assert_eq!((&removed["secrets"]["webhook_secret"], &removed["version"]), (&Value::Null, &json!(3)));
}

#[tokio::test]
async fn names_are_unique_within_a_tenant() {
    let app = TestApp::start().await;
    let made = app.configure(&jitsi("North", json!({}))).await;
    app.admin().post("/provider-configs/", &jitsi("North", json!({}))).await.problem(409, "name-taken");
    let other = app.configure(&jitsi("South", json!({}))).await;
    app.admin().patch(&config_path(&other, ""), &json!({"name": "North"})).await.problem(409, "name-taken");
    app.admin().patch(&config_path(&made, ""), &json!({"name": "North"})).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_has_one_default_however_many_are_made_it_at_once() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    for n in 0..6 {
        made.push(app.configure(&jitsi(&format!("Campus {n}"), json!({}))).await);
    }
    let admin = app.admin();
    let paths: Vec<String> = made.iter().map(|config| config_path(config, "make-default/")).collect();
    let answers = futures::future::join_all(paths.iter().map(|path| admin.call(path))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(app.count("provider_configs where is_default").await, 1);
    let first = admin.call(&paths[0]).await.expect(StatusCode::OK);
    assert_eq!(first, admin.call(&paths[0]).await.expect(StatusCode::OK));
    app.foreigner().call(&paths[0]).await.problem(404, "not-found");

    // What is disabled is no default, and cannot become it.
    let disabled = admin.patch(&config_path(&made[0], ""), &json!({"enabled": false})).await.expect(StatusCode::OK);
    assert_eq!((&disabled["enabled"], &disabled["is_default"]), (&json!(false), &json!(false)));
    admin.call(&paths[0]).await.problem(409, "provider-config-disabled");
    admin.call(&paths[1]).await.expect(StatusCode::OK);
    admin.call(&paths[0]).await.problem(409, "provider-config-disabled");
    assert_eq!(app.count("provider_configs where is_default").await, 1, "a refusal takes no default away");
}

#[tokio::test]
async fn without_keys_nothing_is_sealed_and_it_is_told_whose_fault_that_is() {
    let app = TestApp::start_with(&["--secrets-keys", ""]).await;
    let problem = app.admin().post("/provider-configs/", &jitsi("x", json!({}))).await;
    let problem = problem.problem(503, "secrets-unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("neither SECRETS_KEYS nor SECRETS_KEYS_FILE is set"));
    assert_eq!(app.count("provider_configs").await, 0);
}

#[tokio::test]
async fn what_was_tampered_with_is_not_used_and_crashes_nothing() {
    let app = TestApp::start().await;
    let made = app.configure_default(&jitsi("Main campus", json!({}))).await;
    let other = app.configure(&jitsi("Other", json!({"secrets": {"jwt_secret": format!("{JWT_SECRET}-other")}}))).await;
    let session = app.live(json!({})).await;
    for tampering in [
        // Another row's ciphertext.
        format!(
            "ciphertext = (select ciphertext from provider_secrets where config_id = '{}')",
            other["id"].as_str().unwrap()
        ),
        "ciphertext = decode(repeat('00', 28), 'hex')".to_owned(),
        "key_id = 'lost'".to_owned(),
    ] {
        let id = made["id"].as_str().unwrap();
        app.sql(&format!("update provider_secrets set {tampering} where config_id = '{id}' and field = 'jwt_secret'"))
            .await;
        app.teacher().call(&path(&session, "join/")).await.problem(503, "secrets-unavailable");
        app.admin().call(&config_path(&made, "test/")).await.problem(503, "secrets-unavailable");
        let shown = app.admin().get(&config_path(&made, "")).await.expect(StatusCode::OK);
        assert_eq!(shown["secrets"]["jwt_secret"], "••••");
    }
    // Writing it anew mends it.
    app.admin()
        .patch(&config_path(&made, ""), &json!({"secrets": {"jwt_secret": JWT_SECRET}}))
        .await
        .expect(StatusCode::OK);
    app.teacher().call(&path(&session, "join/")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn only_administrators_see_and_change_configurations() {
    let app = TestApp::start().await;
    let made = app.configure(&jitsi("Main campus", json!({}))).await;
    let one = config_path(&made, "");
    let calls = || {
        vec![
            (Method::GET, "/provider-configs/".to_owned(), None),
            (Method::POST, "/provider-configs/".to_owned(), Some(jitsi("x", json!({})))),
            (Method::GET, one.clone(), None),
            (Method::PATCH, one.clone(), Some(json!({"name": "x"}))),
            (Method::DELETE, one.clone(), None),
            (Method::POST, config_path(&made, "make-default/"), None),
            (Method::POST, config_path(&made, "test/"), None),
        ]
    };
    let send = async |client: &Client<'_>, (method, to, body): (Method, String, Option<Value>)| {
        let request = client.request(method, &to);
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    };
    let operator = app.somebody("okul", "operator", &["operator"]);
    for client in [app.teacher(), app.student("s1"), app.service(), operator] {
        for call in calls() {
            send(&client, call).await.problem(403, "forbidden");
        }
    }
    for call in calls() {
        send(&app.anonymous(), call).await.problem(401, "unauthorized");
    }
    // To another tenant's administrator there is none.
    for call in calls().into_iter().filter(|(_, to, _)| to != "/provider-configs/") {
        send(&app.foreigner(), call).await.problem(404, "not-found");
    }
    assert_eq!(app.foreigner().get("/provider-configs/").await.expect(StatusCode::OK)["results"], json!([]));
    assert_eq!(app.admin().get(&one).await.expect(StatusCode::OK), made);
}

#[tokio::test]
async fn everybody_sees_what_each_provider_can_do() {
    let app = TestApp::start().await;
    let listed = app.student("s1").get("/providers/").await.expect(StatusCode::OK);
    let listed = listed.as_array().unwrap();
    let names: Vec<&str> = listed.iter().map(|kind| kind["provider"].as_str().unwrap()).collect();
    assert_eq!(names, ["jitsi", "jaas", "bbb", "zoom"]);
    let defaults: Vec<&Value> = listed.iter().filter(|kind| kind["is_default"] == true).collect();
    assert_eq!(
        (defaults.len(), &defaults[0]["provider"], &defaults[0]["configured"]),
        (1, &json!("jitsi"), &json!(true))
    );
    // The document tells all that there is, and nothing else.
    let document = app.anonymous().get("//openapi.json").await.expect(StatusCode::OK);
    let told: std::collections::BTreeSet<&String> =
        document["components"]["schemas"]["Capabilities"]["properties"].as_object().unwrap().keys().collect();
    for kind in listed {
        assert_eq!(kind["capabilities"].as_object().unwrap().keys().collect::<std::collections::BTreeSet<_>>(), told);
    }
    let made = app.configure(&bbb("BBB", "https://bbb.school.test")).await;
    assert_eq!(made["capabilities"], listed[2]["capabilities"]);
    assert_eq!(made["capabilities"]["ends_meetings"], true);
}
