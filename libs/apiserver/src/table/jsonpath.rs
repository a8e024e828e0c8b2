// SPDX-License-Identifier: Apache-2.0

//! The part of JSONPath that printer columns use: fields (with `\.` escapes), `['field']`, `[n]`, `[*]`, `..field` and `[?(@.path=="value")]`.
//!
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>. Pure.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// Negative counts from the end.
    Index(i64),
    All,
    Descend(String),
    Filter {
        path: Vec<String>,
        equal: bool,
        value: Option<Value>,
    },
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

impl JsonPath {
    pub fn fields(fields: &[&str]) -> Self {
        Self(fields.iter().map(|field| Step::Field((*field).to_owned())).collect())
    }

    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (step, tail) = if let Some(tail) = rest.strip_prefix("..") {
                let (name, tail) = field(tail)?;
                (Step::Descend(name), tail)
            } else if let Some(tail) = rest.strip_prefix('.') {
                if tail.is_empty() {
                    break;
                }
                let (name, tail) = field(tail)?;
                (if name == "*" { Step::All } else { Step::Field(name) }, tail)
            } else if let Some(tail) = rest.strip_prefix('[') {
                bracket(tail)?
            } else {
                return None;
            };
            steps.push(step);
            rest = tail;
        }
        Some(Self(steps))
    }

    pub fn select<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut current = vec![object];
        for step in &self.0 {
            current = current.into_iter().flat_map(|value| apply(step, value)).collect();
        }
        current.retain(|value| !value.is_null());
        current
    }
}

fn field(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => return (!name.is_empty()).then(|| (name, text.split_at(at).1)),
            c => name.push(c),
        }
    }
    (!name.is_empty()).then_some((name, ""))
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(inner) = text.strip_prefix("?(") {
        let (condition, tail) = inner.split_once(")]")?;
        return Some((filter(condition)?, tail));
    }
    let (inner, tail) = text.split_once(']')?;
    let step = match inner.trim() {
        "*" => Step::All,
        quoted if quoted.starts_with(['\'', '"']) => Step::Field(unquote(quoted)?.replace("\\.", ".")),
        index => Step::Index(index.parse().ok()?),
    };
    Some((step, tail))
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    text.strip_prefix(quote)?.strip_suffix(quote).map(str::to_owned)
}

fn filter(condition: &str) -> Option<Step> {
    let (path, equal, value) = if let Some((path, value)) = condition.split_once("==") {
        (path, true, Some(value))
    } else if let Some((path, value)) = condition.split_once("!=") {
        (path, false, Some(value))
    } else {
        (condition, true, None)
    };
    let path =
        path.trim().strip_prefix('@')?.split('.').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let value = match value.map(str::trim) {
        None => None,
        Some(quoted) if quoted.starts_with(['\'', '"']) => Some(Value::String(unquote(quoted)?)),
        Some(bare) => Some(serde_json::from_str(bare).ok()?),
    };
    Some(Step::Filter { path, equal, value })
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let Some(list) = value.as_array() else { return Vec::new() };
            let at = match usize::try_from(*index) {
                Ok(at) => Some(at),
                Err(_) => {
                    usize::try_from(index.unsigned_abs()).ok().and_then(|back| list.len().checked_sub(back))
                }
            };
            at.and_then(|at| list.get(at)).into_iter().collect()
        }
        Step::All => children(value),
        Step::Descend(name) => {
            let mut found: Vec<&Value> = value.get(name).into_iter().collect();
            found.extend(children(value).into_iter().flat_map(|child| apply(step, child)));
            found
        }
        Step::Filter { path, equal, value: wanted } => {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let fits = |item: &&Value| match (crate::object::at(item, &path), wanted) {
                (found, None) => found.is_some(),
                (Some(found), Some(wanted)) => (found == wanted) == *equal,
                (None, Some(_)) => false,
            };
            children(value).into_iter().filter(fits).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns() {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"list": [{"n": 1}, {"n": 2}]}});
        let select = |path: &str| {
            JsonPath::parse(path).unwrap().select(&object).into_iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(select(r".metadata.labels.a\.b/c"), [json!("x")]);
        assert_eq!(select(".metadata.labels['a.b/c']"), [json!("x")]);
        assert_eq!(select(".spec.list[*].n"), [json!(1), json!(2)]);
        assert_eq!(select(".spec.list[0].n"), [json!(1)]);
        assert_eq!(select(".spec.list[-1].n"), [json!(2)]);
        assert_eq!(select(".spec.list[?(@.n==2)].n"), [json!(2)]);
        assert_eq!(select("..n"), [json!(1), json!(2)]);
        assert!(select(".spec.gone.deeper").is_empty());
        for broken in ["spec", ".spec[", ".spec[x]", ".spec[?(n==1)]"] {
            assert_eq!(JsonPath::parse(broken), None, "{broken}");
        }
    }
}
