// SPDX-License-Identifier: Apache-2.0

//! The writer thread: the only one that changes the file.
//!
//! ```text
//! wait for a write -> take what else is queued -> one transaction -> fsync -> publish to the log -> answer everybody
//! ```
//!
//! Nobody is answered before the transaction is on disk, also not with a conflict, because a conflict may be with a write of the same batch.
//! When the commit fails, every writer of the batch gets the error and nothing of it is seen by anyone.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redb::{Database, ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::codec::{self, ChangeKind, LogEntry};
use super::log::Log;
use super::{
    Bounds, Change, Committed, Expect, LOG, META, META_COMPACTED, META_VERSION, OBJECTS, Reply, Write,
    WriteError,
};

/// Writes in one transaction: bounds the memory of a batch and the wait of its first writer.
const BATCH: usize = 512;
/// How often the log is compacted by age.
const COMPACT_EVERY: Duration = Duration::from_secs(30);
/// Removals in one transaction: bounds the pause that compaction makes.
const COMPACT_BATCH: u64 = 4096;

pub(super) struct Writer {
    db: Arc<Database>,
    log: Arc<Log>,
    bounds: Bounds,
    head: watch::Sender<u64>,
    stop: CancellationToken,
}

struct Batch {
    version: u64,
    entries: Vec<Arc<LogEntry>>,
    results: Vec<Result<Committed, WriteError>>,
    compacted: Option<u64>,
}

impl Writer {
    pub fn new(
        db: Arc<Database>,
        log: Arc<Log>,
        bounds: Bounds,
        head: watch::Sender<u64>,
        stop: CancellationToken,
    ) -> Self {
        Self { db, log, bounds, head, stop }
    }

    pub fn run(self, mut queue: mpsc::Receiver<(Write, Reply)>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "store writer cannot start");
                return;
            }
        };
        let mut compacted_at = Instant::now();
        let mut writes = Vec::with_capacity(BATCH);
        loop {
            let received = runtime.block_on(async {
                tokio::select! {
                    biased;
                    received = queue.recv_many(&mut writes, BATCH) => Some(received),
                    () = self.stop.cancelled() => { queue.close(); Some(queue.recv_many(&mut writes, BATCH).await) }
                    () = tokio::time::sleep(COMPACT_EVERY) => None,
                }
            });
            if received == Some(0) {
                return;
            }
            let by_age = compacted_at.elapsed() >= COMPACT_EVERY;
            if by_age {
                compacted_at = Instant::now();
            }
            self.process(&mut writes, by_age);
        }
    }

    fn process(&self, writes: &mut Vec<(Write, Reply)>, compact_by_age: bool) {
        let (writes, replies): (Vec<_>, Vec<_>) = writes.drain(..).unzip();
        let count = writes.len();
        match self.commit(writes, compact_by_age) {
            Ok(batch) => {
                if let Some(version) = batch.compacted {
                    self.log.set_compacted(version);
                }
                let changed = !batch.entries.is_empty();
                self.log.push(batch.entries);
                if changed {
                    self.head.send_replace(batch.version);
                }
                for (reply, result) in replies.into_iter().zip(batch.results) {
                    // The client has gone away; the write stays.
                    drop(reply.send(result));
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = count, "store cannot commit");
                let error = Arc::new(error);
                for reply in replies {
                    drop(reply.send(Err(WriteError::Storage(Arc::clone(&error)))));
                }
            }
        }
    }

    fn commit(&self, writes: Vec<Write>, compact_by_age: bool) -> Result<Batch, redb::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let txn = self.db.begin_write()?;
        let mut batch = Batch {
            version: 0,
            entries: Vec::with_capacity(writes.len()),
            results: Vec::with_capacity(writes.len()),
            compacted: None,
        };
        {
            let mut objects = txn.open_table(OBJECTS)?;
            let mut log = txn.open_table(LOG)?;
            let mut meta = txn.open_table(META)?;
            batch.version = meta.get(META_VERSION)?.map_or(1, |v| v.value());
            for write in writes {
                match apply(&mut objects, write, batch.version + 1, now)? {
                    Ok(entry) => {
                        batch.version += 1;
                        log.insert(batch.version, entry.encode().as_slice())?;
                        batch.results.push(Ok(Committed { bytes: entry.object.clone() }));
                        batch.entries.push(Arc::new(entry));
                    }
                    Err(refused) => batch.results.push(Err(refused)),
                }
            }
            if !batch.entries.is_empty() {
                meta.insert(META_VERSION, batch.version)?;
            }
        }
        batch.compacted = self.compact(&txn, now, compact_by_age)?;
        if batch.entries.is_empty() && batch.compacted.is_none() {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok(batch)
    }

    /// Removes the oldest log entries beyond the bounds; returns the newest removed version.
    fn compact(&self, txn: &WriteTransaction, now: u64, by_age: bool) -> Result<Option<u64>, redb::Error> {
        let mut log = txn.open_table(LOG)?;
        let excess = log.len()?.saturating_sub(self.bounds.log_entries);
        // Some slack, so that a busy store does not compact in every transaction.
        let by_count = excess > self.bounds.log_entries / 16;
        let mut removed = None;
        for _ in 0..COMPACT_BATCH.min(if by_count { excess } else { 0 }) {
            let Some((version, _)) = log.pop_first()? else { break };
            removed = Some(version.value());
        }
        if by_age {
            let horizon = now.saturating_sub(self.bounds.log_age.as_secs());
            for _ in 0..COMPACT_BATCH {
                let Some((version, old)) = oldest(&log)? else { break };
                if old.is_none_or(|at| at >= horizon) {
                    break;
                }
                log.pop_first()?;
                removed = Some(version);
            }
        }
        drop(log);
        if let Some(version) = removed {
            txn.open_table(META)?.insert(META_COMPACTED, version)?;
        }
        Ok(removed)
    }
}

fn oldest(log: &Table<'_, u64, &[u8]>) -> Result<Option<(u64, Option<u64>)>, redb::Error> {
    let Some((version, encoded)) = log.first()? else { return Ok(None) };
    let version = version.value();
    Ok(Some((version, LogEntry::decode(version, encoded.value()).ok().map(|entry| entry.at))))
}

/// Checks and makes one write inside the transaction. The outer error is the transaction's, the inner one the writer's.
fn apply(
    objects: &mut Table<'_, &str, &[u8]>,
    write: Write,
    version: u64,
    now: u64,
) -> Result<Result<LogEntry, WriteError>, redb::Error> {
    let Write { key, expect, change, requires, keep_previous } = write;
    if let Some(required) = requires
        && objects.get(required.as_str())?.is_none()
    {
        return Ok(Err(WriteError::RequirementGone));
    }
    let (current, previous) = {
        let stored = objects.get(key.as_str())?;
        let current = stored.as_ref().and_then(|value| codec::object_version(value.value()));
        let previous = stored
            .filter(|_| keep_previous)
            .and_then(|value| value.value().get(8..).map(Bytes::copy_from_slice));
        (current, previous)
    };
    match (expect, current) {
        (Expect::Absent, None) => {}
        (Expect::Absent, Some(_)) => return Ok(Err(WriteError::Exists)),
        (Expect::Version(wanted), Some(found)) if wanted == found => {}
        (Expect::Version(_), _) => return Ok(Err(WriteError::Conflict)),
    }
    let (kind, mut object) = match change {
        Change::Put(object) if current.is_none() => (ChangeKind::Added, object),
        Change::Put(object) => (ChangeKind::Modified, object),
        Change::Delete(object) => (ChangeKind::Deleted, object),
    };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), Value::String(version.to_string()));
    }
    let object = match serde_json::to_vec(&object) {
        Ok(json) => Bytes::from(json),
        Err(error) => return Ok(Err(WriteError::Serialise(Arc::new(error)))),
    };
    match kind {
        ChangeKind::Deleted => {
            objects.remove(key.as_str())?;
        }
        ChangeKind::Added | ChangeKind::Modified => {
            objects.insert(key.as_str(), codec::encode_object(version, &object).as_slice())?;
        }
    }
    Ok(Ok(LogEntry { version, kind, key, object, previous, at: now }))
}
