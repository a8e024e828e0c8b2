// SPDX-License-Identifier: Apache-2.0
//! Boot sessions: how far each machine is on its way from firmware to kernel, and the number of that boot.
//!
//! ```text
//!   Asking ──ACK──► Leased ──program──► Loaded ──script──► Scripted ──kernel──► Kernel
//! ```
//!
//! The boot number is the time of the first DHCP packet of the boot, in unix seconds, so it grows without being stored.
//! A new boot begins when firmware asks again after it got further than asking, when an iPXE asks again after its
//! script was served (it then is the network card's own ROM after a reset), or after [`IDLE`] seconds of silence.
//! Packets of an operating system (no network-boot client) neither begin nor continue a boot.
//!
//! The address from which a machine fetched its script is remembered, until another one does from there: where addresses come
//! from another DHCP server, it is by this that what is fetched afterwards is known to be the machine's.
//!
//! The programs that were fully sent in this boot are remembered: an iPXE that cannot do HTTP and asks again after it got
//! one would otherwise load it for ever. Pure; kept by `journal`, asked by DHCP, TFTP and HTTP.

use std::collections::HashMap;
use std::net::IpAddr;

use api::Mac;
use api::events::Reason;
use dhcp::UserClass;

/// Sessions at most; beyond it the one that was silent for longest is forgotten, which costs one boot number.
const MAX_SESSIONS: usize = 65_536;
/// Seconds of silence after which a boot is over.
const IDLE: u64 = 600;
/// Packets kept per boot; a boot over every protocol has some fifty. It bounds what a client that repeats itself costs.
const MAX_PACKETS: u16 = 512;
/// Programs remembered per boot; a boot needs two.
const MAX_PROGRAMS: usize = 8;

/// How far a boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Asking,
    Leased,
    Loaded,
    Scripted,
    Kernel,
}

/// Where in an exchange a client's DHCP message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    Begins,
    GoesOn,
}

/// One boot of one machine.
#[derive(Debug, Clone)]
pub(crate) struct BootSession {
    /// Unix seconds of its first packet.
    pub(crate) boot: u64,
    stage: Stage,
    programs: Vec<String>,
    /// Whether an ISO image was read.
    image: bool,
    /// What was told of its machine in which second, over boots.
    told: Told,
    /// How many of its packets were kept.
    packets: u16,
    heard: u64,
    /// Where its last script went to, in this boot or an earlier one.
    address: Option<IpAddr>,
}

/// The reasons that were told in one second, a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    second: u64,
    reasons: u32,
}

/// The boots of all machines.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_mac: HashMap<Mac, BootSession>,
    /// Whose the address of a session is; no other entries.
    by_address: HashMap<IpAddr, Mac>,
}

impl BootSession {
    /// Whether a program was fully sent in this boot.
    pub(crate) fn has_loaded(&self, program: &str) -> bool {
        self.programs.iter().any(|loaded| loaded == program)
    }
}

impl Sessions {
    /// A DHCP message of a network-boot client; only the first of an exchange can begin a new boot.
    pub(crate) fn asked(&mut self, mac: Mac, message: Exchange, class: UserClass, now: u64) -> &BootSession {
        match message {
            Exchange::Begins => self.discover(mac, class, now),
            Exchange::GoesOn => self.reach(mac, Stage::Asking, now),
        }
    }

    /// A DISCOVER of a network-boot client; decides whether a new boot begins.
    pub(crate) fn discover(&mut self, mac: Mac, class: UserClass, now: u64) -> &BootSession {
        let session = self.touch(mac, now);
        let again = match class {
            UserClass::Firmware => session.stage > Stage::Asking,
            UserClass::Ipxe | UserClass::Tinkerbell => session.stage >= Stage::Scripted,
        };
        if again {
            // Two boots within one second still have two numbers.
            session.renew(now.max(session.boot + 1), now);
        }
        session
    }

    /// Something else of the boot; a machine that is not known to boot begins one.
    pub(crate) fn reach(&mut self, mac: Mac, stage: Stage, now: u64) -> &BootSession {
        let session = self.touch(mac, now);
        session.stage = session.stage.max(stage);
        session
    }

    /// Its script was sent to this address, which is nobody else's from now on.
    pub(crate) fn scripted(&mut self, mac: Mac, address: Option<IpAddr>, now: u64) -> &BootSession {
        if let Some(address) = address {
            let other = self.by_address.insert(address, mac).filter(|other| *other != mac);
            if let Some(other) = other.and_then(|other| self.by_mac.get_mut(&other)) {
                other.address = None;
            }
            let before = self.touch(mac, now).address.replace(address);
            before.filter(|before| *before != address).and_then(|before| self.by_address.remove(&before));
        }
        self.reach(mac, Stage::Scripted, now)
    }

    /// The machine whose last script went to this address.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Mac> {
        self.by_address.get(&address).copied()
    }

    /// A program was fully sent.
    pub(crate) fn loaded(&mut self, mac: Mac, program: &str, now: u64) -> &BootSession {
        let session = self.touch(mac, now);
        session.stage = session.stage.max(Stage::Loaded);
        if !session.has_loaded(program) && session.programs.len() < MAX_PROGRAMS {
            session.programs.push(program.to_owned());
        }
        session
    }

    /// An ISO image is read; gives the boot, and whether that is the first time in it.
    pub(crate) fn image(&mut self, mac: Mac, now: u64) -> (u64, bool) {
        let session = self.touch(mac, now);
        (session.boot, !std::mem::replace(&mut session.image, true))
    }

    /// A packet of a boot that goes on; gives the boot, unless it had its packets. What an operating system sends is of its boot,
    /// too, for as long as that goes on.
    pub(crate) fn packet(&mut self, mac: Mac, now: u64) -> Option<u64> {
        let session = self.by_mac.get_mut(&mac)?;
        let goes_on = now.saturating_sub(session.heard) <= IDLE && session.packets < MAX_PACKETS;
        session.packets += u16::from(goes_on);
        goes_on.then_some(session.boot)
    }

    /// Whether this is to be told of a machine: not what was told within the same second, however often a client makes it happen,
    /// in however many boots. Of a machine without a session everything is.
    pub(crate) fn tells(&mut self, mac: Mac, reason: Reason, now: u64) -> bool {
        let Some(BootSession { told, .. }) = self.by_mac.get_mut(&mac) else { return true };
        if told.second != now {
            *told = Told { second: now, reasons: 0 };
        }
        // An ISO image is told once in a boot by itself.
        if reason == Reason::IsoRead {
            return true;
        }
        let reason = 1 << (reason as u32);
        let is_news = told.reasons & reason == 0;
        told.reasons |= reason;
        is_news
    }

    /// The number of the last boot that is remembered, whether it is over or not.
    pub(crate) fn last(&self, mac: Mac) -> Option<u64> {
        self.by_mac.get(&mac).map(|session| session.boot)
    }

    fn touch(&mut self, mac: Mac, now: u64) -> &mut BootSession {
        if self.by_mac.len() >= MAX_SESSIONS && !self.by_mac.contains_key(&mac) {
            let oldest = self.by_mac.iter().min_by_key(|(_, session)| session.heard).map(|(mac, _)| *mac);
            let oldest = oldest.and_then(|mac| self.by_mac.remove(&mac));
            oldest.and_then(|session| session.address).and_then(|address| self.by_address.remove(&address));
        }
        let session = self.by_mac.entry(mac).or_insert_with(|| BootSession::new(now, now));
        if now.saturating_sub(session.heard) > IDLE {
            session.renew(now, now);
        }
        session.heard = now;
        session
    }
}

impl BootSession {
    fn new(boot: u64, now: u64) -> Self {
        let (programs, address) = (Vec::new(), None);
        Self {
            boot,
            stage: Stage::Asking,
            programs,
            image: false,
            told: Told::default(),
            packets: 0,
            heard: now,
            address,
        }
    }

    /// Another boot, of a machine that is where it was until it turns up elsewhere.
    fn renew(&mut self, boot: u64, now: u64) {
        *self = Self { address: self.address, told: self.told, ..Self::new(boot, now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_700_000_000;

    fn mac(last: u8) -> Mac {
        Mac::from([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn one_boot_from_firmware_to_kernel_has_one_number() {
        let mut all = Sessions::default();
        assert_eq!(all.discover(mac(1), UserClass::Firmware, T).boot, T);
        assert_eq!(all.discover(mac(1), UserClass::Firmware, T + 4).boot, T, "a repeated DISCOVER");
        all.reach(mac(1), Stage::Leased, T + 4);
        all.loaded(mac(1), "undionly.kpxe", T + 9);
        let session = all.discover(mac(1), UserClass::Ipxe, T + 12);
        assert_eq!(session.boot, T);
        assert!(session.has_loaded("undionly.kpxe") && !session.has_loaded("ipxe.efi"));
        all.reach(mac(1), Stage::Scripted, T + 14);
        assert_eq!(all.reach(mac(1), Stage::Kernel, T + 15).boot, T);
    }

    #[test]
    fn firmware_that_asks_again_begins_a_boot() {
        let mut all = Sessions::default();
        all.discover(mac(1), UserClass::Firmware, T);
        all.loaded(mac(1), "ipxe.efi", T);
        let session = all.discover(mac(1), UserClass::Firmware, T);
        assert_eq!(session.boot, T + 1, "another boot, another number");
        assert!(!session.has_loaded("ipxe.efi"));
    }

    #[test]
    fn a_rom_that_is_ipxe_itself_begins_a_boot_after_its_script() {
        let mut all = Sessions::default();
        all.discover(mac(1), UserClass::Ipxe, T);
        all.reach(mac(1), Stage::Leased, T + 1);
        assert_eq!(all.discover(mac(1), UserClass::Ipxe, T + 2).boot, T);
        all.reach(mac(1), Stage::Scripted, T + 3);
        assert_eq!(all.discover(mac(1), UserClass::Ipxe, T + 60).boot, T + 60);
    }

    #[test]
    fn silence_ends_a_boot() {
        let mut all = Sessions::default();
        all.discover(mac(1), UserClass::Firmware, T);
        assert_eq!(all.reach(mac(1), Stage::Leased, T + IDLE).boot, T);
        assert_eq!(all.reach(mac(1), Stage::Scripted, T + 2 * IDLE + 1).boot, T + 2 * IDLE + 1);
    }

    #[test]
    fn an_address_is_of_the_machine_that_fetched_its_script_there_last() {
        let mut all = Sessions::default();
        let at = |last: u8| IpAddr::from([10, 0, 0, last]);
        all.scripted(mac(1), Some(at(1)), T);
        all.discover(mac(1), UserClass::Firmware, T + 5);
        assert_eq!(all.at(at(1)), Some(mac(1)), "another boot begins");
        all.scripted(mac(1), None, T + 6);
        assert_eq!(all.at(at(1)), Some(mac(1)), "nobody knows where from");
        all.scripted(mac(2), Some(at(1)), T + 7);
        all.scripted(mac(1), Some(at(2)), T + 8);
        assert_eq!((all.at(at(1)), all.at(at(2))), (Some(mac(2)), Some(mac(1))));
        all.scripted(mac(2), Some(at(3)), T + 9);
        assert_eq!((all.at(at(1)), all.at(at(3))), (None, Some(mac(2))));
    }

    #[test]
    fn what_repeats_itself_is_told_once_a_second() {
        let mut all = Sessions::default();
        assert!(all.tells(mac(1), Reason::ScriptSent, T) && all.tells(mac(1), Reason::ScriptSent, T));
        all.reach(mac(1), Stage::Scripted, T);
        let exchange = [Reason::DhcpOffered, Reason::DhcpAcknowledged];
        let told = |all: &mut Sessions, now| exchange.map(|reason| all.tells(mac(1), reason, now));
        assert_eq!((told(&mut all, T), told(&mut all, T)), ([true; 2], [false; 2]));
        all.discover(mac(1), UserClass::Firmware, T);
        assert_eq!(told(&mut all, T), [false; 2], "another boot of the same second");
        assert_eq!(told(&mut all, T + 1), [true; 2]);
    }

    #[test]
    fn the_packets_of_a_boot_are_bounded_and_end_with_it() {
        let mut all = Sessions::default();
        assert_eq!(all.packet(mac(1), T), None, "no boot was seen");
        all.discover(mac(1), UserClass::Firmware, T);
        assert_eq!(all.packet(mac(1), T + IDLE), Some(T));
        assert_eq!(all.packet(mac(1), T + IDLE + 1), None, "it does not prolong what it belongs to");
        for _ in 1..MAX_PACKETS {
            assert_eq!(all.packet(mac(1), T), Some(T));
        }
        assert_eq!(all.packet(mac(1), T), None);
        all.reach(mac(1), Stage::Leased, T + 1);
        all.discover(mac(1), UserClass::Firmware, T + 9);
        assert_eq!(all.packet(mac(1), T + 9), Some(T + 9), "another boot has its own");
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut all = Sessions::default();
        for i in 0..=u64::try_from(MAX_SESSIONS).unwrap() {
            let [.., a, b, c] = i.to_be_bytes();
            let address = IpAddr::from([10, a, b, c]);
            all.scripted(Mac::from([2, 0, 0, a, b, c]), Some(address), T + i / 1000);
        }
        assert_eq!((all.by_mac.len(), all.by_address.len()), (MAX_SESSIONS, MAX_SESSIONS));
    }
}
