use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

/// A session of 100 minutes in which s1 was 80, s2 came not, and a guest looked in.
pub async fn held(app: &TestApp) -> Value {
    let people = json!([
        {"person_id": "s1", "name": "=SUM(A1)", "email": "s1@okul.example"}, {"person_id": "s2", "name": "Çiğdem, Ö."},
    ]);
    let made = app.live(json!({"invitees": people, "timezone": "Europe/Istanbul"})).await;
    for who in ["s1", "s9"] {
        app.student(who).call(&path(&made, "join/")).await.expect(StatusCode::OK);
    }
    app.sql("update sessions set started_at = now() - interval '100 min', starts_at = now() - interval '100 min'")
        .await;
    app.sql(
        "update participants set joined_at = now() - interval '100 min', last_seen_at = now() - interval '20 min', \
             left_at = now() - interval '20 min', left_reason = 'left' where person_id = 's1'",
    )
    .await;
    made
}

#[tokio::test]
async fn the_live_report_shows_everybody_to_hosts_and_themselves_to_students() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let report = app.teacher().get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    assert_eq!((&report["final"], &report["timezone"]), (&json!(false), &json!("Europe/Istanbul")));
    let rows = report["results"].as_array().unwrap();
    let of = |id: &str| rows.iter().find(|r| r["person_id"] == id).unwrap();
    assert!((79.0..81.0).contains(&of("s1")["percent"].as_f64().unwrap()), "{}", of("s1"));
    assert_eq!(of("s1")["intervals"][0]["sources"], json!(["heartbeat"]));
    assert!(of("s1")["first_join_at"].as_str().unwrap().ends_with("+03:00"));
    assert_eq!((&of("s2")["status"], &of("s2")["present_seconds"]), (&json!("absent"), &json!(0)));
    assert_eq!((&of("s9")["invited"], &of("s9")["name"]), (&json!(false), &json!("Name of s9")));
    assert_eq!(of("s9")["guest"], false);

    let own = app.student("s1").get(&path(&made, "attendance/?tz=UTC")).await.expect(StatusCode::OK);
    assert_eq!(own["results"].as_array().unwrap().len(), 1);
    assert_eq!(own["results"][0]["person_id"], "s1");
    assert!(
        own["started_at"].as_str().unwrap().ends_with("+00:00") || own["started_at"].as_str().unwrap().ends_with('Z')
    );
    app.student("s1").get(&path(&made, "attendance/?tz=Mars")).await.problem(400, "invalid-parameter");
    app.student("s1").get(&path(&made, "attendance/?format=xml")).await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn the_table_is_safe_for_spreadsheets() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let answer = app.teacher().get(&path(&made, "attendance/?format=csv")).await;
    assert!(answer.header("content-type").starts_with("text/csv"));
    assert!(answer.header("content-disposition").contains(".csv"));
    assert!(answer.bytes.starts_with(b"\xef\xbb\xbfperson_id,name,"));
    let text = answer.text();
    assert_eq!(text.matches("\r\n").count(), 4);
    let workbook = app.teacher().get(&path(&made, "attendance/?format=xlsx")).await;
    assert!(workbook.header("content-type").ends_with("spreadsheetml.sheet"));
    assert!(workbook.header("content-disposition").contains(".xlsx"));
    assert!(workbook.bytes.starts_with(b"PK"), "a ZIP archive");
    assert!(text.contains(",'=SUM(A1),") && text.contains("\"Çiğdem, Ö.\""), "{text}");
}

#[tokio::test]
async fn the_final_report_is_the_stored_one() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let computed = app.teacher().get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    assert_eq!(computed["final"], false);
    app.sql("insert into attendance (session_id, tenant_id, person_id, name, invited, present_seconds, percent, status, intervals) \
             select id, tenant_id, 's1', 'Stored', true, 42, 4.2, 'partial', \
             '[{\"start\":\"2026-01-01T10:00:00Z\",\"end\":\"2026-01-01T10:00:42Z\",\"sources\":[\"heartbeat\",\"webhook\"]}]' from sessions").await;
    app.sql("update sessions set finalized_at = now()").await;
    let stored = app.teacher().get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    assert_eq!((&stored["final"], stored["results"].as_array().unwrap().len()), (&json!(true), 1));
    assert_eq!(
        (&stored["results"][0]["present_seconds"], &stored["results"][0]["name"]),
        (&json!(42), &json!("Stored"))
    );
    assert_eq!(stored["results"][0]["intervals"][0]["start"], "2026-01-01T13:00:00+03:00");
}

#[tokio::test]
async fn there_is_no_attendance_before_the_start() {
    let app = TestApp::start().await;
    let made = app.planned(json!({})).await;
    app.teacher().get(&path(&made, "attendance/")).await.problem(409, "session-not-started");
}

#[tokio::test]
async fn a_correction_says_who_and_why_and_leaves_what_was_computed() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let of = async |client: Client<'_>, person: &str| {
        let report = client.get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
        report["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["person_id"] == person)
            .cloned()
            .unwrap_or(Value::Null)
    };
    let teacher = app.teacher();
    let correct = path(&made, "attendance/s2/");
    let body = json!({"status": "present", "present_seconds": 5400, "reason": " Sat beside Ali "});
    let row = teacher.patch(&correct, &body).await.expect(StatusCode::OK);
    assert_eq!((&row["status"], &row["present_seconds"]), (&json!("present"), &json!(5400)));
    let corrected = &row["corrected"];
    assert_eq!((&corrected["by"], &corrected["reason"]), (&json!("teacher"), &json!("Sat beside Ali")));
    assert_eq!((&corrected["original_status"], &corrected["original_present_seconds"]), (&json!("absent"), &json!(0)));
    assert_eq!(of(app.student("s2"), "s2").await["corrected"]["by"], "teacher", "the person sees it");
    let table = teacher.get(&path(&made, "attendance/?format=csv")).await.text();
    assert!(table.contains(",present,,,5400,") && table.contains(",teacher,Sat beside Ali,false,,\r\n"), "{table}");

    // The newest counts; the audit log has them all.
    teacher.patch(&correct, &json!({"status": "excused", "reason": "Ill"})).await.expect(StatusCode::OK);
    assert_eq!(of(app.admin(), "s2").await["status"], "excused");
    let log = app.admin().get("/audit-log/?action=attendance-correction.created").await.expect(StatusCode::OK);
    assert_eq!(log["results"].as_array().unwrap().len(), 2);
    assert_eq!(log["results"][1]["changes"]["reason"], json!([null, "Sat beside Ali"]));

    // Taken back.
    let row = teacher.patch(&correct, &json!({"reason": "A mistake"})).await.expect(StatusCode::OK);
    assert_eq!((&row["status"], &row["corrected"]), (&json!("absent"), &Value::Null));

    // Somebody of whom nothing was seen.
    let guest = path(&made, "attendance/nobody%20knew/");
    teacher.patch(&guest, &json!({"status": "partial", "reason": "By phone"})).await.expect(StatusCode::OK);
    assert_eq!(of(app.admin(), "nobody knew").await["status"], "partial");
    assert_eq!(teacher.patch(&guest, &json!({"reason": "Not so"})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(of(app.admin(), "nobody knew").await, Value::Null);
}

#[tokio::test]
async fn a_correction_after_the_end_is_in_the_final_report_and_survives_its_computation() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let correct = path(&made, "attendance/s2/");
    app.teacher().patch(&correct, &json!({"status": "present", "reason": "Seen"})).await.expect(StatusCode::OK);
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    // What finalize-session does.
    app.sql(
        "insert into attendance (session_id, tenant_id, person_id, name, invited, present_seconds, percent, status) \
         select id, tenant_id, 's2', 'Çiğdem', true, 0, 0, 'absent' from sessions",
    )
    .await;
    app.sql("update sessions set finalized_at = now()").await;
    let body = json!({"status": "late", "reason": "Seen later"});
    app.teacher().patch(&correct, &body).await.expect(StatusCode::OK);
    let report = app.teacher().get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    assert_eq!(report["final"], true);
    let row = report["results"].as_array().unwrap().iter().find(|row| row["person_id"] == "s2").unwrap();
    assert_eq!((&row["status"], &row["corrected"]["reason"]), (&json!("late"), &json!("Seen later")));
    let too_long = app.teacher().patch(&correct, &json!({"present_seconds": 7000, "reason": "x"})).await;
    assert_eq!(too_long.pointers(), ["/present_seconds"]);
    for bad in [json!({}), json!({"reason": ""}), json!({"reason": " "}), json!({"reason": "x", "status": "ill"})] {
        assert_eq!(app.teacher().patch(&correct, &bad).await.status, 422, "{bad}");
    }
    let planned = app.planned(json!({})).await;
    let early = app.teacher().patch(&path(&planned, "attendance/s2/"), &json!({"reason": "x"})).await;
    early.problem(409, "session-not-started");
}

#[tokio::test]
async fn a_stored_report_of_many_batches_is_whole_and_in_order() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    app.sql(
        "insert into attendance (session_id, tenant_id, person_id, name, invited, present_seconds, percent, status, intervals) \
         select id, tenant_id, 'p' || n, case when n % 3 = 0 then '' else 'Name ' || n % 7 end, n % 2 = 0, n, 50, 'present', \
             '[{\"start\":\"2026-01-01T10:00:00Z\",\"end\":\"2026-01-01T10:00:42Z\",\"sources\":[\"webhook\"]}]' \
         from sessions, generate_series(1, 2500) n",
    )
    .await;
    app.sql("update sessions set finalized_at = now()").await;
    let report = app.teacher().get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    let rows = report["results"].as_array().unwrap();
    let mut people: Vec<&str> = rows.iter().map(|row| row["person_id"].as_str().unwrap()).collect();
    assert_eq!(rows[0]["invited"], true);
    assert!(rows.iter().skip_while(|row| row["invited"] == true).all(|row| row["invited"] == false));
    people.sort_unstable();
    people.dedup();
    assert_eq!((rows.len(), people.len()), (2500, 2500));
    let table = app.teacher().get(&path(&made, "attendance/?format=csv")).await.text();
    assert_eq!(table.matches("\r\n").count(), 2501);
    let own = app.student("p7").get(&path(&made, "attendance/")).await.expect(StatusCode::OK);
    assert_eq!((own["results"].as_array().unwrap().len(), &own["results"][0]["present_seconds"]), (1, &json!(7)));
}
