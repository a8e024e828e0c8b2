// SPDX-License-Identifier: Apache-2.0

//! The version 2 document in the protobuf form that `kubectl` asks for. Pure; called by `openapi`.
//!
//! Field numbers are those of `openapiv2/OpenAPIv2.proto` of github.com/google/gnostic-models. Maps are lists of named values; whatever has no fixed form
//! (defaults, extensions) is YAML text, of which JSON is a subset.

use serde_json::{Map, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u64, message: &Self) {
        self.bytes(number, &message.0);
    }

    fn text(&mut self, number: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, value: Option<&Value>) {
        for text in list(value).iter().filter_map(Value::as_str) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn flag(&mut self, number: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    fn count(&mut self, number: u64, value: Option<&Value>) {
        if let Some(count) = value.and_then(Value::as_u64).filter(|count| *count > 0) {
            self.varint(number << 3);
            self.varint(count);
        }
    }

    fn double(&mut self, number: u64, value: Option<&Value>) {
        if let Some(double) = value.and_then(Value::as_f64).filter(|double| *double != 0.0) {
            self.varint(number << 3 | 1);
            self.0.extend_from_slice(&double.to_le_bytes());
        }
    }

    /// `Any`: YAML text.
    fn any(&mut self, number: u64, value: Option<&Value>) {
        if let Some(value) = value {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(number, &any);
        }
    }

    fn named(&mut self, number: u64, name: &str, value: &Self) {
        let mut pair = Self::default();
        pair.bytes(1, name.as_bytes());
        pair.message(2, value);
        self.message(number, &pair);
    }

    fn extensions(&mut self, number: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(number, name, &any);
        }
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn pairs(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// The document as `openapi.v2.Document`.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    let mut info = Message::default();
    info.text(1, document.get("info").and_then(|info| info.get("title")));
    info.text(2, document.get("info").and_then(|info| info.get("version")));
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in pairs(document.get("paths")) {
        paths.named(2, path, &path_item(item));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in pairs(document.get("definitions")) {
        definitions.named(1, name, &schema(definition));
    }
    out.message(9, &definitions);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(found) = item.get(method) {
            out.message(number, &operation(found));
        }
    }
    for found in list(item.get("parameters")) {
        out.message(9, &parameter(found));
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, operation.get("tags"));
    out.text(3, operation.get("description"));
    out.text(5, operation.get("operationId"));
    out.texts(6, operation.get("produces"));
    out.texts(7, operation.get("consumes"));
    for found in list(operation.get("parameters")) {
        out.message(8, &parameter(found));
    }
    let mut responses = Message::default();
    for (code, found) in pairs(operation.get("responses")) {
        let (mut response, mut value) = (Message::default(), Message::default());
        response.text(1, found.get("description"));
        if let Some(answer) = found.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(answer));
            response.message(2, &item);
        }
        value.message(1, &response);
        responses.named(1, code, &value);
    }
    out.message(9, &responses);
    out.texts(10, operation.get("schemes"));
    if let Some(map) = operation.as_object() {
        out.extensions(13, map);
    }
    out
}

/// `ParametersItem`.
fn parameter(parameter: &Value) -> Message {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
    let (mut inner, mut outer, mut item) = (Message::default(), Message::default(), Message::default());
    if place == "body" {
        inner.text(1, parameter.get("description"));
        inner.text(2, parameter.get("name"));
        inner.text(3, parameter.get("in"));
        inner.flag(4, parameter.get("required"));
        if let Some(found) = parameter.get("schema") {
            inner.message(5, &schema(found));
        }
        outer.message(1, &inner);
    } else {
        // A path parameter has no `allowEmptyValue`, which shifts what follows by one.
        let (kind, form, unique, sub) = if place == "path" { (5, 6, 19, 4) } else { (6, 7, 20, 3) };
        inner.flag(1, parameter.get("required"));
        inner.text(2, parameter.get("in"));
        inner.text(3, parameter.get("description"));
        inner.text(4, parameter.get("name"));
        inner.text(kind, parameter.get("type"));
        inner.text(form, parameter.get("format"));
        inner.flag(unique, parameter.get("uniqueItems"));
        let mut plain = Message::default();
        plain.message(sub, &inner);
        outer.message(2, &plain);
    }
    item.message(1, &outer);
    item
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(map) = value.as_object() else { return out };
    out.text(1, map.get("$ref"));
    out.text(2, map.get("format"));
    out.text(3, map.get("title"));
    out.text(4, map.get("description"));
    out.any(5, map.get("default"));
    out.double(6, map.get("multipleOf"));
    out.double(7, map.get("maximum"));
    out.flag(8, map.get("exclusiveMaximum"));
    out.double(9, map.get("minimum"));
    out.flag(10, map.get("exclusiveMinimum"));
    out.count(11, map.get("maxLength"));
    out.count(12, map.get("minLength"));
    out.text(13, map.get("pattern"));
    out.count(14, map.get("maxItems"));
    out.count(15, map.get("minItems"));
    out.flag(16, map.get("uniqueItems"));
    out.count(17, map.get("maxProperties"));
    out.count(18, map.get("minProperties"));
    out.texts(19, map.get("required"));
    for allowed in list(map.get("enum")) {
        out.any(20, Some(allowed));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut item = Message::default();
            item.varint(2 << 3);
            item.varint(u64::from(*allowed));
            out.message(21, &item);
        }
        Some(below) => {
            let mut item = Message::default();
            item.message(1, &schema(below));
            out.message(21, &item);
        }
        None => {}
    }
    if let Some(kind) = map.get("type") {
        let mut item = Message::default();
        item.text(1, Some(kind));
        out.message(22, &item);
    }
    if let Some(items) = map.get("items") {
        let mut item = Message::default();
        item.message(1, &schema(items));
        out.message(23, &item);
    }
    if map.contains_key("properties") {
        let mut properties = Message::default();
        for (name, below) in pairs(map.get("properties")) {
            properties.named(1, name, &schema(below));
        }
        out.message(25, &properties);
    }
    out.extensions(31, map);
    out
}
