// SPDX-License-Identifier: Apache-2.0
//! Replicas on one Lease, in a time that the tests make pass.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::Health;

const LEASE: &str = "the-lease";

/// An API with one Lease in it.
#[derive(Clone, Default)]
struct World {
    lease: Arc<Mutex<(Option<Value>, u64)>>,
    /// Who worked from when to when, in the order of the starts.
    worked: Arc<Mutex<Vec<Spell>>>,
}

/// Who worked, from when, until when.
type Spell = (&'static str, Instant, Option<Instant>);

/// A replica and its way to the API.
struct Replica {
    reachable: Arc<AtomicBool>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), LeaderError<std::io::Error>>>,
    health: Health,
}

/// Work that notes its end when it is dropped, too.
struct Working {
    world: World,
    place: usize,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.world.worked.lock().unwrap()[self.place].2 = Some(Instant::now());
    }
}

impl World {
    fn client(&self, reachable: &Arc<AtomicBool>) -> Client {
        let (world, reachable) = (self.clone(), Arc::clone(reachable));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (world, reachable) = (world.clone(), Arc::clone(&reachable));
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !reachable.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap();
                let (code, value) = world.answer(&method, &body);
                let answer = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Body::from(value.to_string().into_bytes())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut held = self.lease.lock().unwrap();
        let refusal = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": reason, "code": code});
            (code, status)
        };
        if *method == Method::GET {
            return held.0.clone().map_or_else(|| refusal(404, "NotFound"), |lease| (200, lease));
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let given = lease["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let expected =
            held.0.as_ref().map(|lease| lease["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
        if given != expected {
            return refusal(409, "Conflict");
        }
        held.1 += 1;
        lease["metadata"]["resourceVersion"] = json!(held.1.to_string());
        held.0 = Some(lease.clone());
        (if *method == Method::POST { 201 } else { 200 }, lease)
    }

    /// Starts a replica whose work, when it is stopped, still takes `last_words`.
    fn replica(&self, name: &'static str, last_words: Duration) -> Replica {
        let reachable = Arc::new(AtomicBool::new(true));
        let (shutdown, health) = (CancellationToken::new(), Health::new());
        let election = Election { namespace: "default".into(), identity: Some(name.to_owned()) };
        let (client, latch, world) =
            (self.client(&reachable), health.latch("leader", "the Lease"), self.clone());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            run(client, (LEASE, Some(&election)), latch, stop, |stop| {
                let mut worked = world.worked.lock().unwrap();
                worked.push((name, Instant::now(), None));
                let working = Working { world: world.clone(), place: worked.len() - 1 };
                async move {
                    stop.cancelled().await;
                    tokio::time::sleep(last_words).await;
                    drop(working);
                    Ok(())
                }
            })
            .await
        });
        Replica { reachable, shutdown, task, health }
    }

    /// Waits for the start of this many terms; when the last began.
    async fn terms(&self, count: usize) -> Instant {
        loop {
            if let Some((_, began, _)) = self.worked.lock().unwrap().get(count - 1) {
                return *began;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Who worked, once it is sure that no two did at a time.
    fn alone(&self) -> Vec<&'static str> {
        let worked = self.worked.lock().unwrap();
        for pair in worked.windows(2) {
            let end = pair[0].2.expect("the work of the one before has ended");
            assert!(end <= pair[1].1, "{} worked while {} did", pair[1].0, pair[0].0);
        }
        worked.iter().map(|(name, ..)| *name).collect()
    }

    fn spec(&self) -> Value {
        self.lease.lock().unwrap().0.as_ref().unwrap()["spec"].clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_when_its_lease_is_over() {
    let world = World::default();
    let first = world.replica("a", Duration::ZERO);
    world.terms(1).await;
    let second = world.replica("b", Duration::ZERO);
    second.health.ready().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.alone(), ["a"], "it renews");
    assert_eq!(world.spec()["leaseTransitions"], 0);
    let died = Instant::now();
    first.task.abort();
    let followed = world.terms(2).await - died;
    assert!(followed > Duration::from_secs(10) && followed < Duration::from_secs(21), "{followed:?}");
    let spec = world.spec();
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!("b"), &json!(15)));
    assert_eq!(spec["leaseTransitions"], 1);
    let renewed = spec["renewTime"].as_str().unwrap();
    assert!(
        renewed.len() == "2026-01-01T00:00:00.000000Z".len(),
        "microseconds, as client-go parses them: {renewed}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_begins() {
    for last_words in [Duration::ZERO, Duration::from_secs(3), Duration::from_secs(3600)] {
        let world = World::default();
        let first = world.replica("a", last_words);
        world.terms(1).await;
        let second = world.replica("b", Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(7)).await;
        first.reachable.store(false, Ordering::SeqCst);
        world.terms(2).await;
        assert_eq!(world.alone(), ["a", "b"]);
        // It comes back as a candidate, and leads again when the other one leaves.
        first.reachable.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(30)).await;
        second.shutdown.cancel();
        second.task.await.unwrap().unwrap();
        world.terms(3).await;
        assert_eq!(world.alone(), ["a", "b", "a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_the_lease_back_after_its_work() {
    let world = World::default();
    let first = world.replica("a", Duration::from_secs(12));
    world.terms(1).await;
    let second = world.replica("b", Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = Instant::now();
    first.shutdown.cancel();
    first.task.await.unwrap().unwrap();
    let followed = world.terms(2).await - asked;
    assert_eq!(world.alone(), ["a", "b"]);
    assert!(followed >= Duration::from_secs(12), "it goes on renewing while its work ends");
    assert!(followed < Duration::from_secs(18), "nobody waits for what was given back: {followed:?}");
    second.shutdown.cancel();
    second.task.await.unwrap().unwrap();
    assert_eq!(world.spec()["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_kept_goes_on_at_once() {
    let world = World::default();
    let first = world.replica("a", Duration::ZERO);
    world.terms(1).await;
    first.task.abort();
    assert!(first.task.await.unwrap_err().is_cancelled());
    let again = Instant::now();
    let _second = world.replica("a", Duration::ZERO);
    assert!(world.terms(2).await - again < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_is_told() {
    let world = World::default();
    let health = Health::new();
    let election = Election { namespace: "default".into(), identity: None };
    let client = world.client(&Arc::new(AtomicBool::new(true)));
    let latch = health.latch("leader", "the Lease");
    let work = |_| async { Err(std::io::Error::other("broken")) };
    let outcome = run(client, (LEASE, Some(&election)), latch, CancellationToken::new(), work).await;
    assert!(matches!(outcome, Err(LeaderError::Work(_))), "{outcome:?}");
    assert_eq!(world.spec()["holderIdentity"], "", "another may try at once");
}
