// SPDX-License-Identifier: Apache-2.0
//! The packets of each machine's last boot: kept on disk, bounded per machine and in all, and read by people.
//!
//! ```text
//!   DHCP, TFTP, HTTP --(bounded queue)--> one task: one pcapng file per machine --> HTTP reads the files
//! ```
//!
//! A packet that finds the queue full is dropped and counted; whoever answers packets never waits. One task owns the files. The
//! first packet of a new boot, by the number that `session` gives it, takes the place of all of the boot before. Files are a trace
//! and not a record: they are not synced, and a block that a crash tore is passed over.
//!
//! What is kept is what this daemon saw: DHCP and DHCPv6 whole, of TFTP the request, the OACK, the head of the first block, errors and
//! the end, of HTTP the heads. No content of a file or script is, so that no token is in them; what authorises a client is
//! masked. The headers below UDP and TCP are made (`ip`), from the addresses that the kernel told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::backend::Found;
use crate::kept::Name;
use crate::metrics::Metrics;

mod files;
pub(crate) mod http;
mod pcapng;

use files::Store;

/// Packets that wait for the disk; further ones are dropped. With [`SNAP`] it is the bound of memory: 4 MiB.
const QUEUE: usize = 2048;
/// Packets that go to the disk at once.
const BATCH: usize = 256;
/// Bytes that are kept of what a packet carries. DHCP has less; a longer head of HTTP is cut.
pub(crate) const SNAP: usize = 2048;
/// Bytes of a machine's file: a boot over every protocol has some 20 KiB. What comes after that is counted and not kept, so that it
/// is the beginning of a boot that one can read.
pub(crate) const MACHINE: u64 = 128 << 10;

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// What carried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A packet that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    at: SystemTime,
    way: Way,
    transport: Transport,
    from: SocketAddr,
    to: SocketAddr,
    /// What is kept of it, at most [`SNAP`] bytes.
    bytes: Vec<u8>,
    /// Bytes that it had.
    length: u64,
    /// What is to be said of it.
    note: Option<String>,
}

impl Packet {
    /// A packet that came from a client now.
    pub(crate) fn received((client, us): (SocketAddr, SocketAddr), bytes: &[u8]) -> Self {
        Self::new(Way::In, (client, us), bytes)
    }

    /// A packet that went to a client now.
    pub(crate) fn sent((us, client): (SocketAddr, SocketAddr), bytes: &[u8]) -> Self {
        Self::new(Way::Out, (us, client), bytes)
    }

    fn new(way: Way, (from, to): (SocketAddr, SocketAddr), bytes: &[u8]) -> Self {
        let (from, to) = paired(plain(from), plain(to));
        let (at, length) = (SystemTime::now(), bytes.len() as u64);
        let bytes = bytes.get(..SNAP).unwrap_or(bytes).to_vec();
        Self { at, way, transport: Transport::Udp, from, to, bytes, length, note: None }
    }

    /// When it really came or went.
    pub(crate) fn at(self, at: SystemTime) -> Self {
        Self { at, ..self }
    }

    /// One that is longer than what was given of it.
    pub(crate) fn of_length(self, length: u64) -> Self {
        Self { length: length.max(self.length), ..self }
    }

    /// A part of a TCP stream.
    pub(crate) fn over_tcp(self) -> Self {
        Self { transport: Transport::Tcp, ..self }
    }

    /// With a word about it.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// An address without the form that IPv4 has on an IPv6 socket.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Both ends in one version of IP: where only one end is known the other one is unspecified, of no version in particular.
fn paired(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let like = |address: SocketAddr, other: SocketAddr| match address {
        address if address.is_ipv4() == other.is_ipv4() || !address.ip().is_unspecified() => address,
        address if other.is_ipv4() => (std::net::Ipv4Addr::UNSPECIFIED, address.port()).into(),
        address => (std::net::Ipv6Addr::UNSPECIFIED, address.port()).into(),
    };
    (like(from, to), like(to, from))
}

/// Where captures are kept, and how much of them.
#[derive(Debug, Clone)]
pub struct CaptureConfig {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes in all.
    pub total: u64,
}

/// A packet on its way to the disk.
#[derive(Debug)]
struct Entry {
    name: Name,
    boot: u64,
    packet: Packet,
}

/// The way in.
#[derive(Debug, Clone)]
pub(crate) struct Captures {
    queue: mpsc::Sender<Entry>,
}

/// The way out.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    dir: Arc<Path>,
}

impl Captures {
    /// Hands a packet of a boot on; false when too many wait.
    pub(crate) fn put(&self, found: &Found, boot: u64, packet: Packet) -> bool {
        self.queue.try_send(Entry { name: Name::of(found), boot, packet }).is_ok()
    }
}

impl Reader {
    /// The capture of a machine's last boot as a whole file; nothing when there is none.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub(crate) async fn read(&self, name: &Name) -> io::Result<Option<Vec<u8>>> {
        let (dir, name) = (Arc::clone(&self.dir), name.clone());
        tokio::task::spawn_blocking(move || files::read(&dir, &name)).await.map_err(io::Error::other)?
    }
}

/// Opens the directory and starts the task, which ends when the last way in is gone.
///
/// # Errors
///
/// When the directory cannot be made or listed.
pub(crate) fn spawn(
    config: &CaptureConfig,
    metrics: Metrics,
) -> io::Result<(Captures, Reader, JoinHandle<()>)> {
    let store = Store::open(&config.dir, config.total)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let reader = Reader { dir: config.dir.as_path().into() };
    Ok((Captures { queue }, reader, tokio::spawn(write_all(store, waiting, metrics))))
}

async fn write_all(mut store: Store, mut waiting: mpsc::Receiver<Entry>, metrics: Metrics) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut by_boot: BTreeMap<(Name, u64), Vec<Packet>> = BTreeMap::new();
        for Entry { name, boot, packet } in batch.drain(..) {
            by_boot.entry((name, boot)).or_default().push(packet);
        }
        let written = tokio::task::spawn_blocking(move || {
            let outcomes: Vec<_> = by_boot
                .into_iter()
                .map(|((name, boot), packets)| (store.append(&name, boot, &packets), packets.len(), name))
                .collect();
            let gone = store.shrink();
            (store, outcomes, gone)
        });
        let Ok((back, outcomes, gone)) = written.await else {
            // The store is lost with the panic, which ends the process.
            return tracing::error!("the task that writes captures panicked");
        };
        store = back;
        for (outcome, packets, name) in outcomes {
            match outcome {
                Ok(kept) => {
                    metrics.captured("kept", kept);
                    metrics.captured("full", packets - kept);
                }
                Err(error) => {
                    metrics.captured("failed", packets);
                    tracing::warn!(machine = name.machine, %error, packets, "packets of a machine were not kept");
                }
            }
        }
        for name in gone {
            tracing::info!(
                machine = name.machine,
                "the packets of a silent machine were removed to make room"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_of_one_version_and_what_is_long_is_cut() {
        let ends = |from: &str, to: &str| {
            let packet = Packet::received((from.parse().unwrap(), to.parse().unwrap()), &[7; SNAP + 1]);
            assert_eq!((packet.bytes.len(), packet.length), (SNAP, SNAP as u64 + 1));
            (packet.from.to_string(), packet.to.to_string())
        };
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(ends("[::ffff:10.0.0.1]:5", "[::]:69"), pair("10.0.0.1:5", "0.0.0.0:69"));
        assert_eq!(ends("[fe80::1]:5", "0.0.0.0:69"), pair("[fe80::1]:5", "[::]:69"));
        assert_eq!(ends("0.0.0.0:68", "255.255.255.255:67"), pair("0.0.0.0:68", "255.255.255.255:67"));
    }
}
