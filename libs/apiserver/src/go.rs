// SPDX-License-Identifier: Apache-2.0

//! JSON values as Go prints them, for the messages in which Kubernetes shows what it was given. Pure.

use serde_json::Value;

/// As `%v`: maps as `map[a:1 b:2]`, lists as `[1 2]`, texts without quotes.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// As `%#v`: with its types.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", literal(value))).collect();
            format!("map[string]interface {{}}{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// The type that Go's decoder gives a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        let value = json!({"b": [1, "two", null], "a": {"x": 1.5}});
        assert_eq!(plain(&value), "map[a:map[x:1.5] b:[1 two <nil>]]");
        let typed = r#"map[string]interface {}{"a":map[string]interface {}{"x":1.5}, "b":[]interface {}{1, "two", interface {}(nil)}}"#;
        assert_eq!(literal(&value), typed);
        assert_eq!(["x", "y"].map(|text| type_name(&json!([text]))), ["[]interface {}"; 2]);
    }
}
