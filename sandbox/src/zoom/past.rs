//! What is told of runs that are over: reports, lists, recordings.

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::clock::Clock;

use super::{
    Server,
    api::{Parameters, Reply, no_meeting, page, refusal, run_name},
    meetings::{Run, Stay, time},
};
use crate::process::lock;

impl Server {
    pub(super) fn recordings(&self, named: &str, parameters: &Parameters) -> Reply {
        let mut world = lock(&self.world);
        let found = run_name(named).and_then(|name| {
            let (meeting, run) = world.run(&name)?;
            (!run.files.is_empty()).then(|| {
                let mut told = meeting.object(&run.uuid, true);
                told["recording_count"] = run.files.len().into();
                told["recording_files"] = run.files.clone().into();
                told
            })
        });
        let Some(mut told) = found else { return refusal(404, 3301, "This recording does not exist.") };
        if parameters.get("include_fields").is_some_and(|fields| fields == "download_access_token") {
            let token = hex::encode(rand::random::<[u8; 24]>());
            world.download_tokens.push(token.clone());
            told["download_access_token"] = token.into();
        }
        (200, told)
    }

    pub(super) fn instances(&self, id: &str) -> Reply {
        let world = lock(&self.world);
        let number = id.parse::<i64>().unwrap_or_default();
        let Some(meeting) = world.meetings.get(&number).or_else(|| world.deleted.get(&number)) else {
            return no_meeting(id);
        };
        let ended = meeting.runs.iter().filter(|run| run.ended_at.is_some());
        let told: Vec<_> = ended.map(|run| json!({"uuid": run.uuid, "start_time": time(run.started_at)})).collect();
        (200, json!({"meetings": told}))
    }

    pub(super) fn participants(&self, named: &str, parameters: &Parameters) -> Reply {
        let delay = i64::try_from(lock(&self.faults).report_delay_ms).unwrap_or(i64::MAX / 2);
        let ready = Clock::System.now() - TimeDelta::milliseconds(delay);
        let world = lock(&self.world);
        let found = run_name(named).and_then(|name| world.run(&name));
        let Some((meeting, run)) = found.filter(|(_, run)| run.ended_at.is_some_and(|ended| ended <= ready)) else {
            return no_meeting(named);
        };
        let with_registrants = parameters.get("include_fields").is_some_and(|fields| fields == "registrant_id");
        let lines: Vec<Value> =
            run.stays.iter().map(|stay| line(&meeting.host_id, (run, stay), with_registrants)).collect();
        page("participants", &lines, parameters)
    }
}

/// One stay, as reports tell it.
fn line(host_id: &str, (run, stay): (&Run, &Stay), with_registrants: bool) -> Value {
    let visitor = &stay.visitor;
    let id = if visitor.host { host_id } else { &visitor.id };
    let left_at = stay.left_at.or(run.ended_at).unwrap_or(stay.joined_at);
    let mut told = json!({
        "id": id, "user_id": stay.user_id, "name": visitor.user_name, "user_email": visitor.email,
        "join_time": time(stay.joined_at), "leave_time": time(left_at),
        "duration": (left_at - stay.joined_at).num_seconds(), "customer_key": visitor.customer_key,
        "status": if stay.in_waiting_room { "in_waiting_room" } else { "in_meeting" }, "failover": false,
    });
    if with_registrants {
        told["registrant_id"] = visitor.registrant_id.clone().into();
    }
    told
}
