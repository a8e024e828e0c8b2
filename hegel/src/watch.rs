// SPDX-License-Identifier: Apache-2.0
//! Keeps the index true: one task watches Hardware and owns every change.

use api::v1alpha1::Hardware;
use daemon::Latch;
use futures::Stream;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::index::Index;
use crate::machine::Key;

/// The index as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: watch::Receiver<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    index: Index,
    synced: bool,
}

impl Shared {
    /// Reads the index; `read` must be quick, since the watch waits for it.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.state.borrow().index)
    }

    /// Waits for the first list; false when `shutdown` comes first.
    pub(crate) async fn synced(&self, shutdown: &CancellationToken) -> bool {
        let mut state = self.state.clone();
        tokio::select! {
            outcome = state.wait_for(|state| state.synced) => outcome.is_ok(),
            () = shutdown.cancelled() => false,
        }
    }
}

/// Starts watching Hardware of one namespace, or of all. `latch` is set after the first list.
pub(crate) fn spawn(
    client: kube::Client,
    namespace: Option<String>,
    latch: Latch,
    shutdown: CancellationToken,
) -> (Shared, JoinHandle<()>) {
    let api = daemon::watch::scoped(&client, namespace.as_deref());
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let (sender, state) = watch::channel(State::default());
    (Shared { state }, tokio::spawn(follow(events, sender, latch, shutdown)))
}

async fn follow(
    events: impl Stream<Item = watcher::Result<Event<Hardware>>>,
    state: watch::Sender<State>,
    latch: Latch,
    shutdown: CancellationToken,
) {
    let mut listed = Vec::new();
    daemon::watch::follow(events, shutdown, |event| {
        if apply(event, &mut listed, &state) {
            latch.set();
        }
    })
    .await;
}

/// Takes one event over into the index; true when a list is complete. What is known stays served while a new list comes in.
fn apply(event: Event<Hardware>, listed: &mut Vec<Hardware>, state: &watch::Sender<State>) -> bool {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(hardware) => listed.push(hardware),
        Event::InitDone => {
            let all = std::mem::take(listed);
            state.send_modify(|state| {
                state.index.replace(&all);
                state.synced = true;
                tracing::info!(machines = state.index.len(), "Hardware listed");
            });
            return true;
        }
        Event::Apply(hardware) => state.send_modify(|state| state.index.apply(&hardware)),
        Event::Delete(hardware) => state.send_modify(|state| {
            state.index.remove(&Key::of(&hardware));
        }),
    }
    false
}

/// An index of the given Hardware, for tests of the server.
#[cfg(test)]
pub(crate) fn fixed(all: &[Hardware]) -> Shared {
    let mut state = State { synced: true, ..State::default() };
    state.index.replace(all);
    let (_, state) = watch::channel(state);
    Shared { state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::hardware;

    #[tokio::test]
    async fn what_is_known_stays_until_the_new_list_is_complete() {
        let (sender, state) = watch::channel(State::default());
        let shared = Shared { state };
        let health = daemon::Health::new();
        let latch = health.latch("hardware", "the first list");
        let (events, stream) = futures::channel::mpsc::unbounded();
        let task = tokio::spawn(follow(stream, sender, latch, CancellationToken::new()));
        let send = |event| events.unbounded_send(Ok(event)).unwrap();
        let knows = |address: &str| shared.read(|index| index.by_address(address.parse().unwrap()).is_ok());

        send(Event::Init);
        send(Event::InitApply(hardware("m1", &["10.0.0.1"])));
        send(Event::InitDone);
        assert!(shared.synced(&CancellationToken::new()).await);
        health.ready().await;
        assert!(knows("10.0.0.1"));

        send(Event::Init);
        send(Event::InitApply(hardware("m2", &["10.0.0.2"])));
        tokio::task::yield_now().await;
        assert!(knows("10.0.0.1") && !knows("10.0.0.2"));
        send(Event::InitDone);
        send(Event::Apply(hardware("m2", &["10.0.0.3"])));
        drop(events);
        task.await.unwrap();
        assert!(!knows("10.0.0.1") && !knows("10.0.0.2") && knows("10.0.0.3"));
    }
}
