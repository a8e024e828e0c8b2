// SPDX-License-Identifier: Apache-2.0

//! What can be said of a manifest without asking the API server: unknown fields, wrong types, missing values.
//!
//! Owns that comparison of a document with its schema. The server prunes an unknown field without a word; a person who
//! mistyped one wants to hear of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use crate::{
    kinds::Kind,
    manifest::{Content, Document, Finding, Node},
    near,
};

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

/// All that is wrong with a document of this kind.
pub(super) fn check(document: &Document, kind: &Kind) -> Vec<Finding> {
    let mut check = Check { document, findings: Vec::new() };
    check.metadata();
    let root = kind.schema.as_ref().and_then(|schema| schema.properties.as_ref());
    let parts: Option<Vec<&str>> = match (root, kind.resource.kind.as_str()) {
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
        if matches!(kind.resource.kind.as_str(), "Secret" | "ConfigMap") {
            check.texts(field);
        }
    }
    check.findings
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
        let fits = match (expected, value) {
            _ if schema.x_kubernetes_int_or_string == Some(true) => value.is_i64() || value.is_string(),
            (Some("string"), Value::String(_))
            | (Some("boolean"), Value::Bool(_))
            | (Some("number"), Value::Number(_))
            | (None, _) => true,
            (Some("integer"), Value::Number(number)) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        if !fits {
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
    use crate::{kinds, manifest};

    fn findings(kind: &str, text: &str) -> Vec<String> {
        let (mut documents, mut findings) = (Vec::new(), Vec::new());
        manifest::parse("f", text, &mut documents, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        let kind = kinds::find(kind).unwrap();
        documents.iter().flat_map(|document| check(document, &kind)).map(|f| f.to_string()).collect()
    }

    #[test]
    fn every_mistake_is_named_with_line_field_and_the_right_spelling() {
        let text = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: m1, label: {a: b}}
spec:
  bmcRef: {name: bmc-m1}
  interfaces:
    - dhcp: {mac: 52:54:00:00:00:11, lease_time: \"86400\", uefi: 1}
      netbot: {allowPXE: true}
    - netboot: {allowPxe: true, osie: [a]}
  disks: {device: /dev/vda}
  resources: {cpu: 1.5, memory: 4Gi, gpus: 1}
  tinkVersion: 1.5
stats: {}
";
        assert_eq!(
            findings("hardware", text),
            [
                "f:3: metadata.label: there is no such field; did you mean \"labels\"?",
                "f:13: stats: there is no such field; did you mean \"status\"?",
                "f:5: spec.bmcRef.kind: is missing",
                "f:8: spec.interfaces[0].netbot: there is no such field; did you mean \"netboot\"?",
                "f:7: spec.interfaces[0].dhcp.lease_time: must be a whole number, not text",
                "f:7: spec.interfaces[0].dhcp.uefi: must be true or false, not a number",
                "f:9: spec.interfaces[1].netboot.allowPxe: there is no such field; did you mean \"allowPXE\"?",
                "f:9: spec.interfaces[1].netboot.osie: must be a map, not a list",
                "f:10: spec.disks: must be a list, not a map",
                "f:11: spec.resources.cpu: must be a whole number or text, not a fraction",
                "f:12: spec.tinkVersion: must be a whole number, not a fraction",
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn actions_with_two_parts_or_unknown_words_are_refused() {
        let text = "\
metadata: {name: j}
spec:
  machineRef: {name: m1}
  tasks:
    - powerAction: on
      bootDevice: {device: pxe}
    - powerAction: onn
---
metadata: {name: k}
spec: {machineRef: {name: m, namespace: ns}, tasks: []}
";
        assert_eq!(
            findings("job", text),
            [
                "f:3: spec.machineRef.namespace: is missing",
                "f:5: spec.tasks[0]: has powerAction, bootDevice: only one of them is allowed; use a list item for each",
                "f:5: spec.tasks[0].powerAction: must be text, not true or false; write it in quotes",
                "f:7: spec.tasks[1].powerAction: is \"onn\"; allowed are \"on\", \"off\", \"soft\", \"status\", \"cycle\", \"reset\"",
                "f:10: spec.tasks: must not be empty",
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn names_and_texts_of_secrets_are_checked() {
        assert_eq!(
            findings("secret", "metadata: {name: Bad_Name, labels: {a: true}}\nstringData:\n  password: 1234\n"),
            [
                "f:1: metadata.name: \"Bad_Name\" is no valid name: use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends",
                "f:1: metadata.labels.a: must be text, not true or false; write it in quotes",
                "f:3: stringData.password: must be text, not a number; write it in quotes",
            ]
            .map(str::to_owned)
        );
        assert_eq!(
            findings("secret", "data: {}\n"),
            ["f:1: metadata: is missing: an object needs at least `metadata.name`"]
        );
    }

    #[test]
    fn the_manifests_that_users_write_are_clean() {
        for (kind, text) in [
            ("hardware", include_str!("../../../api/tests/manifests/hardware.yaml")),
            ("template", include_str!("../../../api/tests/manifests/template.yaml")),
        ] {
            assert_eq!(findings(kind, text), Vec::<String>::new());
        }
    }
}
