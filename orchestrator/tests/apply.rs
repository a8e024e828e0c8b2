// SPDX-License-Identifier: Apache-2.0

//! The inventory against an API server: what a first, a second and a changed run do, and that a held machine is safe.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use api::{annotations, anywhere::v1alpha1::NAMESPACE, v1alpha1::Hardware};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use orchestrator::{
    finding::Findings,
    inventory::{self, BmcMode, Inventory, Outcome},
};
use serde_json::json;

const CSV: &str = include_str!("data/hardware.csv");

fn inventory(text: &str) -> Inventory {
    let mut findings = Findings::default();
    let inventory = inventory::read("hardware.csv", text, BmcMode::Accounts, &mut findings);
    assert_eq!(findings.as_slice(), []);
    inventory
}

struct World {
    client: kube::Client,
    _server: apiserver::Server,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server =
            apiserver::Server::open(apiserver::Options::new(dir.path().join("api.redb"))).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        Self { client: server.client(NAMESPACE), _server: server, _dir: dir }
    }

    /// What became of the objects, and what was told.
    async fn apply(&self, text: &str) -> (Vec<(String, Outcome)>, Vec<String>) {
        let mut findings = Findings::default();
        let applied = inventory::apply(&self.client, &inventory(text), None, &mut findings).await.unwrap();
        let told = findings.sorted().iter().map(ToString::to_string).collect();
        (applied.into_iter().map(|one| (one.object, one.outcome)).collect(), told)
    }

    fn hardware(&self) -> Api<Hardware> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

fn changed(outcomes: &[(String, Outcome)]) -> Vec<&str> {
    outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Changed)
        .map(|(object, _)| object.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing_and_a_third_only_what_was_changed() {
    let world = World::start().await;
    let (outcomes, told) = world.apply(CSV).await;
    assert_eq!(told, Vec::<String>::new());
    // Four machines with BMC and account, one without.
    assert_eq!(outcomes.len(), 13);
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Created), "{outcomes:?}");
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), NAMESPACE);
    let password = secrets.get("bmc-eksa-cp01-auth").await.unwrap().data.unwrap()["password"].0.clone();
    assert_eq!(password, b"Pr0v1s10n,\"1\"");

    let (outcomes, _) = world.apply(CSV).await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Unchanged), "{outcomes:?}");

    let (outcomes, _) =
        world.apply(&CSV.replace("/dev/nvme0n1", "/dev/nvme1n1").replace("10.10.44.1,", "10.10.44.9,")).await;
    assert_eq!(changed(&outcomes), ["machine/bmc-eksa-cp01", "hardware/eksa-wk01"]);
    let worker = world.hardware().get("eksa-wk01").await.unwrap();
    assert_eq!(worker.spec.disks[0].device.as_deref(), Some("/dev/nvme1n1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_a_cluster_holds_is_left_alone() {
    let world = World::start().await;
    world.apply(CSV).await;
    let claim = json!({
        "metadata": { "labels": { annotations::LABEL_OWNER_NAME: "rack-md-0-1", annotations::LABEL_OWNER_NAMESPACE: NAMESPACE } },
        "spec": { "userData": "#cloud-config" },
    });
    world.hardware().patch("eksa-wk01", &PatchParams::default(), &Patch::Merge(&claim)).await.unwrap();

    // A row that says what is: nothing is sent, whatever the cluster wrote into the object.
    let (outcomes, told) = world.apply(CSV).await;
    assert_eq!(told, Vec::<String>::new());
    let held = Outcome::Held { by: "eksa-system/rack-md-0-1".to_owned() };
    assert!(outcomes.contains(&("hardware/eksa-wk01".to_owned(), held)), "{outcomes:?}");

    // A row that says something else: nothing at all is sent, of no machine.
    let other = CSV.replace("/dev/nvme0n1", "/dev/sdb").replace("10.10.50.11", "10.10.50.21");
    let (outcomes, told) = world.apply(&other).await;
    assert_eq!(outcomes, []);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("error: hardware.csv:6: hostname: eksa-wk01 is held by eksa-system/rack-md-0-1"),
        "{told:?}"
    );
    let first = world.hardware().get("eksa-cp01").await.unwrap();
    assert_eq!(
        first.interface_by_ip("10.10.50.11".parse().unwrap()).and_then(|nic| nic.mac()).unwrap().to_string(),
        "cc:48:3a:00:00:01"
    );
    let worker = world.hardware().get("eksa-wk01").await.unwrap();
    assert_eq!(worker.spec.user_data.as_deref(), Some("#cloud-config"));
    assert_eq!(worker.metadata.labels.unwrap()[annotations::LABEL_OWNER_NAME], "rack-md-0-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_our_kinds_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = apiserver::Server::open(apiserver::Options::new(dir.path().join("api.redb"))).await.unwrap();
    let mut findings = Findings::default();
    let error = inventory::apply(&server.client(NAMESPACE), &inventory(CSV), None, &mut findings).await;
    assert!(error.unwrap_err().to_string().contains("run `tink setup`"));
}
