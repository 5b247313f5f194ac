//! What every provider has to hold: one class, told from its configuration to its report, at each kind of meeting software. What
//! differs between them is what their capabilities say, and each of these is put to the test.

mod bbb;
mod jaas;
mod jitsi;
mod zoom;

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use sandbox::{
    people::{self, ADMIN, INSTRUCTOR, OPERATOR, Person, STUDENTS},
    system::System,
};
use serde_json::{Value, json};
use shared::{clock::Clock, jobs::Job as _};
use sqlx::PgPool;

use crate::support::{call, count, database, eventually, post, system};

/// The other side: a server, or who sends what it would send.
trait Counterpart: Sized {
    const KIND: &'static str;

    /// Starts it, and configures it as the tenant's administrator does.
    async fn set_up(system: &System) -> Self;
    /// The configuration, as the API answered it.
    fn config(&self) -> &Value;
    /// Opens what a join gave, as the person's browser does; fails where it is not let in.
    async fn enter(&mut self, class: &Class, person: &Person, joined: &Value);
    async fn leave(&mut self, class: &Class, person: &Person);
    /// From now on nothing is heard of what happens …
    async fn fall_silent(&mut self);
    /// … and now it is again.
    async fn speak(&mut self);
    /// Whether somebody can be in the meeting.
    async fn goes_on(&mut self, class: &Class) -> bool;
    /// A moderator ends it there.
    async fn end(&mut self, class: &Class);
    /// A recording of it is finished.
    async fn record(&mut self, system: &System, class: &Class);
    /// A webhook that somebody sends who does not know the secret.
    fn forged(&self, class: &Class) -> reqwest::RequestBuilder;
    /// It does not answer any more.
    fn die(&mut self);
}

/// A session that is held there.
struct Class {
    id: String,
    room: String,
}

struct School {
    system: System,
    db: PgPool,
    _dir: tempfile::TempDir,
}

impl School {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Asking is done when the story says so.
        let env = [("RUST_LOG", "warn"), ("SCHEDULE_POLL_MEETINGS", "0 0 1 1 *")];
        let system = system(&dir, 1, &env).await;
        Self { db: database(&system).await, system, _dir: dir }
    }

    async fn plan(&self, config: &Value) -> Class {
        let body = json!({
            "kind": "instant", "title": "Cebir", "access": "tenant", "recording_enabled": true,
            "provider_config_id": config["id"],
        });
        let session = post(&self.system, &INSTRUCTOR, "sessions/", &body).await;
        let text = |field: &str| session[field].as_str().expect(field).to_owned();
        Class { id: text("id"), room: text("room") }
    }

    /// Whatever the answer is.
    async fn ask(&self, person: &Person, class: &Class, what: &str) -> Answer {
        let token = people::token(person, self.system.var("AUTH_JWT_SECRET"), Clock::System.now()).unwrap();
        let url = format!("{}/api/v1/live-sessions/sessions/{}/{what}/", self.system.var("API_URL"), class.id);
        let answer = reqwest::Client::new().post(url).bearer_auth(token).send().await.unwrap();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Answer { status: answer.status(), retry_after, body: answer.json().await.unwrap_or_default() }
    }

    async fn get(&self, class: &Class, what: &str) -> Value {
        call(&self.system, &INSTRUCTOR, Method::GET, &format!("sessions/{}/{what}/", class.id), None).await
    }

    /// Whether the provider has told that they are there.
    async fn sees(&self, class: &Class, person: &Person) -> bool {
        let rows = self.get(class, "present").await["results"].as_array().unwrap().clone();
        rows.iter().any(|row| row["person_id"] == person.id && not_by_us(&row["sources"]))
    }

    /// A schedule's next run, now.
    async fn run(&self, schedule: &str) {
        call(&self.system, &OPERATOR, Method::POST, &format!("schedules/{schedule}/run/"), None).await;
    }
}

/// Whether the provider tells of it; a join alone counts as a heartbeat.
fn not_by_us(sources: &Value) -> bool {
    sources.as_array().is_some_and(|all| all.iter().any(|source| source != "heartbeat"))
}

struct Answer {
    status: StatusCode,
    retry_after: Option<u64>,
    body: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn jitsi_holds_the_contract() {
    hold::<jitsi::Jitsi>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jaas_holds_the_contract() {
    hold::<jaas::Jaas>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigbluebutton_holds_the_contract() {
    hold::<bbb::Bbb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zoom_holds_the_contract() {
    hold::<zoom::Zoom>().await;
}

async fn hold<C: Counterpart>() {
    let school = School::open().await;
    let mut there = C::set_up(&school.system).await;
    let config = there.config().clone();
    let path = format!("provider-configs/{}/", config["id"].as_str().unwrap());
    let shown = call(&school.system, &ADMIN, Method::GET, &path, None).await;
    assert_eq!((&shown["provider"], &shown["capabilities"]), (&json!(C::KIND), &config["capabilities"]));
    let can = |what: &str| config["capabilities"][what].as_bool().expect(what);
    assert!(can("tells_people") && (can("makes_meetings") || !can("polls_people")));
    assert_eq!(can("records"), config["capabilities"]["recording_delay_minutes"].is_number());

    let class = school.plan(&config).await;
    come_and_go(&school, &mut there, &class, &can).await;
    end(&school, &mut there, &class, &can).await;
    judge(&school, &class, &can).await;
    there.record(&school.system, &class).await;
    let listed = async || school.get(&class, "recordings").await["results"].as_array().unwrap().clone();
    // One is expected since the end. That of JaaS cannot be fetched here, and is announced nevertheless.
    let come = |recording: &Value| recording["state"] != "expected" && recording["state"] != "missing";
    eventually("the recording", async || listed().await.iter().any(come)).await;
    assert!(can("records"));
    assert_eq!(listed().await.len(), 1);
    joins_of_a_dead_provider_are_told_so(&school, &mut there, &config, &can).await;
    assert_eq!(
        count(&school.db, "select count(*) from jobs where state = 'dead' and kind <> 'import-recording'").await,
        0
    );
    school.system.stop().await;
}

/// Who comes is let in, and known by their id; who leaves is out.
async fn come_and_go(school: &School, there: &mut impl Counterpart, class: &Class, can: &impl Fn(&str) -> bool) {
    let kind = there.config()["provider"].clone();
    let (student, late) = (&STUDENTS[0], &STUDENTS[1]);
    for (person, role) in [(&INSTRUCTOR, "host"), (student, "participant")] {
        let joined = school.ask(person, class, "join").await;
        assert_eq!(joined.status, 200, "{}", joined.body);
        let joined = joined.body;
        assert_eq!((&joined["provider"], &joined["role"]), (&kind, &json!(role)));
        assert_eq!(joined["token"].as_str().unwrap() != "", can("embeds"), "{joined}");
        assert!(joined["join_url"].as_str().unwrap().contains("://"), "{joined}");
        let until: chrono::DateTime<chrono::Utc> = joined["expires_at"].as_str().unwrap().parse().unwrap();
        assert!(until > Clock::System.now(), "{joined}");
        there.enter(class, person, &joined).await;
        eventually("the provider to tell of them", async || school.sees(class, person).await).await;
        // Once more, as after a reload of the page.
        assert_eq!(school.ask(person, class, "join").await.status, 200);
    }
    assert!(there.goes_on(class).await);

    let forged = there.forged(class).send().await.unwrap();
    assert_eq!(forged.status(), 401);
    let told: Value = forged.json().await.unwrap();
    assert!(told["code"].is_string(), "{told}");
    let stored = "select count(*) from webhook_events where body::text like '%forged%'";
    assert_eq!(count(&school.db, stored).await, 0);

    // Some providers' times are whole seconds.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let removed = school.ask(&INSTRUCTOR, class, &format!("participants/{}/remove", student.id)).await;
    if can("removes_people") {
        assert_eq!(removed.status, 200, "{}", removed.body);
    } else {
        assert_eq!((removed.status.as_u16(), &removed.body["code"]), (409, &json!("provider-unsupported")));
        there.leave(class, student).await;
    }
    eventually("the student to be out", async || !school.sees(class, student).await).await;

    there.fall_silent().await;
    let joined = school.ask(late, class, "join").await;
    assert_eq!(joined.status, 200, "{}", joined.body);
    there.enter(class, late, &joined.body).await;
    if can("polls_people") {
        school.run("poll-meetings").await;
        eventually("who was not told of to be found by asking", async || school.sees(class, late).await).await;
    }
    // A stay that can be measured.
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// The end of the session is the meeting's, where the service can end it.
async fn end(school: &School, there: &mut impl Counterpart, class: &Class, can: &impl Fn(&str) -> bool) {
    let ended = school.ask(&INSTRUCTOR, class, "end").await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    if can("ends_meetings") {
        eventually("the meeting to be ended", async || !there.goes_on(class).await).await;
    } else {
        assert!(there.goes_on(class).await);
        there.end(class).await;
    }
    there.speak().await;
    let late = school.ask(&STUDENTS[2], class, "join").await;
    assert_eq!((late.status.as_u16(), &late.body["code"]), (410, &json!("session-ended")));
}

/// The report has everybody who was there, and each once; of whom no event told, where the provider can be asked or
/// tells again at the end.
async fn judge(school: &School, class: &Class, can: &impl Fn(&str) -> bool) {
    let completed = can("polls_people") || can("reports_at_end");
    // What is planned for a quarter of an hour after the end.
    let hurry = "update jobs set run_at = now() where kind = $1 and state = 'available'";
    let mut report = Value::Null;
    let row = |report: &Value, person: &Person| {
        let rows = report["results"].as_array().unwrap().iter();
        let rows: Vec<Value> = rows.filter(|row| row["person_id"] == person.id).cloned().collect();
        assert!(rows.len() <= 1, "{report}");
        rows.into_iter().next().filter(|row| {
            row["present_seconds"].as_i64() > Some(0)
                && row["intervals"].as_array().unwrap().iter().any(|interval| not_by_us(&interval["sources"]))
        })
    };
    eventually("the report", async || {
        sqlx::query(hurry).bind(shared::jobs::ReconcileAttendance::NAME).execute(&school.db).await.unwrap();
        report = school.get(class, "attendance").await;
        report["final"] == true && (!completed || row(&report, &STUDENTS[1]).is_some())
    })
    .await;
    assert!(row(&report, &INSTRUCTOR).is_some() && row(&report, &STUDENTS[0]).is_some(), "{report}");
    assert_eq!(row(&report, &STUDENTS[1]).is_some(), completed, "{report}");
    for person in [&INSTRUCTOR, &STUDENTS[0], &STUDENTS[1]] {
        let seconds = row(&report, person).map_or(0, |row| row["present_seconds"].as_i64().unwrap());
        assert!(seconds <= 90, "nobody was there for {seconds} s: {report}");
    }
    let guests = "select count(*) from participants where person_id like 'guest:%'";
    assert_eq!(count(&school.db, guests).await, 0, "everybody is known");
}

/// Nobody waits for long; where nothing has to be asked, nobody notices.
async fn joins_of_a_dead_provider_are_told_so(
    school: &School,
    there: &mut impl Counterpart,
    config: &Value,
    can: &impl Fn(&str) -> bool,
) {
    let class = school.plan(config).await;
    there.die();
    let asked = Instant::now();
    let joined = school.ask(&INSTRUCTOR, &class, "join").await;
    let took = asked.elapsed();
    if can("makes_meetings") {
        assert_eq!((joined.status.as_u16(), &joined.body["code"]), (503, &json!("provider-unavailable")));
        assert!(joined.retry_after.is_some_and(|seconds| seconds > 0), "it says when to come again");
        assert!(took < Duration::from_secs(5), "{took:?}");
    } else {
        assert_eq!(joined.status, 200, "{}", joined.body);
    }
}
