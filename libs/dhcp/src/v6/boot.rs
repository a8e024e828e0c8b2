// SPDX-License-Identifier: Apache-2.0
//! PXE and UEFI HTTP boot inside DHCPv6 (RFC 5970): who is a network-boot client and what it is.

use super::options::{Options, code};
use crate::pxe::{Arch, ClientKind, NetbootClient, UserClass};

/// Enterprise number of Intel, under which the vendor classes of PXE and HTTP boot stand (UEFI 2.10 section 24.3.1).
pub const INTEL: u32 = 343;
/// The vendor class of UEFI HTTP boot, and of answers to it.
pub const HTTP_CLASS: &str = "HTTPClient";
/// What stands before the architecture in a vendor class.
const ARCH_TEXT: &[u8] = b"Arch:";

/// The network-boot client that a message is of: one that wants a boot-file URL.
#[must_use]
pub fn netboot_client(options: &Options) -> Option<NetbootClient> {
    if !options.wants(code::BOOT_FILE_URL) {
        return None;
    }
    let named = || options.architectures().map(Arch).find(|arch| arch.name().is_some());
    let arch = named().or_else(|| options.vendor_classes().find_map(arch_in)).unwrap_or(Arch::UNKNOWN);
    let says_http = |class: &[u8]| class.windows(HTTP_CLASS.len()).any(|part| part == HTTP_CLASS.as_bytes());
    let http = arch.is_http() || options.vendor_classes().any(says_http);
    let kind = if http { ClientKind::Http } else { ClientKind::Pxe };
    Some(NetbootClient { kind, arch, user_class: user_class(options), ipxe: None })
}

/// The program that asks, by its user class.
#[must_use]
pub fn user_class(options: &Options) -> UserClass {
    let has = |class: &[u8]| options.user_classes().any(|found| found == class);
    if has(b"Tinkerbell") {
        UserClass::Tinkerbell
    } else if has(b"iPXE") {
        UserClass::Ipxe
    } else {
        UserClass::Firmware
    }
}

/// The value of option 60 for firmware: EDK II takes its first and only parameter for the size of the boot file, as one to
/// five decimal digits that count blocks of 512 bytes, and boots no more when it is anything else. Without the option it asks
/// the TFTP server, so a file that is too large for the digits gets none.
#[must_use]
pub fn boot_file_size(bytes: u64) -> Option<Vec<u8>> {
    let blocks = u16::try_from(bytes.div_ceil(512)).ok().filter(|blocks| *blocks > 0)?;
    let digits = blocks.to_string();
    let length = u16::try_from(digits.len()).ok()?;
    Some([&length.to_be_bytes()[..], digits.as_bytes()].concat())
}

/// `Arch:<number>` in a vendor class.
fn arch_in(class: &[u8]) -> Option<Arch> {
    let at = class.windows(ARCH_TEXT.len()).position(|part| part == ARCH_TEXT)?;
    let digits = class.get(at + ARCH_TEXT.len()..)?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(digits.get(..length)?).ok()?.parse().ok()?;
    Some(Arch(number)).filter(|arch| arch.name().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(arch: &[u8], class: &str, user: Option<&str>) -> NetbootClient {
        let mut options = Options::default();
        options.add_codes(code::REQUEST_LIST, &[59, 60, 23]);
        if !arch.is_empty() {
            options.add(code::CLIENT_ARCH, arch);
        }
        options.add_vendor_class(INTEL, class);
        user.into_iter().for_each(|user| options.add_user_class(user));
        netboot_client(&options).unwrap()
    }

    #[test]
    fn what_a_client_is_stands_in_three_options() {
        let pxe = client(&[0, 7], "PXEClient:Arch:00007:UNDI:003000", None);
        assert_eq!((pxe.kind, pxe.arch, pxe.user_class), (ClientKind::Pxe, Arch(7), UserClass::Firmware));
        assert_eq!(client(&[0, 16], "", None).kind, ClientKind::Http, "by the architecture");
        let http = client(&[], "HTTPClient:Arch:00016:UNDI:003000", None);
        assert_eq!((http.kind, http.arch), (ClientKind::Http, Arch(16)), "by the class");
        assert_eq!(client(&[0, 7], "PXEClient", Some("iPXE")).user_class, UserClass::Ipxe);
        assert_eq!(client(&[0, 7], "PXEClient", Some("Tinkerbell")).user_class, UserClass::Tinkerbell);
        assert_eq!(client(&[], "x", None).arch, Arch::UNKNOWN);
        assert_eq!(client(&[0x12, 0x34, 0, 11], "x", None).arch, Arch(11), "the first that is known");
        assert_eq!(client(&[], "PXEClient:Arch:99999", None).arch, Arch::UNKNOWN);
    }

    #[test]
    fn who_wants_no_boot_file_is_no_client() {
        let mut options = Options::default();
        options.add(code::CLIENT_ARCH, [0, 7]);
        assert_eq!(netboot_client(&options), None);
    }

    #[test]
    fn http_architectures_are_those_of_the_registry() {
        let http: Vec<u16> = (0..60).filter(|number| Arch(*number).is_http()).collect();
        assert_eq!(http, [15, 16, 17, 18, 19, 20, 23, 24, 26, 28, 30, 38, 40]);
    }

    #[test]
    fn a_size_is_blocks_in_up_to_five_digits() {
        assert_eq!(boot_file_size(1_061_376).unwrap(), b"\x00\x042073");
        assert_eq!(boot_file_size(513).unwrap(), b"\x00\x012");
        assert_eq!(boot_file_size(65_535 * 512).unwrap(), b"\x00\x0565535");
        assert_eq!(boot_file_size(65_535 * 512 + 1), None);
        assert_eq!(boot_file_size(0), None);
    }
}
