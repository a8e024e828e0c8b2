// SPDX-License-Identifier: Apache-2.0

//! Bodies of requests and answers: reading within bounds, JSON and YAML, streams.

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use serde_json::Value;

use crate::json::{self, Noted};
use crate::object;
use crate::openapi::mismatch;
use crate::protobuf;
use crate::status::ApiError;

/// Longest run of comment lines; people comment out whole objects, and the parser's own bound is 32.
const MAX_COMMENT_LINES: usize = 1_000_000;

/// Media type of what is no object.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

/// Any error, as tower and hyper pass it on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Body of every answer.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) type Answer = Response<ResponseBody>;

/// The media type of a request body without its parameters; JSON when there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    value.split(';').next().unwrap_or_default().trim()
}

/// How much of a body that is too large is read and dropped before the answer: to close a connection with bytes unread is to
/// reset it, and the client may never see the 413.
const MAX_DROPPED: usize = 4 * 1024 * 1024;

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// 413 beyond the limit, 400 when the peer breaks off.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    match Limited::new(body.as_mut(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let mut rest = Limited::new(body, MAX_DROPPED);
            while let Some(Ok(_)) = rest.frame().await {}
            Err(ApiError::too_large(limit))
        }
        Err(error) => Err(ApiError::bad_request(format!("the request body could not be read: {error}"))),
    }
}

/// What a body is to be, for the errors about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub kind: &'a str,
    /// A custom resource has to say its kind.
    pub custom: bool,
}

/// Parses an object body by its media type.
///
/// # Errors
/// 415 for other types, 400 for bodies that do not parse.
pub(crate) fn parse_object(kind: &str, media_type: &str, bytes: &Bytes) -> Result<Value, ApiError> {
    parse_noted(Expected { kind, custom: false }, media_type, bytes).map(|(object, _)| object)
}

/// The same, with what is to be said of fields that are given twice (of which the last one counts).
pub(crate) fn parse_noted(
    expected: Expected<'_>,
    media_type: &str,
    bytes: &Bytes,
) -> Result<Noted, ApiError> {
    let noted = match media_type {
        "application/json" | "" => {
            json_noted(bytes).map_err(|why| format!("{HEAD}; json parse error: {why}"))
        }
        "application/yaml" => yaml_noted(bytes),
        protobuf::MEDIA_TYPE => {
            return match protobuf::decode(bytes) {
                Ok(object) => Ok((object, Vec::new())),
                Err(protobuf::Problem::Kind) => Err(ApiError::unsupported_media_type(MEDIA_TYPES)),
                Err(protobuf::Problem::Malformed(why)) => {
                    Err(ApiError::bad_request(format!("the object provided is unrecognized: {why}")))
                }
            };
        }
        _ => return Err(ApiError::unsupported_media_type(MEDIA_TYPES)),
    };
    let headed = noted.and_then(|noted| with_head(expected, noted));
    headed.map_err(|why| {
        let (kind, summary) = (expected.kind, summary(bytes));
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    })
}

/// What kube-apiserver says where the kind of a body cannot be told.
const HEAD: &str = "couldn't get version/kind";

/// The start of a body, as text where it can be.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let start = bytes.get(..MOST).unwrap_or(bytes);
    let more = if bytes.len() > MOST { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => {
            let hex: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

/// The body, where its kind can be told.
fn with_head(expected: Expected<'_>, (value, notes): Noted) -> Result<Noted, String> {
    let head_error = |why: String| format!("{HEAD}; json parse error: {why}");
    let nothing = || format!("Object 'Kind' is missing in '{value}'");
    let map = match &value {
        Value::Null if expected.custom => return Err(nothing()),
        Value::Null => return Ok((Value::Object(serde_json::Map::new()), notes)),
        Value::Object(map) => map,
        other => {
            let fields = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
            let found = go_kind(other);
            return Err(head_error(format!("json: cannot unmarshal {found} into Go value of type {fields}")));
        }
    };
    for field in ["apiVersion", "kind"] {
        if let Some(found) = map.get(field).filter(|found| !found.is_string() && !found.is_null()) {
            let found = go_kind(found);
            let why = format!("json: cannot unmarshal {found} into Go struct field .{field} of type string");
            return Err(head_error(why));
        }
    }
    if expected.custom && map.get("kind").and_then(Value::as_str).unwrap_or_default().is_empty() {
        return Err(nothing());
    }
    Ok((value, notes))
}

/// What Go's decoder calls a value.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The `DeleteOptions` of a removal.
///
/// # Errors
/// 415 for other types, 500 for a body that does not decode, as kube-apiserver answers it.
pub(crate) fn options(media_type: &str, bytes: &Bytes) -> Result<Value, ApiError> {
    const KIND: &str = "DeleteOptions";
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let noted = match media_type {
        "application/json" | "" => {
            json_noted(bytes).map_err(|why| format!("{HEAD}; json parse error: {why}"))
        }
        "application/yaml" => yaml_noted(bytes),
        _ => return parse_object(KIND, media_type, bytes),
    };
    let headed = noted.and_then(|noted| with_head(Expected { kind: KIND, custom: false }, noted));
    let (value, _) = headed.map_err(ApiError::unexplained)?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    if !["", KIND].contains(&text("kind")) {
        let version = if text("apiVersion").is_empty() { "meta.k8s.io/v1" } else { text("apiVersion") };
        return Err(ApiError::unexplained(not_registered(text("kind"), version)));
    }
    match mismatch::find_in_delete_options(&value) {
        Some(why) => Err(ApiError::unexplained(why)),
        None => Ok(value),
    }
}

/// Fills in kind and version where a body leaves them out, as many clients do where the path tells them.
///
/// # Errors
/// 400 for a body of another kind.
pub(crate) fn take_kind(object: &mut Value, kind: &str, api_version: &str) -> Result<(), ApiError> {
    for (field, wanted) in [("apiVersion", api_version), ("kind", kind)] {
        match object.get(field).and_then(Value::as_str).unwrap_or_default() {
            "" => {
                object::object_mut(object).insert(field.to_owned(), wanted.into());
            }
            found if found == wanted => {}
            _ => {
                let what = format!("the object provided is not a {kind} of {api_version}");
                return Err(ApiError::bad_request(what));
            }
        }
    }
    Ok(())
}

/// What kube-apiserver says of a kind that it does not know.
pub(crate) fn not_registered(kind: &str, api_version: &str) -> String {
    format!(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:110\""
    )
}

/// Media types of objects.
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// A JSON document that is no object of its own: a patch.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub(crate) fn document(bytes: &[u8]) -> Result<Value, String> {
    json_noted(bytes).map(|(value, _)| value)
}

/// What is to be said of fields that a document gives twice.
pub(crate) fn notes(bytes: &[u8]) -> Vec<String> {
    json_noted(bytes).map(|(_, notes)| notes).unwrap_or_default()
}

/// A list of lists that is nested deeper than the parser goes: no object and no patch has this form, whatever is in it.
fn is_deep_list(bytes: &[u8]) -> bool {
    let mut solid = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    (solid.next(), solid.next()) == (Some(&b'['), Some(&b'[')) && json::problem(bytes).is_none()
}

fn json_noted(bytes: &[u8]) -> Result<Noted, String> {
    let (value, twice) = match json::parse(bytes) {
        Ok(parsed) => parsed,
        Err(_) if is_deep_list(bytes) => (Value::Array(vec![Value::Array(Vec::new())]), Vec::new()),
        Err(error) => return Err(json::problem(bytes).unwrap_or(error.to_string())),
    };
    Ok((value, twice.into_iter().map(|path| format!("duplicate field \"{path}\"")).collect()))
}

/// An applied configuration: YAML, of which JSON is a subset.
///
/// # Errors
/// 400 for what is neither.
pub(crate) fn configuration(bytes: &[u8]) -> Result<Noted, ApiError> {
    let wrong = |why: &str| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let bytes = first_document(bytes);
    let (value, notes) = match yaml_noted(bytes) {
        // JSON in one line has its duplicates told of as those of YAML.
        Ok((value, notes)) if !bytes.contains(&b'\n') => {
            (value, notes.iter().map(|note| in_yaml(note)).collect())
        }
        Ok(noted) => noted,
        Err(why) => return Err(wrong(&format!("error converting YAML to JSON: {why}"))),
    };
    match &value {
        Value::Object(_) | Value::Null => Ok((value, notes)),
        other => {
            let found = go_kind(other);
            let why =
                format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
            Err(wrong(&format!("error unmarshaling JSON: while decoding JSON: {why}")))
        }
    }
}

/// JSON without what follows it: a parser of YAML ends with the first document, and that ends with its value.
fn first_document(bytes: &[u8]) -> &[u8] {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return bytes;
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => bytes.get(..values.byte_offset()).unwrap_or(bytes),
        _ => bytes,
    }
}

/// What a parser of YAML says of a field that is given twice in the first line.
fn in_yaml(note: &str) -> String {
    let path = note.strip_prefix("duplicate field \"").and_then(|rest| rest.strip_suffix('"'));
    let key = path.map(|path| path.rsplit(['.', ']']).next().unwrap_or(path));
    key.map_or_else(|| note.to_owned(), |key| format!("line 1: key {key:?} already set in map"))
}

fn yaml_noted(bytes: &[u8]) -> Result<Noted, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("yaml: {why}");
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(&e))?;
    if text.trim().is_empty() {
        return Ok((Value::Null, Vec::new()));
    }
    if text.trim_start().starts_with(['{', '['])
        && let Ok(noted) = json_noted(bytes)
    {
        return Ok(noted);
    }
    let budget = serde_saphyr::budget! { max_buffered_comment_events: MAX_COMMENT_LINES };
    let options = serde_saphyr::options! { budget: budget.clone() };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(value) => Ok((value, Vec::new())),
        Err(first) => {
            // It may only be that a key is there twice.
            let last = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
            let options = serde_saphyr::options! { budget: budget, duplicate_keys: last };
            let value = serde_saphyr::from_str_with_options(text, options).map_err(|e| wrong(&e))?;
            Ok((value, vec![twice_in_yaml(&first.to_string())]))
        }
    }
}

/// What Go's parser says of a key that is there twice, of which ours says `line 7 column 3: duplicate mapping key: a, ...`.
fn twice_in_yaml(said: &str) -> String {
    let found = said.split_once("line ").and_then(|(_, rest)| {
        let (line, rest) = rest.split_once(' ')?;
        let (_, rest) = rest.split_once("duplicate mapping key: ")?;
        Some((line, rest.split([',', '\n']).next()?))
    });
    match found {
        Some((line, key)) => {
            format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map")
        }
        None => format!("yaml: {said}"),
    }
}

fn full(bytes: Bytes) -> ResponseBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with a body in one piece.
pub(crate) fn answer(status: StatusCode, media_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(bytes.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    if media_type == PLAIN {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    }
    answer
}

pub(crate) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value.to_string())
}

/// An answer whose body arrives over time.
pub(crate) fn stream(
    media_type: &'static str,
    stream: impl futures::Stream<Item = Bytes> + Send + 'static,
) -> Answer {
    try_stream(media_type, stream.map(Ok))
}

/// The same; an error breaks the answer off.
pub(crate) fn try_stream(
    media_type: &'static str,
    stream: impl futures::Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Answer {
    let body = StreamBody::new(stream.map(|bytes| bytes.map(Frame::data)));
    let mut answer = Response::new(body.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    answer
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Text {
    #[default]
    Json,
    /// For people.
    Indented,
    Yaml,
}

impl Text {
    pub fn of(yaml: bool, pretty: bool) -> Self {
        match (yaml, pretty) {
            (true, _) => Self::Yaml,
            (false, true) => Self::Indented,
            (false, false) => Self::Json,
        }
    }
}

/// An answer with one value.
pub(crate) fn written(status: StatusCode, value: &Value, text: Text) -> Answer {
    match text {
        Text::Json => json_answer(status, value),
        Text::Indented => answer(status, "application/json", indented(value)),
        Text::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => answer(status, "application/yaml", text),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as YAML");
                json_answer(status, value)
            }
        },
    }
}

/// An object as people read it: what it is comes first.
fn indented(value: &Value) -> String {
    const FIRST: [&str; 3] = ["kind", "apiVersion", "metadata"];
    let Some(map) = value.as_object() else { return format!("{value:#}\n") };
    let first = FIRST.iter().filter_map(|field| map.get_key_value(*field));
    let others = map.iter().filter(|(field, _)| !FIRST.contains(&field.as_str()));
    let fields: Vec<String> = first
        .chain(others)
        .map(|(field, value)| {
            format!("  {}: {}", Value::from(field.as_str()), format!("{value:#}").replace('\n', "\n  "))
        })
        .collect();
    match fields.is_empty() {
        true => "{}\n".to_owned(),
        false => format!("{{\n{}\n}}\n", fields.join(",\n")),
    }
}

/// The `Status` answer of an error.
pub(crate) fn error(error: &ApiError, text: Text) -> Answer {
    let mut answer = match error.plain_text() {
        Some(text) => self::answer(error.code(), PLAIN, text.to_owned()),
        None => written(error.code(), &error.body(), text),
    };
    if let Some(seconds) = error.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Puts a warning before those that an answer has.
pub(crate) fn warn_first(mut answer: Answer, warning: Option<&str>) -> Answer {
    if let Some(warning) = warning {
        let others: Vec<_> = answer.headers().get_all(header::WARNING).iter().cloned().collect();
        answer.headers_mut().remove(header::WARNING);
        warn(&mut answer, &[warning.to_owned()]);
        for other in others {
            answer.headers_mut().append(header::WARNING, other);
        }
    }
    answer
}

/// Adds `Warning: 299` headers (RFC 9111 section 5.5 as Kubernetes uses it).
pub(crate) fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = http::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}
