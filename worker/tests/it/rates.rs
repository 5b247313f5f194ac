//! Rates over all workers: turns that are given out once, by the database's clock.

use std::time::Duration;

use shared::{
    jobs::Noop,
    queue::{ledger::Lease, rates::take_turns},
};

use crate::support::TestWorker;

const INTERVAL: Duration = Duration::from_secs(10);

impl TestWorker {
    async fn claimed(&self, jobs: usize) -> Vec<Lease> {
        let mut leases = Vec::new();
        for n in 0..jobs {
            let id = self.enqueue(&Noop { note: n.to_string(), ..Noop::default() }).await;
            leases.push(self.claim(id).await.lease());
        }
        leases
    }
}

#[tokio::test]
async fn turns_are_an_interval_apart_and_put_off_without_an_attempt() {
    let worker = TestWorker::new().await;
    let leases = worker.claimed(3).await;
    let now = take_turns(worker.db(), "noop", INTERVAL, &leases).await.unwrap();
    assert_eq!(now.into_iter().collect::<Vec<_>>(), [leases[0].id], "the first starts");
    for (place, lease) in leases.iter().enumerate().skip(1) {
        let job = worker.job(lease.id).await;
        assert_eq!((job.state.as_str(), job.attempt), ("available", 0));
        let wait = job.wait_seconds;
        let turn = 10.0 * place as f64;
        assert!((turn - 3.0..=turn).contains(&wait), "{place}: {wait}");
    }
    let more = worker.claimed(1).await;
    assert!(take_turns(worker.db(), "noop", INTERVAL, &more).await.unwrap().is_empty());
    assert!((27.0..=30.0).contains(&worker.job(more[0].id).await.wait_seconds), "behind the others");
    let other = worker.claimed(1).await;
    assert_eq!(take_turns(worker.db(), "mails", INTERVAL, &other).await.unwrap().len(), 1, "another rate");
}

#[tokio::test]
async fn a_job_that_waited_for_its_turn_takes_no_other_until_it_failed() {
    let worker = TestWorker::new().await;
    let leases = worker.claimed(2).await;
    take_turns(worker.db(), "noop", INTERVAL, &leases).await.unwrap();
    worker.set("jobs", leases[1].id.0, "run_at = now()").await;
    assert!(worker.claim(leases[1].id).await.has_turn);
    worker.set("jobs", leases[1].id.0, "state = 'available'").await;
    assert!(!worker.claim(leases[1].id).await.has_turn, "the turn was taken");
}

#[tokio::test]
async fn a_turn_is_given_to_one_job_however_many_ask_at_once() {
    let worker = TestWorker::new().await;
    let leases = worker.claimed(20).await;
    let mut asking = tokio::task::JoinSet::new();
    for lease in leases {
        let db = worker.db().clone();
        asking.spawn(async move { take_turns(&db, "noop", INTERVAL, &[lease]).await.unwrap().len() });
    }
    assert_eq!(asking.join_all().await.into_iter().sum::<usize>(), 1);
    let turns: i64 = worker
        .get("select count(distinct round(extract(epoch from turn_at - (select min(turn_at) from jobs)) / 10)) from jobs")
        .await;
    assert_eq!(turns, 19);
}

#[tokio::test]
async fn a_cancelled_job_does_not_wait_for_its_turn_and_a_lost_lease_changes_nothing() {
    let worker = TestWorker::new().await;
    let leases = worker.claimed(3).await;
    worker.set("jobs", leases[1].id.0, "cancel_requested = true").await;
    worker.set("jobs", leases[2].id.0, "lease_token = lease_token + 1").await;
    take_turns(worker.db(), "noop", INTERVAL, &leases).await.unwrap();
    assert_eq!(worker.job(leases[1].id).await.state, "cancelled");
    assert_eq!(worker.job(leases[2].id).await.state, "running");
}
