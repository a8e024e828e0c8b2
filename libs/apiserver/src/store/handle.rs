// SPDX-License-Identifier: Apache-2.0

//! The open database, which is replaced after an I/O error: redb refuses everything from then on, and what it had in memory is not to be trusted.
//!
//! ```text
//! open --I/O error, the writer calls reopen--> being opened --> open
//!                                                  \--cannot be opened--> none (the writer tries again)
//! ```
//!
//! Readers who come in between wait for a moment. Their earlier snapshots are of the old database and fail from then on.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{Database, ReadTransaction, ReadableDatabase as _};

use super::open::{self, Opened};
use super::{OpenError, ReadError};

/// How long a reader waits while the database is being opened again.
const WAIT: Duration = Duration::from_secs(2);
/// How long the writer waits for readers who are about to begin.
const DRAIN: Duration = Duration::from_secs(1);

struct State {
    db: Option<Arc<Database>>,
    closed: bool,
}

pub(super) struct Handle {
    path: PathBuf,
    cache_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Handle {
    pub fn new(path: PathBuf, cache_bytes: usize, db: Database) -> Self {
        let state = Mutex::new(State { db: Some(Arc::new(db)), closed: false });
        Self { path, cache_bytes, state, changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The database, for the writer.
    pub fn current(&self) -> Option<Arc<Database>> {
        self.state().db.clone()
    }

    /// Begins to read.
    ///
    /// # Errors
    /// When the store was closed, or cannot be read.
    pub fn read(&self) -> Result<ReadTransaction, ReadError> {
        let until = Instant::now() + WAIT;
        let mut state = self.state();
        loop {
            let begun = match &state.db {
                _ if state.closed => return Err(ReadError::Closed),
                Some(db) => db.begin_read().map_err(ReadError::from),
                None => Err(ReadError::Interrupted),
            };
            let left = until.saturating_duration_since(Instant::now());
            match begun {
                Err(ReadError::Interrupted) if !left.is_zero() => {
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                other => return other,
            }
        }
    }

    /// Closes the database and opens it again as a start would.
    ///
    /// # Errors
    /// When that fails: there is no database then.
    pub fn reopen(&self) -> Result<Opened<()>, OpenError> {
        let mut state = self.state();
        let until = Instant::now() + DRAIN;
        let mut old = state.db.take();
        while let Some(db) = old.take() {
            match Arc::try_unwrap(db) {
                Ok(db) => drop(db),
                Err(shared) if Instant::now() < until => {
                    std::thread::yield_now();
                    old = Some(shared);
                }
                // Whoever still has it keeps the file locked, and opening says so.
                Err(_) => {}
            }
        }
        let opened = open::open(&self.path, self.cache_bytes);
        let opened = opened.map(|opened| {
            let (db, opened) = opened.split();
            state.db = Some(Arc::new(db));
            opened
        });
        drop(state);
        self.changed.notify_all();
        opened
    }

    /// Closes it for good.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.db = None;
        drop(state);
        self.changed.notify_all();
    }
}
