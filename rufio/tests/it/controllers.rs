// SPDX-License-Identifier: Apache-2.0

//! The controllers on BMCs in memory.

use std::sync::Arc;
use std::time::Duration;

use api::bmc::v1alpha1::{Job, Machine, PowerState, Task};
use api::events::Reason;
use kube::ResourceExt;
use kube::api::DeleteParams;
use rufio::bmc::{Fault, FaultKind};
use serde_json::json;

use crate::fake::Rack;
use crate::world::{NAMESPACE, PASSWORD, World};

fn netboot() -> serde_json::Value {
    json!([
        {"powerAction": "off"},
        {"bootDevice": {"device": "pxe", "persistent": false, "efiBoot": true}},
        {"powerAction": "on"},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_order_and_the_hardware_hears_of_it() {
    let rack = Rack::default();
    rack.at("h1").lock().unwrap().on = true;
    let mut world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({})).await;
    assert_eq!(world.contactable("m1").await, PowerState::On);
    world.job("netboot", "m1", netboot()).await;
    assert_eq!(world.job_end("netboot").await, Ok(()));
    assert_eq!(rack.log("h1"), ["power off", "boot pxe", "power on"]);

    let job = world.api::<Job>().get("netboot").await.unwrap();
    assert_eq!(job.status.unwrap().condition("Running").unwrap().status, "False");
    for index in 0..3 {
        let task = world.api::<Task>().get(&format!("netboot-task-{index}")).await.unwrap();
        let owner = &task.owner_references()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str(), owner.controller),
            ("Job", "netboot", Some(true))
        );
        assert_eq!(task.labels()["owner-name"], "netboot");
        assert_eq!(task.spec.connection.unwrap().host, "h1");
        assert!(task.status.unwrap().completion_time.is_some());
    }
    assert_eq!(world.event("m1", Reason::PoweredOff).await, "power is off");
    assert!(
        world.event("m1", Reason::BootDeviceSet).await.starts_with("boot device is pxe for the next boot")
    );
    world.event("m1", Reason::PoweredOn).await;
    let machine = world.until::<Machine>("m1-bmc", "power on", |machine| {
        machine.status.as_ref().is_some_and(|status| status.power_state == Some(PowerState::On))
    });
    machine.await;
    world.stop_rufio().await;
    assert_eq!(rack.at("h1").lock().unwrap().sessions, 0, "every session is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_ends_the_job_with_the_reason() {
    let rack = Rack::default();
    rack.at("h1").lock().unwrap().boot_ignored = true;
    let world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({})).await;
    world.job("netboot", "m1", netboot()).await;
    let reason = world.job_end("netboot").await.unwrap_err();
    assert_eq!(reason, "task 1 failed: the BMC accepted boot device pxe twice and still shows no override");
    assert_eq!(
        rack.log("h1"),
        ["boot pxe", "boot pxe"],
        "written, read back, written once more; it was off already"
    );
    assert!(world.api::<Task>().get_opt("netboot-task-2").await.unwrap().is_none());
    assert!(world.event("m1", Reason::PowerFailed).await.contains("still shows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_its_correction_is_seen() {
    let rack = Rack::default();
    let world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({})).await;
    world.contactable("m1").await;
    world.secret("m1", "wrong-staple-9").await;
    assert_eq!(world.uncontactable("m1").await, "the BMC refuses the user name or password");
    world.job("off", "m1", json!([{"powerAction": "off"}])).await;
    assert!(world.job_end("off").await.unwrap_err().contains("refuses the user name or password"));
    world.secret("m1", PASSWORD).await;
    world.contactable("m1").await;
    let everything = world.everything().await;
    assert!(!everything.contains("wrong-staple-9") && !everything.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_waited_out_and_the_machine_recovers() {
    let rack = Rack::default();
    let silent = Fault::new(FaultKind::Unreachable, "h1 does not answer");
    rack.at("h1").lock().unwrap().refuse_sessions.extend(std::iter::repeat_n(silent, 6));
    let world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({"preferredOrder": ["ipmitool"]})).await;
    assert!(world.uncontactable("m1").await.contains("h1 does not answer"));
    assert_eq!(world.contactable("m1").await, PowerState::Off);

    let silent = Fault::new(FaultKind::Unreachable, "h2 does not answer");
    rack.at("h2").lock().unwrap().refuse_sessions.extend(std::iter::repeat_n(silent, 4));
    world.machine("m2", "h2", json!({})).await;
    world.job("on", "m2", json!([{"powerAction": "on"}])).await;
    assert_eq!(world.job_end("on").await, Ok(()), "silence at first does not fail a Task");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_rufio_does_not_repeat_a_power_cycle() {
    let rack = Rack::default();
    {
        let state = rack.at("h1");
        let mut state = state.lock().unwrap();
        (state.on, state.hang) = (true, true);
    }
    let mut world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({})).await;
    world.job("cycle", "m1", json!([{"powerAction": "cycle"}])).await;
    let issued = |task: &Task| task.status.as_ref().is_some_and(|status| status.is("Issued"));
    world.until::<Task>("cycle-task-0", "command", issued).await;
    tokio::time::timeout(crate::world::SOON, async {
        while rack.log("h1").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the command must arrive");
    world.kill_rufio().await;

    // The machine as such lives on; only rufio's side of it is new.
    rack.at("h1").lock().unwrap().hang = false;
    world.start_rufio(Arc::new(rack.clone()));
    assert_eq!(world.job_end("cycle").await, Ok(()));
    assert_eq!(rack.log("h1"), ["power cycle"], "sent once, over both lives");
    assert!(world.task_message("cycle-task-0").await.contains("not repeated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_one_bmc_never_meet_and_many_bmcs_run_at_once() {
    let rack = Rack::default();
    let mut world = World::start(Arc::new(rack.clone())).await;
    for number in 0..20 {
        let (name, host) = (format!("m{number}"), format!("h{number}"));
        rack.at(&host).lock().unwrap().latency = Duration::from_millis(30);
        world.machine(&name, &host, json!({})).await;
        world.job(&format!("a{number}"), &name, netboot()).await;
        world.job(&format!("b{number}"), &name, json!([{"powerAction": "status"}])).await;
    }
    for number in 0..20 {
        assert_eq!(world.job_end(&format!("a{number}")).await, Ok(()));
        assert_eq!(world.job_end(&format!("b{number}")).await, Ok(()));
    }
    world.stop_rufio().await;
    for number in 0..20 {
        let state = rack.at(&format!("h{number}"));
        let state = state.lock().unwrap();
        assert!(!state.met && state.sessions == 0, "{state:?}");
        assert_eq!(state.opened, 1, "one session served all of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told() {
    let rack = Rack::default();
    let world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({"rpc": {"consumerURL": "http://127.0.0.1/"}})).await;
    let told = "providerOptions.rpc is not supported yet; Redfish and IPMI are";
    assert_eq!(world.uncontactable("m1").await, told);
    world.job("rpc", "m1", json!([{"powerAction": "on"}])).await;
    assert_eq!(world.job_end("rpc").await.unwrap_err(), format!("task 0 failed: {told}"));

    world.machine("m2", "h2", json!({"ipmitool": {}})).await;
    world
        .job("media", "m2", json!([{"virtualMediaAction": {"kind": "CD", "mediaURL": "http://h/i.iso"}}]))
        .await;
    let reason = world.job_end("media").await.unwrap_err();
    assert_eq!(reason, "task 0 failed: none of the protocols of this BMC can do this");

    world.machine("m3", "h3", json!({})).await;
    world.job("floppy", "m3", json!([{"bootDevice": {"device": "floppy"}}])).await;
    assert!(world.job_end("floppy").await.unwrap_err().contains("use pxe, disk, bios, cdrom or safe"));

    world.job("status", "m3", json!([{"powerAction": "status"}])).await;
    assert_eq!(world.job_end("status").await, Ok(()));
    assert_eq!(world.task_message("status-task-0").await, "power is off");
    assert!(rack.log("h3").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_waited_for_and_named() {
    let rack = Rack::default();
    let world = World::start(Arc::new(rack.clone())).await;
    world.job("early", "m1", json!([{"powerAction": "on"}])).await;
    let waiting = |job: &Job| {
        let message = job.status.as_ref().and_then(|status| status.condition("Running")?.message.clone());
        message.as_deref() == Some("Machine tinkerbell/m1-bmc does not exist")
    };
    world.until::<Job>("early", "reason", waiting).await;
    world.machine("m1", "h1", json!({})).await;
    assert_eq!(world.job_end("early").await, Ok(()));

    world.machine("m2", "h2", json!({})).await;
    world.contactable("m2").await;
    let secrets = world.api::<k8s_openapi::api::core::v1::Secret>();
    secrets.delete("m2-bmc", &DeleteParams::default()).await.unwrap();
    assert_eq!(world.uncontactable("m2").await, format!("Secret {NAMESPACE}/m2-bmc does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_old_name_does_not_trip_over_the_old_tasks() {
    let rack = Rack::default();
    let world = World::start(Arc::new(rack.clone())).await;
    world.machine("m1", "h1", json!({})).await;
    world.job("again", "m1", json!([{"powerAction": "on"}])).await;
    assert_eq!(world.job_end("again").await, Ok(()));
    world.api::<Job>().delete("again", &DeleteParams::default()).await.unwrap();
    world.job("again", "m1", json!([{"powerAction": "off"}])).await;
    assert_eq!(world.job_end("again").await, Ok(()));
    assert_eq!(rack.log("h1"), ["power on", "power off"]);

    world
        .create::<Task>(json!({
            "apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Task", "metadata": {"name": "taken-task-0"},
            "spec": {"task": {"powerAction": "status"}},
        }))
        .await;
    world.job("taken", "m1", json!([{"powerAction": "off"}])).await;
    assert!(world.job_end("taken").await.unwrap_err().contains("does not belong to this Job"));
}
