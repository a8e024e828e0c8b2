// SPDX-License-Identifier: Apache-2.0
//! Answers in other forms: tables for people, metadata alone for controllers.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{Check, World, config_map, widget};

pub const ALL: &[Check] = &[
    ("columns_of_a_definition", |w| Box::pin(columns_of_a_definition(w))),
    ("columns_of_built_in_kinds", |w| Box::pin(columns_of_built_in_kinds(w))),
    ("what_is_in_a_row", |w| Box::pin(what_is_in_a_row(w))),
    ("metadata_alone", |w| Box::pin(metadata_alone(w))),
    ("forms_that_are_none", |w| Box::pin(forms_that_are_none(w))),
];

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn columns_of_a_definition(w: &World<'_>) -> Result<()> {
    w.create(
        w.widgets(),
        &widget("a", json!({"colour": "red", "size": 5, "parts": [{"id": "x"}], "tags": ["p", "q"]})),
    )
    .await?;
    w.create(w.widgets(), &widget("b", json!({}))).await?;
    let table =
        w.get_as(w.widgets(), TABLE).await?.is(200).at("/kind", "Table").at("/apiVersion", "meta.k8s.io/v1");
    w.same("version", table.version().is_empty(), false);
    let column = |name: &str, kind: &str, format: &str, description: &str, priority: u8| json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
    let name = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
    let columns = json!([
        column("Name", "string", "name", name, 0),
        column("Colour", "string", "", "What it looks like", 0),
        column(
            "Size",
            "integer",
            "",
            "Custom resource definition column (in JSONPath format): .spec.size",
            0
        ),
        column(
            "First",
            "string",
            "",
            "Custom resource definition column (in JSONPath format): .spec.parts[0].id",
            1
        ),
        column("Tags", "string", "", "Custom resource definition column (in JSONPath format): .spec.tags", 1),
        column(
            "Age",
            "date",
            "",
            "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp",
            0
        ),
    ]);
    let table = table.at("/columnDefinitions", columns);
    let mut cells = table.json["rows"][0]["cells"].clone();
    let age = cells.as_array_mut().and_then(Vec::pop).unwrap_or_default();
    w.same("cells", &cells, &json!(["a", "red", 5, "x", "[\"p\",\"q\"]"]));
    w.same("age", age.as_str().is_some_and(|age| age.ends_with('s')), true);
    let empty = table.json["rows"][1]["cells"].as_array().cloned().unwrap_or_default();
    w.same(
        "nothing there",
        empty.get(..5).map(<[Value]>::to_vec),
        Some(vec![json!("b"), Value::Null, Value::Null, Value::Null, Value::Null]),
    );
    let one = w.get_as(format!("{}/a", w.widgets()), TABLE).await?.is(200);
    w.same("one row", one.json["rows"].as_array().map(Vec::len), Some(1));
    w.get_as(format!("{}/none", w.widgets()), TABLE).await?.refused(
        404,
        "NotFound",
        "widgets.example.org \"none\" not found",
    );
    let first = w
        .get_as(format!("{}?limit=1", w.widgets()), TABLE)
        .await?
        .is(200)
        .at("/metadata/remainingItemCount", 1);
    w.same("continue", first.str("/metadata/continue").is_empty(), false);
    Ok(())
}

fn names(table: &Value) -> Vec<String> {
    let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    columns.iter().map(|column| column["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A path, the names of its columns, and some of its cells.
type Row<'a> = (String, &'a [&'a str], &'a [(usize, Value)]);

async fn columns_of_built_in_kinds(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({"x": "1", "y": "2"}))).await?;
    w.create(w.core("secrets"), &json!({"metadata": {"name": "a"}, "stringData": {"x": "1"}})).await?;
    w.create(
        w.of("coordination.k8s.io/v1", "leases"),
        &json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}}),
    )
    .await?;
    w.create(w.core("serviceaccounts"), &json!({"metadata": {"name": "a"}, "secrets": [{"name": "s"}]}))
        .await?;
    let now = "2024-01-01T00:00:00Z";
    let event = json!({"metadata": {"name": "a"}, "involvedObject": {"kind": "Widget", "namespace": w.namespace, "name": "w"}, "reason": "R", "message": "m",
        "type": "Normal", "firstTimestamp": now, "lastTimestamp": now, "count": 3, "source": {"component": "c"}});
    w.create(w.core("events"), &event).await?;
    let rows: &[Row] = &[
        (format!("{}/a", w.maps()), &["Name", "Data", "Age"], &[(0, json!("a")), (1, json!(2))]),
        (
            format!("{}/a", w.core("secrets")),
            &["Name", "Type", "Data", "Age"],
            &[(1, json!("Opaque")), (2, json!(1))],
        ),
        (
            format!("{}/a", w.of("coordination.k8s.io/v1", "leases")),
            &["Name", "Holder", "Age"],
            &[(1, json!("me"))],
        ),
        (format!("{}/a", w.core("serviceaccounts")), &["Name", "Secrets", "Age"], &[(1, json!(1))]),
        (format!("/api/v1/namespaces/{}", w.namespace), &["Name", "Status", "Age"], &[(1, json!("Active"))]),
        (
            format!("{}/a", w.core("events")),
            &[
                "Last Seen",
                "Type",
                "Reason",
                "Object",
                "Subobject",
                "Source",
                "Message",
                "First Seen",
                "Count",
                "Name",
            ],
            &[
                (1, json!("Normal")),
                (2, json!("R")),
                (3, json!("widget/w")),
                (4, json!("")),
                (5, json!("c")),
                (6, json!("m")),
                (8, json!(3)),
                (9, json!("a")),
            ],
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.org".to_owned(),
            &["Name", "Created At"],
            &[(0, json!("widgets.example.org"))],
        ),
    ];
    for (path, columns, cells) in rows {
        let table = w.get_as(path, TABLE).await?.is(200);
        w.same(path, names(&table.json), columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        for (index, wanted) in *cells {
            w.same(&format!("{path} {index}"), &table.json["rows"][0]["cells"][index], wanted);
        }
    }
    Ok(())
}

async fn what_is_in_a_row(w: &World<'_>) -> Result<()> {
    w.create(w.maps(), &config_map("a", json!({"x": "1"}))).await?;
    let path = format!("{}/a", w.maps());
    let object = |include: &str| {
        let path = format!("{path}{include}");
        async move { anyhow::Ok(w.get_as(path, TABLE).await?.is(200).json["rows"][0]["object"].clone()) }
    };
    let metadata = object("").await?;
    w.same(
        "kind",
        (&metadata["kind"], &metadata["apiVersion"]),
        (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1")),
    );
    w.same("name", &metadata["metadata"]["name"], &json!("a"));
    w.same("data", &metadata["data"], &Value::Null);
    w.same("the same", object("?includeObject=Metadata").await?, metadata);
    w.same("whole", &object("?includeObject=Object").await?["data"], &json!({"x": "1"}));
    w.same("none", object("?includeObject=None").await?, Value::Null);
    w.get_as(format!("{path}?includeObject=Some"), TABLE).await?.is(400).at("/reason", "BadRequest");
    Ok(())
}

async fn metadata_alone(w: &World<'_>) -> Result<()> {
    let made = w.create(w.widgets(), &widget("a", json!({"colour": "red"}))).await?;
    let accept = |form: &str| format!("application/json;as={form};v=v1;g=meta.k8s.io");
    let one = w.get_as(format!("{}/a", w.widgets()), &accept("PartialObjectMetadata")).await?.is(200);
    w.same("object", one.object(), json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}));
    let list = w
        .get_as(w.widgets(), &accept("PartialObjectMetadataList"))
        .await?
        .is(200)
        .at("/kind", "PartialObjectMetadataList");
    let list = list.at("/apiVersion", "meta.k8s.io/v1").lists(&["a"]);
    w.same("item", &list.json["items"][0]["spec"], &Value::Null);
    let metadata = json!({"metadata": {"labels": {"l": "v"}}});
    let headers = [("content-type", crate::world::MERGE), ("accept", &accept("PartialObjectMetadata"))];
    let patched =
        w.send("PATCH", format!("{}/a", w.widgets()), &headers, metadata.to_string()).await?.is(200);
    patched
        .at("/kind", "PartialObjectMetadata")
        .at("/metadata/labels", json!({"l": "v"}))
        .at("/spec", Value::Null);
    Ok(())
}

async fn forms_that_are_none(w: &World<'_>) -> Result<()> {
    w.create(w.widgets(), &widget("a", json!({}))).await?;
    for accept in [
        "text/html",
        "application/xml",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Sculpture;v=v1;g=meta.k8s.io",
    ] {
        let answer = w.get_as(w.widgets(), accept).await?.is(406);
        // Who reads protobuf only is told in protobuf.
        let said = answer.str("/reason") == "NotAcceptable" || answer.text().contains("NotAcceptable");
        w.same(&format!("{accept}: {}", answer.text()), said, true);
    }
    for accept in [
        "*/*",
        "application/*",
        "",
        "text/html,application/json",
        "application/json;q=0.1",
        "application/vnd.kubernetes.protobuf,application/json",
    ] {
        w.get_as(w.widgets(), accept)
            .await?
            .is(200)
            .at("/kind", "WidgetList")
            .has("content-type", "application/json");
    }
    let table_or_not = format!("{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json");
    w.get_as(w.widgets(), &table_or_not).await?.is(200).at("/kind", "Table");
    Ok(())
}
