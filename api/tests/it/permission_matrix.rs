//! Every operation of the document, tried by every kind of caller of the own tenant and of another one.

use std::{collections::BTreeMap, sync::LazyLock};

use api::permissions::{RULES, Right, Rule, Standing};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    key_server::rsa_pem,
    provider_configs::{bbb, config_path, jitsi},
    support::*,
    webhooks::webhook_event,
};

/// Who calls. Sessions belong to `teacher` of the tenant `okul` and are for invitees only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Person {
    what: &'static str,
    tenant: &'static str,
    id: &'static str,
    roles: &'static [&'static str],
    /// What they are to the session.
    standing: Standing,
}

const fn person(
    what: &'static str,
    tenant: &'static str,
    id: &'static str,
    roles: &'static [&'static str],
    standing: Standing,
) -> Person {
    Person { what, tenant, id, roles, standing }
}

const PEOPLE: [Person; 12] = [
    person("student", "okul", "stranger", &["student"], Standing::Stranger),
    person("invited student", "okul", "invited", &["student"], Standing::Invited),
    person("co-host", "okul", "helper", &["student"], Standing::CoHosts),
    person("instructor", "okul", "colleague", &["instructor"], Standing::Stranger),
    person("host", "okul", "teacher", &["instructor"], Standing::Hosts),
    person("admin", "okul", "boss", &["admin"], Standing::Administers),
    person("service", "okul", "lms", &["service"], Standing::Administers),
    person("operator", "okul", "op", &["operator"], Standing::Stranger),
    person("no role", "okul", "nobody", &[], Standing::Stranger),
    person("host's name elsewhere", "other", "teacher", &["instructor"], Standing::Stranger),
    person("admin elsewhere", "other", "boss", &["admin"], Standing::Stranger),
    person("service elsewhere", "other", "lms", &["service"], Standing::Stranger),
];

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// With this status.
    Refused(u16),
}

/// What the table says. `own` tells whether the operation is on a thing of the tenant `okul`.
fn expected(rule: Rule, person: &Person, on_a_thing: bool) -> Verdict {
    let has = |role| person.roles.contains(&role);
    let on_session = |right| match (person.standing.may(Right::View), person.standing.may(right)) {
        (_, true) => Verdict::Allowed,
        (true, false) => Verdict::Refused(403),
        (false, false) => Verdict::Refused(404),
    };
    let only = |allowed| if allowed { Verdict::Allowed } else { Verdict::Refused(403) };
    match rule {
        Rule::Open | Rule::Known => Verdict::Allowed,
        Rule::Provider => Verdict::Refused(401),
        Rule::MakeSessions => only(["instructor", "admin", "service"].into_iter().any(has)),
        Rule::OnSession(right) => on_session(right),
        Rule::Join if has("service") && person.tenant == "okul" => Verdict::Refused(403),
        Rule::Join => on_session(Right::View),
        Rule::Administer if on_a_thing && has("admin") && person.tenant != "okul" => Verdict::Refused(404),
        Rule::Administer => only(has("admin")),
        Rule::Oversee if has("operator") => Verdict::Allowed,
        Rule::Oversee if on_a_thing && has("admin") && person.tenant != "okul" => Verdict::Refused(404),
        Rule::Oversee => only(has("admin")),
        Rule::Operate => only(has("operator")),
    }
}

/// The operations of the document: name, method, address.
fn operations() -> Vec<(String, Method, String)> {
    let document = serde_json::to_value(api::router::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(_, o)| o.get("operationId").is_some()) {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            operations.push((name, method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    operations
}

/// The address with fresh things of the tenant `okul` in it.
async fn address(app: &TestApp, path: &str) -> String {
    let path = path
        .replace("{file}", "index.html")
        .replace("{person_id}", "invited")
        .replace("{event}", "room/created")
        .replace("{sha256}", &"0".repeat(64));
    let path = path.replace("{key}", "jwks.json").replace("{conference_id}", &unique());
    let id = if path.contains("/sessions/{id}/") {
        let invitees = json!([{"person_id": "invited"}, {"person_id": "helper", "role": "co_host"}]);
        let made = app.planned(json!({"access": "invitees", "invitees": invitees})).await;
        made["id"].as_str().unwrap().to_owned()
    } else if path.contains("/recordings/{id}/") {
        let made = app.planned(json!({"access": "invitees", "invitees": [{"person_id": "invited"}, {"person_id": "helper", "role": "co_host"}]})).await;
        let id = uuid::Uuid::now_v7();
        sqlx::query(
            "insert into recordings (id, tenant_id, session_id, external_id, state, object_key, size_bytes, stored_at) \
             select $1, tenant_id, id, 'r', 'published', 'k', 1, now() from sessions where id = $2::uuid",
        )
        .bind(id)
        .bind(made["id"].as_str().unwrap())
        .execute(&app.pool)
        .await
        .unwrap();
        id.to_string()
    } else if path.contains("/jobs/{id}/") {
        let state = if path.contains("cancel") { "available" } else { "dead" };
        let id = uuid::Uuid::now_v7();
        let insert = "insert into jobs (id, queue, kind, payload, max_attempts, state) values ($1, 'default', 'noop', '{}', 1, $2)";
        sqlx::query(insert).bind(id).bind(state).execute(&app.pool).await.unwrap();
        id.to_string()
    } else if path.contains("/erasures/{id}/") {
        let person = format!("/people/{}/erase/", unique());
        app.admin().call(&person).await.expect(StatusCode::ACCEPTED)["id"].as_str().unwrap().to_owned()
    } else if path.contains("/api-keys/{id}/") {
        let made = app.admin().post("/api-keys/", &json!({"name": "LMS", "roles": ["service"]})).await;
        made.expect(StatusCode::CREATED)["id"].as_str().unwrap().to_owned()
    } else if path.contains("/bbb/callbacks/{id}/") {
        let made = app.configure(&bbb(&unique(), "https://bbb.school.test")).await;
        let made = app.planned(json!({"provider_config_id": made["id"]})).await;
        made["id"].as_str().unwrap().to_owned()
    } else if path.contains("/webhook-events/{id}/") {
        webhook_event(app).await
    } else if path.contains("{id}") {
        let of_jaas = path.contains("/jaas/");
        let made = app.configure(&if of_jaas { jaas(&unique()) } else { jitsi(&unique(), json!({})) }).await;
        config_path(&made, "").trim_matches('/').rsplit('/').next().unwrap().to_owned()
    } else {
        String::new()
    };
    let name = if path.contains("/schedules/") { "cleanup" } else { "default" };
    path.replace("{id}", &id).replace("{name}", name).replace("{provider}", "jitsi").replace("{token}", "0123")
}

fn unique() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn jaas(name: &str) -> Value {
    static KEY: LazyLock<String> = LazyLock::new(rsa_pem);
    let app = "vpaas-magic-cookie-96f0941768964ab380ed0fbada7a502f";
    json!({
        "name": name, "provider": "jaas", "settings": {"app_id": app, "key_id": format!("{app}/4f4910")},
        "secrets": {"private_key": *KEY, "webhook_secret": JAAS_SECRET},
    })
}

async fn verdict(client: &Client<'_>, method: &Method, to: &str) -> Verdict {
    // With `/` before it, it is no address below the API's base.
    let mut request = client.request(method.clone(), &format!("/{to}"));
    if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        // Whoever may not do it is refused whatever the body holds.
        request = request.json(&json!({}));
    }
    let answer = answer(request).await;
    assert!(answer.status.as_u16() < 500 || to == "/readyz", "{method} {to}: {} {}", answer.status, answer.text());
    match answer.status.as_u16() {
        status @ (401 | 403 | 404) => Verdict::Refused(status),
        _ => Verdict::Allowed,
    }
}

#[tokio::test]
async fn every_operation_obeys_its_rule_whoever_calls() {
    let app = TestApp::start_with(&["--rate-limit-person", "off", "--rate-limit-tenant", "off"]).await;
    app.sql("insert into schedules (name, cron, zone, enabled) values ('cleanup', '0 3 * * *', 'UTC', true)").await;
    let rules: BTreeMap<_, _> = RULES.iter().copied().collect();
    let operations = operations();
    let mut wrong = Vec::new();
    for (name, method, path) in &operations {
        let rule = *rules.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in permissions::RULES"));
        let mut judge = async |who: &str, client: Client<'_>, expected: Verdict| {
            let to = address(&app, path).await;
            let found = verdict(&client, method, &to).await;
            if found != expected {
                wrong.push(format!("{name} by {who}: {found:?}, not {expected:?}"));
            }
        };
        for person in &PEOPLE {
            let client = app.somebody(person.tenant, person.id, person.roles);
            judge(person.what, client, expected(rule, person, path.contains("{id}"))).await;
        }
        let stranger = if rule == Rule::Open { Verdict::Allowed } else { Verdict::Refused(401) };
        judge("nobody", app.anonymous(), stranger).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: Vec<_> = operations.iter().map(|(name, ..)| name.as_str()).collect();
    let gone: Vec<_> = rules.keys().filter(|name| !names.contains(name)).collect();
    assert!(gone.is_empty(), "there is no such operation any more: {gone:?}");
}

/// The table of `docs/SECURITY.md`, of which `UPDATE=1` writes the new form.
#[test]
fn the_table_of_permissions_is_in_the_documents() {
    let mut table = String::from("| operation |");
    for person in PEOPLE {
        table += &format!(" {} |", person.what);
    }
    table += &format!("\n| --- |{}\n", " --- |".repeat(PEOPLE.len()));
    let rules: BTreeMap<_, _> = RULES.iter().copied().collect();
    let mut operations = operations();
    operations.sort_by(|a, b| (&a.2, a.1.as_str()).cmp(&(&b.2, b.1.as_str())));
    for (name, method, path) in operations {
        let rule = rules[name.as_str()];
        if matches!(rule, Rule::Open | Rule::Provider) {
            continue;
        }
        table += &format!("| `{method} {}` |", path.strip_prefix(BASE).unwrap_or(&path));
        for person in &PEOPLE {
            table += match expected(rule, person, path.contains("{id}")) {
                Verdict::Allowed => " yes |",
                Verdict::Refused(403) => " 403 |",
                Verdict::Refused(_) => " 404 |",
            };
        }
        table += "\n";
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("<!-- permissions: written by a test -->\n").unwrap();
    let (old, after) = rest.split_once("<!-- end of permissions -->").unwrap();
    if old != table && std::env::var_os("UPDATE").is_some() {
        let new = format!("{before}<!-- permissions: written by a test -->\n{table}<!-- end of permissions -->{after}");
        std::fs::write(&file, new).unwrap();
    } else {
        assert_eq!(old, table, "UPDATE=1 cargo test -p api --test it the_table_of_permissions writes it");
    }
}

#[test]
fn the_rules_are_sorted() {
    assert!(RULES.is_sorted_by_key(|(name, _)| *name));
}
