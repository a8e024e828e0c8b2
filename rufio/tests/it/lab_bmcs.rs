// SPDX-License-Identifier: Apache-2.0

//! rufio and its real drivers on the lab's BMCs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::bmc::v1alpha1::{Machine, PowerState};
use kube::api::{Patch, PatchParams};
use lab::bmc::{Account, Behaviour, BmcHandle, BootWrites, Kind};
use lab::chassis::{BootTarget, Chassis, Identity, SimulatedChassis};
use rufio::bmc::Network;
use serde_json::{Value, json};

use crate::world::{PASSWORD, World};

struct Bmc {
    handle: BmcHandle,
    chassis: SimulatedChassis,
    kind: Kind,
}

impl Bmc {
    async fn start(kind: Kind, behaviour: Behaviour) -> Self {
        let identity = Identity {
            name: "m1".into(),
            uuid: "5f4dcc3b-5aa7-45d6-9d83-27deb882cf99".into(),
            mac: "52:54:00:00:00:11".into(),
            manufacturer: "Lab".into(),
            model: "Simulated".into(),
            serial: "1".into(),
        };
        let chassis = SimulatedChassis::new(identity, Duration::from_millis(50));
        let handle = Self::listen(kind, 0, behaviour, &chassis).await;
        Self { handle, chassis, kind }
    }

    async fn listen(kind: Kind, port: u16, behaviour: Behaviour, chassis: &SimulatedChassis) -> BmcHandle {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let account = Account::administrator("admin", PASSWORD).unwrap();
        lab::bmc::start(kind, address, account, Arc::new(chassis.clone()), behaviour).await.unwrap()
    }

    fn options(&self) -> Value {
        let port = self.handle.addr().port();
        match self.kind {
            Kind::Ipmi => json!({"ipmitool": {"port": port}}),
            Kind::Redfish => json!({"redfish": {"port": port}}),
        }
    }
}

fn netboot() -> Value {
    json!([
        {"powerAction": "off"},
        {"oneTimeBootDeviceAction": {"device": ["pxe"], "efiBoot": true}},
        {"powerAction": "on"},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_boot_from_the_network_over_either_protocol() {
    let world = World::start(Arc::new(Network)).await;
    for (name, kind) in [("ipmi", Kind::Ipmi), ("redfish", Kind::Redfish)] {
        let behaviour = Behaviour {
            power_lag: Duration::from_millis(800),
            latency: Duration::from_millis(10),
            ..Behaviour::default()
        };
        let bmc = Bmc::start(kind, behaviour).await;
        world.machine(name, "127.0.0.1", bmc.options()).await;
        assert_eq!(world.contactable(name).await, PowerState::Off);
        world.job(&format!("{name}-netboot"), name, netboot()).await;
        assert_eq!(world.job_end(&format!("{name}-netboot")).await, Ok(()));
        assert_eq!(bmc.chassis.starts(), [BootTarget::Pxe], "{name}");
        assert_eq!(bmc.chassis.power(), lab::chassis::PowerState::On);

        for (number, action) in ["status", "cycle", "reset", "soft"].into_iter().enumerate() {
            let job = format!("{name}-{action}");
            world.job(&job, name, json!([{ "powerAction": action }])).await;
            assert_eq!(world.job_end(&job).await, Ok(()), "{job}");
            let starts = bmc.chassis.starts();
            assert_eq!(starts.len(), 1 + number.min(2), "{job}: {starts:?}");
        }
        assert_eq!(bmc.chassis.power(), lab::chassis::PowerState::Off, "soft ends in off");
        assert_eq!(
            bmc.chassis.starts()[1..],
            [BootTarget::None, BootTarget::None],
            "the override was for one boot"
        );
        world
            .job(
                &format!("{name}-disk"),
                name,
                json!([{"bootDevice": {"device": "disk", "persistent": true, "efiBoot": true}}]),
            )
            .await;
        assert_eq!(world.job_end(&format!("{name}-disk")).await, Ok(()));
        let message = world.task_message(&format!("{name}-disk-task-0")).await;
        assert!(
            message.starts_with("boot device is disk for every boot, set over") && !message.contains(';'),
            "{message}"
        );
        bmc.handle.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_certificates_are_one_sentence() {
    let world = World::start(Arc::new(Network)).await;
    for (name, kind) in [("ipmi", Kind::Ipmi), ("redfish", Kind::Redfish)] {
        let bmc = Bmc::start(kind, Behaviour::default()).await;
        world.machine(name, "127.0.0.1", bmc.options()).await;
        world.contactable(name).await;
        world.secret(name, "not-the-one-4").await;
        let told = world.uncontactable(name).await;
        assert!(told.contains("password") && told.contains("127.0.0.1"), "{told}");
        world.job(&format!("{name}-on"), name, json!([{"powerAction": "on"}])).await;
        assert!(world.job_end(&format!("{name}-on")).await.unwrap_err().contains("password"));
        world.secret(name, PASSWORD).await;
        world.contactable(name).await;

        if kind == Kind::Redfish {
            let patch = Patch::Merge(json!({"spec": {"connection": {"insecureTLS": false}}}));
            world.api::<Machine>().patch("redfish-bmc", &PatchParams::default(), &patch).await.unwrap();
            let told = world.uncontactable(name).await;
            assert!(told.contains("certificate") && told.contains("insecureTLS"), "{told}");
        }
        bmc.handle.stop().await;
    }
    let everything = world.everything().await;
    assert!(!everything.contains("not-the-one-4") && !everything.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_ignores_what_it_accepts_is_found_out() {
    let world = World::start(Arc::new(Network)).await;
    for (name, kind) in [("ipmi", Kind::Ipmi), ("redfish", Kind::Redfish)] {
        let behaviour = Behaviour { boot_writes: BootWrites::Ignored, ..Behaviour::default() };
        let bmc = Bmc::start(kind, behaviour).await;
        world.machine(name, "127.0.0.1", bmc.options()).await;
        world.job(&format!("{name}-netboot"), name, netboot()).await;
        let told = world.job_end(&format!("{name}-netboot")).await.unwrap_err();
        assert!(
            told.starts_with("task 1 failed: the BMC accepted boot device pxe twice and still shows"),
            "{told}"
        );
        assert!(
            bmc.chassis.starts().is_empty(),
            "the machine is not switched on to boot from who knows what"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_restarts_is_found_again() {
    let world = World::start(Arc::new(Network)).await;
    for (name, kind) in [("ipmi", Kind::Ipmi), ("redfish", Kind::Redfish)] {
        let bmc = Bmc::start(kind, Behaviour::default()).await;
        let (port, options) = (bmc.handle.addr().port(), bmc.options());
        world.machine(name, "127.0.0.1", options).await;
        world.contactable(name).await;
        bmc.handle.stop().await;
        // The first command falls into the gap; the BMC is back before the Task gives up.
        world.job(&format!("{name}-on"), name, json!([{"powerAction": "on"}])).await;
        let trying = |task: &api::bmc::v1alpha1::Task| {
            let failed = task.status.as_ref().and_then(|status| status.condition("Failed"));
            failed.is_some_and(|failed| {
                failed.status == "False" && failed.message.as_ref().unwrap().contains("trying again")
            })
        };
        world.until(&format!("{name}-on-task-0"), "second try", trying).await;
        let again = Bmc::listen(kind, port, Behaviour::default(), &bmc.chassis).await;
        assert_eq!(world.job_end(&format!("{name}-on")).await, Ok(()));
        again.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_options_the_protocol_is_found() {
    let world = World::start(Arc::new(Network)).await;
    // Port 443 and 623 of an address of its own, so that no option is needed.
    let address = |port| SocketAddr::from((Ipv4Addr::new(127, 31, 7, 11), port));
    let bmc = Bmc::start(Kind::Ipmi, Behaviour::default()).await;
    let account = Account::administrator("admin", PASSWORD).unwrap();
    let chassis = Arc::new(bmc.chassis.clone());
    let handle =
        lab::bmc::start(Kind::Ipmi, address(623), account, chassis, Behaviour::default()).await.unwrap();
    world.machine("m1", "127.31.7.11", json!({})).await;
    assert_eq!(world.contactable("m1").await, PowerState::Off);
    world.job("netboot", "m1", netboot()).await;
    assert_eq!(world.job_end("netboot").await, Ok(()));
    assert_eq!(
        world.task_message("netboot-task-1").await,
        "boot device is pxe for the next boot, set over IPMI"
    );
    handle.stop().await;
}
