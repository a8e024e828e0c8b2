// SPDX-License-Identifier: Apache-2.0
//! Reading arguments the way sprig and its `cast` library do.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

static NIL: Value = Value::Nil;

/// Argument `index`; nil where there is none (the table has checked the count).
pub(super) fn at(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&NIL)
}

/// Go's `strval`: a string as it is, everything else as `%v` prints it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.to_string(),
        other => crate::data::go_floats(other).to_string(),
    }
}

/// An argument that Go declares as `string`.
pub(super) fn str_at(args: &[Value], index: usize) -> Result<&str, String> {
    match at(args, index) {
        Value::String(s) => Ok(s),
        other => Err(format!("argument {} must be a string, not {}", index + 1, other.type_name())),
    }
}

/// An argument that Go declares as a list.
pub(super) fn list_at(args: &[Value], index: usize) -> Result<&[Value], String> {
    match at(args, index) {
        Value::List(items) => Ok(items),
        other => Err(format!("argument {} must be a list, not {}", index + 1, other.type_name())),
    }
}

/// An argument that Go declares as `map[string]any`.
pub(super) fn map_at(args: &[Value], index: usize) -> Result<&Arc<BTreeMap<Arc<str>, Value>>, String> {
    match at(args, index) {
        Value::Map(map) => Ok(map),
        other => Err(format!("argument {} must be a dict, not {}", index + 1, other.type_name())),
    }
}

/// An argument that Go declares as `int`: no conversion from text.
pub(super) fn int_at(args: &[Value], index: usize) -> Result<i64, String> {
    match at(args, index) {
        Value::Int(n) => Ok(*n),
        Value::Uint(n) => i64::try_from(*n).map_err(|_| format!("argument {} is too large", index + 1)),
        Value::Float(f) if f.fract() == 0.0 => Ok(truncate(*f)),
        other => Err(format!("argument {} must be an int, not {}", index + 1, other.type_name())),
    }
}

/// `cast.ToInt64`: text in Go's base-0 syntax, zero where it does not parse.
pub(super) fn int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        Value::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
        Value::Float(f) => truncate(*f),
        Value::Bool(b) => i64::from(*b),
        Value::String(s) => parse_int(s).unwrap_or(0),
        _ => 0,
    }
}

/// `cast.ToFloat64`: zero where it does not parse.
pub(super) fn float(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::String(s) => s.trim().parse().unwrap_or(0.0),
        Value::Uint(n) => widen_unsigned(*n),
        other => widen(int(other)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "Go's conversion; Rust's saturates where Go's is undefined"
)]
pub(super) fn truncate(f: f64) -> i64 {
    f as i64
}

#[expect(clippy::cast_precision_loss, reason = "Go's conversion rounds the same way")]
pub(super) fn widen(n: i64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "Go's conversion rounds the same way")]
fn widen_unsigned(n: u64) -> f64 {
    n as f64
}

/// `strconv.ParseInt(s, 0, 64)` after dropping a zero fraction.
fn parse_int(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.chars().all(|c| c == '0') => whole,
        _ => text,
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase().replace('_', "");
    let magnitude = match lower.as_bytes() {
        [b'0', b'x', ..] => i64::from_str_radix(lower.trim_start_matches("0x"), 16),
        [b'0', b'b', ..] => i64::from_str_radix(lower.trim_start_matches("0b"), 2),
        [b'0', b'o', ..] => i64::from_str_radix(lower.trim_start_matches("0o"), 8),
        [b'0', _, ..] => i64::from_str_radix(&lower, 8),
        _ => lower.parse(),
    }
    .ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// Go's zero value or nothing in it.
pub(super) fn empty(value: &Value) -> bool {
    !value.is_truthy()
}
