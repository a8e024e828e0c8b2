// SPDX-License-Identifier: Apache-2.0

//! `tink apply`: makes objects be as manifests say.
//!
//! Owns the order of things: every document is read, checked against its schema here, and tried against the API server
//! without effect (dry run), before the first one is sent. All mistakes are reported at once, with file, line and field.
//! Objects are changed by a merge patch against what was applied last, kept in the annotation that kubectl uses, so that
//! both can work on the same objects and neither undoes what controllers write.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use api::annotations::LAST_APPLIED;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::{DynamicObject, GroupVersionKind, Status},
    discovery::{self, Scope},
};
use serde_json::{Value, json};

use manifest::{Document, Finding};

use crate::{
    kinds::{self, Kind},
    output,
};

mod check;
mod merge;

/// Who changed an object, in its managed fields.
const FIELD_MANAGER: &str = "tink";

/// Fields of metadata that only the API server writes.
const SERVER_METADATA: [&str; 7] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
];

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there and was changed.
    Configured,
    /// It was as it should be.
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// One object to apply.
#[derive(Debug)]
struct Planned {
    document: Document,
    kind: Kind,
    namespace: Option<String>,
    name: String,
    wanted: Value,
}

impl Planned {
    fn label(&self) -> String {
        format!("{}/{}", self.kind.full_name(), self.name)
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.kind.resource),
            None => Api::all_with(client.clone(), &self.kind.resource),
        }
    }
}

/// Applies all documents of the files, and says on standard output what became of each object.
///
/// # Errors
///
/// Every mistake found. When the mistakes are in the documents nothing was changed; when the API server failed in the
/// middle, what was applied before was printed.
pub async fn apply(client: &Client, paths: &[PathBuf], namespace: &str) -> Result<(), Vec<Finding>> {
    let (documents, mut findings) = manifest::read(paths);
    if documents.is_empty() && findings.is_empty() {
        findings.push(whole(paths, "there is nothing in it to apply"));
    }
    let (planned, wrong) = plan(client, documents, namespace).await;
    findings.extend(wrong);
    if !findings.is_empty() {
        return Err(findings);
    }

    let made: BTreeSet<_> =
        planned.iter().filter(|p| p.kind.resource.kind == "Namespace").map(|p| p.name.clone()).collect();
    for one in &planned {
        if let Err(error) = send(client, one, true).await
            && !waits_for_namespace(&error, one, &made)
        {
            let server = !matches!(error, kube::Error::Api(_));
            findings.extend(explain(one, &error));
            if server {
                break;
            }
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }

    for one in &planned {
        match send(client, one, false).await {
            Ok(outcome) => println!("{} {outcome}", one.label()),
            Err(error) => findings.extend(explain(one, &error)),
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

fn whole(paths: &[PathBuf], problem: &str) -> Finding {
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    Finding { file: names.join(", "), line: 0, field: String::new(), problem: problem.to_owned() }
}

/// Turns documents into objects: kinds are known, fields checked, names unique. Namespaces come first.
async fn plan(client: &Client, documents: Vec<Document>, namespace: &str) -> (Vec<Planned>, Vec<Finding>) {
    let (mut planned, mut findings) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for document in documents {
        let kind = match kind_of(client, &document).await {
            Ok(kind) => kind,
            Err(finding) => {
                findings.push(finding);
                continue;
            }
        };
        let wrong = check::check(&document, &kind);
        let metadata = document.root.get("metadata");
        let name = metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default().to_owned();
        let own = metadata.and_then(|metadata| metadata.text("namespace"));
        let namespace = kind.namespaced.then(|| own.unwrap_or(namespace).to_owned());
        if !name.is_empty() && !seen.insert((kind.full_name(), namespace.clone(), name.clone())) {
            findings.push(document.finding("metadata.name", format!("{name:?} is there twice")));
        }
        if wrong.is_empty() {
            let wanted = wanted(document.root.to_json(), namespace.as_deref());
            planned.push(Planned { document, kind, namespace, name, wanted });
        }
        findings.extend(wrong);
    }
    planned.sort_by_key(|planned| planned.kind.resource.kind != "Namespace");
    (planned, findings)
}

/// The kind of a document: one that we know, or one that the API server knows.
async fn kind_of(client: &Client, document: &Document) -> Result<Kind, Finding> {
    let (Some(api_version), Some(kind)) = (document.root.text("apiVersion"), document.root.text("kind"))
    else {
        return Err(document.finding("", "apiVersion and kind are needed to know what this is"));
    };
    let known = kinds::all();
    if let Some(found) = known.iter().find(|known| known.is(api_version, kind)) {
        return Ok(found.clone());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    match discovery::pinned_kind(client, &gvk).await {
        Ok((resource, capabilities)) => Ok(Kind::unlisted(resource, capabilities.scope == Scope::Namespaced)),
        Err(kube::Error::Api(_) | kube::Error::Discovery(_)) => {
            let names = known.iter().map(|known| known.resource.kind.as_str());
            let hint = manifest::nearest(kind, names)
                .and_then(|near| known.iter().find(|known| known.resource.kind == near))
                .map(|near| {
                    format!("; did you mean {} in {}?", near.resource.kind, near.resource.api_version)
                })
                .unwrap_or_default();
            Err(document.finding("kind", format!("the API server has no {kind} in {api_version}{hint}")))
        }
        Err(other) => Err(document.finding("kind", output::problem(&other))),
    }
}

/// The object as it is sent: with its namespace, without status and without what only the server writes.
fn wanted(mut object: Value, namespace: Option<&str>) -> Value {
    if let Some(root) = object.as_object_mut() {
        root.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        if let Some(namespace) = namespace {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
    object
}

/// Creates or changes one object; with `dry_run` the server only checks.
async fn send(client: &Client, planned: &Planned, dry_run: bool) -> Result<Outcome, kube::Error> {
    let api = planned.api(client);
    // What a Secret holds must not stand in an annotation, where lists and logs show it.
    let secret = planned.kind.resource.kind == "Secret" && planned.kind.resource.group.is_empty();
    let wanted = if secret { with_encoded_data(planned.wanted.clone()) } else { planned.wanted.clone() };
    let marked = if secret { wanted.clone() } else { with_last_applied(&wanted) };

    let Some(current) = api.get_opt(&planned.name).await? else {
        let object: DynamicObject = serde_json::from_value(marked).map_err(kube::Error::SerdeError)?;
        let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
        api.create(&params, &object).await?;
        return Ok(Outcome::Created);
    };
    let version = current.metadata.resource_version.clone();
    let current = serde_json::to_value(&current).map_err(kube::Error::SerdeError)?;
    let last = if secret { json!({ "data": current.get("data") }) } else { last_applied(&current) };
    let Some(patch) = merge::patch(Some(&last), &marked, &current) else { return Ok(Outcome::Unchanged) };
    let params =
        PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = api.patch(&planned.name, &params, &Patch::Merge(&patch)).await?;
    // A list is sent again whole when the server has put defaults into it, and then nothing changes.
    let same = patched.metadata.resource_version == version;
    Ok(if same { Outcome::Unchanged } else { Outcome::Configured })
}

fn with_last_applied(wanted: &Value) -> Value {
    let mut marked = wanted.clone();
    if let Some(metadata) = marked.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(LAST_APPLIED.to_owned(), wanted.to_string().into());
        }
    }
    marked
}

fn last_applied(current: &Value) -> Value {
    let annotations = current.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Moves `stringData` into `data`, as the server would, so that the two can be compared with what is there.
fn with_encoded_data(mut wanted: Value) -> Value {
    let Some(root) = wanted.as_object_mut() else { return wanted };
    let Some(Value::Object(texts)) = root.remove("stringData") else { return wanted };
    let data = root.entry("data").or_insert_with(|| json!({}));
    for (key, text) in texts {
        if let (Some(data), Some(text)) = (data.as_object_mut(), text.as_str()) {
            data.insert(key, json!(k8s_openapi::ByteString(text.as_bytes().to_vec())));
        }
    }
    wanted
}

/// Whether an object was refused only because its namespace is made by this same command.
fn waits_for_namespace(error: &kube::Error, planned: &Planned, made: &BTreeSet<String>) -> bool {
    let missing = matches!(error, kube::Error::Api(status) if status.code == 404);
    missing && planned.namespace.as_ref().is_some_and(|namespace| made.contains(namespace))
}

/// What the API server said, at the fields that it names.
fn explain(planned: &Planned, error: &kube::Error) -> Vec<Finding> {
    let document = &planned.document;
    let causes: Vec<_> = match error {
        kube::Error::Api(status) => {
            causes(status).map(|(field, message)| document.finding(&field, message)).collect()
        }
        _ => Vec::new(),
    };
    if causes.is_empty() {
        return vec![document.finding("", format!("{}: {}", planned.label(), output::problem(error)))];
    }
    causes
}

fn causes(status: &Status) -> impl Iterator<Item = (String, String)> + '_ {
    let details = status.details.iter().flat_map(|details| &details.causes);
    details.filter(|cause| !cause.field.is_empty()).map(|cause| (cause.field.clone(), cause.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_has_its_namespace_and_nothing_of_the_server() {
        let object = json!({
            "metadata": { "name": "a", "uid": "u", "resourceVersion": "1", "annotations": { LAST_APPLIED: "{}", "k": "v" } },
            "spec": { "data": "x" }, "status": { "state": "y" }
        });
        assert_eq!(
            wanted(object, Some("ns")),
            json!({ "metadata": { "name": "a", "namespace": "ns", "annotations": { "k": "v" } }, "spec": { "data": "x" } })
        );
    }

    #[test]
    fn a_second_apply_of_the_same_changes_nothing_and_a_removed_field_goes() {
        let first = json!({ "metadata": { "name": "a" }, "spec": { "x": 1, "y": 2 } });
        let mut current = with_last_applied(&first);
        current["metadata"]["uid"] = json!("u");
        current["spec"]["defaulted"] = json!(true);
        current["status"] = json!({ "state": "RUNNING" });
        assert_eq!(merge::patch(Some(&last_applied(&current)), &with_last_applied(&first), &current), None);

        let second = json!({ "metadata": { "name": "a" }, "spec": { "x": 1 } });
        let patch =
            merge::patch(Some(&last_applied(&current)), &with_last_applied(&second), &current).unwrap();
        assert_eq!(patch["spec"], json!({ "y": null }));
        assert!(patch.get("status").is_none());
    }

    #[test]
    fn secrets_are_compared_by_their_data_and_keep_no_copy() {
        let wanted =
            with_encoded_data(json!({ "stringData": { "password": "p\u{e4}ss" }, "data": { "k": "dg==" } }));
        assert_eq!(wanted, json!({ "data": { "password": "cMOkc3M=", "k": "dg==" } }));
        let current = json!({ "data": { "password": "b2xk", "old": "eA==" } });
        let last = json!({ "data": current.get("data") });
        assert_eq!(
            merge::patch(Some(&last), &wanted, &current),
            Some(json!({ "data": { "password": "cMOkc3M=", "k": "dg==", "old": null } }))
        );
    }
}
