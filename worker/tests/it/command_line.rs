//! What operators type.

use serde_json::json;
use shared::queue::control::JobState;

use crate::{
    control::{dead, state},
    support::*,
};

/// The worker's own program, as an operator calls it: exit code, standard output, standard error.
fn command(worker: &TestWorker, arguments: &[&str]) -> (bool, String, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(arguments)
        .args(["--database-url", &worker.state().config.database.database_url, "--by", "ayse"])
        .env_remove("REDIS_URL")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[tokio::test]
async fn the_command_line_does_all_this() {
    let worker = TestWorker::new().await;
    let id = dead(&worker, "").await;
    let id_text = id.to_string();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let (ok, out, error) = command(&worker, &[arguments, &["--output", "json"]].concat());
        assert!(ok, "{arguments:?}: {error}");
        serde_json::from_str(&out).unwrap()
    };
    let (ok, table, _) = command(&worker, &["jobs", "list", "--state", "dead"]);
    assert!(ok && table.starts_with("ID ") && table.contains(&id_text) && table.contains("broken"), "{table}");
    assert_eq!(json(&["jobs", "list", "--state", "dead"])[0]["id"], id_text);
    assert_eq!(json(&["jobs", "show", &id_text])["history"][0]["error"], "broken");
    assert_eq!(json(&["jobs", "retry", &id_text])[0]["state"], "available");
    assert_eq!(json(&["jobs", "cancel", &id_text])[0]["state"], "cancelled");
    let (ok, _, error) = command(&worker, &["jobs", "discard", &id_text]);
    assert!(!ok && error.contains("is cancelled: it cannot be discarded"), "{error}");

    let enqueued = json(&["jobs", "enqueue", "noop", r#"{"note": "by hand"}"#]);
    assert_eq!(
        (&enqueued["created"], json(&["queues", "pause", "default"])[0]["due"].as_i64()),
        (&json!(true), Some(1))
    );
    let (_, table, _) = command(&worker, &["queues", "list"]);
    assert!(table.contains("by ayse"), "{table}");
    assert_eq!(json(&["queues", "resume", "default"])[0]["paused_at"], json!(null));
    for (wrong, why) in [
        (["jobs", "enqueue", "rm-rf"].as_slice(), "no job is named \"rm-rf\"; there are auto-end-sessions, "),
        (&["jobs", "enqueue", "noop", r#"{"nte": 1}"#], "there is no field `nte`"),
        (&["jobs", "enqueue", "noop", "{"], "the payload is no JSON"),
        (&["schedules", "run", "noop"], "no schedule is named \"noop\""),
        (&["queues", "pause", "mail"], "there are default, live, notifications"),
    ] {
        let (ok, out, error) = command(&worker, wrong);
        assert!(!ok && out.is_empty() && error.contains(why), "{wrong:?}: {error}");
    }
    assert_eq!(worker.get::<i64>("select count(*) from jobs").await, 2);
    let (dead_again, _) = (dead(&worker, "1").await, dead(&worker, "2").await);
    assert_eq!(json(&["jobs", "retry", "--all-dead", "--kind", "noop"]), json!({ "retried": 2, "skipped": 0 }));
    assert_eq!(state(worker.db(), dead_again).await, JobState::Available);
}

#[tokio::test]
async fn a_tenant_is_made_once_and_on_record() {
    let worker = TestWorker::new().await;
    let add = ["tenants", "add", "new-school", "--name", "New School", "--locale", "en", "--timezone", "Europe/London"];
    let (ok, out, error) = command(&worker, &add);
    assert!(ok && out.starts_with("new-school is made, with the id "), "{out}{error}");
    let (ok, _, error) = command(&worker, &add);
    assert!(!ok && error.contains("there is a tenant \"new-school\" already"), "{error}");
    let (_, table, _) = command(&worker, &["tenants", "list"]);
    assert!(table.contains("new-school") && table.contains("Europe/London"), "{table}");
    for wrong in [["New", "x", "UTC"], ["-a", "x", "UTC"], ["a", " ", "UTC"], ["a", "x", "Mars/Base"]] {
        let (ok, _, error) =
            command(&worker, &["tenants", "add", "--name", wrong[1], "--timezone", wrong[2], "--", wrong[0]]);
        assert!(!ok && !error.is_empty(), "{wrong:?}");
    }
    let told = "select actor from audit_log where action = 'tenant.created' and changes -> 'slug' ->> 1 = 'new-school'";
    assert_eq!(worker.get::<String>(told).await, "operator:ayse");
}
