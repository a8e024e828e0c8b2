// SPDX-License-Identifier: Apache-2.0
//! The log of a machine over HTTP: `GET /logs/<namespace>/<machine>`, one JSON object per line, for whoever has the token.
//!
//! `since` asks for what came after a line's `at`, `tail` for the last lines only, `follow` for what will come. An empty line
//! now and then shows that a follower is still there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::HttpToken;
use crate::kept::Name;
use crate::logs::{LogLine, Reader};

/// Followers at a time; the next one is refused.
pub(super) const MAX_FOLLOWERS: usize = 64;
/// Lines of one machine that come within this time are read from its files once.
const PACE: Duration = Duration::from_millis(200);
/// After which silence an empty line is sent.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Logs and who may read them.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    reader: Reader,
    token: HttpToken,
    followers: Arc<Semaphore>,
}

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    since: u64,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

impl Logs {
    pub(crate) fn new(reader: Reader, token: HttpToken) -> Self {
        Self { reader, token, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }
}

pub(super) async fn logs(
    State(logs): State<Logs>,
    Path((namespace, machine)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = logs.token.refusal(&headers) {
        return refusal;
    }
    let name = Name { namespace, machine };
    let first = match logs.reader.read(&name, asked.since, asked.tail.unwrap_or(usize::MAX)).await {
        Ok(lines) => lines,
        Err(error) => {
            tracing::warn!(machine = name.machine, %error, "the log of a machine cannot be read");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let body = if asked.follow {
        let Ok(slot) = Arc::clone(&logs.followers).try_acquire_owned() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many followers\n").into_response();
        };
        let since = first.last().map_or(asked.since, |line| line.at);
        Body::from_stream(follow(Follower {
            reader: logs.reader,
            name,
            since,
            first: Some(first),
            _slot: slot,
        }))
    } else {
        Body::from(encoded(&first))
    };
    let head = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (head, body).into_response()
}

struct Follower {
    reader: Reader,
    name: Name,
    since: u64,
    /// What is sent at once.
    first: Option<Vec<LogLine>>,
    _slot: OwnedSemaphorePermit,
}

fn follow(follower: Follower) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold(follower, async |mut follower| {
        if let Some(first) = follower.first.take() {
            return Some((Ok(encoded(&first)), follower));
        }
        let newer = follower.reader.newer(&follower.name, follower.since);
        match tokio::time::timeout(SIGN_OF_LIFE, newer).await {
            Err(_) => return Some((Ok(Bytes::from_static(b"\n")), follower)),
            Ok(false) => return None,
            Ok(true) => tokio::time::sleep(PACE).await,
        }
        // When files cannot be read the follower is cut off, and asks again.
        let lines = follower.reader.read(&follower.name, follower.since, usize::MAX).await.ok()?;
        follower.since = lines.last().map_or(follower.since, |line| line.at);
        Some((Ok(encoded(&lines)), follower))
    })
}

fn encoded(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // A line is texts and a number, which always have a JSON form.
        if serde_json::to_writer(&mut text, line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}
