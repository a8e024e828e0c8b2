// SPDX-License-Identifier: Apache-2.0
//! What may be written to a ComputerSystem: the boot override. Says every finding of a body at once.
//!
//! Called by `Service`. The names are those of the ComputerSystem schema (DSP0268).

use serde_json::{Map, Value};

use super::problem::{Message, Problem};
use crate::chassis::{BootMode, BootOverride, BootTarget};

/// Targets as the schema names them.
pub const TARGETS: [(&str, BootTarget); 5] = [
    ("None", BootTarget::None),
    ("Pxe", BootTarget::Pxe),
    ("Hdd", BootTarget::Hdd),
    ("Cd", BootTarget::Cd),
    ("BiosSetup", BootTarget::BiosSetup),
];
/// Durations as the schema names them.
pub const MODES: [(&str, BootMode); 3] =
    [("Disabled", BootMode::Disabled), ("Once", BootMode::Once), ("Continuous", BootMode::Continuous)];
/// Firmware interfaces as the schema names them, and whether they are UEFI.
pub const INTERFACES: [(&str, bool); 2] = [("UEFI", true), ("Legacy", false)];

/// The name of a value in one of the tables.
#[must_use]
pub fn name_of<T: PartialEq + Copy>(table: &[(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

/// The boot override after this body, starting from `current`.
///
/// # Errors
/// A [`Problem`] that names each property that is unknown, read-only or has a wrong value. `system` is the resource as it
/// stands: what it has is read-only, what it has not is unknown.
pub fn boot_override(body: &Value, current: BootOverride, system: &Value) -> Result<BootOverride, Problem> {
    let Some(properties) = body.as_object() else { return Err(Problem::malformed()) };
    let mut reader = Reader { findings: Vec::new() };
    let mut next = current;
    for (name, value) in properties {
        match (name.as_str(), value.as_object()) {
            ("Boot", Some(boot)) => reader.boot(boot, &mut next, system),
            ("Boot", None) => reader.findings.push(Message::wrong_type("Boot", value)),
            (other, _) => reader.refuse(other, system.get(other)),
        }
    }
    if !reader.findings.is_empty() {
        return Err(Problem::bad_properties(reader.findings));
    }
    Ok(next)
}

struct Reader {
    findings: Vec<Message>,
}

impl Reader {
    fn boot(&mut self, boot: &Map<String, Value>, next: &mut BootOverride, system: &Value) {
        for (name, value) in boot {
            let path = format!("Boot/{name}");
            match name.as_str() {
                "BootSourceOverrideTarget" => self.choose(&path, value, &TARGETS, &mut next.target),
                "BootSourceOverrideEnabled" => self.choose(&path, value, &MODES, &mut next.mode),
                "BootSourceOverrideMode" => self.choose(&path, value, &INTERFACES, &mut next.uefi),
                other => self.refuse(&path, system.get("Boot").and_then(|boot| boot.get(other))),
            }
        }
    }

    fn choose<T: Copy>(&mut self, path: &str, value: &Value, table: &[(&'static str, T)], to: &mut T) {
        let Some(text) = value.as_str() else {
            self.findings.push(Message::wrong_type(path, value));
            return;
        };
        match table.iter().find(|(name, _)| *name == text) {
            Some((_, chosen)) => *to = *chosen,
            None => self.findings.push(Message::not_in_list(path, text)),
        }
    }

    fn refuse(&mut self, path: &str, known: Option<&Value>) {
        self.findings.push(match known {
            Some(_) => Message::read_only(path),
            None => Message::unknown_property(path),
        });
    }
}
