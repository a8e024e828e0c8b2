// SPDX-License-Identifier: Apache-2.0
//! The rim of one transfer: its socket, its timer and its content around the pure [`Transfer`].
//!
//! Started by the server in a task of its own; ends with a [`Report`]. A window leaves in one system call where the
//! kernel can segment it (UDP_SEGMENT), else packet by packet.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::content::{Content, Source};
use crate::negotiate::{Limits, Negotiated, negotiate};
use crate::packet::{self, DATA_HEADER, ErrorCode, Packet, Request};
use crate::transfer::{Event, Outcome, Output, Transfer};

/// IPv4, UDP and TFTP headers around a block.
const HEADERS: u16 = 20 + 8 + 4;
/// Smallest MTU that every IPv4 host handles (RFC 791).
const MIN_MTU: u16 = 576;
/// Segments that the kernel takes in one send (UDP_MAX_SEGMENTS of Linux before 6.9).
const MAX_SEGMENTS: usize = 64;
/// Largest UDP payload.
const MAX_PAYLOAD: usize = 65_507;
/// A client's packets are small; the largest is an ERROR with its text.
const RECEIVE_BUFFER: usize = 1024;

/// How a transfer went.
#[derive(Debug, Clone)]
pub struct Report {
    /// The client.
    pub peer: SocketAddrV4,
    /// The name that was asked for.
    pub name: String,
    /// The end.
    pub outcome: Outcome,
    /// Size of the content as sent.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u16,
    /// Blocks in a window.
    pub window: u16,
    /// Blocks sent again.
    pub resent: u64,
    /// From the request to the end.
    pub elapsed: Duration,
}

/// What a session needs beside its socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
}

/// One running transfer.
pub(crate) struct Session {
    socket: UdpSocket,
    peer: SocketAddrV4,
    name: String,
    negotiated: Negotiated,
    size: u64,
    source: Source,
    transfer: Transfer,
    begun: Instant,
    segmentation: bool,
    buffer: Vec<u8>,
}

impl Session {
    /// Prepares a transfer on a socket that is connected to the client.
    pub(crate) fn new(
        socket: UdpSocket,
        peer: SocketAddrV4,
        request: &Request,
        content: Content,
        (limits, timing): (Limits, Timing),
    ) -> Self {
        let size = content.size();
        let block_size = limits.block_size.min(mtu(&socket) - HEADERS);
        let negotiated = negotiate(request, size, Limits { block_size, ..limits });
        let begun = Instant::now();
        let transfer = Transfer::new(&negotiated, size, timing.timeout, timing.patience, begun);
        let segment = i32::from(negotiated.block_size) + 4;
        let segmentation =
            negotiated.window > 1 && setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &segment).is_ok();
        let source = Source::new(content);
        let name = request.name.clone();
        Self {
            socket,
            peer,
            name,
            negotiated,
            size,
            source,
            transfer,
            begun,
            segmentation,
            buffer: Vec::new(),
        }
    }

    /// Runs to the end. `repeats` says that the client sent its request again.
    pub(crate) async fn run(mut self, mut repeats: mpsc::Receiver<()>, stop: CancellationToken) -> Report {
        let mut event = Event::Start;
        let outcome = loop {
            match self.transfer.on(event, Instant::now()) {
                Output::Finished(outcome) => break outcome,
                output => {
                    if let Err(error) = self.perform(output).await {
                        self.send_error(&error).await;
                        break Outcome::Failed(error.to_string());
                    }
                }
            }
            let deadline = tokio::time::Instant::from_std(self.transfer.deadline());
            event = tokio::select! {
                () = stop.cancelled() => break Outcome::Replaced,
                Some(()) = repeats.recv() => Event::RepeatedRequest,
                received = receive(&self.socket) => received,
                () = tokio::time::sleep_until(deadline) => Event::Timeout,
            };
        };
        Report {
            peer: self.peer,
            name: self.name,
            outcome,
            size: self.size,
            block_size: self.negotiated.block_size,
            window: self.negotiated.window,
            resent: self.transfer.resent(),
            elapsed: self.begun.elapsed(),
        }
    }

    async fn perform(&mut self, output: Output) -> io::Result<()> {
        match output {
            Output::Wait | Output::Finished(_) => Ok(()),
            Output::Oack => {
                let oack = self.negotiated.oack.clone().unwrap_or_default();
                self.send(&oack).await;
                Ok(())
            }
            Output::Blocks(blocks) => {
                let block_size = usize::from(self.negotiated.block_size);
                let count = usize::try_from(blocks.end() - blocks.start() + 1).unwrap_or(1);
                let offset = (blocks.start() - 1) * u64::from(self.negotiated.block_size);
                let data = self.source.read(offset, count * block_size).await?;
                let mut pieces = data.chunks(block_size);
                let mut packets = std::mem::take(&mut self.buffer);
                packets.clear();
                for block in blocks {
                    packet::data(&mut packets, block, pieces.next().unwrap_or_default());
                }
                let sent = self.send_window(&packets).await;
                self.buffer = packets;
                sent
            }
        }
    }

    /// Sends packets that lie back to back, all but the last of full size.
    async fn send_window(&mut self, packets: &[u8]) -> io::Result<()> {
        let packet = usize::from(self.negotiated.block_size) + DATA_HEADER;
        if self.segmentation {
            let batch = packet * (MAX_PAYLOAD / packet).clamp(1, MAX_SEGMENTS);
            for part in packets.chunks(batch) {
                if let Err(error) = self.socket.send(part).await {
                    // The interface cannot segment: from here on the kernel gets single packets. What went out
                    // already goes out twice, which the protocol allows.
                    tracing::debug!(peer = %self.peer, %error, "segmentation offload refused");
                    self.segmentation = false;
                    setsockopt(&self.socket.as_fd(), sockopt::UdpGsoSegment, &0)?;
                    break;
                }
            }
            if self.segmentation {
                return Ok(());
            }
        }
        for part in packets.chunks(packet) {
            self.send(part).await;
        }
        Ok(())
    }

    /// Sends one packet. What the network refuses is as good as lost, and repeated by the timer.
    async fn send(&self, bytes: &[u8]) {
        if let Err(error) = self.socket.send(bytes).await {
            tracing::debug!(peer = %self.peer, %error, "packet not sent");
        }
    }

    async fn send_error(&self, error: &io::Error) {
        let packet = packet::error(ErrorCode::Undefined, &error.to_string());
        if let Err(error) = self.socket.send(&packet).await {
            tracing::debug!(peer = %self.peer, %error, "error packet not sent");
        }
    }
}

/// The next event from the client. Datagrams that are not packets are skipped.
async fn receive(socket: &UdpSocket) -> Event {
    let mut buffer = [0; RECEIVE_BUFFER];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => match Packet::parse(buffer.get(..length).unwrap_or_default()) {
                Ok(Packet::Ack(block)) => return Event::Ack(block),
                Ok(Packet::Error { code, message }) => return Event::ClientError { code, message },
                Ok(Packet::Read(_) | Packet::Write) | Err(_) => {}
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Event::Unreachable,
            // Other errors of the socket pass (no buffers, host unreachable for now); silence ends the transfer.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The MTU towards the client.
fn mtu(socket: &UdpSocket) -> u16 {
    let known = nix::sys::socket::getsockopt(&socket.as_fd(), sockopt::IpMtu).unwrap_or(1500);
    u16::try_from(known.max(0)).unwrap_or(u16::MAX).max(MIN_MTU)
}
