// SPDX-License-Identifier: Apache-2.0
//! The pure sender against a model: a client of RFC 1350 and RFC 7440 at the other end of a channel that loses, doubles
//! and reorders packets. Time is the model's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tftp::{Event, Negotiated, Outcome, Output, Transfer};

const BLOCK_SIZE: u16 = 512;
/// What a client waits before it says again what it said last.
const CLIENT_TIMEOUT: u64 = 1_000_000;
/// One way, in microseconds.
const DELAY: u64 = 200;
/// Between two packets.
const SPACING: u64 = 12;

/// What the channel does, in percent of the packets.
#[derive(Debug, Clone, Copy)]
struct Channel {
    lost: u64,
    doubled: u64,
    /// Delayed by up to a millisecond, past others.
    late: u64,
}

const CLEAN: Channel = Channel { lost: 0, doubled: 0, late: 0 };

/// What a client does about a block that it does not expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says once what it has, as RFC 7440 section 4 asks.
    Once,
    /// Says so for every such block, as EDK II does.
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Oack,
    /// The whole number stands for the content; the client sees only its low 16 bits.
    Data(u64),
    Request,
    Ack(u16),
}

fn wire(block: u64) -> u16 {
    u16::try_from(block & 0xffff).unwrap()
}

struct Client {
    manner: Manner,
    window: u64,
    last: u64,
    /// Nothing before the first answer.
    have: Option<u64>,
    since_ack: u64,
    complained: bool,
    deadline: u64,
}

impl Client {
    fn take(&mut self, packet: Packet, now: u64) -> Option<Packet> {
        self.deadline = now + CLIENT_TIMEOUT;
        let have = match (packet, self.have) {
            (Packet::Oack, None) => {
                self.have = Some(0);
                return Some(Packet::Ack(0));
            }
            // A repeated OACK: the ACK of it was lost.
            (Packet::Oack, Some(0)) => return Some(Packet::Ack(0)),
            (Packet::Data(_), Some(have)) => have,
            _ => return None,
        };
        let Packet::Data(block) = packet else { return None };
        if wire(block) != wire(have + 1) {
            let silent = self.manner == Manner::Once && std::mem::replace(&mut self.complained, true);
            self.since_ack = 0;
            return (!silent).then_some(Packet::Ack(wire(have)));
        }
        assert_eq!(block, have + 1, "a block that another one was taken for");
        self.have = Some(block);
        self.complained = false;
        self.since_ack += 1;
        let is_due = self.since_ack >= self.window || block == self.last;
        is_due.then(|| {
            self.since_ack = 0;
            Packet::Ack(wire(block))
        })
    }

    fn timeout(&mut self, now: u64) -> Packet {
        self.deadline = now + CLIENT_TIMEOUT;
        (self.since_ack, self.complained) = (0, false);
        self.have.map_or(Packet::Request, |have| Packet::Ack(wire(have)))
    }
}

/// Both ends and what lies between.
struct World {
    channel: Channel,
    dice: u64,
    on_the_way: BinaryHeap<Reverse<(u64, u64, Packet)>>,
    packets: u64,
    /// DATA packets that left the server.
    sent: u64,
    /// When the server's link has sent what it has to send.
    idle: u64,
}

impl World {
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % 100
    }

    fn put(&mut self, packet: Packet, now: u64) {
        if self.roll() < self.channel.lost {
            return;
        }
        let copies = if self.roll() < self.channel.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.roll() < self.channel.late { self.roll() * 10 } else { 0 };
            self.packets += 1;
            self.on_the_way.push(Reverse((now + DELAY + late, self.packets, packet)));
        }
    }

    fn send(&mut self, output: &Output, now: u64) {
        match output {
            Output::Oack => self.put(Packet::Oack, now),
            Output::Blocks(blocks) => {
                for block in blocks.clone() {
                    self.sent += 1;
                    self.idle = self.idle.max(now);
                    self.put(Packet::Data(block), self.idle);
                    self.idle += SPACING;
                }
            }
            Output::Wait | Output::Finished(_) => {}
        }
    }
}

/// Plays a transfer to its end; how many DATA packets the server sent, and how long it took.
fn play(channel: Channel, manner: Manner, window: u16, blocks: u64, seed: u64) -> (u64, Duration) {
    let epoch = Instant::now();
    let at = |now: u64| epoch + Duration::from_micros(now);
    let negotiated = Negotiated { block_size: BLOCK_SIZE, window, timeout: None, oack: Some(vec![0, 6]) };
    let (longest, patience) = (Duration::from_secs(10), Duration::from_secs(50));
    let size = blocks * u64::from(BLOCK_SIZE) - 1;
    let mut server = Transfer::new(&negotiated, size, longest, patience, epoch);
    let mut client = Client {
        manner,
        window: window.into(),
        last: blocks,
        have: None,
        since_ack: 0,
        complained: false,
        deadline: CLIENT_TIMEOUT,
    };
    let mut world =
        World { channel, dice: seed, on_the_way: BinaryHeap::new(), packets: 0, sent: 0, idle: 0 };
    world.send(&server.on(Event::Start, epoch), 0);
    loop {
        let server_due = u64::try_from((server.deadline() - epoch).as_nanos().div_ceil(1000)).unwrap();
        let arrival = world.on_the_way.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let now = arrival.min(server_due).min(client.deadline);
        let event = if arrival == now {
            let Reverse((_, _, packet)) = world.on_the_way.pop().unwrap();
            match packet {
                Packet::Ack(block) => Some(Event::Ack(block)),
                Packet::Request => Some(Event::RepeatedRequest),
                Packet::Oack | Packet::Data(_) => {
                    if let Some(answer) = client.take(packet, now) {
                        world.put(answer, now);
                    }
                    None
                }
            }
        } else if client.deadline == now {
            let said = client.timeout(now);
            world.put(said, now);
            None
        } else {
            Some(Event::Timeout)
        };
        let Some(event) = event else { continue };
        match server.on(event, at(now)) {
            Output::Finished(outcome) => {
                assert_eq!((outcome, client.have), (Outcome::Complete, Some(blocks)));
                return (world.sent, Duration::from_micros(now));
            }
            output => world.send(&output, now),
        }
    }
}

fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::Once), Just(Manner::Always)]
}

proptest! {
    /// Whatever happens on the way, a living client gets every block in the end, and in order.
    #[test]
    fn a_living_client_gets_everything(
        channel in (0u64..=15, 0u64..=30, 0u64..=30)
            .prop_map(|(lost, doubled, late)| Channel { lost, doubled, late }),
        manner in manners(),
        window in 1u16..=64,
        blocks in 1u64..600,
        seed: u64,
    ) {
        play(channel, manner, window, blocks, seed);
    }

    /// Nothing is sent twice without a reason.
    #[test]
    fn a_clean_channel_sees_every_block_once(
        manner in manners(),
        window in 1u16..=64,
        blocks in 1u64..600,
    ) {
        prop_assert_eq!(play(CLEAN, manner, window, blocks, 0).0, blocks);
    }

    /// Copies made on the way do not make the sender copy everything after them (the sorcerer's apprentice).
    #[test]
    fn copies_do_not_breed(
        manner in manners(),
        window in 1u16..=64,
        blocks in 200u64..2000,
        doubled in 1u64..=100,
        seed: u64,
    ) {
        let (sent, _) = play(Channel { doubled, ..CLEAN }, manner, window, blocks, seed);
        // Four for each one that was acknowledged, and those of timeouts.
        let most = if window == 1 { blocks } else { blocks * 5 + 320 };
        prop_assert!(sent <= most, "{} for {} blocks", sent, blocks);
    }
}

/// The wire has 16 bits for a number.
#[test]
fn numbers_wrap() {
    let channel = Channel { lost: 1, doubled: 1, late: 1 };
    for (manner, window) in [(Manner::Once, 1), (Manner::Always, 7), (Manner::Once, 64)] {
        play(channel, manner, window, 65_700, 3);
    }
}

/// What one loss in a hundred costs: the rest of a window each, and a timeout now and then.
#[test]
fn little_loss_costs_little() {
    let channel = Channel { lost: 1, ..CLEAN };
    for (manner, window) in [(Manner::Once, 64), (Manner::Always, 64), (Manner::Once, 1), (Manner::Always, 1)]
    {
        let blocks = 20_000;
        let (sent, took) = play(channel, manner, window, blocks, 7);
        let (_, clean) = play(CLEAN, manner, window, blocks, 7);
        assert!(sent < blocks * 2, "{manner:?} {window}: {sent} for {blocks} blocks");
        // Each lost block and each lost ACK costs a timeout of little more than 50 ms at most.
        let losses = u32::try_from(blocks / 50).unwrap();
        let bound = clean * 4 + Duration::from_millis(60) * losses;
        assert!(took < bound, "{manner:?} {window}: {took:?}, {clean:?} without loss");
    }
}
