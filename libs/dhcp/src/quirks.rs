// SPDX-License-Identifier: Apache-2.0
//! Firmware that needs something special, as data: one row per need, with its evidence.
//!
//! Read by [`crate::netboot_client`] and by whoever builds an answer. A new need is a new row, and an effect only when no
//! present one fits; the flow of a decision never names a vendor.

use crate::options::code;
use crate::{Arch, ClientKind, Message, NetbootClient, UserClass};

/// First three bytes of the Ethernet addresses of Raspberry Pi boards.
pub const RASPBERRY_PI_OUIS: [[u8; 3]; 5] =
    [[0xb8, 0x27, 0xeb], [0xdc, 0xa6, 0x32], [0xe4, 0x5f, 0x01], [0x28, 0xcd, 0xc1], [0xd8, 0x3a, 0xdd]];

/// Who a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// Ethernet addresses that begin so.
    Ouis(&'static [[u8; 3]]),
    /// Vendor classes (option 60) that begin so.
    VendorClass(&'static str),
    /// Firmware that boots by PXE over IPv6.
    PxeFirmware6,
}

/// What is done differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The client is of this architecture, whatever it says.
    BootAs(Arch),
    /// Option 43 carries the boot menu and prompt that the boot ROM looks for.
    RaspberryPiMenu,
    /// A reservation's answer repeats the class in option 60, even when the client may not boot.
    RepeatClass,
    /// A DHCPv6 answer names one name server at most.
    OneNameServer,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirk {
    /// Short name, for logs and tables.
    pub name: &'static str,
    /// Whose quirk it is.
    pub applies: Applies,
    /// What is done about it.
    pub effect: Effect,
    /// Where it was seen or is written.
    pub evidence: &'static str,
}

/// All rows.
pub const QUIRKS: &[Quirk] = &[
    Quirk {
        name: "raspberry-pi-architecture",
        applies: Applies::Ouis(&RASPBERRY_PI_OUIS),
        effect: Effect::BootAs(Arch::RASPBERRY_PI),
        evidence: "the boot ROM sends architecture 0, which is x86 BIOS; Tinkerbell tells it by its address and takes 41",
    },
    Quirk {
        name: "raspberry-pi-menu",
        applies: Applies::Ouis(&RASPBERRY_PI_OUIS),
        effect: Effect::RaspberryPiMenu,
        evidence: "the boot ROM takes only servers whose option 43 says \"Raspberry Pi Boot\"; raspberrypi/rpi-eeprom#103",
    },
    Quirk {
        name: "uefi-http-class",
        applies: Applies::VendorClass("HTTPClient"),
        effect: Effect::RepeatClass,
        evidence: "UEFI 2.10 section 24.7.3: an offer without option 60 HTTPClient is not one for HTTP boot and is passed over",
    },
    Quirk {
        name: "edk2-name-servers",
        applies: Applies::PxeFirmware6,
        effect: Effect::OneNameServer,
        evidence: "CVE-2023-45234: EDK II's PXE client copies option 23 of a DHCPv6 Advertise into room for one address",
    },
];

/// The effects that a client's message calls for.
pub fn effects(message: &Message) -> impl Iterator<Item = Effect> {
    let (mac, class) = (message.mac(), message.options.get(code::VENDOR_CLASS).unwrap_or_default());
    QUIRKS.iter().filter(move |quirk| quirk.applies.to(mac, class)).map(|quirk| quirk.effect)
}

/// The effects that a DHCPv6 client calls for.
pub fn effects6(client: &NetbootClient) -> impl Iterator<Item = Effect> + use<> {
    let firmware = (client.kind, client.user_class) == (ClientKind::Pxe, UserClass::Firmware);
    let applies = move |quirk: &&Quirk| quirk.applies == Applies::PxeFirmware6 && firmware;
    QUIRKS.iter().filter(applies).map(|quirk| quirk.effect)
}

impl Applies {
    fn to(self, mac: Option<[u8; 6]>, class: &[u8]) -> bool {
        match self {
            Self::Ouis(ouis) => mac.is_some_and(|[a, b, c, ..]| ouis.contains(&[a, b, c])),
            Self::VendorClass(prefix) => class.starts_with(prefix.as_bytes()),
            Self::PxeFirmware6 => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageType;

    #[test]
    fn every_row_has_a_name_of_its_own_and_evidence() {
        let mut names: Vec<_> = QUIRKS.iter().map(|quirk| quirk.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUIRKS.len());
        assert!(QUIRKS.iter().all(|quirk| quirk.evidence.len() > 20));
    }

    #[test]
    fn rows_apply_to_theirs_only() {
        let of = |mac, class: &str| {
            let mut message = Message::request(MessageType::Discover, mac, 1);
            message.options.set_text(code::VENDOR_CLASS, class);
            effects(&message).collect::<Vec<_>>()
        };
        let pi = [0xdc, 0xa6, 0x32, 1, 2, 3];
        assert_eq!(of(pi, "PXEClient"), [Effect::BootAs(Arch::RASPBERRY_PI), Effect::RaspberryPiMenu]);
        assert_eq!(of([2; 6], "HTTPClient:Arch:00016"), [Effect::RepeatClass]);
        assert_eq!(of([2; 6], "PXEClient:Arch:00007"), []);
    }
}
