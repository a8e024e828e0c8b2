// SPDX-License-Identifier: Apache-2.0
//! What one rendering may cost: time, memory and stack.
//!
//! A template is somebody's input, and a few lines of one can double a string sixty times or nest lists until the
//! stack is gone. The executor bounds loop turns and calls; this module bounds the rest. It counts units, not
//! seconds, so that a template that renders today renders tomorrow. A unit is about a byte that is looked at or
//! made. Called by [`crate::rewrite`]'s support functions at every body, argument and result.

use std::sync::atomic::{AtomicU64, Ordering};

use gotmpl::Value;

use crate::Error;

/// Units of one rendering: a second or so at worst. Published templates need a few ten thousand.
const LIMIT: u64 = 1 << 26;

/// Size of one value, in units; four times what could be printed.
const LARGEST: u64 = 1 << 20;

/// Levels of lists and dictionaries inside one another; JSON's own bound is 128.
const DEEPEST: u32 = 150;

/// Levels of bodies inside one another at parse time, every `else if` a level of its own. The executor's bound for a
/// running template is the same.
const DEEPEST_BODY: usize = 200;

/// Verbs in one format: each may print a whole value.
const VERBS: usize = 64;

/// A node of a list, besides what is in it.
const NODE: u64 = 8;
/// An entry of a dictionary, besides key and value.
const ENTRY: u64 = 48;
/// A function call, besides arguments and result.
const CALL: u64 = 16;
/// A body that is entered, besides its nodes.
const BODY: u64 = 64;
/// A regular expression that is compiled.
const PATTERN: u64 = 1 << 16;

/// Units left in this rendering.
#[derive(Default)]
pub(crate) struct Work(AtomicU64);

impl Work {
    /// A rendering begins.
    pub(crate) fn begin(&self) {
        self.0.store(LIMIT, Ordering::Relaxed);
    }

    /// Takes units.
    pub(crate) fn spend(&self, units: u64) -> Result<(), String> {
        let left = self.0.load(Ordering::Relaxed).checked_sub(units);
        self.0.store(left.unwrap_or(0), Ordering::Relaxed);
        left.map(drop).ok_or_else(|| "the template does more work than one rendering may".to_owned())
    }

    /// Takes the units that a value is worth.
    pub(crate) fn weigh(&self, value: &Value) -> Result<(), String> {
        let mut room = LARGEST;
        match measure(value, &mut room, DEEPEST) {
            Ok(()) => self.spend(LARGEST - room),
            Err(why) => {
                self.spend(LARGEST)?;
                Err(why.to_owned())
            }
        }
    }

    /// Takes the units of a call before it is made.
    pub(crate) fn call(&self, name: &str, args: &[Value]) -> Result<(), String> {
        self.spend(CALL)?;
        args.iter().try_for_each(|arg| self.weigh(arg))?;
        self.spend(extra(name, args))
    }

    /// Refuses a format with too many verbs.
    pub(crate) fn format(&self, format: &Value) -> Result<(), String> {
        self.weigh(format)?;
        match format {
            Value::String(text) if text.matches('%').count() > VERBS => {
                Err(format!("a format may have {VERBS} verbs at most"))
            }
            _ => Ok(()),
        }
    }

    /// Takes the units of entering a body.
    pub(crate) fn body(&self, nodes: u64) -> Result<(), String> {
        self.spend(nodes.saturating_mul(NODE).saturating_add(BODY))
    }

    /// Takes the units of reading members.
    pub(crate) fn members(&self, count: usize) -> Result<(), String> {
        self.spend((bytes(count) + 1) * NODE)
    }
}

/// Takes the size of a value from `room`.
fn measure(value: &Value, room: &mut u64, levels: u32) -> Result<(), &'static str> {
    let levels = levels.checked_sub(1).ok_or("a value is nested too deep")?;
    let mut take = |units: u64| {
        *room = room.checked_sub(units).ok_or("a value is too large")?;
        Ok(())
    };
    match value {
        Value::String(text) => take(bytes(text.len()) + NODE),
        Value::List(items) => {
            take(NODE)?;
            items.iter().try_for_each(|item| measure(item, room, levels))
        }
        Value::Map(members) => {
            take(NODE)?;
            members.iter().try_for_each(|(key, value)| {
                *room = room.checked_sub(ENTRY + bytes(key.len())).ok_or("a value is too large")?;
                measure(value, room, levels)
            })
        }
        _ => take(NODE),
    }
}

/// What functions cost that do more than look at every argument once.
fn extra(name: &str, args: &[Value]) -> u64 {
    let size = |index: usize| match args.get(index) {
        Some(Value::String(text)) => bytes(text.len()),
        Some(Value::List(items)) => bytes(items.len()),
        Some(Value::Map(members)) => bytes(members.len()),
        _ => 0,
    };
    match name.trim_start_matches("must").to_ascii_lowercase().as_str() {
        "uniq" => size(0) * size(0) / 4,
        "without" | "pick" | "omit" => size(0) * bytes(args.len()),
        "trimall" => size(0) * size(1) / 16,
        "regexfind" | "regexmatch" => PATTERN + size(0) * size(1) / 16,
        // A search for all matches may look at the rest of the text after each.
        "regexfindall" | "regexsplit" | "regexreplaceall" | "regexreplaceallliteral" => {
            PATTERN + size(0) * size(1) / 16 + size(1) * size(1) / 512
        }
        _ => 0,
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Refuses a text whose bodies are nested too deep, before the parser follows them: it counts bodies, but a chain of
/// `else if` makes a body in a body too.
///
/// A delimiter in a string or comment counts like any other, which matters only in a text that is close to the bound.
pub(crate) fn check_nesting(source: &str) -> Result<(), Error> {
    let mut open: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    for (at, _) in source.match_indices("{{") {
        let action = source.get(at + 2..).unwrap_or_default().trim_start_matches('-').trim_start();
        let mut words = action.split(|c: char| !c.is_ascii_alphabetic());
        match (words.next(), words.next()) {
            (Some("if" | "with" | "range" | "block" | "define"), _) => {
                depth += 1;
                open.push(1);
            }
            (Some("else"), Some("if" | "with")) => {
                depth += 1;
                if let Some(levels) = open.last_mut() {
                    *levels += 1;
                }
            }
            (Some("end"), _) => depth = depth.saturating_sub(open.pop().unwrap_or_default()),
            _ => {}
        }
        if depth > DEEPEST_BODY {
            let line = source.get(..at).unwrap_or_default().split('\n').count();
            let message = format!("more than {DEEPEST_BODY} levels of if, else if, with, range");
            return Err(Error::Parse { line, message });
        }
    }
    Ok(())
}
