// SPDX-License-Identifier: Apache-2.0
//! What no two servers have in common is taken out of what was printed: addresses, UIDs, versions of objects, times and ages.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// Pattern, and what stands in its place.
struct Mask(Regex, &'static str);

fn masks(rows: &[(&str, &'static str)]) -> Vec<Mask> {
    #[expect(clippy::expect_used, reason = "the patterns are constants")]
    let mask = |(pattern, word): &(&str, &'static str)| Mask(Regex::new(pattern).expect("a pattern"), word);
    rows.iter().map(mask).collect()
}

static MASKS: LazyLock<Vec<Mask>> = LazyLock::new(|| {
    masks(&[
        // klog's head: level, date, time, process.
        (r"(?m)^([EIW])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\S+?):\d+\]", "$1 $2]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (r#"(resourceVersion\\?"?: ?\\?"?)\d+"#, "${1}VERSION"),
        (r"(Resource Version: +)\d+", "${1}VERSION"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| [+-]\d{4})", "TIME"),
        (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
        // Folders of `kubectl diff` and files of `kubectl edit`.
        (r"/(LIVE|MERGED)-\d+/", "/$1/"),
        (r"/kubectl-edit-\w+\.yaml", "/EDITED.yaml"),
        // Whether a watch that is to last for a second comes to last for less depends on the machine.
        (r"(?m)^.*very short watch: .*\n?", ""),
        // Lists of custom resources say that they do not go on.
        (r#""continue":"",?"#, ""),
        // A continue token is opaque.
        (r#"("?continue"?: ?"?)[A-Za-z0-9_-]{20,}"#, "${1}TOKEN"),
    ])
});

/// A JSON object in the words of an error.
static QUOTED: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the pattern is a constant")]
    Regex::new(r#""\{(?:[^"\\]|\\.)*\}""#).expect("a pattern")
});

/// A line that begins a table in which rows have ages.
static AGED: LazyLock<Mask> = LazyLock::new(|| {
    let mut one = masks(&[(r"(?m)^.*(\bAGE\b|LAST SEEN|FIRST SEEN|\bAge\b).*$", "")]);
    one.remove(0)
});

static AGE: LazyLock<Mask> = LazyLock::new(|| {
    let mut one = masks(&[(r"\b(\d+[dhms])+\b", "AGE")]);
    one.remove(0)
});

/// Room between columns, which depends on how long ages are; indentation stays.
static GAP: LazyLock<Mask> = LazyLock::new(|| {
    let mut one = masks(&[(r"(?m)(\S)(?:[ \t]{2,}|\t)|[ \t]+$", "")]);
    one.remove(0)
});

/// The text as it would be on any server. `own` are texts of this server alone, with what stands for them; a `headless`
/// text is a table without its header.
pub fn normal(text: &str, own: &[(&str, &str)], headless: bool) -> String {
    let mut text = text.to_owned();
    for (special, word) in own {
        text = text.replace(special, word);
    }
    for Mask(pattern, word) in MASKS.iter() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    let table = if headless { Some(0) } else { AGED.0.find(&text).map(|header| header.start()) };
    if let Some(start) = table {
        let (before, rows) = text.split_at(start);
        text = format!("{before}{}", AGE.0.replace_all(rows, AGE.1));
    }
    // JSON in one line may have its fields in any order.
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(&text)
        && let (1, Ok(sorted)) = (text.lines().count(), serde_json::to_string_pretty(&sorted(value)))
    {
        return sorted;
    }
    let text = QUOTED.replace_all(&text, |found: &Captures<'_>| {
        in_order(found.get(0).map(|quoted| quoted.as_str()).unwrap_or_default())
    });
    let gap = |found: &Captures<'_>| match found.get(1) {
        Some(before) => format!("{}  ", before.as_str()),
        None => String::new(),
    };
    let text = in_order_of_managers(&GAP.0.replace_all(&text, gap));
    text.lines().map(|line| in_order_of_fields(line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// A line that is an object in JSON, as a watch prints each event, with its fields in the order of their names.
fn in_order_of_fields(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(object @ Value::Object(_)) => sorted(object).to_string(),
        _ => line.to_owned(),
    }
}

/// A quoted object with its fields in the order of their names, if it is one.
fn in_order(quoted: &str) -> String {
    let object = serde_json::from_str::<String>(quoted).ok();
    let object = object.and_then(|object| serde_json::from_str::<Value>(&object).ok());
    object.map_or_else(|| quoted.to_owned(), |object| Value::String(sorted(object).to_string()).to_string())
}

/// YAML with each object's `managedFields` in the order of their managers: they come in the order of their times, and which
/// of two writes fall into one second depends on the machine. [`sorted`] does the same in JSON.
fn in_order_of_managers(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut ordered: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        ordered.push(line);
        let Some(indent) = line.strip_suffix("managedFields:").filter(|indent| indent.trim().is_empty())
        else {
            continue;
        };
        let (first, more) = (format!("{indent}- "), format!("{indent}  "));
        let mut entries: Vec<Vec<&str>> = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(&first) || line.starts_with(&more)) {
            match entries.last_mut().filter(|_| line.starts_with(&more)) {
                Some(entry) => entry.push(line),
                None => entries.push(vec![line]),
            }
        }
        let manager = |entry: &Vec<&str>| {
            let lines = entry.iter().map(|line| line.trim().to_owned());
            let named = ["manager: ", "operation: ", "subresource: "];
            lines.filter(|line| named.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>()
        };
        entries.sort_by_key(manager);
        ordered.extend(entries.concat());
    }
    ordered.join("\n")
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(String, Value)> =
                map.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            for (_, entries) in fields.iter_mut().filter(|(name, _)| name == "managedFields") {
                let named = |entry: &Value| {
                    ["manager", "operation", "subresource"].map(|name| entry.get(name).map(Value::to_string))
                };
                if let Value::Array(entries) = entries {
                    entries.sort_by_key(named);
                }
            }
            fields.into_iter().collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        plain => plain,
    }
}
