// SPDX-License-Identifier: Apache-2.0

use serde_json::{Value, json};

use super::{Schema, default, prune, validate};

fn schema(spec: Value) -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {"spec": spec}}), "schema").unwrap()
}

fn wrong(spec: &Value, value: Value) -> Vec<String> {
    let causes = validate(&schema(spec.clone()), &json!({"spec": value}), None, (Vec::new(), Vec::new()));
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
            "spec: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            "spec.a: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            "spec.k: Invalid value: \"integer\": spec.k in body must be of type string: \"integer\"",
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
    // And what is wrong by the first.
    assert_eq!(wrong(&spec, json!({})).len(), 2);
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
    assert_eq!(wrong(&starts, json!("boot")), ["spec: Invalid value: \"string\": not a script: boot"]);

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
        validate(&schema(spec.clone()), &json!({"spec": {"v": new}}), old.as_ref(), (Vec::new(), Vec::new()))
            .len()
    };
    assert_eq!((check(None, 1), check(Some(1), 2), check(Some(2), 1)), (0, 0, 1));
}

#[test]
fn rules_that_do_not_compile_refuse_the_crd_and_foreign_functions_are_skipped() {
    let with = |rule: &str| json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]});
    for broken in ["self.", "(((", "", "a b"] {
        assert!(Schema::parse(&with(broken), "schema").is_err(), "{broken:?}");
    }
    let url = json!({"type": "string", "x-kubernetes-validations": [{"rule": "isSemver(self)"}]});
    assert!(wrong(&url, json!("x")).is_empty());
}

#[test]
fn rules_fit_the_types_of_the_schema() {
    let problems = |rule: Value| {
        let spec = json!({"type": "object", "properties": {"size": {"type": "integer"}, "name": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}, "x-kubernetes-validations": [rule]});
        let found: Vec<String> = schema(spec)
            .rule_problems("s")
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        found.join(", ")
    };
    for right in [
        "self.size > 1 && self.name != 'a'",
        "has(self.name) ? self.name.size() > 1 : self.size < 2.5",
        "self.list.all(item, item.id != 'x' && item.none == 1)",
        "self.list[0].id == self.name && self.open.any == 3",
        "self.size == null || oldSelf.size == self.size",
    ] {
        assert_eq!(problems(json!({"rule": right})), "", "{right}");
    }
    for (wrong, told) in [
        (
            "self.none > 1",
            ".rule: Invalid value: \"self.none > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'none'\n | self.none > 1\n | ....^",
        ),
        ("self.list[0].ids == 'a'", "undefined field 'ids'"),
        ("self.size == self.name", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.size && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
        ("self.size", "must evaluate to a bool"),
    ] {
        let found = problems(json!({"rule": wrong}));
        assert!(found.contains(told), "{wrong}: {found}");
    }
    let found = problems(json!({"rule": "true", "messageExpression": "self.size", "fieldPath": ".none"}));
    assert!(
        found.contains("messageExpression must evaluate to a string")
            && found.contains("must be a valid path")
    );
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
    let problems = Schema::parse(&schema, "schema").unwrap_err();
    let problems: Vec<String> =
        problems.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    for expected in [
        "schema.properties[a].type: Required value: must not be empty for specified object fields",
        "schema.properties[b].items: Required value: must be specified",
        "schema.properties[d].$ref: Forbidden: $ref is not supported",
        "schema.properties[e].type: Unsupported value: \"thing\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        "schema.properties[f].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
    ] {
        assert!(problems.iter().any(|found| found == expected), "{expected} in {problems:?}");
    }
    let pattern = json!({"type": "object", "properties": {"c": {"type": "string", "pattern": "("}}});
    let problems = Schema::parse(&pattern, "schema").unwrap_err();
    assert!(problems[0].message.contains("must be a valid regular expression, but isn't"), "{problems:?}");
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"x": deep}});
    }
    assert!(Schema::parse(&deep, "schema").is_err());
}

#[test]
fn junctors_only_restrict_what_is_described_outside_of_them() {
    let wrong = |schema: Value| -> Vec<String> {
        let causes = Schema::parse(&schema, "s").err().unwrap_or_default();
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    };
    assert_eq!(
        wrong(
            json!({"type": "object", "anyOf": [{"required": ["a"]}, {"properties": {"b": {"minLength": 1}}}]})
        ),
        ["s.properties[b]: Required value: because it is defined in s.anyOf[1].properties[b]"]
    );
    assert_eq!(
        wrong(json!({"type": "object", "not": {"type": "object"}})),
        ["s.not.type: Forbidden: must be empty to be structural"]
    );
    let either =
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
    assert!(wrong(json!({"type": "object", "properties": {"port": either}})).is_empty());
}

#[test]
fn defaults_have_to_fit() {
    let with = |default: Value| {
        let schema = json!({"type": "object", "properties": {"a": {"type": "object", "default": default,
            "properties": {"b": {"type": "integer", "minimum": 1}}}}});
        Schema::parse(&schema, "s")
    };
    assert!(with(json!({"b": 1})).is_ok());
    for (default, field) in
        [(json!({"b": 0}), "s.properties[a].default.b"), (json!({"c": 1}), "s.properties[a].default.c")]
    {
        let causes = with(default).unwrap_err();
        assert_eq!(causes[0].field, field, "{causes:?}");
    }
}

#[test]
fn no_rule_holds_the_server_up() {
    let rule = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0))))";
    let spec =
        json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": rule}]});
    let few: Vec<i64> = (0..10).collect();
    assert!(wrong(&spec, json!(few)).is_empty());
    let many: Vec<i64> = (0..10_000).collect();
    let started = std::time::Instant::now();
    let found = wrong(&spec, json!(many));
    assert!(found[0].contains("running out of cost budget"), "{found:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn the_functions_that_kubernetes_adds() {
    let holds = |rule: &str| {
        let spec = json!({"type": "string", "x-kubernetes-validations": [{"rule": rule}]});
        let found = wrong(&spec, json!("x"));
        assert!(found.is_empty(), "{rule}: {found:?}");
        let negated = json!({"type": "string", "x-kubernetes-validations": [{"rule": format!("!({rule})")}]});
        assert_eq!(wrong(&negated, json!("x")).len(), 1, "!({rule})");
    };
    for rule in [
        "isURL('https://example.org:80/a?b=c') && !isURL('no url') && !isURL('')",
        "url('https://user@example.org:8443/a/b?c').getHost() == 'example.org:8443'",
        "url('https://[2001:db8::1]:80/').getHostname() == '2001:db8::1'",
        "url('https://example.org:80/').getPort() == '80' && url('https://example.org/x').getScheme() == 'https'",
        "url('https://example.org/a/b?c').getEscapedPath() == '/a/b'",
        "isIP('192.0.2.1') && isIP('2001:db8::1') && !isIP('192.0.2.256') && !isIP('::ffff:192.0.2.1')",
        "ip('2001:DB8::0001') == ip('2001:db8::1') && ip('192.0.2.1').family() == 4 && ip('::1').isLoopback()",
        "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')",
        "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/33')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.0.0.1/8').masked() == cidr('10.0.0.0/8')",
        "cidr('10.0.0.1/8').prefixLength() == 8 && cidr('10.0.0.1/8').ip() == ip('10.0.0.1')",
        "isQuantity('1.5Gi') && !isQuantity('lots') && quantity('1Gi') == quantity('1024Mi')",
        "quantity('50k').add(quantity('1')).compareTo(quantity('50001')) == 0 && quantity('1').sub(2).sign() == -1",
        "quantity('500m').isLessThan(quantity('1')) && quantity('1e3').isGreaterThan(quantity('999'))",
        "quantity('2k').isInteger() && quantity('2k').asInteger() == 2000 && !quantity('1500m').isInteger()",
        "quantity('500m').asApproximateFloat() == 0.5",
        "[1, 2, 2].isSorted() && ![2, 1].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3",
        "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && ['a'].indexOf('c') == -1",
        "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('a_b').hasValue()",
        "format.named('qualifiedName').hasValue() && !format.named('none').hasValue()",
        "duration('1h30m') == duration('90m') && duration('-1.5s') < duration('1ms') && duration('0') < duration('1ns')",
        "timestamp('2024-01-01T01:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('1h')",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'1 2 3'.findAll('[0-9]') == ['1', '2', '3'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
    ] {
        holds(rule);
    }
}

#[test]
fn an_optional_old_value_lets_a_rule_hold_for_creations_too() {
    let spec = json!({"type": "object", "properties": {"v": {"type": "integer", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true, "message": "starts at 1", "fieldPath": ".v", "reason": "FieldValueForbidden"}]}}});
    let check = |old: Option<i64>, new: i64| {
        let old = old.map(|v| json!({"spec": {"v": v}}));
        validate(&schema(spec.clone()), &json!({"spec": {"v": new}}), old.as_ref(), (Vec::new(), Vec::new()))
    };
    assert!(check(None, 1).is_empty() && check(Some(1), 9).is_empty());
    let causes = check(None, 2);
    assert_eq!(
        (causes[0].reason, causes[0].message.as_str()),
        ("FieldValueForbidden", "Forbidden: starts at 1")
    );
}
