// SPDX-License-Identifier: Apache-2.0
//! Asks whether an address of a pool is in use before it is offered: one ICMP echo request, as RFC 2131 section 3.1 wants it,
//! and a short wait.
//!
//! ```text
//!   offer ──► asked before? ──no──► echo request ──► nobody answers in time ──► sent
//!                 │ yes: sent                     └► somebody answers ──► not sent, the address is left alone
//! ```
//!
//! A task of its own, so that the listener never waits. A client asks again when it hears nothing, and is then offered
//! another address. [`Probes`] is pure; the socket is around it. An address that its client had before is not asked for: the
//! answer would be the client's own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::sender::{Outgoing, Sender};
use crate::ip::checksum;

/// Offers that wait at most; a further one is sent without being asked for, since a flood must keep no machine from its boot.
pub(super) const MAX_PENDING: usize = 1024;
/// How long nobody's silence counts: as long as an offer is kept for its client.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Addresses whose silence is remembered; beyond it the old ones are forgotten, which costs a wait.
const MAX_SILENT: usize = 4096;
/// Number of our requests among those of other programs.
const IDENTIFIER: u16 = 0x7462;
/// ICMP types (RFC 792).
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// An offer and the address that it is about.
pub(super) type Offer = (Ipv4Addr, Outgoing);

/// What is to be done with an offer.
#[derive(Debug, PartialEq, Eq)]
enum Step<T> {
    Send(T),
    Ask,
    Wait,
}

/// Which offers wait, and which addresses were silent.
#[derive(Debug)]
struct Probes<T> {
    wait: Duration,
    pending: HashMap<Ipv4Addr, T>,
    /// In the order of their end.
    ends: VecDeque<(Instant, Ipv4Addr)>,
    silent: HashMap<Ipv4Addr, Instant>,
}

impl<T> Probes<T> {
    fn new(wait: Duration) -> Self {
        Self { wait, pending: HashMap::new(), ends: VecDeque::new(), silent: HashMap::new() }
    }

    /// Takes an offer. A repeated one takes the place of the one that waits.
    fn offer(&mut self, address: Ipv4Addr, offer: T, now: Instant) -> Step<T> {
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < SILENT_FOR;
        if self.silent.get(&address).is_some_and(fresh) {
            return Step::Send(offer);
        }
        if let Some(waiting) = self.pending.get_mut(&address) {
            *waiting = offer;
            return Step::Wait;
        }
        if self.pending.len() >= MAX_PENDING {
            return Step::Send(offer);
        }
        self.pending.insert(address, offer);
        self.ends.push_back((now + self.wait, address));
        Step::Ask
    }

    /// Somebody has the address. True when an offer of it waited, which is gone then.
    fn answered(&mut self, address: Ipv4Addr) -> bool {
        self.silent.remove(&address);
        self.pending.remove(&address).is_some()
    }

    /// When the next wait ends.
    fn next_end(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// The offers whose wait is over.
    fn ended(&mut self, now: Instant) -> Vec<T> {
        let mut over = Vec::new();
        while let Some((_, address)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            let Some(offer) = self.pending.remove(&address) else { continue };
            if self.silent.len() >= MAX_SILENT {
                self.silent.retain(|_, since| now.saturating_duration_since(*since) < SILENT_FOR / 2);
            }
            if self.silent.len() < MAX_SILENT {
                self.silent.insert(address, now);
            }
            over.push(offer);
        }
        over
    }
}

/// A raw socket for ICMP, which the runtime takes for one of UDP: both send and receive datagrams. Needs CAP_NET_RAW.
#[derive(Debug)]
pub(super) struct Echo(UdpSocket);

impl Echo {
    /// Opens the socket.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket.into()).map(Self)
    }

    fn ask(&self, address: Ipv4Addr) -> io::Result<()> {
        self.0.try_send_to(&request(), SocketAddr::from((address, 0))).map(drop)
    }

    /// The next address that answered a request of ours.
    async fn answer(&self) -> io::Result<Ipv4Addr> {
        // The rest of a longer packet does not matter.
        let mut packet = [0; 128];
        loop {
            let length = self.0.recv(&mut packet).await?;
            if let Some(address) = reply_from(packet.get(..length).unwrap_or_default()) {
                return Ok(address);
            }
        }
    }
}

/// An echo request (RFC 792).
fn request() -> [u8; 8] {
    let [high, low] = IDENTIFIER.to_be_bytes();
    let [a, b] = checksum(&[&[ECHO_REQUEST, 0, 0, 0, high, low, 0, 1]]).to_be_bytes();
    [ECHO_REQUEST, 0, a, b, high, low, 0, 1]
}

/// Who sent an IPv4 packet that is a reply to one of ours.
fn reply_from(packet: &[u8]) -> Option<Ipv4Addr> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let [kind, _, _, _, high, low] = *packet.get(header..)?.first_chunk::<6>()?;
    (kind == ECHO_REPLY && u16::from_be_bytes([high, low]) == IDENTIFIER).then(|| Ipv4Addr::from(source))
}

/// Asks for every offer and sends those of addresses that nobody has; the others go to `conflicts`. Ends when there are no
/// more offers, and drops those that wait then.
pub(super) async fn run(
    (echo, wait): (Echo, Duration),
    mut offers: mpsc::Receiver<Offer>,
    conflicts: mpsc::Sender<Ipv4Addr>,
    sender: Sender,
) {
    let mut probes = Probes::new(wait);
    loop {
        let end = probes.next_end().map(tokio::time::Instant::from_std);
        let next = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            offer = offers.recv() => {
                let Some((address, offer)) = offer else { return };
                match probes.offer(address, offer, Instant::now()) {
                    Step::Send(offer) => sender.send(&offer).await,
                    Step::Wait => {}
                    // Without a route nobody is there to have it.
                    Step::Ask => echo.ask(address).unwrap_or_else(|error| {
                        tracing::debug!(%address, %error, "cannot ask for an address");
                    }),
                }
            }
            answer = echo.answer() => match answer {
                Ok(address) if probes.answered(address) => {
                    // A full queue means that this one is found again.
                    conflicts.try_send(address).unwrap_or_default();
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot hear who has an address");
                    tokio::time::sleep(wait).await;
                }
            },
            () = next => {
                for offer in probes.ended(Instant::now()) {
                    sender.send(&offer).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(500);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn an_offer_waits_for_silence_and_the_next_one_does_not() {
        let (mut probes, now) = (Probes::new(WAIT), Instant::now());
        assert_eq!(probes.offer(ip(1), "first", now), Step::Ask);
        assert_eq!(probes.offer(ip(1), "repeated", now), Step::Wait);
        assert_eq!(probes.next_end(), Some(now + WAIT));
        assert!(probes.ended(now + WAIT / 2).is_empty());
        assert_eq!(probes.ended(now + WAIT), ["repeated"]);
        assert_eq!(
            (probes.next_end(), probes.offer(ip(1), "again", now + WAIT)),
            (None, Step::Send("again"))
        );
        assert_eq!(probes.offer(ip(1), "late", now + WAIT + SILENT_FOR), Step::Ask);
    }

    #[test]
    fn an_address_that_answers_is_not_offered() {
        let (mut probes, now) = (Probes::new(WAIT), Instant::now());
        probes.offer(ip(1), "taken", now);
        assert!(!probes.answered(ip(2)), "nobody asked");
        assert!(probes.answered(ip(1)) && !probes.answered(ip(1)), "told once");
        assert!(probes.ended(now + WAIT).is_empty());
        assert_eq!(probes.offer(ip(1), "again", now + WAIT), Step::Ask, "an answer is not silence");
    }

    #[test]
    fn a_flood_is_bounded_and_keeps_nobody_waiting() {
        let (mut probes, now) = (Probes::new(WAIT), Instant::now());
        let all = u32::try_from(MAX_PENDING).unwrap();
        for i in 0..all {
            assert_eq!(probes.offer(Ipv4Addr::from(i), (), now), Step::Ask);
        }
        assert_eq!(probes.offer(Ipv4Addr::from(all), (), now), Step::Send(()));
        for round in 0..8 {
            let now = now + WAIT * (round + 1);
            probes.ended(now);
            for i in 0..all {
                probes.offer(Ipv4Addr::from((round + 1) * all + i), (), now);
            }
        }
        assert!(probes.silent.len() <= MAX_SILENT && probes.pending.len() <= MAX_PENDING);
    }

    #[test]
    fn only_replies_to_ours_count() {
        let sent = request();
        assert_eq!(checksum(&[&sent]), 0);
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 0, 0, 7]);
        packet[20..].copy_from_slice(&[ECHO_REPLY, 0, 0, 0, sent[4], sent[5], 0, 1]);
        assert_eq!(reply_from(&packet), Some(ip(7)));
        packet[20] = ECHO_REQUEST;
        assert_eq!(reply_from(&packet), None, "our own request over the loopback interface");
        packet[20] = ECHO_REPLY;
        packet[24] ^= 1;
        assert_eq!(reply_from(&packet), None);
        assert_eq!(reply_from(&packet[..22]), None);
        assert_eq!(reply_from(&[]), None);
    }
}
