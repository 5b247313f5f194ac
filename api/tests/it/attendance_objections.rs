use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{attendance::held, support::*};

async fn row(client: Client<'_>, made: &Value, person: &str) -> Value {
    let report = client.get(&path(made, "attendance/")).await.expect(StatusCode::OK);
    report["results"].as_array().unwrap().iter().find(|row| row["person_id"] == person).cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_student_contests_the_own_row_and_a_correction_upholds_it() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let to = path(&made, "attendance-objections/");
    let student = app.student("s2");
    let objection = json!({"reason": " My line was dead "});
    let answer = student.post(&to, &objection).await.expect(StatusCode::CREATED);
    assert_eq!(
        (&answer["state"], &answer["reason"], &answer["answer"]),
        (&json!("open"), &json!("My line was dead"), &Value::Null)
    );
    assert!(answer["made_at"].as_str().unwrap().ends_with("+03:00"));
    student.post(&to, &objection).await.problem(409, "objection-open");

    // The host sees it in the report and in the list; nobody else but the person.
    assert_eq!(row(app.teacher(), &made, "s2").await["objection"]["reason"], "My line was dead");
    let list = app.teacher().get(&format!("{to}?state=open")).await.expect(StatusCode::OK);
    assert_eq!(list["results"][0]["person_id"], "s2");
    assert_eq!(app.student("s1").get(&to).await.expect(StatusCode::OK)["results"], json!([]));
    assert_eq!(student.get(&to).await.expect(StatusCode::OK)["results"].as_array().unwrap().len(), 1);
    assert_eq!(row(app.student("s1"), &made, "s1").await["objection"], Value::Null);

    let body = json!({"status": "present", "reason": "Seen in the room"});
    app.teacher().patch(&path(&made, "attendance/s2/"), &body).await.expect(StatusCode::OK);
    let own = row(app.student("s2"), &made, "s2").await;
    assert_eq!((&own["status"], &own["objection"]["state"]), (&json!("present"), &json!("upheld")));
    assert_eq!(
        (&own["objection"]["answer"], &own["objection"]["answered_by"]),
        (&json!("Seen in the room"), &json!("teacher"))
    );
    assert_eq!(app.teacher().get(&format!("{to}?state=open")).await.expect(StatusCode::OK)["results"], json!([]));
}

#[tokio::test]
async fn an_objection_is_refused_with_a_reason_and_all_of_it_is_on_record() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let to = path(&made, "attendance-objections/");
    let refuse = path(&made, "attendance-objections/s1/refuse/");
    let reason = json!({"reason": "You were seen leaving"});
    app.teacher().post(&refuse, &reason).await.problem(409, "no-open-objection");
    app.student("s1").post(&to, &json!({"reason": "I was there"})).await.expect(StatusCode::CREATED);
    app.student("s1").post(&refuse, &reason).await.problem(403, "forbidden");
    let refused = app.teacher().post(&refuse, &reason).await.expect(StatusCode::OK);
    assert_eq!((&refused["state"], &refused["answer"]), (&json!("refused"), &json!("You were seen leaving")));
    app.teacher().post(&refuse, &reason).await.problem(409, "no-open-objection");
    // Once more, with something new.
    app.student("s1").post(&to, &json!({"reason": "Ali can tell"})).await.expect(StatusCode::CREATED);
    assert_eq!(row(app.teacher(), &made, "s1").await["objection"]["reason"], "Ali can tell");

    let log = app.admin().get("/audit-log/?page_size=100").await.expect(StatusCode::OK);
    let actions: Vec<(&str, &str)> = log["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"].as_str().unwrap().starts_with("attendance-objection"))
        .map(|entry| (entry["action"].as_str().unwrap(), entry["actor"].as_str().unwrap()))
        .collect();
    let (created, refused) = ("attendance-objection.created", "attendance-objection.refused");
    assert_eq!(actions, [(created, "person:s1"), (refused, "person:teacher"), (created, "person:s1")]);
}

#[tokio::test]
async fn nobody_objects_for_another_or_before_the_start() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let to = path(&made, "attendance-objections/");
    app.service().post(&to, &json!({"reason": "x"})).await.problem(403, "forbidden");
    app.foreigner().post(&to, &json!({"reason": "x"})).await.problem(404, "not-found");
    for bad in [json!({}), json!({"reason": " "}), json!({"reason": "a\nb"}), json!({"reason": "x", "person_id": "s2"})]
    {
        assert_eq!(app.student("s1").post(&to, &bad).await.status, 422, "{bad}");
    }
    let planned = app.planned(json!({})).await;
    let early = app.student("s1").post(&path(&planned, "attendance-objections/"), &json!({"reason": "x"})).await;
    early.problem(409, "session-not-started");
}
