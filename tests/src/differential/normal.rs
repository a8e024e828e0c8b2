// SPDX-License-Identifier: Apache-2.0
//! Answers without what has to differ between two servers. Pure.
//!
//! UIDs become "the n-th object of that name", resource versions "the n-th version of that object that was seen", generated
//! names "the n-th made", times and tokens only say that they are there. Everything else stays.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::generator::GENERATED;

/// Fields that hold the moment, by their place below the object; a number in a list is `*`.
const TIMES: &[&str] =
    &["/metadata/creationTimestamp", "/metadata/deletionTimestamp", "/metadata/managedFields/*/time"];
/// Words before a resource version in a message of a server.
const BEFORE_VERSIONS: &[&str] = &[
    "ResourceVersion in the precondition (",
    "ResourceVersion in record (",
    "esource version: ",
    "resourceVersion:",
    "current: ",
];
/// What a message has between these words and a last colon: a patched object, whose fields come in any order.
const PATCHED: &str = "patch: Invalid value: \"";
/// The same in the message of a cause, which has its field beside it.
const PATCHED_CAUSE: [&str; 2] = ["Invalid value: \"{", "Invalid value: \"map["];
/// Behind this a message has the words of a YAML parser, and each has its own.
const PARSER: &str = "yaml: ";
/// An applied configuration that does not fit. Kubernetes looks at the fields of a structure in the order of a Go map, which is none, and not beyond the first
/// that the schema does not have: which other problems it tells of is chance.
const UNTYPED: &str = "failed to create typed patch object (";
const UNDECLARED: &str = "field not declared in schema";
/// Length of what a server puts behind `generateName`.
const SUFFIX: usize = 5;
/// Its letters.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a UID.
const UID: usize = 36;

/// One object of a server.
#[derive(Debug, Default)]
struct Seen {
    symbol: String,
    /// Its resource versions, in the order in which answers showed them.
    versions: Vec<String>,
}

/// What the answers of one server have shown so far.
#[derive(Debug, Default)]
pub struct Symbols {
    by_uid: BTreeMap<String, Seen>,
    /// UIDs per namespace and name.
    counts: BTreeMap<String, usize>,
    /// Generated names and what they are called here.
    names: BTreeMap<String, String>,
}

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

impl Symbols {
    /// Takes note of the objects in an answer.
    pub fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| self.learn(value)),
            Value::Object(map) => {
                if let Some(Value::Object(metadata)) = map.get("metadata") {
                    self.learn_object(metadata);
                }
                map.values().for_each(|value| self.learn(value));
            }
            _ => {}
        }
    }

    fn learn_object(&mut self, metadata: &Map<String, Value>) {
        let (uid, name, version) =
            (text(metadata, "uid"), text(metadata, "name"), text(metadata, "resourceVersion"));
        if uid.len() != UID || name.is_empty() {
            return;
        }
        let prefix = text(metadata, "generateName");
        let generated = name.strip_prefix(prefix).is_some_and(|suffix| suffix.len() == SUFFIX);
        if !prefix.is_empty() && generated && !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), format!("{prefix}<{}>", self.names.len() + 1));
        }
        let place = format!("{}/{}", text(metadata, "namespace"), self.names(name));
        let seen = self.by_uid.entry(uid.to_owned()).or_insert_with(|| {
            let count = self.counts.entry(place.clone()).or_default();
            *count += 1;
            Seen { symbol: format!("<uid {count} of {place}>"), versions: Vec::new() }
        });
        if !version.is_empty() && !seen.versions.iter().any(|known| known == version) {
            seen.versions.push(version.to_owned());
        }
    }

    /// The answer without what is volatile.
    pub fn normal(&self, value: &Value) -> Value {
        let mut normal = self.value(value, "");
        problems_in_any_order(&mut normal);
        normal
    }

    /// Generated names in a text replaced.
    fn names(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, symbol) in &self.names {
            if text.contains(name.as_str()) {
                text = text.replace(name.as_str(), symbol);
            }
        }
        without_suffixes(&text)
    }

    fn text(&self, text: &str) -> String {
        let mut text = self.names(text);
        if text.len() >= UID {
            for (uid, seen) in &self.by_uid {
                if text.contains(uid.as_str()) {
                    text = text.replace(uid.as_str(), &seen.symbol);
                }
            }
        }
        for words in BEFORE_VERSIONS {
            text = without_numbers(&text, words);
        }
        without_words(&text)
    }

    fn value(&self, value: &Value, at: &str) -> Value {
        match value {
            Value::String(text) if TIMES.iter().any(|place| at.ends_with(place)) && text.ends_with('Z') => {
                json!("<time>")
            }
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => {
                let list: Vec<Value> =
                    list.iter().map(|value| self.value(value, &format!("{at}/*"))).collect();
                match at {
                    _ if at.ends_with("/metadata/managedFields") => sorted(list),
                    _ if at.ends_with("/details/causes") => in_any_order(list),
                    _ => list.into(),
                }
            }
            Value::Object(map) => self.object(map, at),
            other => other.clone(),
        }
    }

    fn object(&self, map: &Map<String, Value>, at: &str) -> Value {
        let mut normal = Map::new();
        for (field, value) in map {
            let place = format!("{at}/{field}");
            let value = match (field.as_str(), value) {
                ("resourceVersion", Value::String(version)) => self.version(map, version, at).into(),
                // Base64 of a position and a version that differ.
                ("continue", Value::String(token)) if at.ends_with("/metadata") && !token.is_empty() => {
                    json!("<token>")
                }
                _ => self.value(value, &place),
            };
            // The keys of owners in managed fields are UIDs.
            normal.insert(self.text(field), value);
        }
        if let (Some(columns), Some(Value::Array(rows))) =
            (map.get("columnDefinitions"), normal.get_mut("rows"))
        {
            without_ages(columns, rows);
        }
        Value::Object(normal)
    }

    /// The n-th version of its object. The two servers number everything in their own way, and lists and bookmarks have
    /// the number of the last change to anything.
    fn version(&self, metadata: &Map<String, Value>, version: &str, at: &str) -> String {
        let own = self.by_uid.get(text(metadata, "uid"));
        if let Some(seen) = own {
            return nth(&seen.versions, version);
        }
        if at.ends_with("/metadata") {
            return if version.is_empty() { String::new() } else { "<version>".to_owned() };
        }
        let of = self.by_uid.values().find(|seen| seen.versions.iter().any(|known| known == version));
        of.map_or_else(
            || version.to_owned(),
            |seen| format!("{} of {}", nth(&seen.versions, version), seen.symbol),
        )
    }

    /// The object in a watch event, as one name for both servers; none for events that are about no object.
    pub fn identity(&self, object: &Value) -> Option<&str> {
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str)?;
        self.by_uid.get(uid).map(|seen| seen.symbol.as_str())
    }
}

/// `version 3`, or `version 3+` for one between the third and the fourth, that only watches have seen.
fn nth(versions: &[String], version: &str) -> String {
    if let Some(at) = versions.iter().position(|known| known == version) {
        return format!("<version {}>", at + 1);
    }
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let before = versions.iter().rposition(|known| number(known) < number(version));
    format!("<version {}+>", before.map_or(0, |at| at + 1))
}

/// Generated names of which only a refusal tells: no object has them.
fn without_suffixes(text: &str) -> String {
    let mut parts = text.split(GENERATED);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(GENERATED);
        match part.split_at_checked(SUFFIX) {
            Some((suffix, rest)) if suffix.bytes().all(|letter| SUFFIX_LETTERS.contains(&letter)) => {
                result.push_str("<none>");
                result.push_str(rest);
            }
            _ => result.push_str(part),
        }
    }
    result
}

/// A message without patched objects and the words of parsers.
fn without_words(text: &str) -> String {
    if let Some((before, after)) = text.split_once(PATCHED)
        && let Some((_, why)) = after.rsplit_once("\": ")
    {
        return format!("{before}{PATCHED}<object>\": {why}");
    }
    if let Some(object) = PATCHED_CAUSE.iter().find_map(|start| text.strip_prefix(start))
        && let Some((_, why)) = object.rsplit_once("\": ")
    {
        return format!("Invalid value: \"<object>\": {why}");
    }
    if text.starts_with(UNTYPED)
        && text.contains(UNDECLARED)
        && let Some((subject, _)) = text.split_once("): ")
    {
        return format!("{subject}): <{UNDECLARED}>");
    }
    match text.split_once(PARSER) {
        Some((before, after)) if !after.is_empty() => format!("{before}{PARSER}<words>"),
        _ => text.to_owned(),
    }
}

/// Numbers after these words replaced.
fn without_numbers(text: &str, words: &str) -> String {
    let mut parts = text.split(words);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
        result.push_str(words);
        if rest.len() < part.len() {
            result.push('#');
        }
        // Where a watch starts and what is the oldest that is left: `12 (34)`.
        let oldest = rest
            .strip_prefix(" (")
            .map(|rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        match oldest.and_then(|rest| rest.strip_prefix(')')) {
            Some(rest) => {
                result.push_str(" (#)");
                result.push_str(rest);
            }
            None => result.push_str(rest),
        }
    }
    result
}

/// Kubernetes sorts by time of whole seconds first: whether two writes fall into the same second is chance.
fn sorted(mut list: Vec<Value>) -> Value {
    let key = |entry: &Value| {
        let part = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        (part("operation"), part("manager"), part("subresource"), part("apiVersion"))
    };
    list.sort_by_key(key);
    Value::Array(list)
}

/// Kubernetes tells of the managers of an apply conflict in the order of a Go map, which is none.
fn in_any_order(mut causes: Vec<Value>) -> Value {
    let text =
        |cause: &Value, field: &str| cause.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if causes.iter().all(|cause| text(cause, "reason") == "FieldManagerConflict") {
        causes.sort_by_key(|cause| (text(cause, "message"), text(cause, "field")));
    }
    Value::Array(causes)
}

/// Kubernetes looks at the fields of a custom resource in the order of a Go map, which is none: several problems are told of in any order, in the causes and in the
/// message that repeats them.
fn problems_in_any_order(status: &mut Value) {
    const INVALID: &str = "is invalid: [";
    let group = status.pointer("/details/group").and_then(Value::as_str).unwrap_or_default();
    if !group.contains('.') || group.ends_with(".k8s.io") {
        return;
    }
    let Some(Value::Array(causes)) = status.pointer_mut("/details/causes") else { return };
    causes.sort_by_key(Value::to_string);
    let message = status.get("message").and_then(Value::as_str).and_then(|text| text.split_once(INVALID));
    if let Some((who, _)) = message {
        let message = format!("{who}{INVALID}<causes>]");
        status["message"] = message.into();
    }
}

/// Cells of a table that count seconds.
fn without_ages(columns: &Value, rows: &mut [Value]) {
    let is_age = |column: &Value| {
        column.get("type") == Some(&json!("date"))
            || column.get("name") == Some(&json!("Age"))
            || column.get("name") == Some(&json!("Last Seen"))
    };
    let ages: Vec<usize> = columns
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(at, column)| is_age(column).then_some(at))
        .collect();
    for row in rows {
        for at in &ages {
            if let Some(cell) = row.pointer_mut(&format!("/cells/{at}")).filter(|cell| cell.is_string()) {
                *cell = json!("<age>");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0b1c2d3e-0000-4000-8000-00000000000a";
    const B: &str = "0b1c2d3e-0000-4000-8000-00000000000b";

    fn object(uid: &str, version: &str) -> Value {
        json!({"metadata": {"name": "w", "namespace": "n", "uid": uid, "resourceVersion": version,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"creationTimestamp": "2026-01-01T00:00:00Z"}})
    }

    #[test]
    fn two_servers_that_do_the_same_look_the_same() {
        let (mut one, mut two) = (Symbols::default(), Symbols::default());
        for (symbols, uid, versions) in [(&mut one, A, ["5", "9"]), (&mut two, B, ["1234", "1240"])] {
            versions.iter().for_each(|version| symbols.learn(&object(uid, version)));
        }
        assert_eq!(one.normal(&object(A, "9")), two.normal(&object(B, "1240")));
        assert_eq!(one.normal(&object(A, "9"))["metadata"]["resourceVersion"], "<version 2>");
        assert_eq!(two.normal(&object(B, "1237"))["metadata"]["resourceVersion"], "<version 1+>");
        assert_eq!(one.normal(&object(A, "9"))["metadata"]["uid"], "<uid 1 of n/w>");
        one.learn(&object(B, "20"));
        assert_eq!(one.normal(&object(B, "20"))["metadata"]["uid"], "<uid 2 of n/w>");
    }

    #[test]
    fn only_times_of_the_server_are_dropped() {
        let normal = Symbols::default().normal(&object(A, "9"));
        assert_eq!(normal["metadata"]["creationTimestamp"], "<time>");
        assert_eq!(normal["spec"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(normal["metadata"]["name"], "w");
    }

    #[test]
    fn messages_are_the_same_but_for_uids_versions_and_generated_names() {
        let mut symbols = Symbols::default();
        symbols.learn(&object(A, "5"));
        symbols.learn(&json!({"metadata": {"name": "made-abcde", "generateName": "made-", "uid": B}}));
        let message = json!(format!(
            "Too large resource version: 77, current: 5; {A} of made-abcde has 12 too old resource version: 1 (4)"
        ));
        assert_eq!(
            symbols.normal(&message),
            "Too large resource version: #, current: #; <uid 1 of n/w> of made-<1> has 12 too old resource version: # (#)"
        );
    }

    #[test]
    fn only_conflicts_of_an_apply_come_in_any_order() {
        let causes = |reason: &str, messages: [&str; 2]| {
            let causes = messages.map(|message| json!({"reason": reason, "message": message, "field": ".a"}));
            Symbols::default().normal(&json!({"details": {"causes": causes}}))
        };
        let conflict = "FieldManagerConflict";
        assert_eq!(causes(conflict, ["one", "two"]), causes(conflict, ["two", "one"]));
        assert_ne!(causes("FieldValueInvalid", ["one", "two"]), causes("FieldValueInvalid", ["two", "one"]));
    }

    #[test]
    fn owners_in_keys_and_names_that_were_refused_are_the_same() {
        let mut symbols = Symbols::default();
        symbols.learn(&object(A, "5"));
        let fields = json!({format!("k:{{\"uid\":\"{A}\"}}"): {}});
        assert_eq!(symbols.normal(&fields), json!({"k:{\"uid\":\"<uid 1 of n/w>\"}": {}}));
        let refused = json!("Widget \"made-bcdfg\" is invalid, made-up");
        assert_eq!(symbols.normal(&refused), "Widget \"made-<none>\" is invalid, made-up");
    }

    #[test]
    fn tokens_ages_and_the_order_of_managers_are_no_difference() {
        let symbols = Symbols::default();
        let list = json!({"metadata": {"continue": "abc", "resourceVersion": "7", "remainingItemCount": 2}});
        assert_eq!(
            symbols.normal(&list),
            json!({"metadata": {"continue": "<token>", "resourceVersion": "<version>", "remainingItemCount": 2}})
        );
        let table = json!({"columnDefinitions": [{"name": "Name"}, {"name": "Age"}], "rows": [{"cells": ["x", "5s"]}]});
        assert_eq!(symbols.normal(&table)["rows"][0]["cells"], json!(["x", "<age>"]));
        let entry =
            |manager: &str, time: &str| json!({"manager": manager, "operation": "Update", "time": time});
        let fields = |list: [Value; 2]| json!({"metadata": {"managedFields": list}});
        let one = fields([entry("a", "2026-01-01T00:00:00Z"), entry("b", "2026-01-01T00:00:00Z")]);
        let two = fields([entry("b", "2026-01-01T00:00:00Z"), entry("a", "2026-01-01T00:00:01Z")]);
        assert_eq!(symbols.normal(&one), symbols.normal(&two));
    }
}
