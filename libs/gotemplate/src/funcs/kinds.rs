// SPDX-License-Identifier: Apache-2.0
//! Types, defaults, choice and failure.

use gotmpl::Value;

use super::args::{at, empty, str_at, text};
use super::{MANY, Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("all", 0, MANY, |a| Ok(Value::Bool(!a.iter().any(empty)))),
    ("any", 0, MANY, |a| Ok(Value::Bool(a.iter().any(|v| !empty(v))))),
    ("coalesce", 0, MANY, |a| Ok(a.iter().find(|v| !empty(v)).cloned().unwrap_or(Value::Nil))),
    ("deepCopy", 1, 1, |a| Ok(at(a, 0).clone())),
    ("deepEqual", 2, 2, |a| Ok(Value::Bool(equal(at(a, 0), at(a, 1))))),
    ("default", 1, 2, default),
    ("empty", 1, 1, |a| Ok(Value::Bool(empty(at(a, 0))))),
    ("fail", 1, 1, |a| Err(str_at(a, 0)?.to_owned())),
    ("hello", 0, 0, |_| Ok(data::string("Hello!"))),
    ("kindIs", 2, 2, |a| Ok(Value::Bool(str_at(a, 0)? == kind(at(a, 1))))),
    ("kindOf", 1, 1, |a| Ok(data::string(kind(at(a, 0))))),
    ("mustDeepCopy", 1, 1, |a| Ok(at(a, 0).clone())),
    ("ternary", 3, 3, ternary),
    ("typeIs", 2, 2, |a| Ok(Value::Bool(str_at(a, 0)? == type_of(at(a, 1))))),
    ("typeIsLike", 2, 2, |a| {
        let (want, have) = (str_at(a, 0)?, type_of(at(a, 1)));
        Ok(Value::Bool(want == have || format!("*{want}") == have))
    }),
    ("typeOf", 1, 1, |a| Ok(data::string(type_of(at(a, 0))))),
];

/// `default fallback value`; with the fallback alone, the fallback.
fn default(args: &[Value]) -> Outcome {
    let given = args.get(1).filter(|v| !empty(v));
    Ok(given.unwrap_or(at(args, 0)).clone())
}

fn ternary(args: &[Value]) -> Outcome {
    match at(args, 2) {
        Value::Bool(true) => Ok(at(args, 0).clone()),
        Value::Bool(false) => Ok(at(args, 1).clone()),
        other => Err(format!("argument 3 must be a bool, not {}", text(other))),
    }
}

/// `reflect.DeepEqual`: kinds must agree, so 1 and 1.0 differ.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((k, a), (l, b))| k == l && equal(a, b))
        }
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        other => kind(other),
    }
}
