// SPDX-License-Identifier: Apache-2.0
//! `kubectl apply` without `--server-side`: the client works out a patch from what it applied before.

use anyhow::Result;

use crate::session::Session;

const GADGET: &str = "
apiVersion: tests.invalid/v1
kind: Gadget
metadata:
  name: thing
  labels: { app: web, tier: front }
  annotations: { why: because }
spec:
  size: small
  count: 3
  colour: red
  parts: [{ name: lid, weight: 1 }, { name: body, weight: 2 }]
  tags: [a, b]
  notes: { a: one, b: two }
  owner: { name: anna, room: e1 }
";

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: settings, labels: { app: web }, finalizers: [tests.invalid/a, tests.invalid/b] }
data: { a: '1', b: '2' }
";

/// Created, configured, unchanged.
pub async fn applying(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.says("apply -f @thing.yaml", "gadget.tests.invalid/thing created").await?;
    s.says("apply -f @thing.yaml", "unchanged").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.file("thing.yaml", &GADGET.replace("count: 3", "count: 4"))?;
    s.says("apply -f @thing.yaml", "configured").await?;
    s.ok("apply -f @thing.yaml -o yaml").await?;
    s.ok("apply -f @thing.yaml -o name").await?;
    s.ok("apply -f @thing.yaml --dry-run=server").await?;
    s.ok("apply -f @thing.yaml --dry-run=client").await?;
    s.file("settings.yaml", SETTINGS)?;
    s.ok("apply -f @settings.yaml").await?;
    s.ok("apply -f @settings.yaml").await?;
    s.ok("create configmap bare --from-literal=a=1").await?;
    let bare = "{apiVersion: v1, kind: ConfigMap, metadata: {name: bare}, data: {b: '2'}}";
    // It warns that the object was not made by apply.
    s.piped("apply -f -", bare).await?;
    s.ok("get configmap bare -o yaml --show-managed-fields").await?;
    s.ok("apply -f @thing.yaml -f @settings.yaml").await?;
    s.fails("apply -f @thing.yaml -l app=db").await?;
    s.ok("apply -f @thing.yaml --overwrite=false --force").await.map(drop)?;
    s.file("thing.yaml", &GADGET.replace("size: small", "size: huge"))?;
    s.fails("apply -f @thing.yaml").await?;
    s.file("thing.yaml", &GADGET.replace("count: 3", "count: many"))?;
    s.fails("apply -f @thing.yaml").await?;
    s.ok("patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":null}}'").await?;
    Ok(())
}

/// What is no longer in the manifest goes; what others set stays.
pub async fn fields_that_go(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.file("settings.yaml", SETTINGS)?;
    s.ok("apply -f @thing.yaml -f @settings.yaml").await?;
    s.ok("label gadget thing other=stays").await?;
    s.ok("label configmap settings other=stays").await?;
    s.ok("patch gadget thing --type=merge -p '{\"spec\":{\"limit\":9,\"notes\":{\"c\":\"three\"}}}'").await?;
    s.ok("patch configmap settings -p '{\"data\":{\"c\":\"3\"}}'").await?;
    let less = GADGET
        .replace("  colour: red\n", "")
        .replace(", b: two", "")
        .replace(", room: e1", "")
        .replace(", tier: front", "")
        .replace("{ name: lid, weight: 1 }, ", "");
    s.file("thing.yaml", &less)?;
    s.file("settings.yaml", &SETTINGS.replace(", b: '2'", "").replace("tests.invalid/a, ", ""))?;
    s.says("apply -f @thing.yaml -f @settings.yaml", "gadget.tests.invalid/thing configured").await?;
    s.ok("get gadget thing -o yaml --show-managed-fields").await?;
    s.ok("get configmap settings -o yaml --show-managed-fields").await?;
    s.ok("apply -f @thing.yaml -f @settings.yaml").await?;
    s.ok("patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":null}}'").await?;
    Ok(())
}

/// Folders, several documents, JSON, standard input.
pub async fn folders(s: &mut Session<'_>) -> Result<()> {
    s.file("all/thing.yaml", GADGET)?;
    s.file("all/more/settings.yml", SETTINGS)?;
    let json = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"login"},"stringData":{"user":"admin"},"type":"Opaque"}"#;
    s.file("all/login.json", json)?;
    s.file("all/notes.txt", "not a manifest")?;
    s.file(
        "kustomization.yaml",
        "resources: [all/thing.yaml]\nnamePrefix: my-\nconfigMapGenerator: [{name: made, literals: [a=1]}]\n",
    )?;
    s.ok("apply -f @all").await?;
    s.ok("apply -f @all -R").await?;
    s.ok("apply -f @all --recursive").await?;
    s.piped("apply -f -", &format!("{GADGET}---\n{SETTINGS}---\n")).await?;
    s.ok("apply -k .").await?;
    s.ok("get gadgets,configmaps,secrets -o name").await?;
    s.ok("get secret login -o yaml").await?;
    s.fails("apply -f @nothing").await?;
    s.fails("apply -f @all/notes.txt").await?;
    s.fails("apply").await?;
    s.ok("delete -f @all").await?;
    s.ok("delete -k .").await?;
    s.ok("patch configmap settings --type=merge -p '{\"metadata\":{\"finalizers\":null}}'").await?;
    s.ok("delete -f @all -R --ignore-not-found").await?;
    s.fails("delete -f @all").await?;
    Ok(())
}

/// `--prune`: what was applied before with the same label and is gone from the files.
pub async fn pruning(s: &mut Session<'_>) -> Result<()> {
    let map = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{set: one}}}}, data: {{a: b}}}}\n---\n"
        )
    };
    let gadget = "{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {name: old, labels: {set: one}}, spec: {}}\n---\n";
    s.file("all.yaml", &format!("{}{}{gadget}", map("first"), map("second")))?;
    let lists = "--prune-allowlist=core/v1/ConfigMap --prune-allowlist=tests.invalid/v1/Gadget";
    s.ok(&format!("apply --prune -l set=one {lists} -f @all.yaml")).await?;
    s.ok("create configmap by-hand --from-literal=a=1").await?;
    s.ok("label configmap by-hand set=one").await?;
    s.file("all.yaml", &map("second"))?;
    s.ok(&format!("apply --prune -l set=one {lists} --dry-run=server -f @all.yaml")).await?;
    s.ok(&format!("apply --prune -l set=one {lists} -f @all.yaml")).await?;
    s.ok("get gadgets,configmaps -o name").await?;
    s.fails("apply --prune -f @all.yaml").await?;
    Ok(())
}

/// `--prune` with a set that remembers its members.
pub async fn apply_sets(s: &mut Session<'_>) -> Result<()> {
    let set = |names: &[&str]| {
        let gadgets = names.iter().map(|name| {
            format!("{{apiVersion: tests.invalid/v1, kind: Gadget, metadata: {{name: {name}}}, spec: {{}}}}\n---\n")
        });
        gadgets.collect::<String>()
    };
    s.file("set.yaml", &set(&["first", "second", "third"]))?;
    let namespace = s.namespace.clone();
    for parent in ["set-of-gadgets", "secrets/set-of-gadgets", "configmaps/set-of-gadgets"] {
        s.file("set.yaml", &set(&["first", "second", "third"]))?;
        s.ok(&format!("apply --prune --applyset={parent} -n {namespace} -f @set.yaml")).await?;
        s.file("set.yaml", &set(&["second"]))?;
        s.ok(&format!("apply --prune --applyset={parent} -n {namespace} -f @set.yaml")).await?;
        s.ok("get gadgets,configmaps,secrets --show-labels").await?;
        s.ok("get secrets,configmaps -o yaml --show-managed-fields").await?;
        s.ok(&format!("apply --prune --applyset=other -n {namespace} -f @set.yaml")).await?;
        s.ok("delete gadgets --all").await?;
    }
    Ok(())
}

/// What was applied last, shown, set and edited.
pub async fn last_applied(s: &mut Session<'_>) -> Result<()> {
    s.file("thing.yaml", GADGET)?;
    s.ok("create -f @thing.yaml").await?;
    s.ok("apply view-last-applied gadget/thing").await?;
    s.fails("apply set-last-applied -f @thing.yaml").await?;
    s.ok("apply set-last-applied -f @thing.yaml --create-annotation=true").await?;
    s.ok("apply view-last-applied gadget/thing").await?;
    s.ok("apply view-last-applied -f @thing.yaml -o json").await?;
    s.file("thing.yaml", &GADGET.replace("count: 3", "count: 5"))?;
    s.ok("apply set-last-applied -f @thing.yaml").await?;
    s.ok("apply view-last-applied gadget thing").await?;
    s.editor("sed -i 's/count: 5/count: 6/' \"$1\"")?;
    s.ok("apply edit-last-applied gadget/thing").await?;
    s.ok("apply view-last-applied gadget thing").await?;
    s.ok("apply edit-last-applied gadget/thing").await?;
    s.ok("get gadget thing -o yaml").await?;
    Ok(())
}
