//! Tells when our own Redis backend can go: shows, on a private Redis, the fault of apalis-redis 1.0.0
//! that weighs most (docs/adr/0001): a backlog of 8,000 due jobs stops the queue for ever. When this
//! test fails, look at that decision again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use apalis::prelude::{Data, TaskSink, WorkerBuilder};
use apalis_redis::{Config, RedisStorage};

/// Runs a worker until `jobs` were done or it ended by itself; how many were done.
async fn drain(jobs: u32) -> (usize, bool) {
    let servers = sandbox::testing::servers().await;
    let connection = apalis_redis::connect(servers.redis.url()).await.expect("Redis answers");
    let config = Config::default().queue(sandbox::testing::unique_prefix()).lock_tasks(false).batch_size(100);
    let mut storage = RedisStorage::<u32, _>::new(connection).with_config(config);
    let numbers: Vec<u32> = (0..jobs).collect();
    for chunk in numbers.chunks(500) {
        storage.push_bulk(chunk.to_vec()).await.expect("the push works");
    }
    let done = Arc::new(AtomicUsize::new(0));
    let worker = WorkerBuilder::new(sandbox::testing::unique_prefix()).backend(storage).data(done.clone()).build(
        async |_: u32, done: Data<Arc<AtomicUsize>>| {
            done.fetch_add(1, Ordering::Relaxed);
        },
    );
    let all_done = async {
        while done.load(Ordering::Relaxed) < jobs as usize {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended_by_itself = tokio::select! {
        result = worker.run() => { assert!(result.is_err(), "{result:?}"); true }
        () = all_done => false,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("neither done nor ended"),
    };
    (done.load(Ordering::Relaxed), ended_by_itself)
}

#[tokio::test]
async fn shipped_storage_jams_at_eight_thousand_due_jobs() {
    // Its worker looks for jobs as soon as it starts; later only with its 30 s timer.
    assert_eq!(drain(100).await, (100, false), "a short queue drains: the test itself is right");
    assert_eq!(drain(8_100).await, (0, true), "apalis-redis got better: read docs/adr/0001 again");
}
