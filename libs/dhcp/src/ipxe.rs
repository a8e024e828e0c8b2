// SPDX-License-Identifier: Apache-2.0
//! What an iPXE says about itself in option 175: a list of sub-options, of which those between 0x10 and 0x7f name
//! features that are compiled in.
//!
//! Read by the boot decision: an iPXE that speaks HTTP needs no second iPXE.

use crate::options::code;
use crate::{Message, Options};

/// Sub-option for HTTP downloads.
const HTTP: u8 = 0x13;
/// Sub-option for HTTPS downloads.
const HTTPS: u8 = 0x14;
/// Sub-option for bzImage kernels.
const BZIMAGE: u8 = 0x18;
/// Sub-option for EFI images.
const EFI: u8 = 0x24;
/// Sub-option with three bytes: the iPXE version.
const VERSION: u8 = 0xeb;

/// Features of a client that sent option 175.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpxeFeatures {
    /// Downloads over HTTP.
    pub http: bool,
    /// Downloads over HTTPS.
    pub https: bool,
    /// Boots Linux on a BIOS machine.
    pub bzimage: bool,
    /// Boots EFI images.
    pub efi: bool,
    /// Major, minor, patch, if it says.
    pub version: Option<[u8; 3]>,
}

impl IpxeFeatures {
    /// The features in a message; `None` when there is no option 175.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let mut inner = Options::default();
        inner.walk(message.options.get(code::ETHERBOOT)?);
        let has = |code: u8| inner.get(code).is_some_and(|value| value.iter().any(|b| *b != 0));
        Some(Self {
            http: has(HTTP),
            https: has(HTTPS),
            bzimage: has(BZIMAGE),
            efi: has(EFI),
            version: inner.bytes(VERSION),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageType;

    #[test]
    fn reads_the_list_that_a_virtio_rom_sends() {
        let mut message = Message::request(MessageType::Discover, [2; 6], 1);
        assert_eq!(IpxeFeatures::of(&message), None);
        message.options.set(
            code::ETHERBOOT,
            [
                0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0x15, 1, 0x17, 1, 1, 0x13, 1, 1, 0x14, 1, 0,
                0x18, 1, 1,
            ],
        );
        assert_eq!(
            IpxeFeatures::of(&message),
            Some(IpxeFeatures {
                http: true,
                https: false,
                bzimage: true,
                efi: false,
                version: Some([1, 0x15, 1])
            })
        );
    }
}
