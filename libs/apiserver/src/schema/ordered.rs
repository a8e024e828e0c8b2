// SPDX-License-Identifier: Apache-2.0

//! More of the functions that Kubernetes adds to CEL: lists in order, and named formats. Registered once by `rules`.
//!
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-list-library> and `#kubernetes-format-library`. A format is represented by its name.

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelInt, CelList, CelOptional, CelString, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::format;
use crate::selector::{
    check_dns_label, check_dns_label_1035, check_dns_subdomain, check_label_value, qualified_name_problems,
};

type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Adds all of them.
pub(super) fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("isSorted", "list.isSorted()", LIST_TYPE, Vec::new(), is_sorted)?;
    env.add_member_overload("sum", "list.sum()", LIST_TYPE, Vec::new(), sum)?;
    env.add_member_overload("min", "list.min()", LIST_TYPE, Vec::new(), min)?;
    env.add_member_overload("max", "list.max()", LIST_TYPE, Vec::new(), max)?;
    env.add_member_overload("indexOf", "list.indexOf(dyn)", LIST_TYPE, vec![DYN_TYPE], index_of)?;
    env.add_member_overload(
        "lastIndexOf",
        "list.lastIndexOf(dyn)",
        LIST_TYPE,
        vec![DYN_TYPE],
        last_index_of,
    )?;
    formats(env)
}

/// The formats by name.
const FORMATS: [&str; 10] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

fn formats(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn dns_label: () -> CelString, name = "format.dns1123Label")?;
    cel::add_overload!(env, fn dns_subdomain: () -> CelString, name = "format.dns1123Subdomain")?;
    cel::add_overload!(env, fn dns_label_1035: () -> CelString, name = "format.dns1035Label")?;
    cel::add_overload!(env, fn qualified_name: () -> CelString, name = "format.qualifiedName")?;
    cel::add_overload!(env, fn label_value: () -> CelString, name = "format.labelValue")?;
    cel::add_overload!(env, fn uri: () -> CelString, name = "format.uri")?;
    cel::add_overload!(env, fn uuid: () -> CelString, name = "format.uuid")?;
    cel::add_overload!(env, fn byte: () -> CelString, name = "format.byte")?;
    cel::add_overload!(env, fn date: () -> CelString, name = "format.date")?;
    cel::add_overload!(env, fn datetime: () -> CelString, name = "format.datetime")?;
    cel::add_overload!(env, fn named: (CelString) -> CelOptional, name = "format.named")?;
    cel::add_member_overload!(env, fn validate: (CelString, CelString) -> Result<CelOptional>)?;
    Ok(())
}

fn dns_label() -> CelString<'static> {
    "dns1123Label".into()
}

fn dns_subdomain() -> CelString<'static> {
    "dns1123Subdomain".into()
}

fn dns_label_1035() -> CelString<'static> {
    "dns1035Label".into()
}

fn qualified_name() -> CelString<'static> {
    "qualifiedName".into()
}

fn label_value() -> CelString<'static> {
    "labelValue".into()
}

fn uri() -> CelString<'static> {
    "uri".into()
}

fn uuid() -> CelString<'static> {
    "uuid".into()
}

fn byte() -> CelString<'static> {
    "byte".into()
}

fn date() -> CelString<'static> {
    "date".into()
}

fn datetime() -> CelString<'static> {
    "datetime".into()
}

fn named(name: &CelString<'_>) -> CelOptional<'static> {
    let found = FORMATS.iter().find(|known| **known == &**name);
    found.map_or_else(CelOptional::none, |found| CelOptional::of(Box::new(CelString::from(*found))))
}

/// What is wrong with a text of a format, if anything is.
fn validate(name: &CelString<'_>, text: &CelString<'_>) -> Result<CelOptional<'static>, ExecutionError> {
    let problems: Vec<String> = match &**name {
        "dns1123Label" => check_dns_label(text).err().into_iter().collect(),
        "dns1123Subdomain" => check_dns_subdomain(text).err().into_iter().collect(),
        "dns1035Label" => check_dns_label_1035(text).err().into_iter().collect(),
        "qualifiedName" => qualified_name_problems(text),
        "labelValue" => check_label_value(text).err().into_iter().collect(),
        known if FORMATS.contains(&known) => match format::is_valid(known, text) {
            true => Vec::new(),
            false => vec![format!("must be a valid {known}")],
        },
        _ => return Err(ExecutionError::function_error("validate", "no such format")),
    };
    if problems.is_empty() {
        return Ok(CelOptional::none());
    }
    let problems = problems.into_iter().map(|problem| Box::new(CelString::from(problem)) as Box<dyn Val>);
    Ok(CelOptional::of(Box::new(CelList::from(problems.collect::<Vec<_>>()))))
}

/// The items of the list that a function is called on.
fn items<'a, 'v>(list: &'a (dyn Val + 'v)) -> Result<Vec<&'a (dyn Val + 'v)>, ExecutionError> {
    let list = list.as_iterable().ok_or_else(|| ExecutionError::function_error("list", "is no list"))?;
    let (mut items, mut rest) = (Vec::new(), list.iter());
    while let Some(item) = rest.next() {
        items.push(item);
    }
    Ok(items)
}

fn receiver<'a, 'b, 'v>(args: &'a [CowVal<'b, 'v>]) -> Result<&'a (dyn Val + 'v), ExecutionError> {
    let first = args.first().ok_or_else(|| ExecutionError::invalid_argument_count(1, 0))?;
    Ok(first.as_ref())
}

fn compared(one: &dyn Val, other: &dyn Val) -> Result<Ordering, ExecutionError> {
    let comparer = one.as_comparer();
    comparer.ok_or_else(|| ExecutionError::function_error("list", "items have no order"))?.compare(other)
}

fn is_sorted<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let items = items(receiver(&args)?)?;
    let mut sorted = true;
    for (one, next) in items.iter().zip(items.iter().skip(1)) {
        sorted &= compared(*one, *next)? != Ordering::Greater;
    }
    Ok(CowVal::owned(CelBool::from(sorted)))
}

fn sum<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let items = items(receiver(&args)?)?;
    let mut sum: Option<Box<dyn Val + 'v>> = None;
    for item in items {
        sum = Some(match sum {
            None => item.clone_as_boxed(),
            Some(sum) => {
                let adder = sum.as_adder();
                let adder =
                    adder.ok_or_else(|| ExecutionError::function_error("sum", "items cannot be added"))?;
                adder.add(item)?.into_owned()
            }
        });
    }
    Ok(sum.map_or_else(|| CowVal::owned(CelInt::from(0)), CowVal::Owned))
}

fn extreme<'b, 'v>(args: &[CowVal<'b, 'v>], wanted: Ordering, name: &str) -> Answer<'b, 'v> {
    let mut found: Option<&dyn Val> = None;
    for item in items(receiver(args)?)? {
        let better = match found {
            None => true,
            Some(found) => compared(item, found)? == wanted,
        };
        if better {
            found = Some(item);
        }
    }
    let found = found.ok_or_else(|| ExecutionError::function_error(name, "called on empty list"))?;
    Ok(CowVal::Owned(found.clone_as_boxed()))
}

fn min<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    extreme(&args, Ordering::Less, "min")
}

fn max<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    extreme(&args, Ordering::Greater, "max")
}

/// The place of an item, or -1.
fn place<'b, 'v>(args: &[CowVal<'b, 'v>], last: bool) -> Answer<'b, 'v> {
    let [_, wanted] = args else { return Err(ExecutionError::invalid_argument_count(2, args.len())) };
    let items = items(receiver(args)?)?;
    let is_wanted = |item: &&dyn Val| item.equals(wanted.as_ref());
    let found = match last {
        true => items.iter().rposition(|item| is_wanted(&(*item as &dyn Val))),
        false => items.iter().position(|item| is_wanted(&(*item as &dyn Val))),
    };
    let found = found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
    Ok(CowVal::owned(CelInt::from(found)))
}

fn index_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    place(&args, false)
}

fn last_index_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    place(&args, true)
}
