// SPDX-License-Identifier: Apache-2.0
//! What machines wrote to the log server: kept on disk, bounded per machine and in all, and read by people.
//!
//! ```text
//!   syslog --(bounded queue)--> one task: files, and every few seconds Events --> HTTP reads the files
//! ```
//!
//! One task owns the files and all that is written to them. A line that finds the queue full is dropped and counted; the
//! receiver never waits for a disk. Lines are a trace and not a record: they are not synced, and one that a crash tore is
//! passed over when it is read. Readers open the files themselves and are woken by the task.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::backend::Found;
use crate::journal::Journal;
use crate::kept::Name;

mod files;
mod summary;

pub(crate) use files::Bounds;
use files::Store;
use summary::Summaries;

/// Lines that wait for the disk; further ones are dropped. A kernel's whole boot log fits several times.
const QUEUE: usize = 16_384;
/// Lines that go to the disk at once.
const BATCH: usize = 1024;
/// How often Events are written about what has come.
const SUMMARIES: Duration = Duration::from_secs(3);

/// One line of a machine's log, as it is kept and as HTTP gives it: one JSON object per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it came, by the clock of this server, in unix microseconds. No two lines have the same, so that it is also the
    /// place to go on after.
    pub at: u64,
    /// Facility by its short name, such as `kern`.
    pub facility: String,
    /// Severity by its short name, such as `err`.
    pub severity: String,
    /// When it was sent, as the machine wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// What the machine calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Kind of message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Structured data as RFC 5424 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What is said.
    pub text: String,
}

impl LogLine {
    fn new(at: u64, message: syslog::Message) -> Self {
        Self {
            at,
            facility: message.facility.name().to_owned(),
            severity: message.severity.name().to_owned(),
            sent: message.timestamp,
            host: message.host,
            app: message.app,
            process: message.process,
            id: message.id,
            data: message.data,
            text: message.text,
        }
    }
}

/// Where logs are kept, and how much of them.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes per machine.
    pub machine: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The way in.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Entry>,
}

/// A line on its way to the disk.
#[derive(Debug)]
struct Entry {
    found: Found,
    message: syslog::Message,
}

/// The way out.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    dir: Arc<Path>,
    newest: Arc<Mutex<HashMap<Name, u64>>>,
    wake: watch::Receiver<()>,
}

impl Writer {
    /// Hands a line on; false when too many wait.
    pub(crate) fn put(&self, found: Found, message: syslog::Message) -> bool {
        self.queue.try_send(Entry { found, message }).is_ok()
    }
}

impl Reader {
    /// The lines of a machine that came after `since`, at most the last `tail`, oldest first.
    ///
    /// # Errors
    ///
    /// When the files cannot be read; a machine without any has no lines.
    pub(crate) async fn read(&self, name: &Name, since: u64, tail: usize) -> io::Result<Vec<LogLine>> {
        let (dir, name) = (Arc::clone(&self.dir), name.clone());
        let read = tokio::task::spawn_blocking(move || files::read(&dir, &name, since));
        let mut lines = read.await.map_err(io::Error::other)??;
        lines.drain(..lines.len().saturating_sub(tail));
        Ok(lines)
    }

    /// Waits until a line of a machine came after `since`; false when no more will come.
    pub(crate) async fn newer(&mut self, name: &Name, since: u64) -> bool {
        loop {
            self.wake.borrow_and_update();
            if locked(&self.newest).get(name).is_some_and(|newest| *newest > since) {
                return true;
            }
            if self.wake.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// Opens the directory and starts the task, which ends when the last writer is gone.
///
/// # Errors
///
/// When the directory cannot be made or listed.
pub(crate) fn spawn(config: &LogsConfig, journal: Journal) -> io::Result<(Writer, Reader, JoinHandle<()>)> {
    let store = Store::open(&config.dir, Bounds { machine: config.machine, total: config.total })?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let (waker, wake) = watch::channel(());
    let newest = Arc::<Mutex<HashMap<Name, u64>>>::default();
    let reader = Reader { dir: config.dir.as_path().into(), newest: Arc::clone(&newest), wake };
    let task = Task { store: Some(store), journal, newest, waker, last: 0 };
    Ok((Writer { queue }, reader, tokio::spawn(task.run(waiting))))
}

struct Task {
    /// Away while it is written to.
    store: Option<Store>,
    journal: Journal,
    newest: Arc<Mutex<HashMap<Name, u64>>>,
    waker: watch::Sender<()>,
    /// The newest `at`.
    last: u64,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Entry>) {
        let mut summaries = Summaries::default();
        let mut tick = tokio::time::interval(SUMMARIES);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = waiting.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    for entry in &batch {
                        summaries.add(&entry.found, &entry.message, |mac| self.journal.last_boot(mac));
                    }
                    self.write(batch.drain(..)).await;
                }
                _ = tick.tick() => self.tell(&mut summaries),
            }
        }
        self.tell(&mut summaries);
    }

    fn tell(&self, summaries: &mut Summaries) {
        for told in summaries.due() {
            self.journal.logged(&told.found, told.reason, told.boot, told.text);
        }
    }

    async fn write(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut by_machine: BTreeMap<Name, Vec<LogLine>> = BTreeMap::new();
        for entry in entries {
            self.last = now().max(self.last + 1);
            let lines = by_machine.entry(Name::of(&entry.found)).or_default();
            lines.push(LogLine::new(self.last, entry.message));
        }
        let heard: Vec<_> =
            by_machine.iter().filter_map(|(name, lines)| Some((name.clone(), lines.last()?.at))).collect();
        let Some(mut store) = self.store.take() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let failed = by_machine.iter().filter_map(|(name, lines)| {
                store.append(name, lines).err().map(|error| (name.clone(), lines.len(), error))
            });
            let failed: Vec<_> = failed.collect();
            let gone = store.shrink();
            (store, failed, gone)
        });
        let Ok((store, failed, gone)) = written.await else {
            // The store is lost with the panic, which ends the process.
            return tracing::error!("the task that writes logs panicked");
        };
        self.store = Some(store);
        for (name, lines, error) in failed {
            self.journal.metrics().syslog("failed", lines);
            tracing::warn!(machine = name.machine, %error, lines, "lines of a machine's log were not written");
        }
        let mut newest = locked(&self.newest);
        newest.extend(heard);
        for name in gone {
            newest.remove(&name);
            tracing::info!(machine = name.machine, "the log of a silent machine was removed to make room");
        }
        drop(newest);
        self.waker.send_replace(());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one map access, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix microseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
