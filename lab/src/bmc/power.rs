// SPDX-License-Identifier: Apache-2.0
//! The power button between a BMC and its chassis: actions one after the other, answers at once.
//!
//! Used by both kinds of BMC. A BMC confirms an action before it is done, so the action is queued here; the queue is short
//! and a client that fills it is told that the BMC is busy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use crate::chassis::{Chassis, PowerAction, PowerState};

/// Actions that may wait, the one being done included. One more is refused as [`Refused::Busy`].
const QUEUE: usize = 4;

/// Why an action was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many actions are waiting.
    Busy,
    /// The machine is off and the action needs it on.
    NeedsPower,
}

/// The power button of one machine.
pub(super) struct PowerButton {
    chassis: Arc<dyn Chassis>,
    queue: mpsc::Sender<PowerAction>,
    shown: Arc<Mutex<Shown>>,
    worker: JoinHandle<()>,
}

#[derive(Default)]
struct Shown {
    waiting: usize,
    /// The power state that is still reported, and until when; no end while the action is being done.
    stale: Option<(PowerState, Option<Instant>)>,
}

impl PowerButton {
    /// A button on this chassis; after an action the old state is reported for `lag`.
    pub(super) fn new(chassis: Arc<dyn Chassis>, lag: Duration) -> Self {
        let (queue, actions) = mpsc::channel(QUEUE);
        let shown = Arc::<Mutex<Shown>>::default();
        let worker = tokio::spawn(work(Arc::clone(&chassis), actions, Arc::clone(&shown), lag));
        Self { chassis, queue, shown, worker }
    }

    /// The power state as this BMC reports it.
    pub(super) fn reported(&self) -> PowerState {
        match lock(&self.shown).stale {
            Some((state, None)) => state,
            Some((state, Some(until))) if Instant::now() < until => state,
            _ => self.chassis.power(),
        }
    }

    /// Accepts an action, which is done later, or says why not.
    pub(super) fn press(&self, action: PowerAction) -> Result<(), Refused> {
        let mut shown = lock(&self.shown);
        let needs_power = matches!(action, PowerAction::Cycle | PowerAction::Reset);
        // While actions wait, the state at the time of this one is not known: the chassis will decide.
        if needs_power && shown.waiting == 0 && self.chassis.power() == PowerState::Off {
            return Err(Refused::NeedsPower);
        }
        if shown.waiting >= QUEUE || self.queue.try_send(action).is_err() {
            return Err(Refused::Busy);
        }
        shown.waiting += 1;
        Ok(())
    }
}

impl Drop for PowerButton {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

async fn work(
    chassis: Arc<dyn Chassis>,
    mut actions: mpsc::Receiver<PowerAction>,
    shown: Arc<Mutex<Shown>>,
    lag: Duration,
) {
    while let Some(action) = actions.recv().await {
        let before = chassis.power();
        if !lag.is_zero() {
            lock(&shown).stale = Some((before, None));
        }
        if let Err(error) = chassis.set_power(action).await {
            warn!(machine = chassis.identity().name, ?action, %error, "power action failed");
        }
        let mut shown = lock(&shown);
        shown.waiting = shown.waiting.saturating_sub(1);
        shown.stale = (!lag.is_zero()).then(|| (before, Some(Instant::now() + lag)));
    }
}

fn lock(shown: &Mutex<Shown>) -> std::sync::MutexGuard<'_, Shown> {
    // Every change is one assignment: a panic elsewhere leaves a whole state.
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}
