//! `deploy/jibri/finalize.sh` as Jibri calls it, with a recording that is made here: Jibri itself needs a sound card, Chrome and a
//! meeting. Everything else is real.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use sandbox::{people::INSTRUCTOR, random_bytes, recording_host::sha256_of, system::System};
use serde_json::{Value, json};

use crate::support::{call, count, database, eventually, post, system};

const PART: u64 = 16 * 1024 * 1024;

/// What Jibri leaves behind.
pub fn recorded(below: &Path, room: &str, bytes: u64, seed: u64) -> PathBuf {
    let dir = below.join(format!("session_{seed}"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut film = vec![0; usize::try_from(bytes).unwrap()];
    random_bytes::fill(seed, 0, &mut film);
    std::fs::write(dir.join(format!("{room}_2026-11-26-10-31-07.mp4")), film).unwrap();
    let metadata = json!({
        "meeting_url": format!("https://meet.demo.example/{room}?x=1"), "participants": [], "share": true,
        "upload_credentials": {"token": "not ours"},
    });
    std::fs::write(dir.join("metadata.json"), serde_json::to_vec_pretty(&metadata).unwrap()).unwrap();
    dir
}

pub fn script(system: &System, arguments: &[&str], more: &[(&str, &str)]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/jibri/finalize.sh");
    let mut command = Command::new(script);
    command
        .args(arguments)
        .env("LIVE_SESSIONS_URL", format!("{}/api/v1/live-sessions/webhooks/jitsi/", system.var("API_URL")))
        .env("LIVE_SESSIONS_SECRET", system.var("JITSI_WEBHOOK_SECRET"))
        .env("LIVE_SESSIONS_CONFIG", "/nowhere")
        .env("LIVE_SESSIONS_PATIENCE", "60")
        .envs(more.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn class(system: &System) -> (String, String) {
    let body = json!({"kind": "instant", "title": "Jibri", "access": "tenant", "recording_enabled": true});
    let session = post(system, &INSTRUCTOR, "sessions/", &body).await;
    (session["id"].as_str().unwrap().to_owned(), session["room"].as_str().unwrap().to_owned())
}

async fn recordings(system: &System, session: &str) -> Vec<Value> {
    let list = call(system, &INSTRUCTOR, Method::GET, &format!("sessions/{session}/recordings/"), None).await;
    list["results"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_handed_over_also_when_the_script_is_killed_and_called_again() {
    let dir = tempfile::tempdir().unwrap();
    let system = system(&dir, 1, &[("RUST_LOG", "warn")]).await;
    let (session, room) = class(&system).await;
    let bytes = 3 * PART + 12_345;
    let film = recorded(dir.path(), &room, bytes, 5);
    let place = film.to_str().unwrap();

    // Killed while it sends the third part.
    let slow = [("LIVE_SESSIONS_LIMIT_RATE", "8M")];
    let mut first = script(&system, &[place], &slow).spawn().unwrap();
    eventually("two parts to be there", async || system.s3.unfinished_parts() >= 2).await;
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(film.join("metadata.json").exists(), "nothing is deleted before it is safe");
    let before = recordings(&system, &session).await;
    assert_eq!(
        (before.len(), &before[0]["state"], &before[0]["announced_bytes"]),
        (1, &json!("expected"), &json!(bytes))
    );

    let second = run(script(&system, &[place], &[])).await;
    assert!(second.status.success(), "{}", told(&second));
    let after = recordings(&system, &session).await;
    assert_eq!((after.len(), &after[0]["state"], &after[0]["size_bytes"]), (1, &json!("published"), &json!(bytes)));
    assert_eq!(after[0]["sha256"], sha256_of(bytes, 5));
    assert_eq!(after[0]["id"], before[0]["id"]);
    assert!(after[0]["file_name"].as_str().unwrap().ends_with("_2026-11-26-10-31-07.mp4"));
    assert!(!film.exists(), "it is deleted where it was recorded");
    assert_eq!(system.s3.objects("recordings").len(), 1);

    // Once more, from a copy: known already.
    let again = recorded(dir.path(), &room, bytes, 5);
    let third = run(script(&system, &["--all", dir.path().to_str().unwrap()], &[])).await;
    assert!(
        third.status.success() && again.exists(),
        "what Jibri may still be writing is left alone: {}",
        told(&third)
    );
    let fourth = run(script(&system, &[again.to_str().unwrap()], &[])).await;
    assert!(fourth.status.success() && !again.exists(), "{}", told(&fourth));
    assert_eq!(recordings(&system, &session).await.len(), 1);
    assert_eq!(count(&database(&system).await, "select count(*) from jobs where state = 'dead'").await, 0);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_stays_where_it_is_and_the_log_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let system = system(&dir, 1, &[("RUST_LOG", "warn")]).await;
    let (session, room) = class(&system).await;
    let film = recorded(dir.path(), &room, 1_000, 6);
    let place = film.to_str().unwrap();
    let wrong = run(script(&system, &[place], &[("LIVE_SESSIONS_SECRET", "another secret")])).await;
    assert!(!wrong.status.success() && told(&wrong).contains("is refused (401)"), "{}", told(&wrong));
    let elsewhere = recorded(dir.path(), "a-room-of-nobody", 1_000, 7);
    let unknown = run(script(&system, &[elsewhere.to_str().unwrap()], &[])).await;
    assert!(!unknown.status.success() && told(&unknown).contains("is refused (404)"), "{}", told(&unknown));
    assert!(film.join("metadata.json").exists() && elsewhere.join("metadata.json").exists());
    assert_eq!(recordings(&system, &session).await, Vec::<Value>::new());

    // Without metadata the name of the file tells the room; the secret may be in a file, and a long one.
    std::fs::remove_file(film.join("metadata.json")).unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, format!("{}\n", system.var("JITSI_WEBHOOK_SECRET"))).unwrap();
    let by_file = [("LIVE_SESSIONS_SECRET_FILE", file.to_str().unwrap()), ("LIVE_SESSIONS_KEEP", "yes")];
    let done = run(script(&system, &[place], &by_file)).await;
    assert!(done.status.success() && film.exists(), "{}", told(&done));
    assert_eq!(recordings(&system, &session).await[0]["state"], "published");
    for (arguments, needs) in [(&["--help"][..], "finalize-script"), (&["/nowhere"], "is no directory")] {
        let output = run(script(&system, arguments, &[])).await;
        let all = String::from_utf8_lossy(&output.stdout).into_owned() + &told(&output);
        assert!(all.contains(needs), "{all}");
    }
    system.stop().await;
}
