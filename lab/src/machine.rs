// SPDX-License-Identifier: Apache-2.0
//! A simulated server: a QEMU process that exists while the power is on.
//!
//! One task owns the process; [`Machine`] is the handle that BMC and rack use. Every start, also after a reset from inside, is a new
//! process, because that is the only moment at which the order of boot devices is certain: firmware itself resets a machine that
//! was reset (SeaBIOS does, at once), which would use up an override for one start before anything has booted.
//!
//! ```text
//!        On                    guest powers off, ForceOff, QEMU dies
//! off ---------> on  ------------------------------------------------> off
//!                 \_ Reset, Cycle, guest resets: killed and started anew, override consumed
//! ```
//!
//! It never decides what a machine boots beyond its firmware's order and the override: disk first, then network, then the disc in
//! its drive.

mod qemu;
mod spec;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::qemu::Places;
pub use self::spec::{Disk, DiskBus, Firmware, MachineSpec, Pxe, SpecError};

use crate::chassis::{BootOverride, BootTarget, Chassis, ChassisError, Identity, PowerAction, PowerState};
use crate::disc::Disc;
use crate::process::Process;
use crate::qmp::{Event, Qmp, QmpError};

/// Power actions that wait; a BMC sends one at a time.
const QUEUE: usize = 16;

/// Longest time for QEMU to answer after it was started, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How long the power stays away in a power cycle.
const CYCLE_PAUSE: Duration = Duration::from_millis(500);

/// Resets in a row, each within [`QUICK`] of its start, after which the machine stays off: a disk that resets at once would
/// otherwise start processes for ever.
const MAX_QUICK_RESETS: u32 = 20;

/// A start that ends in a reset sooner than this did not get anywhere.
const QUICK: Duration = Duration::from_secs(1);

/// A simulated server. The machine's task ends with [`Machine::stop`], or when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Machine {
    commands: mpsc::Sender<Command>,
    power: watch::Receiver<PowerState>,
    boot: Arc<watch::Sender<BootOverride>>,
    media: Arc<watch::Sender<Option<String>>>,
    identity: Identity,
    places: Arc<Places>,
}

#[derive(Debug)]
enum Command {
    Power(PowerAction, oneshot::Sender<Result<(), ChassisError>>),
    Stop(oneshot::Sender<()>),
}

impl Machine {
    /// Makes the machine's files in its directory, as far as they are not there, and its task. The power is off.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn new(spec: MachineSpec, places: Places) -> std::io::Result<(Self, JoinHandle<()>)> {
        qemu::prepare(&spec, &places)?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        let (power_sender, power) = watch::channel(PowerState::Off);
        let boot = Arc::new(watch::Sender::new(BootOverride::default()));
        let media = Arc::new(watch::Sender::new(None));
        let places = Arc::new(places);
        let identity = spec.identity();
        let task = Task {
            spec,
            places: Arc::clone(&places),
            power: power_sender,
            boot: Arc::clone(&boot),
            media: Arc::clone(&media),
            running: None,
            quick_resets: 0,
        };
        let task = tokio::spawn(task.run(receiver));
        Ok((Self { commands, power, boot, media, identity, places }, task))
    }

    /// Where its files are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The log of its serial console, over all starts.
    pub fn serial_log(&self) -> &Path {
        &self.places.serial_log
    }

    /// Waits until the power is as wanted; the caller adds the deadline.
    pub async fn wait_power(&self, wanted: PowerState) {
        let mut power = self.power.clone();
        // When the task has ended nothing changes any more, and the caller's deadline says so.
        if power.wait_for(|state| *state == wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cuts the power and ends the machine's task.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            stopped.await.unwrap_or_default();
        }
    }
}

impl Chassis for Machine {
    fn power(&self) -> PowerState {
        *self.power.borrow()
    }

    fn set_power(&self, action: PowerAction) -> BoxFuture<'static, Result<(), ChassisError>> {
        let (answer, answered) = oneshot::channel();
        let commands = self.commands.clone();
        // Queued now, so that two calls are done in the order in which they were made.
        let queued = commands.try_send(Command::Power(action, answer));
        async move {
            queued.map_err(|_| {
                ChassisError::Failed("too many power actions wait, or the machine was stopped".to_owned())
            })?;
            answered.await.unwrap_or_else(|_| Err(ChassisError::Failed("the machine was stopped".to_owned())))
        }
        .boxed()
    }

    fn boot_override(&self) -> BootOverride {
        *self.boot.borrow()
    }

    fn set_boot_override(&self, boot_override: BootOverride) {
        self.boot.send_replace(boot_override);
    }

    fn media(&self) -> Option<String> {
        self.media.borrow().clone()
    }

    fn set_media(&self, url: Option<String>) {
        self.media.send_replace(url);
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }
}

/// A QEMU that runs.
#[derive(Debug)]
struct Running {
    process: Process,
    qmp: Qmp,
    since: tokio::time::Instant,
    /// What was in its drive when it started.
    _disc: Option<Disc>,
}

/// Why a running machine needs attention.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    PoweredOff,
    Reset,
    Died(String),
}

impl Running {
    /// The next change. Cancelling it loses nothing.
    async fn change(&mut self) -> Change {
        loop {
            tokio::select! {
                event = self.qmp.event() => match event {
                    Ok(event) => match change_of(&event) {
                        Some(change) => return change,
                        None => continue,
                    },
                    // QEMU is about to be gone; its end says more than the socket does.
                    Err(error) => {
                        tracing::debug!(error = %error, "QMP ended");
                        return Change::Died(self.process.exited().await.0);
                    }
                },
                exit = self.process.exited() => return Change::Died(exit.0),
            }
        }
    }
}

/// QEMU is started with `shutdown=pause` and `reboot=shutdown`, so that it waits after telling why it would end.
fn change_of(event: &Event) -> Option<Change> {
    if event.name != "SHUTDOWN" {
        return None;
    }
    let reset =
        event.data.get("reason").and_then(Value::as_str).is_some_and(|reason| reason.ends_with("-reset"));
    Some(if reset { Change::Reset } else { Change::PoweredOff })
}

struct Task {
    spec: MachineSpec,
    places: Arc<Places>,
    power: watch::Sender<PowerState>,
    boot: Arc<watch::Sender<BootOverride>>,
    media: Arc<watch::Sender<Option<String>>>,
    running: Option<Running>,
    quick_resets: u32,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let change = async {
                match &mut self.running {
                    Some(running) => running.change().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Power(action, answer)) => {
                        let outcome = self.act(action).await;
                        // A BMC that no longer waits for the answer has its reasons.
                        answer.send(outcome).unwrap_or_default();
                    }
                    Some(Command::Stop(done)) => {
                        self.off();
                        return done.send(()).unwrap_or_default();
                    }
                    None => return self.off(),
                },
                change = change => self.changed(change).await,
            }
        }
    }

    async fn act(&mut self, action: PowerAction) -> Result<(), ChassisError> {
        let power = *self.power.borrow();
        tracing::info!(machine = self.spec.name(), ?action, ?power, "power action");
        self.quick_resets = 0;
        match (action, power) {
            (PowerAction::On, PowerState::Off) => self.on().await,
            (PowerAction::On, PowerState::On) | (PowerAction::GracefulShutdown, PowerState::Off) => Ok(()),
            (PowerAction::ForceOff, _) => {
                self.off();
                Ok(())
            }
            (PowerAction::GracefulShutdown, PowerState::On) => self.press_button().await.map_err(failed),
            (PowerAction::Cycle, PowerState::On) => {
                self.off();
                tokio::time::sleep(CYCLE_PAUSE).await;
                self.on().await
            }
            (PowerAction::Reset, PowerState::On) => self.restart().await,
            (PowerAction::Cycle | PowerAction::Reset, PowerState::Off) => {
                Err(ChassisError::WrongState { action, power })
            }
        }
    }

    async fn changed(&mut self, change: Change) {
        let machine = self.spec.name();
        match change {
            Change::PoweredOff => {
                tracing::info!(machine, "the machine switched itself off");
                self.off();
            }
            Change::Died(exit) => {
                tracing::warn!(machine, exit, log = %self.places.qemu_log.display(), "QEMU ended");
                self.off();
            }
            Change::Reset => {
                tracing::info!(machine, "the machine resets itself");
                let quick = self.running.as_ref().is_some_and(|running| running.since.elapsed() < QUICK);
                self.quick_resets = if quick { self.quick_resets + 1 } else { 0 };
                if self.quick_resets > MAX_QUICK_RESETS {
                    tracing::warn!(machine, "the machine only resets itself; it stays off");
                    return self.off();
                }
                if let Err(error) = self.restart().await {
                    tracing::warn!(machine = self.spec.name(), error = %error, "the machine did not come back");
                }
            }
        }
    }

    /// Starts a QEMU with the boot order of the override, which this start uses up.
    async fn on(&mut self) -> Result<(), ChassisError> {
        let target = self.boot.borrow().effective();
        let started = tokio::time::timeout(START, self.start(target)).await;
        let running = match started {
            Ok(started) => started?,
            Err(_) => return Err(ChassisError::Failed("QEMU did not answer in time".to_owned())),
        };
        self.running = Some(running);
        self.boot.send_modify(|boot| *boot = boot.after_start());
        self.power.send_replace(PowerState::On);
        Ok(())
    }

    async fn start(&self, target: BootTarget) -> Result<Running, ChassisError> {
        let disc = self.disc().await;
        let process = qemu::launch(&self.spec, &self.places, target, disc.is_some()).map_err(failed)?;
        let since = tokio::time::Instant::now();
        tokio::select! {
            biased;
            connected = Qmp::connect(&self.places.qmp_socket) => {
                Ok(Running { process, qmp: connected.map_err(failed)?, since, _disc: disc })
            }
            exit = process.exited() => {
                let said = qemu::last_words(&self.places.qemu_log);
                Err(ChassisError::Failed(format!("QEMU ended with {}: {said}", exit.0)))
            }
        }
    }

    /// The disc in its drive. One that cannot be read is none: firmware goes on with its order.
    async fn disc(&self) -> Option<Disc> {
        let url = self.media.borrow().clone()?;
        let inserted = Disc::insert(&url, &self.places.disc_socket).await;
        inserted
            .inspect_err(|error| {
                let error: &dyn std::error::Error = error;
                tracing::warn!(
                    machine = self.spec.name(),
                    url,
                    error,
                    "the disc in the drive cannot be read"
                );
            })
            .ok()
    }

    fn off(&mut self) {
        // Dropping the process kills it and waits for its end.
        self.running = None;
        self.power.send_replace(PowerState::Off);
    }

    /// A reset is a new process, but the power does not go away.
    async fn restart(&mut self) -> Result<(), ChassisError> {
        self.running = None;
        let outcome = self.on().await;
        if outcome.is_err() {
            self.off();
        }
        outcome
    }

    async fn press_button(&mut self) -> Result<(), QmpError> {
        match &mut self.running {
            Some(running) => running.qmp.execute("system_powerdown", json!({})).await.map(drop),
            None => Ok(()),
        }
    }
}

fn failed(error: impl std::error::Error) -> ChassisError {
    ChassisError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_qemu_would_end() {
        let event = |reason: &str| Event {
            name: "SHUTDOWN".to_owned(),
            data: json!({"guest": true, "reason": reason}),
        };
        assert_eq!(change_of(&event("guest-shutdown")), Some(Change::PoweredOff));
        assert_eq!(change_of(&event("guest-reset")), Some(Change::Reset));
        assert_eq!(change_of(&event("subsystem-reset")), Some(Change::Reset));
        assert_eq!(change_of(&event("guest-panic")), Some(Change::PoweredOff));
        assert_eq!(change_of(&Event { name: "RTC_CHANGE".to_owned(), data: Value::Null }), None);
    }
}
