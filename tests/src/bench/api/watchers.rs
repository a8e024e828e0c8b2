// SPDX-License-Identifier: Apache-2.0
//! Watchers of everything, each with a connection of its own: how long after a write they are told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::{self, Load, MARK};
use crate::alone::Alone;

/// Time in which the last watcher must have heard of the last write.
const DEADLINE: Duration = Duration::from_secs(60);
/// Events that wait to be counted, more than a round has: the watchers read on while the writers still write.
const HEARD: usize = 100_000;

/// Open watches.
pub struct Audience {
    count: usize,
    heard: mpsc::Receiver<(usize, Instant)>,
    /// Writes so far: their numbers go on from round to round.
    told: usize,
    /// Ends the watches when dropped.
    _tasks: JoinSet<()>,
}

impl Audience {
    /// Opens watches from now on.
    pub async fn open(server: &Alone, count: usize) -> Result<Self> {
        let client = server.client().await?;
        let first = client.request_text(Request::get(format!("{}?limit=1", load::PATH)).body(Vec::new())?);
        let first: Value = serde_json::from_str(&first.await?)?;
        let version =
            first.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("a version")?;
        let path = format!("{}?watch=1&allowWatchBookmarks=true&resourceVersion={version}", load::PATH);
        let (sender, heard) = mpsc::channel(HEARD);
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let client = server.client().await?;
            let answer = client.send(Request::get(&path).body(Body::empty())?).await?;
            ensure!(answer.status().is_success(), "watch: {}", answer.status());
            tasks.spawn(listen(answer.into_body(), sender.clone()));
        }
        Ok(Self { count, heard, told: 0, _tasks: tasks })
    }

    /// Writes at a rate for some time; gives how long after the start of its write each watcher was told of it.
    pub async fn tell(&mut self, load: &Load, rate: u32, time: Duration) -> Result<Vec<Duration>> {
        let first = self.told;
        let writes = usize::try_from(u64::from(rate) * time.as_secs())?;
        self.told += writes;
        let (start, period) = (tokio::time::Instant::now(), Duration::from_secs(1) / rate);
        // Each at its time, whether the one before has its answer or not: a slow server must not lower the rate.
        let write = |index: usize| async move {
            let turn = period.saturating_mul(u32::try_from(index)?);
            tokio::time::sleep_until(start + turn).await;
            let sent = Instant::now();
            load.write(index, &format!("w{}", first + index)).await?;
            anyhow::Ok(sent)
        };
        let sent = futures::future::try_join_all((0..writes).map(write)).await?;
        let mut delays = Vec::with_capacity(writes * self.count);
        let all = async {
            while delays.len() < writes * self.count {
                let (number, at) = self.heard.recv().await.context("the watches ended")?;
                let started = number.checked_sub(first).and_then(|index| sent.get(index));
                delays.push(at.saturating_duration_since(*started.context("an event of another round")?));
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(DEADLINE, all).await.context("a watcher was not told of every write")??;
        Ok(delays)
    }
}

/// Reads one watch to its end.
async fn listen(mut body: Body, heard: mpsc::Sender<(usize, Instant)>) {
    let mut line = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let mut rest = data.as_ref();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            line.extend_from_slice(head);
            if let Some(number) = number_of(&line)
                && heard.send((number, Instant::now())).await.is_err()
            {
                return;
            }
            line.clear();
            rest = tail.get(1..).unwrap_or_default();
        }
        line.extend_from_slice(rest);
    }
}

/// The number of the write that an event tells of; bookmarks have none.
fn number_of(event: &[u8]) -> Option<usize> {
    let event = std::str::from_utf8(event).ok()?;
    let (_, rest) = event.split_once(&format!("\"{MARK}\":\"w"))?;
    let (number, _) = rest.split_once('"')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_their_mark() {
        let event =
            br#"{"type":"MODIFIED","object":{"metadata":{"annotations":{"tests.invalid/mark":"w17"}}}}"#;
        assert_eq!(number_of(event), Some(17));
        assert_eq!(number_of(br#"{"metadata":{"annotations":{"tests.invalid/mark":"17"}}}"#), None);
        assert_eq!(number_of(br#"{"f:annotations":{"f:tests.invalid/mark":{}}}"#), None);
    }
}
