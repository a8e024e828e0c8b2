// SPDX-License-Identifier: Apache-2.0
//! The log server: reads datagrams one after the other and hands those of machines on to `logs`.
//!
//! A sender is a machine by its address: the one that its Hardware reserves, else, over IPv6, the one that is made of its MAC,
//! and over IPv4 the one that the kernel's neighbour table has for its MAC (an address from a pool or from another server), else the
//! one to which its script was sent. A token that a kernel prints with its command line is not kept. What a message says of its sender counts for
//! nothing. Lines of strangers are counted and not kept. Nothing waits: what comes while we are busy lies in the socket's
//! buffer, and what does not fit there is lost, as syslog over UDP is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use api::Mac;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::backend::Found;
use crate::backend::watch::Backend;
use crate::buffer;
use crate::journal::{Journal, now};
use crate::limit::{Buckets, Rate};
use crate::logs::Writer;

/// Largest datagram that is read; what is longer is cut. As much as upstream's receiver reads.
const MAX_DATAGRAM: usize = 32 * 1024;
/// Bytes of datagrams that the kernel keeps while we are busy.
const SOCKET_BUFFER: usize = 4 << 20;
/// A kernel says some thousand lines at once when it starts; after that a machine has little to say.
const RATE: Rate = Rate { burst: 8192, per_second: 256 };
/// Datagrams read between two chances for other tasks.
const BATCH: usize = 256;
/// Pause after a failure of the socket, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// The kernel's table of neighbours for IPv4, of the network namespace that this thread is in.
const NEIGHBOURS: &str = "/proc/thread-self/net/arp";
/// How often that is read at most, however many strangers write.
const NEIGHBOURS_AGE: Duration = Duration::from_secs(2);
/// Entries of it that are used; the kernel keeps 1024 by default.
const MAX_NEIGHBOURS: usize = 65_536;

/// A bound receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: UdpSocket,
    backend: Backend,
    writer: Writer,
    journal: Journal,
    limits: Buckets,
    neighbours: Neighbours,
}

impl Receiver {
    /// Binds the socket.
    ///
    /// # Errors
    ///
    /// When somebody holds the port, or the privilege is missing.
    pub(crate) fn bind(
        address: SocketAddr,
        backend: Backend,
        writer: Writer,
        journal: Journal,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        buffer::enlarge(&socket, SOCKET_BUFFER)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let (limits, neighbours) = (Buckets::new(RATE), Neighbours::default());
        Ok(Self { socket, backend, writer, journal, limits, neighbours })
    }

    /// Receives until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let readable = tokio::select! {
                () = shutdown.cancelled() => return,
                readable = self.socket.readable() => readable,
            };
            if let Err(error) = readable {
                tracing::warn!(%error, "the log server's socket cannot be waited for");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        let result = self.take(buffer.get(..length).unwrap_or_default(), from.ip());
                        self.journal.metrics().syslog(result, 1);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot receive log messages");
                        tokio::time::sleep(ERROR_PAUSE).await;
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Hands one datagram on; says what became of it.
    fn take(&mut self, datagram: &[u8], from: IpAddr) -> &'static str {
        let from = from.to_canonical();
        let Some(found) = self.sender(from) else {
            tracing::trace!(%from, "a log message of a stranger");
            return "unknown";
        };
        if !self.limits.allow(from, now()) {
            return "rate";
        }
        let datagram = without_token(datagram);
        let message = syslog::Message::parse(&datagram);
        tracing::debug!(
            machine = found.machine.name,
            facility = message.facility.name(),
            severity = message.severity.name(),
            app = message.app,
            text = message.text,
            "log message"
        );
        if self.writer.put(found, message) { "kept" } else { "dropped" }
    }

    fn sender(&mut self, from: IpAddr) -> Option<Found> {
        if let Ok(reserved) = self.backend.read().by_address(from) {
            return Some(reserved);
        }
        // Who has the address now counts before who had it when a script was fetched from there.
        let neighbour = if let IpAddr::V4(address) = from { self.neighbours.mac(address) } else { None };
        let known = |mac| self.backend.read().by_mac(mac).ok();
        neighbour.and_then(known).or_else(|| self.journal.at(from).and_then(known))
    }
}

/// Who has which address on our networks, as the kernel last saw it.
#[derive(Debug, Default)]
struct Neighbours {
    macs: HashMap<Ipv4Addr, Mac>,
    read: Option<Instant>,
}

impl Neighbours {
    /// The MAC of an address. The table is read anew when it is old and does not have it.
    fn mac(&mut self, address: Ipv4Addr) -> Option<Mac> {
        let old = self.read.is_none_or(|read| read.elapsed() >= NEIGHBOURS_AGE);
        if old {
            self.read = Some(Instant::now());
            self.macs = parse(&std::fs::read_to_string(NEIGHBOURS).unwrap_or_default());
        }
        self.macs.get(&address).copied()
    }
}

/// Complete entries of the table (proc(5)): address, type, flags (2 is complete), MAC.
fn parse(table: &str) -> HashMap<Ipv4Addr, Mac> {
    let entry = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (address, kind, flags, mac) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let usable = number(kind)? == 1 && number(flags)? & 2 != 0;
        if usable { Some((address.parse().ok()?, mac.parse().ok()?)) } else { None }
    };
    table.lines().skip(1).filter_map(entry).take(MAX_NEIGHBOURS).collect()
}

/// A datagram without the value of the kernel argument that proves who an agent is.
fn without_token(datagram: &[u8]) -> Cow<'_, [u8]> {
    let argument = format!("{}=", api::token::KERNEL_ARGUMENT);
    let Some(at) = datagram.windows(argument.len()).position(|window| window == argument.as_bytes()) else {
        return datagram.into();
    };
    let (before, value) = datagram.split_at(at + argument.len());
    let end = value.iter().position(|byte| b" \t\r\n\"'".contains(byte)).unwrap_or(value.len());
    let after = without_token(value.get(end..).unwrap_or_default());
    [before, b"***", &after].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_entries_of_the_neighbour_table_count() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     172.31.0.9       0x1         0x2         52:54:00:00:00:11     *        eth0\n\
                     172.31.0.8       0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     172.31.0.7       0x20        0x2         52:54:00:00:00:12     *        ib0\n\
                     here\n";
        let macs = parse(table);
        assert_eq!(macs.len(), 1);
        assert_eq!(macs[&Ipv4Addr::new(172, 31, 0, 9)].to_string(), "52:54:00:00:00:11");
    }
}
