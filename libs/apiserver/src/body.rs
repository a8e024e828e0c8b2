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
use crate::protobuf;
use crate::status::ApiError;

/// Longest run of comment lines; people comment out whole objects, and the parser's own bound is 32.
const MAX_COMMENT_LINES: usize = 1_000_000;

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

/// Parses an object body by its media type.
///
/// # Errors
/// 415 for other types, 400 for bodies that do not parse.
pub(crate) fn parse_object(media_type: &str, bytes: &Bytes) -> Result<Value, ApiError> {
    parse_noted(media_type, bytes).map(|(object, _)| object)
}

/// The same, with what is to be said of fields that are given twice (of which the last one counts).
pub(crate) fn parse_noted(media_type: &str, bytes: &Bytes) -> Result<Noted, ApiError> {
    match media_type {
        "application/json" | "" => json_noted(bytes),
        "application/yaml" => yaml_noted(bytes),
        protobuf::MEDIA_TYPE => match protobuf::decode(bytes) {
            Ok(object) => Ok((object, Vec::new())),
            Err(protobuf::Problem::Kind) => {
                Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"]))
            }
            Err(protobuf::Problem::Malformed(why)) => {
                Err(ApiError::bad_request(format!("the object provided is unrecognized: {why}")))
            }
        },
        _ => Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"])),
    }
}

pub(crate) fn json(bytes: &Bytes) -> Result<Value, ApiError> {
    json_noted(bytes).map(|(value, _)| value)
}

fn json_noted(bytes: &Bytes) -> Result<Noted, ApiError> {
    let (value, twice) = json::parse(bytes)
        .map_err(|e| ApiError::bad_request(format!("the object provided is unrecognized: {e}")))?;
    Ok((value, twice.into_iter().map(|path| format!("duplicate field \"{path}\"")).collect()))
}

/// YAML, of which JSON is a subset.
pub(crate) fn yaml(bytes: &Bytes) -> Result<Value, ApiError> {
    yaml_noted(bytes).map(|(value, _)| value)
}

pub(crate) fn yaml_noted(bytes: &Bytes) -> Result<Noted, ApiError> {
    let wrong = |why: String| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?;
    if text.trim_start().starts_with('{') {
        return json_noted(bytes);
    }
    let budget = serde_saphyr::budget! { max_buffered_comment_events: MAX_COMMENT_LINES };
    let options = serde_saphyr::options! { budget: budget.clone() };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(value) => Ok((value, Vec::new())),
        Err(first) => {
            // It may only be that a key is there twice.
            let last = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
            let options = serde_saphyr::options! { budget: budget, duplicate_keys: last };
            let value =
                serde_saphyr::from_str_with_options(text, options).map_err(|e| wrong(e.to_string()))?;
            Ok((value, vec![format!("yaml: {first}")]))
        }
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

/// The `Status` answer of an error.
pub(crate) fn error(error: &ApiError) -> Answer {
    let mut answer = json_answer(error.code(), &error.body());
    if let Some(seconds) = error.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
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
