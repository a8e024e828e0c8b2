// SPDX-License-Identifier: Apache-2.0

//! The change log as readers see it: the newest entries in memory, older ones on disk, compacted ones nowhere.
//!
//! The writer thread pushes after each commit; watches and the garbage collector read by position. A reader that falls behind the memory window reads
//! from disk, and one that falls behind compaction is told so. No reader can make the log grow, and none is given more than a bounded number of bytes
//! at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use redb::ReadTransaction;

use super::pack::Packer;
use super::{Compacted, LOG, LogEntry, LogRead, META, META_COMPACTED, META_VERSION, ReadError, codec};

/// Entries kept in memory; beyond it the oldest leave memory (they stay on disk until compaction).
const MEMORY_ENTRIES: usize = 4096;
/// Bytes kept in memory; beyond it the oldest leave memory. Watchers that keep up need the last few only.
const MEMORY_BYTES: usize = 4 << 20;
/// Bytes of the entries that are read from disk at once; at least one entry is.
const READ_BYTES: usize = 1 << 20;

struct Window {
    entries: VecDeque<Arc<LogEntry>>,
    bytes: usize,
    /// Every entry with a version above this one, up to `head`, is in `entries`.
    floor: u64,
    head: u64,
    compacted: u64,
}

pub(super) struct Log {
    window: Mutex<Window>,
}

impl Log {
    pub fn new(head: u64, compacted: u64) -> Self {
        Self {
            window: Mutex::new(Window { entries: VecDeque::new(), bytes: 0, floor: head, head, compacted }),
        }
    }

    /// Adds what was just committed, oldest first.
    pub fn push(&self, entries: Vec<Arc<LogEntry>>) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            window.head = entry.version;
            window.bytes += entry.weight();
            window.entries.push_back(entry);
        }
        while window.entries.len() > MEMORY_ENTRIES || window.bytes > MEMORY_BYTES {
            let Some(oldest) = window.entries.pop_front() else { break };
            window.bytes = window.bytes.saturating_sub(oldest.weight());
            window.floor = oldest.version;
        }
    }

    /// Starts again at what the file holds, after it was opened again.
    pub fn reset(&self, head: u64, compacted: u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        *window = Window { entries: VecDeque::new(), bytes: 0, floor: head, head, compacted };
    }

    /// Notes that entries up to and including `version` are gone.
    pub fn set_compacted(&self, version: u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.compacted = window.compacted.max(version);
    }

    /// Entries after `version`, or `None` when they have to come from disk.
    pub fn after(&self, version: u64, limit: usize) -> Option<LogRead> {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if version < window.compacted {
            return Some(Err(Compacted { oldest: window.compacted }));
        }
        if version < window.floor {
            return None;
        }
        let start = window.entries.partition_point(|entry| entry.version <= version);
        Some(Ok(window.entries.iter().skip(start).take(limit).cloned().collect()))
    }
}

pub(super) fn read_from_disk(
    txn: &ReadTransaction,
    packer: &Packer,
    version: u64,
    limit: usize,
) -> Result<LogRead, ReadError> {
    let meta = txn.open_table(META)?;
    let compacted = meta.get(META_COMPACTED)?.map_or(0, |v| v.value());
    if version < compacted {
        return Ok(Err(Compacted { oldest: compacted }));
    }
    let head = meta.get(META_VERSION)?.map_or(0, |v| v.value());
    let table = txn.open_table(LOG)?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    if version < head {
        for row in table.range(version.saturating_add(1)..)?.take(limit) {
            let (at, encoded) = row?;
            let entry = codec::decode_entry(packer, at.value(), encoded.value())?;
            bytes += entry.weight();
            entries.push(Arc::new(entry));
            if bytes >= READ_BYTES {
                break;
            }
        }
    }
    Ok(Ok(entries))
}
