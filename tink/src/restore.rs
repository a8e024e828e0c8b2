// SPDX-License-Identifier: Apache-2.0

//! `tink restore`: puts a backup into an empty server.
//!
//! Owns the order: definitions, namespaces, and then owners before what they own, so that no garbage collector finds an object without its owner.
//! Everything is read, looked at and tried without effect before the first object is made, and all findings are told at once. What is there already and
//! is the same is left alone, so a restore that was broken off can be repeated.
//!
//! Our server takes an object as it was (`?restore=true`, the administrator only). Kubernetes makes a new one with a new UID; then the owner references of
//! what follows are turned to the new UIDs, the status is written after, and an object that was being removed is removed again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt as _, stream};
use http::{Request, StatusCode};
use kube::{Client, core::Status};
use manifest::Finding;
use serde_json::Value;

use crate::{
    backup::{self, Collection},
    output,
};

/// Requests at once.
const AT_ONCE: usize = 16;

/// How often a new definition is asked for, and the time between: it is served when its names were accepted.
const SERVED_TRIES: usize = 200;
const SERVED_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// Findings that are told; a file that is no backup has as many as documents.
const MAX_FINDINGS: usize = 100;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects that were made or replaced.
    pub restored: usize,
    /// Objects that were there already.
    pub unchanged: usize,
}

/// An object of the backup.
struct Item {
    file: String,
    line: u64,
    collection: Collection,
    namespace: String,
    name: String,
    uid: String,
    owners: Vec<String>,
    /// The object: kept as text, which takes a fraction of the space.
    json: String,
}

impl Item {
    fn finding(&self, field: &str, problem: impl std::fmt::Display) -> Finding {
        let problem = format!("{} {}: {problem}", self.collection.resource.kind, self.name);
        Finding { file: self.file.clone(), line: self.line, field: field.to_owned(), problem }
    }

    fn failed(&self, error: &kube::Error) -> Vec<Finding> {
        let kube::Error::Api(status) = error else { return vec![self.finding("", output::problem(error))] };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        if causes.is_empty() {
            return vec![self.finding("", &status.message)];
        }
        causes.iter().map(|cause| self.finding(&cause.field, &cause.message)).collect()
    }

    /// The URL path of its collection.
    fn path(&self) -> String {
        let namespace = self.collection.namespaced.then_some(self.namespace.as_str());
        <kube::core::DynamicObject as kube::Resource>::url_path(&self.collection.resource, namespace)
    }

    /// A new server has some of these already: they are taken over, UID and all, where it can be done.
    fn is_made_by_servers(&self) -> bool {
        let plural = self.collection.resource.plural.as_str();
        let core = self.collection.resource.group.is_empty();
        core && (plural == "namespaces" || plural == "serviceaccounts" && self.name == "default")
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// What a server did with an object.
enum Answer {
    /// As it now is on the server.
    Made(Value),
    There(Value),
}

/// Restores a backup. `force` replaces objects that differ, and leaves alone what the backup has not.
///
/// # Errors
///
/// Every finding. When they are in the file or the server holds something else, only definitions and namespaces were made.
pub async fn restore(client: &Client, path: &Path, force: bool) -> Result<Summary, Vec<Finding>> {
    let server = Server { client: client.clone(), force, uids: Mutex::default() };
    let items = load(&server, path).await?;
    let (definitions, rest): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.collection.resource.plural == "customresourcedefinitions");
    let (namespaces, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|item| {
        item.collection.resource.plural == "namespaces" && item.collection.resource.group.is_empty()
    });
    let mut summary = Summary::default();
    for definition in &definitions {
        summary.add(server.define(definition).await?);
    }
    for namespace in &namespaces {
        summary.add(server.put(namespace, false).await?);
    }
    let mut findings = strangers(&server, &rest).await?;
    let levels = levels(rest);
    // In the same order, since what is there already has UIDs by which it may be named.
    for level in &levels {
        findings.extend(server.all(level, true).await.err().unwrap_or_default());
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    for level in levels {
        for done in server.all(&level, false).await? {
            summary.add(done);
        }
    }
    Ok(summary)
}

impl Summary {
    fn add(&mut self, restored: bool) {
        if restored {
            self.restored += 1;
        } else {
            self.unchanged += 1;
        }
    }
}

/// The server that is restored to.
struct Server {
    client: Client,
    force: bool,
    /// UIDs in the backup to those that Kubernetes gave instead.
    uids: Mutex<HashMap<String, String>>,
}

impl Server {
    async fn send(&self, method: &str, url: String, body: String) -> Result<Value, kube::Error> {
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
    async fn all(&self, items: &[Item], dry_run: bool) -> Result<Vec<bool>, Vec<Finding>> {
        let mut sent = stream::iter(items).map(|item| self.put(item, dry_run)).buffer_unordered(AT_ONCE);
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
    async fn put(&self, item: &Item, dry_run: bool) -> Result<bool, Vec<Finding>> {
        let mut object = item.object();
        self.turn_owners(&mut object);
        match self.made(item, &object, dry_run).await? {
            Answer::There(live) => {
                let unfinished = self.note_uid(item, &live) && is_unfinished(&object, &live);
                if unfinished && !dry_run && !item.is_made_by_servers() {
                    self.complete(item, &object, &live).await.map_err(|error| item.failed(&error))?;
                }
                Ok(unfinished)
            }
            Answer::Made(_) if dry_run => Ok(true),
            Answer::Made(live) => {
                if self.note_uid(item, &live) {
                    self.complete(item, &object, &live).await.map_err(|error| item.failed(&error))?;
                }
                Ok(true)
            }
        }
    }

    async fn made(&self, item: &Item, object: &Value, dry_run: bool) -> Result<Answer, Vec<Finding>> {
        let failed = |error: kube::Error| item.failed(&error);
        let path = item.path();
        let force = self.force || item.is_made_by_servers();
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
        if !self.force {
            let problem = "it is there and differs from the backup; --force replaces it";
            return Err(vec![item.finding("", problem)]);
        }
        let mut new = object.clone();
        take_version(&mut new, &live);
        let url = format!("{path}/{}?fieldManager=tink{tries}", item.name);
        self.send("PUT", url, new.to_string()).await.map(Answer::Made).map_err(failed)
    }

    /// Makes a definition that is not there, and waits until it is served. One that is there stays: the server may be newer than the backup.
    async fn define(&self, item: &Item) -> Result<bool, Vec<Finding>> {
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

    /// True when the server gave the object another UID than it had.
    fn note_uid(&self, item: &Item, live: &Value) -> bool {
        let uid = text(live, "/metadata/uid");
        if uid == item.uid {
            return false;
        }
        self.uids.lock().unwrap_or_else(PoisonError::into_inner).insert(item.uid.clone(), uid.to_owned());
        true
    }

    fn turn_owners(&self, object: &mut Value) {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
        for owner in owners.into_iter().flatten() {
            if let Some(new) = uids.get(text(owner, "/uid"))
                && let Some(fields) = owner.as_object_mut()
            {
                fields.insert("uid".into(), new.as_str().into());
            }
        }
    }

    /// Writes what Kubernetes leaves out of a new object.
    async fn complete(&self, item: &Item, object: &Value, live: &Value) -> Result<(), kube::Error> {
        let url = format!("{}/{}", item.path(), item.name);
        if object.get("status").is_some() && object.get("status") != live.get("status") {
            let mut new = object.clone();
            take_version(&mut new, live);
            match self.send("PUT", format!("{url}/status?fieldManager=tink"), new.to_string()).await {
                // The kind has none, and so the status was taken with the rest.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        if object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
            self.send("DELETE", url, String::new()).await?;
        }
        Ok(())
    }
}

/// Makes an object the successor of what is there.
fn take_version(object: &mut Value, live: &Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("managedFields");
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = live.get("metadata").and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
}

/// Whether a restore was broken off between an object and what is written after it.
fn is_unfinished(object: &Value, live: &Value) -> bool {
    let going = |object: &Value| object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    has_status(object) && !has_status(live) || going(object) && !going(live)
}

fn has_status(object: &Value) -> bool {
    object.get("status").and_then(Value::as_object).is_some_and(|status| !status.is_empty())
}

/// An object without what every server makes for itself.
fn content(object: &Value) -> Value {
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
        ];
        metadata.retain(|field, _| !own.contains(&field.as_str()) && field != "deletionGracePeriodSeconds");
    }
    object
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Namespaces and names.
type Names<'a> = BTreeSet<(&'a str, &'a str)>;

/// Custom objects on the server that are not in the backup: then it is not empty.
async fn strangers(server: &Server, items: &[Item]) -> Result<Vec<Finding>, Vec<Finding>> {
    if server.force {
        return Ok(Vec::new());
    }
    let mut known = BTreeMap::<String, (&Item, Names<'_>)>::new();
    for item in items.iter().filter(|item| !item.collection.resource.group.is_empty()) {
        let url = <kube::core::DynamicObject as kube::Resource>::url_path(&item.collection.resource, None);
        let (_, names) = known.entry(url).or_insert_with(|| (item, BTreeSet::new()));
        names.insert((&item.namespace, &item.name));
    }
    let mut findings = Vec::new();
    for (url, (item, names)) in known {
        let list = server.send("GET", url, String::new()).await.map_err(|error| item.failed(&error))?;
        let found = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let strange = found.filter(|object| {
            !names.contains(&(text(object, "/metadata/namespace"), text(object, "/metadata/name")))
        });
        let strange: Vec<&str> = strange.map(|object| text(object, "/metadata/name")).collect();
        if let Some(first) = strange.first() {
            let (count, plural) = (strange.len(), &item.collection.resource.plural);
            let problem = format!(
                "the server is not empty: it has {count} {plural} that the backup has not, such as {first}; --force restores beside them"
            );
            findings.push(Finding { file: item.file.clone(), line: 0, field: String::new(), problem });
        }
    }
    Ok(findings)
}

/// Owners before what they own.
fn levels(items: Vec<Item>) -> Vec<Vec<Item>> {
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

/// Reads the backup; every object with its collection.
async fn load(server: &Server, path: &Path) -> Result<Vec<Item>, Vec<Finding>> {
    let name = path.display().to_string();
    let whole =
        |problem: String| vec![Finding { file: name.clone(), line: 0, field: String::new(), problem }];
    let file = fs::File::open(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let (objects, mut findings) = objects(&name, io::BufReader::new(file))
        .map_err(|error| whole(format!("cannot be read: {error}")))?;
    if objects.is_empty() && findings.is_empty() {
        findings.push(Finding {
            file: name.clone(),
            line: 0,
            field: String::new(),
            problem: "there is nothing in it to restore".into(),
        });
    }
    let [definitions, ..] = backup::builtin();
    let url = <kube::core::DynamicObject as kube::Resource>::url_path(&definitions.resource, None);
    let served = server.send("GET", url, String::new()).await;
    let served = served.map_err(|error| whole(output::problem(&error)))?;
    let mut collections: Vec<Collection> = backup::builtin().into();
    let of_server = served.get("items").and_then(Value::as_array).into_iter().flatten();
    let of_backup = objects.iter().map(|(_, object)| object);
    let of_backup = of_backup.filter(|object| text(object, "/kind") == definitions.resource.kind);
    collections.extend(of_backup.chain(of_server).filter_map(Collection::of_definition));
    let (mut items, mut names) = (Vec::new(), BTreeMap::new());
    for (line, object) in objects {
        match item(&name, line, &object, &collections) {
            Ok(item) => {
                let key = (item.path(), item.name.clone());
                match names.insert(key, item.line) {
                    Some(first) => findings.push(
                        item.finding("metadata.name", format!("it is there twice, first in line {first}")),
                    ),
                    None => items.push(item),
                }
            }
            Err(finding) => findings.push(finding),
        }
    }
    if findings.is_empty() { Ok(items) } else { Err(findings) }
}

fn item(file: &str, line: u64, object: &Value, collections: &[Collection]) -> Result<Item, Finding> {
    let finding =
        |field: &str, problem: String| Finding { file: file.into(), line, field: field.into(), problem };
    for field in ["apiVersion", "kind", "metadata.name", "metadata.uid"] {
        if text(object, &format!("/{}", field.replace('.', "/"))).is_empty() {
            return Err(finding(field, "is missing: a backup has it for every object".into()));
        }
    }
    let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let found = collections.iter().find(|c| c.resource.kind == kind && c.resource.api_version == api_version);
    let collection = found.ok_or_else(|| {
        finding(
            "kind",
            format!("{kind} in {api_version} is not known: neither the server nor the backup defines it"),
        )
    })?;
    let namespace = text(object, "/metadata/namespace");
    if collection.namespaced == namespace.is_empty() {
        let problem = if namespace.is_empty() { "is missing" } else { "is set, but this kind has none" };
        return Err(finding("metadata.namespace", problem.into()));
    }
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    Ok(Item {
        file: file.into(),
        line,
        collection: collection.clone(),
        namespace: namespace.into(),
        name: text(object, "/metadata/name").into(),
        uid: text(object, "/metadata/uid").into(),
        owners: owners.into_iter().flatten().map(|owner| text(owner, "/uid").to_owned()).collect(),
        json: object.to_string(),
    })
}

/// Documents with their lines, and what is wrong with others.
type Documents = (Vec<(u64, Value)>, Vec<Finding>);

/// The documents of a file, read one after the other: a backup may be larger than a manifest that people write.
fn objects(name: &str, mut file: impl io::BufRead) -> io::Result<Documents> {
    let (mut objects, mut findings) = (Vec::new(), Vec::new());
    let (mut text, mut first, mut number) = (String::new(), 1, 0);
    loop {
        let mut line = String::new();
        let read = file.read_line(&mut line)?;
        number += 1;
        if read == 0 || line.trim_end() == "---" {
            let (mut documents, mut wrong) = (Vec::new(), Vec::new());
            manifest::parse(name, &text, &mut documents, &mut wrong);
            objects.extend(documents.iter().map(|one| (first + one.line - 1, one.root.to_json())));
            findings.extend(
                wrong.into_iter().map(|finding| Finding { line: first + finding.line - 1, ..finding }),
            );
            text.clear();
            first = number + 1;
        } else {
            text.push_str(&line);
        }
        if read == 0 || findings.len() >= MAX_FINDINGS {
            return Ok((objects, findings));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(name: &str, owners: &[&str]) -> Item {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({"uid": uid})).collect();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": owners}});
        item("f.yaml", 1, &object, &backup::builtin()).unwrap()
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
    fn every_mistake_has_its_line() {
        let text = "# a backup\n---\nkind: ConfigMap\n---\na: [\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: u}\n";
        let (objects, findings) = objects("f.yaml", text.as_bytes()).unwrap();
        assert_eq!(objects.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(findings.len(), 1);
        assert!((5..=6).contains(&findings[0].line), "{findings:?}");
        let problem =
            |at: usize| item("f.yaml", objects[at].0, &objects[at].1, &backup::builtin()).err().unwrap();
        assert_eq!(problem(0).field, "apiVersion");
        assert_eq!((problem(1).line, problem(1).field.as_str()), (7, "metadata.namespace"));
    }
}
