// SPDX-License-Identifier: Apache-2.0

//! Watches: a position in the change log, read at the client's pace.
//!
//! ```text
//! initial state (optional) -> its end marked (optional) -> changes and bookmarks -> timeout, shutdown or 410
//! ```
//!
//! A watch holds no queue: it keeps the version up to which it has told everything and reads on from the log when its client has taken what was written.
//! So nothing is lost or doubled, a slow client costs no memory, and one that falls behind compaction gets `410 Expired` and the end of the stream.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::object;
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::{ChangeKind, Key, LogEntry, Prefix, ReadError, Snapshot, Store, Stored};
use crate::view::View;

/// Changes or objects handled between two writes to the client.
const CHUNK: usize = 256;
/// Bytes written to the client at once; at least one event is.
const CHUNK_BYTES: usize = 256 << 10;

/// Time after which the log is read again while the file is being opened again.
const INTERRUPTED: Duration = Duration::from_millis(50);

/// What a client watches.
pub(crate) struct Plan {
    pub prefix: Prefix,
    pub selector: Selector,
    pub view: View,
    pub start: Start,
    pub bookmarks: bool,
    pub bookmark_every: Duration,
    pub timeout: Duration,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// After this version.
    After(u64),
    /// With everything that is there now; `mark_end` sends the bookmark that ends it (`sendInitialEvents`).
    Initial { mark_end: bool },
}

enum Phase {
    Initial { snapshot: Option<Box<Snapshot>>, after: Option<Key>, mark_end: bool },
    Live,
    Done,
}

struct Watch {
    store: Arc<Store>,
    plan: Plan,
    phase: Phase,
    /// Everything up to this version has been told.
    position: u64,
    head: tokio::sync::watch::Receiver<u64>,
    first: bool,
    deadline: Instant,
    next_bookmark: Instant,
    pending: VecDeque<Bytes>,
    shutdown: CancellationToken,
}

/// The body of a watch answer.
pub(crate) fn stream(
    store: Arc<Store>,
    plan: Plan,
    shutdown: CancellationToken,
) -> Result<impl futures::Stream<Item = Bytes> + Send + 'static, ApiError> {
    let head = store.head();
    let (phase, position) = match plan.start {
        Start::After(version) => (Phase::Live, version),
        Start::Initial { mark_end } => {
            let snapshot = store.snapshot()?;
            let version = snapshot.version();
            (Phase::Initial { snapshot: Some(Box::new(snapshot)), after: None, mark_end }, version)
        }
    };
    let now = Instant::now();
    let watch = Watch {
        deadline: now + plan.timeout,
        next_bookmark: now + plan.bookmark_every,
        pending: VecDeque::new(),
        first: true,
        store,
        plan,
        phase,
        position,
        head,
        shutdown,
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((chunk, watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.pending.pop_front() {
                return Some(chunk);
            }
            let step = match self.phase {
                Phase::Done => return None,
                Phase::Initial { .. } => self.initial().await,
                Phase::Live => self.live().await,
            };
            if let Err(error) = step {
                self.phase = Phase::Done;
                self.pending.push_back(error_event(&error));
            }
        }
    }

    /// Writes the next part of the initial state.
    async fn initial(&mut self) -> Result<(), ApiError> {
        let Phase::Initial { snapshot, after, mark_end } = &mut self.phase else { return Ok(()) };
        let (Some(view), start, mark_end) = (snapshot.take(), after.take(), *mark_end) else { return Ok(()) };
        let prefix = self.plan.prefix.clone();
        let only_name = self.plan.selector.only_name().map(str::to_owned);
        let (view, page, whole) = tokio::task::spawn_blocking(move || {
            let (mut page, mut whole) = (Vec::new(), true);
            if let Some(found) = only_name.and_then(|name| view.named(&prefix, &name)) {
                return (view, found.map(|stored| stored.into_iter().collect()), whole);
            }
            let mut bytes = 0;
            let scanned = view.scan(&prefix, start.as_ref(), |stored| {
                bytes += stored.bytes.len();
                page.push(stored);
                if page.len() < CHUNK && bytes < CHUNK_BYTES {
                    return ControlFlow::Continue(());
                }
                whole = false;
                ControlFlow::Break(())
            });
            (view, scanned.map(|()| page), whole)
        })
        .await
        .map_err(ApiError::internal)?;
        let page: Vec<Stored> =
            page?.into_iter().map(|stored| self.plan.view.served.renewed(stored)).collect();
        let mut out = BytesMut::new();
        for stored in &page {
            if self.matches(&stored.bytes)? {
                self.plan.view.event(&mut out, "ADDED", &stored.bytes, self.first)?;
                self.first = false;
            }
        }
        self.push(out.freeze());
        match page.last() {
            Some(last) if !whole => {
                self.phase = Phase::Initial { snapshot: Some(view), after: Some(last.key.clone()), mark_end };
            }
            _ => {
                if mark_end && self.plan.bookmarks {
                    self.push(self.plan.view.bookmark(self.position, true));
                }
                self.phase = Phase::Live;
            }
        }
        Ok(())
    }

    /// Writes the next changes, or waits for some.
    async fn live(&mut self) -> Result<(), ApiError> {
        if self.shutdown.is_cancelled() {
            self.phase = Phase::Done;
            return Ok(());
        }
        // Marked as seen before reading, so that a commit in between wakes the wait below.
        self.head.borrow_and_update();
        let entries = match self.store.changes(self.position, CHUNK) {
            // After an I/O error: the position is what counts, and that stays.
            Err(ReadError::Interrupted) => {
                tokio::time::sleep(INTERRUPTED).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
            Ok(Ok(entries)) => entries,
            Ok(Err(compacted)) => {
                let message = format!("too old resource version: {} ({})", self.position, compacted.oldest);
                return Err(ApiError::expired(message, None));
            }
        };
        if !entries.is_empty() {
            return self.tell(&entries);
        }
        tokio::select! {
            changed = self.head.changed() => if changed.is_err() { self.phase = Phase::Done },
            () = self.shutdown.cancelled() => self.phase = Phase::Done,
            () = tokio::time::sleep_until(self.deadline) => {
                self.bookmark();
                self.phase = Phase::Done;
            }
            () = tokio::time::sleep_until(self.next_bookmark), if self.plan.bookmarks => self.bookmark(),
        }
        Ok(())
    }

    fn bookmark(&mut self) {
        self.next_bookmark = Instant::now() + self.plan.bookmark_every;
        if self.plan.bookmarks {
            self.push(self.plan.view.bookmark(self.position, false));
        }
    }

    fn tell(&mut self, entries: &[Arc<LogEntry>]) -> Result<(), ApiError> {
        let mut out = BytesMut::new();
        for entry in entries {
            self.position = self.position.max(entry.version);
            if !self.plan.prefix.contains(&entry.key) {
                continue;
            }
            if let Some((kind, object)) = self.seen(entry)? {
                let object = self.plan.view.served.renewed_bytes(entry.version, object);
                self.plan.view.event(&mut out, kind, &object, self.first)?;
                self.first = false;
            }
            // What is left is read again when the client has taken this.
            if out.len() >= CHUNK_BYTES {
                break;
            }
        }
        self.push(out.freeze());
        // A busy store must not keep a watch beyond its time.
        if Instant::now() >= self.deadline {
            self.bookmark();
            self.phase = Phase::Done;
        }
        Ok(())
    }

    /// What a change is for this watch: an object that starts to match is added, one that stops is deleted.
    fn seen(&self, entry: &LogEntry) -> Result<Option<(&'static str, Bytes)>, ApiError> {
        if self.plan.selector.is_everything() {
            let kind = match entry.kind {
                ChangeKind::Added => "ADDED",
                ChangeKind::Modified => "MODIFIED",
                ChangeKind::Deleted => "DELETED",
            };
            return Ok(Some((kind, entry.object.clone())));
        }
        let is = self.matches(&entry.object)?;
        let was = match (&entry.previous, entry.kind) {
            (Some(previous), _) => self.matches(previous)?,
            (None, ChangeKind::Added) => false,
            // No selector can tell the two states apart, or else the state before would be there.
            (None, ChangeKind::Modified | ChangeKind::Deleted) => is,
        };
        Ok(match (entry.kind, was, is) {
            (ChangeKind::Deleted, true, _) => Some(("DELETED", entry.object.clone())),
            (ChangeKind::Deleted, false, _) | (_, false, false) => None,
            (_, false, true) => Some(("ADDED", entry.object.clone())),
            (_, true, true) => Some(("MODIFIED", entry.object.clone())),
            (_, true, false) => Some(("DELETED", self.at_version(entry)?)),
        })
    }

    fn matches(&self, bytes: &Bytes) -> Result<bool, ApiError> {
        if self.plan.selector.is_everything() {
            return Ok(true);
        }
        let stored: Value = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
        Ok(self.plan.selector.matches(&self.plan.view.served.request_form(stored)))
    }

    /// The state before a change with the version of the change: how Kubernetes reports that an object left a selection.
    fn at_version(&self, entry: &LogEntry) -> Result<Bytes, ApiError> {
        let bytes = entry.previous.as_ref().unwrap_or(&entry.object).clone();
        let version = object::version_of(&bytes).unwrap_or(entry.version);
        let before = self.plan.view.served.renewed_bytes(version, bytes);
        let mut object: Value = serde_json::from_slice(&before).map_err(ApiError::internal)?;
        object::metadata_mut(&mut object).insert("resourceVersion".into(), entry.version.to_string().into());
        Ok(object.to_string().into())
    }

    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.pending.push_back(chunk);
        }
    }
}

fn error_event(error: &ApiError) -> Bytes {
    format!("{}\n", json!({"type": "ERROR", "object": error.body()})).into()
}
