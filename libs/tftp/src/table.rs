// SPDX-License-Identifier: Apache-2.0
//! Which transfers run: finds the one that a packet belongs to, and decides whether one more is let in.
//!
//! Pure but for the handles that it keeps. Owned by the server's task. Transfers are bounded in all and per client address.
//! When all places are taken, the oldest transfer whose client never answered gives way: a flood of requests from invented
//! addresses shortens nobody's transfer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::packet::Request;
use crate::transfer::Event;

/// An identical request from the same port that comes this long after the first one is a new transfer, not a repeat.
const REPEAT_WINDOW: Duration = Duration::from_secs(3);
/// Packets of a client that wait for its transfer; more are lost, which the protocol allows.
const QUEUE: usize = 64;

/// Why a request is dropped. The client repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// This client has as many transfers as one may have.
    ClientLimit,
    /// All places are taken by clients that answer.
    ServerLimit,
    /// This client asks too often.
    Rate,
}

/// What becomes of a request.
pub(crate) enum Admission {
    /// It belongs to a running transfer, which was told.
    Repeat,
    Dropped(Dropped),
    Admitted(Admitted),
}

/// What a transfer that was let in has in common with the table.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) id: u64,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) stop: CancellationToken,
    /// To be set when the client has acknowledged something.
    pub(crate) confirmed: Arc<AtomicBool>,
}

/// What the table knows of a running transfer.
#[derive(Debug)]
struct Entry {
    id: u64,
    request: Request,
    asked: Instant,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    confirmed: Arc<AtomicBool>,
}

/// The running transfers.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<SocketAddr, Entry>,
    per_client: HashMap<IpAddr, usize>,
    max: usize,
    max_per_client: usize,
    next_id: u64,
    stop: CancellationToken,
}

impl Table {
    /// `stop` ends every transfer.
    pub(crate) fn new(max: usize, max_per_client: usize, stop: CancellationToken) -> Self {
        let (entries, per_client) = (HashMap::new(), HashMap::new());
        Self { entries, per_client, max, max_per_client, next_id: 0, stop }
    }

    /// A request came. One that differs from that of a running transfer from the same port ends it.
    pub(crate) fn request(&mut self, peer: SocketAddr, request: &Request, now: Instant) -> Admission {
        if let Some(entry) = self.entries.get(&peer) {
            let is_recent = now.saturating_duration_since(entry.asked) < REPEAT_WINDOW;
            if is_recent && entry.request == *request && !entry.events.is_closed() {
                // What waits in the queue was not answered yet, so that one answer is for both.
                if entry.events.capacity() == entry.events.max_capacity() {
                    deliver(entry, Event::RepeatedRequest);
                }
                return Admission::Repeat;
            }
            self.remove(peer);
        }
        if self.per_client.get(&peer.ip()).is_some_and(|count| *count >= self.max_per_client) {
            return Admission::Dropped(Dropped::ClientLimit);
        }
        if self.entries.len() >= self.max {
            let silent = self.entries.iter().filter(|(_, entry)| !entry.confirmed.load(Ordering::Relaxed));
            match silent.min_by_key(|(_, entry)| entry.id).map(|(peer, _)| *peer) {
                Some(oldest) => self.remove(oldest),
                None => return Admission::Dropped(Dropped::ServerLimit),
            }
        }
        Admission::Admitted(self.admit(peer, request, now))
    }

    /// A packet came that may belong to a transfer.
    pub(crate) fn packet(&self, peer: SocketAddr, event: Event) {
        if let Some(entry) = self.entries.get(&peer) {
            deliver(entry, event);
        }
    }

    /// A transfer ended by itself.
    pub(crate) fn ended(&mut self, peer: SocketAddr, id: u64) {
        if self.entries.get(&peer).is_some_and(|entry| entry.id == id) {
            self.remove(peer);
        }
    }

    fn admit(&mut self, peer: SocketAddr, request: &Request, now: Instant) -> Admitted {
        self.next_id += 1;
        let (sender, events) = mpsc::channel(QUEUE);
        let admitted = Admitted {
            id: self.next_id,
            events,
            stop: self.stop.child_token(),
            confirmed: Arc::new(AtomicBool::new(false)),
        };
        let entry = Entry {
            id: self.next_id,
            request: request.clone(),
            asked: now,
            events: sender,
            stop: admitted.stop.clone(),
            confirmed: Arc::clone(&admitted.confirmed),
        };
        self.entries.insert(peer, entry);
        *self.per_client.entry(peer.ip()).or_default() += 1;
        admitted
    }

    fn remove(&mut self, peer: SocketAddr) {
        let Some(entry) = self.entries.remove(&peer) else { return };
        entry.stop.cancel();
        if let Some(count) = self.per_client.get_mut(&peer.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_client.remove(&peer.ip());
            }
        }
    }
}

fn deliver(entry: &Entry, event: Event) {
    if entry.events.try_send(event).is_err() {
        tracing::trace!("packet lost: its transfer is busy or over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Mode;

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    fn request(name: &str) -> Request {
        Request { name: name.into(), mode: Mode::Octet, options: Vec::new() }
    }

    fn table(max: usize, per_client: usize) -> Table {
        Table::new(max, per_client, CancellationToken::new())
    }

    fn admit(table: &mut Table, peer: SocketAddr, name: &str) -> Result<Admitted, Option<Dropped>> {
        match table.request(peer, &request(name), Instant::now()) {
            Admission::Admitted(admitted) => Ok(admitted),
            Admission::Dropped(dropped) => Err(Some(dropped)),
            Admission::Repeat => Err(None),
        }
    }

    #[test]
    fn a_repeat_is_told_once_and_another_request_replaces() {
        let mut table = table(9, 9);
        let mut first = admit(&mut table, peer(1, 7), "a").unwrap();
        assert_eq!(admit(&mut table, peer(1, 7), "a").unwrap_err(), None);
        assert_eq!(admit(&mut table, peer(1, 7), "a").unwrap_err(), None);
        assert_eq!(first.events.try_recv(), Ok(Event::RepeatedRequest));
        assert!(first.events.try_recv().is_err(), "both were answered at once");
        let second = admit(&mut table, peer(1, 7), "b").unwrap();
        assert!(first.stop.is_cancelled() && !second.stop.is_cancelled());
        table.ended(peer(1, 7), first.id);
        table.packet(peer(1, 7), Event::Ack(0));
        let mut second = second;
        assert_eq!(second.events.try_recv(), Ok(Event::Ack(0)), "the end of the first one is not its end");
    }

    #[test]
    fn a_request_that_comes_back_later_is_a_new_transfer() {
        let mut table = table(9, 9);
        let first = admit(&mut table, peer(1, 7), "a").unwrap();
        let later = Instant::now() + REPEAT_WINDOW;
        assert!(matches!(table.request(peer(1, 7), &request("a"), later), Admission::Admitted(_)));
        assert!(first.stop.is_cancelled());
    }

    #[test]
    fn one_client_has_its_share_and_gets_it_back() {
        let mut table = table(9, 2);
        let first = admit(&mut table, peer(1, 1), "a").unwrap();
        admit(&mut table, peer(1, 2), "a").unwrap();
        assert_eq!(admit(&mut table, peer(1, 3), "a").unwrap_err(), Some(Dropped::ClientLimit));
        admit(&mut table, peer(2, 3), "a").unwrap();
        table.ended(peer(1, 1), first.id);
        admit(&mut table, peer(1, 3), "a").unwrap();
        assert_eq!(table.per_client.values().sum::<usize>(), table.entries.len());
    }

    #[test]
    fn clients_that_never_answered_give_way() {
        let mut table = table(3, 9);
        let answering = admit(&mut table, peer(1, 1), "a").unwrap();
        answering.confirmed.store(true, Ordering::Relaxed);
        let silent = admit(&mut table, peer(2, 1), "a").unwrap();
        let newer = admit(&mut table, peer(3, 1), "a").unwrap();
        let next = admit(&mut table, peer(4, 1), "a").unwrap();
        assert!(silent.stop.is_cancelled() && !newer.stop.is_cancelled() && !answering.stop.is_cancelled());
        for admitted in [&newer, &next] {
            admitted.confirmed.store(true, Ordering::Relaxed);
        }
        assert_eq!(admit(&mut table, peer(5, 1), "a").unwrap_err(), Some(Dropped::ServerLimit));
        assert_eq!((table.entries.len(), table.per_client.len()), (3, 3));
    }
}
