// SPDX-License-Identifier: Apache-2.0
//! A controller of kube-rs with all that its authors use: finalizer, owned objects by server-side apply, status patch,
//! a shared reflector, leader election by Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use api::v1alpha1::Hardware;
use daemon::Health;
use daemon::leader::{self, Election};
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Error as FinalizerError, Event, finalizer};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use rustix::process::Signal;
use serde_json::json;
use tests::alone::Alone;
use tests::stack::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::manager::{DEADLINE, namespace};

const FINALIZER: &str = "tests.invalid/reconciler";
const LEASE: &str = "tests-reconciler";
/// Between tries after a failure: the server is away for a moment when it is killed.
const RETRY: Duration = Duration::from_millis(500);

type ReconcileError = FinalizerError<kube::Error>;

/// What a replica's controller needs.
struct Context {
    client: Client,
    namespace: String,
    identity: String,
    cleaned: Arc<AtomicUsize>,
}

impl Context {
    fn hardware(&self) -> Api<Hardware> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// One of two candidates leads, reconciles, goes on when the server is killed, and is followed by the other.
pub async fn goes_on(server: &mut Alone) -> Result<()> {
    let client = server.client().await?;
    let namespace = namespace(&client, "reconciler").await?;
    let cleaned = Arc::new(AtomicUsize::new(0));
    let context = |identity: &str| {
        Arc::new(Context {
            client: client.clone(),
            namespace: namespace.clone(),
            identity: identity.to_owned(),
            cleaned: Arc::clone(&cleaned),
        })
    };
    let (a, b) = (context("a"), context("b"));
    let (store, mirror) = mirror(&a);
    let stop = CancellationToken::new();
    let mut first = stand(Arc::clone(&a), stop.clone());
    holder(&a, &["a"]).await?;
    let mut second = stand(Arc::clone(&b), stop.clone());

    for number in 0..8 {
        create(&a, number).await?;
    }
    reconciled(&a, 0..8, &["a"]).await?;
    a.maps().delete("r3", &DeleteParams::default()).await?;
    eventually("an owned object that was deleted is there again", DEADLINE, async || {
        Ok(a.maps().get_opt("r3").await.map_err(|e| e.to_string())?.map(drop))
    })
    .await?;

    server.restart(Signal::KILL).await?;
    for number in 8..12 {
        create(&a, number).await?;
    }
    for name in ["r1", "r2"] {
        a.hardware().delete(name, &DeleteParams::default()).await?;
    }
    gone(&a, &["r1", "r2"]).await?;
    ensure!(cleaned.load(Ordering::SeqCst) >= 2, "the finalizer did not run");
    // A server that was away for longer than a leader may wait for it has the other one as leader now.
    reconciled(&a, 10..12, &["a", "b"]).await?;

    let (leader, changes) = holder(&a, &["a", "b"]).await?;
    let (leading, next) = if leader == "a" { (&mut first, "b") } else { (&mut second, "a") };
    // As if its process were killed: the Lease is not given back.
    leading.abort();
    create(&a, 12).await?;
    reconciled(&a, 12..13, &[next]).await?;
    let (_, after) = holder(&a, &[next]).await?;
    ensure!(after == changes + 1, "the Lease changed hands {after} times, it was {changes} before");

    mirrored(&a, &store).await?;
    stop.cancel();
    let following = if leader == "a" { second } else { first };
    tokio::time::timeout(DEADLINE, following).await.context("the controller does not end")???;
    holder(&a, &[""]).await?;
    mirror.abort();
    Ok(())
}

/// A store that a reflector fills, for as long as its task runs.
fn mirror(context: &Context) -> (Store<Hardware>, JoinHandle<()>) {
    let (store, writer) = reflector::store();
    let stream = watcher(context.hardware(), watcher::Config::default());
    let stream = reflector::reflector(writer, stream).default_backoff().touched_objects();
    (store, tokio::spawn(stream.for_each(|_| async {})))
}

/// Stands for election, and runs the controller while it leads.
fn stand(context: Arc<Context>, shutdown: CancellationToken) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let election =
            Election { namespace: context.namespace.clone(), identity: Some(context.identity.clone()) };
        let latch = Health::new().latch("leader", "the Lease");
        let client = context.client.clone();
        let work = |stop: CancellationToken| {
            let context = Arc::clone(&context);
            async move {
                control(context, stop).await;
                Ok::<(), std::convert::Infallible>(())
            }
        };
        Ok(leader::run(client, (LEASE, Some(&election)), latch, shutdown, work).await?)
    })
}

async fn control(context: Arc<Context>, stop: CancellationToken) {
    Controller::new(context.hardware(), watcher::Config::default())
        .owns(context.maps(), watcher::Config::default())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(RETRY), context)
        .for_each(|_| async {})
        .await;
}

async fn reconcile(hardware: Arc<Hardware>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    finalizer(&context.hardware(), FINALIZER, hardware, |event| async {
        match event {
            Event::Apply(hardware) => apply(&hardware, &context).await?,
            Event::Cleanup(_) => drop(context.cleaned.fetch_add(1, Ordering::SeqCst)),
        }
        Ok(Action::await_change())
    })
    .await
}

async fn apply(hardware: &Hardware, context: &Context) -> Result<(), kube::Error> {
    let name = hardware.name_any();
    let owner = kube::Resource::controller_owner_ref(hardware, &());
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]},
        "data": {"by": context.identity},
    });
    context.maps().patch(&name, &PatchParams::apply(LEASE).force(), &Patch::Apply(map)).await?;
    let status = json!({"status": {"state": format!("seen by {}", context.identity)}});
    context.hardware().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

async fn create(context: &Context, number: u32) -> Result<()> {
    let hardware = json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": format!("r{number}")},
        "spec": {"interfaces": [{"dhcp": {"mac": format!("52:54:00:00:02:{number:02x}")}}]},
    });
    context.hardware().create(&PostParams::default(), &serde_json::from_value(hardware)?).await?;
    Ok(())
}

/// Waits until one of these replicas has done its work for machines.
async fn reconciled(context: &Context, numbers: std::ops::Range<u32>, by: &[&str]) -> Result<()> {
    for number in numbers {
        let name = format!("r{number}");
        eventually(&format!("{name} is reconciled by {by:?}"), DEADLINE, async || {
            let hardware = context.hardware().get(&name).await.map_err(|e| e.to_string())?;
            let map = context.maps().get_opt(&name).await.map_err(|e| e.to_string())?;
            let state = hardware.status.as_ref().and_then(|status| status.state.clone());
            let data = map.and_then(|map| map.data?.get("by").cloned());
            let done = by
                .iter()
                .any(|by| state.as_deref() == Some(&format!("seen by {by}")) && data.as_deref() == Some(*by));
            if done { Ok(Some(())) } else { Err(format!("{state:?} {data:?}")) }
        })
        .await?;
    }
    Ok(())
}

/// Waits until these machines and what they own are gone.
async fn gone(context: &Context, names: &[&str]) -> Result<()> {
    for name in names {
        eventually(&format!("{name} is gone with what it owns"), DEADLINE, async || {
            let hardware = context.hardware().get_opt(name).await.map_err(|e| e.to_string())?;
            let map = context.maps().get_opt(name).await.map_err(|e| e.to_string())?;
            Ok((hardware.is_none() && map.is_none()).then_some(()))
        })
        .await?;
    }
    Ok(())
}

fn lease(context: &Context) -> Api<Lease> {
    Api::namespaced(context.client.clone(), &context.namespace)
}

/// Waits until one of these holds the Lease; gives which, and how often it has changed hands.
async fn holder(context: &Context, wanted: &[&str]) -> Result<(String, i32)> {
    eventually(&format!("the Lease is held by one of {wanted:?}"), DEADLINE, async || {
        let found = lease(context).get_opt(LEASE).await.map_err(|e| e.to_string())?;
        let Some(spec) = found.and_then(|lease| lease.spec) else { return Ok(None) };
        let held = spec.holder_identity.unwrap_or_default();
        if wanted.contains(&held.as_str()) {
            Ok(Some((held, spec.lease_transitions.unwrap_or(0))))
        } else {
            Err(format!("{held:?}"))
        }
    })
    .await
}

/// The store has exactly what a list gives, in the same versions.
async fn mirrored(context: &Context, store: &Store<Hardware>) -> Result<()> {
    eventually("the store is as the list", DEADLINE, async || {
        let list = context.hardware().list(&Default::default()).await.map_err(|e| e.to_string())?;
        let version = |hardware: &Hardware| (hardware.name_any(), hardware.resource_version());
        let mut listed: Vec<_> = list.items.iter().map(version).collect();
        let mut stored: Vec<_> = store.state().iter().map(|hardware| version(hardware)).collect();
        listed.sort();
        stored.sort();
        if listed == stored { Ok(Some(())) } else { Err(format!("{listed:?} {stored:?}")) }
    })
    .await
}
