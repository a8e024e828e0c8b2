// SPDX-License-Identifier: Apache-2.0

//! Hardware addresses.
//!
//! Owns [`Mac`]: every daemon parses addresses into it once, at its edge, and compares and prints only this type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The hardware address of an Ethernet interface. Prints as lower-case pairs with colons, the form of the kernel
/// arguments and of lookups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// A text is not a MAC.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a MAC: write six bytes as 52:54:00:12:34:56")]
pub struct ParseMacError {
    text: String,
}

impl Mac {
    /// The six bytes, in the order of the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The form with dashes, as pxelinux and DHCP file names have it.
    #[must_use]
    pub fn dashed(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads `52:54:00:12:34:56`, `52-54-00-12-34-56`, `5254.0012.3456` and `525400123456`, in either case.
impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        parse(text).map(Self).ok_or_else(|| ParseMacError { text: text.chars().take(64).collect() })
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let digits = ungroup(text)?;
    if digits.len() != 12 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let [_, _, octets @ ..] = u64::from_str_radix(&digits, 16).ok()?.to_be_bytes();
    Some(octets)
}

/// Takes out the separators, if every group between them is as long as that form wants.
fn ungroup(text: &str) -> Option<String> {
    for (separator, width) in [(':', 2), ('-', 2), ('.', 4)] {
        if text.contains(separator) {
            let even = text.split(separator).all(|group| group.len() == width);
            return even.then(|| text.replace(separator, ""));
        }
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_form_reads_as_the_same_address() {
        for text in ["52:54:00:AB:cd:11", "52-54-00-ab-CD-11", "5254.00ab.cd11", "525400ABCD11"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:ab:cd:11", "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:11:22",
            "52:54:00:ab:cd:1g",
            "52:54:00-ab:cd:11",
            "5254:00ab:cd11",
            "52:::::5400abcd11",
            "+52540abcd11",
            "52:54:00:ab:cd:1\u{e9}",
            "5254.00ab.cd1",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_has_the_lower_case_form() {
        let mac: Mac = serde_json::from_str("\"52-54-00-AB-CD-11\"").unwrap();
        assert_eq!(serde_json::to_string(&mac).unwrap(), "\"52:54:00:ab:cd:11\"");
        assert_eq!(mac.dashed(), "52-54-00-ab-cd-11");
    }
}
