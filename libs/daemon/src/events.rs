// SPDX-License-Identifier: Apache-2.0
//! What a daemon saw of a machine, as core/v1 Events on its Hardware: one per machine, phase and boot.
//!
//! [`Recorder::record`] never blocks and never fails: it puts a note into a bounded queue, off the hot path. One task empties the
//! queue, merges notes of the same name, and writes them; a name that exists has its `count` and `lastTimestamp` raised. When the
//! queue is full, or the API stays away, notes are dropped and counted: an Event is a trace, never a record.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Counter, Metrics};

/// Notes waiting to be written; beyond it they are dropped and counted.
const QUEUE: usize = 4096;

/// Notes merged into one round of writing.
const BATCH: usize = 256;

/// Events written at the same time.
const WRITES: usize = 8;

/// Longest message of an Event, in bytes (the API server refuses more than 1024).
const MAX_MESSAGE_BYTES: usize = 1024;

/// Longest name of an object (RFC 1123 subdomain, as Kubernetes has it).
const MAX_NAME_BYTES: usize = 253;

/// Longest time that one write may take before the note is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time after shutdown in which the queue is still emptied.
const DRAIN: Duration = Duration::from_secs(3);

/// Attempts to raise the count of an Event that somebody else changes at the same time.
const ATTEMPTS: u32 = 4;

/// Annotation with the boot number of the machine.
pub const BOOT_ANNOTATION: &str = "tinkerbell.org/boot";

/// The handle that daemons keep; clones share one queue.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
    dropped: Counter,
}

/// One thing that was seen.
#[derive(Debug)]
struct Note {
    hardware: ObjectReference,
    reason: &'static str,
    name: String,
    boot: Option<u64>,
    message: String,
    warning: bool,
    seen: Timestamp,
    count: i32,
}

impl Recorder {
    /// Starts the writing task; join it after `shutdown`. `component` is the daemon's name.
    pub fn spawn(
        client: kube::Client,
        component: &'static str,
        metrics: &Metrics,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (queue, notes) = mpsc::channel(QUEUE);
        let dropped =
            metrics.register("events_dropped", "Events dropped: queue full or API away", Counter::default());
        let writer = Writer { client, component, instance: hostname(), dropped: dropped.clone() };
        let task = tokio::spawn(writer.run(notes, shutdown));
        (Self { queue, dropped }, task)
    }

    /// Notes that `reason` happened to `hardware` in `phase`; `boot` is its boot number where known. The Event is called
    /// `<hardware>.<phase>.<boot>` (boot 0 where it is not known), so that a repeat raises the count of the one that is there.
    ///
    /// `hardware` needs name and namespace; without them there is no object to hang it on, and it is dropped.
    #[expect(
        clippy::too_many_arguments,
        reason = "one flat call from hot paths; a struct would be built at every one"
    )]
    pub fn record(
        &self,
        hardware: &ObjectReference,
        reason: &'static str,
        phase: &str,
        boot: Option<u64>,
        message: String,
        warning: bool,
    ) {
        let note = hardware.name.as_deref().filter(|_| hardware.namespace.is_some()).map(|machine| Note {
            hardware: hardware.clone(),
            reason,
            name: event_name(machine, phase, boot),
            boot,
            message: truncated(message),
            warning,
            seen: Timestamp::now(),
            count: 1,
        });
        let sent = note.is_some_and(|note| self.queue.try_send(note).is_ok());
        if !sent {
            self.dropped.inc();
        }
    }
}

struct Writer {
    client: kube::Client,
    component: &'static str,
    instance: String,
    dropped: Counter,
}

impl Writer {
    async fn run(self, mut notes: mpsc::Receiver<Note>, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                biased;
                received = notes.recv_many(&mut batch, BATCH) => received,
                () = shutdown.cancelled() => break,
            };
            if received == 0 {
                return;
            }
            self.write_all(merged(batch.drain(..))).await;
        }
        notes.close();
        let drained = tokio::time::timeout(DRAIN, async {
            while notes.recv_many(&mut batch, BATCH).await > 0 {
                self.write_all(merged(batch.drain(..))).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!(component = self.component, "events were left unwritten at shutdown");
        }
    }

    /// Writes notes of different names, some at the same time: an API server puts them into one commit.
    async fn write_all(&self, notes: Vec<Note>) {
        let write = async |note: Note| {
            let outcome = tokio::time::timeout(WRITE_TIMEOUT, self.write(&note)).await;
            let problem = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API did not answer in time".to_owned(),
            };
            self.dropped.inc();
            tracing::warn!(event = note.name, error = problem, "event was not written");
        };
        futures::stream::iter(notes).for_each_concurrent(WRITES, write).await;
    }

    async fn write(&self, note: &Note) -> Result<(), kube::Error> {
        let api: Api<Event> =
            Api::namespaced(self.client.clone(), note.hardware.namespace.as_deref().unwrap_or_default());
        match api.create(&PostParams::default(), &self.event(note)).await {
            Err(error) if is_status(&error, 409) => self.raise(&api, note).await,
            other => other.map(drop),
        }
    }

    /// Raises the count of the Event that is there, guarded by its resourceVersion so that no count is lost.
    async fn raise(&self, api: &Api<Event>, note: &Note) -> Result<(), kube::Error> {
        let mut attempts = ATTEMPTS;
        loop {
            let Some(current) = api.get_opt(&note.name).await? else {
                return api.create(&PostParams::default(), &self.event(note)).await.map(drop);
            };
            let patch = json!({
                "metadata": { "resourceVersion": current.metadata.resource_version },
                "count": current.count.unwrap_or(1).saturating_add(note.count),
                "lastTimestamp": Time(note.seen),
                "reason": note.reason,
                "message": note.message,
                "type": kind(note),
            });
            attempts -= 1;
            match api.patch(&note.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(error) if is_status(&error, 409) && attempts > 0 => {}
                other => return other.map(drop),
            }
        }
    }

    fn event(&self, note: &Note) -> Event {
        let annotations =
            note.boot.map(|boot| BTreeMap::from([(BOOT_ANNOTATION.to_owned(), boot.to_string())]));
        Event {
            metadata: ObjectMeta {
                name: Some(note.name.clone()),
                namespace: note.hardware.namespace.clone(),
                annotations,
                ..ObjectMeta::default()
            },
            involved_object: note.hardware.clone(),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message.clone()),
            type_: Some(kind(note).to_owned()),
            count: Some(note.count),
            first_timestamp: Some(Time(note.seen)),
            last_timestamp: Some(Time(note.seen)),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: Some(self.instance.clone()),
            }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

fn kind(note: &Note) -> &'static str {
    if note.warning { "Warning" } else { "Normal" }
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Notes of one name become one, with the newest text; the order of first sight is kept.
fn merged(notes: impl Iterator<Item = Note>) -> Vec<Note> {
    let mut order: Vec<Note> = Vec::new();
    let mut places: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
    for note in notes {
        let key = (note.hardware.namespace.clone(), note.name.clone());
        match places.get(&key).and_then(|place| order.get_mut(*place)) {
            Some(kept) => {
                let count = kept.count.saturating_add(note.count);
                *kept = Note { count, ..note };
            }
            None => {
                places.insert(key, order.len());
                order.push(note);
            }
        }
    }
    order
}

/// `<hardware>.<phase>.<boot>`, boot 0 where it is not known: always a valid object name. What a name may not hold becomes `-` or
/// goes, and of a very long one the hardware's part is cut. The same input gives the same name, which is what makes a repeat count
/// up one Event, and lets a reader find it.
#[must_use]
pub fn event_name(hardware: &str, phase: &str, boot: Option<u64>) -> String {
    let tail = clean(&format!("{phase}.{}", boot.unwrap_or_default()));
    let tail = tail.get(tail.len().saturating_sub(MAX_NAME_BYTES)..).unwrap_or_default();
    let tail = tail.trim_start_matches(['.', '-']);
    let room = MAX_NAME_BYTES.saturating_sub(tail.len() + 1);
    let head: String = clean(hardware).chars().take(room).collect();
    match head.trim_end_matches(['.', '-']) {
        "" => tail.to_owned(),
        head => format!("{head}.{tail}"),
    }
}

/// Lower-case labels of letters, digits and inner hyphens, with dots between them (RFC 1123).
fn clean(text: &str) -> String {
    let lower = text.chars().map(|c| c.to_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let text: String = lower.map(|c| if allowed(c) { c } else { '-' }).collect();
    let labels: Vec<&str> =
        text.split('.').map(|label| label.trim_matches('-')).filter(|label| !label.is_empty()).collect();
    labels.join(".")
}

fn truncated(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES - 3).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Shared by the daemons' tests and the composed process: a reference to a Hardware object.
pub fn hardware_reference(namespace: &str, name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("tinkerbell.org/v1alpha1".to_owned()),
        kind: Some("Hardware".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
