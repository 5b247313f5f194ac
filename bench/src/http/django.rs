//! The peer: a minimal Django REST behind gunicorn, on the same Postgres and Redis (`bench/peers/django_peer.py`).

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::process::Signal;
use sandbox::{ports::free_port, process::Process};

use super::{CONNECTIONS, Row, TOKEN_SECRET, WEBHOOK_SECRET, load::request, repeat, token};
use crate::{Arguments, install, meter::Roles, rig::Rig};

const DATABASE: &str = "django";
const READY_WITHIN: Duration = Duration::from_secs(60);
const CLASSES: usize = 50;
const PEOPLE: usize = 5_000;

/// Its versions, and what was measured.
pub async fn measure(arguments: &Arguments, rig: &Rig, dir: &Path) -> anyhow::Result<(String, Vec<Row>)> {
    let versions = install::django(dir)?;
    println!("Django");
    let sessions = if arguments.is_quick() { 10_000 } else { 100_000 };
    rig.postgres.create_database(DATABASE).await?;
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let port = free_port()?;
    let set = |mut command: Command| {
        command
            .current_dir(&peers)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEER_DATABASE", rig.postgres.url(DATABASE))
            .env("PEER_REDIS", rig.redis.url())
            .env("PEER_SECRET", TOKEN_SECRET)
            .env("PEER_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .env("PEER_SESSIONS", sessions.to_string());
        command
    };
    let mut seed = set(Command::new(dir.join("django/bin/python")));
    install::run(seed.args(["django_peer.py", "seed"]))?;
    let mut serve = Command::new(dir.join("django/bin/gunicorn"));
    serve.args([
        "--workers",
        "4",
        "--log-level",
        "warning",
        "--bind",
        &format!("127.0.0.1:{port}"),
        "django_peer:application",
    ]);
    let process = Process::spawn("django", set(serve), Signal::KILL, Box::new(|_| {}))?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + READY_WITHIN;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(Instant::now() < deadline, "gunicorn does not start: {}", process.last_lines());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let roles: Roles = vec![("own", process.pid()), ("postgres", rig.postgres_pid()), ("redis", rig.redis_pid())];
    let mut rows = Vec::new();
    for (name, requests) in scenarios() {
        println!("  {name}");
        let connections = if name.starts_with("report") { 4 } else { CONNECTIONS };
        let runs = repeat(arguments, (address, &roles), &Arc::new(requests), connections).await?;
        rows.push(Row::of("Django REST, gunicorn 4 sync workers", name, &runs));
    }
    process.terminate(Signal::TERM, Duration::from_secs(10)).await;
    Ok((versions, rows))
}

fn scenarios() -> [(&'static str, Vec<Vec<u8>>); 5] {
    let of_people = |what: &str| -> Vec<Vec<u8>> {
        let one = |n: usize| {
            let token = token("school", &format!("p{n}"), "student");
            request(&format!("POST /sessions/{}/{what}/", n % CLASSES + 1), &token, "", "")
        };
        (0..PEOPLE).map(one).collect()
    };
    let admin = token("school", "admin", "admin");
    let webhook = |n: usize| {
        let body = format!(r#"{{"id": "peer-{n}", "event_name": "muc-occupant-joined", "room_name": "class-1"}}"#);
        let now = shared::clock::Clock::System.now();
        let headers = shared::providers::sign_standard(WEBHOOK_SECRET, &format!("peer-{n}"), now, body.as_bytes());
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        request("POST /webhooks/", "", &format!("Content-Type: application/json\r\n{headers}"), &body)
    };
    [
        ("heartbeat", of_people("heartbeat")),
        ("join", of_people("join")),
        ("webhook, stored and queued", (0..60_000).map(webhook).collect()),
        ("list of 20 sessions, of the large tenant", vec![request("GET /sessions/", &admin, "", "")]),
        ("report of 5,000 people, json", vec![request("GET /sessions/1/attendance/", &admin, "", "")]),
    ]
}
