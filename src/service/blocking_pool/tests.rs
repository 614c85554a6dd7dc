//! Tests of the queue: its bounds, and its fairness between sources.

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

fn job(source: u8) -> Job {
    Job { source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, source)), left: limits::BUDGET_CAPACITY, is_heavy: false }
}

fn pool(running: usize, waiting: usize) -> BlockingPool {
    BlockingPool::with(Bounds { running, running_of_one: running, heavy: 1, waiting })
}

/// Runs a job that lasts until the sender is dropped, and waits until it runs.
async fn occupy(pool: &BlockingPool, job: Job) -> mpsc::Sender<()> {
    let (release, blocked) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let pool = pool.clone();
    tokio::spawn(async move {
        pool.run(job, move || {
            let _ = started.send(());
            blocked.recv().is_ok()
        })
        .await
    });
    running.await.unwrap();
    release
}

/// Queues a job and waits until it is in the queue; the job reports its name when it runs.
async fn queue(pool: &BlockingPool, job: Job, name: &'static str, order: &mpsc::Sender<&'static str>) {
    let before = lock(&pool.0.state).waiting.len();
    let (waiting, order) = (pool.clone(), order.clone());
    tokio::spawn(async move {
        let done = waiting
            .run(job, {
                let order = order.clone();
                move || order.send(name)
            })
            .await;
        if done.is_err() {
            let _ = order.send("turned away");
        }
    });
    while lock(&pool.0.state).waiting.len() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_bounded_and_the_queue_too() {
    let pool = pool(1, 1);
    let release = occupy(&pool, job(1)).await;
    let (order, done) = mpsc::channel();
    queue(&pool, job(1), "second", &order).await;
    assert_eq!(pool.run(job(1), || 3).await, Err(JobError::Overloaded));
    drop(release);
    assert_eq!(done.recv(), Ok("second"));
    assert_eq!(pool.run(job(1), || 4).await, Ok(4));
    pool.idle().await;
    assert!(lock(&pool.0.state).sources.is_empty(), "idle sources are forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_with_most_budget_left_runs_first() {
    let pool = pool(1, 8);
    let release = occupy(&pool, job(9)).await;
    let (order, done) = mpsc::channel();
    for (source, left, name) in [(1, 10, "flood"), (2, 20, "other flood"), (3, limits::BUDGET_CAPACITY, "person")] {
        queue(&pool, Job { left, ..job(source) }, name, &order).await;
    }
    drop(release);
    assert_eq!([done.recv(), done.recv(), done.recv()], [Ok("person"), Ok("other flood"), Ok("flood")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_accepts_a_new_source() {
    let pool = pool(1, 4);
    let release = occupy(&pool, job(1)).await;
    let (order, done) = mpsc::channel();
    for _ in 0..4 {
        queue(&pool, job(1), "flood", &order).await;
    }
    let person = tokio::spawn({
        let pool = pool.clone();
        async move { pool.run(job(2), || "person").await }
    });
    assert_eq!(done.recv(), Ok("turned away"));
    drop(release);
    assert_eq!(person.await.unwrap(), Ok("person"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_work_and_one_source_leave_threads_for_others() {
    let pool = BlockingPool::with(Bounds { running: 4, running_of_one: 2, heavy: 1, waiting: 8 });
    let heavy = |source| Job { is_heavy: true, ..job(source) };
    let first = occupy(&pool, heavy(1)).await;
    let (order, done) = mpsc::channel();
    queue(&pool, heavy(2), "heavy", &order).await;
    assert_eq!(pool.run(job(2), || "light").await, Ok("light"), "it does not wait for the heavy one");
    drop(first);
    assert_eq!(done.recv(), Ok("heavy"));
    let held = (occupy(&pool, job(1)).await, occupy(&pool, job(1)).await);
    queue(&pool, job(1), "third", &order).await;
    assert_eq!(pool.run(job(2), || "other").await, Ok("other"));
    drop(held);
    assert_eq!(done.recv(), Ok("third"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_job_frees_its_slot() {
    let pool = pool(1, 1);
    assert_eq!(pool.run(job(1), || panic!("a fault")).await, Err::<(), _>(JobError::Panicked));
    assert_eq!(pool.run(job(1), || 1).await, Ok(1));
}
