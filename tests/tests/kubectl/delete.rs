// SPDX-License-Identifier: Apache-2.0
//! `kubectl delete`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::session::Session;

/// One, some and all.
pub async fn deleting(s: &mut Session<'_>) -> Result<()> {
    let fill = "apply -f %gadgets-three.yaml";
    for line in [
        "delete gadget alpha",
        "delete gadget/alpha gadget/beta",
        "delete gadgets -l app=web",
        "delete gadgets --field-selector=spec.colour=red",
        "delete gadgets --all",
        "delete gadgets,configmaps --all",
        "delete tests --all",
        "delete -f %gadgets-three.yaml",
        "delete gadget alpha -o name",
        "delete gadget alpha --now",
        "delete gadget alpha --grace-period=0 --force",
        "delete gadget alpha --grace-period=5",
        "delete gadget alpha --wait=false",
        "delete gadget nobody --ignore-not-found",
        "delete gadget alpha nobody --ignore-not-found",
    ] {
        s.ok(fill).await?;
        s.ok(line).await?;
        s.ok("get gadgets -o name").await?;
    }
    s.ok(fill).await?;
    for line in [
        "delete gadget nobody",
        "delete gadget alpha nobody",
        "delete gadgets",
        "delete gadget alpha --all",
        "delete gadget alpha --cascade=sometimes",
        "delete gadgets -l 'app in ('",
        "delete gadgets --all --field-selector=spec.count=3",
        "delete namespace kube-system",
        "delete namespace nowhere-at-all",
    ] {
        s.fails(line).await?;
    }
    s.ok("patch gadget gamma --type=merge -p '{\"metadata\":{\"finalizers\":[\"tests.invalid/held\"]}}'")
        .await?;
    s.fails("delete gadget gamma --timeout=1s").await?;
    s.ok("delete gadget gamma --wait=false").await?;
    s.ok("get gadget gamma -o yaml").await?;
    s.fails("patch gadget gamma --type=merge -p '{\"metadata\":{\"finalizers\":[\"tests.invalid/held\",\"tests.invalid/more\"]}}'").await?;
    s.ok("label gadget gamma still=here").await?;
    s.ok("patch gadget gamma --type=merge -p '{\"metadata\":{\"finalizers\":null}}'").await?;
    s.fails("get gadget gamma").await?;
    Ok(())
}

/// What becomes of dependents.
pub async fn cascades(s: &mut Session<'_>) -> Result<()> {
    for cascade in ["background", "foreground", "orphan", "true", "false"] {
        let uid = family(s).await?;
        s.ok(&format!("delete gadget owner --cascade={cascade}")).await?;
        match cascade {
            "orphan" | "false" => {
                s.ok("get gadget child -o yaml").await?;
                s.ok("get configmap child grandchild -o name").await?;
                // The dependent first: the collector must not be faster than this command.
                s.ok("delete configmap grandchild").await?;
                s.ok("delete gadget,configmap --all").await?;
            }
            // The client waits for the owner, which goes after its dependents.
            "foreground" => {
                s.fails("get gadget owner").await?;
                gone(s, &["gadget child", "configmap child", "configmap grandchild"]).await?;
            }
            _ => gone(s, &["gadget child", "configmap child", "configmap grandchild"]).await?,
        }
        s.must(!uid.is_null(), || "the owner has no UID".to_owned());
    }
    family(s).await?;
    s.ok("patch configmap child --type=merge -p '{\"metadata\":{\"finalizers\":[\"tests.invalid/held\"]}}'")
        .await?;
    s.ok("delete gadget owner --cascade=foreground --wait=false").await?;
    s.until("get gadget owner -o jsonpath={.metadata.finalizers}", "foregroundDeletion").await?;
    s.until("get configmap child -o jsonpath={.metadata.deletionTimestamp}", "Z").await?;
    s.ok("get gadget owner -o yaml").await?;
    let waiting = s.begin("wait --for=delete gadget/owner --timeout=60s").await?;
    s.ok("patch configmap child --type=merge -p '{\"metadata\":{\"finalizers\":null}}'").await?;
    waiting.end(s, 0).await?;
    gone(s, &["configmap child"]).await
}

/// Waits for each to be gone. `wait --for=delete` ends at the first name that is not there, so it cannot wait for several that go in any order.
async fn gone(s: &mut Session<'_>, objects: &[&str]) -> Result<()> {
    for object in objects {
        s.until(&format!("get {object}"), "(NotFound)").await?;
    }
    Ok(())
}

/// An owner with two dependents, of which one has a dependent itself.
async fn family(s: &mut Session<'_>) -> Result<Value> {
    let namespace = s.namespace.clone();
    let owner = json!({"apiVersion": "tests.invalid/v1", "kind": "Gadget", "metadata": {"name": "owner"}, "spec": {}});
    s.piped("create -f -", &owner.to_string()).await?;
    let uid = s
        .value(&format!("/apis/tests.invalid/v1/namespaces/{namespace}/gadgets/owner"), "/metadata/uid")
        .await?;
    let owners = json!([{"apiVersion": "tests.invalid/v1", "kind": "Gadget", "name": "owner", "uid": uid, "blockOwnerDeletion": true}]);
    let child = |api: &str, kind: &str, name: &str, owners: &Value| {
        let spec = if kind == "Gadget" { "spec" } else { "data" };
        let metadata = json!({"name": name, "ownerReferences": owners});
        json!({"apiVersion": api, "kind": kind, "metadata": metadata, spec: {}}).to_string()
    };
    s.piped("create -f -", &child("tests.invalid/v1", "Gadget", "child", &owners)).await?;
    s.piped("create -f -", &child("v1", "ConfigMap", "child", &owners)).await?;
    let of_child = s
        .value(&format!("/apis/tests.invalid/v1/namespaces/{namespace}/gadgets/child"), "/metadata/uid")
        .await?;
    let owners = json!([{"apiVersion": "tests.invalid/v1", "kind": "Gadget", "name": "child", "uid": of_child, "blockOwnerDeletion": true}]);
    s.piped("create -f -", &child("v1", "ConfigMap", "grandchild", &owners)).await?;
    Ok(uid)
}

/// A namespace with everything in it.
pub async fn namespaces(s: &mut Session<'_>) -> Result<()> {
    let other = format!("{}-other", s.namespace);
    s.ok(&format!("create namespace {other}")).await?;
    s.ok(&format!("create -n {other} -f %gadgets-three.yaml")).await?;
    s.ok(&format!("create configmap settings -n {other} --from-literal=a=1")).await?;
    let held = "{\"metadata\":{\"finalizers\":[\"tests.invalid/held\"]}}";
    s.ok(&format!("patch gadget alpha -n {other} --type=merge -p '{held}'")).await?;
    s.ok(&format!("delete namespace {other} --wait=false")).await?;
    s.until(&format!("get namespace {other}"), "Terminating").await?;
    s.until(&format!("get gadget alpha -n {other} -o jsonpath={{.metadata.deletionTimestamp}}"), "Z").await?;
    s.fails(&format!("create configmap late -n {other} --from-literal=a=1")).await?;
    s.fails(&format!("create -n {other} -f %gadgets-three.yaml")).await?;
    s.ok(&format!(
        "patch gadget alpha -n {other} --type=merge -p '{}'",
        held.replace("[\"tests.invalid/held\"]", "null")
    ))
    .await?;
    let wait = format!("wait --for=delete namespace/{other} --timeout=80s");
    s.apart("it says nothing of what is gone already").ok(&wait).await?;
    s.fails(&format!("get namespace {other}")).await?;
    s.ok(&format!("get gadgets -n {other}")).await?;
    s.fails(&format!("create configmap late -n {other} --from-literal=a=1")).await?;
    Ok(())
}
