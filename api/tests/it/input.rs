use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn all_faults_of_a_body_are_told_at_once_and_nothing_is_written() {
    let app = TestApp::start().await;
    let body = json!({
        "title": 7, "titel": "x", "kind": "party", "starts_at": in_minutes(-60), "ends_at": in_minutes(-90),
        "timezone": "Mars/Olympus", "max_participants": 0, "host_email": "nobody", "recording_enabled": "yes",
        "description": "a\0b", "host_id": "somebody", "a/b~c": 1,
        "invitees": [{"person_id": "a"}, {"person_id": "a", "email": "x"}, {"name": "b", "extra": 1}],
    });
    let answer = app.teacher().post("/sessions/", &body).await;
    let expected = [
        "/a~1b~0c",
        "/description",
        "/ends_at",
        "/host_email",
        "/host_id",
        "/invitees/1/email",
        "/invitees/1/person_id",
        "/invitees/2/extra",
        "/invitees/2/person_id",
        "/kind",
        "/max_participants",
        "/recording_enabled",
        "/starts_at",
        "/timezone",
        "/titel",
        "/title",
    ];
    assert_eq!(answer.pointers(), expected);
    assert_eq!(app.teacher().post("/sessions/", &json!({})).await.pointers(), ["/ends_at", "/starts_at", "/title"]);
    assert_eq!((app.count("sessions").await, app.count("jobs").await), (0, 0));
}

#[tokio::test]
async fn faults_are_told_in_words_that_help() {
    let app = TestApp::start().await;
    let detail = async |changes: Value| {
        let problem = app.teacher().post("/sessions/", &session(changes)).await.problem(422, "validation-failed");
        problem["errors"][0]["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(detail(json!({"title": ""})).await, "must not be empty");
    assert_eq!(detail(json!({"title": "ğ".repeat(201)})).await, "is longer than 200 characters");
    assert_eq!(detail(json!({"kind": "party"})).await, "must be scheduled, instant or webinar");
    assert_eq!(
        detail(json!({"starts_at": "tomorrow"})).await,
        "must be a time with its offset, such as 2030-09-02T09:00:00+03:00"
    );
    assert_eq!(detail(json!({"host_email": "x"})).await, "must be a mail address");
    let quoted = json!({"invitees": [{"person_id": "a", "email": "\"a b\"@x.com"}]});
    assert_eq!(detail(quoted).await, "must be a mail address");
    assert_eq!(detail(json!({"max_participants": 1.5})).await, "must be a whole number");
    assert_eq!(detail(json!({"provider": "zoom"})).await, "no zoom server is configured");
    assert_eq!(detail(json!({"max_participants": 1e30})).await, "is more than 100000");
    assert_eq!(detail(json!({"x": 1})).await, "is not a field that is known here");
    assert_eq!(detail(json!({"title": " \u{a0} "})).await, "must not be empty");
    assert_eq!(detail(json!({"title": null})).await, "must be a text");
    assert_eq!(detail(json!({"invitees": [{"person_id": "a", "locale": "de"}]})).await, "must be tr or en");
}

#[tokio::test]
async fn a_body_that_is_no_object_has_that_fault_alone() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let teacher = app.teacher();
    for body in [json!([]), json!("x"), json!(null)] {
        for answer in [
            teacher.post("/sessions/", &body).await,
            teacher.put(&path(&made, ""), &body).await,
            teacher.patch(&path(&made, ""), &body).await,
            teacher.put(&path(&made, "invitees/"), &body).await,
            teacher.post(&path(&made, "cancel/"), &body).await,
        ] {
            let problem = answer.problem(422, "validation-failed");
            assert_eq!(problem["errors"], json!([{"pointer": "", "detail": "must be an object"}]));
            assert_eq!(problem["detail"], "The body must be an object");
        }
    }
}

#[tokio::test]
async fn fields_of_one_line_take_no_line_breaks_or_control_characters() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let fields = ["title", "host_id", "host_name", "host_email", "course_id", "timezone"];
    for bad in ["a\r\nBcc: b", "a\nb", "a\tb", "a\u{7f}", "a\u{85}b", "a\u{2028}b", "a\0b", "a\n"] {
        for field in fields {
            let pointer = format!("/{field}");
            let problem =
                app.admin().post("/sessions/", &session(json!({field: bad}))).await.problem(422, "validation-failed");
            let told = problem["errors"].as_array().unwrap().iter().filter(|e| e["pointer"] == pointer);
            let told: Vec<_> = told.map(|e| e["detail"].as_str().unwrap()).collect();
            assert!(told.contains(&"must be one line, without control characters"), "{field} {bad:?}: {told:?}");
            assert!(app.admin().patch(&path(&made, ""), &json!({field: bad})).await.pointers().contains(&pointer));
        }
        for field in ["person_id", "name", "email", "timezone"] {
            let mut person = json!({"person_id": "a"});
            person[field] = bad.into();
            let pointers =
                app.teacher().put(&path(&made, "invitees/"), &json!({"invitees": [person]})).await.pointers();
            assert!(pointers.contains(&format!("/invitees/0/{field}")), "{field} {bad:?}: {pointers:?}");
        }
    }
    let body = session(json!({"description": "one\r\ntwo\nthree", "title": "Ders – Çağdaş şiir 👩\u{200d}🏫"}));
    app.teacher().post("/sessions/", &body).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let send = async |body: Vec<u8>| {
        let request = app.teacher().request(Method::POST, "/sessions/").header("content-type", "application/json");
        answer(request.body(body)).await.problem(400, "malformed-json")["detail"].as_str().unwrap().to_owned()
    };
    assert!(send(b"{\"title\":".to_vec()).await.starts_with("Line 1, column 9: EOF"));
    assert!(send(b"{\"title\":\"\xff\"}".to_vec()).await.contains("UTF-8 from byte 10"));
    assert!(send(b"{\"title\":1,\"title\":2}".to_vec()).await.contains("\"title\" is there twice"));
    assert!(send(b"{\"title\":\"\\ud800\"}".to_vec()).await.starts_with("Line 1"));
    assert!(send("[".repeat(500_000).into_bytes()).await.contains("recursion"));
    assert!(send(Vec::new()).await.contains("EOF"));
    // Deep, but closed: still no crash, and the process answers on.
    send(format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)).into_bytes()).await;
    app.teacher().get("/sessions/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn only_json_is_taken_as_json() {
    let app = TestApp::start().await;
    let send = async |kind: &str| {
        let request = app.teacher().request(Method::POST, "/sessions/").header("content-type", kind);
        answer(request.body(session(json!({})).to_string())).await
    };
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=utf-16"]
    {
        send(kind).await.problem(415, "unsupported-media-type");
    }
    let request = app.teacher().request(Method::POST, "/sessions/").body("{}");
    answer(request).await.problem(415, "unsupported-media-type");
    let request = app.teacher().request(Method::POST, "/sessions/").header("content-encoding", "gzip");
    answer(request.json(&json!({}))).await.problem(415, "unsupported-content-encoding");
    for kind in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        send(kind).await.expect(StatusCode::CREATED);
    }
}

#[tokio::test]
async fn large_bodies_are_refused_before_they_are_read_as_json() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    let big = vec![b'['; 10 << 20];
    for (method, to) in [
        (Method::POST, "/sessions/".to_owned()),
        (Method::PUT, path(&made, "")),
        (Method::PUT, path(&made, "invitees/")),
        (Method::POST, path(&made, "heartbeat/")),
        (Method::POST, "/webhooks/jitsi/".to_owned()),
    ] {
        let request = app.teacher().request(method.clone(), &to).header("content-type", "application/json");
        answer(request.body(big.clone())).await.problem(413, "body-too-large");
        // Without an announced length.
        let chunks =
            futures::stream::iter(big.chunks(1 << 16).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>());
        let request = app.teacher().request(method, &to).header("content-type", "application/json");
        answer(request.body(reqwest::Body::wrap_stream(chunks))).await.problem(413, "body-too-large");
    }
}

#[tokio::test]
async fn addresses_parameters_and_methods_that_do_not_exist_are_problems() {
    let app = TestApp::start().await;
    let teacher = app.teacher();
    teacher.get("//nowhere").await.problem(404, "not-found");
    teacher.get("/nowhere/").await.problem(404, "not-found");
    teacher.get("/sessions/x/").await.problem(404, "not-found");
    teacher.get("/sessions/%00/").await.problem(404, "not-found");
    teacher.get("/sessions/%ff/").await.problem(404, "not-found");
    teacher.get("/sessions/019abcde-0000-7000-8000-000000000000/").await.problem(404, "not-found");
    let answer = teacher.delete("/sessions/").await;
    let allow = answer.header("allow").to_owned();
    answer.problem(405, "method-not-allowed");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow:?}");
    for (query, parameter) in [
        ("status=dead", "status"),
        ("kind=party", "kind"),
        ("page_size=0", "page_size"),
        ("page_size=201", "page_size"),
        ("page_size=x", "page_size"),
        ("ordering=title", "ordering"),
        ("cursor=%2B", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("starts_after=today", "starts_after"),
        ("search=a%00b", "search"),
        ("status=live&status=ended", "status"),
        ("colour=red", "colour"),
        ("starts_before=%2B262142-01-01T00:00:00Z", "starts_before"),
    ] {
        let problem = teacher.get(&format!("/sessions/?{query}")).await.problem(400, "invalid-parameter");
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{query}: {problem}");
    }
    let problem = teacher.get("/sessions/?page_size=x").await.problem(400, "invalid-parameter");
    assert_eq!(problem["detail"], "page_size: must be a whole number");
    let unescaped = "/sessions/?starts_after=2026-11-25T10:00:00+03:00";
    let problem = teacher.get(unescaped).await.problem(400, "invalid-parameter");
    assert!(problem["detail"].as_str().unwrap().contains("write %2B"), "{problem}");
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference_and_ids_of_requests_are_kept() {
    let app = TestApp::start().await;
    let made = app.teacher().post("/sessions", &session(json!({}))).await.expect(StatusCode::CREATED);
    let bare = format!("/sessions/{}", made["id"].as_str().unwrap());
    assert_eq!(app.teacher().get(&bare).await.expect(StatusCode::OK), made);
    app.teacher().get("/sessions?page_size=1").await.expect(StatusCode::OK);
    app.anonymous().get("//livez/").await;
    let request = app.teacher().request(Method::GET, "/sessions/").header("x-request-id", "lms-42");
    assert_eq!(answer(request).await.header("x-request-id"), "lms-42");
    let request = app.teacher().request(Method::GET, "/sessions/").header("x-request-id", "a b\"c");
    let made = answer(request).await.header("x-request-id").to_owned();
    assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
}

#[tokio::test]
async fn pages_of_configured_origins_may_call() {
    let app = TestApp::start_with(&["--cors-origins", "https://lms.example.org"]).await;
    let preflight = |origin: &str| {
        let request = app.anonymous().request(Method::OPTIONS, "/sessions/");
        answer(request.header("origin", origin).header("access-control-request-method", "POST"))
    };
    assert_eq!(
        preflight("https://lms.example.org").await.header("access-control-allow-origin"),
        "https://lms.example.org"
    );
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), "");
}
