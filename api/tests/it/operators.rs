use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{db::schedules, queue::ledger};

use crate::support::*;

const NOBODY: &str = "019abcde-0000-7000-8000-000000000000";

fn operator(app: &TestApp) -> Client<'_> {
    app.somebody("other", "op-1", &["operator"])
}

/// Enqueues `count` jobs that do nothing; their ids, oldest first.
async fn noops(app: &TestApp, count: usize, columns: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = uuid::Uuid::now_v7();
        sqlx::query(
            "insert into jobs (id, queue, kind, payload, max_attempts) values ($1, 'default', 'noop', '{}', 10)",
        )
        .bind(id)
        .execute(&app.pool)
        .await
        .unwrap();
        ids.push(id.to_string());
    }
    app.sql(&format!("update jobs set {columns} where id = any('{{{}}}')", ids.join(","))).await;
    ids
}

#[tokio::test]
async fn only_operators_get_at_the_ledger() {
    let app = TestApp::start().await;
    let id = &noops(&app, 1, "priority = 2").await[0];
    let operations = [
        (Method::GET, "/jobs/".to_owned()),
        (Method::GET, format!("/jobs/{id}/")),
        (Method::GET, format!("/jobs/{NOBODY}/")),
        (Method::POST, format!("/jobs/{id}/retry/")),
        (Method::POST, format!("/jobs/{id}/cancel/")),
        (Method::POST, format!("/jobs/{id}/discard/")),
        (Method::POST, "/jobs/retry-dead/".to_owned()),
        (Method::GET, "/queues/".to_owned()),
        (Method::POST, "/queues/default/pause/".to_owned()),
        (Method::POST, "/queues/default/resume/".to_owned()),
        (Method::POST, "/queues/nothing/pause/".to_owned()),
        (Method::GET, "/schedules/".to_owned()),
        (Method::POST, "/schedules/cleanup/run/".to_owned()),
    ];
    for (method, to) in operations {
        for client in [app.admin(), app.service(), app.teacher(), app.student("s1")] {
            answer(client.request(method.clone(), &to)).await.problem(403, "forbidden");
        }
        answer(app.anonymous().request(method, &to)).await.problem(401, "unauthorized");
    }
    let after: (String, i64) = sqlx::query_as("select state, (select count(*) from queue_states) from jobs")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(after, ("available".to_owned(), 0));
}

#[tokio::test]
async fn jobs_are_filtered_and_paged_forth_and_back() {
    let app = TestApp::start().await;
    let op = operator(&app);
    let dead = noops(&app, 5, "state = 'dead', finished_at = now(), errors = '[{\"error\": \"broken\"}]'").await;
    let waiting = noops(&app, 3, "priority = 2").await;
    let ids = |page: &Value| -> Vec<String> {
        page["results"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first = |ids: &[String]| ids.iter().rev().cloned().collect::<Vec<_>>();
    let follow = async |page: &Value, link: &str| {
        let to = page[link].as_str().unwrap();
        op.get(to.split_once(BASE).unwrap().1).await.expect(StatusCode::OK)
    };
    let first = op.get("/jobs/?state=dead&page_size=2&kind=noop&queue=default").await.expect(StatusCode::OK);
    assert_eq!((ids(&first), &first["previous"]), (newest_first(&dead[3..]), &Value::Null));
    assert_eq!((&first["results"][0]["last_error"], &first["results"][0]["state"]), (&json!("broken"), &json!("dead")));
    let second = follow(&first, "next").await;
    let third = follow(&second, "next").await;
    assert_eq!((ids(&second), ids(&third)), (newest_first(&dead[1..3]), vec![dead[0].clone()]));
    assert_eq!(third["next"], Value::Null);
    let back = follow(&follow(&third, "previous").await, "previous").await;
    assert_eq!(ids(&back), newest_first(&dead[3..]));

    assert_eq!(ids(&op.get("/jobs/?state=available").await.json()), newest_first(&waiting));
    assert_eq!(ids(&op.get("/jobs/").await.json()).len(), 8);
    for nothing in ["queue=live", "kind=cleanup", "state=running", "created_before=2020-01-01T00:00:00Z"] {
        assert_eq!(op.get(&format!("/jobs/?{nothing}")).await.json()["results"], json!([]), "{nothing}");
    }
    assert_eq!(op.get(&format!("/jobs/?tenant_id={NOBODY}")).await.json()["results"], json!([]));
    for wrong in ["queue=mail", "state=gone", "tenant_id=x", "page_size=201", "cursor=x", "limit=3", "created_after=x"]
    {
        op.get(&format!("/jobs/?{wrong}")).await.problem(400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_search_that_finds_nothing_near_can_go_on() {
    let app = TestApp::start().await;
    let old = noops(&app, 1, "kind = 'cleanup'").await;
    let ids: Vec<uuid::Uuid> = (0..20_001).map(|_| uuid::Uuid::now_v7()).collect();
    sqlx::query(
        "insert into jobs (id, queue, kind, payload, max_attempts, state, finished_at) \
         select id, 'default', 'noop', '{}', 10, 'done', now() from unnest($1::uuid[]) as new (id)",
    )
    .bind(ids)
    .execute(&app.pool)
    .await
    .unwrap();
    let op = operator(&app);
    let first = op.get("/jobs/?kind=cleanup").await.expect(StatusCode::OK);
    assert_eq!(first["results"], json!([]));
    let next = first["next"].as_str().unwrap().split_once(BASE).unwrap().1;
    let second = op.get(next).await.expect(StatusCode::OK);
    assert_eq!((&second["results"][0]["id"], &second["next"]), (&json!(old[0]), &Value::Null));
}

#[tokio::test]
async fn a_job_is_shown_retried_cancelled_discarded() {
    let app = TestApp::start().await;
    let op = operator(&app);
    let ids = noops(&app, 2, "state = 'dead', attempt = 10, finished_at = now()").await;
    let (first, second) = (&ids[0], &ids[1]);
    let shown = op.get(&format!("/jobs/{first}/")).await.expect(StatusCode::OK);
    assert_eq!((&shown["state"], &shown["attempt"], &shown["history"]), (&json!("dead"), &json!(10), &json!([])));
    op.call(&format!("/jobs/{first}/cancel/")).await.problem(409, "illegal-job-state");

    let retried = op.call(&format!("/jobs/{first}/retry/")).await.expect(StatusCode::OK);
    assert_eq!((&retried["state"], &retried["attempt"]), (&json!("available"), &json!(0)));
    assert_eq!(retried["history"][0]["note"], "tried again by op-1");
    let (due, lease) = ([first.parse().unwrap()], std::time::Duration::from_secs(9));
    assert_eq!(ledger::claim(&app.pool, &due, &["noop"], "w", lease).await.unwrap().len(), 1);
    op.call(&format!("/jobs/{first}/retry/")).await.problem(409, "illegal-job-state");
    let ending = op.call(&format!("/jobs/{first}/cancel/")).await.expect(StatusCode::ACCEPTED);
    assert_eq!((&ending["state"], &ending["cancel_requested"]), (&json!("running"), &json!(true)));

    let discarded = op.call(&format!("/jobs/{second}/discard/")).await.expect(StatusCode::OK);
    assert_eq!(
        (&discarded["state"], &discarded["history"][0]["note"]),
        (&json!("cancelled"), &json!("discarded by op-1"))
    );
    op.call(&format!("/jobs/{second}/discard/")).await.problem(409, "illegal-job-state");
    let waiting = &noops(&app, 1, "priority = 2").await[0];
    let cancelled = op.call(&format!("/jobs/{waiting}/cancel/")).await.expect(StatusCode::OK);
    assert_eq!(cancelled["state"], "cancelled");

    app.sql("update jobs set unique_key = 'k', state = 'cancelled'").await;
    op.call(&format!("/jobs/{first}/retry/")).await.expect(StatusCode::OK);
    let duplicate = op.call(&format!("/jobs/{second}/retry/")).await.problem(409, "duplicate-job");
    assert!(duplicate["detail"].as_str().unwrap().contains(first.as_str()), "{duplicate}");
    for to in ["", "retry/", "cancel/", "discard/"] {
        let method = if to.is_empty() { Method::GET } else { Method::POST };
        answer(op.request(method, &format!("/jobs/{NOBODY}/{to}"))).await.problem(404, "not-found");
    }
}

#[tokio::test]
async fn dead_letters_are_retried_together() {
    let app = TestApp::start().await;
    let op = operator(&app);
    noops(&app, 3, "state = 'dead', finished_at = now()").await;
    noops(&app, 2, "state = 'dead', kind = 'cleanup', unique_key = ''").await;
    let to = "/jobs/retry-dead/";
    let none = op.post(to, &json!({"queue": "live"})).await.expect(StatusCode::OK);
    assert_eq!(none, json!({"retried": 0, "skipped": 0, "next": null}));
    let noops = op.post(to, &json!({"kind": "noop"})).await.expect(StatusCode::OK);
    assert_eq!(noops, json!({"retried": 3, "skipped": 0, "next": null}));
    op.call(to).await.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let rest = op.post(to, &json!({})).await.expect(StatusCode::OK);
    assert_eq!(rest, json!({"retried": 1, "skipped": 1, "next": null}), "one of two that do the same");
    assert_eq!(op.post(to, &json!({"queue": "mail"})).await.pointers(), ["/queue"]);
    assert_eq!(op.post(to, &json!({"kinds": "noop"})).await.pointers(), ["/kinds"]);
}

#[tokio::test]
async fn queues_are_paused_and_resumed() {
    let app = TestApp::start().await;
    let op = operator(&app);
    noops(&app, 2, "priority = 2").await;
    noops(&app, 1, "run_at = now() + interval '1 hour'").await;
    let paused = op.call("/queues/default/pause/").await.expect(StatusCode::OK);
    assert_eq!((&paused["paused"], &paused["paused_by"]), (&json!(true), &json!("op-1")));
    let list = op.get("/queues/").await.expect(StatusCode::OK);
    let names: Vec<_> = list["results"].as_array().unwrap().iter().map(|q| q["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "live", "notifications"]);
    assert_eq!((&list["results"][0]["due"], &list["results"][0]["scheduled"]), (&json!(2), &json!(1)));
    assert_eq!((&list["results"][0]["at_least"], &list["results"][1]["paused"]), (&json!([]), &json!(false)));
    let resumed = op.call("/queues/default/resume/").await.expect(StatusCode::OK);
    assert_eq!((&resumed["paused"], &resumed["paused_by"]), (&json!(false), &Value::Null));
    op.call("/queues/mail/pause/").await.problem(404, "not-found");
}

#[tokio::test]
async fn schedules_are_listed_and_run_by_hand() {
    let app = TestApp::start().await;
    let op = operator(&app);
    assert_eq!(op.get("/schedules/").await.expect(StatusCode::OK), json!({"results": []}));
    let known = schedules::Known {
        name: "cleanup",
        cron: "0 3 * * *".into(),
        zone: "Europe/Istanbul",
        enabled: true,
        next_run: Some("2030-01-01T00:00:00Z".parse().unwrap()),
    };
    schedules::write(&app.pool, &[known]).await.unwrap();
    let ran = op.call("/schedules/cleanup/run/").await.expect(StatusCode::ACCEPTED);
    assert_eq!(ran["created"], true);
    let again = op.call("/schedules/cleanup/run/").await.expect(StatusCode::ACCEPTED);
    assert_eq!((&again["created"], &again["job_id"]), (&json!(false), &ran["job_id"]));
    let shown = op.get("/schedules/").await.json()["results"][0].clone();
    assert_eq!((&shown["next_run"], &shown["asked_by"]), (&json!("2030-01-01T00:00:00Z"), &json!("op-1")));
    assert_eq!((&shown["asked_job"], &shown["last_tick"]), (&ran["job_id"], &Value::Null));
    for unknown in ["noop", "nothing", "%00"] {
        op.call(&format!("/schedules/{unknown}/run/")).await.problem(404, "not-found");
    }
}
