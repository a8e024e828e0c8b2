// SPDX-License-Identifier: Apache-2.0
//! A client of QEMU's machine protocol (QMP): one command at a time, events in between.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

/// Longest line that is read: answers to our commands are short.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Events that wait while a command is answered; QEMU sends few.
const MAX_EVENTS: usize = 256;

/// Pause between attempts to reach a QEMU that has just been started.
const RETRY: Duration = Duration::from_millis(20);

/// Why QMP failed. After any of them the connection is useless.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// The socket failed or QEMU closed it.
    #[error("QEMU cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// QEMU sent something else than lines of JSON.
    #[error("QEMU sent something strange: {0}")]
    Protocol(String),
    /// QEMU refused a command.
    #[error("QEMU refuses {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        description: String,
    },
}

impl From<LinesCodecError> for QmpError {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::Io(error) => Self::Io(error),
            LinesCodecError::MaxLineLengthExceeded => Self::Protocol("a line without end".to_owned()),
        }
    }
}

/// What QEMU tells on its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Its name, such as `SHUTDOWN`.
    pub(crate) name: String,
    /// What belongs to it.
    pub(crate) data: Value,
}

/// A connection to one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    lines: Framed<UnixStream, LinesCodec>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Connects, waiting for the socket to appear; the caller adds the deadline.
    pub(crate) async fn connect(path: &Path) -> Result<Self, QmpError> {
        let stream = loop {
            match UnixStream::connect(path).await {
                Ok(stream) => break stream,
                Err(error) if is_early(&error) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error.into()),
            }
        };
        let lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let mut qmp = Self { lines, events: VecDeque::new() };
        let greeting = qmp.read().await?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Protocol("it did not greet".to_owned()));
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returns.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.lines.send(json!({ "execute": command, "arguments": arguments }).to_string()).await?;
        loop {
            let mut message = self.read().await?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                let description =
                    error.get("desc").and_then(Value::as_str).unwrap_or("without a word").to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), description });
            }
            self.keep_event(&message);
        }
    }

    /// The next event. Cancelling it loses nothing.
    pub(crate) async fn event(&mut self) -> Result<Event, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let message = self.read().await?;
            self.keep_event(&message);
        }
    }

    async fn read(&mut self) -> Result<Value, QmpError> {
        let line = self.lines.next().await.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
        serde_json::from_str(&line).map_err(|error| QmpError::Protocol(error.to_string()))
    }

    fn keep_event(&mut self, message: &Value) {
        let Some(name) = message.get("event").and_then(Value::as_str) else { return };
        if self.events.len() < MAX_EVENTS {
            let data = message.get("data").cloned().unwrap_or_default();
            self.events.push_back(Event { name: name.to_owned(), data });
        }
    }
}

/// The socket is not there, or not listened on, yet.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
