// SPDX-License-Identifier: Apache-2.0
//! Between template values and JSON or YAML.
//!
//! Go's numbers are the trap. Objects (`.hardware`, `.references`) reach a template as Kubernetes' "unstructured"
//! maps, in which whole numbers are integers; `fromJson` decodes every number as a float, which prints
//! `1e+09` for a billion. Both are kept: [`from_json`] is the first, [`from_json_floats`] the second.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::{Map, Number, Value as Json};

/// A JSON value as template data, whole numbers as integers.
pub fn from_json(json: &Json) -> Value {
    convert(json, &|number| {
        if let Some(n) = number.as_i64() {
            Value::Int(n)
        } else if let Some(n) = number.as_u64() {
            Value::Uint(n)
        } else {
            Value::Float(number.as_f64().unwrap_or_default())
        }
    })
}

/// A JSON value as `encoding/json` decodes it into an untyped variable: every number a float.
pub fn from_json_floats(json: &Json) -> Value {
    convert(json, &|number| Value::Float(number.as_f64().unwrap_or_default()))
}

fn convert(json: &Json, number: &dyn Fn(&Number) -> Value) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => number(n),
        Json::String(s) => Value::String(s.as_str().into()),
        Json::Array(items) => list(items.iter().map(|item| convert(item, number))),
        Json::Object(members) => {
            map(members.iter().map(|(key, value)| (key.as_str().into(), convert(value, number))))
        }
    }
}

/// A list value.
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect::<Vec<_>>().into())
}

/// A map value; the last of equal keys wins.
pub fn map(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
    Value::Map(Arc::new(entries.into_iter().collect::<BTreeMap<_, _>>()))
}

/// A string value.
pub fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

/// A template value as JSON, numbers written as Go writes them (a float without a fraction has no point).
///
/// # Errors
/// Functions, NaN and infinities have no JSON form.
pub fn to_json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => Json::from(*n),
        Value::Uint(n) => Json::from(*n),
        Value::Float(f) => float(*f)?,
        Value::String(s) => Json::from(s.as_ref()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(members) => Json::Object(
            members
                .iter()
                .map(|(key, value)| Ok((key.to_string(), to_json(value)?)))
                .collect::<Result<Map<_, _>, String>>()?,
        ),
        Value::Function(_) => return Err("a function has no JSON form".to_owned()),
    })
}

/// Largest float below which every whole number is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn float(f: f64) -> Result<Json, String> {
    if f.fract() == 0.0 && f.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, checked in the condition")]
        let whole = f as i64;
        return Ok(Json::from(whole));
    }
    Number::from_f64(f).map(Json::Number).ok_or_else(|| format!("{f} has no JSON form"))
}

/// `toYaml`: block style, keys sorted, without the final newline.
///
/// # Errors
/// What cannot be said in YAML.
pub fn to_yaml(value: &Value) -> Result<String, String> {
    let text = serde_saphyr::to_string(&to_json(value)?).map_err(|e| e.to_string())?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Longest run of comment lines in `fromYaml`'s text; the parser's own bound is 32.
const MAX_COMMENT_LINES: usize = 1_000_000;

/// `fromYaml`: any YAML value.
///
/// # Errors
/// Empty input and bad YAML, with the position but never the text, which may hold passwords.
pub fn from_yaml(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("empty input".to_owned());
    }
    let budget = serde_saphyr::budget! { max_buffered_comment_events: MAX_COMMENT_LINES };
    let options = serde_saphyr::options! { budget: budget };
    serde_saphyr::from_str_with_options::<Json>(text, options)
        .map(|json| from_json(&json))
        .map_err(|error| error.without_snippet().to_string())
}

/// The value with every float in it replaced by the text that Go's `%v` gives.
pub(crate) fn go_floats(value: &Value) -> Value {
    match value {
        Value::Float(f) => string(go_float(*f)),
        Value::List(items) => list(items.iter().map(go_floats)),
        Value::Map(members) => map(members.iter().map(|(key, value)| (Arc::clone(key), go_floats(value)))),
        other => other.clone(),
    }
}

/// Go's `%v` of a float, which is `%g` with the shortest digits: an exponent is written below -4 and from
/// [`GO_EXPONENT`] on. Real Go prints `1.23456789e+08` for 123456789.0.
fn go_float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..GO_EXPONENT).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{f}")
}

/// First exponent that is written as such when the digits are the shortest ones (strconv, `ftoa.go`).
const GO_EXPONENT: i32 = 6;
