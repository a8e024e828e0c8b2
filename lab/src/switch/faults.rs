// SPDX-License-Identifier: Apache-2.0
//! What goes wrong on a cable: frames that are lost, frames that are late, and firmware that is poorer than QEMU's.
//!
//! Pure: which frame is lost follows from the seed, so that a run can be repeated. [`super::fabric`] asks for every frame of
//! the port.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Frames that are on their way at most; the next ones are lost.
const MAX_LATE: usize = 1024;
/// Machines whose progress is remembered; those beyond it are never stripped.
const MAX_MACHINES: usize = 1024;

/// Ethernet header without a tag.
const ETHERNET: usize = 14;
/// Fixed part of a BOOTP message (RFC 951), then the cookie of DHCP.
const BOOTP: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Options by which an iPXE is known: the user class (RFC 3004), and its own.
const STRIPPED: [u8; 2] = [77, 175];
/// The program that a PXE client loads which is no iPXE.
const PROGRAM: &[u8] = b"undionly.kpxe\0";

/// Faults of one port, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames that are lost.
    pub loss: Loss,
    /// How late every frame is.
    pub delay: Duration,
    /// Whether the machine's iPXE ROM is to pass for one that is none, until it runs what such a one loads.
    pub plain_rom: bool,
}

/// How many frames are lost, and which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Of a thousand.
    pub per_mille: u16,
    /// Another seed, other frames.
    pub seed: u64,
}

/// The faults of one port at work.
#[derive(Debug)]
pub(super) struct Faulty {
    faults: Faults,
    state: u64,
    late: VecDeque<(Instant, Way, Vec<u8>)>,
    booted: HashSet<[u8; 6]>,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the machine into the switch.
    In,
    /// From the switch to the machine.
    Out,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on, now.
    Passes,
    /// It is lost.
    Lost,
    /// It comes back from [`Faulty::due`].
    Late,
}

impl Faulty {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, state: faults.loss.seed, late: VecDeque::new(), booted: HashSet::new() }
    }

    /// Decides about a frame, and changes it if it shows an iPXE.
    pub(super) fn meet(&mut self, way: Way, frame: &mut [u8], now: Instant) -> Fate {
        if self.loses() {
            return Fate::Lost;
        }
        if way == Way::In && self.faults.plain_rom {
            self.strip(frame);
        }
        if self.faults.delay.is_zero() {
            return Fate::Passes;
        }
        if self.late.len() >= MAX_LATE {
            return Fate::Lost;
        }
        self.late.push_back((now + self.faults.delay, way, frame.to_vec()));
        Fate::Late
    }

    /// The next frame whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Way, Vec<u8>)> {
        let (_, way, frame) = self.late.pop_front_if(|(at, ..)| *at <= now)?;
        Some((way, frame))
    }

    /// When that is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.late.front().map(|(at, ..)| *at)
    }

    /// The next draw; SplitMix64, whose numbers are the same everywhere.
    fn loses(&mut self) -> bool {
        if self.faults.loss.per_mille == 0 {
            return false;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1000 < u64::from(self.faults.loss.per_mille)
    }

    /// Blanks the options of an iPXE in a DHCP request, until its machine has asked for the program that a ROM loads which is
    /// no iPXE: from then on it is that program's iPXE that speaks.
    fn strip(&mut self, frame: &mut [u8]) {
        let Some(source) = frame.get(6..12).and_then(|source| source.first_chunk::<6>().copied()) else {
            return;
        };
        if self.booted.contains(&source) || self.booted.len() >= MAX_MACHINES {
            return;
        }
        match udp(frame) {
            Some((_, 67, at)) => blank(frame, at),
            Some((_, 69, at)) => {
                let request = frame.get(at..).unwrap_or_default();
                if request.starts_with(&[0, 1]) && request.windows(PROGRAM.len()).any(|part| part == PROGRAM)
                {
                    self.booted.insert(source);
                }
            }
            _ => {}
        }
    }
}

/// Ports of a UDP datagram over IPv4 that is no fragment, and where its payload begins.
fn udp(frame: &[u8]) -> Option<(u16, u16, usize)> {
    let packet = frame.get(ETHERNET..)?;
    let [first, _, _, _, _, _, flags, offset, _, protocol] = *packet.first_chunk::<10>()?;
    let whole = u16::from_be_bytes([flags, offset]) & 0x3fff == 0;
    if frame.get(12..14) != Some(&[8, 0]) || first >> 4 != 4 || protocol != 17 || !whole {
        return None;
    }
    let header = usize::from(first & 0x0f) * 4;
    let [a, b, c, d, ..] = *packet.get(header..)?.first_chunk::<8>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), ETHERNET + header + 8))
}

/// Makes padding (RFC 2132 section 3.1) of the options that show an iPXE; no length changes. The checksum becomes that of a
/// datagram without one (RFC 768).
fn blank(frame: &mut [u8], payload: usize) {
    let begin = payload + BOOTP + COOKIE.len();
    if frame.get(payload + BOOTP..begin) != Some(&COOKIE) {
        return;
    }
    let Some(options) = frame.get_mut(begin..) else { return };
    let (mut at, mut changed) = (0, false);
    while let Some(code) = options.get(at).copied().filter(|code| *code != 255) {
        let length =
            if code == 0 { 1 } else { options.get(at + 1).map_or(1, |length| usize::from(*length) + 2) };
        if STRIPPED.contains(&code)
            && let Some(option) = options.get_mut(at..at + length)
        {
            option.fill(0);
            changed = true;
        }
        at += length;
    }
    if changed && let Some(checksum) = frame.get_mut(payload - 2..payload) {
        checksum.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
    const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x12];

    /// A UDP datagram in an Ethernet frame.
    fn datagram(source: [u8; 6], (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut frame = [&[0xff; 6][..], &source, &[8, 0]].concat();
        frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([from.to_be_bytes(), to.to_be_bytes(), [0, 0], [0xab, 0xcd]].concat());
        frame.extend(payload);
        frame
    }

    fn discover(source: [u8; 6], options: &[u8]) -> Vec<u8> {
        datagram(source, (68, 67), &[&[1; BOOTP][..], &COOKIE, options].concat())
    }

    fn port(faults: Faults) -> Faulty {
        Faulty::new(faults)
    }

    const IPXE: &[u8] = b"\x35\x01\x01\x4d\x04iPXE\x00\xaf\x03\x13\x01\x01\x3c\x02ab\xff";
    const PLAIN: &[u8] = b"\x35\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\x3c\x02ab\xff";

    #[test]
    fn a_seed_loses_the_same_frames_and_as_many_as_it_should() {
        let lost = |seed| {
            let mut port = port(Faults { loss: Loss { per_mille: 20, seed }, ..Faults::default() });
            let now = Instant::now();
            (0..10_000).filter(|_| port.meet(Way::Out, &mut [], now) == Fate::Lost).collect::<Vec<i32>>()
        };
        let first = lost(7);
        assert!((150..250).contains(&first.len()), "{}", first.len());
        assert_eq!(lost(7), first);
        assert_ne!(lost(8), first);
        let mut sound = port(Faults::default());
        assert!((0..1000).all(|_| sound.meet(Way::In, &mut [], Instant::now()) == Fate::Passes));
    }

    #[test]
    fn late_frames_come_in_order_and_are_bounded() {
        let mut port = port(Faults { delay: Duration::from_millis(30), ..Faults::default() });
        let now = Instant::now();
        assert_eq!(port.meet(Way::In, &mut [1], now), Fate::Late);
        assert_eq!(port.meet(Way::Out, &mut [2], now), Fate::Late);
        let then = now + Duration::from_millis(30);
        assert_eq!((port.due(now), port.next()), (None, Some(then)));
        assert_eq!(port.due(then), Some((Way::In, vec![1])));
        assert_eq!(port.due(then), Some((Way::Out, vec![2])));
        assert_eq!((port.due(then), port.next()), (None, None));
        let fates = (0..MAX_LATE + 1).map(|_| port.meet(Way::Out, &mut [], now));
        assert_eq!(fates.filter(|fate| *fate == Fate::Lost).count(), 1);
    }

    #[test]
    fn a_rom_passes_for_plain_until_it_loads_undionly() {
        let mut port = port(Faults { plain_rom: true, ..Faults::default() });
        let mut meet = |way, mut frame: Vec<u8>| {
            assert_eq!(port.meet(way, &mut frame, Instant::now()), Fate::Passes);
            frame
        };
        let (shows, plain) = (discover(A, IPXE), discover(A, PLAIN));
        let stripped = meet(Way::In, shows.clone());
        assert_eq!(stripped[42..], plain[42..]);
        assert_eq!((stripped.len(), &stripped[40..42]), (shows.len(), &[0, 0][..]), "the checksum is none");
        assert_eq!(meet(Way::In, plain.clone()), plain, "nothing to strip");
        assert_eq!(meet(Way::Out, shows.clone()), shows, "the other way");
        let other = datagram(A, (1234, 69), b"\0\x01ipxe.efi\0octet\0");
        meet(Way::In, other);
        assert_ne!(meet(Way::In, shows.clone()), shows, "another program");
        meet(Way::In, datagram(A, (1234, 69), b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0"));
        assert_eq!(meet(Way::In, shows.clone()), shows, "undionly.kpxe speaks");
        assert_ne!(meet(Way::In, discover(B, IPXE)), discover(B, IPXE), "each machine for itself");
    }

    #[test]
    fn broken_frames_pass_as_they_are() {
        let mut port = port(Faults { plain_rom: true, ..Faults::default() });
        let shows = discover(A, IPXE);
        for length in 0..shows.len() {
            let mut frame = shows[..length].to_vec();
            assert_eq!(port.meet(Way::In, &mut frame, Instant::now()), Fate::Passes);
            assert_eq!(frame.len(), length);
        }
        let mut cut = discover(A, b"\x4d\xc8iPXE");
        let before = cut.clone();
        port.meet(Way::In, &mut cut, Instant::now());
        assert_eq!(cut, before, "an option that is cut off");
    }
}
