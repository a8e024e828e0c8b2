// SPDX-License-Identifier: Apache-2.0
//! `kubectl apply --server-side`.

use anyhow::Result;

use crate::session::Session;

const GADGET: &str = "
apiVersion: tests.invalid/v1
kind: Gadget
metadata:
  name: thing
  labels: { app: web }
spec:
  size: small
  count: 3
  parts: [{ name: lid, weight: 1 }, { name: body, weight: 2 }]
  tags: [a, b]
  steps: [one, two]
  notes: { a: one }
  owner: { name: anna, room: e1 }
";

/// Two who want different things.
pub async fn conflicts(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.says("apply --server-side -f @thing.yaml", "gadget.tests.invalid/thing serverside-applied").await?;
    s.ok("apply --server-side -f @thing.yaml").await?;
    s.file("theirs.yaml", &GADGET.replace("count: 3", "count: 4").replace("weight: 2", "weight: 3"))?;
    s.complains(
        "apply --server-side --field-manager=other -f @theirs.yaml",
        "Apply failed with 2 conflicts: conflicts with \"kubectl\":\n- .spec.count",
    )
    .await?;
    s.ok("apply --server-side --field-manager=other --force-conflicts -f @theirs.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.fails("apply --server-side -f @thing.yaml").await?;
    s.ok("patch gadget thing --type=merge -p '{\"spec\":{\"count\":9,\"steps\":[\"three\"]}}'").await?;
    s.fails("apply --server-side -f @thing.yaml").await?;
    s.ok("patch gadget thing --subresource=status --type=merge -p '{\"status\":{\"phase\":\"Up\"}}'").await?;
    s.fails("apply --server-side -f @thing.yaml").await?;
    s.fails("apply --server-side -f @thing.yaml --dry-run=server").await?;
    s.ok(
        "apply --server-side -f @thing.yaml --dry-run=server --force-conflicts -o yaml --show-managed-fields",
    )
    .await?;
    s.ok("apply --server-side -f @thing.yaml --force-conflicts").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.fails("apply --server-side --dry-run=client -f @thing.yaml").await?;
    s.file(
        "settings.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1', b: '2'}}",
    )?;
    s.ok("apply --server-side -f @settings.yaml").await?;
    s.ok("patch configmap settings -p '{\"data\":{\"a\":\"9\"}}'").await?;
    s.fails("apply --server-side -f @settings.yaml").await?;
    s.ok("get configmap settings -o yaml --show-managed-fields").await?;
    Ok(())
}

/// Fields that are given up, shared and taken over.
pub async fn owners(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.ok("apply --server-side --field-manager=first -f @thing.yaml").await?;
    s.ok("apply --server-side --field-manager=second -f @thing.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    let less = GADGET
        .replace("  count: 3\n", "")
        .replace("{ name: lid, weight: 1 }, ", "")
        .replace("a, b", "b")
        .replace("  notes: { a: one }\n", "");
    s.file("less.yaml", &less)?;
    s.ok("apply --server-side --field-manager=first -f @less.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.ok("apply --server-side --field-manager=second -f @less.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    let mine = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: thing, annotations: {by: third}}, spec: {notes: {z: last}, tags: [c], parts: [{name: lid}]}}";
    s.piped("apply --server-side --field-manager=third -f -", mine).await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    let none = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: thing}}";
    s.piped("apply --server-side --field-manager=third -f -", none).await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    let empty = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: empty, labels: {}}, spec: {notes: {}, parts: [], tags: [], extra: {}}}";
    s.piped("apply --server-side -f -", empty).await?;
    s.piped("create -f -", &empty.replace("name: empty", "name: empty2")).await?;
    s.ok("label gadget empty2 app=web").await?;
    s.ok("get gadget empty empty2 -o yaml --show-managed-fields").await?;
    s.piped(
        "replace -f -",
        &empty.replace("name: empty", "name: empty2").replace("notes: {}", "notes: {n: x}"),
    )
    .await?;
    s.ok("get gadget empty2 -o yaml --show-managed-fields").await?;
    s.ok("apply --server-side -f %secret-and-map.yaml").await?;
    s.ok("get secret,configmap -o yaml --show-managed-fields").await?;
    Ok(())
}

/// From the client's apply to the server's, and back.
pub async fn migration(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.ok("apply -f @thing.yaml").await?;
    s.file("thing.yaml", &GADGET.replace("  count: 3\n", "").replace("size: small", "size: large"))?;
    s.ok("apply --server-side -f @thing.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.ok("apply --server-side -f @thing.yaml").await?;
    s.ok("apply -f @thing.yaml").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.file(
        "settings.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1', b: '2'}}",
    )?;
    s.ok("apply -f @settings.yaml").await?;
    s.file("settings.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1'}}")?;
    s.ok("apply --server-side -f @settings.yaml --field-manager=other").await?;
    s.ok("get configmap settings -o yaml --show-managed-fields").await?;
    s.ok("apply --server-side -f @settings.yaml").await?;
    s.ok("get configmap settings -o yaml --show-managed-fields").await?;
    Ok(())
}
