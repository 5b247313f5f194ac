//! Where Redis is: one server, the primary that Sentinels know, or the node of a cluster that owns a key. Each gives
//! plain connections, made anew after any error: the way back after a restart, a failover, a moved slot.
//!
//! Not the client types of the `redis` crate for Sentinel and Cluster: a blocking pop needs a connection of its own to
//! the node that has the queue, which the cluster client does not give, and asking for that node is one command.

use std::{fmt, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
    aio::MultiplexedConnection, cmd, from_redis_value_ref,
};

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
/// For a question to a Sentinel or a node of a cluster: there are others to ask.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// What REDIS_URL may be.
pub const EXAMPLES: &str = "right are redis://user:password@host:6379/0, redis+sentinel://host1:26379,host2:26379/mymaster/0, \
     redis+cluster://host1:6379,host2:6379; with TLS rediss://, rediss+sentinel://, rediss+cluster://";

/// The address, not yet connected. Cheap to clone.
#[derive(Clone)]
pub struct RedisServer {
    kind: Kind,
    /// `redis` or `rediss`.
    scheme: &'static str,
    /// `user:password@`, or empty.
    user: String,
    /// `host:port`; of Sentinels, or of some nodes.
    hosts: Vec<String>,
    database: String,
    /// PEM of the authority that signed the servers' certificates.
    authority: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    One,
    /// The name of the primary.
    Sentinel(String),
    Cluster,
}

impl RedisServer {
    /// # Errors
    /// What is wrong with the address, with examples of right ones.
    pub fn parse(url: &str, authority: Option<Vec<u8>>) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; {EXAMPLES}");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (scheme, kind) = match scheme.split_once('+').map_or((scheme, None), |(s, kind)| (s, Some(kind))) {
            ("redis", kind) => ("redis", kind),
            ("rediss", kind) => ("rediss", kind),
            _ => return Err(wrong(&format!("the scheme {scheme}:// is not known"))),
        };
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = address.rsplit_once('@').map_or(("", address), |(user, hosts)| (user, hosts));
        let (kind, database) = match (kind, path.split_once('/').unwrap_or((path, ""))) {
            (None, _) => (Kind::One, path),
            (Some("sentinel"), ("", _)) => {
                return Err(wrong("the name of the primary is missing behind the Sentinels"));
            }
            (Some("sentinel"), (name, database)) => (Kind::Sentinel(name.to_owned()), database),
            (Some("cluster"), ("" | "0", "")) => (Kind::Cluster, ""),
            (Some("cluster"), _) => return Err(wrong("a cluster has no databases")),
            (Some(other), _) => return Err(wrong(&format!("{other} is not known"))),
        };
        let port = if matches!(kind, Kind::Sentinel(_)) { 26379 } else { 6379 };
        let hosts: Vec<String> = hosts.split(',').map(|host| with_port(host.trim(), port)).collect();
        if hosts.len() > 1 && kind == Kind::One {
            return Err(wrong("there are several hosts, but it is neither Sentinel nor cluster"));
        }
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let server = Self { kind, scheme, user, hosts, database: database.to_owned(), authority };
        for host in &server.hosts {
            server.client(host, &server.user, &server.database).map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(server)
    }

    /// A new connection to the server that has `key` and can be written to.
    pub async fn connect(&self, key: &str, response_timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let client = match self.kind {
            Kind::One => self.client(&self.hosts[0], &self.user, &self.database)?,
            Kind::Sentinel(_) | Kind::Cluster => {
                self.client(&self.find_primary(key).await?, &self.user, &self.database)?
            }
        };
        client.get_multiplexed_async_connection_with_config(&timeouts(response_timeout)).await
    }

    /// The first answer among the hosts, or the last one's error.
    async fn find_primary(&self, key: &str) -> RedisResult<String> {
        let mut failed = None;
        for host in &self.hosts {
            match self.ask_for_primary(host, key).await {
                Ok(primary) => return Ok(primary),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| nowhere("there is no host")))
    }

    async fn ask_for_primary(&self, host: &str, key: &str) -> RedisResult<String> {
        let user = if self.kind == Kind::Cluster { &self.user } else { "" };
        let client = self.client(host, user, "")?;
        let mut asked = client.get_multiplexed_async_connection_with_config(&timeouts(QUESTION_TIMEOUT)).await?;
        if let Kind::Sentinel(name) = &self.kind {
            let (host, port): (String, u16) =
                cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query_async(&mut asked).await?;
            return Ok(address(&host, port));
        }
        let slot = cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut asked).await?;
        let slots: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query_async(&mut asked).await?;
        owner(&slots, slot, host)
    }

    fn client(&self, host: &str, user: &str, database: &str) -> RedisResult<Client> {
        let url = format!("{}://{user}{host}/{database}", self.scheme).into_connection_info()?;
        match &self.authority {
            Some(pem) => {
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) })
            }
            None => Client::open(url),
        }
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("kind", &self.kind).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

fn timeouts(response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECTION_TIMEOUT)).set_response_timeout(Some(response))
}

fn with_port(host: &str, port: u16) -> String {
    let named = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) && !host.ends_with(']');
    if named || host.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The primary of a slot in an answer to CLUSTER SLOTS: ranges of `[first, last, [host, port, …], …]`. A node that does not
/// know its own address leaves it empty: it is the one that was asked.
fn owner(slots: &[Vec<Value>], slot: u16, asked: &str) -> RedisResult<String> {
    for range in slots {
        let [first, last, primary, ..] = range.as_slice() else { continue };
        let (first, last): (u16, u16) = (from_redis_value_ref(first)?, from_redis_value_ref(last)?);
        if !(first..=last).contains(&slot) {
            continue;
        }
        let node: Vec<Value> = from_redis_value_ref(primary)?;
        let [host, port, ..] = node.as_slice() else { continue };
        let host: Option<String> = from_redis_value_ref(host)?;
        let port: u16 = from_redis_value_ref(port)?;
        return Ok(match host.filter(|host| !host.is_empty()) {
            Some(host) => address(&host, port),
            None => format!("{}:{port}", asked.rsplit_once(':').map_or(asked, |(host, _)| host)),
        });
    }
    Err(nowhere("no node of the cluster has the queue's slot"))
}

fn nowhere(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (Kind, &'static str, String, Vec<String>, String) {
        let server = RedisServer::parse(url, None).unwrap();
        (server.kind, server.scheme, server.user, server.hosts, server.database)
    }

    #[test]
    fn every_kind_of_address_is_understood() {
        let hosts = |all: &[&str]| all.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            parsed("redis://localhost"),
            (Kind::One, "redis", String::new(), hosts(&["localhost:6379"]), String::new())
        );
        assert_eq!(
            parsed("rediss://u:p@[::1]:7000/3"),
            (Kind::One, "rediss", "u:p@".into(), hosts(&["[::1]:7000"]), "3".into())
        );
        assert_eq!(
            parsed("redis+sentinel://:p@a:1,b/main/2"),
            (Kind::Sentinel("main".into()), "redis", ":p@".into(), hosts(&["a:1", "b:26379"]), "2".into())
        );
        assert_eq!(
            parsed("rediss+cluster://a,b:7001/"),
            (Kind::Cluster, "rediss", String::new(), hosts(&["a:6379", "b:7001"]), String::new())
        );
    }

    #[test]
    fn a_wrong_address_is_told_with_right_ones() {
        for wrong in [
            "localhost:6379",
            "http://localhost",
            "redis://",
            "redis://a,b",
            "redis://a/x",
            "redis+sentinel://a:26379",
            "redis+cluster://a/3",
            "redis+magic://a",
        ] {
            let error = RedisServer::parse(wrong, None).unwrap_err();
            assert!(error.contains("redis+sentinel://"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_owner_of_a_slot_is_found() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let named = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let slots = [
            vec![Value::Int(0), Value::Int(99), node(named("::1"), 7000), node(named("replica"), 7001)],
            vec![Value::Int(100), Value::Int(16383), node(Value::Nil, 7002)],
        ];
        assert_eq!(owner(&slots, 99, "seed:1").unwrap(), "[::1]:7000");
        assert_eq!(owner(&slots, 100, "seed:1").unwrap(), "seed:7002");
        assert!(owner(&slots[..1], 100, "seed:1").is_err());
    }
}
