// SPDX-License-Identifier: Apache-2.0

//! The writer thread: the only one that changes the file.
//!
//! ```text
//! wait for a write -> take what else is queued -> one transaction -> fsync -> publish to the log -> answer everybody
//!                                                      \--I/O error--> tell everybody, open the file again
//! ```
//!
//! Nobody is answered before the transaction is on disk, also not with a conflict, because a conflict may be with a write of the same batch.
//! When the commit fails, every writer of the batch gets the error. What was on disk before is seen again when the file has been opened again: that is
//! all that was acknowledged, and perhaps the failed batch, if the disk failed only in telling that it is written.
//!
//! While the disk is known to be full, writes are refused without being tried, until there is room or [`TRY_AGAIN`] has passed (a quota may be what is full).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::codec::{self, ChangeKind, LogEntry, StoredEntry};
use super::handle::Handle;
use super::log::Log;
use super::pack::{Damaged, Dictionary, Packer};
use super::{
    Bounds, Committed, DICTIONARIES, Expect, Job, LOG, META, META_COMPACTED, META_LOG_BYTES, META_VERSION,
    OBJECTS, Reply, WriteError,
};

/// Writes in one transaction: bounds the memory of a batch and the wait of its first writer.
const BATCH: usize = 512;
/// How often the log is compacted by age.
const COMPACT_EVERY: Duration = Duration::from_secs(10);
/// Removals in one transaction: bounds the pause that compaction makes.
const COMPACT_BATCH: u64 = 4096;
/// Free space of the file system at which a disk that was full counts as full no more.
const ROOM: u64 = 4 << 20;
/// Time after which a write is tried although there is no more room than before.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What the writer shares with the readers.
pub(super) struct Shared {
    pub db: Arc<Handle>,
    pub packer: Arc<Packer>,
    pub log: Arc<Log>,
    pub head: watch::Sender<u64>,
    pub stop: CancellationToken,
}

/// The last commit failed.
struct Trouble {
    since: Instant,
    message: Arc<str>,
    /// For want of space.
    full: bool,
}

pub(super) struct Writer {
    shared: Shared,
    bounds: Bounds,
    trouble: Option<Trouble>,
}

struct Batch {
    version: u64,
    entries: Vec<Arc<LogEntry>>,
    results: Vec<Result<Committed, WriteError>>,
    /// Bytes of the log.
    log_bytes: u64,
    compacted: Option<u64>,
    /// Those that came into the file with it.
    dictionaries: Vec<Arc<Dictionary>>,
}

impl Writer {
    pub fn new(shared: Shared, bounds: Bounds) -> Self {
        Self { shared, bounds, trouble: None }
    }

    pub fn run(mut self, mut queue: mpsc::Receiver<(Job, Reply)>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "store writer cannot start");
                return;
            }
        };
        let stop = self.shared.stop.clone();
        let mut compacted_at = Instant::now();
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            let received = runtime.block_on(async {
                tokio::select! {
                    biased;
                    received = queue.recv_many(&mut jobs, BATCH) => Some(received),
                    () = stop.cancelled() => { queue.close(); Some(queue.recv_many(&mut jobs, BATCH).await) }
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
            self.process(&mut jobs, by_age);
        }
    }

    fn process(&mut self, jobs: &mut Vec<(Job, Reply)>, compact_by_age: bool) {
        let (jobs, replies): (Vec<_>, Vec<_>) = jobs.drain(..).unzip();
        let count = jobs.len();
        let outcome = match self.hopeless() {
            Some(message) => Err(message),
            None => self.commit(&jobs, compact_by_age).map_err(|error| self.failed(&error, count)),
        };
        match outcome {
            Ok(batch) => {
                if self.trouble.take().is_some() {
                    tracing::info!("store writes again");
                }
                batch.dictionaries.iter().for_each(|dictionary| dictionary.set_stored());
                self.publish(batch, replies);
            }
            Err(message) => {
                for reply in replies {
                    drop(reply.send(Err(WriteError::Storage(Arc::clone(&message)))));
                }
            }
        }
    }

    fn publish(&self, batch: Batch, replies: Vec<Reply>) {
        let Shared { log, head, .. } = &self.shared;
        if let Some(version) = batch.compacted {
            log.set_compacted(version);
        }
        let changed = !batch.entries.is_empty();
        log.push(batch.entries);
        if changed {
            head.send_replace(batch.version);
        }
        for (reply, result) in replies.into_iter().zip(batch.results) {
            // The client has gone away; the write stays.
            drop(reply.send(result));
        }
    }

    /// What to answer when it makes no sense to try: the disk is as full as it was.
    fn hopeless(&self) -> Option<Arc<str>> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.full)?;
        let room =
            rustix::fs::statvfs(self.shared.db.path()).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        let tried = trouble.since.elapsed() < TRY_AGAIN && room.is_ok_and(|room| room < ROOM);
        tried.then(|| Arc::clone(&trouble.message))
    }

    /// Opens the file again; gives what the writers are told.
    fn failed(&mut self, error: &redb::Error, writes: usize) -> Arc<str> {
        let full = matches!(error, redb::Error::Io(error) if is_full(error));
        let path = self.shared.db.path().display();
        let fix = if full { "; make room, and writes go on" } else { "" };
        let message: Arc<str> = format!("storage: {path} cannot be written: {error}{fix}").into();
        if self.trouble.is_none() || !full {
            tracing::error!(%error, writes, "store cannot commit");
        }
        self.trouble = Some(Trouble { since: Instant::now(), message: Arc::clone(&message), full });
        match self.shared.db.reopen() {
            Ok(opened) => {
                self.shared.log.reset(opened.version, opened.compacted);
                self.shared.head.send_replace(opened.version);
            }
            Err(error) => tracing::error!(%error, "store cannot be opened again"),
        }
        message
    }

    fn commit(&self, jobs: &[Job], compact_by_age: bool) -> Result<Batch, redb::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let db = self.shared.db.current().ok_or(redb::Error::DatabaseClosed)?;
        let txn = db.begin_write()?;
        let mut batch = Batch {
            version: 0,
            entries: Vec::with_capacity(jobs.len()),
            results: Vec::with_capacity(jobs.len()),
            log_bytes: 0,
            compacted: None,
            dictionaries: Vec::new(),
        };
        {
            let mut objects = txn.open_table(OBJECTS)?;
            let mut log = txn.open_table(LOG)?;
            let mut meta = txn.open_table(META)?;
            batch.version = meta.get(META_VERSION)?.map_or(1, |v| v.value());
            batch.log_bytes = meta.get(META_LOG_BYTES)?.map_or(0, |v| v.value());
            for job in jobs {
                match self.apply(&mut objects, job, batch.version + 1, now)? {
                    Ok((entry, encoded)) => {
                        if keep_dictionary(&txn, &job.packed.dictionary)? {
                            batch.dictionaries.push(Arc::clone(&job.packed.dictionary));
                        }
                        batch.version += 1;
                        batch.log_bytes += encoded.len() as u64;
                        log.insert(batch.version, encoded.as_slice())?;
                        batch.results.push(Ok(Committed { bytes: entry.object.clone() }));
                        batch.entries.push(Arc::new(entry));
                    }
                    Err(refused) => batch.results.push(Err(refused)),
                }
            }
            self.compact(&mut log, &mut batch, now, compact_by_age)?;
            if !batch.entries.is_empty() {
                meta.insert(META_VERSION, batch.version)?;
            }
            if let Some(version) = batch.compacted {
                meta.insert(META_COMPACTED, version)?;
            }
            meta.insert(META_LOG_BYTES, batch.log_bytes)?;
        }
        if batch.entries.is_empty() && batch.compacted.is_none() {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok(batch)
    }

    /// Removes the oldest log entries beyond the bounds.
    fn compact(
        &self,
        log: &mut Table<'_, u64, &[u8]>,
        batch: &mut Batch,
        now: u64,
        by_age: bool,
    ) -> Result<(), redb::Error> {
        // Some slack, so that a busy store does not compact in every transaction.
        let excess = |found: u64, bound: u64| {
            let excess = found.saturating_sub(bound);
            if excess > bound / 16 { excess } else { 0 }
        };
        let mut entries = excess(log.len()?, self.bounds.log_entries).min(COMPACT_BATCH);
        let mut bytes = excess(batch.log_bytes, self.bounds.log_bytes);
        let horizon = if by_age { now.saturating_sub(self.bounds.log_age.as_secs()) } else { 0 };
        if entries == 0 && bytes == 0 && horizon == 0 {
            return Ok(());
        }
        for row in log.iter()?.take(usize::try_from(COMPACT_BATCH).unwrap_or(usize::MAX)) {
            let (version, encoded) = row?;
            // An entry that does not decode goes with those around it.
            let old = StoredEntry::decode(encoded.value()).is_some_and(|entry| entry.at < horizon);
            if entries == 0 && bytes == 0 && !old {
                break;
            }
            let size = encoded.value().len() as u64;
            entries = entries.saturating_sub(1);
            bytes = bytes.saturating_sub(size);
            batch.log_bytes = batch.log_bytes.saturating_sub(size);
            batch.compacted = Some(version.value());
        }
        if let Some(version) = batch.compacted {
            log.retain_in(..=version, |_, _| false)?;
        }
        Ok(())
    }

    /// Checks and makes one write inside the transaction. The outer error is the transaction's, the inner one the writer's.
    fn apply(
        &self,
        objects: &mut Table<'_, &str, &[u8]>,
        job: &Job,
        version: u64,
        now: u64,
    ) -> Result<Result<(LogEntry, Vec<u8>), WriteError>, redb::Error> {
        if let Some(required) = &job.requires
            && objects.get(required.as_str())?.is_none()
        {
            return Ok(Err(WriteError::RequirementGone));
        }
        let key = job.key.as_str();
        let (current, before) = {
            let stored = objects.get(key)?;
            let record = stored.as_ref().map(redb::AccessGuard::value);
            let before = record.filter(|_| job.keep_previous).map(<[u8]>::to_vec);
            (record.and_then(codec::record_version), before.unwrap_or_default())
        };
        match (job.expect, current) {
            (Expect::Absent, None) => {}
            (Expect::Absent, Some(_)) => return Ok(Err(WriteError::Exists)),
            (Expect::Version(wanted), Some(found)) if wanted == found => {}
            (Expect::Version(_), _) => return Ok(Err(WriteError::Conflict)),
        }
        let previous = match self.previous(&before) {
            Ok(previous) => previous,
            Err(Damaged) => return Ok(Err(damaged(&job.key))),
        };
        let kind = match (job.removes, current) {
            (true, _) => ChangeKind::Deleted,
            (false, None) => ChangeKind::Added,
            (false, Some(_)) => ChangeKind::Modified,
        };
        let packed = &job.packed.bytes;
        if kind == ChangeKind::Deleted {
            objects.remove(key)?;
        } else {
            objects.insert(key, codec::encode_record(version, packed).as_slice())?;
        }
        let encoded = StoredEntry { kind, at: now, key, object: packed, previous: &before }.encode();
        let (key, object) = (job.key.clone(), job.text.at(version));
        Ok(Ok((LogEntry { version, kind, key, object, previous }, encoded)))
    }

    fn previous(&self, record: &[u8]) -> Result<Option<Bytes>, Damaged> {
        if record.is_empty() {
            return Ok(None);
        }
        codec::decode_record(&self.shared.packer, record).map(|(_, json)| Some(json))
    }
}

fn damaged(key: &super::Key) -> WriteError {
    WriteError::Storage(format!("damaged record {:?}", key.as_str().replace('\0', "/")).into())
}

/// Writes a dictionary in the transaction of the first record that needs it; false when it is in the file already.
pub(super) fn keep_dictionary(txn: &WriteTransaction, dictionary: &Dictionary) -> Result<bool, redb::Error> {
    if dictionary.is_stored() {
        return Ok(false);
    }
    let row = (dictionary.resource.as_str(), dictionary.content.as_slice());
    txn.open_table(DICTIONARIES)?.insert(dictionary.number, row)?;
    Ok(true)
}

/// No space on the file system, or none left for this user or process.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
