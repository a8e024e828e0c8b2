// SPDX-License-Identifier: Apache-2.0
//! Firmware that needs something special, as data: one row per need, with its evidence.
//!
//! Read by [`crate::netboot_client`], by whoever builds an answer, and by whoever writes a script. A new need is a new row, and an effect
//! only when no present one fits; the flow of a decision never names a vendor. Where no packet tells who needs something, either an
//! operator does, or it is done for everybody because it harms nobody.

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
    /// Every client: it harms none of those that have no need of it.
    Everybody,
    /// Machines for which an operator gives a setting or a field of their Hardware this value.
    Named {
        /// The setting, or the field.
        setting: &'static str,
        /// Its value.
        value: &'static str,
    },
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
    /// A client without option 97 is a network-boot client too.
    WithoutUuid,
    /// iPXE commands by which a script gives the machine back to its disk, before `exit 1`.
    LeaveBy(&'static str),
    /// The machine loads the boot program that the value names.
    BootProgram,
    /// The place where it is done for everybody.
    DoneBy(&'static str),
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

/// The setting of how a script gives a machine back to its disk, and the annotation of a Hardware that says it for one machine. The
/// values are Sidero's.
pub const BOOT_FROM_DISK_METHOD: &str = "ipxe-boot-from-disk-method";
/// The field of a Hardware that names another boot program.
pub const BOOT_PROGRAM: &str = "netboot.ipxe.binary";

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
    Quirk {
        name: "firmware-without-uuid",
        applies: Applies::Everybody,
        effect: Effect::WithoutUuid,
        evidence: "danderson/pixiecore#21: the PXE of some Intel cards sends no option 97, which RFC 4578 section 2.3 demands, and boots \
                   when it is answered without one",
    },
    Quirk {
        name: "no-boot-server-discovery",
        applies: Applies::Everybody,
        effect: Effect::DoneBy("dhcp::VendorOptions"),
        evidence: "tianocore/edk2#8149: without option 43.6 = 8 EDK II asks for a boot server though the offer names file and address",
    },
    Quirk {
        name: "asks-for-the-size-first",
        applies: Applies::Everybody,
        effect: Effect::DoneBy("tftp::Server"),
        evidence: "danderson/pixiecore#21: PXE ROMs ask for a file, end that transfer with an ERROR once they know its tsize, and ask again \
                   from the next port",
    },
    Quirk {
        name: "tftp-behind-a-router",
        applies: Applies::Everybody,
        effect: Effect::DoneBy("tftp::Ports::Single"),
        evidence: "tinkerbell/tinkerbell#728: a Dell with iDRAC8 behind a router reads a file size of 0, then PXE-E18: no answer reached it",
    },
    Quirk {
        name: "ipxe-broadcom-stalls",
        applies: Applies::Named { setting: BOOT_PROGRAM, value: "snp-x86_64.efi" },
        effect: Effect::BootProgram,
        evidence: "ipxe/ipxe#1023, #1545, #1584: iPXE's own bnxt driver stalls in large files (PCI 14e4:16d7, 14e4:1751, BCM57416), the \
                   firmware's does not; only a running iPXE tells its card, so an operator must",
    },
    Quirk {
        name: "signed-ipxe-without-a-script",
        applies: Applies::Everybody,
        effect: Effect::DoneBy("boots::scripts::Scripts::autoexec"),
        evidence: "tinkerbell/tinkerbell#424, siderolabs/sidero#1410, rhboot/shim-review#319: a signed iPXE embeds no script, it loads \
                   autoexec.ipxe from beside itself",
    },
    Quirk {
        name: "shim-two-slashes",
        applies: Applies::Everybody,
        effect: Effect::DoneBy("boots::scripts::mac_in"),
        evidence: "seen in the boots of OVMF with Secure Boot: Debian's shim puts two slashes between its folder and the file",
    },
    Quirk {
        name: "exit-goes-on",
        applies: Applies::Named { setting: BOOT_FROM_DISK_METHOD, value: "ipxe-exit" },
        effect: Effect::LeaveBy(""),
        evidence: "UEFI 2.10 section 3.1.1: firmware goes on with the next entry of its boot order only after a failure",
    },
    Quirk {
        name: "exit-halts",
        applies: Applies::Named { setting: BOOT_FROM_DISK_METHOD, value: "ipxe-sanboot" },
        effect: Effect::LeaveBy("iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||\n"),
        evidence: "siderolabs/sidero#413, ipxe.org/appnote/work_around_bios_halting_on_ipxe_exit: some BIOSes halt when iPXE exits; iPXE \
                   starts their first disk itself. No packet tells which they are. UEFI needs it nowhere and has no drive 0x80",
    },
];

/// The effects that a client's message calls for.
pub fn effects(message: &Message) -> impl Iterator<Item = Effect> {
    let (mac, class) = (message.mac(), message.options.get(code::VENDOR_CLASS).unwrap_or_default());
    QUIRKS.iter().filter(move |quirk| quirk.applies.to(mac, class)).map(|quirk| quirk.effect)
}

/// The commands by which a script gives a machine back to its disk, before `exit 1`; nothing for a method that there is none of.
#[must_use]
pub fn leave_by(method: &str) -> Option<&'static str> {
    QUIRKS.iter().find_map(|quirk| match (quirk.applies, quirk.effect) {
        (Applies::Named { setting: BOOT_FROM_DISK_METHOD, value }, Effect::LeaveBy(commands))
            if value == method =>
        {
            Some(commands)
        }
        _ => None,
    })
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
            Self::Everybody => true,
            // No message shows it.
            Self::PxeFirmware6 | Self::Named { .. } => false,
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
            let special = |effect: &Effect| !matches!(effect, Effect::WithoutUuid | Effect::DoneBy(_));
            effects(&message).filter(special).collect::<Vec<_>>()
        };
        let pi = [0xdc, 0xa6, 0x32, 1, 2, 3];
        assert_eq!(of(pi, "PXEClient"), [Effect::BootAs(Arch::RASPBERRY_PI), Effect::RaspberryPiMenu]);
        assert_eq!(of([2; 6], "HTTPClient:Arch:00016"), [Effect::RepeatClass]);
        assert_eq!(of([2; 6], "PXEClient:Arch:00007"), []);
    }

    #[test]
    fn what_is_for_everybody_is_for_every_message() {
        let message = Message::request(MessageType::Discover, [2; 6], 1);
        let everybody = QUIRKS.iter().filter(|quirk| quirk.applies == Applies::Everybody);
        let expected: Vec<Effect> = everybody.map(|quirk| quirk.effect).collect();
        assert_eq!(effects(&message).collect::<Vec<_>>(), expected);
        assert!(expected.contains(&Effect::WithoutUuid));
    }

    #[test]
    fn a_machine_leaves_for_its_disk_as_its_operator_says() {
        assert_eq!(leave_by("ipxe-exit"), Some(""));
        let sanboot = "iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||\n";
        assert_eq!(leave_by("ipxe-sanboot"), Some(sanboot));
        assert_eq!(leave_by("snp-x86_64.efi"), None, "that is the value of another setting");
    }
}
