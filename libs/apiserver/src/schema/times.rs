// SPDX-License-Identifier: Apache-2.0

//! Times and durations of CEL. Registered once by `rules`.
//!
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md#timestamps-and-durations>. Both are represented by nanoseconds, so that they compare, add and
//! subtract as they should; their parts (`getHours` and the like) are not there, for whole numbers do not tell which of the two they are.

use cel::common::types::{CelInt, CelString};
use cel::{DeclarationError, Env, ExecutionError};

/// Units of a duration in nanoseconds, those before whose name is in that of others first.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Adds all of them.
pub(super) fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn duration: (CelString) -> Result<CelInt>)?;
    cel::add_overload!(env, fn timestamp: (CelString) -> Result<CelInt>)?;
    Ok(())
}

fn duration(text: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    let nanos = parse(text).and_then(|nanos| i64::try_from(nanos).ok());
    nanos.map(CelInt::from).ok_or_else(|| {
        ExecutionError::function_error("duration", format!("invalid duration \"{}\"", &**text))
    })
}

fn timestamp(text: &CelString<'_>) -> Result<CelInt, ExecutionError> {
    let nanos = text.parse::<jiff::Timestamp>().ok().and_then(|at| i64::try_from(at.as_nanosecond()).ok());
    nanos.map(CelInt::from).ok_or_else(|| {
        ExecutionError::function_error("timestamp", format!("invalid timestamp \"{}\"", &**text))
    })
}

/// Nanoseconds of a text such as `-1h30m` or `1.5s`; `None` for what is none.
fn parse(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum: Option<i128> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 9 {
            return None;
        }
        let parts = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled: i128 = format!("0{whole}{fraction}").parse().ok()?;
        sum = Some(sum.unwrap_or(0).checked_add(scaled.checked_mul(*nanos)? / parts)?);
        rest = after.strip_prefix(unit)?;
    }
    sum.map(|sum| if negative { -sum } else { sum })
}
