// SPDX-License-Identifier: Apache-2.0

//! Objects of one server as another takes them.
//!
//! Owns an object on its way ([`Item`]), the order in which objects go ([`levels`]), and the rim that makes them ([`Server`]): as they were where the
//! server is ours, else as new ones with their status written after and every UID in them turned to the new one. `tink restore` and the move of a
//! cluster call it; what goes, and what else must be so, is theirs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use api::annotations::FIRST_UID;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Request, StatusCode};
use kube::{Client, core::Status};
use manifest::Finding;
use serde_json::Value;

use crate::{backup::Collection, output};

/// Requests at once.
const AT_ONCE: usize = 16;

/// How often a new definition is asked for, and the time between: it is served when its names were accepted.
const SERVED_TRIES: usize = 200;
const SERVED_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// Findings that are told; a file that is no backup has as many as documents.
pub(crate) const MAX_FINDINGS: usize = 100;

/// Characters of a UID.
const UID: usize = 36;

/// An object on its way, and where it is from.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) file: String,
    pub(crate) line: u64,
    pub(crate) collection: Collection,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) owners: Vec<String>,
    /// The object: kept as text, which takes a fraction of the space.
    pub(crate) json: String,
}

impl Item {
    pub(crate) fn finding(&self, field: &str, problem: impl std::fmt::Display) -> Finding {
        let problem = format!("{} {}: {problem}", self.collection.resource.kind, self.name);
        Finding { file: self.file.clone(), line: self.line, field: field.to_owned(), problem }
    }

    pub(crate) fn failed(&self, error: &kube::Error) -> Vec<Finding> {
        let kube::Error::Api(status) = error else { return vec![self.finding("", output::problem(error))] };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        if causes.is_empty() {
            return vec![self.finding("", &status.message)];
        }
        causes.iter().map(|cause| self.finding(&cause.field, &cause.message)).collect()
    }

    /// The URL path of its collection.
    pub(crate) fn path(&self) -> String {
        let namespace = self.collection.namespaced.then_some(self.namespace.as_str());
        <kube::core::DynamicObject as kube::Resource>::url_path(&self.collection.resource, namespace)
    }

    /// An object as it was read, with its kind; what is missing in it is empty here.
    pub(crate) fn of(file: &str, line: u64, collection: &Collection, object: &Value) -> Self {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        Self {
            file: file.into(),
            line,
            collection: collection.clone(),
            namespace: text(object, "/metadata/namespace").into(),
            name: text(object, "/metadata/name").into(),
            uid: text(object, "/metadata/uid").into(),
            owners: owners.into_iter().flatten().map(|owner| text(owner, "/uid").to_owned()).collect(),
            json: object.to_string(),
        }
    }

    /// A new server has some of these already: they are taken over, UID and all, where it can be done.
    fn is_made_by_servers(&self) -> bool {
        let plural = self.collection.resource.plural.as_str();
        let core = self.collection.resource.group.is_empty();
        core && (plural == "namespaces" || plural == "serviceaccounts" && self.name == "default")
    }

    pub(crate) fn object(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// What a server did with an object.
enum Answer {
    /// As it now is on the server.
    Made(Value),
    There(Value),
}

/// What happens to what is there and differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Differing {
    /// It is a finding.
    Told,
    /// It is replaced; a status that the new one has not is left.
    Replaced,
    /// It becomes the same, status and all.
    Mirrored,
}

/// The server that objects are put into.
pub(crate) struct Server {
    client: Client,
    differing: Differing,
    /// UIDs that objects had to those that Kubernetes gave instead.
    uids: Mutex<HashMap<String, String>>,
}

impl Server {
    pub(crate) fn new(client: &Client, differing: Differing) -> Self {
        Self { client: client.clone(), differing, uids: Mutex::default() }
    }

    pub(crate) async fn send(&self, method: &str, url: String, body: String) -> Result<Value, kube::Error> {
        self.send_noted(method, url, body).await.map(|(_, object)| object)
    }

    /// The same, with the status code of an answer that is no error.
    async fn send_noted(
        &self,
        method: &str,
        url: String,
        body: String,
    ) -> Result<(StatusCode, Value), kube::Error> {
        let request = Request::builder().method(method).uri(url).header("content-type", "application/json");
        let request = request.body(body.into_bytes().into()).map_err(kube::Error::HttpError)?;
        let answer = self.client.send(request).await?;
        let code = answer.status();
        let bytes = answer.into_body().collect_bytes().await?;
        if code.is_success() {
            return Ok((code, serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?));
        }
        let text = String::from_utf8_lossy(&bytes);
        let status = serde_json::from_slice::<Status>(&bytes)
            .unwrap_or_else(|_| Status::failure(text.trim(), "Unknown").with_code(code.as_u16()));
        Err(kube::Error::Api(status.boxed()))
    }

    /// Sends objects, some at once; true for those that were made or replaced.
    pub(crate) async fn all(&self, items: &[Item], dry_run: bool) -> Result<Vec<bool>, Vec<Finding>> {
        let puts: Vec<_> = items.iter().map(|item| self.put(item, dry_run).boxed()).collect();
        let mut sent = stream::iter(puts).buffer_unordered(AT_ONCE);
        let (mut done, mut findings) = (Vec::new(), Vec::new());
        while let Some(one) = sent.next().await {
            match one {
                Ok(restored) => done.push(restored),
                Err(more) => findings.extend(more),
            }
            if findings.len() >= MAX_FINDINGS {
                break;
            }
        }
        if findings.is_empty() { Ok(done) } else { Err(findings) }
    }

    /// Makes one object as it was; false when it is there.
    pub(crate) async fn put(&self, item: &Item, dry_run: bool) -> Result<bool, Vec<Finding>> {
        let object = self.turned(item);
        match self.made(item, &object, dry_run).await? {
            Answer::There(live) => {
                self.note(item, &live);
                let unfinished = is_unfinished(&object, &live);
                if unfinished && !dry_run && !item.is_made_by_servers() {
                    self.complete(item, &object, &live).await.map_err(|error| item.failed(&error))?;
                }
                Ok(unfinished)
            }
            Answer::Made(_) if dry_run => Ok(true),
            Answer::Made(live) => {
                self.note(item, &live);
                self.complete(item, &object, &live).await.map_err(|error| item.failed(&error))?;
                Ok(true)
            }
        }
    }

    async fn made(&self, item: &Item, object: &Value, dry_run: bool) -> Result<Answer, Vec<Finding>> {
        let failed = |error: kube::Error| item.failed(&error);
        let path = item.path();
        let force = self.differing != Differing::Told || item.is_made_by_servers();
        let tries = if dry_run { "&dryRun=All" } else { "" };
        let url =
            format!("{path}?restore=true&force={force}&fieldValidation=Strict&fieldManager=tink{tries}");
        match self.send_noted("POST", url, object.to_string()).await {
            // Only our server answers so: it is there, and the same.
            Ok((StatusCode::OK, live)) => return Ok(Answer::There(live)),
            Ok((_, made)) => return Ok(Answer::Made(made)),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(failed(error)),
        }
        let live = self.send("GET", format!("{path}/{}", item.name), String::new()).await.map_err(failed)?;
        let mut like = live.clone();
        if !has_status(&live)
            && let (Some(fields), Some(status)) = (like.as_object_mut(), object.get("status"))
        {
            // It is written after the rest.
            fields.insert("status".into(), status.clone());
        }
        if content(&like) == content(object) || item.is_made_by_servers() {
            return Ok(Answer::There(live));
        }
        if self.differing == Differing::Told {
            let problem = "it is there and differs from the backup; --force replaces it";
            return Err(vec![item.finding("", problem)]);
        }
        let mut new = object.clone();
        take_version(&mut new, &live);
        let url = format!("{path}/{}?fieldManager=tink{tries}", item.name);
        self.send("PUT", url, new.to_string()).await.map(Answer::Made).map_err(failed)
    }

    /// Makes a definition that is not there, and waits until it is served. One that is there stays: the server may be newer than the backup.
    pub(crate) async fn define(&self, item: &Item) -> Result<bool, Vec<Finding>> {
        let url = format!("{}/{}", item.path(), item.name);
        let restored = match self.send("GET", url, String::new()).await {
            Ok(_) => false,
            Err(kube::Error::Api(status)) if status.code == 404 => self.put(item, false).await?,
            Err(error) => return Err(item.failed(&error)),
        };
        let Some(instances) = Collection::of_definition(&item.object()) else {
            return Err(vec![item.finding("spec", "no version of it is served")]);
        };
        let url = <kube::core::DynamicObject as kube::Resource>::url_path(&instances.resource, None);
        for _ in 0..SERVED_TRIES {
            match self.send("GET", format!("{url}?limit=1"), String::new()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => tokio::time::sleep(SERVED_EVERY).await,
                Err(error) => return Err(item.failed(&error)),
                Ok(_) => return Ok(restored),
            }
        }
        Err(vec![item.finding("", "the server does not come to serve it")])
    }

    /// Notes the UID that an object has here.
    pub(crate) fn note(&self, item: &Item, live: &Value) {
        let uid = text(live, "/metadata/uid");
        if uid != item.uid {
            let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
            uids.insert(item.uid.clone(), uid.to_owned());
        }
    }

    /// An object with the UIDs that this server has, as far as they are known, wherever they stand: owners, and whatever else names an object by its UID.
    pub(crate) fn turned(&self, item: &Item) -> Value {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        if uids.is_empty() {
            return item.object();
        }
        let mut object: Value = serde_json::from_str(&turn(&item.json, &uids)).unwrap_or_default();
        // What was named by its first UID goes on being named so.
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
            && annotations.contains_key(FIRST_UID)
        {
            let first = item.object();
            let first = first.pointer("/metadata/annotations").and_then(|all| all.get(FIRST_UID)).cloned();
            annotations.insert(FIRST_UID.to_owned(), first.unwrap_or_default());
        }
        object
    }

    /// Writes what Kubernetes leaves out of a new object.
    async fn complete(&self, item: &Item, object: &Value, live: &Value) -> Result<(), kube::Error> {
        let url = format!("{}/{}", item.path(), item.name);
        let wanted =
            object.get("status").is_some() || self.differing == Differing::Mirrored && has_status(live);
        if wanted && object.get("status") != live.get("status") {
            let mut new = object.clone();
            take_version(&mut new, live);
            match self.send("PUT", format!("{url}/status?fieldManager=tink"), new.to_string()).await {
                // The kind has none, and so the status was taken with the rest.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        if is_going(object) && !is_going(live) {
            self.send("DELETE", url, String::new()).await?;
        }
        Ok(())
    }
}

/// Makes an object the successor of what is there.
pub(crate) fn take_version(object: &mut Value, live: &Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("managedFields");
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = live.get("metadata").and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
}

/// Whether a restore was broken off between an object and what is written after it.
pub(super) fn is_unfinished(object: &Value, live: &Value) -> bool {
    has_status(object) && !has_status(live) || is_going(object) && !is_going(live)
}

/// Whether an object is being removed.
pub(crate) fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string)
}

fn has_status(object: &Value) -> bool {
    object.get("status").and_then(Value::as_object).is_some_and(|status| !status.is_empty())
}

/// An object without what every server makes for itself.
pub(crate) fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if !has_status(&object)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let own = [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ];
        metadata.retain(|field, _| !own.contains(&field.as_str()));
    }
    object
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Owners before what they own.
pub(crate) fn levels(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut depths: HashMap<&str, usize> = items.iter().map(|item| (item.uid.as_str(), 0)).collect();
    // A chain is not longer than there are objects; a circle ends there, too.
    for _ in 0..items.len() {
        let mut changed = false;
        for item in &items {
            let owners = item.owners.iter().filter_map(|owner| depths.get(owner.as_str()));
            let depth = owners.map(|depth| depth + 1).max().unwrap_or(0).min(items.len());
            if depths.get(item.uid.as_str()).is_some_and(|known| *known < depth) {
                depths.insert(&item.uid, depth);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let depths: Vec<usize> =
        items.iter().map(|item| depths.get(item.uid.as_str()).copied().unwrap_or(0)).collect();
    let mut levels: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
    for (item, depth) in items.into_iter().zip(depths) {
        levels.entry(depth).or_default().push(item);
    }
    levels.into_values().collect()
}

/// A text with the UIDs in it turned.
fn turn(text: &str, uids: &HashMap<String, String>) -> String {
    let mut turned = String::with_capacity(text.len());
    let (mut kept, mut at) = (0, 0);
    while let Some(candidate) = text.as_bytes().get(at..at + UID) {
        if is_uid(candidate)
            && let Some(was) = text.get(at..at + UID)
        {
            if let Some(new) = uids.get(was) {
                turned.push_str(text.get(kept..at).unwrap_or_default());
                turned.push_str(new);
                kept = at + UID;
            }
            at += UID;
        } else {
            at += 1;
        }
    }
    turned.push_str(text.get(kept..).unwrap_or_default());
    turned
}

/// The form of RFC 9562, section 4, which every API server's UIDs have.
fn is_uid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::backup;

    fn made(name: &str, owners: &[&str]) -> Item {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({"uid": uid})).collect();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": owners}});
        let [_, _, _, maps, _] = backup::builtin();
        Item::of("f.yaml", 1, &maps, &object)
    }

    #[test]
    fn owners_come_before_what_they_own() {
        let items = vec![
            made("c", &["b", "a"]),
            made("b", &["a"]),
            made("a", &[]),
            made("x", &["y"]),
            made("y", &["x"]),
            made("z", &["gone"]),
        ];
        let levels: Vec<Vec<String>> = levels(items)
            .into_iter()
            .map(|level| level.into_iter().map(|item| item.name).collect())
            .collect();
        assert_eq!(levels[0], ["a", "z"]);
        assert_eq!(levels[1], ["b"]);
        assert_eq!(levels[2], ["c"]);
        let all: usize = levels.iter().map(Vec::len).sum();
        assert_eq!(all, 6, "a circle is restored, too");
    }

    #[test]
    fn what_was_broken_off_is_known() {
        let metadata = json!({"name": "a"});
        let going = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let with_status = json!({"metadata": metadata, "status": {"state": "x"}});
        let empty = json!({"metadata": metadata, "status": {}});
        let none = json!({"metadata": metadata});
        assert!(is_unfinished(&with_status, &none) && is_unfinished(&with_status, &empty));
        assert!(is_unfinished(&going, &none) && !is_unfinished(&going, &going));
        assert!(!is_unfinished(&none, &with_status) && !is_unfinished(&with_status, &with_status));
        assert_eq!(content(&empty), content(&none));
    }

    #[test]
    fn every_uid_is_turned_wherever_it_stands_and_nothing_else() {
        let [one, two, new] = ["1", "2", "3"].map(|end| format!("00000000-0000-4000-8000-00000000000{end}"));
        let uids = HashMap::from([(one.clone(), new.clone())]);
        let text = format!(
            "{{\"k:{{\\\"uid\\\":\\\"{one}\\\"}}\":\"é/{one}\",\"o\":\"{two}\",\"p\":\"{one}{one}\"}}"
        );
        let turned = turn(&text, &uids);
        assert_eq!(turned, text.replace(&one, &new));
        assert!(turned.contains(&two));
        assert_eq!(turn("00000000-0000-4000-8000-00000000000", &uids), "00000000-0000-4000-8000-00000000000");
    }
}
