// SPDX-License-Identifier: Apache-2.0
//! What an observer may read while an image is written, and the switch that stops the writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters of one write, shared between the pipeline (writes) and its observers (read). Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    written: AtomicU64,
    zero: AtomicU64,
    total: AtomicU64,
}

/// The counters at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Taken from the source, as downloaded.
    pub read: u64,
    /// Data written to the disk.
    pub written: u64,
    /// Zeros that were not written but made to read back as zero.
    pub zero: u64,
    /// Length of the source, 0 when unknown.
    pub total: u64,
}

impl Progress {
    /// All counters at one moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            read: self.0.read.load(Relaxed),
            written: self.0.written.load(Relaxed),
            zero: self.0.zero.load(Relaxed),
            total: self.0.total.load(Relaxed),
        }
    }

    /// Back to zero: the write starts again from the first byte.
    pub fn restart(&self) {
        for counter in [&self.0.read, &self.0.written, &self.0.zero, &self.0.total] {
            counter.store(0, Relaxed);
        }
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.total.store(bytes, Relaxed);
    }

    pub(crate) fn add_read(&self, bytes: u64) {
        self.0.read.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_written(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_zero(&self, bytes: u64) {
        self.0.zero.fetch_add(bytes, Relaxed);
    }
}

/// Stops a write at its next chunk. Cloning shares the switch.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the pipeline to stop. A source that blocks must be woken by its owner.
    pub fn cancel(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Relaxed)
    }
}
