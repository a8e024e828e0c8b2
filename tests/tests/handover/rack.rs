// SPDX-License-Identifier: Apache-2.0
//! A rack in the middle of its work, and what two servers have to have in common afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use api::annotations::{DEFAULT_NAMESPACE, FIRST_UID, NETBOOT_FOR, SYSTEM_NAMESPACE};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Machines in the rack.
pub const MACHINES: usize = 30;
/// Kinds that move whole, by group.
const KINDS: [(&str, &[&str]); 3] = [
    ("tinkerbell.org", &["Hardware", "Template", "Workflow", "WorkflowRuleSet"]),
    ("bmc.tinkerbell.org", &["Machine", "Job", "Task"]),
    (
        "anywhere.eks.amazonaws.com",
        &["Cluster", "TinkerbellDatacenterConfig", "TinkerbellMachineConfig", "TinkerbellTemplateConfig"],
    ),
];
/// Secrets and ConfigMaps that move.
const NAMED: [(&str, &str, &str); 3] = [
    ("Secret", SYSTEM_NAMESPACE, "tink-agent-token-key"),
    ("Secret", "racks", "bmc"),
    ("ConfigMap", "eksa-system", "rack-machines"),
];

fn resource(group: &str, kind: &str) -> ApiResource {
    let plural = match kind {
        "Hardware" => "hardware".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let version = if group.is_empty() { "v1" } else { "v1alpha1" };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

/// Makes an object, and its status where it has one; gives its UID.
async fn make(client: &Client, group: &str, object: Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource(group, &kind));
    let made = api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await;
    let made = made.with_context(|| format!("{kind} {name}"))?;
    if let Some(status) = object.get("status") {
        let status = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &status).await?;
    }
    made.metadata.uid.context("no UID")
}

fn owner(group: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": format!("{group}/v1alpha1"), "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}])
}

/// One object of each kind of reference that there is, many times.
pub async fn populate(client: &Client) -> Result<()> {
    for name in [DEFAULT_NAMESPACE, SYSTEM_NAMESPACE, "racks", "eksa-system"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &resource("", "Namespace"));
        namespaces.patch(name, &PatchParams::apply("tests"), &Patch::Apply(object)).await?;
    }
    let (core, tink, bmc) = ("", "tinkerbell.org", "bmc.tinkerbell.org");
    make(client, core, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": SYSTEM_NAMESPACE, "name": "tink-agent-token-key"}, "data": {"key": "a2V5"}})).await?;
    make(client, core, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "racks", "name": "bmc"}, "data": {"password": "c2VjcmV0"}})).await?;
    make(client, core, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "racks", "name": "others"}, "data": {"password": "c2VjcmV0"}})).await?;
    make(client, core, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "eksa-system", "name": "rack-machines"}, "data": {"record": "{}"}})).await?;
    make(client, tink, json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Template", "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "os"}, "spec": {"data": "version: \"0.1\"\nname: os\nglobal_timeout: 60\ntasks: []\n"}})).await?;
    for number in 0..MACHINES {
        machine(client, number, (tink, bmc)).await?;
    }
    // One that is being removed, and waits for somebody.
    make(client, tink, json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "going", "finalizers": ["example.org/hold"]}, "spec": {}})).await?;
    let hardware: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), DEFAULT_NAMESPACE, &resource(tink, "Hardware"));
    hardware.delete("going", &kube::api::DeleteParams::default()).await?;
    Ok(())
}

async fn machine(client: &Client, number: usize, (tink, bmc): (&str, &str)) -> Result<()> {
    let (name, install) = (format!("m{number}"), format!("install-m{number}"));
    make(client, bmc, json!({"apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Machine", "metadata": {"namespace": DEFAULT_NAMESPACE, "name": name},
        "spec": {"connection": {"host": format!("192.0.2.{number}"), "port": 623, "insecureTLS": true, "authSecretRef": {"name": "bmc", "namespace": "racks"}}},
        "status": {"powerState": "on"}})).await?;
    let workflow = make(client, tink, json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Workflow", "metadata": {"namespace": DEFAULT_NAMESPACE, "name": install},
        "spec": {"templateRef": "os", "hardwareRef": name, "bootOptions": {"toggleAllowNetboot": true, "bootMode": "netboot"}},
        "status": {"state": "RUNNING", "agentID": format!("52:54:00:00:00:{number:02x}")}})).await?;
    let job_name = format!("netboot-{install}");
    let job = make(client, bmc, json!({"apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Job",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": job_name, "ownerReferences": owner(tink, "Workflow", &install, &workflow)},
        "spec": {"machineRef": {"name": name, "namespace": DEFAULT_NAMESPACE}, "tasks": [{"powerAction": "off"}]},
        "status": {"conditions": [{"type": "Running", "status": "True"}]}})).await?;
    make(client, bmc, json!({"apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Task",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": format!("{job_name}-task-0"), "ownerReferences": owner(bmc, "Job", &job_name, &job)},
        "spec": {"task": {"powerAction": "off"}, "connection": {"host": "192.0.2.1", "port": 623, "insecureTLS": true, "authSecretRef": {"name": "bmc", "namespace": "racks"}}}})).await?;
    // The Workflow knows the UID of its Job, and the Hardware that of the Workflow: names in a circle.
    let workflows: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), DEFAULT_NAMESPACE, &resource(tink, "Workflow"));
    let jobs = Patch::Merge(json!({"status": {"bootOptions": {"jobs": {job_name.as_str(): {"uid": job}}}}}));
    workflows.patch_status(&install, &PatchParams::default(), &jobs).await?;
    make(client, tink, json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": name, "labels": {"type": "worker"}, "annotations": {NETBOOT_FOR: format!("{install}/{workflow}")}},
        "spec": {"disks": [{"device": "/dev/sda"}], "interfaces": [{"dhcp": {"mac": format!("52:54:00:00:00:{number:02x}"), "ip": {"address": format!("192.0.2.{}", 100 + number), "netmask": "255.255.255.0"}}, "netboot": {"allowPXE": true}}]}})).await?;
    Ok(())
}

/// Everything that moves, by kind, namespace and name.
pub async fn everything(client: &Client) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for (group, kinds) in KINDS {
        for kind in kinds {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(group, kind));
            for object in api.list(&ListParams::default()).await?.items {
                let (namespace, name) = (object.metadata.namespace.clone(), object.metadata.name.clone());
                let place = format!("{kind} {}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
                all.insert(place, json!(object));
            }
        }
    }
    for (kind, namespace, name) in NAMED {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource("", kind));
        if let Some(object) = api.get_opt(name).await? {
            all.insert(format!("{kind} {namespace}/{name}"), json!(object));
        }
    }
    Ok(all)
}

/// Fails unless both servers had the same, with what each names by UID, but for what every server makes for itself.
pub fn same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Result<()> {
    let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    ensure!(names(before) == names(after), "there is\n{:?}\ninstead of\n{:?}", names(after), names(before));
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let turned: Vec<(String, String)> =
        before.iter().map(|(place, object)| (uid(object), uid(&after[place]))).collect();
    for (place, object) in before {
        let first = object["metadata"]["annotations"].get(FIRST_UID).cloned();
        let mut wanted = lasting(object).to_string();
        for (was, is) in &turned {
            wanted = wanted.replace(was.as_str(), is);
        }
        let (wanted, found): (Value, Value) = (serde_json::from_str(&wanted)?, lasting(&after[place]));
        ensure!(wanted == found, "{place} is\n{found:#}\ninstead of\n{wanted:#}");
        if place.starts_with("Workflow ") {
            let first = first.unwrap_or_else(|| uid(object).into());
            // One that came back to where it was made has its first UID itself.
            let kept = after[place]["metadata"]["annotations"].get(FIRST_UID).cloned();
            let kept = kept.unwrap_or_else(|| uid(&after[place]).into());
            ensure!(kept == first, "{place} was first called {first} and not {kept}");
        }
    }
    Ok(())
}

/// An object without what every server makes for itself, and without the name that it had first, which is looked at apart.
fn lasting(object: &Value) -> Value {
    let mut object = object.clone();
    let is_going = object["metadata"]["deletionTimestamp"].is_string();
    if object["status"].as_object().is_some_and(serde_json::Map::is_empty)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    let own = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !own.contains(&field.as_str()));
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let empty = annotations.is_some_and(|annotations| {
            annotations.remove(FIRST_UID);
            annotations.is_empty()
        });
        if empty {
            metadata.remove("annotations");
        }
        metadata.insert("going".to_owned(), is_going.into());
    }
    object
}

/// Changes, adds and removes something, as daemons would.
pub async fn work(client: &Client) -> Result<()> {
    let workflows: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), DEFAULT_NAMESPACE, &resource("tinkerbell.org", "Workflow"));
    let done = Patch::Merge(json!({"status": {"state": "SUCCESS"}}));
    workflows.patch_status("install-m1", &PatchParams::default(), &done).await?;
    let machines: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), DEFAULT_NAMESPACE, &resource("bmc.tinkerbell.org", "Machine"));
    let none = Patch::Merge(json!({"status": null}));
    machines.patch_status("m2", &PatchParams::default(), &none).await?;
    machines.delete("m3", &kube::api::DeleteParams::default()).await?;
    let hardware: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), DEFAULT_NAMESPACE, &resource("tinkerbell.org", "Hardware"));
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    hardware.patch("going", &PatchParams::default(), &free).await?;
    make(client, "tinkerbell.org", json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "late"}, "spec": {}})).await?;
    Ok(())
}
