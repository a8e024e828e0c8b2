// SPDX-License-Identifier: Apache-2.0
//! Who a client is: DUIDs (RFC 8415 section 11), and hardware addresses inside addresses.
//!
//! A DUID names a machine, not an interface: the MAC in it may be that of another interface. Read by the lookup of
//! machines; written by the configuration for the server itself.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use thiserror::Error;

/// Hardware type Ethernet (IANA, ARP parameters).
const ETHERNET: [u8; 2] = [0, 1];
/// Link-layer address and time (RFC 8415 section 11.2).
const LLT: [u8; 2] = [0, 1];
/// Link-layer address (RFC 8415 section 11.4).
const LL: [u8; 2] = [0, 3];
/// UUID (RFC 6355).
const UUID: [u8; 2] = [0, 4];
/// Bytes of a DUID, its type included (RFC 8415 section 11.1).
const LENGTH: std::ops::RangeInclusive<usize> = 3..=130;

/// The identifier of a client or of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duid(Vec<u8>);

/// Why some bytes or a text are no DUID.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DuidError {
    /// Fewer than 3 or more than 130 bytes.
    #[error("a DUID has from 3 to 130 bytes")]
    Length,
    /// Not hexadecimal digits.
    #[error("a DUID is written in hexadecimal digits, with or without : or - between them")]
    Digits,
}

impl Duid {
    /// Takes the bytes of an option.
    ///
    /// # Errors
    ///
    /// When there are too few or too many of them.
    pub fn new(bytes: &[u8]) -> Result<Self, DuidError> {
        if LENGTH.contains(&bytes.len()) { Ok(Self(bytes.to_vec())) } else { Err(DuidError::Length) }
    }

    /// The DUID of a UUID.
    #[must_use]
    pub fn uuid(uuid: [u8; 16]) -> Self {
        Self([&UUID[..], &uuid].concat())
    }

    /// The DUID of an Ethernet address.
    #[must_use]
    pub fn link_layer(mac: [u8; 6]) -> Self {
        Self([&LL[..], &ETHERNET, &mac].concat())
    }

    /// The DUID of an Ethernet address and of a time, in seconds since 2000.
    #[must_use]
    pub fn link_layer_time(mac: [u8; 6], time: u32) -> Self {
        Self([&LLT[..], &ETHERNET, &time.to_be_bytes(), &mac].concat())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The Ethernet address in it, if it is made of one.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        let (kind, rest) = self.0.split_first_chunk::<2>()?;
        let (hardware, rest) = rest.split_first_chunk::<2>()?;
        let mac = match *kind {
            LLT => rest.get(4..)?,
            LL => rest,
            _ => return None,
        };
        mac.as_array::<6>().copied().filter(|_| *hardware == ETHERNET)
    }
}

impl std::str::FromStr for Duid {
    type Err = DuidError;

    /// Hexadecimal digits; colons, dashes and spaces between them count for nothing.
    fn from_str(text: &str) -> Result<Self, DuidError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !b":- ".contains(byte)).collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes.filter(|_| rest.is_empty()).ok_or(DuidError::Digits)?;
        Self::new(&bytes)
    }
}

impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The Ethernet address that an interface identifier is made of (RFC 4291 appendix A); none when it is of another kind.
#[must_use]
pub fn eui64_mac(address: Ipv6Addr) -> Option<[u8; 6]> {
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else { return None };
    Some([a ^ 2, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];

    #[test]
    fn the_mac_of_a_duid_is_found_where_there_is_one() {
        assert_eq!(Duid::link_layer(MAC).mac(), Some(MAC));
        assert_eq!(Duid::link_layer_time(MAC, 7).mac(), Some(MAC));
        assert_eq!(Duid::uuid([9; 16]).mac(), None);
        assert_eq!(Duid::new(&[0, 3, 0, 6, 1, 2, 3, 4, 5, 6]).unwrap().mac(), None, "not Ethernet");
        assert_eq!(Duid::new(&[0, 3, 0, 1, 1, 2, 3, 4, 5]).unwrap().mac(), None, "too short");
        assert_eq!(Duid::new(&[0, 1, 0, 1, 1, 2]).unwrap().mac(), None);
    }

    #[test]
    fn duids_are_written_and_read_in_hexadecimal() {
        let duid = Duid::link_layer(MAC);
        assert_eq!(duid.to_string(), "00:03:00:01:52:54:00:00:00:11");
        for text in ["00:03:00:01:52:54:00:00:00:11", "0003 0001 5254 0000 0011", "00030001-525400000011"] {
            assert_eq!(text.parse(), Ok(duid.clone()));
        }
        assert_eq!("00:03:0".parse::<Duid>(), Err(DuidError::Digits));
        assert_eq!("00:0g:00".parse::<Duid>(), Err(DuidError::Digits));
        assert_eq!("0004".parse::<Duid>(), Err(DuidError::Length));
        assert_eq!(Duid::new(&[0; 131]), Err(DuidError::Length));
    }

    #[test]
    fn only_an_eui64_has_a_mac() {
        assert_eq!(eui64_mac("fe80::5054:ff:fe00:11".parse().unwrap()), Some(MAC));
        assert_eq!(eui64_mac("2001:db8::5054:ff:fe00:11".parse().unwrap()), Some(MAC));
        assert_eq!(eui64_mac("fe80::1".parse().unwrap()), None);
    }
}
