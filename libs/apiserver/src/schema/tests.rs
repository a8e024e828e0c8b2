// SPDX-License-Identifier: Apache-2.0

use serde_json::{Value, json};

use super::{Schema, default, prune, validate};

fn schema(spec: Value) -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn wrong(spec: &Value, value: Value) -> Vec<String> {
    let causes = validate(&schema(spec.clone()), &json!({"spec": value}), None);
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn messages_are_those_of_kube_apiserver() {
    let cases = [
        (
            json!({"type": "integer"}),
            json!("x"),
            "spec: Invalid value: \"string\": spec in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 2.5, "exclusiveMaximum": true}),
            json!(2.5),
            "spec: Invalid value: 2.5: spec in body should be less than 2.5",
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            "spec: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            "spec: Invalid value: \"a\": spec in body should be at least 2 chars long",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            "spec: Invalid value: \"b\": spec in body should match '^a+$'",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("noon"),
            "spec: Invalid value: \"noon\": spec in body must be of type date-time: \"noon\"",
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            "spec: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            "spec: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            "spec.a: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            "spec[k]: Invalid value: \"integer\": spec[k] in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            json!([1, "x"]),
            "spec[1]: Invalid value: \"string\": spec[1] in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "string"}),
            json!(null),
            "spec: Invalid value: \"null\": spec in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(4_294_967_296_u64),
            "spec: Invalid value: 4294967296: spec in body must be of type int32: 4294967296",
        ),
    ];
    for (spec, value, message) in cases {
        assert_eq!(wrong(&spec, value), [message]);
    }
}

#[test]
fn right_values_pass() {
    let cases = [
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"x-kubernetes-int-or-string": true}), json!("80%")),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!(80),
        ),
        (json!({"type": "integer"}), json!(3.0)),
        (json!({"type": "string", "format": "made-up"}), json!("anything")),
        (json!({"type": "string", "format": "ipv4"}), json!("192.0.2.1")),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            json!({"a": [1, {"b": null}]}),
        ),
    ];
    for (spec, value) in cases {
        assert_eq!(wrong(&spec, value), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn junctors_count() {
    let spec = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(wrong(&spec, json!({"a": "x"})), Vec::<String>::new());
    assert_eq!(wrong(&spec, json!({"a": "x", "b": "y"})).len(), 1);
    assert_eq!(wrong(&spec, json!({})).len(), 1);
    let not = json!({"type": "string", "not": {"enum": ["bad"]}});
    assert_eq!(wrong(&not, json!("bad")).len(), 1);
    assert!(wrong(&not, json!("good")).is_empty());
}

#[test]
fn rules_of_the_published_crds() {
    // The rules that upstream's CRDs carry, with values on both sides of them.
    let both_or_neither = r#"(has(self.tftp_server_name) && self.tftp_server_name != "") == (has(self.boot_file_name) && self.boot_file_name != "")"#;
    let dhcp = json!({"type": "object", "properties": {"tftp_server_name": {"type": "string"}, "boot_file_name": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": both_or_neither, "message": "both or neither"}]});
    assert!(wrong(&dhcp, json!({})).is_empty());
    assert!(wrong(&dhcp, json!({"tftp_server_name": "a", "boot_file_name": "b"})).is_empty());
    assert_eq!(
        wrong(&dhcp, json!({"boot_file_name": "b"})),
        ["spec: Invalid value: \"object\": both or neither"]
    );

    let sum = "(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) == 1";
    let one = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": sum}]});
    assert!(wrong(&one, json!({"a": ""})).is_empty());
    assert_eq!(wrong(&one, json!({})), [format!("spec: Invalid value: \"object\": failed rule: {sum}")]);

    let starts = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == '' || self.startsWith('#!ipxe')",
        "messageExpression": "'not a script: ' + self"}]});
    assert!(wrong(&starts, json!("#!ipxe\nboot")).is_empty());
    assert_eq!(wrong(&starts, json!("boot")), ["spec: Invalid value: \"boot\": not a script: boot"]);

    let references = json!({"type": "object", "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "(self.name != '') == (self.namespace != '')"}]});
    assert!(wrong(&references, json!({"name": "a", "namespace": "b"})).is_empty());
    assert_eq!(wrong(&references, json!({"name": "a", "namespace": ""})).len(), 1);
    assert_eq!(wrong(&references, json!({"name": "a"})).len(), 1, "a missing field is an error of the rule");
}

#[test]
fn transition_rules_compare_with_the_old_object() {
    let spec = json!({"type": "object", "properties": {"v": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]}}});
    let check = |old: Option<i64>, new: i64| {
        let old = old.map(|v| json!({"spec": {"v": v}}));
        validate(&schema(spec.clone()), &json!({"spec": {"v": new}}), old.as_ref()).len()
    };
    assert_eq!((check(None, 1), check(Some(1), 2), check(Some(2), 1)), (0, 0, 1));
}

#[test]
fn rules_that_do_not_compile_refuse_the_crd_and_foreign_functions_are_skipped() {
    let with = |rule: &str| json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]});
    for broken in ["self.", "(((", "", "a b"] {
        assert!(Schema::parse(&with(broken)).is_err(), "{broken:?}");
    }
    let url = json!({"type": "string", "x-kubernetes-validations": [{"rule": "isURL(self)"}]});
    assert!(wrong(&url, json!("x")).is_empty());
}

#[test]
fn pruning_and_defaults_go_all_the_way_down() {
    let schema = schema(json!({"type": "object", "default": {}, "properties": {
        "port": {"type": "integer", "default": 80},
        "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string", "default": "d"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
        "res": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }}));
    let mut object = json!({});
    default(&schema, &mut object);
    assert_eq!(object, json!({"spec": {"port": 80}}));
    let mut object = json!({"apiVersion": "v1", "junk": 1, "spec": {"list": [{"y": 1}], "port": null, "odd": 1,
        "free": {"any": 1, "known": {"a": "b", "c": 1}}, "res": {"kind": "K", "metadata": {"name": "n"}, "z": 1}}});
    let mut removed = prune(&schema, &mut object);
    removed.sort();
    assert_eq!(removed, ["junk", "spec.free.known.c", "spec.list[0].y", "spec.odd", "spec.res.z"]);
    default(&schema, &mut object);
    assert_eq!(
        object,
        json!({"apiVersion": "v1", "spec": {"list": [{"x": "d"}], "port": 80,
            "free": {"any": 1, "known": {"a": "b"}}, "res": {"kind": "K", "metadata": {"name": "n"}}}})
    );
}

#[test]
fn schemas_that_are_not_structural_are_refused_with_all_reasons() {
    let schema = json!({"type": "object", "properties": {
        "a": {}, "b": {"type": "array"}, "c": {"type": "string", "pattern": "("}, "d": {"$ref": "#/x"}, "e": {"type": "thing"},
        "f": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}},
    }});
    let problems = Schema::parse(&schema).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    for expected in [
        "properties[a].type",
        "properties[b].items",
        "properties[c].pattern",
        "properties[d].$ref",
        "properties[e].type",
        "properties[f].x-kubernetes-list-map-keys",
    ] {
        assert!(paths.contains(&expected), "{expected} in {paths:?}");
    }
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"x": deep}});
    }
    assert!(Schema::parse(&deep).is_err());
}
