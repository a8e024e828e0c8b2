// SPDX-License-Identifier: Apache-2.0

//! What can be said of a manifest without asking the API server: unknown fields, wrong types, missing values.
//!
//! Owns that comparison of a document with its schema. The server prunes an unknown field without a word; a person who
//! mistyped one wants to hear of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

use crate::{Content, Document, Finding, Node, near};

/// Fields of metadata that exist (apimachinery meta/v1 ObjectMeta).
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// What is known of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// Its name.
    pub kind: &'a str,
    /// Its schema, where there is one.
    pub schema: Option<&'a JSONSchemaProps>,
}

/// All that is wrong with a document of this kind.
#[must_use]
pub fn check(document: &Document, definition: Definition<'_>) -> Vec<Finding> {
    let mut check = Check { document, findings: Vec::new() };
    check.metadata();
    let root = definition.schema.and_then(|schema| schema.properties.as_ref());
    let parts: Option<Vec<&str>> = match (root, definition.kind) {
        (Some(root), _) => Some(root.keys().map(String::as_str).collect()),
        (None, "Secret") => Some(vec!["data", "stringData", "type", "immutable"]),
        (None, "ConfigMap") => Some(vec!["data", "binaryData", "immutable"]),
        (None, "Namespace") => Some(vec!["spec", "status"]),
        (None, _) => None,
    };
    if let (Some(mut known), Content::Map(entries)) = (parts, &document.root.content) {
        known.extend(["apiVersion", "kind", "metadata"]);
        check.known("", entries, &known);
        for (name, _, value) in entries {
            if let Some(schema) = root.and_then(|root| root.get(name)) {
                check.value(name, value, schema);
            }
        }
    }
    for field in ["data", "stringData"] {
        if matches!(definition.kind, "Secret" | "ConfigMap") {
            check.texts(field);
        }
    }
    check.findings
}

/// The value as one that fits the schema, so that a document with mistakes can be read as far as it goes: a value of the wrong
/// type is left out, and what must be there and is not is empty. Only for looking at; [`check`] says what was wrong.
#[must_use]
pub fn repaired(node: &Node, schema: &JSONSchemaProps) -> Value {
    fitting(node, schema).unwrap_or_else(|| empty(schema))
}

fn fitting(node: &Node, schema: &JSONSchemaProps) -> Option<Value> {
    match (&node.content, schema.type_.as_deref()) {
        (Content::Map(entries), Some("object")) => {
            if let Some(JSONSchemaPropsOrBool::Schema(of)) = &schema.additional_properties {
                let fit = |(name, _, value): &(String, u64, Node)| Some((name.clone(), fitting(value, of)?));
                return Some(Value::Object(entries.iter().filter_map(fit).collect()));
            }
            let Some(properties) = &schema.properties else { return Some(node.to_json()) };
            let mut fits: Map<String, Value> = entries
                .iter()
                .filter_map(|(name, _, value)| Some((name.clone(), fitting(value, properties.get(name)?)?)))
                .collect();
            for name in schema
                .required
                .iter()
                .flatten()
                .filter(|name| !fits.contains_key(*name))
                .cloned()
                .collect::<Vec<_>>()
            {
                let value = properties.get(&name).map_or(Value::Null, empty);
                fits.insert(name, value);
            }
            Some(Value::Object(fits))
        }
        (Content::List(items), Some("array")) => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(of)) => {
                Some(items.iter().map(|item| repaired(item, of)).collect())
            }
            _ => Some(node.to_json()),
        },
        (Content::Scalar(Value::Null), _) => None,
        (Content::Scalar(value), expected) => {
            let allowed = schema.enum_.as_ref().is_none_or(|all| all.iter().any(|one| one.0 == *value));
            (allowed && is_of_type(value, expected, schema)).then(|| value.clone())
        }
        (_, None) => Some(node.to_json()),
        _ => None,
    }
}

/// The empty value of a type. A list item of the wrong type becomes it, so that the others keep their places.
fn empty(schema: &JSONSchemaProps) -> Value {
    match schema.type_.as_deref() {
        Some("object") => {
            let required = schema.required.iter().flatten();
            let of = |name: &String| {
                schema.properties.as_ref().and_then(|all| all.get(name)).map_or(Value::Null, empty)
            };
            Value::Object(required.map(|name| (name.clone(), of(name))).collect())
        }
        Some("array") => Value::Array(Vec::new()),
        Some("integer" | "number") => Value::from(0),
        Some("boolean") => Value::from(false),
        Some("string") => match schema.enum_.as_ref().and_then(|all| all.first()) {
            Some(first) => first.0.clone(),
            None => Value::from(""),
        },
        _ => Value::Null,
    }
}

fn is_of_type(value: &Value, expected: Option<&str>, schema: &JSONSchemaProps) -> bool {
    match (expected, value) {
        _ if schema.x_kubernetes_int_or_string == Some(true) => value.is_i64() || value.is_string(),
        (Some("string"), Value::String(_))
        | (Some("boolean"), Value::Bool(_))
        | (Some("number"), Value::Number(_))
        | (None, _) => true,
        (Some("integer"), Value::Number(number)) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

struct Check<'a> {
    document: &'a Document,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn metadata(&mut self) {
        let Some(metadata) = self.document.root.get("metadata") else {
            self.say(0, "metadata", "is missing: an object needs at least `metadata.name`");
            return;
        };
        let Content::Map(entries) = &metadata.content else {
            self.say(metadata.line, "metadata", format!("must be a map, not {}", shape(metadata)));
            return;
        };
        self.known("metadata", entries, &METADATA);
        match metadata.get("name").map(|name| (&name.content, name.line)) {
            Some((Content::Scalar(Value::String(name)), line)) => {
                if let Some(problem) = bad_name(name) {
                    self.say(line, "metadata.name", problem);
                }
            }
            Some((_, line)) => self.say(line, "metadata.name", "must be text; write it in quotes"),
            None => self.say(metadata.line, "metadata.name", "is missing"),
        }
        self.texts("metadata.labels");
        self.texts("metadata.annotations");
    }

    /// Every value of this map must be a text: numbers and booleans are a common mistake there.
    fn texts(&mut self, field: &str) {
        let node = field.split('.').try_fold(&self.document.root, |node, step| node.get(step));
        let Some(Content::Map(entries)) = node.map(|node| &node.content) else { return };
        for (key, line, value) in entries {
            if !matches!(value.content, Content::Scalar(Value::String(_))) {
                let problem = format!("must be text, not {}; write it in quotes", shape(value));
                self.say(*line, &format!("{field}.{key}"), problem);
            }
        }
    }

    fn known(&mut self, parent: &str, entries: &[(String, u64, Node)], known: &[&str]) {
        for (name, line, _) in entries.iter().filter(|(name, ..)| !known.contains(&name.as_str())) {
            let hint = match near::nearest(name, known.iter().copied()) {
                Some(near) => format!("; did you mean {near:?}?"),
                None => format!("; known are {}", known.join(", ")),
            };
            self.say(*line, &join(parent, name), format!("there is no such field{hint}"));
        }
    }

    fn value(&mut self, field: &str, node: &Node, schema: &JSONSchemaProps) {
        match (&node.content, schema.type_.as_deref()) {
            (Content::Scalar(Value::Null), _) => {}
            (Content::Map(entries), Some("object")) => self.object(field, node, entries, schema),
            (Content::List(items), Some("array")) => {
                if let Some(JSONSchemaPropsOrArray::Schema(of)) = &schema.items {
                    for (i, item) in items.iter().enumerate() {
                        self.value(&format!("{field}[{i}]"), item, of);
                    }
                }
                if schema.min_items.is_some_and(|min| !at_least(items.len(), min)) {
                    self.say(node.line, field, "must not be empty");
                }
            }
            (Content::Scalar(value), expected) => self.scalar(field, node.line, value, expected, schema),
            (_, expected) => self.wrong_type(field, node, expected),
        }
    }

    fn object(
        &mut self,
        field: &str,
        node: &Node,
        entries: &[(String, u64, Node)],
        schema: &JSONSchemaProps,
    ) {
        if let Some(JSONSchemaPropsOrBool::Schema(of)) = &schema.additional_properties {
            for (name, _, value) in entries {
                self.value(&join(field, name), value, of);
            }
            return;
        }
        let Some(properties) = &schema.properties else { return };
        let known: Vec<_> = properties.keys().map(String::as_str).collect();
        self.known(field, entries, &known);
        for name in schema.required.iter().flatten() {
            let given = node.get(name).map(|value| &value.content);
            if matches!(given, None | Some(Content::Scalar(Value::Null))) {
                self.say(node.line, &join(field, name), "is missing");
            }
        }
        if schema.max_properties.is_some_and(|max| !at_most(entries.len(), max)) {
            let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
            let problem =
                format!("has {}: only one of them is allowed; use a list item for each", names.join(", "));
            self.say(node.line, field, problem);
        }
        for (name, _, value) in entries {
            if let Some(of) = properties.get(name) {
                self.value(&join(field, name), value, of);
            }
        }
    }

    fn scalar(
        &mut self,
        field: &str,
        line: u64,
        value: &Value,
        expected: Option<&str>,
        schema: &JSONSchemaProps,
    ) {
        if !is_of_type(value, expected, schema) {
            let node = Node { line, content: Content::Scalar(value.clone()) };
            self.wrong_type(field, &node, expected);
            return;
        }
        if let Some(allowed) = &schema.enum_
            && !allowed.iter().any(|one| one.0 == *value)
        {
            let allowed: Vec<_> = allowed.iter().map(|one| one.0.to_string()).collect();
            self.say(line, field, format!("is {value}; allowed are {}", allowed.join(", ")));
        }
        if schema.min_length.is_some_and(|min| min > 0) && value.as_str().is_some_and(str::is_empty) {
            self.say(line, field, "must not be empty");
        }
    }

    fn wrong_type(&mut self, field: &str, node: &Node, expected: Option<&str>) {
        let name = match expected {
            Some("string") => "text",
            Some("integer") => "a whole number",
            Some("number") => "a number",
            Some("boolean") => "true or false",
            Some("array") => "a list",
            Some("object") => "a map",
            _ => "a whole number or text",
        };
        let scalar = matches!(node.content, Content::Scalar(_));
        let hint = if expected == Some("string") && scalar { "; write it in quotes" } else { "" };
        self.say(node.line, field, format!("must be {name}, not {}{hint}", shape(node)));
    }

    fn say(&mut self, line: u64, field: &str, problem: impl Into<String>) {
        self.findings.push(self.document.finding_at(line, field, problem));
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn shape(node: &Node) -> &'static str {
    match &node.content {
        Content::Scalar(Value::Bool(_)) => "true or false",
        Content::Scalar(Value::Number(number)) if number.is_f64() => "a fraction",
        Content::Scalar(Value::Number(_)) => "a number",
        Content::Scalar(Value::Null) => "nothing",
        Content::Scalar(_) => "text",
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
    }
}

fn at_least(length: usize, min: i64) -> bool {
    i64::try_from(length).is_ok_and(|length| length >= min)
}

fn at_most(length: usize, max: i64) -> bool {
    i64::try_from(length).is_ok_and(|length| length <= max)
}

/// Why a name cannot be one (RFC 1123 subdomain, as Kubernetes has it).
fn bad_name(name: &str) -> Option<String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.split('.').all(|label| {
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    });
    let right = "use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends";
    match () {
        () if name.len() > 253 => Some("is longer than 253 characters".to_owned()),
        () if !good => Some(format!("{name:?} is no valid name: {right}")),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_left_out_and_what_is_missing_is_empty() {
        let schema: JSONSchemaProps = serde_json::from_value(serde_json::json!({
            "type": "object",
            "required": ["name", "mode"],
            "properties": {
                "name": { "type": "string" },
                "mode": { "type": "string", "enum": ["a", "b"] },
                "count": { "type": "integer" },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "list": { "type": "array", "items": { "type": "object", "required": ["k"], "properties": { "k": { "type": "string" } } } },
                "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
        }))
        .unwrap();
        let text = "mode: c\ncount: 1.5\nlabels: {a: x, b: 1}\nlist: [1, {k: v}]\nany: {z: [1]}\nother: 1\n";
        let (mut documents, mut findings) = (Vec::new(), Vec::new());
        crate::parse("f", text, &mut documents, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(
            repaired(&documents[0].root, &schema),
            serde_json::json!({
                "name": "", "mode": "a", "labels": { "a": "x" }, "list": [{ "k": "" }, { "k": "v" }], "any": { "z": [1] },
            })
        );
    }
}
