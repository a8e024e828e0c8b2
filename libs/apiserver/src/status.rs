// SPDX-License-Identifier: Apache-2.0

//! Errors as Kubernetes says them: the `Status` body with code, reason, message, details and causes.
//!
//! Every handler returns [`ApiError`]; the constructors fix the pairs of code and reason of
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind>,
//! because clients (`kubectl`, controller-runtime, kube-rs) branch on them.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::store::{ReadError, WriteError};

/// One field that is wrong (`details.causes[]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

impl Cause {
    pub fn required(field: impl Into<String>) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), message: "Required value".into() }
    }

    pub fn required_because(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), message: format!("Required value: {why}") }
    }

    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {}: {}", shown(value), why.as_ref());
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A text that is shown as Go quotes it.
    pub fn invalid_text(field: impl Into<String>, text: &str, why: &str) -> Self {
        let message = format!("Invalid value: {}: {why}", quoted(text));
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A value that is given as JSON.
    pub fn invalid_json(field: impl Into<String>, json: &str, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {json}: {why}"),
        }
    }

    pub fn type_invalid(field: impl Into<String>, found: &str, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: \"{found}\": {}", why.as_ref());
        Self { reason: "FieldValueTypeInvalid", field: field.into(), message }
    }

    /// A value that is not of a format.
    pub fn malformed(field: &str, value: &Value, format: &str) -> Self {
        let why = format!("{field} in body must be of type {format}: {}", shown(value));
        Self { reason: "FieldValueTypeInvalid", ..Self::invalid(field, value, why) }
    }

    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[Value]) -> Self {
        let list: Vec<String> = supported.iter().map(shown).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    pub fn too_long(field: impl Into<String>, max: u64) -> Self {
        let message = format!("Too long: may not be more than {max} bytes");
        Self { reason: "FieldValueTooLong", field: field.into(), message }
    }

    pub fn too_many(field: impl Into<String>, found: usize, max: u64) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let message = format!("Too many: {found}: must have at most {max} {items}");
        Self { reason: "FieldValueTooMany", field: field.into(), message }
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {}", shown(value));
        Self { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    pub fn forbidden(field: impl Into<String>, why: impl AsRef<str>) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {}", why.as_ref()),
        }
    }
}

/// A text as Go's `%q` writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A value inside an error message, cut where it would drown the message.
fn shown(value: &Value) -> String {
    const MOST: usize = 1024;
    let mut text = value.to_string();
    if text.len() > MOST {
        let cut = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// What an error is about: fills `details`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject<'a> {
    pub group: &'a str,
    pub plural: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
}

impl Subject<'_> {
    fn qualified_plural(&self) -> String {
        qualify(self.plural, self.group)
    }

    fn details(&self, kind: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        details
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Why somebody may not do something: the parts of a 403.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccessDenied {
    pub group: String,
    pub resource: String,
    pub name: String,
    pub message: String,
}

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    /// Made from the HTTP code alone, which Kubernetes does with details that may be empty.
    generic: bool,
    /// No `Status` but this text.
    plain: bool,
    continue_token: Option<String>,
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            generic: false,
            plain: false,
            continue_token: None,
        }
    }

    fn generic(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { generic: true, ..Self::new(code, reason, message) }
    }

    /// The text to answer with instead of a `Status`.
    pub fn plain_text(&self) -> Option<&str> {
        self.plain.then_some(self.message.as_str())
    }

    fn with_details(mut self, details: Map<String, Value>) -> Self {
        self.details = details;
        self
    }

    /// HTTP code of the answer.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// Machine-readable reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Seconds after which a client may try again, where it is worth it.
    pub fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }

    /// The `Status` object.
    pub fn body(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "code": self.code.as_u16(),
        });
        let map = crate::object::object_mut(&mut status);
        if !self.reason.is_empty() {
            map.insert("reason".into(), self.reason.into());
        }
        if self.generic || !self.details.is_empty() {
            map.insert("details".into(), Value::Object(self.details.clone()));
        }
        status
    }

    /// 404 for a path in a group of Kubernetes that names no resource.
    pub fn no_such_path() -> Self {
        Self::generic(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for any other path that names nothing.
    pub fn no_such_page() -> Self {
        Self { plain: true, ..Self::new(StatusCode::NOT_FOUND, "NotFound", "404 page not found\n") }
    }

    /// 405 for a verb that the custom resources of this kind do not have.
    pub fn method_not_supported(subject: &Subject<'_>, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind {:?}", subject.qualified_plural());
        let whole = Subject { name: "", ..subject.clone() };
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
            .with_details(whole.details(subject.plural))
    }

    /// 500 without a reason: what kube-apiserver did not expect to go wrong.
    pub fn unexplained(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    pub fn not_found(subject: &Subject<'_>) -> Self {
        let message = format!("{} \"{}\" not found", subject.qualified_plural(), subject.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(subject.details(subject.plural))
    }

    pub fn already_exists(subject: &Subject<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", subject.qualified_plural(), subject.name);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
            .with_details(subject.details(subject.plural))
    }

    /// The same for a name whose object waits for its finalizers.
    pub fn still_exists(subject: &Subject<'_>) -> Self {
        let exists = Self::already_exists(subject);
        Self { message: format!("object is being deleted: {}", exists.message), ..exists }
    }

    /// 409 after a lost race or a stale resourceVersion.
    pub fn modified(subject: &Subject<'_>) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(subject, why)
    }

    pub fn conflict(subject: &Subject<'_>, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": {why}",
            subject.qualified_plural(),
            subject.name
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(subject.details(subject.plural))
    }

    /// 409 of server-side apply: `(manager, field)` pairs.
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
            })
            .collect();
        let message = match conflicts {
            [(manager, field)] => format!("Apply failed with 1 conflict: conflict with {manager}: {field}"),
            many => {
                let mut lines = Vec::new();
                for (index, (manager, field)) in many.iter().enumerate() {
                    // One heading for what a manager owns.
                    if index == 0 || many.get(index - 1).is_some_and(|(before, _)| before != manager) {
                        lines.push(format!("conflicts with {manager}:"));
                    }
                    lines.push(format!("- {field}"));
                }
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let mut details = Map::new();
        details.insert("causes".into(), causes.into());
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(details)
    }

    /// 422 with one cause per wrong field.
    pub fn invalid(subject: &Subject<'_>, causes: &[Cause]) -> Self {
        let mut parts: Vec<String> = Vec::new();
        for part in causes.iter().map(|c| format!("{}: {}", c.field, c.message)) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        let what = match parts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message =
            format!("{} \"{}\" is invalid: {what}", qualify(subject.kind, subject.group), subject.name);
        let mut details = subject.details(subject.kind);
        let causes: Vec<Value> = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        details.insert("causes".into(), causes.into());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// 500 without a reason, as kube-apiserver answers an applied configuration that does not fit the schema; `subject` is what it is about.
    pub fn untyped_configuration(subject: &str, problems: &[String]) -> Self {
        let what = match problems {
            [one] => one.clone(),
            many => {
                let lines: Vec<String> = many.iter().map(|problem| format!("\n  {problem}")).collect();
                format!("errors:{}", lines.concat())
            }
        };
        let message = format!("failed to create typed patch object ({subject}): {what}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// 400 for an object without the name that its address has.
    pub fn nameless(name: &str) -> Self {
        Self::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))
    }

    /// 400 for an object with another name than its address has.
    pub fn misnamed(given: &str, name: &str) -> Self {
        Self::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 422 for a JSON patch that does not apply, in kube-apiserver's general words.
    pub fn rejected_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::generic(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub fn forbidden(subject: &Subject<'_>, why: &str, cause: Option<Cause>) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", subject.qualified_plural(), subject.name);
        let mut details = subject.details(subject.plural);
        if let Some(cause) = cause {
            let cause = json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
            details.insert("causes".into(), json!([cause]));
        }
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with_details(details)
    }

    /// 403 because of who asks.
    pub fn access_denied(denied: &AccessDenied) -> Self {
        let AccessDenied { group, resource, name, message } = denied;
        let subject = Subject { group, plural: resource, kind: "", name };
        let message = match (resource.as_str(), name.as_str()) {
            ("", _) => format!("forbidden: {message}"),
            (_, "") => format!("{} is forbidden: {message}", subject.qualified_plural()),
            _ => format!("{} \"{name}\" is forbidden: {message}", subject.qualified_plural()),
        };
        Self::generic(StatusCode::FORBIDDEN, "Forbidden", message).with_details(subject.details(resource))
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::generic(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// The same from the router of the built-in kinds; a collection can be watched, too.
    pub fn no_representation(lists: bool) -> Self {
        let mut types = vec!["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
        if lists {
            types.extend([
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ]);
        }
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", types.join(", "));
        Self::generic(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 415 for a patch of a built-in kind.
    pub fn unsupported_patch() -> Self {
        let message = "415: Unsupported Media Type";
        Self::generic(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 413 for a body beyond the limit of requests.
    pub fn too_large(limit: usize) -> Self {
        Self::too_much(&format!("limit is {limit}"))
    }

    /// 413 for any other reason.
    pub fn too_much(why: &str) -> Self {
        let message = format!("Request entity too large: {why}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 500 for an object beyond the limit of the store, in the words of Kubernetes' store.
    pub fn object_too_large() -> Self {
        Self::unexplained("etcdserver: request is too large")
    }

    /// 410 for a list or continue token whose version is gone; `token` goes on from the same key at the newest version.
    pub fn expired(message: impl Into<String>, token: Option<String>) -> Self {
        let mut error = Self::new(StatusCode::GONE, "Expired", message);
        error.continue_token = token;
        error
    }

    /// 504 for a resourceVersion that does not exist yet; `soon` says that it may in a moment.
    pub fn version_too_large(wanted: u64, current: u64, soon: bool) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let mut details = Map::new();
        details.insert(
            "causes".into(),
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        );
        if soon {
            details.insert("retryAfterSeconds".into(), 1.into());
        }
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).with_details(details)
    }

    /// 500 without a reason, as kube-apiserver answers a creation that gives a resourceVersion.
    pub fn version_on_create() -> Self {
        Self::unexplained("resourceVersion should not be set on objects to be created")
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::service_unavailable("the server is shutting down"),
            ReadError::Interrupted => Self::service_unavailable(error.to_string()),
            ReadError::Storage(_) | ReadError::Damaged(_) => Self::internal(error),
        }
    }
}

/// For writes where the specific refusals have been dealt with before.
impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed => Self::service_unavailable("the server is shutting down"),
            other => Self::internal(other),
        }
    }
}

/// `Success` status, the answer to a removal.
pub(crate) fn success(subject: &Subject<'_>, uid: &str) -> Value {
    let mut details = subject.details(subject.plural);
    details.insert("uid".into(), uid.into());
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
