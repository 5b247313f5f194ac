//! Requests to servers that somebody else has named: in a provider configuration, or in a webhook. They do not reach
//! private addresses, unless the operator allows it, so that nobody can have this machine's own network asked (SSRF).
//!
//! Names are resolved by our own resolver, which gives the connection only those addresses that passed the check; there
//! is no second look-up whose answer could differ. Redirects are not followed: who follows one checks its target like
//! the first address. Proxies of the environment are not used: behind one, nobody could tell where a name leads.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::TcpStream;
use url::{Host, Url};

mod addresses;
mod breaker;

pub use breaker::{Breakers, Pass};

/// A place that is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error("scheme {0}")]
    Scheme(String),
    #[error("an address with a user name")]
    UserName,
    #[error("an address without a host")]
    NoHost,
    #[error("the host has a private address ({setting} is off)")]
    Private {
        /// The operator's setting that would allow it.
        setting: &'static str,
    },
}

/// A client with these rules. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client,
    rule: Rule,
}

/// Whether private addresses are reached.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub allow_private: bool,
    /// The setting that says so.
    pub setting: &'static str,
}

impl Outbound {
    /// `read_timeout` is that between two pieces of an answer.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(rule: Rule, connect_timeout: Duration, read_timeout: Duration) -> reqwest::Result<Self> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(connect_timeout)
            .read_timeout(read_timeout)
            .user_agent(concat!("live-sessions/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(CheckedResolver(rule)))
            .build()?;
        Ok(Self { client, rule })
    }

    /// Ask [`Self::check`] before each request: what is no name is not resolved.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether this may be asked, as far as the address itself tells.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, url: &Url) -> Result<(), NotAllowed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAllowed::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAllowed::UserName);
        }
        let literal = match url.host().ok_or(NotAllowed::NoHost)? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|address| !self.rule.passes(address)) { Err(self.rule.private()) } else { Ok(()) }
    }

    /// Whether something listens there, before anything is said to it.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn reach(&self, url: &Url, limit: Duration) -> Result<(), String> {
        self.check(url).map_err(|e| e.to_string())?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let reaching = async {
            let found = self.rule.resolve(&host, port).await.map_err(|e| match e.get_ref() {
                Some(_) if is_private(&e) => e.to_string(),
                _ => format!("the name {host} cannot be resolved"),
            })?;
            TcpStream::connect(found.as_slice()).await.map_err(|e| format!("port {port} is not reached: {e}"))
        };
        match tokio::time::timeout(limit, reaching).await {
            Ok(reached) => reached.map(drop),
            Err(_) => Err(format!("port {port} does not answer within {} seconds", limit.as_secs())),
        }
    }
}

/// Whether a request failed because its host has private addresses alone.
pub fn is_private(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<NotAllowed>() || wrapped.is_some_and(|inner| inner.is::<NotAllowed>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What lies behind an error, without the address that was asked: it may carry an authorisation.
pub fn causes(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

impl Rule {
    fn passes(self, address: IpAddr) -> bool {
        self.allow_private || addresses::is_public(address)
    }

    fn private(self) -> NotAllowed {
        NotAllowed::Private { setting: self.setting }
    }

    async fn resolve(self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        let passed: Vec<SocketAddr> = found.filter(|address| self.passes(address.ip())).collect();
        if passed.is_empty() { Err(std::io::Error::other(self.private())) } else { Ok(passed) }
    }
}

/// Gives out those addresses alone that pass.
#[derive(Debug)]
struct CheckedResolver(Rule);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.0;
        Box::pin(async move { Ok(Box::new(rule.resolve(name.as_str(), 0).await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(allow_private: bool) -> Outbound {
        let rule = Rule { allow_private, setting: "THE_SETTING" };
        Outbound::new(rule, Duration::from_secs(5), Duration::from_secs(5)).unwrap()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn private_addresses_need_the_operator_s_consent() {
        for text in ["http://127.0.0.1:9/", "http://[::1]:9/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"] {
            let refused = outbound(false).check(&url(text));
            assert_eq!(refused, Err(NotAllowed::Private { setting: "THE_SETTING" }), "{text}");
            assert_eq!(outbound(true).check(&url(text)), Ok(()), "{text}");
        }
        assert_eq!(outbound(false).check(&url("https://1.1.1.1/")), Ok(()));
    }

    #[test]
    fn only_the_web_is_asked_and_without_a_user_name() {
        for text in ["ftp://a/", "file:///etc/passwd", "https://u@a/", "https://:p@a/"] {
            assert!(outbound(true).check(&url(text)).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_the_addresses_it_leads_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = url(&format!("http://localhost:{}/", listener.local_addr().unwrap().port()));
        let limit = Duration::from_secs(5);
        let refused = outbound(false).reach(&there, limit).await.unwrap_err();
        assert_eq!(refused, "the host has a private address (THE_SETTING is off)");
        assert_eq!(outbound(true).reach(&there, limit).await, Ok(()));
        let error = outbound(false).client().get(there).send().await.unwrap_err();
        assert!(is_private(&error), "{error:?}");
        let nowhere = outbound(true).reach(&url("http://nowhere.invalid/"), limit).await.unwrap_err();
        assert_eq!(nowhere, "the name nowhere.invalid cannot be resolved");
    }
}
