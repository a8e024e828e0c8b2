// SPDX-License-Identifier: Apache-2.0

//! OpenAPI documents for clients that validate, explain and merge: version 3 per group and version under addresses that carry a hash of their content, and
//! version 2 of everything, as JSON or protobuf.
//!
//! They are made when they are first asked for and live as long as the [`Catalogue`] that they describe.

pub(crate) mod mismatch;
mod paths;
mod proto;
pub(crate) mod schemas;
mod v2;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::body::{self, Answer};
use crate::registry::{Builtin, Catalogue};
use crate::status::ApiError;

/// The form of version 2 that `kubectl` and other Go clients prefer; both spellings are in use.
const PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const YEAR_SECONDS: i64 = 365 * 24 * 3600;

/// One document and what tells its content from another.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    pub fn new(bytes: Vec<u8>) -> Self {
        // Not secret, not signed: it only has to differ when the content does.
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(salt);
            hasher.write(&bytes);
            format!("{:016X}", hasher.finish())
        };
        let hash = format!("{}{}", half(0), half(1));
        Self { bytes: bytes.into(), hash }
    }

    /// Answers with it in `form`, or that the client has it already.
    pub fn answer(&self, form: &'static str, headers: &HeaderMap) -> Answer {
        let tag = format!("\"{}\"", self.hash);
        let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
        let mut answer = match known {
            Some(known) if known.split(',').any(|one| one.trim() == tag) => {
                body::answer(StatusCode::NOT_MODIFIED, form, Bytes::new())
            }
            _ => body::answer(StatusCode::OK, form, self.bytes.clone()),
        };
        let headers = answer.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        answer
    }
}

/// The documents of one catalogue, as far as they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// By path below `/openapi/v3/`.
    v3: OnceLock<BTreeMap<String, Document>>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
}

/// Answers under `/openapi`; `path` is what follows it.
///
/// # Errors
/// 404 for documents that there are not, 406 for forms that there are not.
pub(crate) fn document(
    catalogue: &Catalogue,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<Answer, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    if path == "v2" {
        let (document, form) = version_2(catalogue, accept).ok_or_else(ApiError::not_acceptable)?;
        return Ok(document.answer(form, headers));
    }
    if !takes_json(accept) {
        return Err(ApiError::not_acceptable());
    }
    let documents = catalogue.openapi.v3.get_or_init(|| version_3(catalogue));
    if path == "v3" {
        return Ok(body::json_answer(StatusCode::OK, &index(documents)));
    }
    let below = path.strip_prefix("v3/").ok_or_else(ApiError::no_such_path)?;
    let found = documents.get(below).ok_or_else(ApiError::no_such_path)?;
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("hash="));
    match wanted {
        Some(hash) if hash != found.hash => Ok(moved(below, found)),
        Some(_) => Ok(for_ever(found.answer("application/json", headers))),
        None => Ok(found.answer("application/json", headers)),
    }
}

fn takes_json(accept: &str) -> bool {
    accept.split(',').any(|clause| {
        matches!(
            clause.split(';').next().unwrap_or_default().trim(),
            "application/json" | "application/*" | "*/*" | ""
        )
    })
}

/// The first form that the client names and there is.
fn version_2<'a>(catalogue: &'a Catalogue, accept: &str) -> Option<(&'a Document, &'static str)> {
    let cache = &catalogue.openapi;
    for clause in accept.split(',') {
        let form = clause.split(';').next().unwrap_or_default().trim();
        if PROTOBUF.contains(&form) {
            let make = || Document::new(proto::encode(&version_2_value(catalogue)));
            return Some((cache.v2_protobuf.get_or_init(make), PROTOBUF[1]));
        }
        if takes_json(form) {
            let make = || Document::new(version_2_value(catalogue).to_string().into_bytes());
            return Some((cache.v2.get_or_init(make), "application/json"));
        }
    }
    None
}

/// An address with the right hash always has this content.
fn for_ever(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let expires = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + YEAR_SECONDS);
    let expires = expires.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if let Some(value) = expires.ok().and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::EXPIRES, value);
    }
    answer
}

fn moved(below: &str, document: &Document) -> Answer {
    let mut answer = body::answer(StatusCode::MOVED_PERMANENTLY, "text/html; charset=utf-8", Bytes::new());
    if let Ok(to) = HeaderValue::from_str(&address(below, document)) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

fn address(below: &str, document: &Document) -> String {
    format!("/openapi/v3/{below}?hash={}", document.hash)
}

/// Where the documents of a group and version are, and its objects.
fn gv_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index(documents: &BTreeMap<String, Document>) -> Value {
    let paths: Map<String, Value> = documents
        .iter()
        .map(|(path, document)| (path.clone(), json!({"serverRelativeURL": address(path, document)})))
        .collect();
    json!({"paths": paths})
}

fn version_3(catalogue: &Catalogue) -> BTreeMap<String, Document> {
    let groups = catalogue.groups().into_iter().filter(|group| !group.is_empty());
    let above = ["api", "apis", "version"].map(str::to_owned).into_iter();
    let above = above.chain(groups.map(|group| format!("apis/{group}")));
    version_3_values(catalogue)
        .chain(above.map(|path| (path.clone(), paths::of_discovery(&path))))
        .map(|(path, value)| (path, Document::new(value.to_string().into_bytes())))
        .collect()
}

fn version_3_values(catalogue: &Catalogue) -> impl Iterator<Item = (String, Value)> {
    catalogue.groups().into_iter().flat_map(move |group| {
        let versions = catalogue.versions(group).into_iter();
        versions.map(move |version| (gv_path(group, version), group_version(catalogue, group, version)))
    })
}

fn version_2_value(catalogue: &Catalogue) -> Value {
    v2::document(version_3_values(catalogue).map(|(_, value)| value), schemas::is_builtin)
}

fn group_version(catalogue: &Catalogue, group: &str, version: &str) -> Value {
    let (mut operations, mut definitions) = (Map::new(), Map::new());
    let mut common = vec![schemas::DELETE_OPTIONS, schemas::STATUS, schemas::PATCH];
    for served in &catalogue.in_version(group, version) {
        let name = schemas::name_of(served);
        let list = schemas::list_name_of(&name, served);
        paths::of_resource(served, &name, &list, &mut operations);
        definitions.insert(list, schemas::of_list(served, &name));
        let schema = schemas::of_resource(served, &name);
        definitions.insert(name, schema);
        if served.version().scale.is_some() {
            common.push(schemas::SCALE);
        }
        if served.resource.builtin() == Some(Builtin::ServiceAccount) {
            common.push(schemas::TOKEN_REQUEST);
        }
    }
    schemas::close(&mut definitions, &common);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::discovery::VERSION},
        "paths": operations,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"}},
        },
    })
}
