// SPDX-License-Identifier: Apache-2.0

//! `tink restore`: puts a backup into an empty server.
//!
//! Owns the order: definitions, namespaces, and then owners before what they own, so that no garbage collector finds an object without its owner.
//! Everything is read, looked at and tried without effect before the first object is made, and all findings are told at once. What is there already and
//! is the same is left alone, so a restore that was broken off can be repeated.
//!
//! Our server takes an object as it was (`?restore=true`, the administrator only). Kubernetes makes a new one with a new UID; then what follows
//! names it by the new one, the status is written after, and an object that was being removed is removed again. All that is `put`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use kube::Client;
use manifest::Finding;
use serde_json::Value;

use crate::{
    backup::{self, Collection},
    output,
};

pub(crate) mod put;

use put::{Differing, Item, MAX_FINDINGS, Server, levels, text};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects that were made or replaced.
    pub restored: usize,
    /// Objects that were there already.
    pub unchanged: usize,
}

/// Restores a backup. `force` replaces objects that differ, and leaves alone what the backup has not.
///
/// # Errors
///
/// Every finding. When they are in the file or the server holds something else, only definitions and namespaces were made.
pub async fn restore(client: &Client, path: &Path, force: bool) -> Result<Summary, Vec<Finding>> {
    let differing = if force { Differing::Replaced } else { Differing::Told };
    let server = Server::new(client, differing);
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
    let mut findings = if force { Vec::new() } else { strangers(&server, &rest).await? };
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

/// Namespaces and names.
type Names<'a> = BTreeSet<(&'a str, &'a str)>;

/// Custom objects on the server that are not in the backup: then it is not empty.
async fn strangers(server: &Server, items: &[Item]) -> Result<Vec<Finding>, Vec<Finding>> {
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
    Ok(Item::of(file, line, collection, object))
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
    use super::*;

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
