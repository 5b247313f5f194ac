//! Sessions at Zoom: what its webhooks, its report and its recordings become, and what it is told.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use sandbox::{
    recording_host::sha256_of,
    zoom::{Account, Act, Faults, NewFile, SEED, Visitor, Zoom},
};
use serde_json::{Value, json};
use shared::{
    db::{meeting_registrants, meetings, provider_configs, provider_secrets, sessions},
    domain::{
        ids::{ProviderConfigId, RecordingId, SessionId},
        provider::ProviderKind,
        session::Session,
    },
    jobs::{EndMeeting, FinalizeSession, ImportRecording, ProcessWebhook, ReconcileAttendance, UpdateMeeting},
    meetings::NewMeeting,
    providers::{Meeting, Providers, zoom::ZoomMeeting},
    secrets::{Place, Sealed, Secret},
};

use crate::support::*;

const KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A worker, a Zoom, and a tenant's configuration of it.
struct Stage {
    worker: TestWorker,
    zoom: Zoom,
    config: ProviderConfigId,
    providers: Providers,
}

impl Stage {
    async fn new() -> Self {
        let zoom = Zoom::start(None, Account::new("a-client-secret", "a-webhook-secret-x")).await.unwrap();
        let worker = TestWorker::with(|config| {
            config.zoom.zoom_api_url = zoom.api_url().parse().unwrap();
            config.zoom.zoom_oauth_url = zoom.oauth_url().parse().unwrap();
            config.secrets.secrets_keys = KEYS.to_owned();
            config.outbound.provider_configs_allow_private = true;
        })
        .await;
        let (id, tenant, account) = (ProviderConfigId::new(), worker.tenant, zoom.account());
        let port = zoom.url().rsplit(':').next().unwrap().to_owned();
        let settings = json!({
            "account_id": account.account_id, "client_id": account.client_id, "user_id": account.user_email,
            "recording_hosts": [format!("localhost:{port}")],
        });
        let new = (ProviderKind::Zoom, &settings);
        provider_configs::insert(worker.db(), (id, tenant), ("Zoom", true), new).await.unwrap();
        let place = Place { tenant, config: id, field: "client_secret" };
        let sealed = worker.state().keys.seal(&Secret::new("a-client-secret"), place).unwrap();
        provider_secrets::put(worker.db(), (tenant, id), "client_secret", &sealed).await.unwrap();
        let mut connection = on(worker.db()).await;
        let providers = worker.state().providers_of(&mut connection, id).await.unwrap().unwrap();
        drop(connection);
        Self { worker, zoom, config: id, providers }
    }

    async fn find(&self, id: SessionId) -> Session {
        sessions::find(self.worker.db(), id).await.unwrap().unwrap()
    }

    /// A live session of the host `host`, without a meeting.
    async fn session(&self, started_ago: TimeDelta) -> SessionId {
        let id = self.worker.live_session(started_ago).await;
        self.worker.set("sessions", id.0, &format!("provider = 'zoom', provider_config_id = '{}'", self.config)).await;
        id
    }

    /// Somebody has joined: the meeting is made.
    async fn make(&self, id: SessionId) -> i64 {
        self.make_at(id, None).await
    }

    async fn make_at(&self, id: SessionId, server: Option<&str>) -> i64 {
        let session = self.find(id).await;
        let zoom = self.providers.zoom().unwrap();
        let place = server.map_or(shared::meetings::Place::Any, shared::meetings::Place::At);
        let new = NewMeeting { place, ..NewMeeting::of(&session, false) };
        let made = self.worker.state().meetings.zoom().make(zoom, &new).await.unwrap();
        self.store(&session, Some(made)).await;
        if let Some(server) = server {
            self.worker.set("meetings", meeting_id(self, id).await, &format!("server = '{server}'")).await;
        }
        made.number
    }

    /// The row of a meeting; one that is not made yet was claimed long ago.
    async fn store(&self, session: &Session, made: Option<ZoomMeeting>) {
        let mut connection = on(self.worker.db()).await;
        let claimed = meetings::claim(&mut connection, session, std::time::Duration::ZERO).await.unwrap();
        let meetings::Claim::Mine { meeting, tried_before: false } = claimed else { panic!("{claimed:?}") };
        if let Some(made) = made {
            meetings::made(&mut *connection, meeting.id, &Meeting::Zoom(made)).await.unwrap();
        }
    }

    /// Somebody was registered by a join.
    async fn register(&self, session: SessionId, person: &str) -> Visitor {
        let row = meetings::find_open(self.worker.db(), session).await.unwrap().unwrap();
        let number: i64 = row.external_id.unwrap().parse().unwrap();
        let zoom = self.providers.zoom().unwrap();
        let address = format!("{person}@registrants.example.com");
        let api = self.worker.state().meetings.zoom();
        let made = api.register(zoom, ZoomMeeting { number, registers: true }, (person, &address)).await.unwrap();
        let link = Sealed { key_id: "test".into(), ciphertext: vec![0; 28] };
        let of = (self.worker.tenant, row.id);
        meeting_registrants::put(self.worker.db(), of, person, (&made.registrant_id, &link)).await.unwrap();
        Visitor { user_name: person.to_owned(), registrant_id: made.registrant_id, ..Visitor::default() }
    }

    async fn join(&self, meeting: i64, visitor: Visitor) -> String {
        let made = self.zoom.act(Act::Join { meeting, visitor, through_waiting_room: false }).await.unwrap();
        made["user_id"].as_str().unwrap().to_owned()
    }

    async fn leave(&self, meeting: i64, user_id: &str) {
        self.zoom.act(Act::Leave { meeting, user_id: user_id.to_owned() }).await.unwrap();
    }

    /// What Zoom has sent since the last time, as the API stores it.
    fn sent(&self, seen: &mut usize) -> Vec<Value> {
        let all = self.zoom.deliveries();
        let new = all[*seen..].iter().map(|delivery| delivery.body.clone()).collect();
        *seen = all.len();
        new
    }

    async fn process(&self, body: &Value) {
        let id = self.worker.webhook_from("zoom", body).await;
        self.worker.set("webhook_events", id.0, &format!("provider_config_id = '{}'", self.config)).await;
        let job = self.worker.run(&ProcessWebhook { webhook_event_id: id }).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }

    /// `person connections` of everybody whom the provider saw.
    async fn people(&self, session: SessionId) -> BTreeMap<String, i64> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select case when person_id like 'guest:%' then 'guest' else person_id end, count(*) from participants \
             where session_id = $1 and source = 'webhook' group by 1",
        )
        .bind(session)
        .fetch_all(self.worker.db())
        .await
        .unwrap();
        rows.into_iter().collect()
    }

    async fn finish(&self, session: SessionId, status: &str) {
        let columns = match status {
            "ended" => "status = 'ended', ended_at = now(), end_reason = 'host'",
            _ => "status = 'cancelled', started_at = null, cancelled_at = now()",
        };
        self.worker.set("sessions", session.0, columns).await;
    }

    async fn end_job(&self, session: SessionId) -> JobRow {
        let job = EndMeeting::of(&self.find(session).await, false).unwrap();
        self.worker.run(&job).await
    }
}

fn people(expected: &[(&str, i64)]) -> BTreeMap<String, i64> {
    expected.iter().map(|(person, count)| ((*person).to_owned(), *count)).collect()
}

#[tokio::test]
async fn people_are_known_by_what_zoom_knows_of_them_whatever_the_order() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(1)).await;
    stage.worker.invite(session, "can", &[("email", "Can@school.test")]).await;
    let number = stage.make(session).await;
    let ali = stage.register(session, "ali").await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    let visitor = |name: &str| Visitor { user_name: name.to_owned(), ..Visitor::default() };
    let host = stage.join(number, Visitor { host: true, ..visitor("Ayşe") }).await;
    let first = stage.join(number, ali.clone()).await;
    // Through the waiting room: two joins, of which one counts.
    let act = Act::Join { meeting: number, visitor: ali, through_waiting_room: true };
    stage.zoom.act(act).await.unwrap();
    stage.join(number, Visitor { customer_key: "veli".into(), ..visitor("Veli") }).await;
    stage.join(number, Visitor { email: "can@School.test".into(), id: "someone".into(), ..visitor("Can") }).await;
    stage.join(number, visitor("A stranger")).await;
    stage.leave(number, &first).await;
    stage.leave(number, &host).await;
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();

    // The last first, and each twice.
    let mut events = stage.sent(&mut 0);
    assert!(events.len() >= 16, "{}", events.len());
    events.reverse();
    for event in events.iter().chain(&events) {
        stage.process(event).await;
    }
    let expected = people(&[("host", 1), ("ali", 2), ("veli", 1), ("can", 1), ("guest", 1)]);
    assert_eq!(stage.people(session).await, expected);
    let open = "select count(*) from participants where left_at is null";
    assert_eq!(stage.worker.get::<i64>(open).await, 0, "the end of the meeting is everybody's");
    assert_eq!(stage.worker.get::<i64>("select count(*) from webhook_events where state = 'processed'").await, 28);
    // A meeting that nobody has made here is nobody's, also when the number is another configuration's.
    let mut other = events[0].clone();
    other["payload"]["object"]["id"] = "81234567890".into();
    stage.process(&other).await;
    stage.worker.set("meetings", meeting_id(&stage, session).await, "provider_config_id = null").await;
    stage.process(&events[0]).await;
    let ignored = "select count(*) from webhook_events where note = 'no session meets in this room'";
    assert_eq!(stage.worker.get::<i64>(ignored).await, 2);
}

async fn meeting_id(stage: &Stage, session: SessionId) -> uuid::Uuid {
    meetings::find_last(stage.worker.db(), session).await.unwrap().unwrap().id.0
}

#[tokio::test]
async fn the_host_s_coming_starts_the_session_and_the_meeting_s_end_past_the_plan_ends_it() {
    let stage = Stage::new().await;
    let session = stage.worker.session(TimeDelta::minutes(5)).await;
    let config = format!("provider = 'zoom', provider_config_id = '{}'", stage.config);
    stage.worker.set("sessions", session.0, &config).await;
    let number = stage.make(session).await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.join(number, Visitor { user_name: "Ayşe".into(), host: true, ..Visitor::default() }).await;
    let mut seen = 0;
    for event in stage.sent(&mut seen) {
        stage.process(&event).await;
    }
    let status = async || stage.find(session).await.status.as_str().to_owned();
    assert_eq!(status().await, "live");
    // Before the planned end the host may come back.
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    for event in stage.sent(&mut seen) {
        stage.process(&event).await;
    }
    assert_eq!(status().await, "live");
    stage
        .worker
        .set("sessions", session.0, "starts_at = now() - interval '1 hour', ends_at = now() - interval '1 second'")
        .await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    for event in stage.sent(&mut seen) {
        stage.process(&event).await;
    }
    assert_eq!(status().await, "ended");
}

#[tokio::test]
async fn a_meeting_is_told_what_its_session_is_like_now() {
    let stage = Stage::new().await;
    let session = stage.worker.session(TimeDelta::hours(2)).await;
    let config = format!("provider = 'zoom', provider_config_id = '{}'", stage.config);
    stage.worker.set("sessions", session.0, &config).await;
    let update = UpdateMeeting { session_id: session, version: 2 };
    // Nobody has joined: it will be made right.
    assert_eq!(stage.worker.run(&update).await.state, "done");
    assert!(stage.zoom.calls().is_empty());
    let number = stage.make(session).await;
    let changes = "title = 'Geometry', starts_at = starts_at + interval '1 day', ends_at = ends_at + interval '1 day', \
                   recording_enabled = true";
    stage.worker.set("sessions", session.0, changes).await;
    for _ in 0..2 {
        let job = stage.worker.run(&update).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }
    let meeting = stage.zoom.meetings().remove(0);
    assert_eq!((meeting.id, meeting.topic.as_str()), (number, "Geometry"));
    let starts_at = stage.find(session).await.starts_at;
    assert_eq!(meeting.start_time, starts_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    assert_eq!((&meeting.settings["auto_recording"], &meeting.settings["approval_type"]), (&json!("cloud"), &json!(0)));

    // One that went on is not moved.
    stage.worker.set("sessions", session.0, "starts_at = now() - interval '1 hour', title = 'Algebra'").await;
    assert_eq!(stage.worker.run(&update).await.state, "done");
    let after = stage.zoom.meetings().remove(0);
    assert_eq!((after.topic.as_str(), &after.start_time), ("Algebra", &meeting.start_time));

    // Too many changes for a day: later, without an attempt.
    let retry_after = Some("7200".to_owned());
    let limit = sandbox::zoom::RateLimit { retry_after, ..Default::default() };
    stage.zoom.set_faults(Faults { rate_limit: Some(limit), ..Faults::default() });
    let job = stage.worker.run(&update).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert!((7_000.0..7_300.0).contains(&job.wait_seconds), "{job:?}");
    stage.zoom.set_faults(Faults { status: Some(503), ..Faults::default() });
    stage.worker.set("jobs", job.id.0, "state = 'cancelled', finished_at = now()").await;
    sqlx::query("delete from api_pauses").execute(stage.worker.db()).await.unwrap();
    assert_eq!(stage.worker.run(&update).await.state, "available");
    // Somebody is just making it.
    stage.zoom.set_faults(Faults::default());
    let claimed = stage.worker.session(TimeDelta::hours(2)).await;
    stage.worker.set("sessions", claimed.0, &config).await;
    stage.store(&stage.find(claimed).await, None).await;
    let job = stage.worker.run(&UpdateMeeting { session_id: claimed, version: 1 }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert_eq!(stage.worker.run(&UpdateMeeting { session_id: SessionId::new(), version: 1 }).await.state, "done");
}

#[tokio::test]
async fn a_session_that_ends_ends_its_meeting_and_one_that_is_called_off_takes_it_along() {
    let stage = Stage::new().await;
    let (ended, cancelled) = (stage.session(TimeDelta::hours(1)).await, stage.session(TimeDelta::hours(1)).await);
    let numbers = [stage.make(ended).await, stage.make(cancelled).await];
    for meeting in numbers {
        stage.zoom.act(Act::Start { meeting }).await.unwrap();
    }
    stage.finish(ended, "ended").await;
    stage.finish(cancelled, "cancelled").await;
    for session in [ended, cancelled, ended, cancelled] {
        let job = stage.end_job(session).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }
    let left: Vec<_> = stage.zoom.meetings().iter().map(|meeting| (meeting.id, meeting.status.clone())).collect();
    assert_eq!(left, [(numbers[0], "waiting".to_owned())]);
    assert_eq!((stage.zoom.count("end", 204), stage.zoom.count("delete", 204)), (2, 1));
    assert_eq!(stage.worker.get::<i64>("select count(*) from meetings where ended_at is null").await, 0);
    // Nobody ever wished for one: nobody is asked.
    let asked = stage.zoom.calls().len();
    let quiet = stage.session(TimeDelta::hours(1)).await;
    stage.finish(quiet, "ended").await;
    assert_eq!(stage.end_job(quiet).await.state, "done");
    assert_eq!(stage.zoom.calls().len(), asked);
}

#[tokio::test]
async fn a_meeting_that_somebody_has_deleted_is_not_joined_any_more() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(5)).await;
    let number = stage.make(session).await;
    let api = stage.worker.state().meetings.zoom();
    // As somebody does in Zoom's own pages.
    let meeting = ZoomMeeting { number, registers: true };
    api.end(stage.providers.zoom().unwrap(), meeting, true).await.unwrap();
    eventually("the event", || async { !stage.zoom.deliveries().is_empty() }).await;
    for event in stage.sent(&mut 0) {
        assert_eq!(event["event"], "meeting.deleted");
        stage.process(&event).await;
    }
    assert!(meetings::find_open(stage.worker.db(), session).await.unwrap().is_none());
    // Told late, it is not the next one that goes.
    let next = stage.make(session).await;
    assert_ne!(next, number);
    for event in stage.sent(&mut 0) {
        stage.process(&event).await;
    }
    assert!(meetings::find_open(stage.worker.db(), session).await.unwrap().is_some());
}

#[tokio::test]
async fn a_meeting_that_nobody_could_write_down_is_found_by_its_room() {
    let stage = Stage::new().await;
    let zoom = stage.providers.zoom().unwrap();
    let api = stage.worker.state().meetings.zoom();
    // Its maker died after Zoom's answer …
    let session = stage.session(TimeDelta::hours(1)).await;
    let found = stage.find(session).await;
    api.make(zoom, &NewMeeting::of(&found, false)).await.unwrap();
    stage.store(&found, None).await;
    stage.finish(session, "cancelled").await;
    assert_eq!(stage.end_job(session).await.state, "done");
    // … and of a session that was deleted the row is gone.
    let deleted = stage.session(TimeDelta::hours(1)).await;
    stage.make(deleted).await;
    let job = EndMeeting::of(&stage.find(deleted).await, false).unwrap();
    sqlx::query("delete from sessions where id = $1").bind(deleted).execute(stage.worker.db()).await.unwrap();
    assert_eq!(stage.worker.run(&job).await.state, "done");
    assert!(stage.zoom.meetings().is_empty());
    // One that is being made at this moment is waited for.
    let making = stage.session(TimeDelta::hours(1)).await;
    let mut connection = on(stage.worker.db()).await;
    let lease = std::time::Duration::from_secs(6);
    meetings::claim(&mut connection, &stage.find(making).await, lease).await.unwrap();
    stage.finish(making, "cancelled").await;
    let job = stage.end_job(making).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert!((1.0..=6.5).contains(&job.wait_seconds), "{job:?}");
}

#[tokio::test]
async fn the_report_after_the_end_completes_what_webhooks_did_not_tell() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(30)).await;
    let number = stage.make(session).await;
    let ali = stage.register(session, "ali").await;
    // Two runs; in the second more people than a page of the report has lines.
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.join(number, Visitor { user_name: "Ayşe".into(), host: true, ..Visitor::default() }).await;
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    let act = Act::Join { meeting: number, visitor: ali, through_waiting_room: true };
    stage.zoom.act(act).await.unwrap();
    for n in 0..305 {
        let visitor = Visitor { user_name: format!("S{n}"), customer_key: format!("s{n}"), ..Visitor::default() };
        stage.join(number, visitor).await;
    }
    // One event came; its connection is the report's.
    let joined = stage.sent(&mut 0).into_iter().find(|event| event["event"] == "meeting.participant_joined");
    stage.process(&joined.unwrap()).await;
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    stage.finish(session, "ended").await;
    assert_eq!(stage.worker.run(&FinalizeSession { session_id: session }).await.state, "done");
    let waiting = stage.worker.waiting::<ReconcileAttendance>().await;
    assert_eq!(waiting.len(), 1);
    assert!((880.0..=900.0).contains(&stage.worker.job(waiting[0]).await.wait_seconds));

    stage.zoom.set_faults(Faults { report_delay_ms: 3_600_000, ..Faults::default() });
    let job = stage.worker.run_id(waiting[0]).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
    assert!((500.0..=600.0).contains(&job.wait_seconds), "{job:?}");
    stage.zoom.set_faults(Faults::default());
    let job = stage.worker.run_id(waiting[0]).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_eq!(stage.zoom.count("report", 200), 3, "one page, and two");
    let present = stage.people(session).await;
    assert_eq!((present.len(), present["host"], present["ali"]), (307, 1, 1));
    let told = "select count(distinct connection_key) from sightings where source = 'end_report'";
    assert_eq!(stage.worker.get::<i64>(told).await, 307);
    // The report is computed anew; then nothing is left to be asked.
    let finalize = stage.worker.waiting::<FinalizeSession>().await;
    assert_eq!(finalize.len(), 1);
    assert_eq!(stage.worker.run_id(finalize[0]).await.state, "done");
    assert!(stage.worker.waiting::<ReconcileAttendance>().await.is_empty());
    let asked = stage.zoom.calls().len();
    assert_eq!(stage.worker.run(&ReconcileAttendance { session_id: session }).await.state, "done");
    assert_eq!(stage.zoom.calls().len(), asked);
    let present = "select count(*) from attendance where connections > 0";
    assert_eq!(stage.worker.get::<i64>(present).await, 307);
}

#[tokio::test]
async fn an_account_without_reports_has_a_list_and_what_never_comes_is_given_up_after_a_day() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(30)).await;
    // Another of the account's hosts has it.
    let number = stage.make_at(session, Some("two@zoom.test")).await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.join(number, Visitor { user_name: "Ayşe".into(), host: true, ..Visitor::default() }).await;
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    stage.finish(session, "ended").await;
    stage.zoom.set_faults(Faults { code: Some(200), only: vec!["report".into()], ..Faults::default() });
    let reconcile = ReconcileAttendance { session_id: session };
    assert_eq!(stage.worker.run(&reconcile).await.state, "done");
    assert_eq!((stage.zoom.count("participants", 200), stage.people(session).await["host"]), (1, 1));

    let other = stage.session(TimeDelta::minutes(30)).await;
    let number = stage.make(other).await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    stage.finish(other, "ended").await;
    stage.worker.set("sessions", other.0, "ended_at = now() - interval '25 hours'").await;
    stage.zoom.set_faults(Faults { report_delay_ms: 3_600_000, ..Faults::default() });
    let job = stage.worker.run(&ReconcileAttendance { session_id: other }).await;
    assert_eq!(job.state, "done", "{}", job.error());
    stage.zoom.set_faults(Faults { status: Some(500), ..Faults::default() });
    stage.worker.set("meetings", meeting_id(&stage, other).await, "reported_at = null").await;
    assert_eq!(stage.worker.run(&ReconcileAttendance { session_id: other }).await.state, "available");
    assert_eq!(stage.worker.run(&ReconcileAttendance { session_id: SessionId::new() }).await.state, "done");
}

async fn recordings(stage: &Stage) -> Vec<(uuid::Uuid, String, String)> {
    sqlx::query_as("select id, file_name, state from recordings order by id")
        .fetch_all(stage.worker.db())
        .await
        .unwrap()
}

#[tokio::test]
async fn films_and_transcripts_are_fetched_with_a_token_that_goes_to_zoom_alone() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(30)).await;
    let number = stage.make(session).await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    let expected = "insert into recordings (id, tenant_id, session_id, external_id, state, deadline_at) \
                    select gen_random_uuid(), tenant_id, id, 'expected', 'expected', now() + interval '1 day' from sessions";
    sqlx::query(expected).execute(stage.worker.db()).await.unwrap();
    let mut seen = stage.zoom.deliveries().len();
    // The transcript comes first: it is not what was expected.
    let files = vec![NewFile::new("TRANSCRIPT", "audio_transcript", 2_000)];
    stage.zoom.act(Act::Transcribe { meeting: number, files }).await.unwrap();
    let files = vec![NewFile::new("MP4", "shared_screen_with_speaker_view", 70_000)];
    stage.zoom.act(Act::Record { meeting: number, files }).await.unwrap();
    for event in stage.sent(&mut seen) {
        assert!(event["download_token"].is_string());
        stage.process(&event).await;
    }
    let known = recordings(&stage).await;
    let names: Vec<_> = known.iter().map(|(_, name, state)| (name.as_str(), state.as_str())).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("recording.mp4", "available"), ("transcript.vtt", "available")]);
    stage.zoom.expire_tokens();
    for (id, name, _) in &known {
        let job = stage.worker.run_id(waiting_import(&stage, *id).await).await;
        assert_eq!(job.state, "done", "{name}: {}", job.error());
        let row = shared::db::recordings::find(stage.worker.db(), RecordingId(*id)).await.unwrap().unwrap();
        let size = if name == "transcript.vtt" { 2_000 } else { 70_000 };
        assert_eq!((row.size_bytes, row.sha256), (Some(size), Some(sha256_of(size as u64, SEED))));
        assert_eq!(row.object_key.unwrap().rsplit('.').next(), name.rsplit('.').next());
        assert_eq!(row.content_type, if size == 2_000 { "text/vtt" } else { "video/mp4" });
    }
    // The other host was shown nothing; the first token was refused with a page for signing in.
    assert_eq!((stage.zoom.count("file", 200), stage.zoom.count("file", 400)), (2, 0));
    assert_eq!((stage.zoom.count("download", 200), stage.zoom.count("download", 302)), (1, 2));
    let stored = "select coalesce(string_agg(r::text, ''), '') from recordings r";
    assert!(!stage.worker.get::<String>(stored).await.contains("token"));
}

async fn waiting_import(stage: &Stage, recording: uuid::Uuid) -> shared::domain::ids::JobId {
    sqlx::query_scalar("select id from jobs where kind = 'import-recording' and unique_key = $1::text")
        .bind(recording.to_string())
        .fetch_one(stage.worker.db())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_recording_whose_webhook_was_lost_is_found_after_the_end() {
    let stage = Stage::new().await;
    let session = stage.session(TimeDelta::minutes(30)).await;
    stage.worker.set("sessions", session.0, "recording_enabled = true").await;
    let number = stage.make(session).await;
    stage.zoom.act(Act::Start { meeting: number }).await.unwrap();
    stage.zoom.act(Act::End { meeting: number }).await.unwrap();
    stage.finish(session, "ended").await;
    let reconcile = ReconcileAttendance { session_id: session };
    let job = stage.worker.run(&reconcile).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 0), "{}", job.error());
    assert!(job.wait_seconds > 1_500.0);
    let files = vec![NewFile::new("MP4", "speaker_view", 3_000), NewFile::new("M4A", "audio_only", 1_000)];
    stage.zoom.act(Act::Record { meeting: number, files }).await.unwrap();
    let job = stage.worker.run_id(job.id).await;
    assert_eq!(job.state, "done", "{}", job.error());
    let known = recordings(&stage).await;
    assert_eq!((known.len(), stage.worker.waiting::<ImportRecording>().await.len()), (1, 1));
    // The webhook, late: it tells nothing new.
    for event in stage.sent(&mut 0) {
        stage.process(&event).await;
    }
    assert_eq!((recordings(&stage).await.len(), stage.worker.waiting::<ImportRecording>().await.len()), (1, 1));
}
