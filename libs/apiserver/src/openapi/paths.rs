// SPDX-License-Identifier: Apache-2.0

//! The operations of a resource as the documents publish them. Pure; called by `openapi`.
//!
//! `kubectl` reads from here whether the server validates fields and dry-runs (parameters of `patch`), and which patches a kind takes.

use serde_json::{Map, Value, json};

use super::schemas::{DELETE_OPTIONS, PATCH, PREFIX, SCALE, STATUS, TOKEN_REQUEST};
use crate::discovery;
use crate::patch::PatchType;
use crate::registry::Served;

/// Name, type and meaning of a query parameter.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', the answer is indented.");
const DRY_RUN: Parameter = ("dryRun", "string", "'All' does everything but store the result.");
const FIELD_MANAGER: Parameter =
    ("fieldManager", "string", "The name under which the written fields are owned.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What becomes of unknown and repeated fields: 'Ignore' drops them, 'Warn' drops them with a warning, 'Strict' refuses the request.",
);
const FORCE: Parameter = ("force", "boolean", "Takes fields over from their owners. For apply patches only.");
const DELETION: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds until the object goes."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: 'Orphan', 'Background' or 'Foreground'."),
];
const SELECTION: &[Parameter] = &[
    ("continue", "string", "Token of the chunk before: the list goes on behind it."),
    ("fieldSelector", "string", "Restricts the answer to objects with these field values."),
    ("labelSelector", "string", "Restricts the answer to objects with these labels."),
    ("limit", "integer", "Most objects in one answer."),
    ("resourceVersion", "string", "The state that the answer is of or starts from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: 'Exact' or 'NotOlderThan'."),
    ("sendInitialEvents", "boolean", "A watch begins with the objects that there are."),
    ("timeoutSeconds", "integer", "Longest time that the request may take."),
];
const WATCHING: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "A watch sends bookmarks."),
    ("watch", "boolean", "Streams changes instead of answering with a list."),
];

/// The document of a path that tells what there is.
pub(super) fn of_discovery(path: &str) -> Value {
    let operation = json!({
        "tags": [path.split('/').next_back()],
        "description": "tells what this server has",
        "operationId": format!("get{}", path.split(['/', '.']).map(capitalised).collect::<String>()),
        "responses": {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}},
    });
    let at = format!("/{path}/");
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": discovery::VERSION},
        "paths": {at: {"get": operation}},
        "components": {},
    })
}

fn parameters(list: &[&[Parameter]]) -> Value {
    let each = list.iter().flat_map(|part| part.iter()).map(|(name, kind, about)| {
        json!({"name": name, "in": "query", "description": about, "schema": {"type": kind, "uniqueItems": true}})
    });
    each.collect()
}

fn path_parameter(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": about, "schema": {"type": "string", "uniqueItems": true}})
}

/// `GroupVersion` as operation names begin: `ExampleOrgV1`, `CoreV1`.
fn title(served: &Served) -> String {
    let group = served.resource.group.as_str();
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let parts = group.split('.').chain([served.version().name.as_str()]);
    parts.map(capitalised).collect()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// One resource while its operations are written down.
struct Writer<'a> {
    served: &'a Served,
    title: String,
    tag: String,
}

/// What an operation takes and gives.
struct Operation<'a> {
    /// `x-kubernetes-action`.
    action: &'a str,
    /// First word of the operation's name.
    verb: &'a str,
    about: String,
    parameters: Value,
    body: Option<Value>,
    gives: &'a str,
    codes: &'a [&'a str],
}

impl Writer<'_> {
    fn operation(&self, operation: Operation<'_>, suffix: &str, kind: &Value) -> Value {
        let gives = format!("{PREFIX}{}", operation.gives);
        let mut forms = vec!["application/json", "application/yaml"];
        if operation.action == "list" {
            forms.push("application/json;stream=watch");
        }
        let content: Map<String, Value> =
            forms.into_iter().map(|form| (form.to_owned(), json!({"schema": {"$ref": gives}}))).collect();
        let mut responses: Map<String, Value> = Map::new();
        for code in operation.codes {
            let meaning = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            responses.insert((*code).to_owned(), json!({"description": meaning, "content": content}));
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let namespaced =
            if self.served.resource.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let id = format!("{}{}{namespaced}{}{suffix}", operation.verb, self.title, self.served.resource.kind);
        let mut value = json!({
            "tags": [self.tag],
            "description": operation.about,
            "operationId": id,
            "parameters": operation.parameters,
            "responses": responses,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": kind,
        });
        if let (Some(body), Some(map)) = (operation.body, value.as_object_mut()) {
            map.insert("requestBody".into(), body);
        }
        value
    }

    /// get, put and patch of an object or of a part of it.
    fn read_and_change(&self, gives: &str, part: &str, kind: &Value) -> Map<String, Value> {
        let name = &self.served.resource.kind;
        let of = if part.is_empty() { String::new() } else { format!("{part} of ") };
        let custom = self.served.resource.builtin().is_none();
        let patches: Map<String, Value> = PatchType::accepted(custom)
            .iter()
            .map(|form| ((*form).to_owned(), json!({"schema": {"$ref": format!("{PREFIX}{PATCH}")}})))
            .collect();
        let suffix = capitalised(part);
        let get = Operation {
            action: "get",
            verb: "read",
            about: format!("read {of}the specified {name}"),
            parameters: json!([]),
            body: None,
            gives,
            codes: &["200"],
        };
        let put = Operation {
            action: "put",
            verb: "replace",
            about: format!("replace {of}the specified {name}"),
            parameters: parameters(&[&[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]]),
            body: Some(body(gives, true)),
            gives,
            codes: &["200", "201"],
        };
        let patch = Operation {
            action: "patch",
            verb: "patch",
            about: format!("partially update {of}the specified {name}"),
            parameters: parameters(&[&[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE]]),
            body: Some(json!({"required": true, "content": patches})),
            gives,
            codes: &["200", "201"],
        };
        [("get", get), ("put", put), ("patch", patch)]
            .into_iter()
            .map(|(method, operation)| (method.to_owned(), self.operation(operation, &suffix, kind)))
            .collect()
    }
}

fn body(schema: &str, required: bool) -> Value {
    let content = json!({"schema": {"$ref": format!("{PREFIX}{schema}")}});
    let mut body = json!({"content": {"application/json": content, "application/yaml": content}});
    if required && let Some(map) = body.as_object_mut() {
        map.insert("required".into(), true.into());
    }
    body
}

/// Every path of a resource with its operations. `name` and `list` are the definitions of the resource and its list.
pub(super) fn of_resource(served: &Served, name: &str, list: &str, paths: &mut Map<String, Value>) {
    let resource = &served.resource;
    let version = served.version().name.as_str();
    let tag = if resource.group.is_empty() {
        "core"
    } else {
        resource.group.strip_suffix(".k8s.io").unwrap_or(&resource.group)
    };
    let writer = Writer { served, title: title(served), tag: format!("{}_{version}", tag.replace('.', "")) };
    let kind = json!({"group": resource.group, "version": version, "kind": resource.kind});
    let root = super::gv_path(&resource.group, version);
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{root}{scope}/{}", resource.plural);
    let mut common = vec![parameters(&[&[PRETTY]]).get(0).cloned().unwrap_or_default()];
    if resource.namespaced {
        common.insert(0, path_parameter("namespace", "namespace of the object"));
        let everywhere = list_operation(&writer, list, "ForAllNamespaces", &kind);
        let path = json!({"get": everywhere, "parameters": parameters(&[&[PRETTY]])});
        paths.insert(format!("/{root}/{}", resource.plural), path);
    }
    paths.insert(collection.clone(), collection_item(&writer, name, list, &kind, &common));
    common.insert(0, path_parameter("name", &format!("name of the {}", resource.kind)));
    let mut item = writer.read_and_change(name, "", &kind);
    let delete = Operation {
        action: "delete",
        verb: "delete",
        about: format!("delete the specified {}", resource.kind),
        parameters: parameters(&[DELETION]),
        body: Some(body(DELETE_OPTIONS, false)),
        gives: STATUS,
        codes: &["200", "202"],
    };
    item.insert("delete".into(), writer.operation(delete, "", &kind));
    item.insert("parameters".into(), common.clone().into());
    paths.insert(format!("{collection}/{{name}}"), item.into());
    for part in discovery::subresources(served) {
        if part == "token" {
            let item = json!({"post": token_operation(&writer), "parameters": common});
            paths.insert(format!("{collection}/{{name}}/{part}"), item);
            continue;
        }
        let (gives, kind) = match part {
            "scale" => (SCALE, json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})),
            _ => (name, kind.clone()),
        };
        let mut item = writer.read_and_change(gives, part, &kind);
        item.insert("parameters".into(), common.clone().into());
        paths.insert(format!("{collection}/{{name}}/{part}"), item.into());
    }
}

fn token_operation(writer: &Writer<'_>) -> Value {
    let post = Operation {
        action: "post",
        verb: "create",
        about: "create a token of a service account".to_owned(),
        parameters: parameters(&[&[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]]),
        body: Some(body(TOKEN_REQUEST, true)),
        gives: TOKEN_REQUEST,
        codes: &["200", "201", "202"],
    };
    let kind = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
    writer.operation(post, "Token", &kind)
}

fn list_operation(writer: &Writer<'_>, list: &str, suffix: &str, kind: &Value) -> Value {
    let operation = Operation {
        action: "list",
        verb: "list",
        about: format!("list or watch objects of kind {}", writer.served.resource.kind),
        parameters: parameters(&[SELECTION, WATCHING]),
        body: None,
        gives: list,
        codes: &["200"],
    };
    writer.operation(operation, suffix, kind)
}

fn collection_item(writer: &Writer<'_>, name: &str, list: &str, kind: &Value, common: &[Value]) -> Value {
    let called = &writer.served.resource.kind;
    let post = Operation {
        action: "post",
        verb: "create",
        about: format!("create a {called}"),
        parameters: parameters(&[&[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]]),
        body: Some(body(name, true)),
        gives: name,
        codes: &["200", "201", "202"],
    };
    let delete = Operation {
        action: "deletecollection",
        verb: "deleteCollection",
        about: format!("delete collection of {called}"),
        parameters: parameters(&[SELECTION, DELETION]),
        body: Some(body(DELETE_OPTIONS, false)),
        gives: STATUS,
        codes: &["200"],
    };
    json!({
        "get": list_operation(writer, list, "", kind),
        "post": writer.operation(post, "", kind),
        "delete": writer.operation(delete, "", kind),
        "parameters": common,
    })
}
