// SPDX-License-Identifier: Apache-2.0

//! The one crash-safe file that holds every object and the log of what changed.
//!
//! Owns the redb database (`handle`), the store-wide resource version, the writer thread (`writer`) and the change log (`log`). The request handlers read
//! through [`Snapshot`]s (consistent, never blocked by the writer) and write by sending one [`Write`] to the writer thread, which gathers what is queued
//! into one fsynced transaction and answers after it. Watches read the log by position, so a slow reader costs nothing but its position.
//!
//! Object and log entry are written in one transaction: there is no change without its event and no event without its change.
//! This module knows keys and bytes; of an object it sets `metadata.resourceVersion`, and looks at the rest only to compress it (`pack`).
//!
//! | bound | what happens at it |
//! |---|---|
//! | [`WRITE_QUEUE`] writes, [`QUEUE_BYTES`] of objects waiting | further writers wait |
//! | `Bounds::log_entries`, `log_age`, `log_bytes` | the oldest entries are removed; a watch from before them gets 410 |
//! | entries and bytes of the log in memory (`log`) | older entries are read from disk |
//! | `Bounds::cache_bytes` | pages are read from disk again |
//! | the disk is full, or the file cannot be written | writes fail with that message; reads and watches go on; the writer tries again (`writer`) |

mod codec;
mod handle;
mod log;
mod migrate;
mod open;
mod pack;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadTransaction, TableDefinition};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub(crate) use codec::{ChangeKind, LogEntry};
pub use open::{OpenError, opens_a_store};

use handle::Handle;
use pack::{Packed, Packer, Text};

/// `resource \0 namespace \0 name` to the record of an object (`codec`).
const OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// Resource version to encoded [`LogEntry`].
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("changes");
/// Number of a dictionary to its resource and content (`pack`).
const DICTIONARIES: TableDefinition<u32, (&str, &[u8])> = TableDefinition::new("dictionaries");
/// Counters: format, last resource version, last compacted resource version, bytes of the log.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_VERSION: &str = "resourceVersion";
const META_COMPACTED: &str = "compacted";
const META_LOG_BYTES: &str = "logBytes";
/// A number that the server keeps for its next start ([`Store::note`]).
const META_NOTE: &str = "note";

/// Layout of the file. A file with a higher number is refused, one with a lower is brought to this one.
const FORMAT: u64 = 2;

/// Writes that wait for the writer thread. When the queue is full, further writers wait: that is the back-pressure.
const WRITE_QUEUE: usize = 1024;
/// Bytes of the objects that wait for the writer thread or are being written; beyond it, further writers wait. The largest object is far smaller.
const QUEUE_BYTES: usize = 32 << 20;

/// Bounds of the store.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub log_entries: u64,
    pub log_age: Duration,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    pub cache_bytes: usize,
}

/// Name of one stored object: `group/plural`, namespace (empty when cluster-scoped), name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{resource}\0{namespace}\0{name}"))
    }

    fn from_stored(encoded: &str) -> Self {
        Self(encoded.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('\0').nth(index).unwrap_or_default()
    }

    pub fn resource(&self) -> &str {
        self.part(0)
    }

    pub fn namespace(&self) -> &str {
        self.part(1)
    }

    pub fn name(&self) -> &str {
        self.part(2)
    }
}

/// All objects of a resource, or those in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    pub fn new(resource: &str, namespace: Option<&str>) -> Self {
        Self(match namespace {
            Some(namespace) => format!("{resource}\0{namespace}\0"),
            None => format!("{resource}\0"),
        })
    }

    /// Every object of every resource.
    pub fn everything() -> Self {
        Self(String::new())
    }

    pub fn contains(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }
}

/// What the writer requires of the stored object at the moment of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    Version(u64),
}

/// What to do with the object.
#[derive(Debug)]
pub(crate) enum Change {
    /// Store this; the writer fills in the resource version.
    Put(Value),
    /// Remove it; the value is its last state, which watchers see (with the resource version of the removal).
    Delete(Value),
}

/// One write.
#[derive(Debug)]
pub(crate) struct Write {
    pub key: Key,
    pub expect: Expect,
    pub change: Change,
    /// A key that must exist in the same transaction: an object's namespace.
    pub requires: Option<Key>,
    /// Log the state before as well: set when a selector could tell the two states apart.
    pub keep_previous: bool,
}

/// A write that is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub bytes: Bytes,
}

/// Why a write was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    /// `Expect::Absent`, but it is there. Not retried.
    #[error("object exists")]
    Exists,
    /// The object changed or went away since it was read. Retried by the handlers where the client did not pin a version.
    #[error("object has changed")]
    Conflict,
    /// The required key is gone. Not retried.
    #[error("required object is gone")]
    RequirementGone,
    /// The file could not be written (disk full, I/O); the text says which file and why. Not retried here: the client is told. Whether the write was
    /// made is not known when the disk failed while it was flushed.
    #[error("{0}")]
    Storage(Arc<str>),
    /// The object could not be serialised. Not retried.
    #[error("serialise: {0}")]
    Serialise(Arc<serde_json::Error>),
    /// The object could not be compressed. Not retried.
    #[error(transparent)]
    Refused(#[from] pack::Refused),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// I/O or damage. Not retried.
    #[error("storage: {0}")]
    Storage(Box<redb::Error>),
    /// A record that does not decode: damage. Not retried.
    #[error("damaged record {0:?}; stop the server, and restore a backup if it is found again at the start")]
    Damaged(String),
    /// The file is being opened again after an I/O error. Retried by the client.
    #[error("the store is being opened again after an I/O error")]
    Interrupted,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Interrupted,
            error => Self::Storage(Box::new(error)),
        }
    }
}

/// A position in the log that is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub oldest: u64,
}

/// Result of reading the log.
pub(crate) type LogRead = Result<Vec<Arc<LogEntry>>, Compacted>;

type Reply = oneshot::Sender<Result<Committed, WriteError>>;

/// A [`Write`] in the form in which it goes into the file.
#[derive(Debug)]
struct Job {
    key: Key,
    expect: Expect,
    removes: bool,
    text: Text,
    packed: Packed,
    requires: Option<Key>,
    keep_previous: bool,
    /// Its part of [`QUEUE_BYTES`].
    _room: OwnedSemaphorePermit,
}

/// Handle on the store; cheap to share behind an `Arc`.
pub(crate) struct Store {
    db: Arc<Handle>,
    packer: Arc<Packer>,
    queue: mpsc::Sender<(Job, Reply)>,
    /// Room in the queue, in KiB.
    room: Arc<Semaphore>,
    log: Arc<log::Log>,
    head: watch::Receiver<u64>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl Store {
    /// Opens or creates the file and starts the writer thread.
    pub fn open(path: PathBuf, bounds: Bounds) -> Result<Self, OpenError> {
        let (db, opened) = open::open(&path, bounds.cache_bytes)?.split();
        let db = Arc::new(Handle::new(path, bounds.cache_bytes, db));
        let packer = Arc::new(opened.packer);
        let (head_sender, head) = watch::channel(opened.version);
        let log = Arc::new(log::Log::new(opened.version, opened.compacted));
        let (queue, receiver) = mpsc::channel(WRITE_QUEUE);
        let stop = tokio_util::sync::CancellationToken::new();
        let shared = writer::Shared {
            db: Arc::clone(&db),
            packer: Arc::clone(&packer),
            log: Arc::clone(&log),
            head: head_sender,
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("apiserver-store".into())
            .spawn(move || writer::Writer::new(shared, bounds).run(receiver))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            db,
            packer,
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES / 1024)),
            log,
            head,
            writer: std::sync::Mutex::new(Some(thread)),
            stop,
        })
    }

    /// A consistent view of everything committed so far.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let txn = self.db.read()?;
        let version = txn.open_table(META)?.get(META_VERSION)?.map_or(0, |v| v.value());
        Ok(Snapshot { txn, version, packer: Arc::clone(&self.packer) })
    }

    /// Makes one write; returns when it is on disk.
    pub async fn write(&self, write: Write) -> Result<Committed, WriteError> {
        let Write { key, expect, change, requires, keep_previous } = write;
        let removes = matches!(change, Change::Delete(_));
        let (Change::Put(mut object) | Change::Delete(mut object)) = change;
        let text = Text::of(&mut object).map_err(|error| WriteError::Serialise(Arc::new(error)))?;
        let packed = self.packer.pack(key.resource(), &object, &text)?;
        drop(object);
        let size = (text.len() / 1024 + 1).min(QUEUE_BYTES / 1024);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.map_err(|_| WriteError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { key, expect, removes, text, packed, requires, keep_previous, _room: room };
        self.queue.send((job, reply)).await.map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)?
    }

    /// Keeps a number for the next start. Blocks on disk.
    pub fn note(&self, value: u64) -> Result<(), ReadError> {
        let txn = self.db.current().ok_or(ReadError::Closed)?.begin_write()?;
        txn.open_table(META)?.insert(META_NOTE, value)?;
        Ok(txn.commit()?)
    }

    /// The number that was kept last.
    pub fn noted(&self) -> Result<Option<u64>, ReadError> {
        Ok(self.db.read()?.open_table(META)?.get(META_NOTE)?.map(|value| value.value()))
    }

    /// Changes after `version`, oldest first, at most `limit`; blocks on disk when they are no longer in memory.
    pub fn changes(&self, version: u64, limit: usize) -> Result<LogRead, ReadError> {
        if let Some(entries) = self.log.after(version, limit) {
            return Ok(entries);
        }
        log::read_from_disk(&self.db.read()?, &self.packer, version, limit)
    }

    /// The newest committed resource version; changes when something is committed.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Stops the writer after what it has accepted is on disk, and closes the file. Later calls answer `Closed`.
    pub async fn close(&self) {
        self.stop.cancel();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("store writer thread panicked");
            }
        }
        self.db.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One stored object.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub key: Key,
    pub version: u64,
    pub bytes: Bytes,
}

/// A consistent view of the store at one resource version.
pub(crate) struct Snapshot {
    txn: ReadTransaction,
    version: u64,
    packer: Arc<Packer>,
}

impl Snapshot {
    /// The resource version this view shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, key: &Key) -> Result<Option<Stored>, ReadError> {
        let table = self.txn.open_table(OBJECTS)?;
        let Some(value) = table.get(key.as_str())? else { return Ok(None) };
        codec::decode_object(&self.packer, key.clone(), value.value()).map(Some)
    }

    /// The object of that name under a prefix that fixes the namespace; None when the prefix spans namespaces. The shortcut for selectors that name one
    /// object.
    pub fn named(&self, prefix: &Prefix, name: &str) -> Option<Result<Option<Stored>, ReadError>> {
        let whole = prefix.0.matches('\0').count() == 2;
        whole.then(|| self.get(&Key(format!("{}{name}", prefix.0))))
    }

    /// Visits the objects under `prefix` in key order, those after `after` only; stops when `visit` says so.
    pub fn scan(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        mut visit: impl FnMut(Stored) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.rows(prefix, after, |key, record| {
            Ok(visit(codec::decode_object(&self.packer, Key::from_stored(key), record)?))
        })
    }

    /// How many objects are under `prefix` after `after`; decodes none.
    pub fn count(&self, prefix: &Prefix, after: Option<&Key>) -> Result<usize, ReadError> {
        let mut count = 0;
        self.rows(prefix, after, |_, _| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    fn rows(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        mut visit: impl FnMut(&str, &[u8]) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let table = self.txn.open_table(OBJECTS)?;
        let start = match after {
            Some(key) => Bound::Excluded(key.as_str()),
            None => Bound::Included(prefix.0.as_str()),
        };
        for entry in table.range::<&str>((start, Bound::Unbounded))? {
            let (key, value) = entry?;
            if !key.value().starts_with(&prefix.0) || visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// False when the file was opened again since: nothing more can be read from here.
    pub fn is_open(&self) -> bool {
        self.txn.open_table(META).is_ok()
    }
}
