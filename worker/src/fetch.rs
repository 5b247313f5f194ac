//! Fetching files from meeting providers: only from hosts that are configured, and not from private addresses, so that
//! a forged webhook cannot make this process read the machine's own network (SSRF).
//!
//! Names are resolved by our own resolver, which gives the connection only those addresses that passed the check; there
//! is no second look-up whose answer could differ. Redirects are followed by hand, each hop checked like the
//! first. Proxies of the environment are not used: behind one, nobody could tell where a name leads.
//!
//! Addresses may carry their own authorisation in the query: errors name the host alone.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap},
    redirect::Policy,
};
use shared::config::ProvidersConfig;
use url::{Host, Url};

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

/// A client with the rules of one configuration.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    hosts: AllowedHosts,
}

impl Fetcher {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &ProvidersConfig) -> reqwest::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("live-sessions/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(CheckedResolver { allow_private: config.recording_allow_private }))
            .build()?;
        Ok(Self { client, hosts: AllowedHosts::of(config) })
    }

    /// Asks for the file. The answer is 200, or 206 where `resume` was given and the provider goes on from there; its body
    /// is not read yet.
    ///
    /// # Errors
    /// Any other answer, or none.
    pub async fn get(&self, url: &str, resume: Option<&Resume>, now: DateTime<Utc>) -> Result<Response, FetchError> {
        let mut url = Url::parse(url).map_err(|e| FetchError::NotAllowed(format!("the address is faulty: {e}")))?;
        for _ in 0..=MAX_REDIRECTS {
            self.hosts.check(&url)?;
            // No compression: sizes and ranges are those of the file.
            let mut request = self.client.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
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
    let mut text = String::from(if error.is_timeout() { "the provider took too long" } else { "the fetch broke off" });
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    // The resolver's refusal comes wrapped in connection errors.
    if text.contains(PRIVATE_ADDRESS) {
        FetchError::NotAllowed(PRIVATE_ADDRESS.into())
    } else {
        FetchError::Failed(text)
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

/// Where recordings may come from.
#[derive(Debug, Clone)]
struct AllowedHosts {
    /// Lower-case `host` or `host:port`.
    named: Vec<String>,
    /// JaaS serves recordings from hosts below 8x8.vc.
    jaas: bool,
    allow_private: bool,
}

impl AllowedHosts {
    fn of(config: &ProvidersConfig) -> Self {
        let without_scheme = |host: &str| {
            let host = host.trim().trim_end_matches('/').to_ascii_lowercase();
            host.split_once("://").map_or(host.clone(), |(_, rest)| rest.to_owned())
        };
        let named = config.recording_hosts.iter().chain([&config.jitsi_domain]);
        Self {
            named: named.map(|host| without_scheme(host)).filter(|host| !host.is_empty()).collect(),
            jaas: !config.jaas_webhook_secret.is_empty(),
            allow_private: config.recording_allow_private,
        }
    }

    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let refuse = |reason: String| Err(FetchError::NotAllowed(reason));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(format!("scheme {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address with a user name".into());
        }
        let Some(host) = url.host() else { return refuse("an address without a host".into()) };
        let name = host.to_string().to_ascii_lowercase();
        // An entry without a port means the scheme's own one, which `Url` leaves out.
        let authority = url.port().map_or(name.clone(), |port| format!("{name}:{port}"));
        let jaas = self.jaas && url.scheme() == "https" && url.port().is_none() && name.ends_with(".8x8.vc");
        if !jaas && !self.named.contains(&authority) {
            return refuse(format!("{authority} is not among RECORDING_HOSTS"));
        }
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|address| !self.allow_private && !is_public(address)) {
            return refuse(PRIVATE_ADDRESS.into());
        }
        Ok(())
    }
}

const PRIVATE_ADDRESS: &str = "the host has a private address (RECORDING_ALLOW_PRIVATE is off)";

/// Gives out public addresses alone.
#[derive(Debug)]
struct CheckedResolver {
    allow_private: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let passed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || is_public(address.ip())).collect();
            if passed.is_empty() {
                return Err(PRIVATE_ADDRESS.into());
            }
            Ok(Box::new(passed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public internet, by the IANA special-purpose registries (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        // This network; carrier-grade NAT; IETF assignments; benchmarks; reserved and broadcast.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, .., g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match (a, b) {
        // NAT64 and 6to4 lead to the IPv4 address inside.
        (0x64, 0xff9b) => embedded(g, h),
        (0x2002, high) => embedded(high, address.segments()[2]),
        // Teredo and other assignments; documentation.
        (0x2001, 0..0x200 | 0xdb8) => false,
        // All else outside of 2000::/3 is loopback, local, multicast or reserved.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(named: &[&str], jaas: bool, allow_private: bool) -> AllowedHosts {
        AllowedHosts { named: named.iter().map(|name| (*name).to_owned()).collect(), jaas, allow_private }
    }

    fn allowed(hosts: &AllowedHosts, url: &str) -> bool {
        hosts.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn only_named_hosts_are_fetched_from() {
        let hosts = hosts(&["media.example.org", "meet.example.org:8443"], false, false);
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
            "https://user@media.example.org/",
            "ftp://media.example.org/",
            "file:///etc/passwd",
            "https://cdn.8x8.vc/",
        ] {
            assert!(!allowed(&hosts, wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts_of_jaas_need_its_secret_and_tls() {
        let jaas = hosts(&[], true, false);
        assert!(allowed(&jaas, "https://recordings.8x8.vc/file"));
        assert!(!allowed(&jaas, "http://recordings.8x8.vc/file"));
        assert!(!allowed(&jaas, "https://evil8x8.vc/file"));
    }

    #[test]
    fn private_addresses_need_the_operator_s_consent() {
        let named = ["127.0.0.1:9", "[::1]:9", "[::ffff:10.0.0.1]", "169.254.169.254"];
        let urls = ["http://127.0.0.1:9/", "http://[::1]:9/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"];
        for url in urls {
            assert!(!allowed(&hosts(&named, false, false), url), "{url}");
        }
        assert!(allowed(&hosts(&named, false, true), "http://127.0.0.1:9/"));
    }

    #[test]
    fn special_addresses_are_not_public() {
        for special in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        for public in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
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
