// SPDX-License-Identifier: Apache-2.0
//! What the schema of a definition does to its objects: defaults, pruning, validation.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, MERGE, World, widget};

pub const ALL: &[Check] = &[
    ("defaults", |w| Box::pin(defaults(w))),
    ("pruning", |w| Box::pin(pruning(w))),
    ("content_without_a_schema", |w| Box::pin(content_without_a_schema(w))),
    ("nulls", |w| Box::pin(nulls(w))),
    ("values_that_are_wrong", |w| Box::pin(values_that_are_wrong(w))),
    ("types_that_are_wrong", |w| Box::pin(types_that_are_wrong(w))),
    ("all_mistakes_at_once", |w| Box::pin(all_mistakes_at_once(w))),
    ("field_validation", |w| Box::pin(field_validation(w))),
    ("ratcheting", |w| Box::pin(ratcheting(w))),
];

async fn defaults(w: &World<'_>) -> Result<()> {
    let full = json!({"mode": "auto", "level": 3, "nested": {"deep": true}});
    w.post(w.widgets(), &widget("a", json!({"options": {}}))).await?.is(201).at("/spec/options", full);
    let given = json!({"mode": "x", "level": 0, "nested": {"deep": false}});
    w.post(w.widgets(), &widget("b", json!({"options": given}))).await?.is(201).at("/spec/options", given);
    w.post(w.widgets(), &widget("c", json!({}))).await?.is(201).at("/spec", json!({}));
    // Null where it is not allowed is no value.
    let full = json!({"mode": "auto", "level": 1, "nested": {"deep": true}});
    w.post(
        w.widgets(),
        &widget("d", json!({"options": {"mode": null, "level": 1, "nested": {"deep": null}}})),
    )
    .await?
    .is(201)
    .at("/spec/options", full);
    let path = format!("{}/c", w.widgets());
    let full = json!({"mode": "auto", "level": 9, "nested": {"deep": true}});
    let patched = w
        .patch(MERGE, &path, &json!({"spec": {"options": {"level": 9}}}))
        .await?
        .is(200)
        .at("/spec/options", full);
    // Nobody asked for the defaults by name, but they are the writer's.
    let fields =
        json!({"f:options": {".": {}, "f:level": {}, "f:mode": {}, "f:nested": {".": {}, "f:deep": {}}}});
    patched
        .at("/metadata/managedFields/0/fieldsV1/f:spec", json!({".": {}, "f:options": fields["f:options"]}));
    Ok(())
}

async fn pruning(w: &World<'_>) -> Result<()> {
    let mut body = widget(
        "a",
        json!({"colour": "red", "typo": 1, "parts": [{"id": "x", "odd": 1}], "box": {"width": 1, "depth": 3}, "words": {"k": "v"}}),
    );
    body["extra"] = json!({"a": 1});
    body["metadata"]["lables"] = json!({"a": "b"});
    let wanted = json!({"colour": "red", "parts": [{"id": "x"}], "box": {"width": 1}, "words": {"k": "v"}});
    w.post(w.widgets(), &body)
        .await?
        .is(201)
        .at("/spec", wanted)
        .at("/extra", Value::Null)
        .at("/metadata/lables", Value::Null)
        .warns(&[
            "299 - \"unknown field \\\"metadata.lables\\\"\"",
            "299 - \"unknown field \\\"extra\\\"\"",
            "299 - \"unknown field \\\"spec.box.depth\\\"\"",
            "299 - \"unknown field \\\"spec.parts[0].odd\\\"\"",
            "299 - \"unknown field \\\"spec.typo\\\"\"",
        ]);
    Ok(())
}

async fn content_without_a_schema(w: &World<'_>) -> Result<()> {
    let spec = json!({"free": {"known": "k", "other": {"deep": [1, "two", null]}}, "port": "http"});
    w.post(w.widgets(), &widget("a", spec.clone())).await?.is(201).at("/spec", spec).warns(&[]);
    w.post(w.widgets(), &widget("b", json!({"free": {"known": 5}}))).await?.refused(
        422,
        "Invalid",
        unchecked("b", "spec.free.known: Invalid value: \"integer\": spec.free.known in body must be of type string: \"integer\""),
    );
    let template = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}, "typo": 1}, "spec": {"x": 1}});
    w.post(w.widgets(), &widget("c", json!({"template": template})))
        .await?
        .is(201)
        .at("/spec/template", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"x": 1}}))
        .warns(&["299 - \"unknown field \\\"spec.template.metadata.typo\\\"\""]);
    w.post(w.widgets(), &widget("d", json!({"template": {"metadata": {"name": "UPPER"}}})))
        .await?
        .refused_like(
            422,
            "Invalid",
            &[
                "spec.template.apiVersion: Required value, spec.template.kind: Required value, <nil>: ",
                UNCHECKED,
            ],
        );
    let bad = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": 1}}});
    let answer = w.post(w.widgets(), &widget("e", json!({"template": bad}))).await?;
    answer.refused(
        400,
        "BadRequest",
        "Widget in version \"v1\" cannot be handled as a Widget: spec.template.metadata: Invalid value: {\"labels\":{\"a\":1}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
    );
    for (name, port) in [("f", json!(80)), ("g", json!("web")), ("h", json!("80%"))] {
        w.post(w.widgets(), &widget(name, json!({"port": port}))).await?.is(201).at("/spec/port", port);
    }
    w.post(w.widgets(), &widget("i", json!({"port": true}))).await?.refused(
        422,
        "Invalid",
        unchecked("i", "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\""),
    );
    Ok(())
}

async fn nulls(w: &World<'_>) -> Result<()> {
    let made = w.post(w.widgets(), &widget("a", json!({"note": null}))).await?.is(201);
    w.same("nullable", made.json["spec"].as_object().map(|spec| spec.contains_key("note")), Some(true));
    // Where null is not allowed it is as if the field were not there.
    w.post(w.widgets(), &widget("b", json!({"colour": null}))).await?.is(201).at("/spec", json!({}));
    w.post(w.widgets(), &widget("c", json!({"lines": [null]}))).await?.refused(
        422,
        "Invalid",
        unchecked(
            "c",
            "spec.lines[0]: Invalid value: \"null\": spec.lines[0] in body must be of type string: \"null\"",
        ),
    );
    let mut body = widget("d", json!({}));
    body["metadata"]["labels"] = Value::Null;
    body["metadata"]["annotations"] = json!({"a": null});
    let answer = w.post(w.widgets(), &body).await?;
    answer.is(201).at("/metadata/labels", Value::Null).at("/metadata/annotations", json!({"a": ""}));
    Ok(())
}

/// The message of a refusal for one mistake after which further rules cannot be asked.
fn unchecked(name: &str, mistake: &str) -> String {
    format!("Widget.example.org {name:?} is invalid: [{mistake}, <nil>: {UNCHECKED}]")
}

const UNCHECKED: &str = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// A spec, and the one cause that it earns.
type Row = (Value, (&'static str, &'static str, &'static str));

/// Plain values out of their bounds.
fn plain_values() -> Vec<Row> {
    vec![
        (
            json!({"colour": "pink"}),
            (
                "FieldValueNotSupported",
                "spec.colour",
                "Unsupported value: \"pink\": supported values: \"red\", \"green\", \"blue\"",
            ),
        ),
        (
            json!({"size": 0}),
            (
                "FieldValueInvalid",
                "spec.size",
                "Invalid value: 0: spec.size in body should be greater than or equal to 1",
            ),
        ),
        (
            json!({"size": 101}),
            (
                "FieldValueInvalid",
                "spec.size",
                "Invalid value: 101: spec.size in body should be less than or equal to 100",
            ),
        ),
        (
            json!({"step": 7}),
            (
                "FieldValueInvalid",
                "spec.step",
                "Invalid value: 7: spec.step in body should be a multiple of 5",
            ),
        ),
        (
            json!({"ratio": 0}),
            (
                "FieldValueInvalid",
                "spec.ratio",
                "Invalid value: 0: spec.ratio in body should be greater than 0",
            ),
        ),
        (
            json!({"title": "a"}),
            (
                "FieldValueInvalid",
                "spec.title",
                "Invalid value: \"a\": spec.title in body should be at least 2 chars long",
            ),
        ),
        (
            json!({"title": "abcdefghi"}),
            ("FieldValueTooLong", "spec.title", "Too long: may not be more than 8 bytes"),
        ),
        (
            json!({"title": "ABC"}),
            (
                "FieldValueInvalid",
                "spec.title",
                "Invalid value: \"ABC\": spec.title in body should match '^[a-z]+$'",
            ),
        ),
    ]
}

/// Values that are not of their format or not whole.
fn other_values() -> Vec<Row> {
    vec![
        (
            json!({"address": "1.2.3"}),
            (
                "FieldValueTypeInvalid",
                "spec.address",
                "Invalid value: \"1.2.3\": spec.address in body must be of type ipv4: \"1.2.3\"",
            ),
        ),
        (
            json!({"moment": "today"}),
            (
                "FieldValueTypeInvalid",
                "spec.moment",
                "Invalid value: \"today\": spec.moment in body must be of type date-time: \"today\"",
            ),
        ),
        (json!({"parts": [{"amount": 1}]}), ("FieldValueRequired", "spec.parts[0].id", "Required value")),
        (json!({"pair": {"right": 1}}), ("FieldValueRequired", "spec.pair.left", "Required value")),
        (
            json!({"parts": [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}, {"id": "e"}]}),
            ("FieldValueTooMany", "spec.parts", "Too many: 5: must have at most 4 items"),
        ),
        (
            json!({"words": {"a": "1", "b": "2", "c": "3", "d": "4"}}),
            ("FieldValueTooMany", "spec.words", "Too many: 4: must have at most 3 items"),
        ),
        (
            json!({"words": {"a": "too long"}}),
            ("FieldValueTooLong", "spec.words.a", "Too long: may not be more than 5 bytes"),
        ),
    ]
}

async fn values_that_are_wrong(w: &World<'_>) -> Result<()> {
    for (spec, (reason, field, message)) in plain_values().into_iter().chain(other_values()) {
        let answer = w.post(w.widgets(), &widget("a", spec.clone())).await?;
        // What says that a number or a text is out of bounds does not keep the rules from being asked.
        let mut causes = vec![json!({"reason": reason, "message": message, "field": field})];
        let whole = if reason == "FieldValueInvalid" {
            format!("Widget.example.org \"a\" is invalid: {field}: {message}")
        } else {
            causes.push(json!({"reason": "FieldValueInvalid", "message": UNCHECKED, "field": "<nil>"}));
            unchecked("a", &format!("{field}: {message}"))
        };
        let details = json!({"name": "a", "group": "example.org", "kind": "Widget", "causes": causes});
        answer.refused(422, "Invalid", whole).details(details);
    }
    let good = json!({"colour": "red", "size": 100, "step": 10, "ratio": 0.5, "title": "abcdefgh", "address": "10.0.0.1", "moment": "2024-05-01T10:00:00Z", "pair": {"left": 1}});
    w.post(w.widgets(), &widget("good", good.clone())).await?.is(201).at("/spec", good);
    Ok(())
}

async fn types_that_are_wrong(w: &World<'_>) -> Result<()> {
    let rows = [
        (json!({"title": 5}), "spec.title", "string", "integer"),
        (json!({"low": "5"}), "spec.low", "integer", "string"),
        (json!({"low": 1.5}), "spec.low", "integer", "number"),
        (json!({"open": "yes"}), "spec.open", "boolean", "string"),
        (json!({"ratio": "half"}), "spec.ratio", "number", "string"),
        (json!({"lines": "one"}), "spec.lines", "array", "string"),
        (json!({"lines": [1]}), "spec.lines[0]", "string", "integer"),
        (json!({"options": []}), "spec.options", "object", "array"),
        (json!({"words": {"a": true}}), "spec.words.a", "string", "boolean"),
    ];
    for (spec, field, wanted, found) in rows {
        let message =
            format!("Invalid value: \"{found}\": {field} in body must be of type {wanted}: \"{found}\"");
        w.post(w.widgets(), &widget("a", spec))
            .await?
            .refused(422, "Invalid", unchecked("a", &format!("{field}: {message}")))
            .causes(&[("FieldValueTypeInvalid", field, &message), ("FieldValueInvalid", "<nil>", UNCHECKED)]);
    }
    let mut body = widget("a", Value::Null);
    body["spec"] = "text".into();
    w.post(w.widgets(), &body).await?.refused_like(
        422,
        "Invalid",
        &["spec: Invalid value: \"string\": spec in body must be of type object: \"string\"", UNCHECKED],
    );
    Ok(())
}

async fn all_mistakes_at_once(w: &World<'_>) -> Result<()> {
    let answer = w
        .post(w.widgets(), &widget("a", json!({"colour": "pink", "size": 0, "title": "A", "open": "no"})))
        .await?;
    let answer = answer.refused_like(422, "Invalid", &["Widget.example.org \"a\" is invalid: ["]);
    let causes = answer.json["details"]["causes"].as_array().cloned().unwrap_or_default();
    let mut fields: Vec<String> =
        causes.iter().map(|cause| cause["field"].as_str().unwrap_or_default().to_owned()).collect();
    fields.sort();
    w.same(
        "fields",
        fields,
        ["<nil>", "spec.colour", "spec.open", "spec.size", "spec.title"].map(str::to_owned).to_vec(),
    );
    Ok(())
}

async fn field_validation(w: &World<'_>) -> Result<()> {
    let unknown = widget("a", json!({"typo": 1, "parts": [{"id": "x", "odd": 1}]}));
    let path = w.widgets();
    w.post(format!("{path}?fieldValidation=Strict"), &unknown)
        .await?
        .refused(400, "BadRequest", "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.parts[0].odd\", unknown field \"spec.typo\"");
    w.post(format!("{path}?fieldValidation=Ignore"), &unknown).await?.is(201).warns(&[]);
    w.post(format!("{path}?fieldValidation=Loose"), &unknown).await?.refused(
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
    );
    let twice = "{\"apiVersion\":\"example.org/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"size\":1,\"size\":2,\"box\":{\"width\":1,\"width\":2}}}";
    let json = [("content-type", "application/json")];
    w.send("POST", format!("{path}?fieldValidation=Strict"), &json, twice)
        .await?
        .refused(400, "BadRequest", "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: duplicate field \"spec.size\", duplicate field \"spec.box.width\"");
    w.send("POST", &path, &json, twice).await?.is(201).at("/spec/size", 2).warns(&[
        "299 - \"duplicate field \\\"spec.size\\\"\"",
        "299 - \"duplicate field \\\"spec.box.width\\\"\"",
    ]);
    let map = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\",\"typo\":1},\"data\":{\"a\":\"1\",\"a\":\"2\"},\"date\":{}}";
    w.send("POST", format!("{}?fieldValidation=Strict", w.maps()), &json, map)
        .await?
        .refused(400, "BadRequest", "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.typo\", duplicate field \"data.a\", unknown field \"date\"");
    w.send("POST", w.maps(), &json, map).await?.is(201).at("/data", json!({"a": "2"})).warns(&[
        "299 - \"unknown field \\\"metadata.typo\\\"\"",
        "299 - \"duplicate field \\\"data.a\\\"\"",
        "299 - \"unknown field \\\"date\\\"\"",
    ]);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\ndata:\n  a: one\n  a: two\n";
    w.send(
        "POST",
        format!("{}?fieldValidation=Strict", w.maps()),
        &[("content-type", "application/yaml")],
        yaml,
    )
    .await?
    .refused_like(
        400,
        "BadRequest",
        &["strict decoding error: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map"],
    );
    Ok(())
}

/// A value that was let in under an older schema may stay while others change.
async fn ratcheting(w: &World<'_>) -> Result<()> {
    let group = "ratchet.example.org";
    let schema = |maximum: Value| {
        let mut size = json!({"type": "integer"});
        if !maximum.is_null() {
            size["maximum"] = maximum;
        }
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": size, "note": {"type": "string"}}}}})
    };
    let path = w.of(&format!("{group}/v1"), "wheels");
    w.define(&crate::crds::definition(group, "Wheel", "wheels", schema(Value::Null)), &path).await?;
    let wheel = json!({"apiVersion": format!("{group}/v1"), "kind": "Wheel", "metadata": {"name": "a"}, "spec": {"size": 50}});
    w.create(&path, &wheel).await?;
    let tighter = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema(json!(10))}]);
    w.patch(crate::world::JSON_PATCH, format!("{}/wheels.{group}", crate::world::CRDS), &tighter)
        .await?
        .is(200);
    let new = json!({"apiVersion": format!("{group}/v1"), "kind": "Wheel", "metadata": {"name": "b"}, "spec": {"size": 50}});
    let mut refused = 201;
    for _ in 0..100 {
        refused = w.post(format!("{path}?dryRun=All"), &new).await?.code;
        if refused == 422 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    w.same("the new schema holds", refused, 422);
    w.patch(MERGE, format!("{path}/a"), &json!({"spec": {"note": "x"}}))
        .await?
        .is(200)
        .at("/spec", json!({"size": 50, "note": "x"}));
    w.patch(MERGE, format!("{path}/a"), &json!({"spec": {"size": 51}})).await?.refused(
        422,
        "Invalid",
        format!("Wheel.{group} \"a\" is invalid: spec.size: Invalid value: 51: spec.size in body should be less than or equal to 10"),
    );
    Ok(())
}
