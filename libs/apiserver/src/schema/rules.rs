// SPDX-License-Identifier: Apache-2.0

//! CEL rules of a schema (`x-kubernetes-validations`).
//!
//! A rule is compiled when its CRD is registered and evaluated by validation with `self` and, for transition rules, `oldSelf`, after everything else about the
//! object is right. Functions of Kubernetes' own CEL library that are not here (`isURL`, `quantity`, ...) make a rule unenforceable: it is skipped with a warning,
//! so that such CRDs can be served. <https://kubernetes.io/docs/reference/using-api/cel/>

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::extensions::{lists, strings};
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use super::child;
use crate::status::Cause;

/// Longest rule that is compiled; CRDs with longer ones are refused.
const MAX_RULE_BYTES: usize = 8 << 10;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    for extension in [strings, lists] {
        if let Err(error) = environment.add_extension(extension) {
            tracing::error!(%error, "CEL extension cannot be registered");
        }
    }
    Arc::new(environment)
});

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    text: String,
    program: Arc<Program>,
    message: String,
    message_program: Option<Arc<Program>>,
    reason: &'static str,
    field_path: String,
    /// Refers to `oldSelf`: holds for changes only.
    transition: bool,
}

pub(super) fn parse(list: Option<&Value>, path: &str, problems: &mut Vec<(String, String)>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, value) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = child(path, &format!("x-kubernetes-validations[{index}]"));
        match parse_rule(value) {
            Ok(rule) => rules.push(rule),
            Err((field, why)) => problems.push((child(&at, field), why)),
        }
    }
    rules
}

fn parse_rule(value: &Value) -> Result<Rule, (&'static str, String)> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let program = compile(text("rule")).map_err(|why| ("rule", why))?;
    let message_expression = text("messageExpression");
    let message_program = match message_expression {
        "" => None,
        expression => Some(compile(expression).map_err(|why| ("messageExpression", why))?),
    };
    let transition = program.references().has_variable("oldSelf");
    let reason = match text("reason") {
        "FieldValueForbidden" => "FieldValueForbidden",
        "FieldValueRequired" => "FieldValueRequired",
        "FieldValueDuplicate" => "FieldValueDuplicate",
        _ => "FieldValueInvalid",
    };
    Ok(Rule {
        text: text("rule").trim().to_owned(),
        program,
        message: text("message").to_owned(),
        message_program,
        reason,
        field_path: text("fieldPath").to_owned(),
        transition,
    })
}

fn compile(expression: &str) -> Result<Arc<Program>, String> {
    if expression.trim().is_empty() {
        return Err("Required value".into());
    }
    if expression.len() > MAX_RULE_BYTES {
        return Err(format!("Too long: may not be more than {MAX_RULE_BYTES} bytes"));
    }
    // The generated parser is not ours: what it cannot stand must not end the server.
    let compiled = std::panic::catch_unwind(|| ENVIRONMENT.compile(expression));
    match compiled {
        Ok(Ok(program)) => Ok(Arc::new(program)),
        Ok(Err(error)) => Err(format!("compilation failed: {error}")),
        Err(_) => Err("compilation failed".into()),
    }
}

pub(super) fn check(rules: &[Rule], value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if rules.iter().all(|rule| rule.transition && old.is_none()) {
        return;
    }
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", to_cel(value));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", to_cel(old));
    }
    for rule in rules.iter().filter(|rule| old.is_some() || !rule.transition) {
        let why = match rule.program.execute(&context) {
            Ok(cel::Value::Bool(true)) => continue,
            Ok(cel::Value::Bool(false)) => rule.message(&context),
            Ok(_) => format!("rule {:?} does not give a boolean", rule.text),
            Err(ExecutionError::UndeclaredReference(name)) => {
                tracing::warn!(rule = rule.text, %name, "CEL rule uses what this server does not have; it is not enforced");
                continue;
            }
            Err(error) => format!("{error} evaluating rule: {}", rule.text),
        };
        causes.push(rule.cause(value, path, &why));
    }
}

impl Rule {
    fn message(&self, context: &Context<'_, '_>) -> String {
        let computed = self.message_program.as_ref().and_then(|program| match program.execute(context) {
            Ok(cel::Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        });
        match (computed, self.message.as_str()) {
            (Some(computed), _) => computed,
            (None, "") => format!("failed rule: {}", self.text),
            (None, message) => message.to_owned(),
        }
    }

    fn cause(&self, value: &Value, path: &str, why: &str) -> Cause {
        let field = match self.field_path.trim_start_matches('.') {
            "" => path.to_owned(),
            below => child(path, below),
        };
        // Structures are named by their type, as kube-apiserver does.
        let shown = match value {
            Value::Object(_) => Value::from("object"),
            Value::Array(_) => Value::from("array"),
            plain => plain.clone(),
        };
        let message = match self.reason {
            "FieldValueForbidden" => format!("Forbidden: {why}"),
            "FieldValueRequired" => format!("Required value: {why}"),
            "FieldValueDuplicate" => format!("Duplicate value: {shown}"),
            _ => format!("Invalid value: {shown}: {why}"),
        };
        Cause { reason: self.reason, field, message }
    }
}

/// JSON to CEL; whole numbers are `int`, as Kubernetes maps them.
fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => cel::Value::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => cel::Value::Int(whole),
            None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(list) => cel::Value::List(Arc::new(list.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let entries: HashMap<Key, cel::Value> =
                map.iter().map(|(key, value)| (Key::String(Arc::new(key.clone())), to_cel(value))).collect();
            cel::Value::Map(cel::objects::Map { map: Arc::new(entries) })
        }
    }
}
