// SPDX-License-Identifier: Apache-2.0
//! Requests that no careful client sends. Pure; called by the generator.

use serde_json::{Value, json};

use super::generator::{Aim, Generator, JSON, MERGE};
use super::step::{Action, Request};

/// One of them.
pub(super) fn hostile(generator: &mut Generator) {
    let aim = generator.aim();
    match generator.dice.below(5) {
        0 | 1 => body(generator, &aim),
        2 => identity(generator, &aim),
        3 => path(generator, &aim),
        _ => query(generator, &aim),
    }
}

fn send(generator: &mut Generator, what: &str, aim: &Aim, request: Request) {
    generator.push(what, &aim.path(), Action::Ask(request));
}

fn whole(generator: &mut Generator, aim: &Aim) -> Value {
    let content = (aim.kind.content)(&mut generator.dice);
    aim.object(content, json!({}))
}

/// A body that is not what its type says.
fn body(generator: &mut Generator, aim: &Aim) {
    let text = whole(generator, aim).to_string();
    let cut = text.char_indices().map(|(at, _)| at).nth(text.chars().count() / 2).unwrap_or(0);
    let (content_type, body) = match generator.dice.below(16) {
        0 => (JSON, text.get(..cut).unwrap_or_default().to_owned()),
        1 => (JSON, format!("{text} trailing")),
        2 => (JSON, String::new()),
        3 => (JSON, "null".to_owned()),
        4 => (JSON, "[]".to_owned()),
        5 => (JSON, "\"text\"".to_owned()),
        6 => (JSON, "{}".to_owned()),
        7 => ("text/plain", text),
        8 => ("application/xml", text),
        9 => ("application/json; charset=utf-8", text),
        10 => ("application/yaml", text),
        11 => ("application/yaml", "a: b: c".to_owned()),
        12 => ("application/yaml", "- just\n- a list\n".to_owned()),
        13 => (JSON, text.replacen('{', "{\"kind\":\"Twice\",", 1)),
        14 => (JSON, text.replacen("\"metadata\":{", "\"metadata\":{\"name\":\"other\",", 1)),
        _ => (JSON, format!("{}{}", "[".repeat(200), "]".repeat(200))),
    };
    let headers = vec![("content-type", content_type.to_owned())];
    let query = generator.dice.pick(&["", "?fieldValidation=Strict"]);
    let request = match generator.dice.below(3) {
        0 => Request { method: "POST", path: format!("{}{query}", aim.collection()), headers, body },
        1 => Request { method: "PUT", path: format!("{}{query}", aim.path()), headers, body },
        _ => {
            let kinds = [MERGE, "application/json-patch+json", "application/apply-patch+yaml", JSON];
            let headers = vec![("content-type", (*generator.dice.pick(&kinds)).to_owned())];
            Request { method: "PATCH", path: format!("{}?fieldManager=m", aim.path()), headers, body }
        }
    };
    send(generator, "odd body", aim, request);
}

/// An object that says that it is another.
fn identity(generator: &mut Generator, aim: &Aim) {
    let mut object = whole(generator, aim);
    let (at, value) = match generator.dice.below(9) {
        0 => ("/kind", json!("Other")),
        1 => ("/kind", json!("")),
        2 => ("/kind", json!(5)),
        3 => ("/apiVersion", json!("other/v1")),
        4 => ("/apiVersion", json!("")),
        5 => ("/metadata/name", json!("Other_Name")),
        6 => ("/metadata/name", json!("other")),
        7 => ("/metadata/namespace", json!("elsewhere")),
        _ => ("/metadata", json!("none")),
    };
    if let Some(found) = object.pointer_mut(at) {
        *found = value;
    }
    let body = object.to_string();
    let json = vec![("content-type", JSON.to_owned())];
    let apply = vec![("content-type", "application/apply-patch+yaml".to_owned())];
    let request = match generator.dice.below(3) {
        0 => Request { method: "POST", path: aim.collection(), headers: json, body },
        1 => Request { method: "PUT", path: aim.path(), headers: json, body },
        _ => {
            Request { method: "PATCH", path: format!("{}?fieldManager=m", aim.path()), headers: apply, body }
        }
    };
    send(generator, "odd identity", aim, request);
}

/// A path or a method that is not served.
fn path(generator: &mut Generator, aim: &Aim) {
    let (method, path) = match generator.dice.below(12) {
        0 => ("POST", aim.path()),
        1 => ("PUT", aim.collection()),
        2 => ("PATCH", aim.collection()),
        3 => ("GET", format!("{}/nothing", aim.path())),
        4 => ("DELETE", format!("{}/status", aim.path())),
        5 => ("GET", format!("{}s", aim.collection())),
        6 => ("GET", aim.collection().replacen("/v1", "/v7", 1)),
        7 if aim.kind.namespaced => ("POST", aim.kind.collection(None)),
        8 => ("GET", aim.kind.collection(Some("nowhere"))),
        9 => ("POST", aim.kind.collection(Some("nowhere"))),
        10 => ("GET", format!("{}/UPPER_case", aim.collection())),
        _ => ("OPTIONS", aim.path()),
    };
    let (headers, body) = match method {
        "POST" | "PUT" => {
            let mut object = whole(generator, aim);
            if let (true, Some(Value::Object(metadata))) =
                (path.contains("nowhere"), object.get_mut("metadata"))
            {
                metadata.remove("namespace");
            }
            (vec![("content-type", JSON.to_owned())], object.to_string())
        }
        "PATCH" => (vec![("content-type", MERGE.to_owned())], "{}".to_owned()),
        _ => (Vec::new(), String::new()),
    };
    send(generator, "odd path", aim, Request { method, path, headers, body });
}

/// A query that does not parse, or contradicts itself.
fn query(generator: &mut Generator, aim: &Aim) {
    let collection = aim.collection();
    let queries = [
        "limit=x",
        "limit=-1",
        "limit=0",
        "continue=garbage",
        "continue=e30",
        "resourceVersion=abc",
        "resourceVersion=-1",
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Sideways&resourceVersion=1",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "watch=perhaps",
        "watch=1&timeoutSeconds=x",
        "watch=1&sendInitialEvents=true",
        "watch=1&resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true",
        "watch=1&sendInitialEvents=false&resourceVersionMatch=Exact",
        "unknown=1",
        "labelSelector=%zz",
        "watch=1&labelSelector=a%3D%3D%3Db",
        "watch=1&resourceVersion=abc",
        "watch=1&fieldSelector=spec.none%3D1",
        "resourceVersion=999999999",
        "limit=1&continue=garbage&resourceVersion=5",
        "timeoutSeconds=-1",
        "pretty=true",
    ];
    let writes = [
        "dryRun=Some",
        "fieldManager=%00",
        "fieldValidation=strict",
        "dryRun=All&dryRun=All",
        "force=true",
        "fieldManager=a%0Ab",
    ];
    let request = match generator.dice.chance(65) {
        true => {
            let path = format!("{collection}?{}", generator.dice.pick(&queries));
            // One that is not refused lasts.
            if path.contains("watch") {
                return generator.watch(path);
            }
            Request { method: "GET", path, headers: Vec::new(), body: String::new() }
        }
        false => {
            let path = format!("{}?{}", aim.path(), generator.dice.pick(&writes));
            let headers = vec![("content-type", MERGE.to_owned())];
            Request { method: "PATCH", path, headers, body: "{}".to_owned() }
        }
    };
    send(generator, "odd query", aim, request);
}
