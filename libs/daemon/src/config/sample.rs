// SPDX-License-Identifier: Apache-2.0
//! The commented sample file and the `--help` text, both made from the tables.

use std::fmt::Write as _;

use super::{Kind, Setting, Table};

/// A configuration file with every setting of every table, commented out at its default: loading it changes nothing.
pub fn sample(tables: &[Table]) -> String {
    let mut text = String::from(
        "# One section per daemon. A flag wins over an environment variable, which wins over this file.\n\
         # What several daemons share can stand once in section `global`, under its full flag name.\n",
    );
    for table in tables {
        write_section(&mut text, table);
    }
    text
}

/// The flags of all tables, for `--help`.
pub fn help(tables: &[Table]) -> String {
    let mut text = String::from("      --config FILE\n          configuration file (YAML)\n");
    let mut seen = std::collections::BTreeSet::new();
    for setting in tables.iter().flat_map(Table::iter) {
        if !seen.insert(setting.flag) {
            continue;
        }
        let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        let value = if setting.kind == Kind::Bool { "[=BOOL]" } else { " VALUE" };
        let alias = setting.alias.map(|alias| format!(", --{alias}")).unwrap_or_default();
        write_line(
            &mut text,
            &format!("      --{}{alias}{value}\n          {}{default}", setting.flag, setting.help),
        );
    }
    text
}

fn write_section(text: &mut String, table: &Table) {
    write_line(text, &format!("\n{}:", table.daemon));
    for setting in table.iter() {
        write_line(text, &format!("  # {}", setting.help));
        if let Some(expected) = setting.kind.expected() {
            let env = setting.env_names().next().unwrap_or_default();
            write_line(text, &format!("  # ({expected}; --{}, {env})", setting.flag));
        }
        write_line(text, &format!("  #{}: {}", setting.key, default_value(setting)));
    }
}

fn default_value(setting: &Setting) -> String {
    match setting.default {
        None if setting.kind.is_list() => "[]".to_owned(),
        None => "\"\"".to_owned(),
        Some(default) if is_plain(default) => default.to_owned(),
        Some(default) => format!("{default:?}"),
    }
}

/// Whether YAML reads the text back as it is without quotes.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "./-_".contains(c))
}

fn write_line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}
