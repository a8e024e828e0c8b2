// SPDX-License-Identifier: Apache-2.0
//! Turns a parsed tree into one that knows where it is.
//!
//! The executor of `gotmpl` reports no source position, lets a field of nil be nil where Go fails ("nil pointer
//! evaluating", "nil data; no entry for key"), and cannot change a dictionary in place. All three are put right
//! here, before execution, by rewriting expressions into calls of support functions that carry their line:
//! * `.A.B`, `$x.A`, `(…).A` become `\0field <line> <text> <base> "A" "B"`;
//! * `name arg…` becomes `\0call <line> "name" arg…`; the language's own functions stay, with their arguments and
//!   result passed through `\0at <line> value`;
//! * `set $d …` becomes `($d = set $d …)`.
//!
//! What an action prints goes through `\0print`, which writes floats as Go's `%v` does (`1e+09`).
//!
//! Every support function also takes what it costs from the rendering's [`crate::work::Work`]. Two exist only for
//! that: each body begins with `\0step <line> <nodes>`, and the format of `printf` goes through `\0format`.
//!
//! Called by [`crate::Template::parse`] only. It never evaluates anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::parse::{
    ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr,
};
use gotmpl::{FuncMap, TemplateError, Value};

use crate::funcs::{self, Function};
use crate::{Error, Trace, data};

const FIELD: &str = "\u{0}field";
const CALL: &str = "\u{0}call";
const AT: &str = "\u{0}at";
const PRINT: &str = "\u{0}print";
const STEP: &str = "\u{0}step";
const FORMAT: &str = "\u{0}format";

/// The language's own functions, which the executor brings along.
const BUILTINS: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print",
    "printf", "println", "slice", "urlquery",
];

/// Functions that change their first argument in Go.
const MUTATING: &[&str] = &["set", "unset", "merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite"];

/// The support functions, bound to the place where they note their position.
pub(crate) fn support(trace: &Arc<Trace>) -> FuncMap {
    let table: Arc<BTreeMap<&'static str, Function>> = Arc::new(funcs::table());
    let mut map = FuncMap::new();
    let here = Arc::clone(trace);
    map.insert(FIELD.to_owned(), Arc::new(move |args: &[Value]| field(&here, args)));
    let here = Arc::clone(trace);
    map.insert(
        PRINT.to_owned(),
        Arc::new(move |args: &[Value]| {
            let value = args.first().unwrap_or(&Value::Nil);
            here.cost(|work| work.weigh(value))?;
            Ok(data::go_floats(value))
        }),
    );
    let here = Arc::clone(trace);
    map.insert(
        AT.to_owned(),
        Arc::new(move |args: &[Value]| at(&here, args, |value| here.work.weigh(value))),
    );
    let here = Arc::clone(trace);
    map.insert(
        FORMAT.to_owned(),
        Arc::new(move |args: &[Value]| at(&here, args, |format| here.work.format(format))),
    );
    let here = Arc::clone(trace);
    map.insert(STEP.to_owned(), Arc::new(move |args: &[Value]| step(&here, args)));
    let here = Arc::clone(trace);
    map.insert(
        CALL.to_owned(),
        Arc::new(move |args: &[Value]| {
            let [line, Value::String(name), rest @ ..] = args else {
                return Err(here.fail(internal(args)));
            };
            let line = line_of(line);
            here.at(line);
            let result = match table.get(name.as_ref()) {
                Some(function) => here.work.call(name, rest).and_then(|()| function.call(rest)),
                None => Err("not defined".to_owned()),
            };
            let result = result.and_then(|value| here.work.weigh(&value).map(|()| value));
            result.map_err(|message| {
                here.fail(Error::Exec { line, message: format!("error calling {name}: {message}") })
            })
        }),
    );
    map
}

fn internal(args: &[Value]) -> Error {
    Error::Exec {
        line: 1,
        message: format!("template engine: bad support call with {} arguments", args.len()),
    }
}

fn line_of(value: &Value) -> usize {
    value.as_int().and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
}

/// Notes the line and hands its argument through, at the price that `cost` takes.
fn at(
    trace: &Trace,
    args: &[Value],
    cost: impl FnOnce(&Value) -> Result<(), String>,
) -> Result<Value, TemplateError> {
    let [line, value] = args else {
        return Err(trace.fail(internal(args)));
    };
    trace.at(line_of(line));
    trace.cost(|_| cost(value))?;
    Ok(value.clone())
}

/// Pays for a body and prints nothing.
fn step(trace: &Trace, args: &[Value]) -> Result<Value, TemplateError> {
    let [line, nodes] = args else {
        return Err(trace.fail(internal(args)));
    };
    trace.at(line_of(line));
    let nodes = nodes.as_int().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    trace.cost(|work| work.body(nodes))?;
    Ok(data::string(""))
}

/// Walks a chain of members; the meaning of a missing one is Go's with `missingkey=error`.
fn field(trace: &Trace, args: &[Value]) -> Result<Value, TemplateError> {
    let [line, Value::String(text), base, names @ ..] = args else {
        return Err(trace.fail(internal(args)));
    };
    let line = line_of(line);
    trace.at(line);
    trace.cost(|work| work.members(names.len()))?;
    let mut value = base.clone();
    let mut path = text.to_string();
    for name in names {
        let name = name.as_str().unwrap_or_default();
        let next = match &value {
            Value::Map(map) => map.get(name).cloned().ok_or_else(|| {
                format!(
                    "{path}.{name} does not exist: there is no entry for key \"{name}\"{}",
                    near(map, name)
                )
            }),
            Value::Nil => Err(format!("{path}.{name} cannot be read: {} is nil", shown(&path))),
            other => Err(format!("can't evaluate field {name} of {}, a {}", shown(&path), other.type_name())),
        };
        path.push('.');
        path.push_str(name);
        value = next.map_err(|message| trace.fail(Error::Missing { line, path: path.clone(), message }))?;
    }
    Ok(value)
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "dot" } else { path }
}

/// A key that differs only in case is the most common slip: `.Hardware` and `.hardware` both exist.
fn near(map: &BTreeMap<Arc<str>, Value>, name: &str) -> String {
    map.keys()
        .find(|key| key.eq_ignore_ascii_case(name))
        .map(|key| format!(" (did you mean \"{key}\"?)"))
        .unwrap_or_default()
}

/// Rewrites a whole body.
pub(crate) fn tree(list: ListNode) -> Result<ListNode, Error> {
    let ListNode { pos, nodes } = list;
    let mut rewritten = Vec::with_capacity(nodes.len() + 1);
    if !nodes.is_empty() {
        let count = i64::try_from(nodes.len()).unwrap_or(i64::MAX);
        let args =
            vec![Expr::Identifier(pos, STEP.into()), number(pos), Expr::Number(pos, Number::Int(count))];
        rewritten.push(Node::Action(ActionNode { pos, pipe: single(pos, CommandNode { pos, args }) }));
    }
    for each in nodes {
        rewritten.push(node(each)?);
    }
    Ok(ListNode { pos, nodes: rewritten })
}

fn node(node: Node) -> Result<Node, Error> {
    Ok(match node {
        Node::List(list) => Node::List(tree(list)?),
        Node::Action(mut action) => {
            action.pipe = pipe(action.pipe)?;
            if action.pipe.decl.is_empty() {
                let pos = action.pos;
                let print = CommandNode { pos, args: vec![Expr::Identifier(pos, PRINT.into())] };
                action.pipe.commands.push(print);
            }
            Node::Action(action)
        }
        Node::If(b) => Node::If(branch(b)?),
        Node::Range(b) => Node::Range(branch(b)?),
        Node::With(b) => Node::With(branch(b)?),
        Node::Template(mut t) => {
            t.pipe = t.pipe.map(pipe).transpose()?;
            Node::Template(t)
        }
        Node::Define(mut d) => {
            d.body = tree(d.body)?;
            Node::Define(d)
        }
        other @ (Node::Text(_) | Node::Break(_) | Node::Continue(_)) => other,
    })
}

fn branch(b: BranchNode) -> Result<BranchNode, Error> {
    Ok(BranchNode {
        pos: b.pos,
        pipe: pipe(b.pipe)?,
        body: tree(b.body)?,
        else_body: b.else_body.map(tree).transpose()?,
    })
}

fn pipe(p: PipeNode) -> Result<PipeNode, Error> {
    for (index, command) in p.commands.iter().enumerate() {
        if let Some(first) = command.args.first()
            && !matches!(first, Expr::Identifier(..))
            && (index > 0 || command.args.len() > 1)
        {
            let message = "can't give an argument to something that is not a function".to_owned();
            return Err(Error::Parse { line: first.pos().line, message });
        }
    }
    let mut commands = Vec::with_capacity(p.commands.len());
    for each in p.commands {
        let builtin = builtin(&each);
        if let Some((at, "printf")) = builtin
            && each.args.len() == 1
            && !commands.is_empty()
        {
            commands.push(marker(FORMAT, at, None));
        }
        let after = builtin.map(|(at, _)| marker(AT, at, None));
        commands.push(command(each)?);
        commands.extend(after);
    }
    Ok(PipeNode { pos: p.pos, decl: p.decl, commands, is_assign: p.is_assign })
}

/// The function of the language itself that a command calls, and where.
fn builtin(command: &CommandNode) -> Option<(Pos, &'static str)> {
    match command.args.first() {
        Some(Expr::Identifier(at, name)) => {
            BUILTINS.iter().find(|known| **known == name.as_str()).map(|known| (*at, *known))
        }
        _ => None,
    }
}

/// `name <line> value`; without a value for what is piped into it.
fn marker(name: &str, at: Pos, value: Option<Expr>) -> CommandNode {
    let mut args = vec![Expr::Identifier(at, name.into()), number(at)];
    args.extend(value);
    CommandNode { pos: at, args }
}

fn command(c: CommandNode) -> Result<CommandNode, Error> {
    let CommandNode { pos, args } = c;
    let mut args = args.into_iter();
    let Some(first) = args.next() else {
        return Ok(CommandNode { pos, args: Vec::new() });
    };
    let rest: Vec<Expr> = args.collect();
    let callee = match &first {
        Expr::Identifier(p, name) => Some((*p, name.clone())),
        _ => None,
    };
    let Some((at, name)) = callee else {
        return Ok(CommandNode { pos, args: vec![expr(first)?] });
    };
    known(at, &name)?;
    let target = mutated(&name, &rest, at)?;
    let call = call(pos, at, name, rest)?;
    Ok(match target {
        None => call,
        Some(variable) => {
            let inner = PipeNode { pos, decl: vec![variable], commands: vec![call], is_assign: true };
            CommandNode { pos, args: vec![Expr::Pipe(pos, inner)] }
        }
    })
}

/// `name rest…` as a call that knows its line.
fn call(pos: Pos, at: Pos, name: SmolStr, rest: Vec<Expr>) -> Result<CommandNode, Error> {
    let rest = rest.into_iter().map(expr).collect::<Result<Vec<_>, _>>()?;
    let mut args = Vec::with_capacity(rest.len() + 3);
    if BUILTINS.contains(&name.as_str()) {
        let format = name == "printf";
        args.push(Expr::Identifier(at, name));
        for (index, arg) in rest.into_iter().enumerate() {
            let through = if format && index == 0 { FORMAT } else { AT };
            args.push(Expr::Pipe(at, single(at, marker(through, at, Some(arg)))));
        }
    } else {
        args.extend([Expr::Identifier(at, CALL.into()), number(at), Expr::String(at, name.as_str().into())]);
        args.extend(rest);
    }
    Ok(CommandNode { pos, args })
}

fn number(at: Pos) -> Expr {
    Expr::Number(at, Number::Int(i64::try_from(at.line).unwrap_or(i64::MAX)))
}

/// Refuses a function that nobody has, at parse time as Go does.
fn known(at: Pos, name: &str) -> Result<(), Error> {
    let message = if BUILTINS.contains(&name) || funcs::exists(name) {
        return Ok(());
    } else if funcs::UNSUPPORTED.contains(&name) {
        format!(
            "function \"{name}\" is not supported here: its result would differ at every rendering, or it makes key material"
        )
    } else {
        format!("function \"{name}\" not defined")
    };
    Err(Error::Parse { line: at.line, message })
}

/// The variable that a mutating call changes, if it is given one.
fn mutated(name: &str, args: &[Expr], at: Pos) -> Result<Option<SmolStr>, Error> {
    if !MUTATING.contains(&name) {
        return Ok(None);
    }
    match args.first() {
        Some(Expr::Variable(_, variable, fields)) if fields.is_empty() => Ok(Some(variable.clone())),
        Some(Expr::Dot(_) | Expr::Field(..) | Expr::Variable(..)) => Err(Error::Parse {
            line: at.line,
            message: format!(
                "{name} changes a variable: copy the dictionary first ($d := deepCopy …; {name} $d …)"
            ),
        }),
        _ => Ok(None),
    }
}

fn expr(e: Expr) -> Result<Expr, Error> {
    Ok(match e {
        Expr::Field(pos, names) => member(pos, "", Expr::Dot(pos), names),
        Expr::Variable(pos, name, names) if !names.is_empty() => {
            let base = Expr::Variable(pos, name.clone(), Vec::new());
            member(pos, &name, base, names)
        }
        Expr::Chain(pos, inner, names) => member(pos, "(…)", expr(*inner)?, names),
        Expr::Pipe(pos, inner) => Expr::Pipe(pos, pipe(inner)?),
        Expr::Identifier(pos, name) => {
            known(pos, &name)?;
            let command = call(pos, pos, name, Vec::new())?;
            Expr::Pipe(pos, single(pos, command))
        }
        other => other,
    })
}

fn member(pos: Pos, text: &str, base: Expr, names: Vec<SmolStr>) -> Expr {
    let mut args =
        vec![Expr::Identifier(pos, FIELD.into()), number(pos), Expr::String(pos, text.into()), base];
    args.extend(names.into_iter().map(|name| Expr::String(pos, name.as_str().into())));
    Expr::Pipe(pos, single(pos, CommandNode { pos, args }))
}

fn single(pos: Pos, command: CommandNode) -> PipeNode {
    PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false }
}
