//! What a tenant configures for a provider: one typed struct for each, and in `form` the table of its fields, from which the
//! API makes schema and faults. Secrets are apart: they are stored sealed, and are never part of a struct that is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{bbb, jitsi};
use crate::{
    domain::{
        ids::{ProviderConfigId, TenantId},
        provider::ProviderKind,
    },
    secrets::{Keyring, Place, Sealed, Secret, SecretsError},
};

mod form;

pub use form::*;

/// Settings of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Settings {
    Jitsi(JitsiSettings),
    Jaas(JaasSettings),
    Bbb(BbbSettings),
    Zoom(ZoomSettings),
}

// Unknown fields are refused by the form, not here: what a newer version has stored, an older one reads.

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JitsiSettings {
    pub domain: String,
    pub app_id: String,
    #[serde(default = "default_audience")]
    pub audience: String,
    #[serde(default = "any_domain")]
    pub xmpp_domain: String,
    #[serde(default = "default_algorithm")]
    pub algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_url: Option<String>,
    #[serde(default)]
    pub prejoin: bool,
    #[serde(default)]
    pub lobby: bool,
    #[serde(default)]
    pub start_muted: bool,
    #[serde(default)]
    pub hide_participants_from_recorder: bool,
    #[serde(default)]
    pub recording_hosts: Vec<String>,
}

impl JitsiSettings {
    /// Whether tokens are signed with a key of the configuration's own, and not with Prosody's secret.
    pub fn signs_with_own_key(&self) -> bool {
        self.algorithm == RS256
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JaasSettings {
    pub app_id: String,
    pub key_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BbbSettings {
    pub server_url: String,
    #[serde(default)]
    pub further_servers: Vec<String>,
    #[serde(default)]
    pub drained_servers: Vec<String>,
    #[serde(default)]
    pub webhook_servers: Vec<String>,
    #[serde(default = "default_checksum")]
    pub checksum: String,
    #[serde(default = "default_webhook_checksum")]
    pub webhook_checksum: String,
    #[serde(default)]
    pub recording_hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoomSettings {
    pub account_id: String,
    pub client_id: String,
    pub user_id: String,
    #[serde(default)]
    pub further_user_ids: Vec<String>,
    #[serde(default = "on")]
    pub registration: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk_key: Option<String>,
    #[serde(default)]
    pub recording_hosts: Vec<String>,
}

fn default_audience() -> String {
    "jitsi".to_owned()
}

fn default_algorithm() -> String {
    ALGORITHMS[0].to_owned()
}

fn any_domain() -> String {
    "*".to_owned()
}

fn on() -> String {
    "on".to_owned()
}

fn default_checksum() -> String {
    bbb::ALGORITHMS[0].to_owned()
}

fn default_webhook_checksum() -> String {
    bbb::Covered::ALL[0].to_owned()
}

impl BbbSettings {
    /// All but the address as it is when nothing is said.
    pub fn of_one_server(server_url: &str) -> Self {
        Self {
            server_url: server_url.to_owned(),
            further_servers: Vec::new(),
            drained_servers: Vec::new(),
            webhook_servers: Vec::new(),
            checksum: default_checksum(),
            webhook_checksum: default_webhook_checksum(),
            recording_hosts: Vec::new(),
        }
    }

    /// Of servers that hold meetings, or stand behind one that does.
    pub fn hosts(&self) -> Vec<String> {
        let all = [&self.server_url].into_iter().chain(&self.further_servers).chain(&self.webhook_servers);
        all.filter_map(|url| bbb::api_base(url)).map(|base| bbb::authority(&base)).collect()
    }
}

impl Settings {
    /// Reads settings that have the form that [`fields`] tells.
    pub fn read(kind: ProviderKind, json: &Value) -> serde_json::Result<Self> {
        Ok(match kind {
            ProviderKind::Jitsi => Self::Jitsi(JitsiSettings::deserialize(json)?),
            ProviderKind::Jaas => Self::Jaas(JaasSettings::deserialize(json)?),
            ProviderKind::Bbb => Self::Bbb(BbbSettings::deserialize(json)?),
            ProviderKind::Zoom => Self::Zoom(ZoomSettings::deserialize(json)?),
        })
    }

    pub fn kind(&self) -> ProviderKind {
        match self {
            Self::Jitsi(_) => ProviderKind::Jitsi,
            Self::Jaas(_) => ProviderKind::Jaas,
            Self::Bbb(_) => ProviderKind::Bbb,
            Self::Zoom(_) => ProviderKind::Zoom,
        }
    }

    /// Hosts (host or host:port) that recordings may be fetched from, beside those that the provider itself has.
    pub fn recording_hosts(&self) -> Vec<String> {
        let origin = |url: String| url::Url::parse(&url).ok().filter(url::Url::has_host);
        let (own, named) = match self {
            Self::Jitsi(s) => {
                let own = jitsi::origin(&s.domain).and_then(origin).map(|url| bbb::authority(&url));
                (own.into_iter().collect(), s.recording_hosts.as_slice())
            }
            Self::Bbb(s) => (s.hosts(), s.recording_hosts.as_slice()),
            Self::Zoom(s) => (Vec::new(), s.recording_hosts.as_slice()),
            Self::Jaas(_) => (Vec::new(), [].as_slice()),
        };
        own.into_iter().chain(named.iter().map(|host| host.to_ascii_lowercase())).collect()
    }
}

/// A configuration in the clear, as adapters take it.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub settings: Settings,
    /// By field.
    pub secrets: BTreeMap<String, Secret>,
}

/// Why a stored configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the settings cannot be read: {0}")]
    Settings(#[from] serde_json::Error),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl Configuration {
    /// As it is stored: settings of this kind, and sealed secrets by field.
    pub fn open(
        keys: &Keyring,
        (tenant, config): (TenantId, ProviderConfigId),
        (kind, settings): (ProviderKind, &Value),
        sealed: &BTreeMap<String, Sealed>,
    ) -> Result<Self, OpenError> {
        let settings = Settings::read(kind, settings)?;
        let open = |(field, sealed): (&String, &Sealed)| {
            keys.open(sealed, Place { tenant, config, field }).map(|secret| (field.clone(), secret))
        };
        Ok(Self { settings, secrets: sealed.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// A secret; empty when it is not set.
    pub fn secret(&self, field: &str) -> &str {
        self.secrets.get(field).map_or("", Secret::expose)
    }
}
