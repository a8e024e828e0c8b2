// SPDX-License-Identifier: Apache-2.0
//! PXE and UEFI HTTP boot inside DHCP: who is a network-boot client, its architecture, and option 43.
//!
//! Used by the boot decision of every DHCP mode. Facts come from RFC 4578, the PXE specification 2.1 and the IANA
//! registry "Processor Architecture Types"; what makes a client valid is Tinkerbell's contract.

use std::fmt;

use thiserror::Error;

use crate::options::code;
use crate::quirks::{Effect, effects};
use crate::{IpxeFeatures, Message, MessageType, Options};

/// Names of the registered processor architecture types 0 to 41.
const ARCHITECTURES: [&str; 42] = [
    "x86 BIOS",
    "NEC PC98",
    "Itanium",
    "DEC Alpha",
    "Arc x86",
    "Intel Lean Client",
    "x86 UEFI",
    "x64 UEFI",
    "Xscale UEFI",
    "EBC",
    "ARM 32-bit UEFI",
    "ARM 64-bit UEFI",
    "PowerPC Open Firmware",
    "PowerPC ePAPR",
    "POWER OPAL v3",
    "x86 UEFI HTTP",
    "x64 UEFI HTTP",
    "EBC HTTP",
    "ARM 32-bit UEFI HTTP",
    "ARM 64-bit UEFI HTTP",
    "x86 BIOS HTTP",
    "ARM 32-bit U-Boot",
    "ARM 64-bit U-Boot",
    "ARM 32-bit U-Boot HTTP",
    "ARM 64-bit U-Boot HTTP",
    "RISC-V 32-bit UEFI",
    "RISC-V 32-bit UEFI HTTP",
    "RISC-V 64-bit UEFI",
    "RISC-V 64-bit UEFI HTTP",
    "RISC-V 128-bit UEFI",
    "RISC-V 128-bit UEFI HTTP",
    "s390 Basic",
    "s390 Extended",
    "MIPS 32-bit UEFI",
    "MIPS 64-bit UEFI",
    "Sunway 32-bit UEFI",
    "Sunway 64-bit UEFI",
    "LoongArch 32-bit UEFI",
    "LoongArch 32-bit UEFI HTTP",
    "LoongArch 64-bit UEFI",
    "LoongArch 64-bit UEFI HTTP",
    "ARM Raspberry Pi",
];

/// A client system architecture (option 93).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch(pub u16);

impl Arch {
    /// Raspberry Pi boot ROM.
    pub const RASPBERRY_PI: Self = Self(41);
    /// No registered value was sent.
    pub const UNKNOWN: Self = Self(255);

    /// The registered name; `None` for a value that is not registered.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        ARCHITECTURES.get(usize::from(self.0)).copied()
    }

    /// Whether it is one of those that load their boot file over HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        self.name().is_some_and(|name| name.ends_with(" HTTP"))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "architecture {}", self.0),
        }
    }
}

/// Which boot protocol the firmware speaks (option 60).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// PXE: loads a file name over TFTP.
    Pxe,
    /// UEFI HTTP boot: loads a URL.
    Http,
}

impl ClientKind {
    /// The text of option 60 that begins the client's class and names the kind in answers.
    #[must_use]
    pub fn vendor_class(self) -> &'static str {
        match self {
            Self::Pxe => "PXEClient",
            Self::Http => "HTTPClient",
        }
    }
}

/// The program that is asking (option 77, compared as raw bytes: iPXE sends no RFC 3004 lengths).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UserClass {
    /// The machine's own firmware, or a program without a user class that matters here.
    Firmware,
    /// Any iPXE.
    Ipxe,
    /// An iPXE that was built for Tinkerbell.
    Tinkerbell,
}

impl UserClass {
    /// The class in a message.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        match message.options.get(code::USER_CLASS) {
            Some(b"iPXE") => Self::Ipxe,
            Some(b"Tinkerbell") => Self::Tinkerbell,
            _ => Self::Firmware,
        }
    }

    /// Name for logs and Events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "iPXE",
            Self::Tinkerbell => "Tinkerbell",
        }
    }
}

/// A message of a client that wants to boot over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetbootClient {
    /// Boot protocol.
    pub kind: ClientKind,
    /// Architecture; [`Arch::RASPBERRY_PI`] whatever such a board says.
    pub arch: Arch,
    /// Who is asking.
    pub user_class: UserClass,
    /// What an iPXE can do.
    pub ipxe: Option<IpxeFeatures>,
}

/// Why a message is not one of a network-boot client. A plain DHCP client is [`NotNetboot::VendorClass`].
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the error texts say it")]
pub enum NotNetboot {
    #[error("neither DISCOVER nor REQUEST")]
    MessageType,
    #[error("option 60 is not of a network-boot client")]
    VendorClass,
    #[error("option 93 (architecture) is missing")]
    Architecture,
    #[error("option 94 (network interface) is missing")]
    Interface,
    #[error("option 97 (UUID) is missing or malformed")]
    Uuid,
}

/// Reads a message as one of a network-boot client.
///
/// # Errors
///
/// Names the first rule that the message breaks; it then gets an address but no boot data.
pub fn netboot_client(message: &Message) -> Result<NetbootClient, NotNetboot> {
    if !matches!(message.message_type(), Some(MessageType::Discover | MessageType::Request)) {
        return Err(NotNetboot::MessageType);
    }
    let class = message.options.get(code::VENDOR_CLASS).unwrap_or_default();
    let kind = [ClientKind::Http, ClientKind::Pxe]
        .into_iter()
        .find(|kind| class.starts_with(kind.vendor_class().as_bytes()))
        .ok_or(NotNetboot::VendorClass)?;
    let architectures = message.options.get(code::CLIENT_ARCH).ok_or(NotNetboot::Architecture)?;
    if !message.options.contains(code::CLIENT_NDI) {
        return Err(NotNetboot::Interface);
    }
    match message.options.get(code::CLIENT_UUID) {
        None if effects(message).any(|effect| effect == Effect::WithoutUuid) => {}
        None => return Err(NotNetboot::Uuid),
        Some([0, uuid @ ..]) if uuid.len() == 16 => {}
        Some(_) => return Err(NotNetboot::Uuid),
    }
    let known_better = effects(message).find_map(|effect| match effect {
        Effect::BootAs(arch) => Some(arch),
        _ => None,
    });
    let said = || {
        let all = architectures.as_chunks::<2>().0.iter().map(|pair| Arch(u16::from_be_bytes(*pair)));
        all.into_iter().find(|arch| arch.name().is_some())
    };
    let arch = known_better.or_else(said).unwrap_or(Arch::UNKNOWN);
    Ok(NetbootClient { kind, arch, user_class: UserClass::of(message), ipxe: IpxeFeatures::of(message) })
}

/// Sub-option of option 43 by which a client asks for one boot server, and by which that one answers (PXE 2.1 table 2-1).
const BOOT_ITEM: u8 = 71;

/// The boot server that a client asks for in option 43, if it does.
#[must_use]
pub fn boot_item(message: &Message) -> Option<[u8; 4]> {
    let mut inner = Options::default();
    inner.walk(message.options.get(code::VENDOR_SPECIFIC)?);
    inner.bytes(BOOT_ITEM)
}

/// The value of option 43 for network-boot clients.
///
/// Sub-option 6 with bit 3 tells the client to skip boot-server discovery and to load the named file (PXE 2.1 table
/// 2-1). There is no End sub-option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VendorOptions<'a> {
    /// Adds sub-option 69, a W3C trace context: all zero, because we trace by machine and boot number, and there because
    /// Tinkerbell's clients expect it.
    pub trace: bool,
    /// Adds the boot menu without which a Raspberry Pi does not go on.
    pub raspberry_pi: bool,
    /// The boot server that the client asked for, which is us.
    pub boot_item: Option<[u8; 4]>,
    /// VLAN on which the boot program goes on, as decimal text (Tinkerbell's sub-option 116).
    pub vlan: Option<&'a str>,
}

impl VendorOptions<'_> {
    /// The bytes, sorted by sub-option.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut inner = Options::default();
        inner.set(6, [8]);
        if self.raspberry_pi {
            inner.set(9, *b"\x00\x00\x11Raspberry Pi Boot");
            inner.set(10, *b"\x00PXE");
        }
        if self.trace {
            inner.set(69, [0; 26]);
        }
        if let Some(item) = self.boot_item {
            inner.set(BOOT_ITEM, item);
        }
        if let Some(vlan) = self.vlan {
            inner.set_text(116, vlan);
        }
        let mut value = Vec::new();
        for (code, bytes) in inner.iter() {
            Options::write(&mut value, code, bytes);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(mac: [u8; 6]) -> Message {
        let mut message = Message::request(MessageType::Discover, mac, 1);
        message.options.set_text(code::VENDOR_CLASS, "PXEClient:Arch:00007:UNDI:003001");
        message.options.set(code::CLIENT_ARCH, [0, 7]);
        message.options.set(code::CLIENT_NDI, [1, 3, 1]);
        message.options.set(code::CLIENT_UUID, [0; 17]);
        message
    }

    #[test]
    fn a_complete_client_is_read() {
        let mut message = client([2; 6]);
        assert_eq!(
            netboot_client(&message).unwrap(),
            NetbootClient {
                kind: ClientKind::Pxe,
                arch: Arch(7),
                user_class: UserClass::Firmware,
                ipxe: None
            }
        );
        message.options.set(code::USER_CLASS, *b"iPXE");
        message.options.set(code::VENDOR_CLASS, *b"HTTPClient:Arch:00016");
        message.options.set(code::CLIENT_ARCH, [0xff, 0xff, 0, 16]);
        let read = netboot_client(&message).unwrap();
        assert_eq!((read.kind, read.arch, read.user_class), (ClientKind::Http, Arch(16), UserClass::Ipxe));
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        let mut message = client([2; 6]);
        message.options.set(code::MESSAGE_TYPE, [8]);
        assert_eq!(netboot_client(&message), Err(NotNetboot::MessageType));
        for (option, error) in [
            (code::VENDOR_CLASS, NotNetboot::VendorClass),
            (code::CLIENT_ARCH, NotNetboot::Architecture),
            (code::CLIENT_NDI, NotNetboot::Interface),
        ] {
            let mut message = client([2; 6]);
            message.options.remove(option);
            assert_eq!(netboot_client(&message), Err(error));
        }
        let mut message = client([2; 6]);
        message.options.set(code::CLIENT_UUID, [1; 17]);
        assert_eq!(netboot_client(&message), Err(NotNetboot::Uuid));
        message.options.set(code::CLIENT_UUID, [0; 16]);
        assert_eq!(netboot_client(&message), Err(NotNetboot::Uuid));
        message.options.remove(code::CLIENT_UUID);
        assert!(netboot_client(&message).is_ok());
    }

    #[test]
    fn length_prefixed_user_class_is_not_ipxe() {
        let mut message = client([2; 6]);
        message.options.set(code::USER_CLASS, *b"\x04iPXE");
        assert_eq!(netboot_client(&message).unwrap().user_class, UserClass::Firmware);
    }

    #[test]
    fn raspberry_pi_is_known_by_its_address() {
        let mut message = client([0xdc, 0xa6, 0x32, 1, 2, 3]);
        message.options.set(code::CLIENT_ARCH, [0, 0]);
        assert_eq!(netboot_client(&message).unwrap().arch, Arch::RASPBERRY_PI);
    }

    #[test]
    fn unregistered_architectures_are_unknown() {
        let mut message = client([2; 6]);
        message.options.set(code::CLIENT_ARCH, [0, 99]);
        assert_eq!(netboot_client(&message).unwrap().arch, Arch::UNKNOWN);
        message.options.set(code::CLIENT_ARCH, [7]);
        assert_eq!(netboot_client(&message).unwrap().arch, Arch::UNKNOWN);
    }

    #[test]
    fn option_43_matches_the_published_vectors() {
        let mut plain = vec![6, 1, 8, 0x45, 0x1a];
        plain.extend([0; 26]);
        let with_trace = VendorOptions { trace: true, ..VendorOptions::default() };
        assert_eq!(with_trace.encode(), plain);
        let pi = VendorOptions { raspberry_pi: true, ..VendorOptions::default() }.encode();
        assert_eq!(pi, b"\x06\x01\x08\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE");
        let vlan = VendorOptions { vlan: Some("4094"), ..VendorOptions::default() }.encode();
        assert_eq!(vlan, b"\x06\x01\x08\x74\x044094");
    }

    #[test]
    fn the_boot_server_asked_for_is_found_and_repeated() {
        let mut message = client([2; 6]);
        assert_eq!(boot_item(&message), None);
        message.options.set(code::VENDOR_SPECIFIC, *b"\x01\x01x\x47\x04\x80\x00\x00\x00\xff");
        let item = boot_item(&message);
        assert_eq!(item, Some([0x80, 0, 0, 0]));
        let answer = VendorOptions { boot_item: item, ..VendorOptions::default() }.encode();
        assert_eq!(answer, [6, 1, 8, 71, 4, 0x80, 0, 0, 0]);
    }
}
