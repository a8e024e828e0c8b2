// SPDX-License-Identifier: Apache-2.0
//! One file as an HTTP answer: ranges, preconditions, and a stream of constant size (RFC 9110 sections 13 and 14).
//!
//! Used by all routes that serve bytes. A file's ETag is its size and its time of change to the nanosecond; a resumed
//! download names it in If-Range and is sent the whole file when it changed meanwhile. Every answer says how long it is.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::range::{Asked, Parts, part_head, part_tail};
use crate::iso::Iso;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// Called when the last byte of the file was handed to the connection; gets the number of bytes of the file.
pub(super) type Delivered = Box<dyn FnOnce(u64) + Send>;

type Chunks = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;
/// Gives the bytes from the first number on, as many as the second.
type Read = Box<dyn Fn(u64, u64) -> Chunks + Send>;

/// Bytes to serve.
pub(super) struct Source {
    read: Read,
    size: u64,
    etag: String,
    modified: Option<SystemTime>,
}

impl Source {
    /// Bytes in memory.
    pub(super) fn memory(bytes: Bytes, etag: String) -> Self {
        let size = bytes.len() as u64;
        let read = move |first, length| -> Chunks {
            let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(first)..at(first + length));
            stream::once(async move { Ok(part) }).boxed()
        };
        Self { read: Box::new(read), size, etag, modified: None }
    }

    /// An open file.
    pub(super) fn file(file: File, metadata: &std::fs::Metadata) -> Self {
        let etag = format!("\"{:x}-{:x}-{:x}\"", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let file = Arc::new(file);
        let read = move |first, length| read_file(Arc::clone(&file), first, length).boxed();
        Self { read: Box::new(read), size: metadata.len(), etag, modified: metadata.modified().ok() }
    }

    /// An image for one machine.
    pub(super) fn iso(iso: Iso) -> Self {
        let (size, etag) = (iso.size, iso.etag.clone());
        Self {
            read: Box::new(move |first, length| iso.read(first, length).boxed()),
            size,
            etag,
            modified: None,
        }
    }
}

/// Answers a GET or HEAD.
pub(super) fn respond(
    method: &Method,
    headers: &HeaderMap,
    source: Source,
    delivered: Delivered,
) -> Response {
    let Source { read, size, etag, modified } = source;
    let mut answer = HeaderMap::new();
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.insert(header::ETAG, text(&etag));
    let modified = modified.and_then(http_date);
    if let Some(modified) = &modified {
        answer.insert(header::LAST_MODIFIED, text(modified));
    }
    if not_modified(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    let asked = match headers.get(header::RANGE) {
        Some(range) if method == Method::GET && may_resume(headers, &etag, modified.as_deref()) => {
            Asked::read(range, size)
        }
        _ => Asked::Whole,
    };
    let (status, first, length) = match asked {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::One(first, last) => {
            answer.insert(header::CONTENT_RANGE, text(&format!("bytes {first}-{last}/{size}")));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Asked::Several(parts) => return several(parts, answer, read),
        Asked::Unsatisfiable => {
            answer.insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            answer.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            return (StatusCode::RANGE_NOT_SATISFIABLE, answer).into_response();
        }
    };
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if method == Method::HEAD {
        return (status, answer, super::empty()).into_response();
    }
    // A range that stops before the end is a part of a download, not its end.
    let delivered = (first + length == size).then_some(delivered);
    let body = Counted { inner: read(first, length), left: length, size, delivered };
    (status, answer, Body::from_stream(body)).into_response()
}

/// Several ranges, in the order asked for, as a multipart message (RFC 9110 section 14.6).
fn several(parts: Parts, mut answer: HeaderMap, read: Read) -> Response {
    answer.insert(header::CONTENT_TYPE, text(&parts.media_type()));
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(parts.length()));
    let (left, size) = (parts.length(), parts.size);
    let tail = stream::once(std::future::ready(Ok(Bytes::from(part_tail()))));
    let body = stream::iter(parts.ranges).flat_map(move |(first, last)| {
        let head = Bytes::from(part_head(first, last, size));
        stream::once(std::future::ready(Ok(head))).chain(read(first, last - first + 1))
    });
    let body = Counted { inner: body.chain(tail).boxed(), left, size, delivered: None };
    (StatusCode::PARTIAL_CONTENT, answer, Body::from_stream(body)).into_response()
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// A part of a file. One that became shorter ends early.
fn read_file(file: Arc<File>, first: u64, length: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let end = first.saturating_add(length);
    stream::try_unfold(first, move |offset| {
        let file = Arc::clone(&file);
        async move {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(CHUNK);
            if wanted == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut part = vec![0; wanted];
                let read = file.read_at(&mut part, offset)?;
                part.truncate(read);
                Ok::<_, std::io::Error>(part)
            });
            let part = read.await.map_err(std::io::Error::other)??;
            let next = offset + part.len() as u64;
            Ok((!part.is_empty()).then(|| (Bytes::from(part), next)))
        }
    })
}

/// A body that knows when it is complete. A file that became shorter is an error, which cuts the connection: the client
/// must not take it for whole.
struct Counted {
    inner: Chunks,
    left: u64,
    size: u64,
    delivered: Option<Delivered>,
}

impl Stream for Counted {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.inner.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(chunk))) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                if self.left == 0
                    && let Some(delivered) = self.delivered.take()
                {
                    delivered(self.size);
                }
            }
            Poll::Ready(None) if self.left > 0 => {
                self.left = 0;
                return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())));
            }
            _ => {}
        }
        next
    }
}

/// Whether the client has it already (a weak comparison, RFC 9110 section 13.1.2).
fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|asked| asked.to_str().ok()).any(|asked| {
        asked.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
    })
}

/// Whether a Range counts: with If-Range only when the file is still the one that it names (a strong comparison).
fn may_resume(headers: &HeaderMap, etag: &str, modified: Option<&str>) -> bool {
    match headers.get(header::IF_RANGE).map(HeaderValue::to_str) {
        None => true,
        Some(Ok(condition)) => condition == etag || Some(condition) == modified,
        Some(Err(_)) => false,
    }
}

/// An HTTP date (RFC 9110 section 5.6.7).
fn http_date(time: SystemTime) -> Option<String> {
    let time = k8s_openapi::jiff::Timestamp::try_from(time).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_in_the_one_form() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(http_date(time).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    fn ask(range: &str, bytes: &Bytes) -> (StatusCode, HeaderMap, Bytes) {
        let headers = HeaderMap::from_iter([(header::RANGE, range.parse().unwrap())]);
        let source = Source::memory(bytes.clone(), "\"e\"".to_owned());
        let (parts, body) = respond(&Method::GET, &headers, source, Box::new(|_| {})).into_parts();
        let body = futures::executor::block_on(axum::body::to_bytes(body, usize::MAX)).unwrap();
        (parts.status, parts.headers, body)
    }

    #[test]
    fn several_ranges_are_a_multipart_message_of_the_length_that_is_said() {
        let bytes = Bytes::from_static(b"0123456789");
        let (status, headers, body) = ask("bytes=7-8, 0-1,-1, 50-60", &bytes);
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
        let media_type = headers[header::CONTENT_TYPE].to_str().unwrap();
        let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let parts: Vec<&str> = text.split(&format!("\r\n--{boundary}")).collect();
        let part = |range: &str, data: &str| {
            format!(
                "\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{data}"
            )
        };
        assert_eq!(parts, ["", &part("7-8", "78"), &part("0-1", "01"), &part("9-9", "9"), "--\r\n"]);
    }

    proptest! {
        #[test]
        fn any_range_is_what_the_file_has_there(size in 0_usize..40, first in 0_usize..50, last in 0_usize..50) {
            let bytes: Bytes = (0..u8::try_from(size).unwrap()).collect::<Vec<_>>().into();
            let (status, headers, body) = ask(&format!("bytes={first}-{last}"), &bytes);
            prop_assert_eq!(headers[header::CONTENT_LENGTH].to_str().unwrap(), body.len().to_string());
            match status {
                StatusCode::PARTIAL_CONTENT => prop_assert_eq!(&body[..], &bytes[first..=last.min(size - 1)]),
                StatusCode::RANGE_NOT_SATISFIABLE => prop_assert!(first >= size && first <= last),
                _ => prop_assert!(last < first && body == bytes),
            }
        }
    }
}
