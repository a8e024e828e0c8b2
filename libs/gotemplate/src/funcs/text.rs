// SPDX-License-Identifier: Apache-2.0
//! Strings and regular expressions. Lengths and positions are bytes where sprig's are, so that widths agree;
//! a cut inside a character is moved back to its start, where Go would leave half of it.

use gotmpl::Value;
use regex::Regex;

use super::args::{at, int, int_at, str_at, text};
use super::{MANY, Outcome, Row};
use crate::data;

/// Longest string that `repeat`, `indent` and the like make; a rendering could not use more.
const LONGEST: usize = crate::OUTPUT_LIMIT;

/// Longest string that putting strings together makes: no value may be larger ([`crate::work`]).
const LONGEST_VALUE: usize = 1 << 20;

pub(super) const ROWS: &[Row] = &[
    ("abbrev", 2, 2, |a| ok(abbreviate(0, int_at(a, 0)?, str_at(a, 1)?))),
    ("abbrevboth", 3, 3, |a| ok(abbreviate(int_at(a, 0)?, int_at(a, 1)?, str_at(a, 2)?))),
    ("camelcase", 1, 1, |a| ok(words(str_at(a, 0)?).iter().map(|w| capitalized(w)).collect::<String>())),
    ("cat", 0, MANY, |a| {
        let words: Vec<String> = a.iter().filter(|v| !matches!(v, Value::Nil)).map(text).collect();
        ok(words.join(" "))
    }),
    ("contains", 2, 2, |a| Ok(Value::Bool(str_at(a, 1)?.contains(str_at(a, 0)?)))),
    ("hasPrefix", 2, 2, |a| Ok(Value::Bool(str_at(a, 1)?.starts_with(str_at(a, 0)?)))),
    ("hasSuffix", 2, 2, |a| Ok(Value::Bool(str_at(a, 1)?.ends_with(str_at(a, 0)?)))),
    ("indent", 2, 2, |a| indent(int_at(a, 0)?, str_at(a, 1)?, "")),
    ("initials", 1, 1, |a| {
        ok(str_at(a, 0)?.split_whitespace().filter_map(|w| w.chars().next()).collect::<String>())
    }),
    ("kebabcase", 1, 1, |a| ok(words(str_at(a, 0)?).join("-"))),
    ("lower", 1, 1, |a| ok(str_at(a, 0)?.to_lowercase())),
    ("mustRegexFind", 2, 2, find),
    ("mustRegexFindAll", 3, 3, find_all),
    ("mustRegexMatch", 2, 2, |a| Ok(Value::Bool(regex(a)?.is_match(str_at(a, 1)?)))),
    ("mustRegexReplaceAll", 3, 3, replace_all),
    ("mustRegexReplaceAllLiteral", 3, 3, replace_all_literal),
    ("mustRegexSplit", 3, 3, regex_split),
    ("nindent", 2, 2, |a| indent(int_at(a, 0)?, str_at(a, 1)?, "\n")),
    ("nospace", 1, 1, |a| ok(str_at(a, 0)?.chars().filter(|c| !c.is_whitespace()).collect::<String>())),
    ("plural", 3, 3, |a| ok(if int_at(a, 2)? == 1 { str_at(a, 0)? } else { str_at(a, 1)? })),
    ("quote", 0, MANY, |a| ok(joined(a, quoted))),
    ("regexFind", 2, 2, find),
    ("regexFindAll", 3, 3, find_all),
    ("regexMatch", 2, 2, |a| {
        Ok(Value::Bool(regex(a).is_ok_and(|r| str_at(a, 1).is_ok_and(|s| r.is_match(s)))))
    }),
    ("regexQuoteMeta", 1, 1, |a| ok(quote_meta(str_at(a, 0)?))),
    ("regexReplaceAll", 3, 3, replace_all),
    ("regexReplaceAllLiteral", 3, 3, replace_all_literal),
    ("regexSplit", 3, 3, regex_split),
    ("repeat", 2, 2, repeat),
    ("replace", 3, 3, replace),
    ("snakecase", 1, 1, |a| ok(words(str_at(a, 0)?).join("_"))),
    ("split", 2, 2, |a| Ok(numbered(str_at(a, 1)?.split(str_at(a, 0)?)))),
    ("splitList", 2, 2, |a| Ok(data::list(str_at(a, 1)?.split(str_at(a, 0)?).map(data::string)))),
    ("splitn", 3, 3, |a| {
        let count = usize::try_from(int_at(a, 1)?).unwrap_or(usize::MAX);
        Ok(numbered(str_at(a, 2)?.splitn(count, str_at(a, 0)?)))
    }),
    ("squote", 0, MANY, |a| ok(joined(a, |v| format!("'{}'", text(v))))),
    ("substr", 3, 3, substr),
    ("swapcase", 1, 1, |a| ok(swapcase(str_at(a, 0)?))),
    ("title", 1, 1, |a| ok(title(str_at(a, 0)?))),
    ("toString", 1, 1, |a| ok(text(at(a, 0)))),
    ("trim", 1, 1, |a| ok(str_at(a, 0)?.trim())),
    ("trimAll", 2, 2, trim_all),
    ("trimPrefix", 2, 2, |a| {
        let s = str_at(a, 1)?;
        ok(s.strip_prefix(str_at(a, 0)?).unwrap_or(s))
    }),
    ("trimSuffix", 2, 2, |a| {
        let s = str_at(a, 1)?;
        ok(s.strip_suffix(str_at(a, 0)?).unwrap_or(s))
    }),
    ("trimall", 2, 2, trim_all),
    ("trunc", 2, 2, trunc),
    ("untitle", 1, 1, |a| {
        ok(str_at(a, 0)?
            .split_inclusive(char::is_whitespace)
            .map(|w| first_with(w, char::to_lowercase))
            .collect::<String>())
    }),
    ("upper", 1, 1, |a| ok(str_at(a, 0)?.to_uppercase())),
    ("wrap", 2, 2, |a| wrap(int_at(a, 0)?, "\n", str_at(a, 1)?)),
    ("wrapWith", 3, 3, |a| wrap(int_at(a, 0)?, str_at(a, 1)?, str_at(a, 2)?)),
];

/// Refuses a result of `pieces` times `each` and `rest` bytes before it is made.
pub(super) fn fits(pieces: usize, each: usize, rest: usize) -> Result<(), String> {
    let length = pieces.saturating_mul(each).saturating_add(rest);
    if length > LONGEST_VALUE { Err("the result is too long".to_owned()) } else { Ok(()) }
}

fn ok(text: impl AsRef<str>) -> Outcome {
    Ok(data::string(text))
}

/// Non-nil arguments, each shown, with blanks between.
fn joined(args: &[Value], show: fn(&Value) -> String) -> String {
    let shown: Vec<String> = args.iter().filter(|v| !matches!(v, Value::Nil)).map(show).collect();
    shown.join(" ")
}

/// Go's `%q` of the value's text.
fn quoted(value: &Value) -> String {
    let mut out = String::from("\"");
    for c in text(value).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `_0`, `_1`, … as sprig's `split` names them.
fn numbered<'a>(parts: impl Iterator<Item = &'a str>) -> Value {
    data::map(parts.enumerate().map(|(n, part)| (format!("_{n}").into(), data::string(part))))
}

fn indent(spaces: i64, text: &str, before: &str) -> Outcome {
    let pad = " ".repeat(usize::try_from(spaces).map_err(|_| "a negative indent".to_owned())?.min(LONGEST));
    if pad.len().saturating_mul(text.lines().count()) > LONGEST {
        return Err("the result is too long".to_owned());
    }
    ok(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn repeat(args: &[Value]) -> Outcome {
    let count = usize::try_from(int(at(args, 0))).map_err(|_| "a negative count".to_owned())?;
    let text = str_at(args, 1)?;
    if text.len().saturating_mul(count) > LONGEST {
        return Err("the result is too long".to_owned());
    }
    ok(text.repeat(count))
}

fn replace(args: &[Value]) -> Outcome {
    let (old, new, text) = (str_at(args, 0)?, str_at(args, 1)?, str_at(args, 2)?);
    fits(text.matches(old).count(), new.len(), text.len())?;
    ok(text.replace(old, new))
}

/// `text[start..end]` in bytes, clamped and moved back to character starts.
fn cut(text: &str, start: usize, end: usize) -> &str {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (floor(start), floor(end));
    text.get(start..end.max(start)).unwrap_or_default()
}

fn substr(args: &[Value]) -> Outcome {
    let text = str_at(args, 2)?;
    let start = usize::try_from(int_at(args, 0)?).unwrap_or(0);
    let end = usize::try_from(int_at(args, 1)?).unwrap_or(text.len());
    ok(cut(text, start, end))
}

fn trunc(args: &[Value]) -> Outcome {
    let (count, text) = (int_at(args, 0)?, str_at(args, 1)?);
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    ok(match count < 0 {
        true => cut(text, text.len().saturating_sub(size), text.len()),
        false => cut(text, 0, size),
    })
}

/// At most `width` bytes with dots for what is left out, from `offset` on.
fn abbreviate(offset: i64, width: i64, text: &str) -> String {
    match (usize::try_from(offset), usize::try_from(width)) {
        (Ok(offset), Ok(width)) => shortened(offset, width, text),
        _ => text.to_owned(),
    }
}

fn shortened(offset: usize, width: usize, text: &str) -> String {
    if width < 4 || (offset > 0 && width < 7) || text.len() <= width {
        return text.to_owned();
    }
    let mut offset = offset.min(text.len());
    if text.len() - offset < width - 3 {
        offset = text.len() - (width - 3);
    }
    if offset <= 4 {
        return format!("{}...", cut(text, 0, width - 3));
    }
    if offset + width - 3 < text.len() {
        return format!("...{}", shortened(0, width - 3, cut(text, offset, text.len())));
    }
    format!("...{}", cut(text, text.len() - (width - 3), text.len()))
}

fn trim_all(args: &[Value]) -> Outcome {
    let set = str_at(args, 0)?;
    ok(str_at(args, 1)?.trim_matches(|c| set.contains(c)))
}

fn swapcase(text: &str) -> String {
    text.chars()
        .flat_map(|c| -> Vec<char> {
            if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
        })
        .collect()
}

/// `strings.Title`: the first letter of every run of letters, digits, `_` and `'`.
fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| -> Vec<char> {
            let at_start = std::mem::replace(&mut start, !(c.is_alphanumeric() || c == '_' || c == '\''));
            if at_start { c.to_uppercase().collect() } else { vec![c] }
        })
        .collect()
}

fn first_with<I: Iterator<Item = char>>(word: &str, change: fn(char) -> I) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(first) => change(first).chain(chars).collect(),
        None => String::new(),
    }
}

fn capitalized(word: &str) -> String {
    first_with(word, char::to_uppercase)
}

/// The words of an identifier, in lower case: cut at `_`, `-`, blanks, before an upper-case letter that starts
/// a word (`HTTPServer` is http, server), and where digits begin.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = vec![String::new()];
    for (index, &c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let before = index.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
        let after = chars.get(index + 1).copied().unwrap_or(' ');
        let starts = (c.is_uppercase() && (!before.is_uppercase() || after.is_lowercase()))
            || (c.is_numeric() && before.is_alphabetic());
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Breaks at blanks so that no line is longer than `width`, unless one word is.
fn wrap(width: i64, separator: &str, text: &str) -> Outcome {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    fits(lines.len(), separator.len(), text.len())?;
    ok(lines.join(separator))
}

/// Largest compiled program; a pattern that needs more is refused.
const REGEX_LIMIT: usize = 1 << 20;

fn regex(args: &[Value]) -> Result<Regex, String> {
    let pattern = str_at(args, 0)?;
    regex::RegexBuilder::new(pattern).size_limit(REGEX_LIMIT).build().map_err(|e| e.to_string())
}

/// `regexp.QuoteMeta` escapes exactly these.
fn quote_meta(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn find(args: &[Value]) -> Outcome {
    ok(regex(args)?.find(str_at(args, 1)?).map_or("", |found| found.as_str()))
}

/// `n` as Go takes it: below zero means all.
fn limit(args: &[Value]) -> Result<usize, String> {
    Ok(usize::try_from(int_at(args, 2)?).unwrap_or(usize::MAX))
}

fn find_all(args: &[Value]) -> Outcome {
    let found = regex(args)?;
    Ok(data::list(found.find_iter(str_at(args, 1)?).take(limit(args)?).map(|m| data::string(m.as_str()))))
}

fn replace_all(args: &[Value]) -> Outcome {
    let (pattern, text, with) = (regex(args)?, str_at(args, 1)?, str_at(args, 2)?);
    // Each `$` of the replacement may stand for a whole match, and the matches are the text at most.
    let expanded = with.matches('$').count().saturating_mul(text.len());
    fits(pattern.find_iter(text).count(), with.len(), text.len().saturating_add(expanded))?;
    ok(pattern.replace_all(text, with))
}

fn replace_all_literal(args: &[Value]) -> Outcome {
    let (pattern, text, with) = (regex(args)?, str_at(args, 1)?, str_at(args, 2)?);
    fits(pattern.find_iter(text).count(), with.len(), text.len())?;
    ok(pattern.replace_all(text, regex::NoExpand(with)))
}

fn regex_split(args: &[Value]) -> Outcome {
    let (pattern, text) = (regex(args)?, str_at(args, 1)?);
    Ok(match limit(args)? {
        0 => data::list([]),
        usize::MAX => data::list(pattern.split(text).map(data::string)),
        count => data::list(pattern.splitn(text, count).map(data::string)),
    })
}
