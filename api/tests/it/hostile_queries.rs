//! Whatever stands behind the `?` of a list, or as a cursor.

use api::router;
use proptest::prelude::*;
use reqwest::{Method, StatusCode};

use crate::{hostile_tokens::try_all, support::*};

/// The lists of the document, with the names of their parameters.
fn lists(session: &str) -> Vec<(String, Vec<String>)> {
    let document = serde_json::to_value(router::document()).unwrap();
    let mut lists = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters: Vec<String> = item["get"]["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        if !parameters.is_empty() && (!path.contains("{id}") || path.contains("/sessions/{id}/")) {
            lists.push((format!("/{}", path.replace("{id}", session)), parameters));
        }
    }
    lists
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_of_a_list_is_answered_or_refused_with_400() {
    let app = TestApp::start_with(&["--rate-limit-person", "off"]).await;
    let made = app.live(serde_json::json!({})).await;
    let lists = lists(made["id"].as_str().unwrap());
    assert!(lists.len() >= 8, "{lists:?}");
    let client = app.somebody("okul", "boss", &["admin", "operator"]);
    let words = prop::sample::select(vec![
        "",
        "0",
        "1",
        "-1",
        "200",
        "201",
        "99999999999999999999",
        "true",
        "null",
        "scheduled,live",
        "live,,",
        "starts_at",
        "json",
        "csv",
        "Europe/Istanbul",
        "../etc",
        "2030-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "+262142-01-01T00:00:00Z",
        "2030-01-01",
        "WyJuZXh0IiwxXQ",
        "WyJwcmV2aW91cyIsIngiXQ",
        "%00",
        "%ff",
        "%",
        "a'b",
        "\u{202e}",
        "dead",
        "default",
    ]);
    let value = prop_oneof![words.prop_map(str::to_owned), "[ -~]{0,30}", any::<String>()];
    let asked = (0..lists.len(), prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), value), 0..4));
    try_all(800, asked, async |(list, parameters): (usize, Vec<(prop::sample::Index, bool, String)>)| {
        let (path, names) = &lists[list];
        let mut query = Vec::new();
        for (name, raw, value) in parameters {
            let name = &names[name.index(names.len())];
            // Some as a client would write them, some as they are.
            let value = if raw && value.is_ascii() && !value.contains(['#', ' ']) {
                value
            } else {
                url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
            };
            query.push(format!("{name}={value}"));
        }
        let to = format!("{path}?{}", query.join("&"));
        let status = answer(client.request(Method::GET, &to)).await.status;
        assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&status), "{status}: {to}");
    });
}
