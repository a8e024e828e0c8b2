// SPDX-License-Identifier: Apache-2.0
//! Validation rules in CEL: what they see, what they say, and when they are not asked.

use anyhow::Result;
use serde_json::{Value, json};

use crate::crds::definition;
use crate::world::{CRDS, Check, MERGE, World, widget};

pub const ALL: &[Check] = &[
    ("messages_reasons_and_paths", |w| Box::pin(messages_reasons_and_paths(w))),
    ("transitions", |w| Box::pin(transitions(w))),
    ("functions", |w| Box::pin(functions(w))),
    ("rules_that_do_not_compile", |w| Box::pin(rules_that_do_not_compile(w))),
    ("rules_that_fail_to_evaluate", |w| Box::pin(rules_that_fail_to_evaluate(w))),
];

async fn messages_reasons_and_paths(w: &World<'_>) -> Result<()> {
    w.post(w.widgets(), &widget("a", json!({"low": 5, "high": 2})))
        .await?
        .refused(
            422,
            "Invalid",
            "Widget.example.org \"a\" is invalid: spec.low: Forbidden: low is above high",
        )
        .causes(&[("FieldValueForbidden", "spec.low", "Forbidden: low is above high")]);
    w.create(w.widgets(), &widget("a", json!({"low": 2, "high": 2}))).await?;
    w.patch(MERGE, format!("{}/a", w.widgets()), &json!({"spec": {"high": 1}})).await?.is(422);
    Ok(())
}

async fn transitions(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    let path = format!("{}/a", w.widgets());
    w.patch(MERGE, &path, &json!({"spec": {"serial": "one"}})).await?.is(200);
    w.patch(MERGE, &path, &json!({"spec": {"serial": "two"}}))
        .await?
        .refused(422, "Invalid", "Widget.example.org \"a\" is invalid: spec.serial: Invalid value: \"string\": the serial number stays")
        .causes(&[("FieldValueInvalid", "spec.serial", "Invalid value: \"string\": the serial number stays")]);
    w.patch(MERGE, &path, &json!({"spec": {"serial": "one", "size": 2}})).await?.is(200);
    w.patch(MERGE, &path, &json!({"spec": {"serial": null}})).await?.is(200);
    w.patch(MERGE, &path, &json!({"spec": {"serial": "two"}})).await?.is(200);
    Ok(())
}

/// One field with a rule, a value that passes and one that does not.
const RULES: &[(&str, &str, &str, &str)] = &[
    ("letters", "string", "self.matches('^[a-z]+$')", "abc|ABC"),
    ("starts", "string", "self.startsWith('a') && self.endsWith('z') && self.contains('-')", "a-z|a-b"),
    ("parts", "string", "self.split('/').size() == 2 && self.split('/').all(p, p != '')", "a/b|a/"),
    ("lower", "string", "self.lowerAscii() == self", "abc|aBc"),
    ("link", "string", "isURL(self) && url(self).getScheme() == 'https'", "https://a.b/c|ftp://a"),
    ("net", "string", "isCIDR(self) && cidr(self).containsIP('10.1.2.3')", "10.0.0.0/8|11.0.0.0/8"),
    ("host", "string", "isIP(self) && ip(self).family() == 4", "10.0.0.1|::1"),
    ("much", "string", "isQuantity(self) && quantity(self).isGreaterThan(quantity('1Gi'))", "2Gi|1Mi"),
    ("word", "string", "!format.dns1123Label().validate(self).hasValue()", "a-b|-b"),
    ("span", "string", "duration(self) <= duration('1h')", "30m|2h"),
    ("found", "string", "self.find('[0-9]+') == '42'", "a42|a43"),
    ("choice", "string", "self in ['one', 'two'] ? true : self.size() > 5", "two|three"),
];

async fn functions(w: &World<'_>) -> Result<()> {
    let group = "functions.example.org";
    let mut fields = json!({});
    for (name, kind, rule, _) in RULES {
        fields[*name] = json!({"type": kind, "maxLength": 50, "x-kubernetes-validations": [{"rule": rule}]});
    }
    fields["numbers"] = json!({"type": "array", "maxItems": 10, "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(n, n % 2 == 0)", "message": "all even"},
        {"rule": "self.exists_one(n, n == 4)", "message": "one four"},
        {"rule": "self.isSorted() && self.sum() < 100", "message": "sorted"},
        {"rule": "self.map(n, n * 2).filter(n, n > 10).size() <= 1", "message": "few large"},
    ]});
    fields["table"] = json!({"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(k, k.size() < 4 && self[k] >= 0)", "message": "short keys"},
        {"rule": "!('bad' in self)", "message": "nothing bad"},
    ]});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}});
    let path = w.of(&format!("{group}/v1"), "words");
    w.define(&definition(group, "Word", "words", schema), &path).await?;
    let word = |name: &str, spec: Value| json!({"apiVersion": format!("{group}/v1"), "kind": "Word", "metadata": {"name": name}, "spec": spec});
    for (name, _, rule, values) in RULES {
        let (good, bad) = values.split_once('|').unwrap_or_default();
        w.post(format!("{path}?dryRun=All"), &word("a", json!({*name: good}))).await?.is(201);
        w.post(&path, &word("a", json!({*name: bad}))).await?.refused(
            422,
            "Invalid",
            format!(
                "Word.{group} \"a\" is invalid: spec.{name}: Invalid value: \"string\": failed rule: {rule}"
            ),
        );
    }
    for (numbers, said) in [
        (json!([2, 4]), ""),
        (json!([3, 4]), "all even"),
        (json!([2]), "one four"),
        (json!([4, 2]), "sorted"),
        (json!([4, 6, 8]), "few large"),
    ] {
        let answer = w.post(format!("{path}?dryRun=All"), &word("a", json!({"numbers": numbers}))).await?;
        match said {
            "" => drop(answer.is(201)),
            said => drop(answer.refused(
                422,
                "Invalid",
                format!("Word.{group} \"a\" is invalid: spec.numbers: Invalid value: \"array\": {said}"),
            )),
        }
    }
    for (table, said) in [
        (json!({"a": 1}), ""),
        (json!({"long": 1}), "short keys"),
        (json!({"a": -1}), "short keys"),
        (json!({"bad": 1}), "nothing bad"),
    ] {
        let answer = w.post(format!("{path}?dryRun=All"), &word("a", json!({"table": table}))).await?;
        match said {
            "" => drop(answer.is(201)),
            said => drop(answer.refused(
                422,
                "Invalid",
                format!("Word.{group} \"a\" is invalid: spec.table: Invalid value: \"object\": {said}"),
            )),
        }
    }
    Ok(())
}

async fn rules_that_do_not_compile(w: &World<'_>) -> Result<()> {
    let group = "broken.example.org";
    let with = |rule: Value| {
        let spec = json!({"type": "object", "properties": {"size": {"type": "integer"}}, "x-kubernetes-validations": [rule]});
        definition(group, "Broken", "brokens", json!({"type": "object", "properties": {"spec": spec}}))
    };
    let field = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, at, part) in [
        (
            json!({"rule": "self.none > 1"}),
            ".rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'none'",
        ),
        (json!({"rule": "self.size"}), ".rule", "must evaluate to a bool"),
        (json!({"rule": "self.size >"}), ".rule", "compilation failed: ERROR: <input>:1:12: Syntax error"),
        (json!({"rule": ""}), ".rule", "rule is not specified"),
        (
            json!({"rule": "self.size == 'a'"}),
            ".rule",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (json!({"rule": "true", "message": "a\nb"}), ".message", "must not contain line breaks"),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (json!({"rule": "true", "reason": "Because"}), ".reason", "Unsupported value: \"Because\""),
        (
            json!({"rule": "true", "fieldPath": ".none"}),
            ".fieldPath",
            "Invalid value: \".none\": must be a valid path",
        ),
    ] {
        let answer = w.post(format!("{CRDS}?dryRun=All"), &with(rule.clone())).await?;
        let answer = answer.refused_like(
            422,
            "Invalid",
            &[
                "CustomResourceDefinition.apiextensions.k8s.io \"brokens.broken.example.org\" is invalid: ",
                part,
            ],
        );
        let place = answer.json["details"]["causes"][0]["field"].as_str().unwrap_or_default().to_owned();
        w.same(&rule.to_string(), place, format!("{field}{at}"));
    }
    Ok(())
}

async fn rules_that_fail_to_evaluate(w: &World<'_>) -> Result<()> {
    let group = "failing.example.org";
    let spec = json!({"type": "object", "properties": {"list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}}},
        "x-kubernetes-validations": [{"rule": "self.list[2] == 'c'", "message": "the third is c"}]});
    let path = w.of(&format!("{group}/v1"), "failings");
    w.define(
        &definition(group, "Failing", "failings", json!({"type": "object", "properties": {"spec": spec}})),
        &path,
    )
    .await?;
    let object = |list: Value| json!({"apiVersion": format!("{group}/v1"), "kind": "Failing", "metadata": {"name": "a"}, "spec": {"list": list}});
    w.post(format!("{path}?dryRun=All"), &object(json!(["a", "b", "c"]))).await?.is(201);
    w.post(&path, &object(json!(["a", "b", "d"]))).await?.refused(
        422,
        "Invalid",
        format!("Failing.{group} \"a\" is invalid: spec: Invalid value: \"object\": the third is c"),
    );
    w.post(&path, &object(json!(["a"]))).await?.refused_like(
        422,
        "Invalid",
        &["spec: Invalid value: \"object\": index out of bounds: 2 evaluating rule: the third is c"],
    );
    Ok(())
}
