// SPDX-License-Identifier: Apache-2.0

//! Lists, written as they are read.
//!
//! ```text
//! head -> chunks of items, each read from one snapshot when the client has taken the one before -> metadata with the continue token
//! ```
//!
//! Whatever the size of a collection, an answer holds one chunk in memory. A list that fits into the first chunk is answered in one piece; in others an
//! error after the first chunk breaks the answer off, so that no client takes a part for the whole. The metadata comes last, as in the lists of custom
//! resources that kube-apiserver writes: the continue token is known only then.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::Value;

use super::past::Past;
use super::read::Continue;
use crate::body::{self, Answer, BoxError};
use crate::inner::Inner;
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::{Key, Prefix, ReadError, Snapshot, Stored};
use crate::view::{ListMeta, View};

/// Objects of a chunk.
const CHUNK: usize = 512;
/// Bytes of a chunk's objects; at least one object is in it.
const CHUNK_BYTES: usize = 512 << 10;

/// What is listed.
pub(super) struct Listing {
    pub snapshot: Arc<Snapshot>,
    /// The version that is shown, and what was different then.
    pub version: u64,
    pub past: Option<Arc<Past>>,
    pub prefix: Prefix,
    pub after: Option<Key>,
    pub selector: Selector,
    pub view: View,
    /// Objects still to be shown.
    pub left: usize,
    /// Objects that follow `after`, where the request that began the list has counted them.
    pub following: Option<usize>,
}

/// Objects in a row.
struct Chunk {
    items: Vec<Bytes>,
    /// The last one that was looked at, when there may be more.
    last: Option<Key>,
}

/// How a list ends.
struct End {
    /// The last object that was shown, when more follow it.
    more: Option<Key>,
    following: Option<usize>,
}

/// Answers with a list; a snapshot from which it goes on later is kept.
pub(super) async fn answer(inner: Arc<Inner>, listing: Listing) -> Result<Answer, ApiError> {
    let (listing, chunk) = listing.next().await?;
    let mut out = BytesMut::new();
    out.extend_from_slice(&listing.view.list_head());
    listing.view.list_items(&mut out, &chunk.items, true)?;
    if chunk.last.is_none() || listing.left == 0 {
        out.extend_from_slice(&listing.tail(&inner, chunk.items.is_empty()).await?);
        return Ok(body::answer(StatusCode::OK, "application/json", out.freeze()));
    }
    let begun = !chunk.items.is_empty();
    let rest = futures::stream::try_unfold(Some((listing, begun)), move |state| {
        let inner = Arc::clone(&inner);
        async move {
            let Some((listing, begun)) = state else { return Ok(None) };
            let step = listing.step(&inner, begun).await;
            step.map(Some).map_err(|error| {
                tracing::error!(error = %error.body(), "a list is broken off");
                BoxError::from(error.body().to_string())
            })
        }
    });
    let first = futures::stream::once(async move { Ok::<_, BoxError>(out.freeze()) });
    Ok(body::try_stream("application/json", futures::StreamExt::chain(first, rest)))
}

impl Listing {
    /// The next bytes of the answer, and what comes after them.
    async fn step(self, inner: &Inner, begun: bool) -> Result<(Bytes, Option<(Self, bool)>), ApiError> {
        let (listing, chunk) = self.next().await?;
        let mut out = BytesMut::new();
        listing.view.list_items(&mut out, &chunk.items, !begun)?;
        if chunk.last.is_some() && listing.left > 0 {
            let begun = begun || !chunk.items.is_empty();
            return Ok((out.freeze(), Some((listing, begun))));
        }
        out.extend_from_slice(&listing.tail(inner, !begun && chunk.items.is_empty()).await?);
        Ok((out.freeze(), None))
    }

    /// Reads the next chunk.
    async fn next(mut self) -> Result<(Self, Chunk), ApiError> {
        let read = tokio::task::spawn_blocking(move || {
            let chunk = self.read();
            (self, chunk)
        });
        let (mut listing, chunk) = read.await.map_err(ApiError::internal)?;
        let chunk = chunk?;
        listing.left = listing.left.saturating_sub(chunk.items.len());
        listing.after = chunk.last.clone();
        Ok((listing, chunk))
    }

    fn read(&mut self) -> Result<Chunk, ReadError> {
        let mut chunk = Chunk { items: Vec::new(), last: None };
        let only_name = self.selector.only_name().filter(|_| self.past.is_none());
        let named = only_name.and_then(|name| self.snapshot.named(&self.prefix, name));
        if let Some(found) = named {
            let found = found?.map(|stored| self.view.served.renewed(stored));
            chunk.items.extend(found.filter(|stored| self.wants(stored)).map(|stored| stored.bytes));
            return Ok(chunk);
        }
        let (mut seen, mut bytes) = (0, 0);
        self.scan(self.after.as_ref(), |stored| {
            let stored = self.view.served.renewed(stored);
            seen += 1;
            bytes += stored.bytes.len();
            let wanted = self.wants(&stored);
            let full =
                seen >= CHUNK || bytes >= CHUNK_BYTES || chunk.items.len() + usize::from(wanted) >= self.left;
            if wanted {
                chunk.items.push(stored.bytes);
            }
            if full {
                chunk.last = Some(stored.key);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        self.following = self.following.map(|following| following.saturating_sub(seen));
        Ok(chunk)
    }

    /// Visits the objects after `after` as they were at the version that is shown, in the order of their keys.
    fn scan(
        &self,
        after: Option<&Key>,
        mut visit: impl FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Some(past) = &self.past else { return self.snapshot.scan(&self.prefix, after, visit) };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut before = past.range((start, Bound::Unbounded)).peekable();
        let mut going = ControlFlow::Continue(());
        self.snapshot.scan(&self.prefix, after, |stored| {
            let mut replaced = false;
            while let Some((key, was)) = before.next_if(|(key, _)| **key <= stored.key) {
                replaced |= *key == stored.key;
                if let Some(was) = was {
                    going = visit(was.clone());
                    if going.is_break() {
                        return going;
                    }
                }
            }
            if !replaced {
                going = visit(stored);
            }
            going
        })?;
        for was in before.filter_map(|(_, was)| was.clone()) {
            if going.is_break() {
                break;
            }
            going = visit(was);
        }
        Ok(())
    }

    /// How many objects follow one.
    fn count(&self, after: &Key) -> Result<usize, ReadError> {
        if self.past.is_none() {
            return self.snapshot.count(&self.prefix, Some(after));
        }
        let mut count = 0;
        self.scan(Some(after), |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    fn wants(&self, stored: &Stored) -> bool {
        if self.selector.is_everything() {
            return true;
        }
        let value = serde_json::from_slice::<Value>(&stored.bytes);
        value.is_ok_and(|value| self.selector.matches(&self.view.served.request_form(value)))
    }

    /// What follows the last object that was shown.
    fn end(&self) -> Result<End, ReadError> {
        let nothing = End { more: None, following: None };
        let Some(after) = self.after.as_ref().filter(|_| self.left == 0) else { return Ok(nothing) };
        if self.selector.is_everything() {
            let following = match self.following {
                Some(following) => following,
                None => self.count(after)?,
            };
            let more = (following > 0).then(|| after.clone());
            return Ok(End { more, following: Some(following) });
        }
        // Whether the selector picks any of those that follow is found by whoever asks for them.
        let mut more = None;
        self.scan(Some(after), |_| {
            more = Some(after.clone());
            ControlFlow::Break(())
        })?;
        Ok(End { more, following: None })
    }

    async fn tail(self, inner: &Inner, empty: bool) -> Result<Bytes, ApiError> {
        let ended = tokio::task::spawn_blocking(move || {
            let end = self.end();
            (self, end)
        });
        let (listing, end) = ended.await.map_err(ApiError::internal)?;
        let End { more, following } = end?;
        let version = listing.version;
        let mut meta = ListMeta { version, ..ListMeta::default() };
        if let Some(last) = more {
            meta.continue_token = Some(Continue::after(version, &last, following).encode()?);
            meta.remaining = following;
            if listing.past.is_none() {
                inner.snapshots.keep(listing.snapshot);
            }
        }
        Ok(listing.view.list_tail(&meta, empty))
    }
}
