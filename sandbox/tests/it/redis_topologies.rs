//! Redis beyond one server: Sentinel with a failover, a cluster, TLS with an authority of one's own, a primary that turns
//! into a replica. The servers are the test's own; the services are the real programs.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sandbox::{ports::free_port, provision, system::System};
use shared::{
    config::RedisConfig,
    jobs::{Noop, Queue},
    queue::{Dispatcher, Tx, redis::RedisQueues},
};
use sqlx::PgPool;

use crate::support::{count, database, eventually, system};

const UNDONE: &str = "select count(*) from jobs where kind = 'noop' and state <> 'done'";
const AGAIN: &str = "select count(*) from jobs where kind = 'noop' and (attempt <> 1 or crashes <> 0)";

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let port = free_port().expect("a free port");
        let own = dir.join(port.to_string());
        std::fs::create_dir_all(&own).expect("a directory");
        let program = provision::find_redis().expect("Redis is installed").path;
        let port_text = port.to_string();
        let port_flag = if arguments.contains(&"--tls-cert-file") { "--tls-port" } else { "--port" };
        let mut command = Command::new(program);
        if arguments.contains(&"--sentinel") {
            // A Sentinel writes what it learns into its configuration.
            let file = own.join("sentinel.conf");
            std::fs::write(&file, "").expect("a configuration");
            command.arg(file);
        }
        command.args([port_flag, &port_text, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&own);
        command.args(arguments);
        if arguments.contains(&"--cluster-enabled") {
            let bus = free_port().expect("a free port").to_string();
            command.args(["--cluster-announce-ip", "127.0.0.1", "--cluster-port", &bus]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("Redis starts"), port }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://{}/", self.address()))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut client.get_multiplexed_async_connection().await?).await
    }

    async fn answers(&self) {
        eventually("Redis to answer", async || self.ask::<String>(&["PING"]).await.is_ok()).await;
    }
}

/// The whole system on another Redis than the sandbox's own.
struct Elsewhere {
    system: System,
    db: PgPool,
    redis: RedisQueues,
    dispatcher: Dispatcher,
    pid: u32,
    _dir: tempfile::TempDir,
}

impl Elsewhere {
    async fn new(url: &str, authority: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = authority.as_deref().and_then(Path::to_str).map(str::to_owned).unwrap_or_default();
        let mut env = vec![("RUST_LOG", "warn"), ("REDIS_URL", url), ("SCHEDULE_CLOSE_STALE_ATTENDANCE", "off")];
        if authority.is_some() {
            env.push(("REDIS_CA_FILE", &file));
        }
        let system = system(&dir, 1, &env).await;
        let db = database(&system).await;
        let settings = RedisConfig {
            redis_url: url.to_owned(),
            redis_prefix: "live-sessions".to_owned(),
            redis_ca_file: authority,
        };
        let redis = RedisQueues::open(&settings).expect("right settings");
        let dispatcher = Dispatcher::start(redis.clone());
        let pid = system.workers[0].process().pid();
        Self { system, db, redis, dispatcher, pid, _dir: dir }
    }

    async fn enqueue(&self, jobs: usize) {
        let jobs: Vec<Noop> = (0..jobs).map(|n| Noop { note: n.to_string(), ..Noop::default() }).collect();
        let mut tx = Tx::begin(&self.db, &self.dispatcher).await.expect("a transaction");
        tx.enqueue_all(&jobs).await.expect("written");
        tx.commit().await.expect("committed");
    }

    /// All jobs are done, each once, and the worker is the one that was started.
    async fn all_done(self) {
        eventually("every job to be done", async || count(&self.db, UNDONE).await == 0).await;
        assert_eq!(count(&self.db, AGAIN).await, 0);
        assert_eq!(self.system.workers[0].process().pid(), self.pid, "the worker lives");
        self.system.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_lead_to_the_new_primary_when_the_old_one_dies() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut primary = Server::start(dir.path(), &[]);
    primary.answers().await;
    let replica = Server::start(dir.path(), &["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let linked = async || {
        let info: String = replica.ask(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("master_link_status:up")
    };
    eventually("the replica to follow", linked).await;
    let sentinel = Server::start(dir.path(), &["--sentinel"]);
    sentinel.answers().await;
    let port = primary.port.to_string();
    sentinel.ask::<()>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]).await.expect("it watches");
    for (name, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
        sentinel.ask::<()>(&["SENTINEL", "SET", "main", name, value]).await.expect("it is set");
    }
    let knows = async || {
        let replicas: Vec<redis::Value> = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await.unwrap_or_default();
        !replicas.is_empty()
    };
    eventually("the Sentinel to know the replica", knows).await;

    let elsewhere = Elsewhere::new(&format!("redis+sentinel://{}/main/0", sentinel.address()), None).await;
    elsewhere.enqueue(50).await;
    eventually("some jobs to be done", async || count(&elsewhere.db, UNDONE).await < 50).await;
    primary.child.kill().expect("killed");
    elsewhere.enqueue(200).await;
    let promoted = async || {
        let role: Vec<redis::Value> = replica.ask(&["ROLE"]).await.unwrap_or_default();
        role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))
    };
    eventually("the replica to be promoted", promoted).await;
    elsewhere.enqueue(200).await;
    eventually("the new primary to be used", async || elsewhere.redis.ping().await.is_ok()).await;
    elsewhere.all_done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_spread_over_a_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let nodes: Vec<Server> = (0..3).map(|_| Server::start(dir.path(), &["--cluster-enabled", "yes"])).collect();
    // 16,384 slots over three nodes.
    for (node, range) in nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
        node.answers().await;
        node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", range.0, range.1]).await.expect("slots");
        let (port, bus) =
            (nodes[0].port.to_string(), nodes[0].ask::<Vec<String>>(&["CONFIG", "GET", "cluster-port"]).await);
        let bus = bus.expect("a bus port").pop().expect("a bus port");
        node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.expect("met");
    }
    for node in &nodes {
        let whole = async || {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        eventually("the cluster to be whole", whole).await;
    }
    let elsewhere =
        Elsewhere::new(&format!("redis+cluster://{},{}", nodes[0].address(), nodes[1].address()), None).await;
    elsewhere.enqueue(500).await;
    for queue in Queue::ALL {
        elsewhere.redis.depth(queue).await.expect("every queue is somewhere");
    }
    elsewhere.all_done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_server_whose_authority_is_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (ca_key, ca, key, request, certificate) =
        (path("ca.key"), path("ca.pem"), path("key.pem"), path("request.pem"), path("certificate.pem"));
    let names = path("names");
    std::fs::write(&names, "subjectAltName=IP:127.0.0.1").expect("written");
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(&[&["req", "-x509"], &new_key[..], &["-keyout", &ca_key, "-out", &ca, "-subj", "/CN=test"]].concat());
    openssl(&[&["req"], &new_key[..], &["-keyout", &key, "-out", &request, "-subj", "/CN=redis"]].concat());
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-out",
        &certificate,
        "-days",
        "2",
        "-extfile",
        &names,
    ]);
    let server = Server::start(
        dir.path(),
        &[
            "--port",
            "0",
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ],
    );
    let url = format!("rediss://{}/", server.address());
    let settings = |file| RedisConfig { redis_url: url.clone(), redis_prefix: "test".into(), redis_ca_file: file };
    let known = RedisQueues::open(&settings(Some(ca.clone().into()))).expect("right settings");
    eventually("Redis to answer over TLS", async || known.ping().await.is_ok()).await;
    let stranger = RedisQueues::open(&settings(None)).expect("right settings");
    assert!(stranger.ping().await.is_err(), "an unknown authority is not trusted");
    let elsewhere = Elsewhere::new(&url, Some(ca.into())).await;
    elsewhere.enqueue(100).await;
    elsewhere.all_done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_turns_into_a_replica_is_left_until_it_can_be_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, other) = (Server::start(dir.path(), &[]), Server::start(dir.path(), &[]));
    server.answers().await;
    other.answers().await;
    let elsewhere = Elsewhere::new(&format!("redis://{}/", server.address()), None).await;
    elsewhere.enqueue(20).await;
    eventually("the first jobs", async || count(&elsewhere.db, UNDONE).await == 0).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]).await.expect("it follows");
    elsewhere.enqueue(100).await;
    let refused = elsewhere.redis.push(Queue::Default, &[]).await.and(
        elsewhere
            .redis
            .push(Queue::Default, &[shared::queue::redis::Entry { id: uuid::Uuid::now_v7(), priority: 1 }])
            .await,
    );
    assert!(refused.is_err(), "it takes no writes");
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await.expect("it leads");
    tokio::time::timeout(Duration::from_secs(60), elsewhere.all_done()).await.expect("in time");
}
