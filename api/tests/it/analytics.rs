use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{attendance::held, support::*};

#[tokio::test]
async fn a_session_is_analysed_while_it_runs_and_after() {
    let app = TestApp::start().await;
    let made = held(&app).await;
    let found = app.teacher().get(&path(&made, "analytics/?slice=600")).await.expect(StatusCode::OK);
    assert_eq!(
        (&found["final"], &found["slice"], &found["peak"]),
        (&json!(false), &json!(600), &json!(1)),
        "one after the other"
    );
    let timeline = found["results"].as_array().unwrap();
    assert_eq!(timeline.len(), 11, "100 minutes and a moment");
    assert_eq!((&timeline[0]["average"], &timeline[9]["average"]), (&json!(1.0), &json!(0.0)));
    assert!((0.79..0.81).contains(&found["average"].as_f64().unwrap()), "{}", found["average"]);
    assert_eq!((&found["on_time"], &found["late"], &found["verdicts"]["absent"]), (&json!(1), &json!(1), &json!(1)));
    assert!(found["started_at"].as_str().unwrap().ends_with("+03:00"));
    let table = app.teacher().get(&path(&made, "analytics/?slice=600&format=csv&tz=UTC")).await;
    assert!(table.text().starts_with("\u{feff}start,average,peak\r\n"), "{}", table.text());
    let workbook = app.teacher().get(&path(&made, "analytics/?format=xlsx")).await;
    assert!(workbook.bytes.starts_with(b"PK"));
    for bad in ["slice=9", "slice=3601", "tz=Mars", "format=xml"] {
        app.teacher().get(&path(&made, &format!("analytics/?{bad}"))).await.problem(400, "invalid-parameter");
    }
    app.student("s1").get(&path(&made, "analytics/")).await.problem(403, "forbidden");
    let planned = app.planned(json!({})).await;
    app.teacher().get(&path(&planned, "analytics/")).await.problem(409, "session-not-started");
}

/// Two courses: four sessions of `c1` by the teacher, one of `c2` by a colleague, each with people a to c; a was there each time.
async fn term(app: &TestApp) {
    for n in 0..5 {
        let (course, who) = if n < 4 { ("c1", "teacher") } else { ("c2", "colleague") };
        let client = app.somebody("okul", who, &["instructor"]);
        let body = json!({"title": format!("=Lesson {n}"), "kind": "instant", "access": "tenant", "course_id": course});
        let made = client.post("/sessions/", &body).await.expect(StatusCode::CREATED);
        client.call(&path(&made, "end/")).await.expect(StatusCode::OK);
    }
    app.sql(
        "update sessions s set finalized_at = now(), started_at = '2026-03-01T10:00:00Z'::timestamptz + n * interval '7 days', \
             starts_at = '2026-03-01T10:00:00Z'::timestamptz + n * interval '7 days', \
             ended_at = '2026-03-01T11:00:00Z'::timestamptz + n * interval '7 days', \
             ends_at = '2026-03-01T11:00:00Z'::timestamptz + n * interval '7 days' \
         from (select id, row_number() over (order by title) - 1 as n from sessions) numbered where numbered.id = s.id",
    )
    .await;
    app.sql(
        "insert into attendance (session_id, tenant_id, person_id, name, invited, first_join_at, last_leave_at, present_seconds, percent, status) \
         select s.id, s.tenant_id, p.id, upper(p.id), true, s.started_at + p.delay, s.ended_at, p.seconds, p.percent, p.status from sessions s, \
             (values ('a', interval '1 min', 3540, 98.33, 'present'), ('b', interval '20 min', 2400, 66.67, 'late'), \
                     ('c', null, 0, 0, 'absent')) as p (id, delay, seconds, percent, status)",
    )
    .await;
    app.sql("update attendance set status = 'excused' where person_id = 'c' and session_id = (select id from sessions where title = '=Lesson 0')").await;
}

fn results(answer: &Value) -> &Vec<Value> {
    answer["results"].as_array().unwrap()
}

#[tokio::test]
async fn a_course_a_person_and_a_time_are_read_over_many_sessions() {
    let app = TestApp::start().await;
    term(&app).await;
    let get = async |client: &Client<'_>, to: &str| client.get(to).await.expect(StatusCode::OK);
    let admin = app.admin();
    assert_eq!(results(&get(&admin, "/attendance/").await).len(), 15);
    let course = get(&admin, "/attendance/?course_id=c1&person_id=b").await;
    assert_eq!(results(&course).len(), 4);
    assert_eq!(
        (&course["timezone"], &course["results"][0]["starts_at"]),
        (&json!("Europe/Istanbul"), &json!("2026-03-01T13:00:00+03:00"))
    );
    let march =
        get(&admin, "/attendance/?starts_after=2026-03-08T00:00:00Z&starts_before=2026-03-15T10:00:00Z&tz=UTC").await;
    assert_eq!(results(&march).len(), 3);

    let people = get(&admin, "/analytics/people/?course_id=c1").await;
    let [a, b, c] = results(&people).as_slice() else { panic!("{people}") };
    assert_eq!((&a["person_id"], &a["sessions"], &a["verdicts"]["present"]), (&json!("a"), &json!(4), &json!(4)));
    assert_eq!(
        (&a["present_seconds"], &a["average_percent"], &a["median_delay_seconds"]),
        (&json!(14160), &json!(98.33), &json!(60))
    );
    assert_eq!((&b["verdicts"]["late"], &b["median_delay_seconds"]), (&json!(4), &json!(1200)));
    assert_eq!(
        (&c["verdicts"]["absent"], &c["verdicts"]["excused"], &c["average_percent"]),
        (&json!(3), &json!(1), &json!(0.0))
    );

    let sessions = get(&admin, "/analytics/sessions/?course_id=c1").await;
    assert_eq!(results(&sessions).len(), 4);
    let first = &sessions["results"][0];
    assert_eq!(
        (&first["people"], &first["average_percent"], &first["verdicts"]["excused"]),
        (&json!(3), &json!(82.5), &json!(1))
    );

    for (to, head) in [
        ("/attendance/", "session_id,title,course_id,starts_at,person_id,"),
        (
            "/analytics/people/",
            "person_id,name,sessions,present,late,left_early,partial,absent,excused,present_seconds,average_percent,median_delay_seconds",
        ),
        ("/analytics/sessions/", "session_id,title,course_id,starts_at,started_at,ended_at,people,present,"),
    ] {
        let table = admin.get(&format!("{to}?format=csv")).await;
        assert!(table.text().starts_with(&format!("\u{feff}{head}")), "{}", table.text());
        assert!(!table.text().contains(",=Lesson"), "formulas are defused");
        assert!(admin.get(&format!("{to}?format=xlsx")).await.bytes.starts_with(b"PK"));
        admin.get(&format!("{to}?tz=Mars")).await.problem(400, "invalid-parameter");
        app.anonymous().get(to).await.problem(401, "unauthorized");
        assert_eq!(results(&get(&app.foreigner(), to).await).len(), 0, "another tenant's");
    }
}

#[tokio::test]
async fn everybody_reads_over_many_sessions_what_is_theirs_to_see() {
    let app = TestApp::start().await;
    term(&app).await;
    app.sql("insert into invitees (session_id, tenant_id, person_id, role) select id, tenant_id, 'helper', 'co_host' from sessions where title = '=Lesson 4'").await;
    let count = async |client: Client<'_>, to: &str| results(&client.get(to).await.expect(StatusCode::OK)).len();
    for (client, rows) in [
        (app.service(), 15),
        (app.teacher(), 12),
        (app.somebody("okul", "colleague", &["instructor"]), 3),
        (app.student("helper"), 3),
        (app.student("a"), 5),
        (app.student("stranger"), 0),
    ] {
        assert_eq!(count(client, "/attendance/").await, rows);
    }
    assert_eq!(count(app.student("a"), "/analytics/people/").await, 1);
    assert_eq!(count(app.student("a"), "/attendance/?person_id=b").await, 0);
    let own = app.student("a").get("/analytics/sessions/").await.expect(StatusCode::OK);
    assert!(results(&own).iter().all(|session| session["people"] == 1), "{own}");
    // A report that is not final does not count.
    app.sql("update sessions set finalized_at = null where title = '=Lesson 0'").await;
    assert_eq!(count(app.admin(), "/attendance/").await, 12);
}

#[tokio::test]
async fn a_range_of_many_batches_is_whole() {
    let app = TestApp::start().await;
    term(&app).await;
    app.sql(
        "insert into attendance (session_id, tenant_id, person_id, invited, present_seconds, percent, status) \
         select id, tenant_id, 'p' || n, false, 1, 1, 'partial' from sessions, generate_series(1, 1500) n",
    )
    .await;
    let count = async |to: &str| results(&app.admin().get(to).await.expect(StatusCode::OK)).len();
    assert_eq!(count("/attendance/").await, 5 * 1503);
    assert_eq!(count("/analytics/people/").await, 1503);
    let table = app.admin().get("/attendance/?format=csv").await.text();
    assert_eq!(table.matches("\r\n").count(), 5 * 1503 + 1);
}
