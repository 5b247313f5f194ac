//! `deploy/prosody/mod_webhook.lua` in a real Prosody, with real clients, against the real system.

mod bosh;
mod control;
mod server;

pub use bosh::Client;
use chrono::{DateTime, Utc};
use sandbox::{
    people::{ADMIN, INSTRUCTOR, STUDENTS},
    proxy::Proxy,
    system::System,
};
use serde_json::{Value, json};
pub use server::{HOST, On, Server, Settings};
use shared::clock::Clock;
use sqlx::PgPool;

use crate::support::{database, eventually, post, system};

const TEACHER: Option<(&str, &str)> = Some((INSTRUCTOR.id, INSTRUCTOR.name));
const STUDENT: Option<(&str, &str)> = Some((STUDENTS[0].id, STUDENTS[0].name));

struct School {
    system: System,
    db: PgPool,
    /// Between Prosody and the API.
    line: Proxy,
    session: String,
    room: String,
    _dir: tempfile::TempDir,
}

impl School {
    async fn open() -> Self {
        Self::open_with(&[]).await
    }

    async fn open_with(env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let env = [&[("RUST_LOG", "warn"), ("SCHEDULE_CLOSE_STALE_ATTENDANCE", "off")], env].concat();
        let system = system(&dir, 1, &env).await;
        let db = database(&system).await;
        let api = url::Url::parse(system.var("API_URL")).expect("an address");
        let line = Proxy::start(api.port().expect("a port")).await.expect("a proxy");
        let now = Clock::System.now();
        let plan = json!({
            "kind": "scheduled", "title": "Prosody", "timezone": "Europe/Istanbul",
            "starts_at": now + chrono::Duration::minutes(2), "ends_at": now + chrono::Duration::minutes(40),
            "invitees": [{"person_id": STUDENTS[0].id, "name": STUDENTS[0].name, "email": STUDENTS[0].email}],
        });
        let session = post(&system, &INSTRUCTOR, "sessions/", &plan).await;
        let text = |field: &str| session[field].as_str().expect(field).to_owned();
        Self { system, db, line, session: text("id"), room: text("room"), _dir: dir }
    }

    /// The room's address on one of Prosody's components.
    fn room_on(&self, component: &str) -> String {
        format!("{}@{component}.{HOST}", self.room)
    }

    fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/live-sessions/webhooks/jitsi/", self.line.port())
    }

    fn secret(&self) -> &str {
        self.system.var("JITSI_WEBHOOK_SECRET")
    }

    async fn prosody(&self, on: On, more: &str) -> Server {
        let url = self.webhook_url();
        Server::start(&Settings { on, webhook_url: &url, secret: self.secret(), more }).await
    }

    /// What has arrived, in the order of arrival.
    async fn events(&self) -> Vec<Value> {
        sqlx::query_scalar("select body from webhook_events order by received_at").fetch_all(&self.db).await.unwrap()
    }

    /// Waits until so many events have come and are dealt with; returns them.
    async fn dealt_with(&self, events: i64, server: &Server) -> Vec<Value> {
        let sql = "select count(*) from webhook_events where state <> 'stored'";
        let what = format!("{events} events; Prosody's last words:\n{}", server.log());
        eventually(&what, async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.db).await.unwrap() >= events)
            .await;
        self.events().await
    }

    async fn connections(&self) -> Vec<(String, String, DateTime<Utc>, Option<DateTime<Utc>>)> {
        sqlx::query_as(
            "select person_id, connection_key, joined_at, left_at from participants \
             where session_id = $1::uuid order by joined_at, connection_key",
        )
        .bind(&self.session)
        .fetch_all(&self.db)
        .await
        .unwrap()
    }
}

fn time_of(event: &Value, field: &str) -> DateTime<Utc> {
    let seconds = event.pointer(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("{field} of {event}"));
    DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64).unwrap()
}

/// `joined teacher-1`, `created`, and so on.
fn told(events: &[Value]) -> Vec<String> {
    let tell = |event: &Value| {
        let name = event["event_name"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
        let breakout = if event["is_breakout"] == true { " (breakout)" } else { "" };
        match event.pointer("/occupant") {
            Some(occupant) => format!("{name} {}{breakout}", occupant["id"].as_str().unwrap_or("a guest")),
            None => format!("{name}{breakout}"),
        }
    };
    events.iter().map(tell).collect()
}

/// Each start of Prosody numbers its events from 1; here they are without a gap, a repeat, or a change of order.
fn assert_in_order_and_once(events: &[Value]) {
    let mut last = (Value::Null, 0);
    for event in events {
        let sequence = event["sequence"].as_i64().unwrap();
        let expected = if event["start_id"] == last.0 { last.1 + 1 } else { 1 };
        assert_eq!(event["id"], format!("{}-{sequence}", event["start_id"].as_str().unwrap()));
        assert_eq!(sequence, expected, "{events:#?}");
        last = (event["start_id"].clone(), sequence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_on_a_real_prosody_is_started_by_its_host_and_told_in_full() {
    let school = School::open().await;
    let mut prosody = school.prosody(On::VirtualHost, "").await;
    let (main, group) = (school.room_on("conference"), format!("{}-group@breakout.{HOST}", school.room));

    // jicofo tries out Prosody with a room of its own, then opens ours: nobody is told of its coming.
    let mut focus = Client::connect(&prosody, None).await;
    focus.join(&format!("__jicofo-health-check-1@conference.{HOST}"), "focus").await;
    focus.join(&main, "focus").await;
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&main, "t").await;
    let mut student = Client::connect(&prosody, STUDENT).await;
    student.join(&main, "s").await;
    let mut guest = Client::connect(&prosody, None).await;
    guest.join(&main, "g").await;
    student.leave(&main, "s").await;
    student.join(&group, "s").await;
    student.leave(&group, "s").await;
    student.join(&main, "s").await;
    focus.kick(&main, "g").await;
    teacher.leave(&main, "t").await;
    focus.destroy(&main).await;

    let events = school.dealt_with(14, &prosody).await;
    assert_eq!(
        told(&events),
        [
            "created",
            "joined teacher-1",
            "joined student-1",
            "joined a guest",
            "left student-1",
            "created (breakout)",
            "joined student-1 (breakout)",
            "left student-1 (breakout)",
            "destroyed (breakout)",
            "joined student-1",
            "left a guest",
            "left teacher-1",
            "left student-1",
            "destroyed",
        ]
    );
    assert_in_order_and_once(&events);
    for event in &events {
        assert_eq!((event["room_name"].as_str(), event["room_jid"].as_str()), (Some(&*school.room), Some(&*main)));
        assert_eq!(event["meeting_id"], format!("meeting-of-{}", school.room), "{event}");
    }
    assert_eq!(events[5]["breakout_room_id"], format!("{}-group", school.room));

    let started: (String, DateTime<Utc>) =
        sqlx::query_as("select status, started_at from sessions where id = $1::uuid")
            .bind(&school.session)
            .fetch_one(&school.db)
            .await
            .unwrap();
    assert_eq!(started, ("live".to_owned(), time_of(&events[1], "/occupant/joined_at")));
    let expected = [
        (INSTRUCTOR.id.to_owned(), &teacher.jid, &events[1], &events[11]),
        (STUDENTS[0].id.to_owned(), &student.jid, &events[2], &events[12]),
        (format!("guest:{}", guest.jid), &guest.jid, &events[3], &events[10]),
    ]
    .map(|(person, jid, joined, left)| {
        let (joined, left) = (time_of(joined, "/occupant/joined_at"), time_of(left, "/occupant/left_at"));
        (person, jid.clone(), joined, Some(left))
    });
    assert_eq!(school.connections().await, expected);
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_api_is_away_is_told_later_in_order_and_once() {
    let school = School::open().await;
    let mut prosody = school.prosody(On::VirtualHost, "webhook_timeout = 2").await;
    let room = school.room_on("conference");
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    let mut student = Client::connect(&prosody, STUDENT).await;
    teacher.join(&room, "t").await;
    school.dealt_with(2, &prosody).await;

    // Nothing gets through, and then what was given up comes beside its repeat.
    school.line.silence();
    student.join(&room, "s").await;
    student.leave(&room, "s").await;
    eventually("a request to be given up", async || prosody.log().contains("no answer in time")).await;
    school.line.open();
    school.dealt_with(4, &prosody).await;

    // The event is stored, and the answer does not come back.
    school.line.lose_answers("/webhooks/jitsi/", 1);
    student.join(&room, "s").await;
    school.dealt_with(5, &prosody).await;
    assert_eq!(school.line.still_losing(), 0);

    school.system.api.process().kill9().await;
    student.leave(&room, "s").await;
    student.join(&room, "s").await;
    teacher.leave(&room, "t").await;
    let events = school.dealt_with(8, &prosody).await;
    let expected = ["created", "joined teacher-1", "joined student-1", "left student-1", "joined student-1"];
    let rest = ["left student-1", "joined student-1", "left teacher-1"];
    assert_eq!(told(&events), [&expected[..], &rest].concat());
    assert_in_order_and_once(&events);
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prosody_that_stops_tells_the_end_of_its_rooms_when_it_is_back() {
    let school = School::open().await;
    let mut prosody = school.prosody(On::VirtualHost, "").await;
    let room = school.room_on("conference");
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&room, "t").await;
    school.dealt_with(2, &prosody).await;
    // Events have whole milliseconds.
    let stopping = Clock::System.now() - chrono::Duration::milliseconds(1);
    prosody.stop().await;
    let stopped = Clock::System.now();
    prosody.launch().await;

    let mut again = Client::connect(&prosody, TEACHER).await;
    again.join(&room, "t").await;
    let events = school.dealt_with(6, &prosody).await;
    let expected = ["created", "joined teacher-1", "left teacher-1", "destroyed", "created", "joined teacher-1"];
    assert_eq!(told(&events), expected);
    assert_in_order_and_once(&events);
    assert_ne!(events[3]["start_id"], events[4]["start_id"]);
    let left = school.connections().await[0].3.expect("the first connection is closed");
    assert!(stopping <= left && left <= stopped, "{stopping} {left} {stopped}");
    // It has been told: the next start tells only what the crash of this one left open.
    prosody.kill9().await;
    prosody.launch().await;
    let mut third = Client::connect(&prosody, TEACHER).await;
    third.join(&room, "t").await;
    let events = school.dealt_with(10, &prosody).await;
    let expected = ["left teacher-1", "destroyed", "created", "joined teacher-1"];
    assert_eq!(told(&events[6..]), expected);
    assert_in_order_and_once(&events);
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prosody_that_was_killed_tells_what_it_had_not_told_and_who_left_with_it() {
    let school = School::open().await;
    let mut prosody = school.prosody(On::MucComponent, "").await;
    let room = school.room_on("conference");
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&room, "t").await;
    let mut student = Client::connect(&prosody, STUDENT).await;
    student.join(&room, "s").await;
    school.dealt_with(3, &prosody).await;
    // The API is away, so that this waits.
    school.line.silence();
    student.leave(&room, "s").await;
    let mut guest = Client::connect(&prosody, None).await;
    guest.join(&room, "g").await;
    prosody.kill9().await;
    let dead = Clock::System.now();
    school.line.open();
    prosody.launch().await;
    let mut again = Client::connect(&prosody, TEACHER).await;
    again.join(&room, "t").await;

    let mut events = school.dealt_with(10, &prosody).await;
    // What the killed Prosody was just sending may still be under way when the next one sends it again.
    let first = events[0]["start_id"].clone();
    events.sort_by_key(|event| (event["start_id"] != first, event["sequence"].as_i64()));
    assert_in_order_and_once(&events);
    let told = told(&events);
    assert_eq!(told[..5], ["created", "joined teacher-1", "joined student-1", "left student-1", "joined a guest"]);
    assert!(told[5..7].contains(&"left teacher-1".to_owned()) && told[5..7].contains(&"left a guest".to_owned()));
    assert_eq!(told[7..], ["destroyed", "created", "joined teacher-1"]);
    for (_, jid, joined, left) in school.connections().await {
        let Some(left) = left else {
            assert_eq!(jid, again.jid);
            continue;
        };
        assert!(joined <= left && left <= dead, "{jid}: {joined} {left} {dead}");
    }
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_wrong_secret_to_be_mended_and_a_full_queue_drops_the_oldest_and_says_how_many() {
    let school = School::open().await;
    let url = school.webhook_url();
    let more = "webhook_queue_limit = 3";
    let wrong = Settings { on: On::MucComponent, webhook_url: &url, secret: "not the secret", more };
    let mut prosody = Server::start(&wrong).await;
    let room = school.room_on("conference");
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&room, "t").await;
    for _ in 0..2 {
        teacher.leave(&room, "t").await;
        teacher.join(&room, "t").await;
    }
    eventually("a refusal", async || prosody.log().contains("401")).await;
    assert_eq!(school.events().await, Vec::<Value>::new());
    prosody.configure(&Settings { secret: school.secret(), ..wrong });
    prosody.stop().await;
    prosody.launch().await;

    // Of the room's twelve: the first, which was being sent all the time, and the last three.
    let events = school.dealt_with(4, &prosody).await;
    let numbers: Vec<_> = events.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    assert_eq!((numbers[0], &numbers[1..]), (1, &[10, 11, 12][..]));
    assert_eq!(events[3]["dropped"], 7, "before this one");
    prosody.stop().await;
    school.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_no_session_does_not_hold_up_the_others_at_the_short_address() {
    let school = School::open().await;
    let secret = "the-tenant-s-own-webhook-secret";
    let config = json!({
        "name": "Campus", "provider": "jitsi", "settings": {"domain": HOST, "app_id": "campus"},
        "secrets": {"jwt_secret": "0123456789abcdef0123456789abcdef", "webhook_secret": secret},
    });
    let config = post(&school.system, &ADMIN, "provider-configs/", &config).await;
    let plan = json!({"kind": "instant", "title": "Campus", "access": "tenant", "provider_config_id": config["id"]});
    let session = post(&school.system, &INSTRUCTOR, "sessions/", &plan).await;
    let url = school.webhook_url();
    let mut prosody = Server::start(&Settings { on: On::MucComponent, webhook_url: &url, secret, more: "" }).await;
    let mut teacher = Client::connect(&prosody, TEACHER).await;
    teacher.join(&format!("kitchen@conference.{HOST}"), "t").await;
    let room = session["room"].as_str().expect("a room");
    teacher.join(&format!("{room}@conference.{HOST}"), "t").await;
    let events = school.dealt_with(2, &prosody).await;
    assert_eq!(told(&events), ["created", "joined teacher-1"]);
    assert!(events.iter().all(|event| event["room_name"] == room), "{events:?}");
    eventually("the others to be given up", async || prosody.log().contains("it is dropped")).await;
    prosody.stop().await;
    school.system.stop().await;
}
