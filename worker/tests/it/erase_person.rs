use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::{
    db::{erasures, personal_data},
    domain::ids::{ErasureId, SessionId},
    jobs::{CleanupPersonalData, ErasePerson, FinalizeSession},
    queue::{Cause, Tx},
};

use crate::support::{JobRow, TestWorker};

const ID: &str = "kisi-4711";
const NAME: &str = "Zübeyde Çağlayan";
const EMAIL: &str = "zubeyde.c@okul.example";

/// Everywhere a person may be: an ended session with all that belongs to it, done by themselves and by others.
async fn seed(worker: &TestWorker, id: &str, name: &str, email: &str) -> SessionId {
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    worker
        .invite(session, id, &[("name", name), ("email", email), ("locale", "tr"), ("timezone", "Europe/Istanbul")])
        .await;
    let now = worker.now();
    let connection = worker.heartbeats(session, id, (now - TimeDelta::minutes(20), now), true).await;
    worker.set("participants", connection, &format!("name = '{name}'")).await;
    let mail = worker.mail(session, id, "invitation", 0).await;
    worker
        .set(
            "reminders",
            mail.0,
            &format!("state = 'sent', name = '{name}', email = '{email}', note = 'to {email}: 250'"),
        )
        .await;
    worker.mail(session, id, "reminder", 15).await;
    let body = json!({
        "event_name": "muc-occupant-joined", "room_name": "oda",
        "occupant": {"id": id, "name": name, "email": email, "occupant_jid": format!("oda@muc/{id}")}, "others": [id, 7, null, {}, []],
    });
    let event = worker.webhook(&body).await;
    let columns =
        format!("tenant_id = '{}', session_id = '{session}', state = 'processed', note = '{id} came'", worker.tenant);
    worker.set("webhook_events", event.0, &columns).await;

    let actor = format!("person:{id}");
    let cause = Cause { actor: &actor, request_id: "request" };
    let mut tx = Tx::begin_for(worker.db(), &worker.state().dispatcher, Some(worker.tenant), cause).await.unwrap();
    for statement in [
        "insert into sightings (session_id, tenant_id, person_id, connection_key, source, kind, at, name) \
         values ($2, $1, $3, 'oda@muc/' || $3, 'webhook', 'joined', now() - interval '20 min', $4)",
        "insert into attendance_corrections (id, tenant_id, session_id, person_id, status, reason, made_by) \
         values (gen_random_uuid(), $1, $2, $3, 'excused', 'The father of ' || $4 || ' called', $3)",
        "insert into attendance_objections (id, tenant_id, session_id, person_id, reason, state, answer, answered_by, answered_at) \
         values (gen_random_uuid(), $1, $2, $3, 'I was ill, ' || $5, 'refused', 'No, ' || $4, $3, now())",
        "insert into api_keys (id, tenant_id, name, hash, roles, created_by, revoked_by, revoked_at) \
         select gen_random_uuid(), $1, 'Key', decode(repeat('ab', 32), 'hex'), '{service}', $3, $3, now() where $4 <> $5 and $2 is not null",
        "insert into meetings (id, tenant_id, session_id, provider, claimed_until, external_id, made_at, details) \
         select gen_random_uuid(), $1, $2, 'bbb', now(), 'room', now(), jsonb_build_object('provider', 'bbb', 'created_ms', 1, 'internal_id', 'x', 'server', '', 'owner', $3, 'mail', $5) where $4 <> ''",
        "insert into meeting_registrants (meeting_id, tenant_id, person_id, registrant_id, key_id, ciphertext) \
         select id, $1, $3, 'of ' || $4, 'key', '\\x00' from meetings where session_id = $2 and $5 <> ''",
    ] {
        let done = sqlx::query(statement).bind(worker.tenant).bind(session).bind(id).bind(name).bind(email);
        done.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let errors = json!([{"at": "x", "attempt": 1, "error": format!("550 no such user: <{email}>, {id}")}]);
    sqlx::query("insert into jobs (id, tenant_id, queue, kind, payload, max_attempts, state, errors) values (gen_random_uuid(), $1, 'default', 'noop', '{}', 1, 'dead', $2)")
        .bind(worker.tenant)
        .bind(errors)
        .execute(worker.db())
        .await
        .unwrap();
    worker.set("sessions", session.0, "status = 'ended', ended_at = now()").await;
    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    // Held by the person, too.
    let columns = format!("host_id = '{id}', host_name = '{name}', host_email = '{email}', created_by = '{id}'");
    worker.set("sessions", session.0, &columns).await;
    session
}

/// Tables and columns in which the pattern is found, with how often.
async fn found(worker: &TestWorker, pattern: &str) -> Vec<(String, i64)> {
    let owner = worker.owner().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns \
         where table_schema = current_schema() and data_type in ('text', 'jsonb', 'json', 'ARRAY', 'character varying', 'bytea') \
         order by 1, 2",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    assert!(columns.len() > 100, "{}", columns.len());
    let mut all = Vec::new();
    for (table, column) in columns {
        let query = format!("select count(*) from {table} where {column}::text ~ $1");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(pattern).fetch_one(&owner).await.unwrap();
        if count > 0 {
            all.push((format!("{table}.{column}"), count));
        }
    }
    all
}

async fn request(worker: &TestWorker, person: &str) -> ErasureId {
    let mut tx = worker.begin_for(worker.tenant).await;
    let erasure = erasures::request(&mut *tx, worker.tenant, person, person).await.unwrap();
    tx.commit().await.unwrap();
    erasure.id
}

async fn receipt(worker: &TestWorker, id: ErasureId) -> erasures::Erasure {
    erasures::find(worker.db(), worker.tenant, id).await.unwrap().unwrap()
}

async fn erase(worker: &TestWorker, id: ErasureId) -> JobRow {
    worker.run(&ErasePerson { erasure_id: id }).await
}

#[tokio::test]
async fn nothing_of_an_erased_person_is_left_in_any_column_and_others_stay() {
    let worker = TestWorker::new().await;
    let session = seed(&worker, ID, NAME, EMAIL).await;
    // Whose id begins like the person's.
    seed(&worker, "kisi-47110", "Ali", "x.zubeyde.c@okul.example").await;
    let patterns = ["kisi-4711([^0]|$)", "(^|[^.])zubeyde.c@", NAME];
    let others = ["kisi-47110", "x.zubeyde.c@okul.example", "Ali"];
    let mut before = Vec::new();
    for other in others {
        before.push(found(&worker, other).await);
    }
    let seeded: Vec<String> = found(&worker, patterns[0]).await.into_iter().map(|(column, _)| column).collect();
    for table in [
        "api_keys.created_by",
        "attendance.corrected",
        "attendance.person_id",
        "attendance_corrections.made_by",
        "attendance_objections.answered_by",
        "audit_log.actor",
        "audit_log.changes",
        "invitees.person_id",
        "jobs.errors",
        "meetings.details",
        "participants.person_id",
        "reminders.person_id",
        "sessions.host_id",
        "sightings.connection_key",
        "webhook_events.body",
        "webhook_events.note",
    ] {
        assert!(seeded.iter().any(|column| column == table), "{table} is not seeded: {seeded:?}");
    }

    let id = request(&worker, ID).await;
    let run = erase(&worker, id).await;
    assert_eq!(run.state, "done", "{}", run.error());
    for pattern in patterns {
        assert_eq!(found(&worker, pattern).await, [], "{pattern} is left");
    }
    for (other, before) in others.into_iter().zip(before) {
        assert_eq!(found(&worker, other).await, before, "{other} is another person");
    }

    // The receipt tells of it, and the session's report has its rows and counts.
    let receipt = receipt(&worker, id).await;
    assert!(receipt.person_id.is_none() && receipt.terms.is_none() && receipt.finished_at.is_some());
    for table in
        ["attendance", "audit_log", "invitees", "participants", "reminders", "sessions", "sightings", "webhook_events"]
    {
        assert!(receipt.erased[table].as_i64().unwrap() > 0, "{table}: {}", receipt.erased);
    }
    assert!(receipt.kept.unwrap().as_array().unwrap().len() > 3);
    let rows = shared::db::attendance::load(&mut *worker.begin().await, session).await.unwrap();
    assert_eq!((rows.len(), rows[0].person.as_str(), &rows[0].name), (1, receipt.pseudonym.as_str(), &None));
    assert!(rows[0].present_seconds > 1000);
    // It may be computed again.
    worker.set("sessions", session.0, "finalized_at = null").await;
    assert_eq!(worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    assert_eq!(shared::db::attendance::load(&mut *worker.begin().await, session).await.unwrap().len(), 1);
    let line = "select actor from audit_log where action = 'person.erased'";
    assert_eq!(worker.get::<String>(line).await, "job:erase-person");
}

#[tokio::test]
async fn erasing_twice_or_somebody_unknown_changes_nothing_more() {
    let worker = TestWorker::new().await;
    seed(&worker, ID, NAME, EMAIL).await;
    let mut sums = Vec::new();
    for person in [ID, ID, "nobody"] {
        let id = request(&worker, person).await;
        assert_eq!(request(&worker, person).await, id, "one waits already");
        assert_eq!(erase(&worker, id).await.state, "done");
        let erased = receipt(&worker, id).await.erased;
        assert_eq!(erase(&worker, id).await.state, "done");
        assert_eq!(receipt(&worker, id).await.erased, erased);
        sums.push(erased.as_object().unwrap().values().filter_map(Value::as_i64).sum::<i64>());
    }
    // The request itself is by the person.
    assert!(sums[0] > 10 && sums[1..] == [1, 1], "{sums:?}");
}

#[tokio::test]
async fn nobody_is_erased_while_they_are_in_a_session() {
    let worker = TestWorker::new().await;
    let session = worker.live_session(TimeDelta::minutes(30)).await;
    let now = worker.now();
    worker.heartbeats(session, ID, (now - TimeDelta::minutes(20), now), true).await;
    let id = request(&worker, ID).await;
    let run = erase(&worker, id).await;
    assert_eq!((run.state.as_str(), run.attempt), ("available", 0));
    assert!((500.0..700.0).contains(&run.wait_seconds));
    worker.set("sessions", session.0, "status = 'ended', ended_at = now()").await;
    assert_eq!(worker.run_id(run.id).await.state, "done");
    assert_eq!(found(&worker, ID).await, []);
}

#[tokio::test]
async fn all_that_is_held_about_a_person_is_handed_out() {
    let worker = TestWorker::new().await;
    let session = seed(&worker, ID, NAME, EMAIL).await;
    seed(&worker, "somebody", "Ali", "ali@okul.example").await;
    let recording = worker.recording(session, "https://host.test/secret").await;
    let data = personal_data::export(&mut *worker.begin_for(worker.tenant).await, worker.tenant, ID).await.unwrap();
    for (table, rows) in &data {
        assert!(!rows.as_array().unwrap().is_empty(), "{table}");
    }
    assert_eq!(data["recordings"][0]["id"], recording.to_string());
    let text = Value::from(data).to_string();
    assert!(!text.contains("somebody") && !text.contains("secret") && !text.contains("abab"), "{text}");
    let nothing =
        personal_data::export(&mut *worker.begin_for(worker.tenant).await, worker.tenant, "nobody").await.unwrap();
    assert!(nothing.values().all(|rows| rows.as_array().unwrap().is_empty()));
}

#[tokio::test]
async fn the_people_of_sessions_past_the_tenant_s_retention_are_forgotten() {
    let worker = TestWorker::new().await;
    let old = seed(&worker, ID, NAME, EMAIL).await;
    let young = seed(&worker, "somebody", "Ali", "ali@okul.example").await;
    let count = async |table: &str, session: SessionId| {
        worker.get::<i64>(&format!("select count(*) from {table} where session_id = '{session}'")).await
    };
    worker.set("sessions", old.0, "ended_at = now() - interval '366 days', host_id = 'host', host_name = '', host_email = null, created_by = 'host'").await;
    assert_eq!(worker.run(&CleanupPersonalData {}).await.state, "done");
    assert_eq!(count("attendance", old).await, 1, "kept where the tenant says nothing else");
    worker.set("tenants", worker.tenant.0, "personal_data_retention_days = 365").await;
    for _ in 0..2 {
        assert_eq!(worker.run(&CleanupPersonalData {}).await.state, "done");
        for table in [
            "attendance",
            "attendance_corrections",
            "attendance_objections",
            "invitees",
            "participants",
            "reminders",
            "sightings",
            "webhook_events",
        ] {
            assert_eq!(count(table, old).await, 0, "{table}");
            assert!(count(table, young).await > 0, "{table}");
        }
    }
}
