// SPDX-License-Identifier: Apache-2.0
//! The functions that workflow templates may call: the deterministic part of sprig 3.3's hermetic text set, and
//! Tinkerbell's own four (`formatPartition`, `netmaskToPrefixLength` with its older name `netmaskToCIDR`,
//! `toYaml`, `fromYaml`). The language's own functions (`printf`, `index`, `eq`, …) are the executor's.
//!
//! One row per function: name, least and most arguments, body. Bodies are pure. As in sprig, a function without
//! `must` in front swallows a failed conversion where Go's does (`atoi "x"` is 0).

mod args;
mod encode;
mod kinds;
mod lists;
mod machine;
mod maps;
mod numbers;
mod paths;
mod text;

use std::collections::BTreeMap;

use gotmpl::Value;

/// What a function body gives back: the value, or why not in a few words.
pub(crate) type Outcome = Result<Value, String>;

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    least: usize,
    most: usize,
    body: fn(&[Value]) -> Outcome,
}

impl Function {
    /// Checks the number of arguments, then runs the body.
    pub(crate) fn call(&self, args: &[Value]) -> Outcome {
        if args.len() < self.least || args.len() > self.most {
            let want = match (self.least, self.most) {
                (least, most) if least == most => least.to_string(),
                (least, usize::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("wrong number of arguments: want {want}, got {}", args.len()));
        }
        (self.body)(args)
    }
}

/// A row of a table: name, least and most arguments, body.
type Row = (&'static str, usize, usize, fn(&[Value]) -> Outcome);

/// No upper bound on the number of arguments.
const MANY: usize = usize::MAX;

const TABLES: &[&[Row]] = &[
    encode::ROWS,
    kinds::ROWS,
    lists::ROWS,
    machine::ROWS,
    maps::ROWS,
    numbers::ROWS,
    paths::ROWS,
    text::ROWS,
];

/// Functions of the hermetic set that are refused at parse time, with the reason in the error: they are not
/// deterministic, depend on the clock, or make keys and passwords.
pub const UNSUPPORTED: &[&str] = &[
    "ago",
    "bcrypt",
    "buildCustomCert",
    "decryptAES",
    "derivePassword",
    "durationRound",
    "encryptAES",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "htpasswd",
    "mustDateModify",
    "mustToDate",
    "must_date_modify",
    "randInt",
    "semver",
    "semverCompare",
    "shuffle",
    "toDate",
    "unixEpoch",
];

/// Every function by name.
pub(crate) fn table() -> BTreeMap<&'static str, Function> {
    TABLES
        .iter()
        .flat_map(|rows| rows.iter())
        .map(|&(name, least, most, body)| (name, Function { least, most, body }))
        .collect()
}

/// Whether the table has `name`.
pub(crate) fn exists(name: &str) -> bool {
    TABLES.iter().flat_map(|rows| rows.iter()).any(|row| row.0 == name)
}
