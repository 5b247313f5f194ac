//! Ending meetings at a BigBlueButton.

use chrono::TimeDelta;
use sandbox::bigbluebutton::{BigBlueButton, Faults};
use serde_json::json;
use shared::{
    db::{provider_configs, provider_secrets},
    domain::{
        ids::{ProviderConfigId, SessionId},
        provider::ProviderKind,
    },
    jobs::{AutoEndSessions, EndMeeting},
    meetings::{NamedBy, NewMeeting, Place},
    providers::{
        Providers,
        settings::{Configuration, Settings},
    },
    secrets::{self, Secret},
};

use crate::support::*;

const KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

async fn server() -> BigBlueButton {
    BigBlueButton::start(None, SECRET).await.unwrap()
}

/// A worker whose environment names this server.
async fn worker(server: &BigBlueButton) -> TestWorker {
    TestWorker::with(|config| {
        config.providers.bbb_server_url = server.url();
        config.providers.bbb_shared_secret = SECRET.to_owned();
    })
    .await
}

/// Somebody has joined a session with this room.
async fn make(worker: &TestWorker, server: &BigBlueButton, room: &str) {
    let settings = Settings::read(ProviderKind::Bbb, &json!({"server_url": server.url()})).unwrap();
    let secrets = [("shared_secret".to_owned(), Secret::new(SECRET))].into();
    let providers = Providers::of(&Configuration { settings, secrets });
    let new = NewMeeting {
        kind: ProviderKind::Bbb,
        room,
        title: "Algebra",
        starts_at: worker.now(),
        ends_at: worker.now(),
        timezone: "UTC",
        recording: false,
        session: SessionId::new(),
        callbacks: None,
        place: Place::Any,
        tried_before: false,
    };
    let deadline = tokio::time::Instant::now() + shared::meetings::LIMIT;
    worker.state().meetings.make((&providers, NamedBy::Operator), &new, deadline).await.unwrap();
}

fn end(room: &str, provider_config_id: Option<ProviderConfigId>) -> EndMeeting {
    EndMeeting { provider: ProviderKind::Bbb, provider_config_id, room: room.to_owned(), server: None }
}

#[tokio::test]
async fn a_meeting_is_over_when_its_server_says_so_and_telling_it_twice_does_no_harm() {
    let server = server().await;
    let worker = worker(&server).await;
    make(&worker, &server, "algebra").await;
    make(&worker, &server, "geometry").await;
    for _ in 0..2 {
        let job = worker.run(&end("algebra", None)).await;
        assert_eq!(job.state, "done", "{}", job.error());
    }
    let rooms: Vec<_> = server.meetings().into_iter().filter(|m| !m.forcibly_ended).map(|m| m.meeting_id).collect();
    assert_eq!(rooms, ["geometry"]);
    // Nobody ever joined.
    assert_eq!(worker.run(&end("nowhere", None)).await.state, "done");
}

#[tokio::test]
async fn a_server_that_is_down_is_told_later() {
    let server = server().await;
    let worker = worker(&server).await;
    make(&worker, &server, "algebra").await;
    let id = worker.enqueue(&end("algebra", None)).await;
    for faults in [
        Faults { status: Some(502), ..Faults::default() },
        Faults { key: Some("checksumError".into()), ..Faults::default() },
        Faults { end_ms: Some(3_600_000), ..Faults::default() },
    ] {
        server.set_faults(faults.clone());
        let job = worker.run_id(id).await;
        assert_eq!(job.state, "available", "{faults:?}");
        assert!(!job.error().contains(SECRET) && !job.error().contains("checksum="), "{}", job.error());
    }
    server.set_faults(Faults { end_ms: Some(50), ..Faults::default() });
    assert_eq!(worker.run_id(id).await.state, "done");
    assert!(server.meetings().iter().all(|meeting| meeting.forcibly_ended));
}

/// A tenant's configuration of this server, with this secret.
async fn configuration(worker: &TestWorker, server: &BigBlueButton, secret: &str) -> ProviderConfigId {
    let (id, tenant) = (ProviderConfigId::new(), worker.tenant);
    let settings = json!({"server_url": server.url()});
    let provider = (ProviderKind::Bbb, &settings);
    provider_configs::insert(worker.db(), (id, tenant), ("BBB", true), provider).await.unwrap();
    let place = secrets::Place { tenant, config: id, field: "shared_secret" };
    let sealed = worker.state().keys.seal(&Secret::new(secret), place).unwrap();
    provider_secrets::put(worker.db(), (tenant, id), "shared_secret", &sealed).await.unwrap();
    id
}

#[tokio::test]
async fn a_tenants_server_is_told_with_its_own_secret_where_private_addresses_are_allowed() {
    let (environments, tenants) = (server().await, BigBlueButton::start(None, "the-tenants-own-secret").await.unwrap());
    for allow_private in [false, true] {
        let worker = TestWorker::with(|config| {
            config.outbound.provider_configs_allow_private = allow_private;
            config.providers.bbb_server_url = environments.url();
            config.providers.bbb_shared_secret = SECRET.to_owned();
            config.secrets.secrets_keys = KEYS.to_owned();
        })
        .await;
        let id = configuration(&worker, &tenants, tenants.secret()).await;
        let job = worker.run(&end("algebra", Some(id))).await;
        assert_eq!(job.state, if allow_private { "done" } else { "available" }, "{}", job.error());
        assert_eq!(tenants.count("end", "notFound"), usize::from(allow_private));
        // A configuration that is gone takes with it the secret to end anything.
        assert_eq!(worker.run(&end("geometry", Some(ProviderConfigId::new()))).await.state, "done");
    }
    assert!(environments.calls().is_empty());
}

#[tokio::test]
async fn the_sweep_has_the_meetings_ended_that_can_outlive_their_sessions() {
    let worker = TestWorker::new().await;
    let overdue = worker.live_session(TimeDelta::hours(3)).await;
    let abandoned = worker.session(-TimeDelta::hours(3)).await;
    let elsewhere = worker.live_session(TimeDelta::hours(3)).await;
    for session in [overdue, abandoned] {
        worker.set("sessions", session.0, "provider = 'bbb'").await;
    }
    assert_eq!(worker.run(&AutoEndSessions {}).await.state, "done");
    assert_eq!(worker.get::<i64>("select count(*) from sessions where status in ('ended', 'cancelled')").await, 3);
    let jobs = "select coalesce(array_agg(s.id order by s.id), '{}') from jobs j join sessions s \
                on s.room = j.payload->>'room' and s.tenant_id = j.tenant_id where j.kind = 'end-meeting'";
    assert_eq!(worker.get::<Vec<uuid::Uuid>>(jobs).await, [overdue.0, abandoned.0]);
    assert_eq!(worker.get::<String>(&format!("select status from sessions where id = '{elsewhere}'")).await, "ended");
}

#[tokio::test]
async fn a_jitsi_that_takes_no_commands_is_told_nothing_and_one_that_is_away_is_told_later() {
    let worker = TestWorker::with(|_| {}).await;
    let end = || EndMeeting {
        provider: ProviderKind::Jitsi,
        provider_config_id: None,
        room: "algebra".to_owned(),
        server: None,
    };
    assert_eq!(worker.run(&end()).await.state, "done");

    let nowhere = sandbox::ports::free_port().unwrap();
    let worker = TestWorker::with(|config| {
        config.providers.jitsi_control_url = format!("http://127.0.0.1:{nowhere}/webhook-control");
        config.providers.jitsi_control_secret = "the-control-secret-of-tests".to_owned();
    })
    .await;
    let job = worker.run(&end()).await;
    assert_ne!(job.state, "done");
    assert!(job.error().contains("it is not reached"), "{}", job.error());
}
