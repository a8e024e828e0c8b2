// SPDX-License-Identifier: Apache-2.0
//! Tells the server what cannot wait for the end of an action: that the agent is there, how far an action is, log
//! lines. One task owns the stream and opens it again when it breaks; a server without the service is left alone.
//!
//! Nothing here is ever waited for: when the queue is full, or nobody takes it, events are dropped.

use std::time::{Duration, SystemTime};

use proto::agent::v1::agent_event::Event;
use proto::agent::v1::{AgentEvent, Hello, LogLine, Progress};
use proto::workflow::AgentAttributes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::action::Key;
use crate::backoff::Backoff;
use crate::inventory;
use crate::rpc::Server;

/// Events that wait to be sent; more are dropped.
const QUEUE: usize = 128;

const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How long the end of the stream may take when the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Who speaks: the same on every stream of this process.
pub(crate) struct Speaker {
    pub(crate) agent_id: String,
    pub(crate) token: String,
    pub(crate) attributes: Option<AgentAttributes>,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<Event>);

/// The task behind it.
pub(crate) struct Stream {
    task: JoinHandle<()>,
    finish: CancellationToken,
}

impl Reporter {
    /// Starts the task.
    pub(crate) fn start(server: Server, speaker: Speaker) -> (Self, Stream) {
        let (sender, events) = mpsc::channel(QUEUE);
        let finish = CancellationToken::new();
        let task = tokio::spawn(run(server, speaker, events, finish.clone()));
        (Self(sender), Stream { task, finish })
    }

    /// How far an action is.
    pub(crate) fn progress(&self, key: &Key, at: diskimage::Snapshot, waiting: Option<String>) {
        self.send(Event::Progress(Progress {
            workflow_id: key.workflow.clone(),
            task_id: key.task.clone(),
            action_id: key.action.clone(),
            bytes_read: at.read,
            bytes_written: at.written,
            total_bytes: at.total,
            bytes_zero: at.zero,
            waiting: waiting.unwrap_or_default(),
        }));
    }

    /// A line about an action, or about the agent itself when `action_id` is empty.
    pub(crate) fn log(&self, action_id: &str, level: Level, message: impl Into<String>) {
        self.send(Event::Log(LogLine {
            action_id: action_id.to_owned(),
            level: match level {
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            }
            .to_owned(),
            message: message.into(),
            time: Some(prost_types::Timestamp::from(SystemTime::now())),
        }));
    }

    fn send(&self, event: Event) {
        // A full queue means that nobody takes the events: then they are worth nothing.
        drop(self.0.try_send(event));
    }
}

impl Stream {
    /// Sends what is queued and ends, within a bounded time.
    pub(crate) async fn finish(self) {
        self.finish.cancel();
        if self.task.await.is_err() {
            tracing::warn!("report stream failed");
        }
    }
}

async fn run(server: Server, speaker: Speaker, mut events: mpsc::Receiver<Event>, finish: CancellationToken) {
    let mut backoff = Backoff::new(LONGEST_BACKOFF);
    loop {
        match converse(&server, &speaker, &mut events, &finish).await {
            Ending::Finished => return,
            // The contract of other servers ends here; events are taken off the queue by its drop.
            Ending::Broken(status) if status.code() == Code::Unimplemented => {
                tracing::debug!("server takes no progress reports");
                return;
            }
            Ending::Broken(status) => tracing::debug!(code = ?status.code(), "report stream broken"),
            Ending::Closed => backoff.reset(),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = finish.cancelled() => return,
        }
    }
}

enum Ending {
    /// We are done.
    Finished,
    /// The server ended the stream in good order.
    Closed,
    Broken(Status),
}

async fn converse(
    server: &Server,
    speaker: &Speaker,
    events: &mut mpsc::Receiver<Event>,
    finish: &CancellationToken,
) -> Ending {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let send = |event| {
        let event = AgentEvent { agent_id: speaker.agent_id.clone(), event: Some(event) };
        // Full: the server is slower than we are; the next progress supersedes this one.
        drop(sender.try_send(event));
    };
    send(Event::Hello(Hello {
        uptime_seconds: inventory::uptime_seconds(),
        token: speaker.token.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        attributes: speaker.attributes.clone(),
    }));
    let call = server.stream_events(ReceiverStream::new(receiver));
    tokio::pin!(call);
    loop {
        tokio::select! {
            result = &mut call => return result.map_or_else(Ending::Broken, |()| Ending::Closed),
            () = finish.cancelled() => break,
            event = events.recv() => match event {
                Some(event) => send(event),
                None => break,
            },
        }
    }
    while let Ok(event) = events.try_recv() {
        send(event);
    }
    drop(sender);
    if tokio::time::timeout(FAREWELL, call).await.is_err() {
        tracing::debug!("report stream not acknowledged");
    }
    Ending::Finished
}
