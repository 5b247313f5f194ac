use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

async fn present(app: &TestApp, made: &Value) -> Value {
    app.teacher().get(&path(made, "present/?tz=Europe/Istanbul")).await.expect(StatusCode::OK)
}

fn people(present: &Value) -> Vec<&str> {
    present["results"].as_array().unwrap().iter().map(|person| person["person_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn hosts_see_who_is_in_now_by_all_sources() {
    let app = TestApp::start().await;
    let invitees = json!([{"person_id": "s1", "name": "Ali"}, {"person_id": "s2"}, {"person_id": "s3"}]);
    let made = app.live(json!({"invitees": invitees, "access": "tenant"})).await;
    assert_eq!(people(&present(&app, &made).await), Vec::<&str>::new());
    for who in ["s1", "s1", "s2", "passer-by"] {
        app.student(who).call(&path(&made, "join/")).await.expect(StatusCode::OK);
    }
    app.teacher().call(&path(&made, "join/")).await.expect(StatusCode::OK);
    app.sql(
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at) \
         select id, tenant_id, person, person || '@muc', 'webhook', 'joined', now() from sessions, \
             unnest(array['s1', 'guest:x@muc']) person",
    )
    .await;
    let now = present(&app, &made).await;
    assert_eq!(people(&now), ["s1", "s2", "passer-by", "teacher", "guest:x@muc"]);
    let counts = (&now["present"], &now["guests"], &now["missing"]);
    assert_eq!(counts, (&json!(5), &json!(1), &json!(1)), "s3 is missing");
    let of = |n: usize| &now["results"][n];
    assert_eq!((&of(0)["name"], &of(0)["connections"], &of(0)["invited"]), (&json!("Ali"), &json!(3), &json!(true)));
    assert_eq!(of(0)["sources"], json!(["heartbeat", "webhook"]));
    assert!(of(0)["since"].as_str().unwrap().ends_with("+03:00"));
    assert_eq!(
        (&of(1)["name"], &of(2)["invited"], &of(3)["role"]),
        (&json!("Name of s2"), &json!(false), &json!("host"))
    );
    assert_eq!((&of(4)["guest"], &of(2)["guest"]), (&json!(true), &json!(false)));

    // Who leaves, falls silent, or is said to have left, is not there.
    app.student("s2").call(&path(&made, "leave/")).await.expect(StatusCode::NO_CONTENT);
    app.sql("update participants set last_seen_at = now() - interval '10 min', joined_at = now() - interval '20 min' where person_id = 'passer-by'").await;
    app.sql(
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at) \
         select session_id, tenant_id, person_id, connection_key, 'webhook', 'left', now() from sightings \
         where person_id like 'guest:%'",
    )
    .await;
    assert_eq!(people(&present(&app, &made).await), ["s1", "teacher"]);
    app.teacher().call(&path(&made, "end/")).await.expect(StatusCode::OK);
    let over = present(&app, &made).await;
    assert_eq!((&over["present"], &over["session_status"]), (&json!(0), &json!("ended")));
}
