//! The worker dies at each named place of a job's way, once for every kind of job: nothing is lost, and what is
//! done twice is what cannot be helped. The judge looks at what the outside saw: mails, objects, reports.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use sandbox::{
    people::{INSTRUCTOR, STUDENTS},
    recording_host::sha256_of,
    system::System,
};
use serde_json::{Value, json};
use shared::{
    clock::Clock,
    db::{erasures, tenants},
    domain::{
        ids::{RecordingId, ReminderId, SessionId},
        provider::ProviderKind,
    },
    jobs::{
        self, AutoEndSessions, Cleanup, CleanupPersonalData, CloseStaleAttendance, DeleteRecording, EndMeeting,
        ErasePerson, ListRecordings, Noop, PollMeeting, PollMeetings, ProviderHealth, PublishRecording,
        ReconcileAttendance, RegisterWebhooks, SendRecordingMissing, SyncRecordings, UpdateMeeting,
    },
    queue::{Dispatcher, Tx, control, redis::RedisQueues},
};
use sqlx::PgPool;
use worker::failpoint::Place;

use crate::support::{call, count, database, post, system, within};

/// Each kind of job kills a worker: of a takeover and a restart each there are many.
const LONG: Duration = Duration::from_secs(240);
const RECORDING_BYTES: u64 = 9 * 1024 * 1024;

/// One test per place, so that they run side by side.
macro_rules! dies_at {
    ($name:ident, $place:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            every_kind_survives(Place::$place).await;
        }
    };
}

dies_at!(every_kind_of_job_survives_a_kill_after_the_claim, AfterClaim);
dies_at!(every_kind_of_job_survives_a_kill_before_the_effect, BeforeEffect);
dies_at!(every_kind_of_job_survives_a_kill_after_the_effect, AfterEffect);
dies_at!(every_kind_of_job_survives_a_kill_before_the_commit, BeforeCommit);
dies_at!(every_kind_of_job_survives_a_kill_after_the_commit, AfterCommit);
dies_at!(every_kind_of_job_survives_a_kill_before_the_acknowledgement, BeforeAck);

#[test]
fn every_place_is_walked() {
    let walked = include_str!("kills.rs").matches("\ndies_at!(").count();
    assert_eq!(walked, Place::ALL.len());
}

async fn every_kind_survives(place: Place) {
    let dir = tempfile::tempdir().expect("a directory");
    let fired = dir.path().join("fired");
    std::fs::create_dir(&fired).expect("a directory for what has fired");
    let failpoints = format!("{}=*", place.as_str());
    let env = [
        ("FAILPOINTS", failpoints.as_str()),
        ("FAILPOINTS_DIR", fired.to_str().expect("a path in UTF-8")),
        ("JOB_LEASE", "3"),
        ("WORKER_CONCURRENCY", "1"),
        ("RUST_LOG", "warn"),
        ("SCHEDULE_CLOSE_STALE_ATTENDANCE", "off"),
        ("SCHEDULE_AUTO_END_SESSIONS", "off"),
        ("SCHEDULE_PROVIDER_HEALTH", "off"),
        ("SCHEDULE_SYNC_RECORDINGS", "off"),
        ("SCHEDULE_POLL_MEETINGS", "off"),
        ("SCHEDULE_REGISTER_WEBHOOKS", "off"),
        ("SCHEDULE_CLEANUP", "off"),
        ("SCHEDULE_CLEANUP_PERSONAL_DATA", "off"),
    ];
    let system = system(&dir, 1, &env).await;
    let db = database(&system).await;

    cause_every_kind(&system, &db).await;
    all_ended(&db).await;

    let killed = || -> Vec<String> {
        let fired = std::fs::read_dir(&fired).expect("what has fired");
        fired.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    // Where a job was done already when the death of another one ended its process, it did not come to its own place.
    for _ in 0..5 {
        if killed().len() < jobs::ALL.len() {
            cause_periodic_kinds(&system, &db).await;
            all_ended(&db).await;
        }
    }
    for kind in jobs::ALL {
        let expected = format!("{}={}", place.as_str(), kind.name);
        assert!(killed().contains(&expected), "the worker was not killed at {expected}, only at {:?}", killed());
    }
    assert_eq!(dead_letters(&db).await, Vec::<String>::new());
    judge_mails(&system, jobs::ALL.len());
    judge_recording(&system, &db).await;
    judge_attendance(&system, &db).await;
    system.stop().await;
}

/// Waits until no job is open and no mail due; tells which ones are, where that takes too long.
async fn all_ended(db: &PgPool) {
    let open = "select kind || ' ' || state || ' ' || attempt || '/' || crashes || ' ' || (run_at - now()) || ' ' || errors::text \
        from jobs where state in ('available', 'running') \
        union all select 'mail ' || mail || ' ' || state from reminders where state in ('pending', 'queued', 'sending')";
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        retry_bystanders(db).await;
        let left: Vec<String> = sqlx::query_scalar(open).fetch_all(db).await.expect("the jobs are read");
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still open after {} s: {left:#?}", LONG.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A job that was there at two deaths, and then causes its own, is given up as it should be. As an operator would, this
/// tries it again, but once only.
async fn retry_bystanders(db: &PgPool) {
    let given_up: Vec<shared::domain::ids::JobId> = sqlx::query_scalar(
        "select id from jobs where state = 'dead' and errors::text like '%crashed%' and errors::text not like '%tried again%'",
    )
    .fetch_all(db)
    .await
    .expect("the dead letters");
    for id in given_up {
        let mut connection = db.acquire().await.expect("a connection");
        control::retry(&mut connection, id, "the test").await.expect("Postgres answers");
    }
}

async fn cause_periodic_kinds(system: &System, db: &PgPool) {
    let redis = RedisQueues::connect(system.var("REDIS_URL"), "live-sessions").expect("a Redis address");
    let mut tx = Tx::begin(db, &Dispatcher::start(redis)).await.expect("a transaction");
    tx.enqueue(&Noop::default()).await.expect("enqueued");
    tx.enqueue(&CloseStaleAttendance {}).await.expect("enqueued");
    tx.enqueue(&AutoEndSessions {}).await.expect("enqueued");
    tx.enqueue(&Cleanup {}).await.expect("enqueued");
    tx.enqueue(&CleanupPersonalData {}).await.expect("enqueued");
    tx.enqueue(&ProviderHealth {}).await.expect("enqueued");
    tx.enqueue(&SyncRecordings {}).await.expect("enqueued");
    let tenant = tenants::find_by_claim(&mut *tx, system.var("DEMO_TENANT")).await.expect("Postgres answers");
    let tenant = tenant.expect("the demo's tenant").id;
    let erasure = erasures::request(&mut *tx, tenant, "somebody-else", "test").await.expect("requested");
    tx.enqueue_for_tenants(&[(tenant, ErasePerson { erasure_id: erasure.id })]).await.expect("enqueued");
    let room = "a-meeting-that-is-over".to_owned();
    let end = EndMeeting { provider: ProviderKind::Bbb, provider_config_id: None, room, server: None };
    tx.enqueue(&end).await.expect("enqueued");
    tx.enqueue(&PollMeetings {}).await.expect("enqueued");
    tx.enqueue(&RegisterWebhooks { provider_config_id: None }).await.expect("enqueued");
    // Of a session that is gone there is nothing to ask.
    let session_id = SessionId::new();
    tx.enqueue(&PollMeeting { session_id }).await.expect("enqueued");
    tx.enqueue(&ListRecordings { session_id }).await.expect("enqueued");
    let recording_id = RecordingId::new();
    tx.enqueue(&DeleteRecording { recording_id }).await.expect("enqueued");
    tx.enqueue(&PublishRecording { recording_id }).await.expect("enqueued");
    tx.enqueue(&UpdateMeeting { session_id, version: 1 }).await.expect("enqueued");
    tx.enqueue(&ReconcileAttendance { session_id }).await.expect("enqueued");
    // The recording is not missing; that of a mail which is not there is nothing to send.
    tx.enqueue(&SendRecordingMissing { reminder_id: ReminderId::new() }).await.expect("enqueued");
    tx.commit().await.expect("committed");
}

/// A class with everything: mails of all four kinds, webhooks, an end, a recording; and the periodic jobs.
async fn cause_every_kind(system: &System, db: &PgPool) {
    cause_periodic_kinds(system, db).await;

    // One that is moved and called off, so that updates and cancellations go out.
    let moved = plan(system, "Moved").await;
    let sent = "select count(*) from reminders where state = 'sent' and mail = 'invitation'";
    within(LONG, "the invitations", async || {
        retry_bystanders(db).await;
        count(db, sent).await >= 2
    })
    .await;
    let start = Clock::System.now() + chrono::Duration::minutes(12);
    let change = json!({"starts_at": start, "ends_at": start + chrono::Duration::minutes(30)});
    call(system, &INSTRUCTOR, Method::PATCH, &format!("sessions/{moved}/"), Some(&change)).await;
    let updated = "select count(*) from reminders where state = 'sent' and mail = 'update'";
    within(LONG, "the updates", async || {
        retry_bystanders(db).await;
        count(db, updated).await >= 2
    })
    .await;
    call(system, &INSTRUCTOR, Method::POST, &format!("sessions/{moved}/cancel/"), None).await;

    // One that takes place.
    let session = plan(system, "Held").await;
    within(LONG, "the invitations", async || {
        retry_bystanders(db).await;
        count(db, sent).await >= 4
    })
    .await;
    call(system, &INSTRUCTOR, Method::POST, &format!("sessions/{session}/start/"), None).await;
    let shown = call(system, &INSTRUCTOR, Method::GET, &format!("sessions/{session}/"), None).await;
    let room = shown["room"].as_str().expect("a room").to_owned();
    occupant(system, &room, "joined").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    occupant(system, &room, "left").await;
    call(system, &INSTRUCTOR, Method::POST, &format!("sessions/{session}/end/"), None).await;
    // The provider's own call comes later; here its row and job are what its webhook would have made.
    recording(system, db, &session).await;
}

async fn plan(system: &System, title: &str) -> String {
    let now = Clock::System.now();
    let invitees: Vec<Value> = STUDENTS[..2]
        .iter()
        .map(|s| json!({"person_id": s.id, "name": s.name, "email": s.email, "locale": s.locale}))
        .collect();
    let body = json!({
        "kind": "scheduled",
        "title": title,
        "starts_at": now + chrono::Duration::minutes(10),
        "ends_at": now + chrono::Duration::minutes(40),
        "timezone": "Europe/Istanbul",
        "invitees": invitees,
    });
    let session = post(system, &INSTRUCTOR, "sessions/", &body).await;
    session["id"].as_str().expect("an id").to_owned()
}

/// What Prosody's event_sync sends, twice, as providers do.
async fn occupant(system: &System, room: &str, what: &str) {
    let now = Clock::System.now().timestamp();
    let mut occupant =
        json!({"occupant_jid": "a@b/c", "id": STUDENTS[0].id, "name": STUDENTS[0].name, "joined_at": now});
    if what == "left" {
        occupant["left_at"] = json!(now);
    }
    let body = json!({
        "event_name": format!("muc-occupant-{what}"), "room_name": room, "room_jid": format!("{room}@muc"),
        "is_breakout": false, "occupant": occupant,
    });
    let url = format!("{}/api/v1/live-sessions/webhooks/jitsi/events/occupant/{what}", system.var("API_URL"));
    for _ in 0..2 {
        let request = reqwest::Client::new().post(&url).bearer_auth(system.var("JITSI_WEBHOOK_SECRET")).json(&body);
        let status = request.send().await.expect("the API answers").status();
        assert!(status.is_success(), "{status}");
    }
}

async fn recording(system: &System, db: &PgPool, session: &str) {
    let id = shared::domain::ids::RecordingId::new();
    sqlx::query(
        "insert into recordings (id, tenant_id, session_id, external_id, state, source_url, deadline_at) \
         select $1, tenant_id, id, 'r1', 'available', $2, now() + interval '1 hour' from sessions where id = $3::uuid",
    )
    .bind(id)
    .bind(system.recording_host.recording_url("kill.mp4", RECORDING_BYTES, 7))
    .bind(session)
    .execute(db)
    .await
    .expect("the recording is announced");
    let redis = RedisQueues::connect(system.var("REDIS_URL"), "live-sessions").expect("a Redis address");
    let mut tx = Tx::begin(db, &Dispatcher::start(redis)).await.expect("a transaction");
    tx.enqueue(&jobs::ImportRecording { recording_id: id }).await.expect("enqueued");
    tx.commit().await.expect("committed");
}

async fn dead_letters(db: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select kind || ': ' || errors::text from jobs where state = 'dead'")
        .fetch_all(db)
        .await
        .expect("the jobs are read")
}

/// Everybody got each mail. One that came twice was between the mail server's answer and the mark when some job
/// killed the process, which can be one mail per kill, and has the same Message-ID.
fn judge_mails(system: &System, kills: usize) {
    let mails = system.smtp.messages();
    let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
    for mail in &mails {
        *copies.entry(mail.message_id().expect("every mail has an id")).or_default() += 1;
    }
    let doubled: usize = copies.values().map(|n| n - 1).sum();
    println!("{} mails, {doubled} of them doubled by {kills} kills", mails.len());
    assert!(doubled <= kills, "{doubled} mails were doubled by {kills} kills");
    // Three crashes give a job up; `retry_bystanders` lets it start once more.
    assert!(copies.values().all(|n| *n <= 4), "a mail came more often than its job may crash: {copies:?}");
    for student in &STUDENTS[..2] {
        let subjects: Vec<_> = mails.iter().filter(|m| m.is_to(student.email)).map(|m| m.subject()).collect();
        let of = |title: &str| subjects.iter().filter(|subject| subject.contains(title)).count();
        assert!(of("Moved") >= 3, "invitation, update and cancellation of one session: {subjects:?}");
        assert!(of("Held") >= 1, "the invitation of the other: {subjects:?}");
    }
}

/// One object with the source's bytes, and no upload left half-way.
async fn judge_recording(system: &System, db: &PgPool) {
    let (state, bytes, sha256): (String, i64, String) =
        sqlx::query_as("select state, size_bytes, sha256 from recordings").fetch_one(db).await.expect("one recording");
    assert_eq!((state.as_str(), bytes as u64), ("published", RECORDING_BYTES));
    assert_eq!(sha256, sha256_of(RECORDING_BYTES, 7));
    assert_eq!(system.s3.objects("recordings").len(), 1, "one object in the bucket");
}

async fn judge_attendance(system: &System, db: &PgPool) {
    let held = "select id::text from sessions where title = 'Held'";
    let session: String = sqlx::query_scalar(held).fetch_one(db).await.expect("the session");
    let report = call(system, &INSTRUCTOR, Method::GET, &format!("sessions/{session}/attendance/"), None).await;
    assert_eq!(report["final"], json!(true), "{report}");
    let rows = report["results"].as_array().expect("rows");
    let present = rows.iter().find(|row| row["person_id"] == json!(STUDENTS[0].id)).expect("the student who came");
    let seconds = present["present_seconds"].as_i64().expect("a number");
    assert!((1..=6).contains(&seconds), "a stay of two seconds counts {seconds}");
    assert_eq!(count(db, "select count(*) from sightings").await, 2, "each event counts once");
}
