//! `deploy/prosody/mod_webhook_control.lua`: rooms that the service ends, people whom it removes, and who else is refused.

use sandbox::ports::free_port;
use shared::providers::{JitsiCommand, JitsiControl};

use super::*;

const SECRET: &str = "control-secret-of-the-tests";

async fn ask(prosody: &Server, secret: &str, command: JitsiCommand<'_>, at: DateTime<Utc>) -> Answer {
    let signed = JitsiControl::new(&prosody.control_url(), secret).expect("an address").sign(command, at);
    let mut request = reqwest::Client::new().post(signed.url).body(signed.body);
    for (name, value) in signed.headers {
        request = request.header(name, value);
    }
    let again = request.try_clone().expect("a text");
    let answer = request.send().await.expect("Prosody answers");
    Answer { status: answer.status().as_u16(), body: answer.json().await.expect("JSON"), again }
}

struct Answer {
    status: u16,
    body: Value,
    /// The very same request.
    again: reqwest::RequestBuilder,
}

/// A school whose service knows the control address of a Prosody that has our module there.
async fn school_and_prosody() -> (School, Server) {
    let port = free_port().expect("a free port");
    let url = format!("http://127.0.0.1:{port}/webhook-control");
    let school = School::open_with(&[("JITSI_CONTROL_URL", &url), ("JITSI_CONTROL_SECRET", SECRET)]).await;
    let more = format!("webhook_control_secret = \"{SECRET}\"");
    let webhook_url = school.webhook_url();
    let settings = Settings { on: On::VirtualHost, webhook_url: &webhook_url, secret: school.secret(), more: &more };
    let prosody = Server::start_at(port, &settings).await;
    (school, prosody)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_removes_somebody_who_stays_out_and_the_end_of_the_session_ends_the_room() {
    let (school, mut prosody) = school_and_prosody().await;
    let (main, group) = (school.room_on("conference"), format!("{}-group@breakout.{HOST}", school.room));
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&main, "t").await;
    let mut student = Client::connect(&prosody, STUDENT).await;
    student.join(&main, "s").await;
    let mut second = Client::connect(&prosody, STUDENT).await;
    second.join(&group, "s2").await;
    school.dealt_with(5, &prosody).await;

    let path = format!("sessions/{}/participants/{}/remove/", school.session, STUDENTS[0].id);
    let answer = post(&school.system, &INSTRUCTOR, &path, &json!({})).await;
    assert_eq!(answer, json!({"person_id": STUDENTS[0].id}));
    assert!(student.hears("code='307'").await.contains("removed you"), "they are told why");
    second.hears("code='307'").await;
    assert_eq!(student.refused(&main, "s").await, "forbidden");
    let mut again = Client::connect(&prosody, STUDENT).await;
    assert_eq!(again.refused(&main, "again").await, "forbidden");
    assert_eq!(again.refused(&group, "again").await, "forbidden", "not into a breakout either");
    let events = school.dealt_with(8, &prosody).await;
    let told = told(&events);
    assert_eq!(told.iter().filter(|what| what.starts_with("left student-1")).count(), 2, "{told:?}");
    let changes: Value = sqlx::query_scalar("select changes from audit_log where action = 'participant.removed'")
        .fetch_one(&school.db)
        .await
        .unwrap();
    assert_eq!(changes, json!({"person_id": [null, STUDENTS[0].id]}));

    post(&school.system, &INSTRUCTOR, &format!("sessions/{}/end/", school.session), &json!({})).await;
    teacher.hears("The session has ended.").await;
    let events = school.dealt_with(10, &prosody).await;
    assert_eq!(super::told(&events[8..]), ["left teacher-1", "destroyed"]);
    // Of a room that is gone nobody is kept out.
    student.join(&main, "s").await;
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_signed_fresh_and_new_is_done() {
    let (school, mut prosody) = school_and_prosody().await;
    let room = school.room_on("conference");
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&room, "t").await;
    let end = JitsiCommand::EndRoom { room: &school.room };
    let now = Clock::System.now();
    let seconds = chrono::Duration::seconds;

    let plain = reqwest::Client::new().post(prosody.control_url()).body("{\"command\":\"end-room\"}").send().await;
    assert_eq!(plain.unwrap().status(), 401);
    assert_eq!(ask(&prosody, "another secret than that", end, now).await.status, 401);
    assert_eq!(ask(&prosody, SECRET, end, now - seconds(301)).await.status, 409);
    assert_eq!(ask(&prosody, SECRET, end, now + seconds(302)).await.status, 409);
    // Before the start of this Prosody, another one may have done it.
    assert_eq!(ask(&prosody, SECRET, end, now - seconds(200)).await.status, 409);
    let other = JitsiCommand::EndRoom { room: "somewhere-else" };
    assert_eq!(ask(&prosody, SECRET, other, now).await.status, 404);

    let kick = JitsiCommand::RemovePerson { room: &school.room, person_id: "student-1" };
    let done = ask(&prosody, SECRET, kick, now).await;
    assert_eq!((done.status, done.body), (200, json!({"removed": 0})));
    assert_eq!(done.again.send().await.unwrap().status(), 409, "once");
    let mut student = Client::connect(&prosody, STUDENT).await;
    assert_eq!(student.refused(&room, "s").await, "forbidden", "who was just away does not come back");
    let done = ask(&prosody, SECRET, end, now).await;
    assert_eq!((done.status, done.body), (200, json!({"ended": true})));
    teacher.hears("The session has ended.").await;
    prosody.stop().await;
    school.system.stop().await;
}
