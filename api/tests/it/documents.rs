use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::*;

async fn document(app: &TestApp) -> Value {
    app.anonymous().get("//openapi.json").await.expect(StatusCode::OK)
}

/// Every operation: path, method, object.
fn operations(document: &Value) -> Vec<(String, Method, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().filter_map(|(method, operation)| {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
                operation.is_object().then(|| (path.clone(), method, operation.clone()))
            })
        })
        .collect()
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    let app = TestApp::start().await;
    let all = operations(&document(&app).await);
    assert!(all.len() >= 30, "{}", all.len());
    for (path, method, operation) in all {
        let to = path.replace("{id}", "019abcde-0000-7000-8000-000000000000");
        let to =
            to.replace("{event}", "room/created").replace("{file}", "swagger-ui.css").replace("{provider}", "jitsi");
        let answer = answer(app.teacher().request(method.clone(), &format!("/{to}"))).await;
        let status = answer.status.as_str().to_owned();
        assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if answer.status == StatusCode::NOT_FOUND {
            assert_ne!(answer.json()["detail"], "There is no such address.", "{method} {path}");
        }
        assert!(
            operation["responses"].get(&status).is_some(),
            "{method} {path} answers {status}, which is not documented"
        );
    }
}

#[tokio::test]
async fn the_document_is_valid_openapi_3_1() {
    let app = TestApp::start().await;
    let document = document(&app).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    // Every reference leads somewhere.
    let mut references = Vec::new();
    collect(&document, "$ref", &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    // Every schema is one of JSON Schema 2020-12.
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
    }
    let mut ids = std::collections::BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}: operationId twice");
        let responses = operation["responses"].as_object().unwrap();
        assert!(!responses.is_empty(), "{what}");
        for (status, response) in responses {
            assert!(response["description"].is_string(), "{what} {status}");
            assert!((100..600).contains(&status.parse::<u16>().unwrap()), "{what} {status}");
        }
        // Path parameters are those of the path, and required.
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared: Vec<&str> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| {
                assert_eq!(p["required"], true, "{what}");
                p["name"].as_str().unwrap()
            })
            .collect();
        let templated: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(declared, templated, "{what}");
        assert!(operation["tags"].as_array().is_some_and(|t| t.len() == 1), "{what}");
        assert!(operation["summary"].is_string(), "{what}");
        if let Some(body) = operation.get("requestBody") {
            assert!(body["content"].as_object().is_some_and(|c| !c.is_empty()), "{what}");
        }
    }
}

fn collect(value: &Value, key: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            if name == key {
                found.push(field.clone());
            }
            collect(field, key, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_can_be_browsed_without_internet() {
    let app = TestApp::start().await;
    let anonymous = app.anonymous();
    assert_eq!(anonymous.get("//docs").await.header("location"), "/docs/");
    let page = anonymous.get("//docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text().contains("https://"), "{}", page.text());
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert_eq!(anonymous.get(&format!("//docs/{file}")).await.status, StatusCode::OK, "{file}");
    }
    assert!(anonymous.get("//docs/swagger-initializer.js").await.text().contains("/openapi.json"));
    anonymous.get("//docs/../secret").await.problem(404, "not-found");
    assert_eq!(anonymous.get("//").await.expect(StatusCode::OK)["docs"], "/docs/");
}

#[tokio::test]
async fn bodies_that_may_be_left_out_are_optional_and_not_null() {
    let app = TestApp::start().await;
    let document = document(&app).await;
    for (path, schema) in [("cancel", "Cancellation"), ("heartbeat", "Connection"), ("leave", "Connection")] {
        let body = &document["paths"][format!("/api/v1/live-sessions/sessions/{{id}}/{path}/")]["post"]["requestBody"];
        assert_ne!(body["required"], true, "{path}");
        let form = &body["content"]["application/json"]["schema"];
        assert_eq!(form["$ref"], format!("#/components/schemas/{schema}"), "{path}: {form}");
    }
}

/// Codes of problems, as the sources write them: the first text behind a constructor.
fn codes(folder: &std::path::Path, codes: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            self::codes(&entry, codes);
            continue;
        }
        let source = std::fs::read_to_string(&entry).unwrap();
        for constructor in ["conflict(", "bad_request(", "Problem::new("] {
            for (at, _) in source.match_indices(constructor) {
                let rest: String = source[at..].chars().take(200).collect();
                let code = rest.split('"').nth(1).unwrap_or_default();
                let is_code = code.len() > 3 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                if is_code {
                    codes.insert(code.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_code_of_a_problem_has_a_row_in_the_documents_and_no_other() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut written = std::collections::BTreeSet::new();
    codes(&root.join("src"), &mut written);
    let text = std::fs::read_to_string(root.join("../docs/API.md")).unwrap();
    let errors = text.split("\n## ").find(|part| part.starts_with("Errors")).unwrap();
    let rows = errors.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5"));
    let told: std::collections::BTreeSet<String> =
        rows.flat_map(|row| row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert!(written.len() > 30, "{written:?}");
    assert_eq!(told, written);
}
