//! The story itself: plan, remind, start, join, lose a connection, end, report, record.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Method, header::LOCATION};
use sandbox::{
    people::{INSTRUCTOR, Person, STUDENTS},
    recording_host::sha256_of,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::clock::Clock;

use super::{
    breaking::Breaking,
    client::{Client, until},
};

const RECORDING_BYTES: u64 = 40 * 1024 * 1024;
/// How long the class lasts; the demo tenant's heartbeat timeout (15 s) and a sweep fit into it.
const CLASS: Duration = Duration::from_secs(28);
const AYSE: Person = STUDENTS[0];
const MEHMET: Person = STUDENTS[1];
const EMILY: Person = STUDENTS[2];
const CAN: Person = STUDENTS[3];

pub async fn tell(client: &Client, breaking: Option<&Breaking>) -> anyhow::Result<()> {
    let session = plan(client).await.context("1. plan")?;
    remind(client, &session, breaking).await.context("2. reminder mail with calendar entry")?;
    let connections = start_and_join(client, &session).await.context("3. start and join")?;
    attend(client, &session, &connections, breaking).await.context("4. attend")?;
    end_and_report(client, &session).await.context("5. end and attendance report")?;
    record(client, &session, breaking).await.context("6. recording")?;
    Ok(())
}

/// The planned session, as the story needs it.
struct Planned {
    id: String,
    room: String,
}

/// What a join gave to one person.
struct Connection {
    person: Person,
    id: String,
}

fn step(number: u8, what: &str) {
    println!("\n{number}. {what}");
}

fn seen(what: impl std::fmt::Display) {
    println!("     {what}");
}

async fn plan(client: &Client) -> anyhow::Result<Planned> {
    step(1, "An instructor plans a class for in ten minutes and invites four students");
    let now = Clock::System.now();
    let invitees: Vec<Value> = STUDENTS
        .iter()
        .map(|s| {
            json!({"person_id": s.id, "name": s.name, "email": s.email, "locale": s.locale, "timezone": s.timezone})
        })
        .collect();
    let body = json!({
        "kind": "scheduled",
        "title": "Hafta 1 - Giriş Dersi",
        "starts_at": now + chrono::Duration::minutes(10),
        "ends_at": now + chrono::Duration::minutes(70),
        "timezone": "Europe/Istanbul",
        "recording_enabled": true,
        "invitees": invitees,
    });
    let session = client.json(&INSTRUCTOR, Method::POST, "sessions/", Some(body)).await?;
    let id = session["id"].as_str().context("the answer has no id")?.to_owned();
    seen(format!("session {id}, status {}, {} to {}", session["status"], session["starts_at"], session["ends_at"]));
    Ok(Planned { id, room: session["room"].as_str().context("the answer has no room")?.to_owned() })
}

async fn remind(client: &Client, session: &Planned, breaking: Option<&Breaking>) -> anyhow::Result<()> {
    step(2, "Everybody is invited and reminded by mail, with a calendar entry");
    if let Some(breaking) = breaking {
        breaking.kill_worker()?;
        breaking.flush_redis().await?;
    }
    for student in STUDENTS {
        let mails = until("an invitation and a reminder", Duration::from_secs(60), async || {
            let mails = client.mails(&student, &session.id).await?;
            Ok((mails.len() >= 2).then_some(mails))
        })
        .await
        .with_context(|| format!("mails to {}", student.name))?;
        ensure!(mails.len() == 2, "{} got {} mails, not one invitation and one reminder", student.name, mails.len());
        let mut calendar = None;
        for mail in &mails {
            seen(format!("to {:<12} {:?}", student.name, mail["subject"].as_str().unwrap_or_default()));
            let attachments = mail["attachments"].as_array().cloned().unwrap_or_default();
            calendar = attachments
                .iter()
                .find(|a| a["content_type"].as_str().is_some_and(|t| t.starts_with("text/calendar")))
                .and_then(|a| a["content"].as_str().map(str::to_owned))
                .or(calendar);
        }
        let calendar = calendar.context("no mail has a calendar entry")?;
        ensure!(calendar.contains("METHOD:REQUEST"), "the calendar entry is no invitation: {calendar}");
        ensure!(calendar.contains("BEGIN:VTIMEZONE"), "the calendar entry does not tell its time zone");
        if student.id == STUDENTS[0].id {
            for line in calendar.lines().filter(|l| l.starts_with("UID:") || l.starts_with("DTSTART;")) {
                seen(format!("calendar entry: {line}"));
            }
        }
    }
    Ok(())
}

async fn start_and_join(client: &Client, session: &Planned) -> anyhow::Result<Vec<Connection>> {
    step(3, "The instructor starts; three students join with a provider token, one stays away");
    let started = client.post(&INSTRUCTOR, &format!("sessions/{}/start/", session.id)).await?;
    seen(format!("status {}, started at {}", started["status"], started["started_at"]));
    let mut connections = Vec::new();
    for person in [INSTRUCTOR, AYSE, MEHMET, EMILY] {
        let join = client.post(&person, &format!("sessions/{}/join/", session.id)).await?;
        let token = join["token"].as_str().context("join gave no token")?;
        let claims = claims(token)?;
        ensure!(claims["room"] == json!(session.room), "the token is for another room: {claims}");
        ensure!(claims["context"]["user"]["id"] == json!(person.id), "the token is for another person: {claims}");
        seen(format!(
            "{:<14} role {:<13} token: iss {} room {} affiliation {}",
            person.name,
            join["role"].to_string(),
            claims["iss"],
            claims["room"],
            claims["context"]["user"]["affiliation"]
        ));
        if person.id == INSTRUCTOR.id {
            let url = join["join_url"].as_str().context("join gave no address")?;
            seen(format!("{:<14} {}…", "", url.split('?').next().unwrap_or(url)));
        }
        let id = join["connection_id"].as_str().context("join gave no connection")?.to_owned();
        connections.push(Connection { person, id });
    }
    Ok(connections)
}

/// The claims of a token, unverified: the story only shows them.
fn claims(token: &str) -> anyhow::Result<Value> {
    use base64::Engine as _;
    let part = token.split('.').nth(1).context("the token has no claims")?;
    Ok(serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part)?)?)
}

async fn attend(
    client: &Client,
    session: &Planned,
    connections: &[Connection],
    breaking: Option<&Breaking>,
) -> anyhow::Result<()> {
    step(4, "Heartbeats and webhooks come in; Emily's connection is lost without a word");
    for connection in connections {
        let person = &connection.person;
        event_sync(client, session, person, "joined").await?;
        // The provider tells everything twice.
        event_sync(client, session, person, "joined").await?;
    }
    let beat = async |connection: &Connection| {
        let path = format!("sessions/{}/heartbeat/", session.id);
        let body = json!({"connection_id": connection.id});
        client.json(&connection.person, Method::POST, &path, Some(body)).await
    };
    let begun = tokio::time::Instant::now();
    let mut beats = 0;
    let mut broken = false;
    while begun.elapsed() < CLASS {
        for connection in connections {
            let lost = connection.person.id == EMILY.id && begun.elapsed() > Duration::from_secs(4);
            if !lost {
                beat(connection).await?;
                beats += 1;
            }
        }
        if let Some(breaking) = breaking.filter(|_| !broken && begun.elapsed() > CLASS / 2) {
            breaking.kill_worker()?;
            breaking.flush_redis().await?;
            broken = true;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    seen(format!("{beats} heartbeats were stored"));
    // Emily's own leave event never comes from her browser, but the provider noticed.
    event_sync(client, session, &EMILY, "left").await?;
    let rows = until(
        "the webhooks to be processed and the lost connection to be closed",
        Duration::from_secs(30),
        async || {
            let people = client.get(&INSTRUCTOR, &format!("sessions/{}/participants/", session.id)).await?;
            let rows = people["results"].as_array().cloned().unwrap_or_default();
            let closed = |reason: &str| rows.iter().any(|row| row["left_reason"] == reason);
            Ok((rows.len() == 8 && closed("stale") && closed("left")).then_some(rows))
        },
    )
    .await?;
    seen(format!("{} connections: four from heartbeats, four from webhooks", rows.len()));
    for row in rows.iter().filter(|row| row["person_id"] == json!(EMILY.id)) {
        seen(format!("Emily by {}: left at {} ({})", row["source"], row["left_at"], row["left_reason"]));
    }
    Ok(())
}

/// One occupant event in the shape of jitsi-contrib's event_sync. Emily's connection was lost 20 s ago.
async fn event_sync(client: &Client, session: &Planned, person: &Person, what: &str) -> anyhow::Result<()> {
    let now = Clock::System.now().timestamp();
    let mut occupant = json!({
        "occupant_jid": format!("{}@meet.demo.example/{}", person.id, &session.id[..8]),
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "joined_at": now,
    });
    if what == "left" {
        occupant["joined_at"] = json!(now - CLASS.as_secs() as i64);
        occupant["left_at"] = json!(now - 22);
    }
    let body = json!({
        "event_name": format!("muc-occupant-{what}"),
        "room_name": session.room,
        "room_jid": format!("{}@conference.meet.demo.example", session.room),
        "is_breakout": false,
        "occupant": occupant,
        "active_occupants_count": 4,
    });
    client.event_sync(&format!("occupant/{what}"), &body).await
}

async fn end_and_report(client: &Client, session: &Planned) -> anyhow::Result<()> {
    step(5, "The instructor ends the class; the attendance report is computed");
    let ended = client.post(&INSTRUCTOR, &format!("sessions/{}/end/", session.id)).await?;
    seen(format!("status {}, ended at {}", ended["status"], ended["ended_at"]));
    let report = until("the final attendance report", Duration::from_secs(30), async || {
        let report = client.get(&INSTRUCTOR, &format!("sessions/{}/attendance/", session.id)).await?;
        Ok((report["final"] == json!(true)).then_some(report))
    })
    .await?;
    let rows = report["results"].as_array().context("the report has no rows")?;
    println!("     {:<14} {:<11} {:>9} {:>8}", "person", "status", "present", "percent");
    for row in rows {
        println!(
            "     {:<14} {:<11} {:>7} s {:>6.0} %",
            row["name"].as_str().unwrap_or_default(),
            row["status"].as_str().unwrap_or_default(),
            row["present_seconds"],
            row["percent"].as_f64().unwrap_or_default()
        );
    }
    let present = |person: &Person| {
        let row = rows.iter().find(|row| row["person_id"] == json!(person.id));
        row.and_then(|row| row["present_seconds"].as_i64()).with_context(|| format!("{} is missing", person.name))
    };
    let (ayse, mehmet, emily, can) = (present(&AYSE)?, present(&MEHMET)?, present(&EMILY)?, present(&CAN)?);
    let class = CLASS.as_secs() as i64;
    ensure!(ayse >= class - 5 && mehmet >= class - 5, "people who stayed are not counted in full");
    ensure!((1..=15).contains(&emily), "the lost connection counts {emily} s");
    ensure!(can == 0, "somebody who never came counts {can} s");
    let path = format!("sessions/{}/attendance/?format=csv", session.id);
    let csv = client.call(&INSTRUCTOR, Method::GET, &path, None).await?.text().await?;
    seen(format!(
        "as CSV: {} lines, the first: {}",
        csv.lines().count(),
        csv.lines().next().unwrap_or_default().trim_start_matches('\u{feff}')
    ));
    Ok(())
}

async fn record(client: &Client, session: &Planned, breaking: Option<&Breaking>) -> anyhow::Result<()> {
    step(6, "The provider has the recording; it is fetched, checked, and linked");
    let seed = u64::from_str_radix(&session.id.replace('-', "")[20..], 16)? % 1_000_000;
    let name = format!("{}.mp4", session.id);
    if breaking.is_some() {
        // Slow enough that the worker dies in the middle.
        client.slow_recording(&name, RECORDING_BYTES / 6).await?;
    }
    let url = format!("{}/recordings/{name}?size={RECORDING_BYTES}&seed={seed}", client.var("RECORDING_HOST_URL"));
    let now = Clock::System.now().timestamp_millis();
    let uploaded = json!({
        "eventType": "RECORDING_UPLOADED",
        "idempotencyKey": uuid::Uuid::now_v7(),
        "customerId": "demo",
        "appId": "vpaas-magic-cookie-demo",
        "sessionId": uuid::Uuid::now_v7(),
        "timestamp": now,
        "fqn": format!("vpaas-magic-cookie-demo/{}", session.room),
        "data": {
            "preAuthenticatedLink": url,
            "recordingSessionId": session.id,
            "durationSec": CLASS.as_secs(),
            "startTimestamp": now - CLASS.as_millis() as i64,
            "endTimestamp": now,
            "share": true,
            "initiatorId": INSTRUCTOR.id,
            "participants": [],
        },
    });
    client.jaas(&uploaded).await?;
    // Providers repeat themselves.
    client.jaas(&uploaded).await?;
    if let Some(breaking) = breaking {
        let list = format!("sessions/{}/recordings/", session.id);
        until("the import to be under way", Duration::from_secs(30), async || {
            let recordings = client.get(&INSTRUCTOR, &list).await?;
            let done = recordings["results"][0]["bytes_done"].as_u64().unwrap_or(0);
            Ok((done > 0).then_some(()))
        })
        .await?;
        breaking.kill_worker()?;
        breaking.flush_redis().await?;
    }
    let recording = await_recording(client, session).await?;
    let expected = sha256_of(RECORDING_BYTES, seed);
    seen(format!("in the object store: {} bytes, sha256 {}", recording["size_bytes"], recording["sha256"]));
    ensure!(recording["size_bytes"] == json!(RECORDING_BYTES), "the source has {RECORDING_BYTES} bytes");
    ensure!(recording["sha256"] == json!(expected), "the source's sha256 is {expected}");

    let id = recording["id"].as_str().context("the recording has no id")?;
    let response = client.call(&INSTRUCTOR, Method::GET, &format!("recordings/{id}/download/"), None).await?;
    let link = response.headers().get(LOCATION).context("no download link")?.to_str()?.to_owned();
    let mut hash = Sha256::new();
    client.download(&link, |bytes| hash.update(bytes)).await.context("the download link")?;
    ensure!(hex::encode(hash.finalize()) == expected, "the download differs from the source");
    seen(format!("download link works and gives the same bytes: {}…", link.split('?').next().unwrap_or(&link)));
    Ok(())
}

async fn await_recording(client: &Client, session: &Planned) -> anyhow::Result<Value> {
    let mut shown = String::new();
    until("the recording to be stored", Duration::from_secs(120), async || {
        let recordings = client.get(&INSTRUCTOR, &format!("sessions/{}/recordings/", session.id)).await?;
        let rows = recordings["results"].as_array().cloned().unwrap_or_default();
        ensure!(rows.len() <= 1, "one recording became {}: {recordings}", rows.len());
        let Some(recording) = rows.into_iter().next() else { return Ok(None) };
        let state = recording["state"].as_str().unwrap_or_default().to_owned();
        let progress = format!("{state}, {} bytes", recording["bytes_done"]);
        if progress != shown {
            seen(format!("recording: {progress}"));
            shown = progress;
        }
        ensure!(state != "failed", "the import failed: {recording}");
        Ok(matches!(state.as_str(), "stored" | "published").then_some(recording))
    })
    .await
}
