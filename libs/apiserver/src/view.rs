// SPDX-License-Identifier: Apache-2.0

//! Stored bytes in the form a client asked for: its version, whole, as table rows or metadata only. Pure.
//!
//! The common case, whole objects in the version they are stored in, copies bytes and decodes nothing.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::registry::Served;
use crate::request::{Accept, Form};
use crate::status::ApiError;
use crate::table::{self, IncludeObject};

/// How to show objects of one resource.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub served: Served,
    pub accept: Accept,
    pub include: IncludeObject,
}

/// `metadata` of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListMeta {
    pub version: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.version.to_string()});
        let map = crate::object::object_mut(&mut meta);
        if let Some(token) = &self.continue_token {
            map.insert("continue".into(), token.as_str().into());
        }
        if let Some(remaining) = self.remaining {
            map.insert("remainingItemCount".into(), remaining.into());
        }
        meta
    }
}

impl View {
    fn raw(&self) -> bool {
        self.accept.form == Form::Full && self.served.is_stored_form()
    }

    fn decode(&self, bytes: &Bytes) -> Result<Value, ApiError> {
        let stored = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
        Ok(self.served.request_form(stored))
    }

    fn transformed(&self, bytes: &Bytes, headers: bool) -> Result<Value, ApiError> {
        let object = self.decode(bytes)?;
        Ok(match self.accept.form {
            Form::Full | Form::Discovery(_) => object,
            Form::Partial => table::partial(&object),
            Form::Table => {
                let version = object.get("metadata").and_then(|m| m.get("resourceVersion")).cloned();
                let meta = json!({"resourceVersion": version.unwrap_or_default()});
                table::table(&self.served.version().columns, &[object], meta, self.include, headers)
            }
        })
    }

    /// One object.
    pub fn object(&self, bytes: Bytes) -> Result<Bytes, ApiError> {
        if self.raw() { Ok(bytes) } else { Ok(self.transformed(&bytes, true)?.to_string().into()) }
    }

    /// A list of objects that are all at hand.
    pub fn list(&self, items: &[Bytes], meta: &ListMeta) -> Result<Bytes, ApiError> {
        let mut out = BytesMut::new();
        out.extend_from_slice(&self.list_head());
        self.list_items(&mut out, items, true)?;
        out.extend_from_slice(&self.list_tail(meta, items.is_empty()));
        Ok(out.freeze())
    }

    /// A list up to its items.
    pub fn list_head(&self) -> Bytes {
        let (api_version, kind) = match self.accept.form {
            Form::Table => {
                let columns = table::definitions(&self.served.version().columns);
                let head = r#"{"apiVersion":"meta.k8s.io/v1","columnDefinitions":"#;
                return format!("{head}{columns},\"kind\":\"Table\",\"rows\":[").into();
            }
            Form::Partial => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList"),
            _ => (self.served.api_version(), self.served.resource.list_kind.as_str()),
        };
        // Whether there is a list at all is told by its items.
        let begin = if self.accept.form == Form::Partial { "" } else { "[" };
        format!("{{\"apiVersion\":{},\"kind\":{},\"items\":{begin}", json!(api_version), json!(kind)).into()
    }

    /// Appends items of a list; `first` when none was appended before.
    pub fn list_items(&self, out: &mut BytesMut, items: &[Bytes], first: bool) -> Result<(), ApiError> {
        out.reserve(if self.raw() { items.iter().map(|item| item.len() + 1).sum() } else { 0 });
        for (index, item) in items.iter().enumerate() {
            if index > 0 || !first {
                out.extend_from_slice(b",");
            } else if self.accept.form == Form::Partial {
                out.extend_from_slice(b"[");
            }
            if self.accept.form == Form::Full && self.served.resource.builtin().is_some() {
                // What the items of a typed list are is told by the list.
                let mut item = self.decode(item)?;
                let fields = crate::object::object_mut(&mut item);
                fields.remove("apiVersion");
                fields.remove("kind");
                out.extend_from_slice(item.to_string().as_bytes());
            } else if self.raw() {
                out.extend_from_slice(item);
            } else if self.accept.form == Form::Table {
                let columns = &self.served.version().columns;
                let row = table::row(columns, &self.decode(item)?, self.include);
                out.extend_from_slice(row.to_string().as_bytes());
            } else {
                out.extend_from_slice(self.transformed(item, false)?.to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// A list from the end of its items; `empty` when there were none.
    pub fn list_tail(&self, meta: &ListMeta, empty: bool) -> Bytes {
        let mut meta = meta.value();
        if self.accept.form == Form::Full && self.served.resource.builtin().is_none() {
            // The lists of custom resources always have it.
            crate::object::object_mut(&mut meta).entry("continue").or_insert_with(|| "".into());
        }
        let end = if empty && self.accept.form == Form::Partial { "null" } else { "]" };
        format!("{end},\"metadata\":{meta}}}").into()
    }

    /// Appends one watch event; `first` of a stream carries the table's column definitions.
    pub fn event(&self, out: &mut BytesMut, kind: &str, object: &Bytes, first: bool) -> Result<(), ApiError> {
        out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
        if self.raw() {
            out.extend_from_slice(object);
        } else {
            out.extend_from_slice(self.transformed(object, first)?.to_string().as_bytes());
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// A bookmark at `version`; `initial_end` marks the end of the initial events.
    pub fn bookmark(&self, version: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if initial_end {
            crate::object::object_mut(&mut metadata)
                .insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let (kind, api_version) = match self.accept.form {
            Form::Partial => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.served.resource.kind.clone(), self.served.api_version()),
        };
        let mut object = match (self.served.resource.builtin(), self.accept.form) {
            (Some(builtin), Form::Full) => builtin.zero(),
            _ => json!({}),
        };
        if let (Value::Object(object), Value::Object(head)) =
            (&mut object, json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}))
        {
            object.extend(head);
        }
        let object = match self.accept.form {
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [],
                "metadata": {"resourceVersion": version.to_string()},
                "rows": [{"cells": [], "object": object}],
            }),
            _ => object,
        };
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }
}
