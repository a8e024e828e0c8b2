// SPDX-License-Identifier: Apache-2.0
//! The virtual BMCs against clients that we did not write (`ipmitool`, `curl`), and against our own.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod ipmitool;
mod loss;
mod redfish;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::bmc::{Account, Behaviour, BmcHandle, Kind};
use lab::chassis::{Chassis, Identity, PowerState, SimulatedChassis};

const USER: &str = "admin";
const PASSWORD: &str = "correct horse";
/// How long a condition may take to come true. Far more than it needs, so that only a fault reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A chassis in memory that acts at once, and a BMC on it.
struct Rig {
    chassis: SimulatedChassis,
    bmc: BmcHandle,
}

impl Rig {
    async fn start(kind: Kind) -> Self {
        Self::start_with(kind, account(), Behaviour::default()).await
    }

    async fn start_with(kind: Kind, account: Account, behaviour: Behaviour) -> Self {
        let chassis = SimulatedChassis::new(identity(), Duration::ZERO);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bmc = lab::bmc::start(kind, addr, account, Arc::new(chassis.clone()), behaviour).await.unwrap();
        Self { chassis, bmc }
    }

    async fn wait_for_power(&self, wanted: PowerState) {
        self.wait(|chassis| chassis.power() == wanted, &format!("power {wanted:?}")).await;
    }

    async fn wait(&self, condition: impl Fn(&SimulatedChassis) -> bool, what: &str) {
        let start = Instant::now();
        while !condition(&self.chassis) {
            assert!(start.elapsed() < DEADLINE, "never came true: {what}; {:?}", self.chassis);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn account() -> Account {
    Account::administrator(USER, PASSWORD).unwrap()
}

fn identity() -> Identity {
    Identity {
        name: "m1".into(),
        uuid: "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".into(),
        mac: "52:54:00:00:00:11".into(),
        manufacturer: "Lab".into(),
        model: "Simulated".into(),
        serial: "m1".into(),
    }
}

/// Runs a program to its end, off the runtime's thread.
async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || {
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    })
    .await
    .unwrap()
}
