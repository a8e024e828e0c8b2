// SPDX-License-Identifier: Apache-2.0

//! Waiting for work that a service does after it answered 202 (DSP0266, "Asynchronous operations").

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::error::Error;
use crate::json;
use crate::transport::{Payload, Reply, Transport};

/// First wait between two looks; it grows by half each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between two looks.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Returns once the work behind `reply` is done; an answer that is not 202 already is.
///
/// A monitor that is gone counts as done (iDRAC removes tasks before they can be read): the read-back decides.
pub(crate) async fn finish(transport: &mut Transport, reply: Reply, limit: Duration) -> Result<Reply, Error> {
    let mut reply = transport.checked(reply)?;
    let deadline = Instant::now() + limit;
    let mut wait = FIRST_WAIT;
    let Some(monitor) = monitor(transport, &reply)? else { return Ok(reply) };
    loop {
        if let Some(verdict) = outcome(&reply) {
            return verdict
                .map(|()| reply)
                .map_err(|(state, message)| Error::Task { state, message: transport.redacted(&message) });
        }
        if Instant::now() >= deadline {
            return Err(Error::Task {
                state: "unfinished".into(),
                message: format!("no end after {} s", limit.as_secs()),
            });
        }
        tokio::time::sleep(reply.retry_after().unwrap_or(wait)).await;
        wait = (wait + wait / 2).min(LONGEST_WAIT);
        let next = transport.request(Method::GET, &monitor, Payload::default()).await?;
        if matches!(next.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(next);
        }
        reply = transport.checked(next)?;
    }
}

fn monitor(transport: &Transport, reply: &Reply) -> Result<Option<url::Url>, Error> {
    if reply.status != StatusCode::ACCEPTED {
        return Ok(None);
    }
    let link = reply
        .header("location")
        .or_else(|| json::text(&reply.body, "TaskMonitor"))
        .or_else(|| json::text(&reply.body, "@odata.id"));
    link.map(|link| transport.endpoint().resolve(link)).transpose()
}

/// `None` while it runs; then success, or the bad state with its message (DSP2046, Task, TaskState).
fn outcome(reply: &Reply) -> Option<Result<(), (String, String)>> {
    let state = json::text(&reply.body, "TaskState");
    match state {
        Some("Completed") => {
            let healthy = !matches!(json::text(&reply.body, "TaskStatus"), Some("Critical"));
            Some(if healthy { Ok(()) } else { Err(("Completed, Critical".into(), message(reply))) })
        }
        Some(bad @ ("Exception" | "Killed" | "Cancelled" | "Interrupted")) => {
            Some(Err((bad.to_owned(), message(reply))))
        }
        Some(_) => None,
        // Not a task but the result of the operation itself.
        None => (reply.status != StatusCode::ACCEPTED).then_some(Ok(())),
    }
}

fn message(reply: &Reply) -> String {
    let first =
        reply.body.get("Messages").and_then(|messages| messages.as_array()).and_then(|array| array.first());
    first
        .and_then(|first| json::text(first, "Message"))
        .map_or_else(|| "no reason given".to_owned(), json::shorten)
}
