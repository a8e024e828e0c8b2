// SPDX-License-Identifier: Apache-2.0
//! The seam between a virtual BMC and the server it sits on: power, one-time boot device, virtual drive, identity.
//!
//! BMC servers (IPMI, Redfish) hold an `Arc<dyn Chassis>` and nothing else of the machine. [`crate::machine::Machine`] implements
//! it with a QEMU process; [`SimulatedChassis`] implements it in memory, for tests of the BMCs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

/// Whether the server has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// Running, whatever the software on it does.
    On,
    /// No power except for the BMC.
    Off,
}

/// What a BMC may ask of the power circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Switch on; nothing happens to a server that is on.
    On,
    /// Cut the power; nothing happens to a server that is off.
    ForceOff,
    /// Press the power button, so that the operating system shuts down; succeeds once pressed, whatever the system does.
    GracefulShutdown,
    /// Cut the power, then switch on. A server that is off stays off and the call is refused, as by real chassis.
    Cycle,
    /// Reset without cutting the power. Refused when it is off.
    Reset,
}

/// Where the next start is to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootTarget {
    /// As the firmware's own order says.
    #[default]
    None,
    /// The network.
    Pxe,
    /// The first disk.
    Hdd,
    /// The optical drive or virtual media.
    Cd,
    /// The firmware's setup screen.
    BiosSetup,
}

/// How long a boot override lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootMode {
    /// There is none.
    #[default]
    Disabled,
    /// For the next start only; the start consumes it.
    Once,
    /// For every start.
    Continuous,
}

/// The boot override that a BMC holds for its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootOverride {
    /// Where to start from.
    pub target: BootTarget,
    /// For how long.
    pub mode: BootMode,
    /// Whether the caller asked for a UEFI boot; the firmware of a simulated server does not change with it.
    pub uefi: bool,
}

impl BootOverride {
    /// The target of the next start.
    pub fn effective(&self) -> BootTarget {
        match self.mode {
            BootMode::Disabled => BootTarget::None,
            BootMode::Once | BootMode::Continuous => self.target,
        }
    }

    /// What is left after a start: an override for one start is gone.
    #[must_use]
    pub fn after_start(self) -> Self {
        match self.mode {
            BootMode::Once => Self { uefi: self.uefi, ..Self::default() },
            BootMode::Disabled | BootMode::Continuous => self,
        }
    }
}

/// What a BMC tells about its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name in the lab, such as `m1`.
    pub name: String,
    /// System UUID, lower case with hyphens; the same that the firmware shows to the operating system.
    pub uuid: String,
    /// Hardware address of the first network interface, lower case with colons.
    pub mac: String,
    /// Manufacturer of the system.
    pub manufacturer: String,
    /// Model of the system.
    pub model: String,
    /// Serial number of the system.
    pub serial: String,
}

/// Why the chassis did not do as asked. None of them is retried by the BMC: it tells its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChassisError {
    /// The action makes no sense in this power state (a reset while off).
    #[error("{action:?} is not possible while the power is {power:?}")]
    WrongState {
        /// What was asked.
        action: PowerAction,
        /// The state that forbids it.
        power: PowerState,
    },
    /// The machine behind the chassis failed.
    #[error("the machine failed: {0}")]
    Failed(String),
}

/// What a BMC may do to the server it sits on. Object-safe; cheap to call.
pub trait Chassis: Send + Sync + 'static {
    /// The power state as of now.
    fn power(&self) -> PowerState;

    /// Asks for a power action; the future ends when the chassis has done it (or pressed the button). Actions on one chassis are
    /// done one after the other, in the order of the calls.
    fn set_power(&self, action: PowerAction) -> BoxFuture<'static, Result<(), ChassisError>>;

    /// The boot override as it stands; a start may have consumed it.
    fn boot_override(&self) -> BootOverride;

    /// Replaces the boot override.
    fn set_boot_override(&self, boot_override: BootOverride);

    /// The image in its virtual drive, by URL.
    fn media(&self) -> Option<String>;

    /// Puts an image into its virtual drive, or takes out what is there. The server finds it at its next start.
    fn set_media(&self, url: Option<String>);

    /// Who the server is.
    fn identity(&self) -> Identity;
}

/// A chassis in memory, with the latency of a real one, for tests of BMCs.
#[derive(Clone)]
pub struct SimulatedChassis {
    state: Arc<Mutex<Simulated>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    identity: Identity,
    latency: Duration,
}

#[derive(Debug)]
struct Simulated {
    power: PowerState,
    boot_override: BootOverride,
    media: Option<String>,
    starts: Vec<BootTarget>,
}

impl fmt::Debug for SimulatedChassis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedChassis")
            .field("identity", &self.identity)
            .field("state", &*self.lock())
            .finish()
    }
}

impl SimulatedChassis {
    /// A server that is off. Every power action takes `latency`.
    pub fn new(identity: Identity, latency: Duration) -> Self {
        let (boot_override, starts) = (BootOverride::default(), Vec::new());
        let state = Simulated { power: PowerState::Off, boot_override, media: None, starts };
        Self { state: Arc::new(Mutex::new(state)), turn: Arc::default(), identity, latency }
    }

    /// The boot target of every start so far.
    pub fn starts(&self) -> Vec<BootTarget> {
        self.lock().starts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Simulated> {
        // Every change is one assignment, so that a panic elsewhere leaves a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulated {
    fn act(&mut self, action: PowerAction) -> Result<(), ChassisError> {
        match (action, self.power) {
            (PowerAction::On, PowerState::Off)
            | (PowerAction::Cycle | PowerAction::Reset, PowerState::On) => {
                self.power = PowerState::On;
                self.starts.push(self.boot_override.effective());
                self.boot_override = self.boot_override.after_start();
            }
            (PowerAction::ForceOff | PowerAction::GracefulShutdown, _) => self.power = PowerState::Off,
            (PowerAction::On, PowerState::On) => {}
            (PowerAction::Cycle | PowerAction::Reset, power @ PowerState::Off) => {
                return Err(ChassisError::WrongState { action, power });
            }
        }
        Ok(())
    }
}

impl Chassis for SimulatedChassis {
    fn power(&self) -> PowerState {
        self.lock().power
    }

    fn set_power(&self, action: PowerAction) -> BoxFuture<'static, Result<(), ChassisError>> {
        let chassis = self.clone();
        Box::pin(async move {
            let _turn = chassis.turn.lock().await;
            tokio::time::sleep(chassis.latency).await;
            chassis.lock().act(action)
        })
    }

    fn boot_override(&self) -> BootOverride {
        self.lock().boot_override
    }

    fn set_boot_override(&self, boot_override: BootOverride) {
        self.lock().boot_override = boot_override;
    }

    fn media(&self) -> Option<String> {
        self.lock().media.clone()
    }

    fn set_media(&self, url: Option<String>) {
        self.lock().media = url;
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chassis() -> SimulatedChassis {
        let identity = Identity {
            name: "m1".into(),
            uuid: "00000000-0000-0000-0000-000000000011".into(),
            mac: "52:54:00:00:00:11".into(),
            manufacturer: "Lab".into(),
            model: "Simulated".into(),
            serial: "m1".into(),
        };
        SimulatedChassis::new(identity, Duration::from_secs(2))
    }

    #[tokio::test(start_paused = true)]
    async fn an_override_for_one_start_is_consumed_by_it_and_a_continuous_one_stays() {
        let chassis = chassis();
        chassis.set_boot_override(BootOverride { target: BootTarget::Pxe, mode: BootMode::Once, uefi: true });
        chassis.set_power(PowerAction::On).await.unwrap();
        assert_eq!(chassis.boot_override(), BootOverride { uefi: true, ..BootOverride::default() });
        chassis.set_power(PowerAction::Reset).await.unwrap();
        chassis.set_boot_override(BootOverride {
            target: BootTarget::Hdd,
            mode: BootMode::Continuous,
            uefi: false,
        });
        chassis.set_power(PowerAction::Cycle).await.unwrap();
        chassis.set_power(PowerAction::Cycle).await.unwrap();
        assert_eq!(chassis.starts(), [BootTarget::Pxe, BootTarget::None, BootTarget::Hdd, BootTarget::Hdd]);
    }

    #[tokio::test(start_paused = true)]
    async fn power_takes_time_and_a_reset_needs_power() {
        let chassis = chassis();
        let refused = chassis.set_power(PowerAction::Reset).await.unwrap_err();
        assert_eq!(refused, ChassisError::WrongState { action: PowerAction::Reset, power: PowerState::Off });
        let on = tokio::spawn(chassis.set_power(PowerAction::On));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(chassis.power(), PowerState::Off);
        on.await.unwrap().unwrap();
        assert_eq!(chassis.power(), PowerState::On);
        chassis.set_power(PowerAction::GracefulShutdown).await.unwrap();
        assert_eq!(chassis.power(), PowerState::Off);
    }
}
