//! Whether what tenants have configured works.

use sandbox::bigbluebutton::{BigBlueButton, Faults};
use serde_json::json;
use shared::{
    db::{
        provider_configs,
        provider_health::{self, HealthState},
        provider_secrets,
    },
    domain::{ids::ProviderConfigId, provider::ProviderKind},
    jobs::ProviderHealth,
    secrets::{Place, Secret},
};

use crate::support::*;

const KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

async fn configure(worker: &TestWorker, name: &str, server: &BigBlueButton, secret: &str) -> ProviderConfigId {
    let (id, tenant) = (ProviderConfigId::new(), worker.tenant);
    let settings = json!({"server_url": server.url()});
    provider_configs::insert(worker.db(), (id, tenant), (name, true), (ProviderKind::Bbb, &settings)).await.unwrap();
    let sealed = worker.state().keys.seal(&Secret::new(secret), Place { tenant, config: id, field: "shared_secret" });
    provider_secrets::put(worker.db(), (tenant, id), "shared_secret", &sealed.unwrap()).await.unwrap();
    id
}

async fn state(worker: &TestWorker, id: ProviderConfigId) -> Option<HealthState> {
    let found = provider_health::find(worker.db(), worker.tenant, id).await.unwrap();
    found.map(|found| found.state)
}

async fn later(worker: &TestWorker, seconds: i32) {
    let earlier = "update provider_health set checked_at = checked_at - make_interval(secs => $1), \
        since = since - make_interval(secs => $1)";
    sqlx::query(earlier).bind(f64::from(seconds)).execute(worker.db()).await.unwrap();
}

#[tokio::test]
async fn each_configuration_is_tried_out_when_its_turn_comes() {
    let server = BigBlueButton::start(None, SECRET).await.unwrap();
    let worker = TestWorker::with(|config| {
        config.secrets.secrets_keys = KEYS.to_owned();
        config.outbound.provider_configs_allow_private = true;
    })
    .await;
    let good = configure(&worker, "Good", &server, SECRET).await;
    let wrong = configure(&worker, "Wrong", &server, "another-secret").await;
    let disabled = configure(&worker, "Disabled", &server, SECRET).await;
    sqlx::query("update provider_configs set enabled = false where id = $1")
        .bind(disabled)
        .execute(worker.db())
        .await
        .unwrap();
    let run = async || {
        let before = server.calls().len();
        let job = worker.run(&ProviderHealth {}).await;
        assert_eq!(job.state, "done", "{}", job.error());
        server.calls().len() - before
    };
    assert!(run().await >= 2);
    assert_eq!(
        (state(&worker, good).await, state(&worker, wrong).await),
        (Some(HealthState::Up), Some(HealthState::Down))
    );
    assert_eq!(state(&worker, disabled).await, None);
    let found = provider_health::find(worker.db(), worker.tenant, wrong).await.unwrap().unwrap();
    let faults: Vec<_> = found.checks.iter().filter(|check| check.ok == Some(false)).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].detail.contains("secret"), "{faults:?}");

    // At once there is nothing to do; after a minute it is the turn of what was down.
    assert_eq!(run().await, 0);
    later(&worker, 60).await;
    let asked = run().await;
    assert!(asked > 0);
    // What was changed has its turn at once.
    sqlx::query("update provider_configs set updated_at = clock_timestamp() where id = $1")
        .bind(good)
        .execute(worker.db())
        .await
        .unwrap();
    assert!(run().await > 0);
    later(&worker, 300).await;
    server.set_faults(Faults { status: Some(502), ..Faults::default() });
    assert!(run().await > 0);
    assert_eq!(state(&worker, good).await, Some(HealthState::Down));
    let down = provider_health::find(worker.db(), worker.tenant, good).await.unwrap().unwrap();
    let long_down = provider_health::find(worker.db(), worker.tenant, wrong).await.unwrap().unwrap();
    assert!(long_down.since < down.since - chrono::TimeDelta::seconds(300), "since when, not when last");
    server.set_faults(Faults::default());
    later(&worker, 60).await;
    run().await;
    assert_eq!(state(&worker, good).await, Some(HealthState::Up));
}
