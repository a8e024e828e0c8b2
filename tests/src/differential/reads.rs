// SPDX-License-Identifier: Apache-2.0
//! Reads and watches. Pure; called by the generator.

use serde_json::Value;

use super::generator::{Generator, escape, told, with_query};
use super::step::{Action, Fact, Request};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const PARTIAL_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

/// The form asked for, and a word for it.
fn form(generator: &mut Generator, list: bool) -> (&'static str, Vec<(&'static str, String)>) {
    let (word, accept) = match generator.dice.below(20) {
        0..4 => (" as table", TABLE),
        4..7 => (" as metadata", if list { PARTIAL_LIST } else { PARTIAL }),
        7 => (" as anything", "text/html, application/xml;q=0.9, */*;q=0.8"),
        8 => (" as XML", "application/xml"),
        _ => return ("", Vec::new()),
    };
    (word, vec![("accept", accept.to_owned())])
}

fn send(
    generator: &mut Generator,
    what: String,
    about: &str,
    (path, headers): (String, Vec<(&'static str, String)>),
) -> usize {
    generator.push(what, about, Action::Ask(Request { method: "GET", path, headers, body: String::new() }))
}

/// One object, or its status.
pub(super) fn get(generator: &mut Generator) {
    let aim = generator.aim();
    let (word, headers) = form(generator, false);
    let mut query = Vec::new();
    if word == " as table" && generator.dice.chance(30) {
        query.push(format!("includeObject={}", generator.dice.pick(&["None", "Object", "Metadata"])));
    }
    if generator.dice.chance(10)
        && let Some(step) = generator.life(&aim).writes.last()
    {
        query.push(format!("resourceVersion={}", told(Fact::Version, *step)));
    }
    let mut path = aim.path();
    if generator.dice.chance(10) {
        path.push_str("/status");
    }
    send(generator, format!("get{word}"), &aim.path(), (with_query(&path, &query), headers));
}

/// A label selector or a field selector.
fn selector(generator: &mut Generator, fields: &[&str]) -> Option<String> {
    let labels = [
        "tier=front",
        "tier!=front",
        "tier in (front,back)",
        "tier notin (back)",
        "tier",
        "!tier",
        "n>0",
        "n<2",
        "tier==back,n",
        "tier=front,n!=1",
        " tier = front ",
        "tier in (front",
        "=x",
        "tier=bad value",
        "a/b/c=d",
        "n>x",
        "tier,",
        "tier in ()",
        "tier=",
        "!",
        "-a=b",
    ];
    let others = [
        "metadata.name=w0",
        "metadata.namespace=east",
        "metadata.name!=w0",
        "metadata.name=w1,metadata.namespace=west",
        "spec.unknown=1",
        "metadata.labels.tier=x",
        "metadata.name",
        "metadata.name==c0",
        "metadata.name>1",
        ",",
    ];
    match generator.dice.below(10) {
        0..5 => Some(format!("labelSelector={}", escape(generator.dice.pick(&labels)))),
        5..7 => Some(format!("fieldSelector={}", escape(generator.dice.pick(&others)))),
        7 if !fields.is_empty() => Some(format!("fieldSelector={}", escape(generator.dice.pick(fields)))),
        _ => None,
    }
}

/// A collection, whole or in pieces.
pub(super) fn list(generator: &mut Generator) {
    let aim = generator.aim();
    let namespace = aim.namespace.filter(|_| !aim.kind.custom || generator.dice.chance(60));
    let collection = aim.kind.collection(namespace);
    let (word, headers) = form(generator, true);
    let mut query = Vec::new();
    query.extend(selector(generator, aim.kind.fields));
    if word == " as table" && generator.dice.chance(30) {
        query.push(format!("includeObject={}", generator.dice.pick(&["None", "Object", "Metadata"])));
    }
    if generator.dice.chance(12)
        && let Some(step) = generator.life(&aim).writes.last().copied()
    {
        query.push(format!("resourceVersion={}", told(Fact::Version, step)));
        if generator.dice.chance(50) {
            query.push("resourceVersionMatch=NotOlderThan".to_owned());
        }
    }
    let chunked = generator.dice.chance(40);
    if chunked {
        query.push(format!("limit={}", 1 + generator.dice.below(3)));
    }
    let first =
        send(generator, format!("list{word}"), "", (with_query(&collection, &query), headers.clone()));
    query.retain(|option| !option.starts_with("resourceVersion"));
    if chunked && generator.dice.chance(70) {
        query.push(format!("continue={}", told(Fact::Continue, first)));
        let next =
            send(generator, format!("list on{word}"), "", (with_query(&collection, &query), headers.clone()));
        if generator.dice.chance(50) {
            query.pop();
            query.push(format!("continue={}", told(Fact::Continue, next)));
            send(generator, format!("list on{word}"), "", (with_query(&collection, &query), headers));
        }
    }
}

/// A watch: from an old version, from now, or with what is there first.
pub(super) fn watch(generator: &mut Generator) {
    let aim = generator.aim();
    let namespace = aim.namespace.filter(|_| !aim.kind.custom || generator.dice.chance(50));
    let collection = aim.kind.collection(namespace);
    let mut query = vec!["watch=true".to_owned()];
    let writes = generator.life(&aim).writes;
    match generator.dice.below(10) {
        0..6 => match writes.first() {
            Some(step) => query.push(format!("resourceVersion={}", told(Fact::Version, *step))),
            None => {
                let list = generator.ask("list", "", "GET", collection.clone(), Value::Null);
                query.push(format!("resourceVersion={}", told(Fact::Version, list)));
            }
        },
        6 => query.push("resourceVersion=x".to_owned()),
        // How far back a watch may begin is a server's own affair: none begins before the sequence.
        _ => query.extend(
            ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "allowWatchBookmarks=true"]
                .map(str::to_owned),
        ),
    }
    if generator.dice.chance(50) {
        query.extend(selector(generator, aim.kind.fields));
    }
    generator.watch(with_query(&collection, &query));
}
