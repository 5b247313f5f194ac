//! Tries a provider configuration out: whether its server is there, speaks TLS, is the right program in the right version,
//! and takes the secret. Each is a check of its own, because each is somebody else's to mend. One provider per file.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    config::ZoomConfig,
    outbound::{Outbound, Rule, causes},
    providers::settings::{Configuration, Settings},
};

mod bbb;
mod jitsi;
mod zoom;

/// For a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// For a request with its answer. A probe makes two, at Zoom one more for each user.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// So much of an answer is read.
const MOST_BYTES: usize = 64 * 1024;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckName {
    /// Something listens there, and it is the provider's program.
    Address,
    /// Its certificate is good.
    Tls,
    /// The secret is the right one.
    Secret,
    /// The program is new enough.
    Version,
    /// The user whose meetings they are is there.
    User,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: CheckName,
    /// `None` where it could not be told, because something else failed before.
    pub ok: Option<bool>,
    /// What was found, or what to do. Holds nothing of a secret, and nothing that the server wrote.
    pub detail: String,
}

/// Makes probes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    outbound: Outbound,
    /// Where the operator says that something is.
    operators: Outbound,
    zoom: ZoomConfig,
}

impl Prober {
    /// `zoom` is where the operator says that Zoom is.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(rule: Rule, zoom: ZoomConfig) -> reqwest::Result<Self> {
        let operators = Rule { allow_private: true, setting: "ZOOM_API_URL" };
        Ok(Self {
            outbound: Outbound::new(rule, CONNECT_LIMIT, REQUEST_LIMIT)?,
            operators: Outbound::new(operators, CONNECT_LIMIT, REQUEST_LIMIT)?,
            zoom,
        })
    }

    /// The same for places that the operator has named.
    fn of_operator(&self) -> Self {
        Self { outbound: self.operators.clone(), ..self.clone() }
    }

    /// Tries a configuration out, within seconds.
    pub async fn probe(&self, configuration: &Configuration) -> Vec<Check> {
        let report = match &configuration.settings {
            Settings::Jitsi(settings) => jitsi::probe(self, settings, configuration).await,
            Settings::Jaas(_) => jitsi::probe_as_a_service(configuration),
            Settings::Bbb(settings) => {
                let [secret, of_servers] = ["shared_secret", "server_secrets"].map(|field| configuration.secret(field));
                bbb::probe(self, settings, secret, of_servers).await
            }
            Settings::Zoom(settings) => {
                zoom::probe(&self.of_operator(), settings, configuration.secret("client_secret")).await
            }
        };
        report.0
    }

    /// Sends a request; what goes wrong on the way is written into the report, as a fault of address or TLS.
    async fn ask(&self, report: &mut Report, url: &Url, request: RequestBuilder) -> Option<Answer> {
        if let Err(fault) = self.outbound.reach(url, CONNECT_LIMIT).await {
            report.fail(CheckName::Address, fault);
            return None;
        }
        let mut response = match request.timeout(REQUEST_LIMIT).send().await {
            Ok(response) => response,
            // The port was reached just now: what is left of connecting is TLS.
            Err(error) if error.is_connect() && url.scheme() == "https" => {
                report.pass(CheckName::Address, "something listens there");
                report.fail(CheckName::Tls, format!("no TLS connection: {}", causes(&error)));
                return None;
            }
            Err(error) if error.is_timeout() => {
                let seconds = REQUEST_LIMIT.as_secs();
                report.fail(CheckName::Address, format!("takes connections, but does not answer within {seconds} s"));
                return None;
            }
            Err(_) => {
                report.fail(CheckName::Address, "takes connections, but does not speak HTTP");
                return None;
            }
        };
        if url.scheme() == "https" {
            report.pass(CheckName::Tls, "the certificate is good");
        }
        if response.status().is_redirection() {
            report.fail(CheckName::Address, "redirects to another address: configure that one");
            return None;
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_page = kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
        let mut body = Vec::new();
        while body.len() < MOST_BYTES
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece);
        }
        Some(Answer { status: response.status(), is_page, body })
    }
}

struct Answer {
    status: StatusCode,
    /// It is a web page: what a server sends for addresses that it does not know.
    is_page: bool,
    /// Its beginning.
    body: Vec<u8>,
}

/// Checks on their way to an answer.
struct Report(Vec<Check>);

impl Report {
    /// None of these is done yet; TLS only where the address has it.
    fn of(names: &[CheckName], url: Option<&Url>) -> Self {
        let tls = url.is_some_and(|url| url.scheme() == "https");
        let names = names.iter().filter(|name| **name != CheckName::Tls || tls);
        let open = |name: &CheckName| Check { name: *name, ok: None, detail: "was not reached".to_owned() };
        Self(names.map(open).collect())
    }

    fn pass(&mut self, name: CheckName, detail: impl Into<String>) {
        self.set(name, Some(true), detail);
    }

    fn fail(&mut self, name: CheckName, detail: impl Into<String>) {
        self.set(name, Some(false), detail);
    }

    /// What another server of the same configuration is worse at.
    fn add(&mut self, server: &str, other: Self) {
        for Check { name, ok, detail } in other.0.into_iter().filter(|check| check.ok != Some(true)) {
            // It may have TLS where the first one has none.
            let name = if self.0.iter().any(|check| check.name == name) { name } else { CheckName::Address };
            if let Some(known) = self.0.iter_mut().find(|check| check.name == name && check.ok == Some(true)) {
                *known = Check { name, ok, detail: format!("{server}: {detail}") };
            }
        }
    }

    fn set(&mut self, name: CheckName, ok: Option<bool>, detail: impl Into<String>) {
        if let Some(check) = self.0.iter_mut().find(|check| check.name == name) {
            *check = Check { name, ok, detail: detail.into() };
        }
    }
}
