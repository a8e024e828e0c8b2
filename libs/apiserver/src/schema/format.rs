// SPDX-License-Identifier: Apache-2.0

//! The string formats that kube-apiserver checks (apiextensions `supportedFormats`); others are ignored, as there.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

/// Formats that are known; of some of them any text is one here.
const KNOWN: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// True for a format that is no mere remark.
pub(super) fn is_known(format: &str) -> bool {
    KNOWN.contains(&format.replace('-', "").as_str())
}

/// True when `text` is of the format, or when the format is not one that is checked.
pub(super) fn is_valid(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "uuid3" => uuid::Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 3),
        "uuid4" => uuid::Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 4),
        "uuid5" => uuid::Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 5),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "uri" => text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some() || text.starts_with('/')),
        "hostname" => is_hostname(text),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host)),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(length) = length.parse::<u8>() else { return false };
    if address.parse::<Ipv4Addr>().is_ok() {
        return length <= 32;
    }
    address.parse::<Ipv6Addr>().is_ok() && length <= 128
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
