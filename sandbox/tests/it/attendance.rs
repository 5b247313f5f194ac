//! Attendance over the whole system: what is lost on the way, and reports as large as a school.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use sandbox::{
    people::{self, INSTRUCTOR, Person, STUDENTS},
    system::System,
};
use serde_json::{Value, json};
use shared::clock::Clock;
use tokio::time::{Instant, sleep_until};

use crate::support::{call, count, database, eventually, post, system};

/// The demo tenant's; its pages send a heartbeat every 4 to 5 s.
const TIMEOUT: i64 = 15;
const INTERVAL: u64 = 4;

/// From when to when somebody is there, in seconds after the start.
type Stay = (u64, u64);

/// Come late, leave early, come back, stay to the end.
const STAYS: [&[Stay]; 6] =
    [&[(0, 40)], &[(2, 22)], &[(14, 34)], &[(1, 9), (25, 40)], &[(3, 12), (16, 28)], &[(20, 40)]];

fn somebody(n: usize) -> Person {
    let id: &'static str = Box::leak(format!("story-{n}").into_boxed_str());
    Person { id, name: id, ..STUDENTS[0] }
}

/// Every second webhook is lost, which of a person's is left to chance, and half of the heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn with_half_of_all_webhooks_and_heartbeats_lost_the_report_is_within_the_timeout_of_the_truth() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = system(&dir, 1, &[("RUST_LOG", "warn")]).await;
    let db = database(&system).await;
    let body = json!({"kind": "instant", "title": "Lossy", "access": "tenant"});
    let session = post(&system, &INSTRUCTOR, "sessions/", &body).await;
    let (id, room) = (session["id"].as_str().expect("an id"), session["room"].as_str().expect("a room"));
    let start = Instant::now();
    let people = STAYS.iter().enumerate().map(|(n, stays)| live(&system, (id, room), n, stays, start));
    futures::future::join_all(people).await;
    sleep_until(start + Duration::from_secs(41)).await;
    tell(&system, room, "room/destroyed", json!({"event_name": "muc-room-destroyed", "all_occupants": []})).await;
    call(&system, &INSTRUCTOR, Method::POST, &format!("sessions/{id}/end/"), None).await;
    let open = "select count(*) from jobs where state in ('available', 'running') and kind in ('process-webhook', 'finalize-session')";
    eventually("the report", async || {
        count(&db, open).await == 0
            && count(&db, "select count(*) from sessions where finalized_at is not null").await > 0
    })
    .await;
    assert!(count(&db, "select count(*) from sightings where kind = 'left' and connection_key <> ''").await > 0);

    let report = call(&system, &INSTRUCTOR, Method::GET, &format!("sessions/{id}/attendance/"), None).await;
    let rows = report["results"].as_array().expect("rows");
    let found: BTreeMap<&str, i64> = rows
        .iter()
        .map(|row| (row["person_id"].as_str().expect("an id"), row["present_seconds"].as_i64().expect("seconds")))
        .collect();
    for (n, stays) in STAYS.iter().enumerate() {
        let truth: i64 = stays.iter().map(|(from, to)| i64::try_from(to - from).expect("short")).sum();
        let counted = found[somebody(n).id];
        println!("story-{n}: {truth} s, counted {counted} s");
        assert!(
            (counted - truth).abs() <= TIMEOUT,
            "story-{n} was there {truth} s, the report says {counted} s: {rows:?}"
        );
    }
    system.stop().await;
}

/// What one person's page and the provider send, as far as it arrives.
async fn live(system: &System, (id, room): (&str, &str), n: usize, stays: &[Stay], start: Instant) {
    let person = somebody(n);
    let at = |second: u64| start + Duration::from_secs(second);
    // Of some it is the first, the third … webhook that is lost, of others the second, the fourth.
    let mut told = n;
    for (visit, (from, to)) in stays.iter().enumerate() {
        let jid = format!("{room}@muc/{}-{visit}", person.id);
        sleep_until(at(*from)).await;
        let joined = call(system, &person, Method::POST, &format!("sessions/{id}/join/"), None).await;
        let connection = json!({"connection_id": joined["connection_id"]});
        let joined_at = Clock::System.now().timestamp();
        let mut occupant = json!({"occupant_jid": jid, "id": person.id, "name": person.name, "joined_at": joined_at});
        let event =
            |what: &str, occupant: &Value| json!({"event_name": format!("muc-occupant-{what}"), "occupant": occupant});
        if told.is_multiple_of(2) {
            tell(system, room, "occupant/joined", event("joined", &occupant)).await;
        }
        told += 1;
        for (beat, second) in (from + INTERVAL..=*to).step_by(INTERVAL as usize).enumerate() {
            sleep_until(at(second)).await;
            if beat % 2 == 0 {
                post(system, &person, &format!("sessions/{id}/heartbeat/"), &connection).await;
            }
        }
        sleep_until(at(*to)).await;
        occupant["left_at"] = json!(Clock::System.now().timestamp());
        if told.is_multiple_of(2) {
            tell(system, room, "occupant/left", event("left", &occupant)).await;
        }
        told += 1;
    }
}

async fn tell(system: &System, room: &str, event: &str, mut body: Value) {
    body["room_name"] = json!(room);
    body["room_jid"] = json!(format!("{room}@muc"));
    body["is_breakout"] = json!(false);
    let now = Clock::System.now().timestamp();
    body["created_at"] = json!(now - 60);
    body["destroyed_at"] = json!(now);
    let url = format!("{}/api/v1/live-sessions/webhooks/jitsi/events/{event}", system.var("API_URL"));
    let request = reqwest::Client::new().post(&url).bearer_auth(system.var("JITSI_WEBHOOK_SECRET")).json(&body);
    let status = request.send().await.expect("the API answers").status();
    assert!(status.is_success(), "{event}: {status}");
}

/// A line of `/proc/<pid>/status`, in MiB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_fifty_thousand_rows_does_not_grow_the_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = system(&dir, 0, &[("RUST_LOG", "warn")]).await;
    let db = database(&system).await;
    let body = json!({"kind": "instant", "title": "School", "access": "tenant"});
    let session = post(&system, &INSTRUCTOR, "sessions/", &body).await;
    let id = session["id"].as_str().expect("an id");
    call(&system, &INSTRUCTOR, Method::POST, &format!("sessions/{id}/end/"), None).await;
    sqlx::query("update sessions set finalized_at = now()").execute(&db).await.expect("marked");
    let fill = |from: i32, to: i32| {
        sqlx::query(
            "insert into attendance (session_id, tenant_id, person_id, name, email, invited, first_join_at, last_leave_at, \
                 present_seconds, percent, status, connections, intervals) \
             select id, tenant_id, 'person-' || n, 'Somebody with a name ' || n, 'somebody.' || n || '@school.example', true, \
                 started_at, ended_at, 3000, 83.33, 'present', 3, \
                 (select jsonb_agg(jsonb_build_object('start', started_at + i * interval '10 min', \
                     'end', started_at + i * interval '10 min' + interval '9 min', 'sources', array['heartbeat', 'webhook'])) \
                  from generate_series(0, 5) i) \
             from sessions, generate_series($1, $2) n",
        )
        .bind(from)
        .bind(to)
        .execute(&db)
    };
    fill(1, 1_000).await.expect("rows");
    let read = async |to: &str| {
        let token = people::token(&INSTRUCTOR, system.var("AUTH_JWT_SECRET"), Clock::System.now()).expect("a token");
        let url = format!("{}/api/v1/live-sessions/{to}", system.var("API_URL"));
        let mut answer = reqwest::Client::new().get(url).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{to}");
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.expect("the whole answer") {
            bytes += chunk.len();
        }
        bytes
    };
    let reports: Vec<String> = ["json", "csv", "xlsx"]
        .iter()
        .flat_map(|format| {
            [format!("sessions/{id}/attendance/?format={format}"), format!("attendance/?format={format}")]
        })
        .collect();
    for to in &reports {
        read(to).await;
    }
    fill(1_001, 50_000).await.expect("rows");
    sqlx::query("analyze attendance")
        .execute(&sqlx::PgPool::connect(system.var("DATABASE_URL")).await.expect("the owner"))
        .await
        .expect("analyzed");
    let pid = system.api.process().pid();
    for to in &reports {
        // Forgets the peak.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process of ours");
        let (before, started) = (memory(pid, "VmRSS"), std::time::Instant::now());
        let bytes = read(to).await;
        let grown = memory(pid, "VmHWM").saturating_sub(before);
        println!("{to}: {} MiB in {:?}, memory +{grown} MiB from {before} MiB", bytes >> 20, started.elapsed());
        assert!(bytes > 1 << 20, "{to}: {bytes} bytes");
        assert!(grown < 32, "{to}: the memory grew by {grown} MiB");
    }
    system.stop().await;
}
