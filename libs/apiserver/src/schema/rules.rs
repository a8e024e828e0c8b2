// SPDX-License-Identifier: Apache-2.0

//! CEL rules of a schema (`x-kubernetes-validations`).
//!
//! A rule is compiled when its CRD is registered and evaluated by validation with `self` and, for transition rules, `oldSelf`, after everything else about the
//! object is right. A rule that uses a function that is not here (`library`, `ordered` and `times` have most of Kubernetes' own) cannot be enforced: it is skipped with a warning,
//! so that such CRDs can be served. <https://kubernetes.io/docs/reference/using-api/cel/>
//!
//! No rule can hold the server up: before one is evaluated, the most steps that its loops can take over the value are counted, and the rules of one object
//! share a [`Budget`].

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::operators::{LOGICAL_AND as AND, LOGICAL_OR as OR};
use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::extensions::{lists, strings};
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use super::{child, library, ordered, times};
use crate::status::Cause;

/// Longest rule that is compiled; CRDs with longer ones are refused.
const MAX_RULE_BYTES: usize = 8 << 10;

/// Steps of all rules over one object: about a second of work.
const BUDGET: u64 = 20_000_000;

/// What the rules of one object may still cost.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Budget {
    pub fn new() -> Self {
        Self(BUDGET)
    }

    /// Takes the cost of one evaluation; false when there is not enough left.
    fn take(&mut self, cost: u64) -> bool {
        let left = self.0.checked_sub(cost);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    for extension in [strings, lists, library::extension, ordered::extension, times::extension] {
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
    message_text: String,
    message_program: Option<Arc<Program>>,
    reason: &'static str,
    field_path: String,
    /// Refers to `oldSelf`: holds for changes only.
    transition: bool,
    /// `oldSelf` is an optional value, and the rule holds for creations, too.
    optional_old: bool,
    loops: Loops,
}

/// What bounds the cost of a rule.
#[derive(Debug, Clone, Copy)]
struct Loops {
    /// How deep its loops are nested, one over another's result counted as nested.
    depth: u32,
    /// It makes lists out of strings or numbers.
    makes_lists: bool,
}

pub(super) fn parse(list: Option<&Value>, path: &str, problems: &mut Vec<Cause>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, value) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = child(path, &format!("x-kubernetes-validations[{index}]"));
        match parse_rule(value) {
            Ok(rule) => rules.push(rule),
            Err((field, why)) => {
                let shown = value.get(field).cloned().unwrap_or_default();
                problems.push(Cause::invalid(child(&at, field), &shown, why));
            }
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
    let references = program.references();
    let optional_old = value.get("optionalOldSelf") == Some(&Value::Bool(true));
    let transition = references.has_variable("oldSelf") && !optional_old;
    let makes_lists =
        ["split", "findAll", "lists.range", "range"].iter().any(|name| references.has_function(name));
    let loops = Loops { depth: depth(program.expression()), makes_lists };
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
        message_text: message_expression.to_owned(),
        message_program,
        reason,
        field_path: text("fieldPath").to_owned(),
        transition,
        optional_old,
        loops,
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

pub(super) fn check(
    rules: &[Rule],
    value: &Value,
    old: Option<&Value>,
    path: &str,
    budget: &mut Budget,
    causes: &mut Vec<Cause>,
) {
    // What did not change may stay as it is; of the change itself only transition rules speak.
    let unchanged = old == Some(value);
    let applies = |rule: &&Rule| if rule.transition { old.is_some() } else { !unchanged };
    if !rules.iter().any(|rule| applies(&rule)) {
        return;
    }
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", to_cel(value));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", to_cel(old));
    }
    for rule in rules.iter().filter(applies) {
        if !budget.take(rule.cost(value, old)) {
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            causes.push(Cause::invalid(path, &named(value), why));
            return;
        }
        let why = match rule.evaluate(&context, old) {
            Ok(cel::Value::Bool(true)) => continue,
            Ok(cel::Value::Bool(false)) => rule.message(&context),
            Ok(_) => format!("rule {:?} does not give a boolean", rule.text),
            Err(ExecutionError::UndeclaredReference(name)) => {
                tracing::warn!(rule = rule.text, %name, "CEL rule uses what this server does not have; it is not enforced");
                continue;
            }
            Err(error) => format!("{} evaluating rule: {}", told(&error), rule.told()),
        };
        causes.push(rule.cause(value, path, &why));
    }
}

/// An error in cel-go's words where they are known.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::IndexOutOfBounds(cel::Value::Int(index)) => format!("index out of bounds: {index}"),
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        other => other.to_string(),
    }
}

/// Evaluates a rule, whose error is the one that cel-go gives.
fn execute(program: &Program, context: &Context<'_, '_>) -> cel::objects::ResolveResult {
    let result = program.execute(context);
    result.map_err(|error| first_error(program.expression(), context).unwrap_or(error))
}

/// Of two operands of `&&` or `||` that fail, cel-go tells of the first, the interpreter here of the second.
fn first_error(expression: &IdedExpr, context: &Context<'_, '_>) -> Option<ExecutionError> {
    match &expression.expr {
        Expr::Call(call) if matches!(call.func_name.as_str(), AND | OR) => {
            call.args.iter().find_map(|operand| first_error(operand, context))
        }
        _ => context.resolve(expression).err(),
    }
}

/// `oldSelf` as an optional value, made by CEL itself.
static OPTIONAL_OLD: LazyLock<Option<(Program, Program)>> = LazyLock::new(|| {
    Some((ENVIRONMENT.compile("optional.of(oldSelf)").ok()?, ENVIRONMENT.compile("optional.none()").ok()?))
});

/// Deepest nesting of loops in an expression. A loop over what another loop made counts as nested in it.
fn depth(expression: &IdedExpr) -> u32 {
    let deepest = |list: &[IdedExpr]| list.iter().map(depth).max().unwrap_or(0);
    match &expression.expr {
        Expr::Call(call) => deepest(&call.args).max(call.target.as_deref().map_or(0, depth)),
        Expr::Comprehension(each) => {
            let body = depth(&each.loop_step).max(depth(&each.loop_cond)).max(depth(&each.accu_init));
            (depth(&each.iter_range) + 1 + body).max(depth(&each.result))
        }
        Expr::List(list) => deepest(&list.elements),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_depth(&entry.expr)).max().unwrap_or(0),
        Expr::Struct(made) => made.entries.iter().map(|entry| entry_depth(&entry.expr)).max().unwrap_or(0),
        Expr::Select(select) => depth(&select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
    }
}

fn entry_depth(entry: &EntryExpr) -> u32 {
    match entry {
        EntryExpr::StructField(field) => depth(&field.value),
        EntryExpr::MapEntry(entry) => depth(&entry.key).max(depth(&entry.value)),
    }
}

/// The longest list or map in a value; with `strings`, the longest string, too.
fn longest(value: &Value, strings: bool) -> u64 {
    match value {
        Value::String(text) if strings => text.len() as u64,
        Value::Array(list) => {
            list.iter().map(|item| longest(item, strings)).max().unwrap_or(0).max(list.len() as u64)
        }
        Value::Object(map) => {
            map.values().map(|item| longest(item, strings)).max().unwrap_or(0).max(map.len() as u64)
        }
        _ => 0,
    }
}

/// A value is told of by its type, as kube-apiserver does: the rule says what is wrong with it.
fn named(value: &Value) -> Value {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Null => "null",
    }
    .into()
}

impl Rule {
    /// The rule itself.
    pub fn condition(&self) -> (&str, &Program) {
        (&self.text, &self.program)
    }

    pub fn message_expression(&self) -> Option<(&str, &Program)> {
        Some((&self.message_text, self.message_program.as_deref()?))
    }

    pub fn field_path(&self) -> &str {
        &self.field_path
    }

    pub fn has_optional_old(&self) -> bool {
        self.optional_old
    }

    /// The most steps that evaluating the rule can take.
    fn cost(&self, value: &Value, old: Option<&Value>) -> u64 {
        if self.loops.depth == 0 {
            return 1;
        }
        let longest = |value| longest(value, self.loops.makes_lists);
        let longest = longest(value).max(old.map_or(0, longest)).max(1);
        longest.saturating_mul(2).saturating_pow(self.loops.depth)
    }

    fn evaluate(&self, context: &Context<'_, '_>, old: Option<&Value>) -> cel::objects::ResolveResult {
        let (true, Some((some, none))) = (self.optional_old, OPTIONAL_OLD.as_ref()) else {
            return execute(&self.program, context);
        };
        let old = if old.is_some() { some.execute(context)? } else { none.execute(context)? };
        let mut inner = context.new_inner_scope();
        inner.add_variable_from_value("oldSelf", old);
        execute(&self.program, &inner)
    }

    /// How an error names the rule.
    fn told(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }

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
        let shown = named(value);
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
