// SPDX-License-Identifier: Apache-2.0

//! The provider of bare metal against an API server: claims are exclusive, and everything may be asked for twice.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use api::{
    annotations,
    anywhere::v1alpha1::{NAMESPACE, OsFamily, TinkerbellMachineConfigSpec},
    bmc::v1alpha1::Job,
    v1alpha1::{Hardware, Template, Workflow},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use orchestrator::{
    finding::Findings,
    inventory::{self, BmcMode},
    plan::slot_name,
    provider::{Addressing, Boot, Phase, Power, Provider, ProviderError, Slot, bare_metal::Rack},
    templates,
};
use serde_json::json;

struct World {
    client: kube::Client,
    rack: Rack,
    _server: apiserver::Server,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server =
            apiserver::Server::open(apiserver::Options::new(dir.path().join("api.redb"))).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        let client = server.client(NAMESPACE);
        let mut findings = Findings::default();
        let inventory =
            inventory::read("h", include_str!("data/hardware.csv"), BmcMode::Accounts, &mut findings);
        inventory::apply(&client, &inventory, None, &mut findings).await.unwrap();
        assert_eq!(findings.as_slice(), []);
        Self { rack: Rack::new(client.clone()), client, _server: server, _dir: dir }
    }

    async fn patch(&self, machine: &str, patch: serde_json::Value) {
        let hardware: Api<Hardware> = Api::namespaced(self.client.clone(), NAMESPACE);
        hardware.patch(machine, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn hardware(&self, machine: &str) -> Hardware {
        Api::namespaced(self.client.clone(), NAMESPACE).get(machine).await.unwrap()
    }
}

fn workers() -> TinkerbellMachineConfigSpec {
    serde_json::from_value(json!({ "hardwareSelector": { "type": "worker" } })).unwrap()
}

fn slot(cluster: &str, number: usize) -> Slot {
    Slot {
        cluster: cluster.to_owned(),
        name: slot_name(cluster, "md-0", number),
        namespace: NAMESPACE.to_owned(),
    }
}

async fn free(rack: &Rack, cluster: &str) -> Vec<String> {
    rack.candidates(&workers(), cluster)
        .await
        .unwrap()
        .into_iter()
        .map(|candidate| candidate.machine)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_claim_a_machine_at_once_one_gets_it() {
    let world = World::start().await;
    let slots: Vec<_> = (0..8).map(|number| slot(&format!("c{number}"), 1)).collect();
    let claims = slots.iter().map(|slot| world.rack.claim("eksa-wk01", slot));
    let outcomes = futures::future::join_all(claims).await;
    let won: Vec<_> =
        slots.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(slot, _)| slot).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(lost, ProviderError::Held { .. } | ProviderError::Conflict { .. }), "{lost}");
    }
    let held = world.rack.held(&won[0].cluster).await.unwrap();
    assert_eq!(held[&won[0].name].machine, "eksa-wk01");
    // The holder may ask again; and the machine is a candidate for its own cluster alone.
    world.rack.claim("eksa-wk01", won[0]).await.unwrap();
    assert_eq!(free(&world.rack, &won[0].cluster).await, ["eksa-wk01", "eksa-wk02"]);
    assert_eq!(free(&world.rack, "other").await, ["eksa-wk02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_whose_names_begin_alike_are_kept_apart() {
    let world = World::start().await;
    world.rack.claim("eksa-wk01", &slot("rack-2", 1)).await.unwrap();
    assert!(world.rack.held("rack").await.unwrap().is_empty());
    assert_eq!(free(&world.rack, "rack").await, ["eksa-wk02"]);
    assert_eq!(world.rack.held("rack-2").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_machine_is_no_candidate_and_cannot_be_claimed() {
    let world = World::start().await;
    world
        .patch("eksa-wk02", json!({ "metadata": { "annotations": { annotations::PROTECTED: "true" } } }))
        .await;
    assert_eq!(free(&world.rack, "rack").await, ["eksa-wk01"]);
    let refused = world.rack.claim("eksa-wk02", &slot("rack", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("tinkerbell.org/protected"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_asked_for_once_and_leaves_nothing_behind() {
    let world = World::start().await;
    let (rack, slot) = (&world.rack, slot("rack", 1));
    let settings = templates::Settings {
        cluster: "rack",
        image_url: "http://i/1-34.gz",
        ..templates::Settings::default()
    };
    let boot = Boot {
        template: templates::built_in(OsFamily::Ubuntu, &settings),
        user_data: "#cloud-config".to_owned(),
    };

    let refused = rack.boot("eksa-wk01", &slot, &boot).await.unwrap_err();
    assert!(refused.to_string().contains("rack-md-0-1 does not hold it"), "{refused}");
    rack.claim("eksa-wk01", &slot).await.unwrap();
    assert_eq!(rack.observe("eksa-wk01", &slot).await.unwrap().phase, Phase::Idle);
    rack.boot("eksa-wk01", &slot, &boot).await.unwrap();
    let workflows: Api<Workflow> = Api::namespaced(world.client.clone(), NAMESPACE);
    let first = workflows.get("rack-md-0-1").await.unwrap();
    assert_eq!(first.spec.hardware_map["device_1"], "cc:48:3a:00:00:04");
    rack.boot("eksa-wk01", &slot, &boot).await.unwrap();
    assert_eq!(workflows.get("rack-md-0-1").await.unwrap().metadata.uid, first.metadata.uid);

    is_kept_from_booting(&world, &slot).await;
    let running = json!({ "status": {
        "state": "RUNNING", "currentState": { "actionName": "stream image to disk" },
        "progress": { "actionID": "a", "bytesRead": 5, "bytesTotal": 10, "bytesWritten": 7 },
    } });
    workflows.patch_status("rack-md-0-1", &PatchParams::default(), &Patch::Merge(&running)).await.unwrap();
    let seen = rack.observe("eksa-wk01", &slot).await.unwrap();
    assert_eq!((seen.phase, seen.bytes), (Phase::Installing, Some((5, Some(10)))));
    assert_eq!(seen.step.as_deref(), Some("stream image to disk"));

    rack.reset("eksa-wk01", &slot).await.unwrap();
    assert_eq!(rack.observe("eksa-wk01", &slot).await.unwrap().phase, Phase::Idle);
    rack.boot("eksa-wk01", &slot, &boot).await.unwrap();
    assert_ne!(workflows.get("rack-md-0-1").await.unwrap().metadata.uid, first.metadata.uid);

    rack.release("eksa-wk01", &slot).await.unwrap();
    rack.release("eksa-wk01", &slot).await.unwrap();
    let hardware = world.hardware("eksa-wk01").await;
    assert_eq!(hardware.spec.user_data, None);
    assert_eq!(hardware.metadata.labels.unwrap(), [("type".to_owned(), "worker".to_owned())].into());
    let templates: Api<Template> = Api::namespaced(world.client.clone(), NAMESPACE);
    assert!(templates.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(workflows.list(&ListParams::default()).await.unwrap().items.is_empty());
}

/// What its BMC does to the Job that is to start it is told, and no more once that is done.
async fn is_kept_from_booting(world: &World, slot: &Slot) {
    let job: Job = serde_json::from_value(json!({
        "apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Job",
        "metadata": { "name": "netboot-rack-md-0-1", "namespace": NAMESPACE },
        "spec": { "machineRef": { "name": "bmc-eksa-wk01", "namespace": NAMESPACE }, "tasks": [{ "powerAction": "on" }] },
    }))
    .unwrap();
    let (jobs, name): (Api<Job>, _) =
        (Api::namespaced(world.client.clone(), NAMESPACE), "netboot-rack-md-0-1");
    jobs.create(&PostParams::default(), &job).await.unwrap();
    let meets = json!({ "status": { "conditions": [
        { "type": "Running", "status": "True", "message": "connection refused; trying again" },
    ] } });
    jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(&meets)).await.unwrap();
    let workflows: Api<Workflow> = Api::namespaced(world.client.clone(), NAMESPACE);
    for (complete, cause) in [(false, Some("its BMC: connection refused; trying again")), (true, None)] {
        let status = json!({ "status": { "state": "PREPARING", "bootOptions": { "jobs": { name: { "complete": complete } } } } });
        workflows.patch_status("rack-md-0-1", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        let seen = world.rack.observe("eksa-wk01", slot).await.unwrap();
        assert_eq!((seen.phase, seen.cause.as_deref()), (Phase::Booting, cause));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_goes_through_the_bmc_or_is_told_to_be_a_persons() {
    let world = World::start().await;
    let (first, second) = (slot("rack", 1), slot("rack", 2));
    world.rack.claim("eksa-wk01", &first).await.unwrap();
    world.rack.claim("eksa-wk02", &second).await.unwrap();
    world.rack.power("eksa-wk01", &first, Power::Off).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), NAMESPACE);
    let job = jobs.get("rack-md-0-1-poweroff").await.unwrap();
    assert_eq!(job.spec.machine_ref.name, "bmc-eksa-wk01");
    // What became of an earlier one says nothing of now: it is another Job.
    world.rack.power("eksa-wk01", &first, Power::Off).await.unwrap();
    assert_ne!(jobs.get("rack-md-0-1-poweroff").await.unwrap().metadata.uid, job.metadata.uid);
    // Nor is what was not done yet done to the next installation.
    world.rack.reset("eksa-wk01", &first).await.unwrap();
    assert!(jobs.get_opt("rack-md-0-1-poweroff").await.unwrap().is_none());

    let refused = world.rack.power("eksa-wk02", &second, Power::On).await.unwrap_err();
    assert!(refused.to_string().contains("has no BMC"), "{refused}");
    assert_eq!(
        world.rack.addressing("eksa-wk02").await.unwrap(),
        Addressing::Static("10.10.50.15".parse().unwrap())
    );
    assert_eq!(world.rack.node_identity("eksa-wk02"), "tinkerbell://eksa-system/eksa-wk02");
}
