// SPDX-License-Identifier: Apache-2.0

//! Label and field selectors: parsing and matching. Pure.
//!
//! Label grammar: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>.

mod labels;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::object;
use crate::status::ApiError;

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    /// Also matches objects without the label.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

/// One requirement on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

/// What the objects of a resource can be selected by, beyond their name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selectable<'a> {
    pub fields: &'a [String],
    /// They are no custom resources.
    pub builtin: bool,
    pub namespaced: bool,
}

/// Which objects of a collection are meant; all of its requirements hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

impl Selector {
    /// Parses both selectors.
    ///
    /// # Errors
    /// 400 for a selector that does not parse.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = labels::parse(labels).map_err(ApiError::bad_request)?;
        Ok(Self { labels, fields: parse_fields(fields)? })
    }

    /// Whether it names fields that can be selected on.
    ///
    /// # Errors
    /// 400 for another field.
    pub fn check(&self, selectable: &Selectable<'_>) -> Result<(), ApiError> {
        for requirement in &self.fields {
            let key = requirement.path.join(".");
            let known = match key.as_str() {
                "metadata.name" => true,
                "metadata.namespace" => selectable.builtin || selectable.namespaced,
                other => selectable.fields.iter().any(|field| field == other),
            };
            if !known {
                let plain = selectable.builtin && selectable.fields.is_empty();
                return Err(ApiError::bad_request(unknown_field(&key, plain)));
            }
        }
        Ok(())
    }

    /// Adds `metadata.name=name`: a watch on one object.
    pub fn with_name(mut self, name: &str) -> Self {
        let path = vec!["metadata".to_owned(), "name".to_owned()];
        self.fields.push(FieldRequirement { path, value: name.to_owned(), equal: true });
        self
    }

    /// True when every object matches, so that objects need not be decoded.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, where the selector fixes it.
    pub fn only_name(&self) -> Option<&str> {
        let name =
            |r: &&FieldRequirement| r.equal && r.path.iter().map(String::as_str).eq(["metadata", "name"]);
        self.fields.iter().find(name).map(|r| r.value.as_str())
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.matches(object))
            && self.fields.iter().all(|requirement| requirement.matches(object))
    }
}

impl Requirement {
    fn matches(&self, object: &Value) -> bool {
        let value = |key: &str| {
            let labels = object.get("metadata").and_then(|m| m.get("labels"));
            labels.and_then(|l| l.get(key)).and_then(Value::as_str)
        };
        match self {
            Self::In(key, values) => value(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => value(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::Greater(key, bound) => {
                value(key).and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *bound)
            }
            Self::Less(key, bound) => {
                value(key).and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *bound)
            }
        }
    }
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        // Of the source of an Event its component counts, or who reports it.
        let found = match path.as_slice() {
            ["source"] => object::at(object, &["source", "component"])
                .filter(|component| **component != "")
                .or_else(|| object.get("reportingComponent")),
            path => object::at(object, path),
        };
        let found = match found {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        (found == self.value) == self.equal
    }
}

/// A label key, finalizer or annotation key: optional DNS prefix, `/`, name of at most 63 characters.
pub(crate) fn check_qualified_name(key: &str) -> Result<(), String> {
    qualified_name_problems(key).into_iter().next().map_or(Ok(()), Err)
}

/// Everything that is wrong with such a key.
pub(crate) fn qualified_name_problems(key: &str) -> Vec<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "{} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                not_qualified("a qualified name")
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            problems.extend(check_dns_subdomain(prefix).err().map(|why| format!("prefix part {why}")));
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_label_text(name) {
        problems.push(not_qualified("name part"));
    }
    problems
}

fn not_qualified(what: &str) -> String {
    format!(
        "{what} must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    )
}

/// A label value: empty, or at most 63 characters of letters, digits, `-`, `_`, `.`.
pub(crate) fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if !value.is_empty() && !is_label_text(value) {
        return Err("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".into());
    }
    Ok(())
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ends(text.chars().next())
        && ends(text.chars().next_back())
}

/// RFC 1123 subdomain, the usual rule for names.
pub(crate) fn check_dns_subdomain(name: &str) -> Result<(), String> {
    if name.len() > 253 {
        return Err("must be no more than 253 characters".into());
    }
    if name.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into())
}

/// RFC 1123 label, the rule for namespaces.
pub(crate) fn check_dns_label(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if is_dns_label(name) {
        return Ok(());
    }
    if check_dns_subdomain(name).is_ok() {
        return Err("must not contain dots".into());
    }
    Err("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".into())
}

/// RFC 1035 label, the rule for names that become part of a CRD: it begins with a letter.
pub(crate) fn check_dns_label_1035(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".into())
}

fn is_dns_label(label: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && edge(label.chars().next())
        && edge(label.chars().next_back())
}

/// Kinds that can be selected by nothing but their name say so in other words than those that have fields of their own.
fn unknown_field(key: &str, plain: bool) -> String {
    match plain {
        true => {
            format!("{key:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        false => format!("field label not supported: {key}"),
    }
}

fn parse_fields(selector: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let mut requirements = Vec::new();
    let mut terms: Vec<&str> = selector.split(',').filter(|term| !term.is_empty()).collect();
    terms.sort_unstable();
    for term in terms {
        // The first operator counts, and what is left of it is the key.
        let at = term.find("!=").into_iter().chain(term.find('=')).min();
        let Some((key, rest)) = at.and_then(|at| term.split_at_checked(at)) else {
            let why = format!("invalid selector: '{selector}'; can't understand '{term}'");
            return Err(ApiError::bad_request(why));
        };
        let equal = !rest.starts_with('!');
        let operator = ["!=", "==", "="].into_iter().find_map(|operator| rest.strip_prefix(operator));
        let value = operator.unwrap_or_default();
        let path = key.split('.').map(str::to_owned).collect();
        requirements.push(FieldRequirement { path, value: value.to_owned(), equal });
    }
    Ok(requirements)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(labels: &str, object: &Value) -> bool {
        Selector::parse(labels, "").unwrap().matches(object)
    }

    #[test]
    fn label_selectors_in_full() {
        let object = json!({"metadata": {"name": "m1", "labels": {"env": "prod", "tier": "3", "tinkerbell.org/x": ""}}});
        for (selector, expected) in [
            ("", true),
            ("env=prod", true),
            ("env==prod", true),
            ("env = prod", true),
            ("env!=prod", false),
            ("other!=prod", true),
            ("env in (dev, prod)", true),
            ("env in (dev)", false),
            ("env notin (dev)", true),
            ("other notin (dev)", true),
            ("env", true),
            ("!env", false),
            ("! other", true),
            ("tinkerbell.org/x=", true),
            ("tinkerbell.org/x", true),
            ("tier>2", true),
            ("tier<3", false),
            ("env=prod,tier in (1,3),!gone", true),
            ("env=prod,gone", false),
            ("env in (a,)", false),
        ] {
            assert_eq!(selects(selector, &object), expected, "{selector:?}");
        }
    }

    #[test]
    fn broken_selectors_are_refused() {
        for selector in
            ["=a", "a=b=c", "a in b", "a in (b", "a,", "a b", "-a", "a=-b", "a>x", "a foo (b)", "a/b/c"]
        {
            let error = Selector::parse(selector, "").unwrap_err();
            assert_eq!(error.code().as_u16(), 400, "{selector:?}");
        }
    }

    #[test]
    fn field_selectors_know_their_fields() {
        let object = json!({"metadata": {"name": "m1"}, "type": "Warning", "involvedObject": {"name": "m1"}});
        let fields = ["involvedObject.name".to_owned(), "type".to_owned()];
        let selectable = Selectable { fields: &fields, builtin: false, namespaced: true };
        let selects = |fields: &str| {
            let selector = Selector::parse("", fields).unwrap();
            selector.check(&selectable).unwrap();
            selector.matches(&object)
        };
        assert!(selects("metadata.name=m1,involvedObject.name==m1,type!=Normal"));
        assert!(!selects("metadata.name=m2"));
        assert!(selects("metadata.namespace="));
        assert!(Selector::parse("", "spec.x=1").unwrap().check(&selectable).is_err());
        let of_the_cluster = Selectable { namespaced: false, ..selectable };
        assert!(Selector::parse("", "metadata.namespace=a").unwrap().check(&of_the_cluster).is_err());
        assert!(Selector::parse("", "nonsense").is_err());
    }
}
