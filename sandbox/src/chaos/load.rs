//! The callers: plan sessions with invitees, announce recordings, a few times a second.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use chrono::TimeDelta;
use reqwest::Method;
use sandbox::{people::INSTRUCTOR, process::lock, system::System};
use serde_json::{Value, json};
use shared::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::{Ledger, Planned};
use crate::demo::Client;

const EVERY: Duration = Duration::from_millis(150);
const INVITEES: usize = 3;
/// A recording of two parts, so that an import can die between them.
pub const RECORDING_BYTES: u64 = 9 * 1024 * 1024;

pub async fn run(system: Arc<System>, accepted: Ledger, stop: CancellationToken) {
    let client = Client::new(system.env.clone());
    let mut number = 0_u64;
    let mut tick = tokio::time::interval(EVERY);
    while !stop.is_cancelled() {
        tick.tick().await;
        number += 1;
        match plan(&client, number).await {
            Ok((session, addresses)) => {
                let id = session["id"].as_str().unwrap_or_default().to_owned();
                // An invitation and a reminder; with a recording, that it is there.
                let mut planned = Planned { id, addresses, mails: 2, at_most: 2 };
                if number.is_multiple_of(8) {
                    let taken = announce_recording(&client, &accepted, &session, number).await;
                    planned.mails += usize::from(taken);
                    planned.at_most += 1;
                }
                lock(&accepted).sessions.push(planned);
            }
            // Killed or overloaded: the caller does not know whether it was done.
            Err(_) => lock(&accepted).unanswered += 1,
        }
    }
}

async fn plan(client: &Client, number: u64) -> anyhow::Result<(Value, Vec<String>)> {
    let now = Clock::System.now();
    let addresses: Vec<String> = (0..INVITEES).map(|n| format!("s{number}-p{n}@demo.example")).collect();
    let invitees: Vec<Value> =
        addresses.iter().map(|address| json!({"person_id": address, "name": "Somebody", "email": address})).collect();
    let body = json!({
        "kind": "scheduled",
        "title": format!("Chaos {number}"),
        // Both reminder steps are past, so that one reminder is due at once.
        "starts_at": now + TimeDelta::minutes(14),
        "ends_at": now + TimeDelta::minutes(60),
        "timezone": "Europe/Istanbul",
        "invitees": invitees,
    });
    let session = client.json(&INSTRUCTOR, Method::POST, "sessions/", Some(body)).await?;
    Ok((session, addresses))
}

/// Whether it was accepted.
async fn announce_recording(client: &Client, accepted: &Ledger, session: &Value, seed: u64) -> bool {
    let sent = async {
        let room = session["room"].as_str().context("no room")?;
        let id = session["id"].as_str().context("no id")?;
        let name = format!("chaos-{seed}.mp4");
        let url = format!("{}/recordings/{name}?size={RECORDING_BYTES}&seed={seed}", client.var("RECORDING_HOST_URL"));
        let now = Clock::System.now().timestamp_millis();
        let event = json!({
            "eventType": "RECORDING_UPLOADED", "idempotencyKey": uuid::Uuid::now_v7(), "customerId": "demo",
            "appId": "demo", "sessionId": uuid::Uuid::now_v7(), "timestamp": now, "fqn": format!("demo/{room}"),
            "data": {"preAuthenticatedLink": url, "recordingSessionId": id, "startTimestamp": now, "endTimestamp": now},
        });
        // Twice, as providers do; the first good answer counts.
        let first = client.jaas(&event).await;
        let second = client.jaas(&event).await;
        first.or(second)?;
        anyhow::Ok(name)
    };
    match sent.await {
        Ok(name) => {
            lock(accepted).recordings.push((name, seed));
            true
        }
        Err(_) => {
            lock(accepted).unanswered += 1;
            false
        }
    }
}
