//! Postgres, Redis and child processes: started, used, killed, started again.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::postgres::{Durability, Postgres};
use sandbox::process::Process;
use sandbox::redis::{Persistence, Redis};
use sandbox::testing::{servers, unique_prefix};
use sqlx::{Connection, PgConnection};

/// Set in the copy of this test program that is to be killed; names the file for its children's numbers.
const VICTIM: &str = "SANDBOX_TEST_VICTIM";

async fn number_in(url: &str, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let number = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    number
}

async fn run_in(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn is_running(pid: u32) -> bool {
    // A zombie has ended; its number is still listed until it is reaped.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

async fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_over_kill_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    make_traversable(&dir);
    let postgres = Postgres::start(&dir.path().join("postgres"), None, Durability::Durable).await.unwrap();
    postgres.create_database("school").await.unwrap();
    postgres.create_database("school").await.unwrap();
    let url = postgres.url("school");
    run_in(&url, "create table lesson (id bigint); insert into lesson values (42)").await;

    postgres.kill9().await;
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(number_in(&url, "select id from lesson").await, 42);

    postgres.stop_immediate().await;
    postgres.restart().await.unwrap();
    assert_eq!(number_in(&url, "select count(*) from lesson").await, 1);
}

#[tokio::test]
async fn postgres_has_the_promised_settings() {
    let url = servers().await.postgres.url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for (name, value) in [
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("max_connections", "300"),
        ("listen_addresses", "127.0.0.1"),
        ("fsync", "off"),
    ] {
        let seen: String =
            sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&mut connection).await.unwrap();
        assert_eq!(seen, value, "{name}");
    }
    let wrong_password = url.replacen("//postgres:", "//postgres:x", 1);
    assert!(PgConnection::connect(&wrong_password).await.is_err(), "{wrong_password}");
}

#[tokio::test]
async fn postgres_starts_again_in_its_directory_after_the_former_one_was_not_stopped() {
    let dir = tempfile::tempdir().unwrap();
    make_traversable(&dir);
    let place = dir.path().join("postgres");
    let first = Postgres::start(&place, None, Durability::Fast).await.unwrap();
    run_in(&first.url("postgres"), "create table lesson as select 7::bigint as id").await;
    let former_pid = first.pid().unwrap();

    // The former one still runs: a second start in the same directory ends it first.
    let second = Postgres::start(&place, None, Durability::Fast).await.unwrap();
    assert!(!is_running(former_pid));
    assert_eq!(number_in(&second.url("postgres"), "select id from lesson").await, 7);

    // A pid file whose number has gone to a stranger (here: to this test) does not block the start.
    second.kill9().await;
    let pid_file = second.data_directory().join("postmaster.pid");
    let stale = std::fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = stale.split_once('\n').unwrap();
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let third = Postgres::start(&place, None, Durability::Fast).await.unwrap();
    assert_eq!(number_in(&third.url("postgres"), "select id from lesson").await, 7);
}

#[tokio::test]
async fn each_database_of_a_test_is_migrated_and_its_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("1_lesson.sql"), "create table lesson (id bigint);").unwrap();
    let migrator = sqlx::migrate::Migrator::new(dir.path()).await.unwrap();
    let servers = servers().await;
    let (one, other) = tokio::join!(servers.database(&migrator), servers.database(&migrator));
    assert_ne!(one, other);
    run_in(&one, "insert into lesson values (1)").await;
    assert_eq!(number_in(&one, "select count(*) from lesson").await, 1);
    assert_eq!(number_in(&other, "select count(*) from lesson").await, 0);
}

#[tokio::test]
async fn redis_with_a_file_keeps_its_keys_over_kill_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Redis::start(dir.path(), None, Persistence::AppendOnly).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = redis::cmd("SET").arg("key").arg("value").query_async(&mut connection).await.unwrap();

    server.kill9().await;
    assert!(client.get_multiplexed_async_connection().await.is_err());
    server.restart().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let value: String = redis::cmd("GET").arg("key").query_async(&mut connection).await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn redis_knows_bzmpop_and_refuses_to_evict() {
    let client = redis::Client::open(servers().await.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = unique_prefix();
    let _: i64 = redis::cmd("ZADD").arg(&key).arg(1).arg("job").query_async(&mut connection).await.unwrap();
    let popped: (String, Vec<(String, f64)>) =
        redis::cmd("BZMPOP").arg(1).arg(1).arg(&key).arg("MIN").query_async(&mut connection).await.unwrap();
    assert_eq!(popped, (key, vec![("job".to_owned(), 1.0)]));
    let policy: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut connection).await.unwrap();
    assert_eq!(policy[1], "noeviction");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let error = Redis::start(dir.path(), Some(port), Persistence::None).await.unwrap_err();
    assert!(format!("{error:#}").contains(&port.to_string()), "{error:#}");
    let error = sandbox::recording_host::RecordingHost::start(Some(port)).await.unwrap_err();
    assert!(format!("{error:#}").contains(&port.to_string()), "{error:#}");
}

#[tokio::test]
async fn a_child_hands_over_its_lines_and_ends_when_asked() {
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo stopping; exit 3' TERM; echo started; while :; do sleep 0.05; done"]);
    let on_line = Box::new(move |line: &str| drop(sender.send(line.to_owned())));
    let child = Process::spawn("shell", command, rustix::process::Signal::KILL, on_line).unwrap();
    assert_eq!(lines.recv().await.unwrap(), "started");
    let status = child.terminate(rustix::process::Signal::TERM, Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(3));
    assert_eq!(lines.recv().await.unwrap(), "stopping");
}

#[tokio::test]
async fn a_child_that_does_not_listen_is_killed_after_its_grace() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let on_line = Box::new(move |line: &str| drop(sender.send(line.to_owned())));
    let child = Process::spawn("shell", command, rustix::process::Signal::KILL, on_line).unwrap();
    assert_eq!(lines.recv().await.unwrap(), "ready");
    let status = child.terminate(rustix::process::Signal::TERM, Duration::from_millis(100)).await;
    assert_eq!(status.code(), None);
}

/// Run by `children_end_with_a_parent_that_is_killed` in a program of its own.
#[tokio::test]
async fn victim_of_a_kill() {
    let Some(file) = std::env::var_os(VICTIM) else { return };
    let servers = servers().await;
    let pids = format!("{} {}", servers.postgres.pid().unwrap(), servers.redis.pid().unwrap());
    let unfinished = PathBuf::from(&file).with_extension("new");
    std::fs::write(&unfinished, pids).unwrap();
    std::fs::rename(unfinished, file).unwrap();
    std::future::pending::<()>().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn children_end_with_a_parent_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::victim_of_a_kill"])
        .env(VICTIM, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the victim has started its servers", Duration::from_secs(60), || file.exists()).await;
    let pids: Vec<u32> = std::fs::read_to_string(&file).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_running(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the children have ended", Duration::from_secs(10), || !pids.iter().any(|pid| is_running(*pid))).await;
}

/// Run as root, Postgres runs under another user, who has to be able to enter.
fn make_traversable(dir: &tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test]
async fn postgres_finds_a_place_when_its_user_cannot_enter_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    // Only its owner may enter; for a normal user that is no obstacle, for root's Postgres it is.
    let place = dir.path().join("postgres");
    let postgres = Postgres::start(&place, None, Durability::Fast).await.unwrap();
    run_in(&postgres.url("postgres"), "create table lesson as select 5::bigint as id").await;
    drop(postgres);
    let again = Postgres::start(&place, None, Durability::Fast).await.unwrap();
    assert_eq!(number_in(&again.url("postgres"), "select id from lesson").await, 5);
    let elsewhere = std::fs::read_link(&place);
    drop(again);
    if let Ok(elsewhere) = elsewhere {
        std::fs::remove_dir_all(elsewhere).unwrap();
    }
}
