//! Fetching files from meeting providers: only from hosts that are configured, and by the rules of `shared::outbound`, so
//! that a forged webhook cannot make this process read the machine's own network (SSRF). Redirects are followed by hand,
//! each hop checked like the first.
//!
//! A recording of a tenant's own provider configuration comes from that configuration's hosts alone: whoever administers a
//! tenant can make webhooks, and must not reach the hosts of others.
//!
//! Addresses may carry their own authorisation in the query: errors name the host alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap},
};
use shared::{
    config::{OutboundConfig, ProvidersConfig},
    meetings::{MeetingError, zoom::ZoomApi},
    outbound::{self, Outbound, Rule},
    providers::{settings::Settings, zoom::Zoom},
    secrets::Secret,
};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
/// The longest wait that a Retry-After may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The variants are what callers do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a place that we may fetch from, or a faulty address.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// 404: the provider has announced it but does not have it yet.
    #[error("not there (404)")]
    NotThere,
    /// The link has expired, or we are not let in: another attempt would be answered the same.
    #[error("refused with status {0}")]
    Refused(u16),
    /// The provider asks for patience (429, 503), and for how long.
    #[error("the provider is busy (status {status})")]
    Busy { status: u16, wait: Duration },
    /// Worth another attempt.
    #[error("{0}")]
    Failed(String),
}

/// Goes on where an earlier fetch ended, if the file is still the same.
#[derive(Debug, Clone)]
pub struct Resume {
    /// First byte that is wanted.
    pub from: u64,
    /// The file's strong entity tag of then (RFC 9110 §13.1.5).
    pub etag: String,
}

/// Fetches by the rules of this process's configuration.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// What the environment allows.
    environment: Source,
    /// Where tenants say the address.
    configured: Outbound,
    zoom: ZoomApi,
}

/// Where a recording may come from.
#[derive(Debug, Clone)]
pub struct Source {
    outbound: Outbound,
    hosts: AllowedHosts,
    api: ZoomApi,
    /// The account whose files they are: Zoom gives them to those who show a token.
    zoom: Option<Zoom>,
}

impl Fetcher {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &ProvidersConfig, outbound: OutboundConfig, zoom: ZoomApi) -> reqwest::Result<Self> {
        let client =
            |allow_private, setting| Outbound::new(Rule { allow_private, setting }, CONNECT_TIMEOUT, READ_TIMEOUT);
        let environment = Source {
            outbound: client(config.recording_allow_private, "RECORDING_ALLOW_PRIVATE")?,
            hosts: AllowedHosts::of_environment(config),
            api: zoom.clone(),
            zoom: None,
        };
        let allow_private = outbound.provider_configs_allow_private;
        Ok(Self { environment, configured: client(allow_private, "PROVIDER_CONFIGS_ALLOW_PRIVATE")?, zoom })
    }

    /// Where the recordings of a tenant's configuration may come from; without one, those of the environment's provider.
    pub fn source(&self, settings: Option<&Settings>) -> Source {
        match settings {
            None => self.environment.clone(),
            Some(settings) => Source {
                outbound: self.configured.clone(),
                hosts: AllowedHosts::of_settings(settings),
                api: self.zoom.clone(),
                zoom: None,
            },
        }
    }
}

impl Source {
    /// The same, for files of this account.
    pub fn of_zoom(self, zoom: Option<Zoom>) -> Self {
        Self { zoom, ..self }
    }

    /// Asks for the file. The answer is 200, or 206 where `resume` was given and the provider goes on from there; its body
    /// is not read yet.
    ///
    /// # Errors
    /// Any other answer, or none.
    pub async fn get(&self, url: &str, resume: Option<&Resume>, now: DateTime<Utc>) -> Result<Response, FetchError> {
        let Some(zoom) = &self.zoom else { return self.follow(url, None, resume, now).await };
        let token = self.api.token(zoom, None).await.map_err(no_token)?;
        let answer = self.follow(url, Some(&token.text), resume, now).await;
        if !is_refusal(&answer) {
            return answer;
        }
        // Run out sooner than it said, or taken back. Who is refused is shown a page for signing in.
        let token = self.api.token(zoom, Some(&token)).await.map_err(no_token)?;
        self.follow(url, Some(&token.text), resume, now).await
    }

    /// Follows redirects, and shows `token` to the first host alone, if that is Zoom's own: not where it leads.
    async fn follow(
        &self,
        url: &str,
        token: Option<&Secret>,
        resume: Option<&Resume>,
        now: DateTime<Utc>,
    ) -> Result<Response, FetchError> {
        let mut url = Url::parse(url).map_err(|e| FetchError::NotAllowed(format!("the address is faulty: {e}")))?;
        let first = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let is_zooms = self.zoom.is_some() && self.api.serves(&url);
            if !is_zooms {
                self.hosts.check(&url)?;
            }
            self.outbound.check(&url).map_err(|e| FetchError::NotAllowed(e.to_string()))?;
            // No compression: sizes and ranges are those of the file.
            let mut request = self.outbound.client().get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = token.filter(|_| is_zooms && url.origin() == first) {
                request = request.bearer_auth(token.expose());
            }
            if let Some(resume) = resume {
                request = request
                    .header(header::RANGE, format!("bytes={}-", resume.from))
                    .header(header::IF_RANGE, &resume.etag);
            }
            let response = request.send().await.map_err(|e| failed(&e))?;
            if !response.status().is_redirection() {
                return judge(response, now);
            }
            let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = target.and_then(|target| url.join(target).ok());
            let next = next.ok_or_else(|| FetchError::Failed("a redirect without a place to go to".into()))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(FetchError::NotAllowed("a redirect from https to an unencrypted address".into()));
            }
            url = next;
        }
        Err(FetchError::Failed(format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// What went wrong on the way, without the address.
pub fn failed(error: &reqwest::Error) -> FetchError {
    let what = if error.is_timeout() { "the provider took too long" } else { "the fetch broke off" };
    let causes = outbound::causes(error);
    if outbound::is_private(error) {
        FetchError::NotAllowed(causes)
    } else {
        FetchError::Failed(format!("{what}: {causes}"))
    }
}

fn is_refusal(answer: &Result<Response, FetchError>) -> bool {
    match answer {
        Ok(response) => is_page(response.headers()),
        Err(error) => matches!(error, FetchError::Refused(401 | 403)),
    }
}

/// Whether it is a web page, which no recording is.
pub fn is_page(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(media.as_str(), "text/html" | "application/xhtml+xml")
}

fn no_token(error: MeetingError) -> FetchError {
    match error {
        MeetingError::Busy(wait) => FetchError::Busy { status: 429, wait },
        other => FetchError::Failed(format!("no token for it: {other}")),
    }
}

fn judge(response: Response, now: DateTime<Utc>) -> Result<Response, FetchError> {
    match response.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        StatusCode::NOT_FOUND => Err(FetchError::NotThere),
        status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            match retry_after(response.headers(), now) {
                Some(wait) => Err(FetchError::Busy { status: status.as_u16(), wait }),
                None => Err(FetchError::Failed(format!("status {status} without Retry-After"))),
            }
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(FetchError::Failed("asked to try again".into())),
        status if status.is_client_error() => Err(FetchError::Refused(status.as_u16())),
        status => Err(FetchError::Failed(format!("status {}", status.as_u16()))),
    }
}

/// Seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::parse_from_rfc2822(value).ok()?;
            (date.with_timezone(&Utc) - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.clamp(Duration::from_secs(1), LONGEST_WAIT))
}

/// The hosts of a source.
#[derive(Debug, Clone)]
struct AllowedHosts {
    /// Lower-case `host` or `host:port`.
    named: Vec<String>,
    /// JaaS serves recordings from hosts below 8x8.vc.
    jaas: bool,
    /// Where hosts are named, for whoever reads the refusal.
    list: &'static str,
}

impl AllowedHosts {
    fn of_environment(config: &ProvidersConfig) -> Self {
        let without_scheme = |host: &str| {
            let host = host.trim().trim_end_matches('/').to_ascii_lowercase();
            host.split_once("://").map_or(host.clone(), |(_, rest)| rest.to_owned())
        };
        let named = config.recording_hosts.iter().chain([&config.jitsi_domain]);
        Self {
            named: named.map(|host| without_scheme(host)).filter(|host| !host.is_empty()).collect(),
            jaas: !config.jaas_webhook_secret.is_empty(),
            list: "RECORDING_HOSTS",
        }
    }

    fn of_settings(settings: &Settings) -> Self {
        Self {
            named: settings.recording_hosts(),
            jaas: matches!(settings, Settings::Jaas(_)),
            list: "the recording_hosts of its provider configuration",
        }
    }

    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let Some(host) = url.host() else { return Err(FetchError::NotAllowed("an address without a host".into())) };
        let name = host.to_string().to_ascii_lowercase();
        // An entry without a port means the scheme's own one, which `Url` leaves out.
        let authority = url.port().map_or(name.clone(), |port| format!("{name}:{port}"));
        let jaas = self.jaas && url.scheme() == "https" && url.port().is_none() && name.ends_with(".8x8.vc");
        if jaas || self.named.contains(&authority) {
            return Ok(());
        }
        Err(FetchError::NotAllowed(format!("{authority} is not among {}", self.list)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(named: &[&str], jaas: bool) -> AllowedHosts {
        AllowedHosts { named: named.iter().map(|name| (*name).to_owned()).collect(), jaas, list: "the list" }
    }

    fn allowed(hosts: &AllowedHosts, url: &str) -> bool {
        hosts.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn only_named_hosts_are_fetched_from() {
        let hosts = hosts(&["media.example.org", "meet.example.org:8443"], false);
        for right in ["https://media.example.org/a?b", "https://MEDIA.example.org/", "http://meet.example.org:8443/x"] {
            assert!(allowed(&hosts, right), "{right}");
        }
        for wrong in [
            "https://media.example.org:8443/a",
            "https://meet.example.org/x",
            "https://example.org/",
            "https://media.example.org.evil.test/",
            "https://evil.test/media.example.org",
            "https://media.example.org@evil.test/",
            "file:///etc/passwd",
            "https://cdn.8x8.vc/",
        ] {
            assert!(!allowed(&hosts, wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts_of_jaas_need_its_secret_and_tls() {
        let jaas = hosts(&[], true);
        assert!(allowed(&jaas, "https://recordings.8x8.vc/file"));
        assert!(!allowed(&jaas, "http://recordings.8x8.vc/file"));
        assert!(!allowed(&jaas, "https://evil8x8.vc/file"));
    }

    #[test]
    fn a_configuration_s_recordings_come_from_its_own_hosts() {
        let json = serde_json::json!({
            "domain": "http://meet.school.test:8080", "app_id": "lms", "recording_hosts": ["Media.school.test:8443"],
        });
        let settings = Settings::read(shared::domain::provider::ProviderKind::Jitsi, &json).unwrap();
        let own = AllowedHosts::of_settings(&settings);
        assert!(allowed(&own, "http://meet.school.test:8080/a.mp4"));
        assert!(allowed(&own, "https://media.school.test:8443/a.mp4"));
        for wrong in ["https://media.school.test/a", "https://meet.school.test/a", "https://recordings.8x8.vc/file"] {
            assert!(!allowed(&own, wrong), "{wrong}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: DateTime<Utc> = "2026-11-27T06:00:00Z".parse().unwrap();
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("0"), Some(1));
        assert_eq!(wait("99999999"), Some(3600));
        assert_eq!(wait("Fri, 27 Nov 2026 06:01:30 GMT"), Some(90));
        assert_eq!(wait("Fri, 27 Nov 2020 06:01:30 GMT"), Some(1));
        assert_eq!(wait("soon"), None);
    }
}
