// SPDX-License-Identifier: Apache-2.0

//! Manifests as users write them: they parse, and come out as they went in.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use api::{anywhere::v1alpha1 as anywhere, bmc, v1alpha1};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn manifests_come_out_as_they_went_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let kind = document["kind"].as_str().unwrap().to_owned();
            let group = document["apiVersion"].as_str().unwrap().to_owned();
            let back = match (group.as_str(), kind.as_str()) {
                (v1alpha1::API_VERSION, "Hardware") => through::<v1alpha1::Hardware>(&document),
                (v1alpha1::API_VERSION, "Template") => through::<v1alpha1::Template>(&document),
                (v1alpha1::API_VERSION, "Workflow") => through::<v1alpha1::Workflow>(&document),
                (v1alpha1::API_VERSION, "WorkflowRuleSet") => through::<v1alpha1::WorkflowRuleSet>(&document),
                (bmc::v1alpha1::API_VERSION, "Machine") => through::<bmc::v1alpha1::Machine>(&document),
                (bmc::v1alpha1::API_VERSION, "Job") => through::<bmc::v1alpha1::Job>(&document),
                (bmc::v1alpha1::API_VERSION, "Task") => through::<bmc::v1alpha1::Task>(&document),
                (anywhere::API_VERSION, "Cluster") => through::<anywhere::Cluster>(&document),
                (anywhere::API_VERSION, "TinkerbellDatacenterConfig") => {
                    through::<anywhere::TinkerbellDatacenterConfig>(&document)
                }
                (anywhere::API_VERSION, "TinkerbellMachineConfig") => {
                    through::<anywhere::TinkerbellMachineConfig>(&document)
                }
                (anywhere::API_VERSION, "TinkerbellTemplateConfig") => {
                    through::<anywhere::TinkerbellTemplateConfig>(&document)
                }
                other => panic!("{}: {other:?}", path.display()),
            };
            assert_eq!(back, document, "{}", path.display());
            kinds.push(kind);
        }
    }
    kinds.sort();
    kinds.dedup();
    let expected = [
        "Cluster",
        "Hardware",
        "Job",
        "Machine",
        "Task",
        "Template",
        "TinkerbellDatacenterConfig",
        "TinkerbellMachineConfig",
        "TinkerbellTemplateConfig",
        "Workflow",
        "WorkflowRuleSet",
    ];
    assert_eq!(kinds, expected);
}

/// A list with one odd object in it must stay readable.
#[test]
fn an_object_without_a_spec_or_with_more_fields_is_read() {
    let bare = serde_json::json!({ "metadata": { "name": "a" } });
    for read in [
        serde_json::from_value::<v1alpha1::Hardware>(bare.clone()).map(drop),
        serde_json::from_value::<v1alpha1::Workflow>(bare.clone()).map(drop),
        serde_json::from_value::<bmc::v1alpha1::Machine>(bare.clone()).map(drop),
        serde_json::from_value::<bmc::v1alpha1::Job>(bare).map(drop),
    ] {
        read.unwrap();
    }
    let newer = serde_json::json!({
        "metadata": { "name": "a" },
        "spec": { "hardwareRef": "h", "fromTheFuture": 1 },
        "status": { "state": "STATE_PENDING", "templateRendering": "odd" }
    });
    let workflow: v1alpha1::Workflow = serde_json::from_value(newer).unwrap();
    assert_eq!(*workflow.state(), v1alpha1::WorkflowState::Other("STATE_PENDING".to_owned()));
    assert_eq!(workflow.status.unwrap().template_rendering, Some(v1alpha1::TemplateRendering::Unknown));
}

#[test]
fn hardware_answers_what_daemons_ask() {
    let text = include_str!("manifests/hardware.yaml");
    let hardware: v1alpha1::Hardware = serde_saphyr::from_str(text).unwrap();
    let first = "3C-EC-EF-4C-4F-54".parse().unwrap();
    let second: api::Mac = "3c:ec:ef:4c:4f:55".parse().unwrap();

    assert!(hardware.interface_by_mac(first).unwrap().allows_netboot());
    let other = hardware.interface_by_mac(second).unwrap();
    assert!(!other.allows_netboot() && !other.allows_dhcp());
    assert!(hardware.interface_by_mac("3c:ec:ef:4c:4f:56".parse().unwrap()).is_none());
    assert_eq!(hardware.interface_by_ip("172.16.10.100".parse().unwrap()).unwrap().mac(), Some(first));
    assert_eq!(hardware.macs().collect::<Vec<_>>(), [first, second]);
    assert_eq!(hardware.instance_id(), Some("3c:ec:ef:4c:4f:54"));
    assert_eq!(hardware.bmc_name(), Some("bmc-node-1"));
    assert!(hardware.is_uefi() && !hardware.is_protected());
    assert_eq!(hardware.agent_id(second), "3c:ec:ef:4c:4f:54");
    assert!(!hardware.has_agent_id("3c:ec:ef:4c:4f:55"), "agentID is the only identity once it is set");

    let mut nameless = hardware.clone();
    nameless.spec.agent_id = None;
    assert_eq!(nameless.agent_id(second), "3c:ec:ef:4c:4f:55");
    assert!(nameless.has_agent_id("3c:ec:ef:4c:4f:54") && nameless.has_agent_id("3c:ec:ef:4c:4f:55"));
    assert!(!nameless.has_agent_id("3c:ec:ef:4c:4f:56") && !nameless.has_agent_id(""));
}

#[test]
fn committed_definitions_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let hint = "stale: run `cargo run -p xtask -- generate` and commit the result";
    let files = api::crd_files().unwrap();
    for (name, yaml) in &files {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(&committed, yaml, "deploy/crds/{name} is {hint}");
        let read: Value = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(read["kind"], "CustomResourceDefinition");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), files.len(), "deploy/crds has other files too: {hint}");
}

fn through<K: Serialize + DeserializeOwned>(document: &Value) -> Value {
    let object: K = serde_json::from_value(document.clone()).unwrap();
    serde_json::to_value(object).unwrap()
}
