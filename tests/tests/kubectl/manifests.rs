// SPDX-License-Identifier: Apache-2.0
//! Manifests as operators have them for Tinkerbell.

use anyhow::Result;

use crate::session::Session;

const KINDS: &str = "hardware,templates,workflows,workflowrulesets,machines,jobs.bmc.tinkerbell.org,tasks.bmc.tinkerbell.org,secrets";

/// A machine with its BMC, template and workflow in one file of many documents.
pub async fn upstream(s: &mut Session<'_>) -> Result<()> {
    s.ok("create -f %rack.yaml").await?;
    for line in [
        &format!("get {KINDS}"),
        &format!("get {KINDS} -o wide --show-labels"),
        &format!("get {KINDS} -o yaml --show-managed-fields"),
        "get tinkerbell",
        "get hw,wf,tpl,wrs",
        "get hw rack1-slot7 -o json",
        "get template debian -o jsonpath={.spec.data}",
        "get hw -l rack=1 -o jsonpath={.items[*].spec.interfaces[*].dhcp.mac}",
        "get hw -o custom-columns=NAME:.metadata.name,IP:.spec.interfaces[0].dhcp.ip.address,GPU:.spec.resources.nvidia\\.com/gpu",
        "describe hardware rack1-slot7",
        "describe workflow,template,machine",
        "describe secret rack1-slot7-bmc",
        "apply -f %rack.yaml",
        "apply -f %rack.yaml",
        "apply --server-side --force-conflicts -f %rack.yaml",
        "get hardware,workflow rack1-slot7 -o yaml --show-managed-fields",
    ] {
        s.ok(line).await?;
    }
    let status = "{\"status\":{\"state\":\"RUNNING\",\"agentID\":\"52:54:00:0a:07:01\",\"currentState\":{\"taskName\":\"os installation\",\"actionName\":\"stream\",\"state\":\"RUNNING\"},\"globalExecutionStop\":\"2026-01-01T00:00:00Z\",\"templateRendering\":\"successful\"}}";
    s.ok(&format!("patch workflow rack1-slot7 --subresource=status --type=merge -p '{status}'")).await?;
    s.ok("get workflows").await?;
    s.ok("get workflows -o wide").await?;
    s.ok("describe workflow rack1-slot7").await?;
    s.ok("wait wf/rack1-slot7 --for=jsonpath={.status.state}=RUNNING --timeout=5s").await?;
    s.ok("delete -f %rack.yaml").await?;
    s.ok("get tinkerbell").await?;
    Ok(())
}

/// A list in JSON, with numbers as numbers.
pub async fn lists(s: &mut Session<'_>) -> Result<()> {
    s.ok("apply -f %nodes.json").await?;
    s.ok("apply -f %nodes.json").await?;
    s.ok("apply --server-side --force-conflicts -f %nodes.json").await?;
    s.ok("get hardware -l role=worker --sort-by=.spec.interfaces[0].dhcp.ip.address").await?;
    s.ok("get -f %nodes.json -o yaml --show-managed-fields").await?;
    s.ok("replace -f %nodes.json").await?;
    s.ok("label -f %nodes.json rack=2").await?;
    s.ok("diff -f %nodes.json").await?;
    s.ok("delete -f %nodes.json").await?;
    s.fails("get -f %nodes.json").await?;
    Ok(())
}

/// Fields that nobody knows, and values that the schema refuses.
pub async fn unknown_fields(s: &mut Session<'_>) -> Result<()> {
    let unknown = "strict decoding error: unknown field \"spec.disk\", unknown field \"spec.interfaces[0].dhcp.ip.gatway\", unknown field \"spec.interfaces[0].netboot.allowPxe\"";
    s.complains("create -f %typo.yaml", unknown).await?;
    s.complains("apply -f %typo.yaml", unknown).await?;
    let misfit = ".spec.disk: field not declared in schema";
    s.apart("several fields are told of in no fixed order")
        .complains("apply --server-side -f %typo.yaml", misfit)
        .await?;
    s.ok("create -f %typo.yaml --validate=warn").await?;
    s.ok("get hardware typo -o yaml").await?;
    s.ok("replace -f %typo.yaml --validate=false").await?;
    let line = "apply --server-side -f %typo.yaml --validate=warn --force-conflicts";
    s.apart("several fields are told of in no fixed order").complains(line, misfit).await?;
    let hardware = |interface: &str| {
        format!(
            "{{apiVersion: tinkerbell.org/v1alpha1, kind: Hardware, metadata: {{name: bad}}, spec: {{interfaces: [{interface}]}}}}"
        )
    };
    for interface in [
        "{dhcp: {mac: 'AA:BB:CC:DD:EE:FF'}}",
        "{dhcp: {mac: '52:54:00:0c:00:01', tftp_server_name: a}}",
        "{dhcp: {classless_static_routes: [{router: 192.0.2.1}]}}",
        "{dhcp: {vlan_id: '4097'}}",
        "{netboot: {rpi: {}}}",
        "{dhcp: {lease_time: long}}",
        "{disableDhcp: 'no'}",
    ] {
        s.piped_fails("create -f -", &hardware(interface)).await?;
    }
    for text in [
        "{apiVersion: bmc.tinkerbell.org/v1alpha1, kind: Machine, metadata: {name: bad}, spec: {connection: {host: '', insecureTLS: true}}}",
        "{apiVersion: bmc.tinkerbell.org/v1alpha1, kind: Machine, metadata: {name: bad}, spec: {}}",
        "{apiVersion: bmc.tinkerbell.org/v1alpha1, kind: Job, metadata: {name: bad}, spec: {machineRef: {name: a, namespace: b}, tasks: []}}",
        "{apiVersion: bmc.tinkerbell.org/v1alpha1, kind: Job, metadata: {name: bad}, spec: {machineRef: {name: a, namespace: b}, tasks: [{powerAction: explode}]}}",
        "{apiVersion: bmc.tinkerbell.org/v1alpha1, kind: Job, metadata: {name: bad}, spec: {machineRef: {name: a, namespace: b}, tasks: [{powerAction: 'on', bootDevice: {device: pxe}}]}}",
        "{apiVersion: tinkerbell.org/v1alpha1, kind: Workflow, metadata: {name: bad}, spec: {bootOptions: {bootMode: telepathy}}}",
        "{apiVersion: tinkerbell.org/v1alpha1, kind: Template, metadata: {name: bad}, spec: {data: [1]}}",
    ] {
        s.piped_fails("create -f -", text).await?;
    }
    Ok(())
}
