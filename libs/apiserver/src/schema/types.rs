// SPDX-License-Identifier: Apache-2.0

//! Whether the rules of a schema fit its types, in the words of cel-go. Pure; called when a definition is admitted.
//!
//! A type that is not certain is no mistake: what is told of here cannot be right, whatever the object. So variables of loops and most functions give any type.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::rules::Rule;
use super::{Schema, Type, child};
use crate::status::Cause;

/// What an expression gives.
#[derive(Debug, Clone, Copy)]
enum Given<'a> {
    /// Anything.
    Dyn,
    Bool,
    Int,
    Double,
    Text,
    List(&'a Schema),
    /// An object of which the fields are known, or a map; at the root of a resource there are fields that no schema has.
    Object {
        schema: &'a Schema,
        root: bool,
    },
}

/// What cannot be, and the text that it is about.
struct Fault {
    why: String,
    about: String,
}

/// Everything wrong with the rules of a schema that lies at `at`.
pub(super) fn check(schema: &Schema, at: &str, causes: &mut Vec<Cause>) {
    below(schema, true, at, causes);
}

fn below(schema: &Schema, root: bool, at: &str, causes: &mut Vec<Cause>) {
    for (index, rule) in schema.rules.iter().enumerate() {
        check_rule(rule, schema, root, &child(at, &format!("x-kubernetes-validations[{index}]")), causes);
    }
    for (name, field) in &schema.properties {
        below(field, field.embedded_resource, &child(at, &format!("properties[{name}]")), causes);
    }
    for (inner, name) in [(&schema.items, "items"), (&schema.additional, "additionalProperties")] {
        if let Some(inner) = inner {
            below(inner, inner.embedded_resource, &child(at, name), causes);
        }
    }
}

fn check_rule(rule: &Rule, schema: &Schema, root: bool, at: &str, causes: &mut Vec<Cause>) {
    let scope = Scope { own: Given::of(schema, root), optional_old: rule.has_optional_old() };
    let (text, program) = rule.condition();
    match scope.infer(program.expression()) {
        Err(fault) => {
            causes.push(Cause::invalid(child(at, "rule"), &text.into(), fault.told(text)));
        }
        Ok(Given::Dyn | Given::Bool) => {}
        Ok(_) => {
            let why = "cel expression must evaluate to a bool";
            causes.push(Cause::invalid(child(at, "rule"), &text.into(), why));
        }
    }
    if let Some((text, program)) = rule.message_expression() {
        let at = child(at, "messageExpression");
        match scope.infer(program.expression()) {
            Err(fault) => causes.push(Cause::invalid(at, &text.into(), fault.told(text))),
            Ok(Given::Dyn | Given::Text) => {}
            Ok(_) => {
                causes.push(Cause::invalid(at, &text.into(), "messageExpression must evaluate to a string"));
            }
        }
    }
    let path = rule.field_path();
    if !path.is_empty() && !leads_somewhere(schema, path) {
        let why = "must be a valid path: does not refer to a valid field";
        causes.push(Cause::invalid(child(at, "fieldPath"), &path.into(), why));
    }
}

/// False for a path of plain names of which one is not there.
fn leads_somewhere(schema: &Schema, path: &str) -> bool {
    if path.contains('[') {
        return true;
    }
    let mut here = schema;
    for step in path.trim_start_matches('.').split('.') {
        match here.field(step) {
            Some(field) => here = field,
            None => return here.preserve_unknown,
        }
    }
    true
}

impl Fault {
    fn new(why: String, about: impl Into<String>) -> Self {
        Self { why, about: about.into() }
    }

    /// The fault as cel-go shows it in the text of a rule.
    fn told(&self, text: &str) -> String {
        let at = text.find(&self.about).unwrap_or(0);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = text.split('\n').nth(line).unwrap_or_default();
        format!(
            "compilation failed: ERROR: <input>:{}:{}: {}\n | {shown}\n | {}^",
            line + 1,
            column + 1,
            self.why,
            ".".repeat(column)
        )
    }
}

impl<'a> Given<'a> {
    fn of(schema: &'a Schema, root: bool) -> Self {
        match schema.kind {
            _ if schema.int_or_string => Self::Dyn,
            Type::Any => Self::Dyn,
            Type::Boolean => Self::Bool,
            Type::Integer => Self::Int,
            Type::Number => Self::Double,
            // Times and bytes have types of their own.
            Type::String if schema.format.is_some() => Self::Dyn,
            Type::String => Self::Text,
            Type::Array => schema.items.as_deref().map_or(Self::Dyn, Self::List),
            Type::Object => Self::Object { schema, root },
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Bool => Some("bool"),
            Self::Int => Some("int"),
            Self::Double => Some("double"),
            Self::Text => Some("string"),
            Self::Dyn | Self::List(_) | Self::Object { .. } => None,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }
}

/// What the variables of a rule are.
struct Scope<'a> {
    own: Given<'a>,
    optional_old: bool,
}

impl<'a> Scope<'a> {
    fn infer(&self, expression: &IdedExpr) -> Result<Given<'a>, Fault> {
        Ok(match &expression.expr {
            Expr::Ident(name) if name == "self" => self.own,
            Expr::Ident(name) if name == "oldSelf" && !self.optional_old => self.own,
            Expr::Literal(LiteralValue::Boolean(_)) => Given::Bool,
            Expr::Literal(LiteralValue::Int(_)) => Given::Int,
            Expr::Literal(LiteralValue::Double(_)) => Given::Double,
            Expr::Literal(LiteralValue::String(_)) => Given::Text,
            Expr::Select(select) => self.select(select)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Comprehension(each) => {
                self.infer(&each.iter_range)?;
                for inner in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.infer(inner)?;
                }
                Given::Dyn
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.infer(element).map(drop))?;
                Given::Dyn
            }
            _ => Given::Dyn,
        })
    }

    fn select(&self, select: &SelectExpr) -> Result<Given<'a>, Fault> {
        let field = select.field.as_str();
        let found = match self.infer(&select.operand)? {
            Given::Object { schema, root } => match schema.field(field) {
                Some(below) => Given::of(below, below.embedded_resource),
                None if root && field == "metadata" => Given::Dyn,
                None if root && ["apiVersion", "kind"].contains(&field) => Given::Text,
                // An escaped name, or one that no schema has to know.
                None if schema.preserve_unknown || field.contains("__") => Given::Dyn,
                None => return Err(Fault::new(format!("undefined field '{field}'"), format!(".{field}"))),
            },
            _ => Given::Dyn,
        };
        Ok(if select.test { Given::Bool } else { found })
    }

    fn call(&self, call: &CallExpr) -> Result<Given<'a>, Fault> {
        let target = call.target.as_deref().map(|target| self.infer(target)).transpose()?;
        let arguments =
            call.args.iter().map(|argument| self.infer(argument)).collect::<Result<Vec<_>, _>>()?;
        let name = call.func_name.as_str();
        Ok(match (name, arguments.as_slice()) {
            (
                operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                [one, other],
            ) => {
                comparable(name, *one, *other)?;
                Given::Bool
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [one, other]) => {
                logical(name, *one, *other)?;
                Given::Bool
            }
            (operators::LOGICAL_NOT | operators::IN, _) => Given::Bool,
            (operators::CONDITIONAL, [_, one, other]) if one.name() == other.name() => *one,
            (operators::ADD, [one, other]) if one.name() == other.name() => *one,
            (operators::INDEX, [Given::List(items), _]) => Given::of(items, items.embedded_resource),
            (operators::INDEX, [Given::Object { schema, .. }, _]) => {
                schema.additional.as_deref().map_or(Given::Dyn, |values| Given::of(values, false))
            }
            ("size", _) => Given::Int,
            ("matches" | "startsWith" | "endsWith", _) if target.is_some() => Given::Bool,
            _ => Given::Dyn,
        })
    }
}

fn no_overload(operator: &str, one: &str, other: &str) -> Fault {
    let why = format!("found no matching overload for '{operator}' applied to '({one}, {other})'");
    Fault::new(why, operator.trim_matches('_'))
}

/// Numbers compare with numbers, and anything else with its own kind.
fn comparable(operator: &str, one: Given<'_>, other: Given<'_>) -> Result<(), Fault> {
    match (one.name(), other.name()) {
        (Some(first), Some(second)) if first != second && !(one.is_number() && other.is_number()) => {
            Err(no_overload(operator, first, second))
        }
        _ => Ok(()),
    }
}

fn logical(operator: &str, one: Given<'_>, other: Given<'_>) -> Result<(), Fault> {
    match (one.name(), other.name()) {
        (Some(first), Some(second)) if (first, second) != ("bool", "bool") => {
            Err(no_overload(operator, first, second))
        }
        _ => Ok(()),
    }
}
