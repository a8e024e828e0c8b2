// SPDX-License-Identifier: Apache-2.0
//! `kubectl describe` and `kubectl events`, with events from both of their APIs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::session::Session;

/// Two events of an object: one as old clients write them, one of the newer API.
async fn tell(s: &mut Session<'_>, name: &str) -> Result<()> {
    let namespace = s.namespace.clone();
    let path = format!("/apis/tests.invalid/v1/namespaces/{namespace}/gadgets/{name}");
    let uid = s.value(&path, "/metadata/uid").await?;
    let about = json!({"apiVersion": "tests.invalid/v1", "kind": "Gadget", "name": name, "namespace": namespace, "uid": uid});
    let old = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{name}.first"), "namespace": namespace},
        "involvedObject": about, "type": "Normal", "reason": "Assembled", "message": "All parts are there.",
        "source": {"component": "assembler", "host": "bench"},
        "firstTimestamp": "2026-01-01T10:00:00Z", "lastTimestamp": "2026-01-01T11:00:00Z", "count": 3,
    });
    let new = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{name}.second"), "namespace": namespace},
        "regarding": about, "type": "Warning", "reason": "Hot", "note": "It is too hot.", "action": "Cool",
        "eventTime": "2026-01-02T10:00:00.000000Z", "reportingController": "tests.invalid/thermometer",
        "reportingInstance": "thermometer-0",
        "series": {"count": 5, "lastObservedTime": "2026-01-02T12:00:00.000000Z"},
    });
    s.piped("create -f -", &old.to_string()).await?;
    s.piped("create -f -", &new.to_string()).await?;
    Ok(())
}

/// Objects of every kind that there is.
pub async fn describing(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %gadgets-three.yaml").await?;
    s.ok("create -f %secret-and-map.yaml").await?;
    tell(s, "alpha").await?;
    s.until("get serviceaccounts -o name", "serviceaccount/default").await?;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T10:00:00.000000Z", "renewTime": "2026-01-01T10:00:01.000000Z", "leaseTransitions": 2}});
    s.piped("create -f -", &lease.to_string()).await?;
    s.says("describe gadget alpha", "All parts are there.").await?;
    s.says("describe gadget alpha", "It is too hot.").await?;
    for line in [
        "describe gadgets",
        "describe gadget beta --show-events=false",
        "describe gadgets -l app=db",
        "describe -f %gadgets-three.yaml",
        "describe gadget al",
        "describe configmap settings",
        "describe secret login",
        "describe serviceaccount default",
        "describe lease leader",
        "describe events",
        "describe configmaps,secrets",
        "describe crd hardware.tinkerbell.org",
        "get leases",
        "get lease leader -o yaml",
    ] {
        s.ok(line).await?;
    }
    let namespace = s.namespace.clone();
    s.within("quotas and limits are no kinds of ours").ok(&format!("describe namespace {namespace}")).await?;
    for line in ["describe gadget nobody", "describe nothing", "describe gadgets -l 'a in ('"] {
        s.fails(line).await?;
    }
    s.ok("describe gadgets -l app=nothing").await?;
    Ok(())
}

/// Events as such.
pub async fn events(s: &mut Session<'_>) -> Result<()> {
    s.ok("events").await?;
    s.ok("create -f %gadgets-three.yaml").await?;
    tell(s, "alpha").await?;
    tell(s, "beta").await?;
    for line in [
        "events",
        "events --for=gadget/alpha",
        "events --for=gadgets.tests.invalid/beta --types=Warning",
        "events --types=Normal",
        "events -o name",
        "events --no-headers",
        "get events",
        "get events -o wide",
        "get events.events.k8s.io",
        "get events.v1.events.k8s.io -o wide",
        "get events --sort-by=.reason",
        "get events --field-selector=involvedObject.name=alpha",
        "get events --field-selector=type=Warning,involvedObject.kind=Gadget -o name",
        "get events --field-selector=reason!=Hot",
        "get events.events.k8s.io --field-selector=regarding.name=alpha,type=Warning",
        "get event alpha.first -o yaml",
        "get event alpha.second -o yaml",
        "get events.events.k8s.io alpha.first -o yaml",
        "get events.events.k8s.io alpha.second -o yaml --show-managed-fields",
    ] {
        s.ok(line).await?;
    }
    s.fails("get events --field-selector=message=x").await?;
    s.fails("events --for=nothing/alpha").await?;
    s.fails("events --types=Loud").await?;
    let bare = |body: Value| body.to_string();
    s.piped_fails(
        "create -f -",
        &bare(json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "bare"}})),
    )
    .await?;
    s.piped_fails(
        "create -f -",
        &bare(json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "bare"}})),
    )
    .await?;
    s.piped_fails(
        "create -f -",
        &bare(json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "bare"},
        "involvedObject": {"kind": "Gadget", "name": "alpha", "namespace": "elsewhere"}})),
    )
    .await?;
    let mut watching = s.begin("events --watch --types=Normal").await?;
    tell(s, "gamma").await?;
    watching.until("Gadget/gamma").await?;
    watching.stop(s).await?;
    s.ok("delete events --all").await?;
    s.ok("get events").await?;
    Ok(())
}
