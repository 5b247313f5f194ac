//! Sessions at a BigBlueButton: webhooks, polls, recordings, and the hooks themselves.

use chrono::{DateTime, TimeDelta, Utc};
use sandbox::bigbluebutton::{BigBlueButton, Faults, Format, NewRecording};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::{
    db::recordings,
    domain::ids::{RecordingId, SessionId},
    jobs::{
        DeleteRecording, FinalizeSession, ImportRecording, ListRecordings, PollMeeting, PollMeetings, ProcessWebhook,
        PublishRecording, RegisterWebhooks, SyncRecordings,
    },
};

use crate::support::*;

const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

async fn server() -> BigBlueButton {
    BigBlueButton::start(None, SECRET).await.unwrap()
}

async fn worker(server: &BigBlueButton) -> TestWorker {
    TestWorker::with(|config| {
        config.providers.bbb_server_url = server.url();
        config.providers.bbb_shared_secret = SECRET.to_owned();
        config.public_url = "https://live.test".to_owned();
    })
    .await
}

/// A signed call.
async fn call(server: &BigBlueButton, call: &str, query: &str) -> String {
    let checksum = hex::encode(Sha256::digest(format!("{call}{query}{SECRET}")));
    let url = format!("{}api/{call}?{query}&checksum={checksum}", server.url());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

fn room(session: SessionId) -> String {
    format!("oda-{}", session.0.simple())
}

/// A live session at a BigBlueButton, of an hour that began ten minutes ago.
async fn session(worker: &TestWorker) -> SessionId {
    let session = worker.live_session(TimeDelta::minutes(10)).await;
    worker.set("sessions", session.0, "provider = 'bbb'").await;
    session
}

/// Notes down what a join makes: one life of the meeting, at the server of this name.
async fn made(worker: &TestWorker, session: SessionId, external_id: &str, server: &str) {
    worker.set_all(&format!("update meetings set ended_at = now() where session_id = '{session}'")).await;
    let insert = format!(
        "insert into meetings (id, tenant_id, session_id, provider, claimed_until, made_at, seen_at, external_id, server, details) \
         select gen_random_uuid(), tenant_id, id, 'bbb', now(), now(), now(), '{external_id}', '{server}', \
             '{{\"provider\": \"bbb\", \"created_ms\": 1}}' \
         from sessions where id = '{session}'"
    );
    worker.set_all(&insert).await;
}

/// The server makes a meeting, of which we know.
async fn meet(worker: &TestWorker, server: &BigBlueButton, session: SessionId) -> String {
    let room = room(session);
    call(server, "create", &format!("meetingID={room}&name=Algebra&record=true")).await;
    let meeting = server.meetings().into_iter().find(|meeting| meeting.meeting_id == room).unwrap();
    let external_id = meeting.internal_id();
    let name = server.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    made(worker, session, &external_id, &name).await;
    external_id
}

async fn come(server: &BigBlueButton, session: SessionId, who: &str) {
    call(server, "join", &format!("meetingID={}&fullName={who}&userID={who}&role=VIEWER", room(session))).await;
}

impl TestWorker {
    async fn set_all(&self, statement: &str) {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(self.db()).await.unwrap();
    }

    async fn told(&self, body: &Value) {
        let webhook_event_id = self.webhook_from("bbb", body).await;
        let mut job = self.run(&ProcessWebhook { webhook_event_id }).await;
        while job.state == "available" && job.attempt == 0 {
            job = self.run_id(job.id).await;
        }
        assert_eq!(job.state, "done", "{}", job.error());
    }

    async fn poll(&self, session: SessionId) {
        let job = self.run(&PollMeeting { session_id: session }).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }

    async fn list(&self, session: SessionId) -> JobRow {
        self.run(&ListRecordings { session_id: session }).await
    }
}

fn event(id: &str, external: Option<&str>, internal: &str, user: Option<(&str, &str)>, at: DateTime<Utc>) -> Value {
    let mut meeting = json!({"internal-meeting-id": internal});
    if let Some(external) = external {
        meeting["external-meeting-id"] = external.into();
    }
    let mut attributes = json!({"meeting": meeting});
    if let Some((connection, person)) = user {
        attributes["user"] = json!({"internal-user-id": connection, "external-user-id": person, "name": person});
    }
    json!({"data": {"type": "event", "id": id, "attributes": attributes, "event": {"ts": at.timestamp_millis()}}})
}

/// Connection, whether it is closed, and minutes since the start when it was opened and closed.
async fn connections(worker: &TestWorker, session: SessionId) -> Vec<(String, bool, i32, i32)> {
    sqlx::query_as(
        "select p.connection_key, p.left_at is not null, \
             (extract(epoch from p.joined_at - s.started_at) / 60)::int, \
             coalesce((extract(epoch from p.left_at - s.started_at) / 60)::int, -1) \
         from participants p join sessions s on s.id = p.session_id where s.id = $1 order by p.connection_key",
    )
    .bind(session)
    .fetch_all(worker.db())
    .await
    .unwrap()
}

/// Who has left, and who has not.
async fn presence(worker: &TestWorker, session: SessionId) -> Vec<(String, bool)> {
    sqlx::query_as(
        "select person_id, bool_and(left_at is not null) from participants where session_id = $1 group by 1 order by 1",
    )
    .bind(session)
    .fetch_all(worker.db())
    .await
    .unwrap()
}

#[tokio::test]
async fn each_life_of_a_meeting_ends_for_those_alone_who_were_in_it_in_whatever_order_that_is_told() {
    let worker = TestWorker::new().await;
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1], [3, 0, 2, 4, 1]] {
        let session = session(&worker).await;
        let (room, start) = (room(session), worker.now() - TimeDelta::minutes(10));
        let at = |minutes: i64| start + TimeDelta::minutes(minutes);
        made(&worker, session, "dead-1", "a").await;
        made(&worker, session, "alive-2", "b").await;
        let told = |id, life, user, minutes| event(id, Some(&room), life, user, at(minutes));
        let events = [
            told("user-joined", "dead-1", Some(("w_1", "ali")), 1),
            told("user-joined", "dead-1", Some(("w_2", "veli")), 2),
            // By way of another server, while the first one does not answer.
            told("user-joined", "alive-2", Some(("w_1", "ali")), 4),
            // The first one comes back later, and tells what became of it.
            told("meeting-ended", "dead-1", None, 6),
            told("user-left", "alive-2", Some(("w_1", "ali")), 8),
        ];
        for n in order {
            worker.told(&events[n]).await;
        }
        worker.told(&events[order[0]]).await;
        let expected = [("alive-2/w_1", true, 4, 8), ("dead-1/w_1", true, 1, 6), ("dead-1/w_2", true, 2, 6)];
        let expected = expected.map(|(key, left, from, to)| (key.to_owned(), left, from, to));
        assert_eq!(connections(&worker, session).await, expected, "{order:?}");
        assert_eq!(worker.get::<String>(&format!("select status from sessions where id = '{session}'")).await, "live");
        let open = format!("select external_id from meetings where session_id = '{session}' and ended_at is null");
        assert_eq!(worker.get::<String>(&open).await, "alive-2");
    }
}

#[tokio::test]
async fn the_end_of_the_last_meeting_ends_the_session_past_its_time_and_not_before() {
    let worker = TestWorker::new().await;
    for (ends, status) in [("now() + interval '1 hour'", "live"), ("now() - interval '1 minute'", "ended")] {
        let session = session(&worker).await;
        worker.set("sessions", session.0, &format!("ends_at = {ends}")).await;
        made(&worker, session, "only-1", "").await;
        worker.told(&event("meeting-ended", Some(&room(session)), "only-1", None, worker.now())).await;
        assert_eq!(worker.get::<String>(&format!("select status from sessions where id = '{session}'")).await, status);
        let open = format!("select count(*) from meetings where session_id = '{session}' and ended_at is null");
        assert_eq!(worker.get::<i64>(&open).await, 0);
    }
}

#[tokio::test]
async fn the_account_after_the_end_mends_the_report_of_lost_webhooks() {
    let worker = TestWorker::new().await;
    let session = session(&worker).await;
    made(&worker, session, "abc-1", "").await;
    let start = worker.now() - TimeDelta::minutes(10);
    let at = |minutes: i64| start + TimeDelta::minutes(minutes);
    // That this one left was lost; that another one was there, wholly.
    worker.told(&event("user-joined", Some(&room(session)), "abc-1", Some(("w_1", "ali")), at(1))).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = started_at + interval '10 minutes'").await;
    worker.run(&FinalizeSession { session_id: session }).await;
    let seconds = async |person: &str| -> i64 {
        worker.get(&format!("select present_seconds from attendance where person_id = '{person}'")).await
    };
    assert_eq!(seconds("ali").await, 540);
    let account = json!({"internal_meeting_id": "abc-1", "data": {"attendees": [
        {"ext_user_id": "ali", "name": "Ali", "joins": [at(1)], "leaves": [at(4)]},
        {"ext_user_id": "veli", "name": "Veli", "joins": [at(2)], "leaves": [at(5)]},
    ]}});
    for _ in 0..2 {
        let told = shared::providers::bbb::callback_events::analytics(&room(session), &account, worker.now()).unwrap();
        worker.told(&told[0].body).await;
    }
    let report = worker.waiting::<FinalizeSession>().await;
    assert_eq!(report.len(), 1);
    worker.run_id(report[0]).await;
    assert_eq!((seconds("ali").await, seconds("veli").await), (180, 180));
}

#[tokio::test]
async fn a_recording_is_known_by_the_meeting_although_nobody_tells_the_room() {
    let worker = TestWorker::new().await;
    let session = session(&worker).await;
    made(&worker, session, "abc-1", "").await;
    worker.told(&event("rap-published", None, "abc-1", None, worker.now())).await;
    assert_eq!(worker.waiting::<ListRecordings>().await.len(), 1);
    worker.told(&event("rap-published", None, "somebody-elses-1", None, worker.now())).await;
    assert_eq!(worker.get::<i64>("select count(*) from webhook_events where state = 'ignored'").await, 1);
    let mut nothing = event("rap-archive-ended", None, "abc-1", None, worker.now());
    nothing["data"]["attributes"]["recorded"] = json!(false);
    worker.told(&nothing).await;
    let row = "select state || ' ' || error from recordings";
    assert_eq!(worker.get::<String>(row).await, "missing nothing was recorded");
    // The report expects one, but knows better.
    worker.set("sessions", session.0, "status = 'ended', ended_at = now(), recording_enabled = true").await;
    worker.run(&FinalizeSession { session_id: session }).await;
    assert_eq!(worker.get::<String>(row).await, "missing nothing was recorded");
}

#[tokio::test]
async fn polls_tell_who_is_there_where_webhooks_are_lost() {
    let server = server().await;
    let worker = worker(&server).await;
    let session = session(&worker).await;
    let life = meet(&worker, &server, session).await;
    for who in ["ali", "veli", "veli"] {
        come(&server, session, who).await;
    }
    // Of one the webhook came.
    let joined = worker.now() - TimeDelta::minutes(5);
    worker.told(&event("user-joined", Some(&room(session)), &life, Some(("w_1", "ali")), joined)).await;
    // Of another one the webhook came that they joined, and not that they left.
    worker.told(&event("user-joined", Some(&room(session)), &life, Some(("w_2", "can")), joined)).await;
    assert_eq!(worker.run(&PollMeetings {}).await.state, "done");
    let [poll] = <[_; 1]>::try_from(worker.waiting::<PollMeeting>().await).unwrap();
    assert_eq!(worker.run_id(poll).await.state, "done");
    worker.poll(session).await;
    let here = |who: &str| (who.to_owned(), false);
    let gone = |who: &str| (who.to_owned(), true);
    assert_eq!(presence(&worker, session).await, [here("ali"), gone("can"), here("veli")]);
    assert_eq!(worker.get::<i64>("select count(*) from participants").await, 3);
    // Somebody who has just come may not be in the list yet.
    worker.told(&event("user-joined", Some(&room(session)), &life, Some(("w_3", "ece")), worker.now())).await;
    server.leave(&room(session), "veli");
    worker
        .set_all("update participants set joined_at = joined_at - interval '1 minute' where person_id = 'veli'")
        .await;
    worker.poll(session).await;
    assert_eq!(presence(&worker, session).await, [here("ali"), gone("can"), here("ece"), gone("veli")]);
    assert!(worker.get::<bool>("select bool_and(seen_at is not null) from meetings").await);
}

#[tokio::test]
async fn a_poll_finds_a_meeting_over_and_does_nothing_while_the_server_is_down() {
    let server = server().await;
    let worker = worker(&server).await;
    let session = session(&worker).await;
    let life = meet(&worker, &server, session).await;
    come(&server, session, "ali").await;
    worker.told(&event("user-joined", Some(&room(session)), &life, Some(("w_1", "ali")), worker.now())).await;
    for faults in [
        Faults { status: Some(502), ..Faults::default() },
        Faults { key: Some("internalError".into()), ..Faults::default() },
    ] {
        server.set_faults(faults);
        worker.poll(session).await;
        assert_eq!(presence(&worker, session).await, [("ali".to_owned(), false)]);
    }
    server.set_faults(Faults { end_ms: Some(0), ..Faults::default() });
    server.end(&room(session));
    eventually("it is over", async || server.meetings().is_empty()).await;
    worker.poll(session).await;
    assert_eq!(presence(&worker, session).await, [("ali".to_owned(), true)]);
    assert_eq!(worker.get::<i64>("select count(*) from meetings where ended_at is null").await, 0);
    // Nothing is left to be asked.
    worker.run(&PollMeetings {}).await;
    assert!(worker.waiting::<PollMeeting>().await.is_empty());
    worker.poll(SessionId::new()).await;
}

#[tokio::test]
async fn recordings_are_found_by_asking_and_withdrawn_when_they_are_hidden() {
    let server = server().await;
    let worker = worker(&server).await;
    let session = session(&worker).await;
    let life = meet(&worker, &server, session).await;
    worker.set("sessions", session.0, "status = 'ended', ended_at = now() - interval '1 hour'").await;
    worker.set_all(&format!(
        "insert into recordings (id, tenant_id, session_id, external_id, state, deadline_at) \
         select gen_random_uuid(), tenant_id, id, 'expected', 'expected', now() + interval '1 day' from sessions where id = '{session}'"
    )).await;
    // Nothing yet.
    worker.run(&SyncRecordings {}).await;
    let [asked] = <[_; 1]>::try_from(worker.waiting::<ListRecordings>().await).unwrap();
    assert_eq!(worker.run_id(asked).await.state, "done");
    assert_eq!(worker.get::<String>("select state from recordings").await, "expected");
    let format =
        |kind: &str, url: &str| Format { kind: kind.into(), url: format!("https://bbb.test/{url}"), length: 12 };
    let formats = vec![format("presentation", "p?a=1&b=2"), format("video", "video-0.m4v"), format("statistics", "s")];
    let new = NewRecording { meeting_id: room(session), record_id: None, formats, ready_url: None };
    assert_eq!(server.record(new).await, life);
    server.set_faults(Faults { status: Some(502), ..Faults::default() });
    assert_eq!(worker.list(session).await.state, "available");
    server.set_faults(Faults::default());
    worker.set_all("update jobs set state = 'cancelled' where kind = 'list-recordings'").await;
    for _ in 0..2 {
        let job = worker.list(session).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }
    let rows = async || -> Vec<(String, String, Option<String>)> {
        sqlx::query_as("select external_id, state, coalesce(playback_url, source_url) from recordings order by 1")
            .fetch_all(worker.db())
            .await
            .unwrap()
    };
    let row =
        |format: &str, state: &str, url: &str| (format!("{life}/{format}"), state.to_owned(), Some(url.to_owned()));
    assert_eq!(
        rows().await,
        [
            row("presentation", "published", "https://bbb.test/p?a=1&b=2"),
            row("video", "available", "https://bbb.test/video-0.m4v"),
        ]
    );
    assert_eq!(worker.waiting::<ImportRecording>().await.len(), 1);
    let presentation = "select format || ' ' || duration_seconds from recordings where format is not null";
    assert_eq!(worker.get::<String>(presentation).await, "presentation 720");
    for (publish, state) in [("false", "deleted"), ("true", "published")] {
        call(&server, "publishRecordings", &format!("recordID={life}&publish={publish}")).await;
        assert_eq!(worker.list(session).await.state, "done");
        assert_eq!(rows().await[0].1, state);
    }
    // Deleted by a person, form by form: the server keeps it until the last one is, and none comes back.
    let ids: Vec<RecordingId> =
        sqlx::query_scalar("select id from recordings order by external_id").fetch_all(worker.db()).await.unwrap();
    worker.set("recordings", ids[1].0, "state = 'published', object_key = 'k'").await;
    for (id, left) in [(ids[0], 1), (ids[1], 0)] {
        recordings::delete(worker.db(), id).await.unwrap().unwrap();
        let job = worker.run(&DeleteRecording { recording_id: id }).await;
        assert_eq!(job.state, "done", "{}", job.error());
        assert_eq!(server.recordings().len(), left);
        assert_eq!(worker.list(session).await.state, "done");
        assert_eq!(rows().await[0].1, "deleted");
    }
    assert_eq!(worker.list(SessionId::new()).await.state, "done");
}

#[tokio::test]
async fn a_recording_is_hidden_at_the_server_once_all_its_forms_are_hidden_here_and_shown_again() {
    let server = server().await;
    let worker = worker(&server).await;
    let session = session(&worker).await;
    meet(&worker, &server, session).await;
    let page = |kind: &str| Format { kind: kind.into(), url: format!("https://bbb.test/{kind}"), length: 12 };
    let formats = vec![page("presentation"), page("notes")];
    server.record(NewRecording { meeting_id: room(session), record_id: None, formats, ready_url: None }).await;
    assert_eq!(worker.list(session).await.state, "done");
    let ids: Vec<RecordingId> =
        sqlx::query_scalar("select id from recordings order by external_id").fetch_all(worker.db()).await.unwrap();
    assert_eq!(ids.len(), 2);
    for (id, published, at_server) in
        [(ids[0], false, true), (ids[1], false, false), (ids[0], true, true), (ids[0], true, true)]
    {
        recordings::set_published(worker.db(), id, published).await.unwrap().unwrap();
        let job = worker.run(&PublishRecording { recording_id: id }).await;
        assert_eq!(job.state, "done", "{}", job.error());
        assert_eq!(server.recordings()[0].published, at_server);
        // Asking the server changes nothing of what people have decided.
        assert_eq!(worker.list(session).await.state, "done");
        let state = format!("select state from recordings where id = '{id}'");
        let state: String = sqlx::query_scalar(sqlx::AssertSqlSafe(state)).fetch_one(worker.db()).await.unwrap();
        assert_eq!(state, if published { "published" } else { "stored" });
    }
    assert_eq!(worker.run(&PublishRecording { recording_id: RecordingId::new() }).await.state, "done");
}

#[tokio::test]
async fn the_hook_is_there_again_five_minutes_after_the_server_has_lost_it() {
    let server = server().await;
    let worker = worker(&server).await;
    let job = RegisterWebhooks { provider_config_id: None };
    let url = "https://live.test/api/v1/live-sessions/webhooks/bbb/";
    for _ in 0..2 {
        assert_eq!(worker.run(&job).await.state, "done");
        let [hook] = <[_; 1]>::try_from(server.hooks()).unwrap();
        assert_eq!((hook.callback_url.as_str(), hook.meeting_id), (url, None));
        assert!(hook.event_ids.iter().any(|event| event == "user-joined"));
        assert!(!hook.event_ids.iter().any(|event| event.starts_with("chat")));
    }
    assert_eq!(server.count("hooks/create", "SUCCESS"), 1);
    server.forget_hooks();
    worker.run(&job).await;
    assert_eq!(server.hooks().len(), 1);
    // Somebody has registered it by hand, for one meeting: it would never hear of the others.
    server.forget_hooks();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("callbackURL", url).append_pair("meetingID", "m1");
    call(&server, "hooks/create", &query.finish()).await;
    call(&server, "hooks/create", "callbackURL=https%3A%2F%2Fsomebody.test%2Felse").await;
    worker.run(&job).await;
    let hooks = server.hooks();
    assert_eq!(hooks.len(), 2);
    assert!(hooks.iter().all(|hook| hook.meeting_id.is_none()), "{hooks:?}");
    // A server that is down is told later.
    server.set_faults(Faults { status: Some(502), ..Faults::default() });
    assert_eq!(worker.run(&job).await.state, "done");
}

#[tokio::test]
async fn servers_of_configurations_are_told_the_configurations_address() {
    let (server, behind) = (server().await, BigBlueButton::start(None, "another-secret-of-a-server").await.unwrap());
    let worker = TestWorker::with(|config| {
        config.public_url = "https://live.test/".to_owned();
        config.outbound.provider_configs_allow_private = true;
        config.secrets.secrets_keys = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned();
    })
    .await;
    let host = behind.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let settings = json!({"server_url": server.url(), "webhook_servers": [behind.url()]});
    let secrets = [
        ("shared_secret", SECRET.to_owned()),
        ("server_secrets", format!("elsewhere.test=x,{host}={}", behind.secret())),
    ];
    let id = worker.provider_config(&settings, &secrets).await;
    assert_eq!(worker.run(&RegisterWebhooks { provider_config_id: None }).await.state, "done");
    let [own] = <[_; 1]>::try_from(worker.waiting::<RegisterWebhooks>().await).unwrap();
    assert_eq!(worker.run_id(own).await.state, "done");
    let [hook] = <[_; 1]>::try_from(behind.hooks()).unwrap();
    assert_eq!(hook.callback_url, format!("https://live.test/api/v1/live-sessions/webhooks/bbb/{id}/"));
    assert!(server.calls().is_empty(), "a balancer would not know what to do with it");
}

impl TestWorker {
    /// A BigBlueButton configuration of the tenant's.
    async fn provider_config(&self, settings: &Value, secrets: &[(&str, String)]) -> uuid::Uuid {
        use shared::{
            db::{provider_configs, provider_secrets},
            domain::{ids::ProviderConfigId, provider::ProviderKind},
            secrets::{Place, Secret},
        };
        let (id, tenant) = (ProviderConfigId::new(), self.tenant);
        let provider = (ProviderKind::Bbb, settings);
        provider_configs::insert(self.db(), (id, tenant), ("BBB", true), provider).await.unwrap();
        for (field, secret) in secrets {
            let sealed =
                self.state().keys.seal(&Secret::new(secret.clone()), Place { tenant, config: id, field }).unwrap();
            provider_secrets::put(self.db(), (tenant, id), field, &sealed).await.unwrap();
        }
        id.0
    }
}
