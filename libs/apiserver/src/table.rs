// SPDX-License-Identifier: Apache-2.0

//! The `meta.k8s.io/v1 Table` form of answers: what `kubectl get` prints. Pure; called by `view`.

mod jsonpath;

use serde_json::{Value, json};

use crate::openapi::schemas;

use jsonpath::JsonPath;

/// The definition of `metadata`.
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One printer column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    /// The definition and the field of Kubernetes that describe it where it has no description of its own.
    documented: Option<(&'static str, &'static str)>,
    source: Source,
}

/// Where a cell's value comes from.
#[derive(Debug, Clone)]
enum Source {
    Path(JsonPath),
    /// Worked out of the object: columns of the built-in kinds.
    Made(fn(&Value, jiff::Timestamp) -> Value),
}

impl Column {
    /// A column showing `path`; `None` when the path does not parse.
    pub fn new(name: &str, kind: &str, path: &str) -> Option<Self> {
        Some(Self {
            name: name.into(),
            kind: kind.into(),
            format: String::new(),
            description: String::new(),
            priority: 0,
            documented: None,
            source: Source::Path(JsonPath::parse(path)?),
        })
    }

    /// A column whose cells `make` works out of the object and the present time.
    pub fn made(name: &str, kind: &str, priority: i64, make: fn(&Value, jiff::Timestamp) -> Value) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            format: String::new(),
            description: String::new(),
            priority,
            documented: None,
            source: Source::Made(make),
        }
    }

    /// The column with the description that a field of a definition has.
    pub fn described(mut self, definition: &'static str, field: &'static str) -> Self {
        self.documented = Some((definition, field));
        self
    }

    /// The first column of every table.
    pub fn name() -> Self {
        Self {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: String::new(),
            priority: 0,
            documented: Some((OBJECT_META, "name")),
            source: Source::Path(JsonPath::fields(&["metadata", "name"])),
        }
    }

    fn definition(&self) -> Value {
        let documented = self.documented.map(|(definition, field)| schemas::description(definition, field));
        let description = documented.unwrap_or(&self.description);
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": description,
            "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: jiff::Timestamp) -> Value {
        let path = match &self.source {
            Source::Path(path) => path,
            Source::Made(make) => return make(object, now),
        };
        let found = path.select(object);
        let Some(first) = found.first() else { return Value::Null };
        match self.kind.as_str() {
            "date" => match first.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
                Some(then) => age(now, then).into(),
                None => "<unknown>".into(),
            },
            "string" if found.len() > 1 => {
                let all: Vec<String> = found.iter().map(|v| plain(v)).collect();
                all.join(",").into()
            }
            "string" => plain(first).into(),
            _ => (*first).clone(),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What rows carry besides cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

/// A Table of these objects; `headers` says whether the column definitions are in it.
pub(crate) fn table(
    columns: &[Column],
    objects: &[Value],
    list_meta: Value,
    include: IncludeObject,
    headers: bool,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(columns, object, include)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": if headers { definitions(columns) } else { Value::Null },
        "rows": rows,
    })
}

/// One row.
pub(crate) fn row(columns: &[Column], object: &Value, include: IncludeObject) -> Value {
    let now = jiff::Timestamp::now();
    let cells: Vec<Value> = columns.iter().map(|column| column.cell(object, now)).collect();
    let shown = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial(object),
        IncludeObject::Object => object.clone(),
    };
    json!({"cells": cells, "object": shown})
}

/// The column definitions.
pub(crate) fn definitions(columns: &[Column]) -> Value {
    columns.iter().map(Column::definition).collect()
}

/// The object's metadata alone, as `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// The age of a time in RFC 3339, as tables show it.
pub(crate) fn since(now: jiff::Timestamp, then: &str) -> Option<String> {
    then.parse::<jiff::Timestamp>().ok().map(|then| age(now, then))
}

/// A duration as kubectl writes ages (`duration.HumanDuration`): 45s, 3m20s, 5h, 2d4h, 400d, 3y.
fn age(now: jiff::Timestamp, then: jiff::Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let pair = |big: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{sub}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_like_kubectl() {
        let now = jiff::Timestamp::from_second(2_000_000_000).unwrap();
        let ago = |s: i64| age(now, jiff::Timestamp::from_second(2_000_000_000 - s).unwrap());
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (100_000, "27h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
            (86_400 * 365 * 3, "3y"),
            (-10, "<invalid>"),
        ] {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn cells_follow_their_paths() {
        let columns = [
            Column::name(),
            Column::new("State", "string", ".status.state").unwrap(),
            Column::new("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#).unwrap(),
            Column::new("Count", "integer", ".spec.count").unwrap(),
        ];
        let object = json!({"metadata": {"name": "a"}, "spec": {"count": 3}, "status": {"state": "OK", "conditions": [
            {"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let table = table(&columns, &[object], json!({}), IncludeObject::None, true);
        assert_eq!(table["rows"][0]["cells"], json!(["a", "OK", "True", 3]));
        assert_eq!(table["columnDefinitions"][3]["name"], "Count");
    }
}
