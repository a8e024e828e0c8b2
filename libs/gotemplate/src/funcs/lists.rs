// SPDX-License-Identifier: Apache-2.0
//! Lists. Every function makes a new list.

use gotmpl::Value;

use super::args::{at, empty, int, list_at, str_at, text};
use super::kinds::equal;
use super::text::fits;
use super::{MANY, Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("append", 2, 2, append),
    ("chunk", 2, 2, chunk),
    ("compact", 1, 1, compact),
    ("concat", 0, MANY, concat),
    ("first", 1, 1, first),
    ("has", 2, 2, has),
    ("initial", 1, 1, initial),
    ("join", 2, 2, join),
    ("last", 1, 1, last),
    ("list", 0, MANY, list),
    ("mustAppend", 2, 2, append),
    ("mustChunk", 2, 2, chunk),
    ("mustCompact", 1, 1, compact),
    ("mustFirst", 1, 1, first),
    ("mustHas", 2, 2, has),
    ("mustInitial", 1, 1, initial),
    ("mustLast", 1, 1, last),
    ("mustPrepend", 2, 2, prepend),
    ("mustRest", 1, 1, rest),
    ("mustReverse", 1, 1, reverse),
    ("mustSlice", 1, 3, slice),
    ("mustUniq", 1, 1, uniq),
    ("mustWithout", 1, MANY, without),
    ("prepend", 2, 2, prepend),
    ("push", 2, 2, append),
    ("mustPush", 2, 2, append),
    ("rest", 1, 1, rest),
    ("reverse", 1, 1, reverse),
    ("slice", 1, 3, slice),
    ("sortAlpha", 1, 1, sort_alpha),
    ("toStrings", 1, 1, |a| Ok(data::list(strings(at(a, 0)).into_iter().map(data::string)))),
    ("tuple", 0, MANY, list),
    ("uniq", 1, 1, uniq),
    ("without", 1, MANY, without),
];

fn list(args: &[Value]) -> Outcome {
    Ok(data::list(args.iter().cloned()))
}

fn append(args: &[Value]) -> Outcome {
    Ok(data::list(list_at(args, 0)?.iter().chain(args.get(1)).cloned()))
}

fn prepend(args: &[Value]) -> Outcome {
    Ok(data::list(args.get(1).into_iter().chain(list_at(args, 0)?).cloned()))
}

fn concat(args: &[Value]) -> Outcome {
    let mut items = Vec::new();
    for index in 0..args.len() {
        items.extend_from_slice(list_at(args, index)?);
    }
    Ok(data::list(items))
}

fn first(args: &[Value]) -> Outcome {
    Ok(list_at(args, 0)?.first().cloned().unwrap_or(Value::Nil))
}

fn last(args: &[Value]) -> Outcome {
    Ok(list_at(args, 0)?.last().cloned().unwrap_or(Value::Nil))
}

fn rest(args: &[Value]) -> Outcome {
    Ok(data::list(list_at(args, 0)?.iter().skip(1).cloned()))
}

fn initial(args: &[Value]) -> Outcome {
    let items = list_at(args, 0)?;
    Ok(data::list(items.iter().take(items.len().saturating_sub(1)).cloned()))
}

fn reverse(args: &[Value]) -> Outcome {
    Ok(data::list(list_at(args, 0)?.iter().rev().cloned()))
}

fn compact(args: &[Value]) -> Outcome {
    Ok(data::list(list_at(args, 0)?.iter().filter(|v| !empty(v)).cloned()))
}

fn uniq(args: &[Value]) -> Outcome {
    let mut seen: Vec<Value> = Vec::new();
    for item in list_at(args, 0)? {
        if !seen.iter().any(|known| equal(known, item)) {
            seen.push(item.clone());
        }
    }
    Ok(data::list(seen))
}

fn without(args: &[Value]) -> Outcome {
    let (_, omit) = args.split_at(1);
    let kept = list_at(args, 0)?.iter().filter(|item| !omit.iter().any(|o| equal(o, item)));
    Ok(data::list(kept.cloned()))
}

/// `has needle list`.
fn has(args: &[Value]) -> Outcome {
    if matches!(at(args, 1), Value::Nil) {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(list_at(args, 1)?.iter().any(|item| equal(item, at(args, 0)))))
}

fn slice(args: &[Value]) -> Outcome {
    // On a string `slice` is the language's own; sprig's hides it for lists only where it is registered, and it
    // is, so strings are served here too.
    let (start, end) = (args.get(1).map(int), args.get(2).map(int));
    at(args, 0).slice(start, end).map_err(|e| e.to_string())
}

/// `chunk size list`.
fn chunk(args: &[Value]) -> Outcome {
    let size =
        usize::try_from(int(at(args, 0))).ok().filter(|n| *n > 0).ok_or("the size must be positive")?;
    Ok(data::list(list_at(args, 1)?.chunks(size).map(|part| data::list(part.iter().cloned()))))
}

fn sort_alpha(args: &[Value]) -> Outcome {
    let mut words = strings(at(args, 0));
    words.sort();
    Ok(data::list(words.into_iter().map(data::string)))
}

/// `join separator list`; a single value counts as a list of one.
fn join(args: &[Value]) -> Outcome {
    let (separator, parts) = (str_at(args, 0)?, strings(at(args, 1)));
    fits(parts.len(), separator.len(), parts.iter().map(String::len).sum())?;
    Ok(data::string(parts.join(separator)))
}

/// sprig's `strslice`: nil members are dropped.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().filter(|v| !matches!(v, Value::Nil)).map(text).collect(),
        Value::Nil => Vec::new(),
        other => vec![text(other)],
    }
}
