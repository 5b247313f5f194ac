//! What a tenant's own provider configuration changes for jobs, and the command that seals its secrets anew.

use chrono::TimeDelta;
use sandbox::recording_host::Faults;
use serde_json::{Value, json};
use shared::{
    config::SecretsConfig,
    db::{provider_configs, provider_secrets},
    domain::{
        ids::{ProviderConfigId, SessionId, TenantId},
        provider::ProviderKind,
    },
    jobs::{ImportRecording, ProcessWebhook},
    secrets::{Keyring, Place, Secret, SecretsError},
};
use worker::cli::{self, Invocation};

use crate::support::TestWorker;

const OLD: &str = "old:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "new:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

fn keys(text: &str) -> Keyring {
    Keyring::load(&SecretsConfig { secrets_keys: text.to_owned(), secrets_keys_file: None }).unwrap()
}

impl TestWorker {
    async fn configure(&self, name: &str, settings: Value) -> ProviderConfigId {
        let key = (ProviderConfigId::new(), self.tenant);
        let provider = (ProviderKind::Jitsi, &settings);
        provider_configs::insert(self.db(), key, (name, true), provider).await.unwrap().id
    }

    async fn hold_at(&self, session: SessionId, config: ProviderConfigId) {
        self.set("sessions", session.0, &format!("provider_config_id = '{config}'")).await;
    }

    async fn keep_secret(&self, keys: &Keyring, config: ProviderConfigId, text: &str) {
        let place = Place { tenant: self.tenant, config, field: "jwt_secret" };
        let sealed = keys.seal(&Secret::new(text), place).unwrap();
        provider_secrets::put(self.db(), (self.tenant, config), "jwt_secret", &sealed).await.unwrap();
    }

    async fn secret(&self, keys: &Keyring, config: ProviderConfigId) -> Result<String, SecretsError> {
        let all = provider_secrets::list(self.db(), self.tenant, &[config]).await.unwrap();
        let place = Place { tenant: self.tenant, config, field: "jwt_secret" };
        keys.open(&all[&config]["jwt_secret"], place).map(|secret| secret.expose().to_owned())
    }
}

/// Runs `worker rotate-secrets`.
async fn rotate(url: &str, keys: &str) -> anyhow::Result<()> {
    let arguments = ["worker", "rotate-secrets", "--database-url", url, "--secrets-keys", keys];
    let Invocation::Control(command) = cli::parse(arguments) else { panic!("it is a command") };
    cli::run(*command).await
}

#[tokio::test]
async fn an_event_is_about_sessions_of_the_configuration_whose_secret_verified_it() {
    let worker = TestWorker::new().await;
    let own = worker.configure("own", json!({"domain": "meet.test", "app_id": "x"})).await;
    let other = worker.configure("other", json!({"domain": "meet.test", "app_id": "x"})).await;
    for (held_at, verified_by, applied) in [
        (None, None, true),
        (Some(own), Some(own), true),
        (Some(own), Some(other), false),
        (Some(own), None, false),
        (None, Some(own), false),
    ] {
        let session = worker.live_session(TimeDelta::minutes(10)).await;
        if let Some(config) = held_at {
            worker.hold_at(session, config).await;
        }
        let body = json!({
            "event_name": "muc-occupant-joined", "room_name": format!("oda-{}", session.0.simple()),
            "room_jid": "r@x", "occupant": {"occupant_jid": "a@x", "id": "ali", "joined_at": worker.now().timestamp()},
        });
        let webhook_event_id = worker.webhook(&body).await;
        if let Some(config) = verified_by {
            worker.set("webhook_events", webhook_event_id.0, &format!("provider_config_id = '{config}'")).await;
        }
        assert_eq!(worker.run(&ProcessWebhook { webhook_event_id }).await.state, "done");
        let seen: i64 = worker.get(&format!("select count(*) from sightings where session_id = '{session}'")).await;
        assert_eq!(seen > 0, applied, "held at {held_at:?}, verified by {verified_by:?}");
    }
}

#[tokio::test]
async fn recordings_of_a_configuration_come_from_its_hosts_alone_and_not_from_private_ones() {
    let host = |worker: &TestWorker| worker.servers.recording_host.url().trim_start_matches("http://").to_owned();
    for (allow_private, names_host, imported, refusal) in [
        (true, true, true, ""),
        (true, false, false, "is not among the recording_hosts of its provider configuration"),
        (false, true, false, "private address (PROVIDER_CONFIGS_ALLOW_PRIVATE is off)"),
    ] {
        // What the operator allows for the environment's provider does not help.
        let worker = TestWorker::with(|config| config.outbound.provider_configs_allow_private = allow_private).await;
        let hosts = if names_host { json!([host(&worker)]) } else { json!([]) };
        let settings = json!({"domain": "meet.test", "app_id": "x", "recording_hosts": hosts});
        let config = worker.configure("own", settings).await;
        let session = worker.live_session(TimeDelta::minutes(60)).await;
        worker.hold_at(session, config).await;
        worker.servers.recording_host.set_faults(&worker.unique, Faults::default());
        let url = worker.servers.recording_host.recording_url(&worker.unique, 5_000, 7);
        let recording_id = worker.recording(session, &url).await;
        let job = worker.run(&ImportRecording { recording_id }).await;
        assert_eq!(job.state, if imported { "done" } else { "dead" }, "{}", job.error());
        assert!(job.error().contains(refusal), "{}", job.error());
    }
}

#[tokio::test]
async fn secrets_are_sealed_anew_and_a_second_time_changes_nothing() {
    let worker = TestWorker::new().await;
    let url = worker.state().config.database.database_url.clone();
    let (old, new) = (keys(OLD), keys(NEW));
    let mut configs = Vec::new();
    for n in 0..250 {
        let config = worker.configure(&format!("c{n}"), json!({})).await;
        worker.keep_secret(&old, config, &format!("secret-{n}")).await;
        configs.push(config);
    }
    // Without the old key nothing is opened, and nothing is lost.
    assert!(rotate(&url, NEW).await.is_err());
    assert_eq!(provider_secrets::count_by_key(worker.db()).await.unwrap(), [("old".to_owned(), 250)].into());
    rotate(&url, &format!("{NEW},{OLD}")).await.unwrap();
    assert_eq!(provider_secrets::count_by_key(worker.db()).await.unwrap(), [("new".to_owned(), 250)].into());
    for (n, config) in configs.iter().enumerate() {
        assert_eq!(worker.secret(&new, *config).await.unwrap(), format!("secret-{n}"));
    }
    let rows = "select md5(string_agg(ciphertext::text, ',' order by config_id)) from provider_secrets";
    let before: String = worker.get(rows).await;
    rotate(&url, &format!("{NEW},{OLD}")).await.unwrap();
    assert_eq!(worker.get::<String>(rows).await, before);
}

#[tokio::test]
async fn what_does_not_open_is_told_and_does_not_stop_the_others() {
    let worker = TestWorker::new().await;
    let url = worker.state().config.database.database_url.clone();
    let (damaged, good) = (worker.configure("a", json!({})).await, worker.configure("b", json!({})).await);
    worker.keep_secret(&keys(OLD), damaged, "a secret").await;
    worker.keep_secret(&keys(OLD), good, "another secret").await;
    sqlx::query("update provider_secrets set ciphertext = decode(repeat('00', 40), 'hex') where config_id = $1")
        .bind(damaged)
        .execute(worker.db())
        .await
        .unwrap();
    let error = rotate(&url, &format!("{NEW},{OLD}")).await.unwrap_err();
    assert_eq!(error.to_string(), "1 secrets stay as they were, see above");
    assert_eq!(worker.secret(&keys(NEW), good).await.unwrap(), "another secret");
}

#[tokio::test]
async fn a_secret_that_was_changed_meanwhile_stays_changed() {
    let worker = TestWorker::new().await;
    let (old, both) = (keys(OLD), keys(&format!("{NEW},{OLD}")));
    let config = worker.configure("a", json!({})).await;
    worker.keep_secret(&old, config, "before").await;
    let nil = ProviderConfigId(uuid::Uuid::nil());
    let read = provider_secrets::list_of_other_keys(worker.db(), "new", (nil, ""), 10).await.unwrap();
    worker.keep_secret(&old, config, "after").await;
    let place = Place { tenant: worker.tenant, config, field: "jwt_secret" };
    let anew = both.seal(&Secret::new("before"), place).unwrap();
    assert!(!provider_secrets::replace_sealed(worker.db(), &read[0], &anew).await.unwrap());
    assert_eq!(worker.secret(&both, config).await.unwrap(), "after");
}

#[tokio::test]
async fn no_query_finds_what_belongs_to_another_tenant() {
    let worker = TestWorker::new().await;
    let config = worker.configure("a", json!({})).await;
    worker.keep_secret(&keys(OLD), config, "a secret").await;
    let stranger: TenantId = shared::db::tenants::insert(worker.db(), "other", "other").await.unwrap();
    let db = worker.db();
    assert!(provider_configs::find_in(db, stranger, config).await.unwrap().is_none());
    assert!(provider_configs::choose(db, stranger, Some(config), None).await.unwrap().is_none());
    assert!(provider_configs::list(db, stranger, (None, false), 10).await.unwrap().is_empty());
    assert!(provider_secrets::list(db, stranger, &[config]).await.unwrap().is_empty());
    let mut connection = db.acquire().await.unwrap();
    assert!(provider_configs::lock_in(&mut connection, stranger, config).await.unwrap().is_none());
    assert!(provider_configs::make_default(&mut connection, stranger, config).await.unwrap().is_none());
    provider_secrets::delete(db, (stranger, config), "jwt_secret").await.unwrap();
    provider_configs::delete(db, stranger, config).await.unwrap();
    assert_eq!(worker.secret(&keys(OLD), config).await.unwrap(), "a secret");
}
