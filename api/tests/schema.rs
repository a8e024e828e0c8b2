// SPDX-License-Identifier: Apache-2.0

//! Our definitions against the published ones: the files in `data` list every field of every kind with its constraints,
//! and our schemas, written in the same notation, have to give the same listing.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Fields that we add: kind, part of the object, name.
const ADDED: [(&str, &str, &str); 9] = [
    ("Workflow", "status", "agentFirstCall"),
    ("Workflow", "status", "agentToken"),
    ("Workflow", "status", "progress"),
    ("TinkerbellDatacenterConfig", "spec", "bmcCACert"),
    ("TinkerbellDatacenterConfig", "spec", "osImageDigest"),
    ("TinkerbellMachineConfig", "spec", "arch"),
    ("TinkerbellMachineConfig", "spec", "bootMode"),
    ("TinkerbellMachineConfig", "spec", "diskSelector"),
    ("TinkerbellMachineConfig", "spec", "osImageDigest"),
];

#[test]
fn every_kind_has_the_published_schema() {
    let published: Vec<_> = [include_str!("data/v1alpha1.txt"), include_str!("data/anywhere.txt")]
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            " ".repeat(indent) + &line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    let mut ours = Vec::new();
    for crd in api::crds() {
        list_definition(&crd, &mut ours);
    }

    for kind in published.iter().filter(|line| line.starts_with("kind ")) {
        assert_eq!(section(&ours, kind), section(&published, kind));
    }
    let kinds = |lines: &[String]| lines.iter().filter(|line| line.starts_with("kind ")).count();
    assert_eq!(kinds(&ours), kinds(&published));
}

#[test]
fn additions_are_where_the_contract_puts_them() {
    let crds = api::crds();
    for (kind, part, field) in ADDED {
        let crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let part_of = &root(crd).properties.as_ref().unwrap()[part];
        assert!(part_of.properties.as_ref().unwrap().contains_key(field), "{kind}.{part}.{field}");
        let required = part_of.required.iter().flatten();
        assert!(!required.into_iter().any(|name| name == field), "{kind}.{part}.{field} must be optional");
    }
}

#[test]
fn schemas_are_structural_and_have_no_null() {
    for crd in api::crds() {
        check(root(&crd), &crd.spec.names.kind);
    }
}

fn check(schema: &JSONSchemaProps, path: &str) {
    let typed = schema.type_.is_some() || schema.x_kubernetes_int_or_string == Some(true);
    assert!(typed, "{path} has no type");
    assert_eq!(schema.nullable, None, "{path}");
    assert!(schema.ref_path.is_none() && schema.definitions.is_none(), "{path}");
    assert!(!schema.format.as_deref().unwrap_or_default().starts_with("uint"), "{path}: {:?}", schema.format);
    if let Some(default) = &schema.default {
        assert!(!default.0.is_null() && default.0 != serde_json::json!([]), "{path}: {default:?}");
    }
    for (name, child) in schema.properties.iter().flatten() {
        check(child, &format!("{path}.{name}"));
    }
    if let Some(items) = items(schema) {
        check(items, &format!("{path}[]"));
    }
    if let Some(values) = values(schema) {
        check(values, &format!("{path}{{}}"));
    }
}

fn section(lines: &[String], kind: &str) -> Vec<String> {
    let begin = lines.iter().position(|line| line == kind).unwrap_or_else(|| panic!("no {kind}"));
    let rest = lines.iter().skip(begin + 1).take_while(|line| !line.starts_with("kind "));
    rest.cloned().collect()
}

fn root(crd: &CustomResourceDefinition) -> &JSONSchemaProps {
    crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

fn list_definition(crd: &CustomResourceDefinition, out: &mut Vec<String>) {
    let (names, version) = (&crd.spec.names, &crd.spec.versions[0]);
    assert_eq!(crd.metadata.name.as_deref(), Some(format!("{}.{}", names.plural, crd.spec.group).as_str()));
    out.push(format!("kind {} {}/{}", names.kind, crd.spec.group, version.name));
    let list = |of: &Option<Vec<String>>| {
        of.as_ref().filter(|of| !of.is_empty()).map_or("none".to_owned(), |of| of.join(","))
    };
    out.push(format!(
        "plural {} short {} category {} {} served={} storage={} subresources={}",
        names.plural,
        list(&names.short_names),
        list(&names.categories),
        crd.spec.scope,
        version.served,
        version.storage,
        version.subresources.as_ref().and_then(|sub| sub.status.as_ref()).map_or("none", |_| "status"),
    ));
    for (key, value) in crd.metadata.labels.iter().flatten() {
        assert_eq!(value, "");
        out.push(format!("label {key}"));
    }
    for column in version.additional_printer_columns.iter().flatten() {
        let priority = column.priority.unwrap_or_default();
        out.push(format!("column {} {} priority={priority}", column.name, column.json_path));
    }
    for (name, child) in root(crd).properties.iter().flatten() {
        list_field((&names.kind, 0), name, child, false, out);
    }
}

fn list_field(
    (kind, depth): (&str, usize),
    name: &str,
    schema: &JSONSchemaProps,
    required: bool,
    out: &mut Vec<String>,
) {
    let mark = if items(schema).is_some() {
        "[]"
    } else if values(schema).is_some() {
        "{}"
    } else {
        ""
    };
    let mut line = format!("{}{name}{mark}: {}", " ".repeat(2 * depth), type_of(schema));
    let mut say = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if required {
        say("required".to_owned());
    }
    constraints(schema, "").into_iter().for_each(&mut say);
    items(schema).into_iter().flat_map(|of| constraints(of, "item:")).for_each(&mut say);
    values(schema).into_iter().flat_map(|of| constraints(of, "value:")).for_each(&mut say);
    out.push(line);

    let mut inner = schema;
    while let Some(next) = items(inner).or_else(|| values(inner)) {
        inner = next;
    }
    for (name, child) in inner.properties.iter().flatten() {
        if !ADDED.iter().any(|added| (added.0, added.2) == (kind, name.as_str())) {
            let required = inner.required.iter().flatten().any(|of| of == name);
            list_field((kind, depth + 1), name, child, required, out);
        }
    }
}

fn constraints(schema: &JSONSchemaProps, prefix: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push(format!("{prefix}{name}={value}"));
        }
    };
    say("fmt", schema.format.clone());
    say("pattern", schema.pattern.as_ref().map(|pattern| format!("`{pattern}`")));
    say("minLength", schema.min_length.map(|n| n.to_string()));
    say("minItems", schema.min_items.map(|n| n.to_string()));
    say("maxProperties", schema.max_properties.map(|n| n.to_string()));
    say("minimum", schema.minimum.map(|n| n.to_string()));
    say("maximum", schema.maximum.map(|n| n.to_string()));
    let text = |json: &serde_json::Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    say("enum", schema.enum_.as_ref().map(|of| of.iter().map(|v| text(&v.0)).collect::<Vec<_>>().join("|")));
    say("default", schema.default.as_ref().map(|v| text(&v.0)));
    say("map-type", schema.x_kubernetes_map_type.clone());
    say("list-type", schema.x_kubernetes_list_type.clone());
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        say("CEL", Some(format!("`{}`", rule.rule)));
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        out.push("int-or-string".to_owned());
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        out.push("any-fields".to_owned());
    }
    out
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(items) = items(schema) {
        format!("list<{}>", plain_type(items))
    } else if let Some(values) = values(schema) {
        format!("map<string,{}>", plain_type(values))
    } else {
        plain_type(schema)
    }
}

fn plain_type(schema: &JSONSchemaProps) -> String {
    schema.type_.clone().unwrap_or_else(|| "any".to_owned())
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => panic!("a list of schemas"),
    }
}

fn values(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.additional_properties.as_ref()? {
        JSONSchemaPropsOrBool::Schema(values) => Some(values),
        JSONSchemaPropsOrBool::Bool(_) => panic!("additionalProperties is a bool"),
    }
}
