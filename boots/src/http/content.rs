// SPDX-License-Identifier: Apache-2.0
//! One file as an HTTP answer: ranges, preconditions, and a stream of constant size (RFC 9110 sections 13 and 14).
//!
//! Used by all routes that serve bytes. A file's ETag is its size and its time of change to the nanosecond; a resumed
//! download names it in If-Range and is sent the whole file when it changed meanwhile.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// Called when the last byte of the file was handed to the connection; gets the number of bytes of the file.
pub(super) type Delivered = Box<dyn FnOnce(u64) + Send>;

/// Bytes to serve.
pub(super) struct Source {
    bytes: Kind,
    size: u64,
    etag: Option<String>,
    modified: Option<SystemTime>,
}

enum Kind {
    Memory(Bytes),
    File(File),
}

/// The part of a file that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte.
    Range(u64, u64),
    Unsatisfiable,
}

impl Source {
    /// Bytes in memory, which do not change while the process lives.
    pub(super) fn memory(bytes: Bytes) -> Self {
        Self { size: bytes.len() as u64, bytes: Kind::Memory(bytes), etag: None, modified: None }
    }

    /// An open file.
    pub(super) fn file(file: File, metadata: &std::fs::Metadata) -> Self {
        let etag = format!("\"{:x}-{:x}-{:x}\"", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        Self {
            bytes: Kind::File(file),
            size: metadata.len(),
            etag: Some(etag),
            modified: metadata.modified().ok(),
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
    let Source { bytes, size, etag, modified } = source;
    let mut answer = HeaderMap::new();
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let modified = modified.and_then(http_date);
    for (name, value) in [(header::ETAG, &etag), (header::LAST_MODIFIED, &modified)] {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            answer.insert(name, value);
        }
    }
    if not_modified(headers, etag.as_deref()) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    let part = match headers.get(header::RANGE) {
        Some(range) if method == Method::GET && may_resume(headers, etag.as_deref(), modified.as_deref()) => {
            part(range, size)
        }
        _ => Part::Whole,
    };
    let (status, first, length) = match part {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Range(first, last) => {
            answer.insert(header::CONTENT_RANGE, text(&format!("bytes {first}-{last}/{size}")));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Part::Unsatisfiable => {
            answer.insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            return (StatusCode::RANGE_NOT_SATISFIABLE, answer).into_response();
        }
    };
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if method == Method::HEAD {
        return (status, answer, super::empty()).into_response();
    }
    // A range that stops before the end is a part of a download, not its end.
    let delivered = (first + length == size).then_some(delivered);
    let body = Counted { inner: stream_of(bytes, first, length), left: length, size, delivered };
    (status, answer, Body::from_stream(body)).into_response()
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

type Chunks = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

fn stream_of(bytes: Kind, first: u64, length: u64) -> Chunks {
    match bytes {
        Kind::Memory(bytes) => {
            let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(first)..at(first + length));
            Box::pin(stream::once(async move { Ok(part) }))
        }
        Kind::File(mut file) => {
            let opened = async move {
                file.set_max_buf_size(CHUNK);
                if first > 0 {
                    file.seek(SeekFrom::Start(first)).await?;
                }
                Ok::<_, std::io::Error>(ReaderStream::with_capacity(file.take(length), CHUNK))
            };
            Box::pin(stream::once(opened).try_flatten().boxed())
        }
    }
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

fn not_modified(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let Some((etag, asked)) = etag.zip(headers.get(header::IF_NONE_MATCH)) else { return false };
    asked.to_str().is_ok_and(|asked| {
        asked.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
    })
}

/// Whether a Range counts: with If-Range only when the file is still the one that it names (a strong comparison).
fn may_resume(headers: &HeaderMap, etag: Option<&str>, modified: Option<&str>) -> bool {
    match headers.get(header::IF_RANGE).map(HeaderValue::to_str) {
        None => true,
        Some(Ok(condition)) => Some(condition) == etag || Some(condition) == modified,
        Some(Err(_)) => false,
    }
}

/// One byte range; several, other units and malformed ones count as none (RFC 9110 section 14.2).
fn part(range: &HeaderValue, size: u64) -> Part {
    let parsed = || {
        let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        Some(match (number(first.trim()), number(last.trim())) {
            (None, Some(suffix)) if first.trim().is_empty() => {
                if suffix == 0 || size == 0 {
                    Part::Unsatisfiable
                } else {
                    Part::Range(size.saturating_sub(suffix), size - 1)
                }
            }
            (Some(first), last) => {
                let last = match last {
                    None if !range.as_bytes().ends_with(b"-") => return None,
                    None => u64::MAX,
                    Some(last) => last,
                };
                if last < first {
                    return None;
                }
                if first >= size { Part::Unsatisfiable } else { Part::Range(first, last.min(size - 1)) }
            }
            _ => return None,
        })
    };
    parsed().unwrap_or(Part::Whole)
}

/// An HTTP date (RFC 9110 section 5.6.7).
fn http_date(time: SystemTime) -> Option<String> {
    let time = k8s_openapi::jiff::Timestamp::try_from(time).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_rfc_has_them() {
        use Part::{Range, Unsatisfiable, Whole};
        for (range, size, expected) in [
            ("bytes=0-9", 100, Range(0, 9)),
            ("bytes=90-", 100, Range(90, 99)),
            ("bytes=90-1000", 100, Range(90, 99)),
            ("bytes=-10", 100, Range(90, 99)),
            ("bytes=-1000", 100, Range(0, 99)),
            ("bytes=99-99", 100, Range(99, 99)),
            ("bytes=100-", 100, Unsatisfiable),
            ("bytes=-0", 100, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=99999999999999999999-", 100, Unsatisfiable),
            ("bytes=9-0", 100, Whole),
            ("bytes=0-1,5-6", 100, Whole),
            ("bytes=a-b", 100, Whole),
            ("bytes=-", 100, Whole),
            ("bytes=+1-2", 100, Whole),
            ("lines=0-1", 100, Whole),
        ] {
            assert_eq!(part(&HeaderValue::from_static(range), size), expected, "{range}");
        }
    }

    #[test]
    fn dates_are_in_the_one_form() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(http_date(time).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
