// SPDX-License-Identifier: Apache-2.0
//! The heads of HTTP messages as they are kept: the request's and the answer's, without what authorises a client. Pure.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};

/// Fields whose values nobody may read later.
const SECRET: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];

/// The head of a request, kept until it is known whose it is.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    uri: Uri,
    pub(crate) version: Version,
    headers: HeaderMap,
}

impl RequestHead {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let first = format!("{} {target} {}", self.method, version(self.version));
        with_fields(first, &self.headers)
    }
}

/// The head of an answer.
pub(crate) fn answer_head(version_: Version, status: StatusCode, headers: &HeaderMap) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    with_fields(format!("{} {} {reason}", version(version_), status.as_u16()), headers)
}

/// HTTP/1.1 is what later versions are written as, whose own form is not text.
fn version(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

fn with_fields(mut text: String, headers: &HeaderMap) -> String {
    text.push_str("\r\n");
    for (name, value) in headers {
        let value = if SECRET.contains(name) {
            "(left out)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        // Writing into a String cannot fail.
        write!(text, "{name}: {value}\r\n").unwrap_or_default();
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_what_was_said_but_for_what_authorises() {
        let request = http::Request::get("http://10.0.0.1:7171/ipxe/script/auto.ipxe?a=b")
            .header("host", "10.0.0.1:7171")
            .header("authorization", "Bearer s3cret")
            .header("cookie", "s3cret")
            .header("range", "bytes=0-")
            .body(())
            .unwrap();
        assert_eq!(
            RequestHead::of(&request).text(),
            "GET /ipxe/script/auto.ipxe?a=b HTTP/1.1\r\nhost: 10.0.0.1:7171\r\nauthorization: (left out)\r\n\
             cookie: (left out)\r\nrange: bytes=0-\r\n\r\n"
        );
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "5".parse().unwrap())]);
        assert_eq!(
            answer_head(Version::HTTP_10, StatusCode::PARTIAL_CONTENT, &headers),
            "HTTP/1.0 206 Partial Content\r\ncontent-length: 5\r\n\r\n"
        );
    }
}
