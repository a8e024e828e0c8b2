// SPDX-License-Identifier: Apache-2.0
//! Arithmetic. Integer functions wrap as Go's `int64` does; only division by zero fails.

use gotmpl::Value;

use super::args::{at, float, int, int_at, str_at, text};
use super::{MANY, Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("add", 0, MANY, |a| Ok(Value::Int(a.iter().map(int).fold(0, i64::wrapping_add)))),
    ("add1", 1, 1, |a| Ok(Value::Int(int(at(a, 0)).wrapping_add(1)))),
    ("add1f", 1, 1, |a| Ok(Value::Float(float(at(a, 0)) + 1.0))),
    ("addf", 0, MANY, |a| Ok(Value::Float(a.iter().map(float).sum()))),
    ("atoi", 1, 1, |a| Ok(Value::Int(str_at(a, 0)?.parse().unwrap_or(0)))),
    ("biggest", 1, MANY, max),
    ("ceil", 1, 1, |a| Ok(Value::Float(float(at(a, 0)).ceil()))),
    ("div", 2, 2, |a| quotient(a, i64::wrapping_div)),
    ("divf", 1, MANY, |a| Ok(Value::Float(fold_floats(a, |x, y| x / y)))),
    ("duration", 1, 1, duration),
    ("float64", 1, 1, |a| Ok(Value::Float(float(at(a, 0))))),
    ("floor", 1, 1, |a| Ok(Value::Float(float(at(a, 0)).floor()))),
    ("int", 1, 1, |a| Ok(Value::Int(int(at(a, 0))))),
    ("int64", 1, 1, |a| Ok(Value::Int(int(at(a, 0))))),
    ("max", 1, MANY, max),
    ("maxf", 1, MANY, |a| Ok(Value::Float(fold_floats(a, f64::max)))),
    ("min", 1, MANY, |a| Ok(Value::Int(a.iter().map(int).min().unwrap_or(0)))),
    ("minf", 1, MANY, |a| Ok(Value::Float(fold_floats(a, f64::min)))),
    ("mod", 2, 2, |a| quotient(a, i64::wrapping_rem)),
    ("mul", 1, MANY, |a| Ok(Value::Int(a.iter().map(int).fold(1, i64::wrapping_mul)))),
    ("mulf", 1, MANY, |a| Ok(Value::Float(a.iter().map(float).product()))),
    ("round", 2, 3, round),
    ("seq", 0, 3, seq),
    ("sub", 2, 2, |a| Ok(Value::Int(int(at(a, 0)).wrapping_sub(int(at(a, 1)))))),
    ("subf", 1, MANY, |a| Ok(Value::Float(fold_floats(a, |x, y| x - y)))),
    ("toDecimal", 1, 1, |a| Ok(Value::Int(i64::from_str_radix(&text(at(a, 0)), 8).unwrap_or(0)))),
    ("until", 1, 1, |a| {
        let count = int_at(a, 0)?;
        steps(0, count, if count < 0 { -1 } else { 1 })
    }),
    ("untilStep", 3, 3, |a| steps(int_at(a, 0)?, int_at(a, 1)?, int_at(a, 2)?)),
];

/// Longest list that `until`, `untilStep` and `seq` make.
const LONGEST: i64 = 100_000;

fn max(args: &[Value]) -> Outcome {
    Ok(Value::Int(args.iter().map(int).max().unwrap_or(0)))
}

fn fold_floats(args: &[Value], combine: fn(f64, f64) -> f64) -> f64 {
    args.iter().map(float).reduce(combine).unwrap_or(0.0)
}

fn quotient(args: &[Value], divide: fn(i64, i64) -> i64) -> Outcome {
    match int(at(args, 1)) {
        0 => Err("integer divide by zero".to_owned()),
        divisor => Ok(Value::Int(divide(int(at(args, 0)), divisor))),
    }
}

/// Seconds as Go prints a `time.Duration`.
fn duration(args: &[Value]) -> Outcome {
    let total = match at(args, 0) {
        Value::String(s) => s.parse().unwrap_or(0),
        other => int(other),
    };
    let (sign, total) = if total < 0 { ("-", total.unsigned_abs()) } else { ("", total.unsigned_abs()) };
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let body = match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    };
    Ok(data::string(format!("{sign}{body}")))
}

/// `round value places [roundOn]`, half away from the given fraction as sprig does.
fn round(args: &[Value]) -> Outcome {
    let value = float(at(args, 0));
    let places = i32::try_from(int(at(args, 1))).map_err(|_| "too many places".to_owned())?;
    let round_on = args.get(2).map_or(0.5, float);
    let power = 10_f64.powi(places);
    let digit = power * value;
    let up = digit.fract() >= round_on;
    Ok(Value::Float(if up { digit.ceil() } else { digit.floor() } / power))
}

fn steps(start: i64, stop: i64, step: i64) -> Outcome {
    if step == 0 || (stop < start) != (step < 0) && stop != start {
        return Ok(data::list([]));
    }
    let count = (stop.abs_diff(start)).div_ceil(step.unsigned_abs());
    if count > LONGEST.unsigned_abs() {
        return Err(format!("a list of {count} numbers is too long (at most {LONGEST})"));
    }
    let mut items = Vec::new();
    let mut n = start;
    while if step > 0 { n < stop } else { n > stop } {
        items.push(Value::Int(n));
        n = n.saturating_add(step);
    }
    Ok(data::list(items))
}

/// The shell's `seq`: both ends included, as one string.
fn seq(args: &[Value]) -> Outcome {
    let (start, step, end) = match args {
        [end] => {
            let end = int(end);
            (1, if end < 1 { -1 } else { 1 }, end)
        }
        [start, end] => (int(start), if int(end) < int(start) { -1 } else { 1 }, int(end)),
        [start, step, end] => (int(start), int(step), int(end)),
        _ => return Ok(data::string("")),
    };
    let Value::List(items) = steps(start, end.saturating_add(step.signum()), step)? else {
        return Ok(data::string(""));
    };
    let words: Vec<String> = items.iter().map(text).collect();
    Ok(data::string(words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_follow_go() {
        assert_eq!(int(&data::string("0x10")), 16);
        assert_eq!(int(&data::string("010")), 8);
        assert_eq!(int(&data::string("12.0")), 12);
        assert_eq!(int(&data::string("junk")), 0);
        assert_eq!(int(&Value::Float(-1.9)), -1);
        assert_eq!(int(&Value::Bool(true)), 1);
    }
}
