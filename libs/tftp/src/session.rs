// SPDX-License-Identifier: Apache-2.0
//! The rim of one transfer: its link, its timer and its content around the pure [`Transfer`].
//!
//! Started by the server in a task of its own; ends with a [`Report`]. Beside the content it keeps no more than a window's
//! headers in memory.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::content::{Content, Source};
use crate::link::{Link, is_closed};
use crate::negotiate::{Limits, Negotiated, negotiate};
use crate::packet::{self, DATA_HEADER, ErrorCode, Packet, Request};
use crate::server::{Provider, Seen, Way};
use crate::table::Admitted;
use crate::transfer::{Event, Outcome, Output, Transfer};

/// A client's packets are small; the largest is an ERROR with its text.
const RECEIVE_BUFFER: usize = 1024;
/// A pause after an error of the socket that will pass, such as a lack of buffers.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// How a transfer went.
#[derive(Debug, Clone)]
pub struct Report {
    /// The client.
    pub peer: SocketAddr,
    /// Where the packets of the transfer came from.
    pub local: SocketAddr,
    /// The name that was asked for.
    pub name: String,
    /// The end.
    pub outcome: Outcome,
    /// Size of the content as sent.
    pub size: u64,
    /// Bytes that the client acknowledged.
    pub acknowledged: u64,
    /// Bytes of a block.
    pub block_size: u16,
    /// Blocks in a window.
    pub window: u16,
    /// Blocks sent again.
    pub resent: u64,
    /// The client's packet that was the end, if one was: its last ACK, or an ERROR.
    pub last: Option<Vec<u8>>,
    /// From the request to the end.
    pub elapsed: Duration,
}

/// What a session needs beside its link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
}

/// One running transfer.
pub(crate) struct Session<'a, P> {
    provider: &'a P,
    link: Link,
    peer: SocketAddr,
    local: SocketAddr,
    name: String,
    negotiated: Negotiated,
    size: u64,
    source: Source,
    transfer: Transfer,
    begun: Instant,
}

impl<'a, P: Provider> Session<'a, P> {
    /// Prepares a transfer to the client at the other end of the link.
    pub(crate) fn new(
        provider: &'a P,
        (link, peer): (Link, SocketAddr),
        request: &Request,
        content: Content,
        (limits, timing): (Limits, Timing),
    ) -> Self {
        let size = content.size();
        let fits = link.payload().saturating_sub(DATA_HEADER);
        let block_size = limits.block_size.min(fits);
        let negotiated = negotiate(request, size, Limits { block_size, ..limits });
        let begun = Instant::now();
        let transfer = Transfer::new(&negotiated, size, timing.timeout, timing.patience, begun);
        let (name, source, local) = (request.name.clone(), Source::new(content), link.local());
        Self { provider, link, peer, local, name, negotiated, size, source, transfer, begun }
    }

    /// Runs to the end.
    pub(crate) async fn run(mut self, mut admitted: Admitted) -> Report {
        let mut event = Event::Start;
        let outcome = loop {
            let output = self.transfer.on(event, Instant::now());
            if self.transfer.started() {
                admitted.confirmed.store(true, Ordering::Relaxed);
            }
            event = match output {
                Output::Finished(outcome) => break outcome,
                output => match self.perform(output).await {
                    Ok(Some(news)) => news,
                    Ok(None) => match self.next(&mut admitted).await {
                        Some(event) => event,
                        None => break Outcome::Replaced,
                    },
                    Err(error) => {
                        self.deliver(&packet::error(ErrorCode::Undefined, &error.to_string())).await;
                        break Outcome::Failed(error.to_string());
                    }
                },
            };
        };
        let acknowledged = self.transfer.acked().saturating_mul(self.negotiated.block_size.into());
        let last = match &outcome {
            Outcome::Complete => Some(packet::ack(self.transfer.acked())),
            Outcome::Aborted { code, message } => Some(packet::error_of(*code, message)),
            Outcome::Unconfirmed | Outcome::Lost | Outcome::Failed(_) | Outcome::Replaced => None,
        };
        Report {
            peer: self.peer,
            local: self.local,
            name: self.name,
            outcome,
            size: self.size,
            acknowledged: acknowledged.min(self.size),
            block_size: self.negotiated.block_size,
            window: self.negotiated.window,
            resent: self.transfer.resent(),
            last,
            elapsed: self.begun.elapsed(),
        }
    }

    /// The next event; nothing when the transfer is to stop.
    async fn next(&self, admitted: &mut Admitted) -> Option<Event> {
        let deadline = tokio::time::Instant::from_std(self.transfer.deadline());
        tokio::select! {
            // What came before the transfer was told to stop is looked at first; after it nothing more comes.
            biased;
            Some(event) = admitted.events.recv() => Some(event),
            () = admitted.stop.cancelled() => None,
            event = receive(&self.link) => Some(event),
            () = tokio::time::sleep_until(deadline) => Some(Event::Timeout),
        }
    }

    /// Sends what the transfer wants sent; gives back what was learnt by it. An error is one of the content.
    async fn perform(&mut self, output: Output) -> io::Result<Option<Event>> {
        match output {
            Output::Wait | Output::Finished(_) => Ok(None),
            Output::Oack => {
                let oack = self.negotiated.oack.clone().unwrap_or_default();
                Ok(self.deliver(&oack).await)
            }
            Output::Blocks(blocks) => self.send_blocks(blocks).await,
        }
    }

    async fn send_blocks(&mut self, blocks: RangeInclusive<u64>) -> io::Result<Option<Event>> {
        let block_size = usize::from(self.negotiated.block_size);
        let count = usize::try_from(blocks.end() - blocks.start() + 1).unwrap_or(1);
        let offset = (blocks.start() - 1) * u64::from(self.negotiated.block_size);
        let data = self.source.read(offset, count * block_size).await?;
        let headers: Vec<_> = blocks.map(packet::data_header).collect();
        let mut pieces = data.chunks(block_size);
        if let Some(header) = headers.first().filter(|_| offset == 0) {
            self.show(header, header.len() + data.len().min(block_size));
        }
        let packet = block_size + usize::from(DATA_HEADER);
        let mut rest = headers.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(self.link.batch(packet).min(rest.len()));
            rest = later;
            let mut parts = Vec::with_capacity(batch.len() * 2);
            for header in batch {
                // The last block of a content may be empty.
                parts.extend([IoSlice::new(header), IoSlice::new(pieces.next().unwrap_or_default())]);
            }
            let sent = self.link.send_packets(&parts, packet).await;
            if let Some(event) = self.learn(sent) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    async fn deliver(&self, bytes: &[u8]) -> Option<Event> {
        self.show(bytes, bytes.len());
        let sent = self.link.send(bytes).await;
        self.learn(sent)
    }

    /// Shows the provider a packet that is about to leave, or the beginning of one that has this length.
    fn show(&self, bytes: &[u8], length: usize) {
        let Self { peer, local, ref name, .. } = *self;
        self.provider.seen(&Seen { way: Way::Out, peer, local, name, bytes, length });
    }

    /// What the network refuses is as good as lost, and repeated by the timer; a closed port is the client's end.
    fn learn(&self, sent: io::Result<()>) -> Option<Event> {
        let error = sent.err()?;
        tracing::debug!(peer = %self.peer, %error, "packet not sent");
        is_closed(&error).then_some(Event::Unreachable)
    }
}

/// The next event from the client. Datagrams that are not packets are skipped.
async fn receive(link: &Link) -> Event {
    let mut buffer = [0; RECEIVE_BUFFER];
    loop {
        match link.receive(&mut buffer).await {
            Ok(length) => match Packet::parse(buffer.get(..length).unwrap_or_default()) {
                Ok(Packet::Ack(block)) => return Event::Ack(block),
                Ok(Packet::Error { code, message }) => return Event::ClientError { code, message },
                Ok(Packet::Read(_) | Packet::Write) | Err(_) => {}
            },
            Err(error) if is_closed(&error) => return Event::Unreachable,
            // Other errors of the socket pass; silence ends the transfer.
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}
