// SPDX-License-Identifier: Apache-2.0
//! Tinkerbell's own functions.

use std::net::Ipv4Addr;

use gotmpl::Value;

use super::args::{at, str_at};
use super::{Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("formatPartition", 2, 2, format_partition),
    ("fromYaml", 1, 1, |a| data::from_yaml(str_at(a, 0)?)),
    ("netmaskToCIDR", 1, 1, prefix_length),
    ("netmaskToPrefixLength", 1, 1, prefix_length),
    ("toYaml", 1, 1, |a| data::to_yaml(at(a, 0)).map(data::string)),
];

/// The name of partition `n` of a device: `/dev/disk/…` takes `-partN`, a name that ends in a digit takes `pN`,
/// any other `N`.
fn format_partition(args: &[Value]) -> Outcome {
    let device = str_at(args, 0)?;
    let number = super::args::int_at(args, 1)?;
    let infix = if device.starts_with("/dev/disk/") {
        "-part"
    } else if device.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    Ok(data::string(format!("{device}{infix}{number}")))
}

/// A dotted IPv4 netmask as a prefix length; `0` for one with holes, as upstream's.
fn prefix_length(args: &[Value]) -> Outcome {
    let text = str_at(args, 0)?;
    let mask: Ipv4Addr = text.parse().map_err(|_| format!("\"{text}\" is not an IPv4 netmask"))?;
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    let contiguous = bits.count_ones() == ones;
    Ok(data::string(if contiguous { ones } else { 0 }.to_string()))
}
