// SPDX-License-Identifier: Apache-2.0
//! Dictionaries. The ones that change their argument in Go give back the changed copy; the rewriting of the
//! tree assigns it to the variable.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::args::{at, empty, map_at, str_at, text};
use super::{MANY, Outcome, Row};
use crate::data;

pub(super) const ROWS: &[Row] = &[
    ("dict", 0, MANY, dict),
    ("dig", 3, MANY, dig),
    ("get", 2, 2, |a| Ok(map_at(a, 0)?.get(str_at(a, 1)?).cloned().unwrap_or_else(|| data::string("")))),
    ("hasKey", 2, 2, |a| Ok(Value::Bool(map_at(a, 0)?.contains_key(str_at(a, 1)?)))),
    ("keys", 0, MANY, keys),
    ("merge", 1, MANY, |a| merge(a, false)),
    ("mergeOverwrite", 1, MANY, |a| merge(a, true)),
    ("mustMerge", 1, MANY, |a| merge(a, false)),
    ("mustMergeOverwrite", 1, MANY, |a| merge(a, true)),
    ("omit", 1, MANY, |a| select(a, false)),
    ("pick", 1, MANY, |a| select(a, true)),
    ("pluck", 1, MANY, pluck),
    ("set", 3, 3, set),
    ("unset", 2, 2, unset),
    ("values", 1, 1, |a| Ok(data::list(map_at(a, 0)?.values().cloned()))),
];

type Members = BTreeMap<Arc<str>, Value>;

fn made(members: Members) -> Value {
    Value::Map(Arc::new(members))
}

/// Pairs of key and value; a key without a value gets the empty string.
fn dict(args: &[Value]) -> Outcome {
    let mut members = Members::new();
    for pair in args.chunks(2) {
        let value = pair.get(1).cloned().unwrap_or_else(|| data::string(""));
        members.insert(text(at(pair, 0)).into(), value);
    }
    Ok(made(members))
}

fn set(args: &[Value]) -> Outcome {
    let mut members = Members::clone(map_at(args, 0)?);
    members.insert(str_at(args, 1)?.into(), at(args, 2).clone());
    Ok(made(members))
}

fn unset(args: &[Value]) -> Outcome {
    let mut members = Members::clone(map_at(args, 0)?);
    members.remove(str_at(args, 1)?);
    Ok(made(members))
}

fn keys(args: &[Value]) -> Outcome {
    let mut found = Vec::new();
    for index in 0..args.len() {
        found.extend(map_at(args, index)?.keys().map(data::string));
    }
    Ok(data::list(found))
}

fn select(args: &[Value], wanted: bool) -> Outcome {
    let mut names = Vec::new();
    for index in 1..args.len() {
        names.push(str_at(args, index)?);
    }
    let chosen = map_at(args, 0)?.iter().filter(|(key, _)| names.contains(&key.as_ref()) == wanted);
    Ok(made(chosen.map(|(key, value)| (Arc::clone(key), value.clone())).collect()))
}

fn pluck(args: &[Value]) -> Outcome {
    let key = str_at(args, 0)?;
    let mut found = Vec::new();
    for index in 1..args.len() {
        found.extend(map_at(args, index)?.get(key).cloned());
    }
    Ok(data::list(found))
}

/// `dig "a" "b" fallback dict`.
fn dig(args: &[Value]) -> Outcome {
    let [path @ .., fallback, Value::Map(_)] = args else {
        return Err("the last argument must be a dict".to_owned());
    };
    let mut here = at(args, args.len().saturating_sub(1));
    for index in 0..path.len() {
        let Value::Map(members) = here else {
            return Err(format!("there is no dict at key {index}"));
        };
        match members.get(str_at(path, index)?) {
            Some(next) => here = next,
            None => return Ok(fallback.clone()),
        }
    }
    Ok(here.clone())
}

/// Deep merge into the first dictionary; what is there and not empty wins unless `overwrite`.
fn merge(args: &[Value], overwrite: bool) -> Outcome {
    let mut members = Members::clone(map_at(args, 0)?);
    for index in 1..args.len() {
        merge_into(&mut members, map_at(args, index)?, overwrite);
    }
    Ok(made(members))
}

fn merge_into(target: &mut Members, source: &Members, overwrite: bool) {
    for (key, value) in source {
        let merged = match (target.get(key), value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                let mut deep = Members::clone(old);
                merge_into(&mut deep, new, overwrite);
                made(deep)
            }
            (Some(old), new) if !empty(old) && (!overwrite || empty(new)) => old.clone(),
            (_, new) => new.clone(),
        };
        target.insert(Arc::clone(key), merged);
    }
}
