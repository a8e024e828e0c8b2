// SPDX-License-Identifier: Apache-2.0
//! The Range header (RFC 9110 section 14): what is asked for, and the form of an answer of several parts. Pure.

use http::HeaderValue;

/// Ranges in one request. More are not worth their heads: such a header counts as none, which section 14.2 allows, as do
/// ranges that overlap.
const MAX_RANGES: usize = 16;
/// Longest header that is read.
const MAX_HEADER: usize = 1024;
/// What parts an answer. What it stands in is not searched for it: every part's length is known.
const BOUNDARY: &str = "tinkerbell-0f8b1c2d3e4a5967-part";

/// The part of a file that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it.
    Whole,
    /// First and last byte.
    One(u64, u64),
    /// Several ranges.
    Several(Parts),
    /// No byte of the file is in what was asked for.
    Unsatisfiable,
}

/// Ranges of a file of this size, each first and last byte, in the order asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// First and last byte of each.
    pub ranges: Vec<(u64, u64)>,
    /// Size of the file.
    pub size: u64,
}

impl Asked {
    /// Reads a header for a file of this size. Other units and malformed ones count as none.
    #[must_use]
    pub fn read(header: &HeaderValue, size: u64) -> Self {
        let text = header.to_str().ok().filter(|text| text.len() <= MAX_HEADER);
        let Some(specs) = text.and_then(|text| text.strip_prefix("bytes=")) else { return Self::Whole };
        let mut ranges = Vec::new();
        // Empty elements of a list are nothing (section 5.6.1).
        for spec in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()).take(MAX_RANGES + 1) {
            match one(spec, size) {
                None => return Self::Whole,
                Some(range) => ranges.push(range),
            }
        }
        if ranges.is_empty() || ranges.len() > MAX_RANGES {
            return Self::Whole;
        }
        let ranges: Vec<(u64, u64)> = ranges.into_iter().flatten().collect();
        match ranges.as_slice() {
            [] => Self::Unsatisfiable,
            [(first, last)] => Self::One(*first, *last),
            several if overlap(several) => Self::Whole,
            _ => Self::Several(Parts { ranges, size }),
        }
    }
}

/// One range: nothing when it is malformed, nothing within when no byte of the file is in it.
fn one(spec: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let end = size.checked_sub(1);
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(end.filter(|_| suffix > 0).map(|end| (size.saturating_sub(suffix), end)));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| (first, last.min(end))))
}

fn overlap(ranges: &[(u64, u64)]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if first <= last))
}

impl Parts {
    /// The media type of the answer.
    pub(super) fn media_type(&self) -> String {
        format!("multipart/byteranges; boundary={BOUNDARY}")
    }

    /// Bytes of the whole answer.
    pub(super) fn length(&self) -> u64 {
        let part = |(first, last): &(u64, u64)| {
            part_head(*first, *last, self.size).len() as u64 + (last - first) + 1
        };
        self.ranges.iter().map(part).sum::<u64>() + part_tail().len() as u64
    }
}

/// What stands before a part.
pub(super) fn part_head(first: u64, last: u64, size: u64) -> String {
    format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
    )
}

/// What stands behind the last part.
pub(super) fn part_tail() -> String {
    format!("\r\n--{BOUNDARY}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::Asked::{One, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn ranges_as_the_rfc_has_them() {
        let several = |ranges: &[(u64, u64)]| Asked::Several(Parts { ranges: ranges.to_vec(), size: 100 });
        let many =
            format!("bytes={}", (0..=MAX_RANGES).map(|i| format!("{0}-{0},", 2 * i)).collect::<String>());
        for (range, size, expected) in [
            ("bytes=0-9", 100, One(0, 9)),
            ("bytes=90-", 100, One(90, 99)),
            ("bytes=90-1000", 100, One(90, 99)),
            ("bytes=-10", 100, One(90, 99)),
            ("bytes=-1000", 100, One(0, 99)),
            ("bytes=99-99", 100, One(99, 99)),
            ("bytes=100-", 100, Unsatisfiable),
            ("bytes=-0", 100, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Unsatisfiable),
            ("bytes=99999999999999999999-", 100, Unsatisfiable),
            ("bytes=200-300,400-", 100, Unsatisfiable),
            ("bytes=9-0", 100, Whole),
            ("bytes=a-b", 100, Whole),
            ("bytes=-", 100, Whole),
            ("bytes=", 100, Whole),
            ("bytes=,", 100, Whole),
            ("bytes=+1-2", 100, Whole),
            ("lines=0-1", 100, Whole),
            ("bytes=0-1,5-6", 100, several(&[(0, 1), (5, 6)])),
            ("bytes=5-6,, 0-1", 100, several(&[(5, 6), (0, 1)])),
            ("bytes=0-1,200-", 100, One(0, 1)),
            ("bytes=0-1,x", 100, Whole),
            ("bytes=0-5,5-9", 100, Whole),
            (&many, 100, Whole),
        ] {
            let header = HeaderValue::from_str(range).unwrap();
            assert_eq!(Asked::read(&header, size), expected, "{range}");
        }
    }
}
