// SPDX-License-Identifier: Apache-2.0
//! Which options of a request are granted, and with which values (RFC 2347 section "Negotiation Protocol").
//!
//! Pure; called once per transfer. An option that is unknown or out of its range is left out of the OACK, which
//! refuses it; a value that is larger than ours is granted smaller.

use std::time::Duration;

use crate::packet::{self, Request};

/// Block size without negotiation (RFC 1350).
pub(crate) const DEFAULT_BLOCK_SIZE: u16 = 512;
/// Range of `blksize` (RFC 2348).
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 8..=65464;

/// The most that a server grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest block, in bytes of data; for one transfer already capped to the interface's MTU.
    pub block_size: u16,
    /// Largest window, in blocks.
    pub window: u16,
}

/// The parameters of one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Bytes of data in a block.
    pub block_size: u16,
    /// Blocks sent before an ACK is awaited.
    pub window: u16,
    /// The retransmission timeout that the client asked for.
    pub timeout: Option<Duration>,
    /// The OACK packet, when an option was granted.
    pub oack: Option<Vec<u8>>,
}

/// Answers the options of a request for a content of `size` bytes.
#[must_use]
pub fn negotiate(request: &Request, size: u64, limits: Limits) -> Negotiated {
    let mut granted: Vec<(&'static str, u64)> = Vec::new();
    let mut result = Negotiated { block_size: DEFAULT_BLOCK_SIZE, window: 1, timeout: None, oack: None };
    let number = |name: &str| request.option(name).and_then(|value| value.trim().parse::<u32>().ok());

    if let Some(wanted) = number("blksize").filter(|wanted| BLOCK_SIZES.contains(wanted)) {
        result.block_size = u16::try_from(wanted).unwrap_or(u16::MAX).min(limits.block_size);
        granted.push(("blksize", result.block_size.into()));
    }
    // An empty file's `tsize` is left out: curl takes a size of 0 for a protocol error (measured, curl 7.88).
    if request.option("tsize").is_some() && size > 0 {
        granted.push(("tsize", size));
    }
    if let Some(seconds) = number("timeout").filter(|seconds| (1..=255).contains(seconds)) {
        result.timeout = Some(Duration::from_secs(seconds.into()));
        granted.push(("timeout", seconds.into()));
    }
    if let Some(wanted) = number("windowsize").filter(|wanted| (1..=65535).contains(wanted)) {
        result.window = u16::try_from(wanted).unwrap_or(u16::MAX).min(limits.window);
        granted.push(("windowsize", result.window.into()));
    }
    if !granted.is_empty() {
        result.oack = Some(packet::oack(&granted));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Mode;

    const LIMITS: Limits = Limits { block_size: 1468, window: 64 };

    fn with(options: &[(&str, &str)]) -> Negotiated {
        let options = options.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        negotiate(&Request { name: "f".into(), mode: Mode::Octet, options }, 9999, LIMITS)
    }

    #[test]
    fn nothing_asked_is_lock_step_without_oack() {
        assert_eq!(with(&[]), Negotiated { block_size: 512, window: 1, timeout: None, oack: None });
    }

    #[test]
    fn values_are_granted_up_to_the_limits() {
        let n = with(&[("blksize", "65464"), ("windowsize", "65535"), ("tsize", "0"), ("timeout", "3")]);
        assert_eq!((n.block_size, n.window, n.timeout), (1468, 64, Some(Duration::from_secs(3))));
        assert_eq!(
            n.oack.unwrap(),
            b"\x00\x06blksize\x001468\0tsize\x009999\0timeout\x003\0windowsize\x0064\0"
        );
        assert_eq!(with(&[("blksize", "8")]).block_size, 8);
    }

    #[test]
    fn an_empty_file_has_no_tsize() {
        let request =
            Request { name: "f".into(), mode: Mode::Octet, options: vec![("tsize".into(), "0".into())] };
        assert_eq!(negotiate(&request, 0, LIMITS).oack, None);
    }

    #[test]
    fn bad_values_are_refused_by_silence() {
        for bad in ["7", "0", "-1", "65465", "x", ""] {
            assert_eq!(with(&[("blksize", bad)]).oack, None, "{bad}");
        }
        assert_eq!(with(&[("windowsize", "0"), ("timeout", "256"), ("multicast", "")]).oack, None);
    }
}
