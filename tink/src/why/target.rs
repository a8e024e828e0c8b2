// SPDX-License-Identifier: Apache-2.0

//! Which machine is meant: a Hardware name, a MAC, an IP address, or the name of a BMC Machine.

use std::net::IpAddr;

use api::{Mac, bmc::v1alpha1::Machine, v1alpha1::Hardware};
use kube::ResourceExt;

use super::Snapshot;

/// What a word on the command line stands for.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Hardware(&'a Hardware),
    /// A BMC Machine that no Hardware refers to.
    Bmc(&'a Machine),
    Several(Vec<String>),
    Unknown {
        near: Vec<String>,
    },
}

pub(super) fn find<'a>(snapshot: &'a Snapshot, word: &str) -> Target<'a> {
    let mut found: Vec<&Hardware> = snapshot.hardware.iter().filter(|h| h.name_any() == word).collect();
    if found.is_empty()
        && let Ok(mac) = word.parse::<Mac>()
    {
        found = snapshot.hardware.iter().filter(|h| h.interface_by_mac(mac).is_some()).collect();
    }
    if found.is_empty()
        && let Ok(ip) = word.parse::<IpAddr>()
    {
        found = snapshot.hardware.iter().filter(|h| h.interface_by_ip(ip).is_some()).collect();
    }
    if found.is_empty() {
        match of_bmc(snapshot, word) {
            (hardware, _) if !hardware.is_empty() => found = hardware,
            (_, Some(machine)) => return Target::Bmc(machine),
            _ => {}
        }
    }
    match found.as_slice() {
        [] => Target::Unknown { near: near_names(snapshot, word) },
        [one] => Target::Hardware(one),
        several => Target::Several(several.iter().map(|hardware| full_name(*hardware)).collect()),
    }
}

/// Hardware behind the BMC Machine of that name or address, and that Machine.
fn of_bmc<'a>(snapshot: &'a Snapshot, word: &str) -> (Vec<&'a Hardware>, Option<&'a Machine>) {
    let named = |machine: &&Machine| machine.name_any() == word || machine.spec.connection.host == word;
    let machines: Vec<_> = snapshot.machines.iter().filter(named).collect();
    let behind = |hardware: &&Hardware| {
        let refers = |machine: &&Machine| {
            hardware.bmc_name() == Some(&machine.name_any()) && hardware.namespace() == machine.namespace()
        };
        machines.iter().any(refers)
    };
    (snapshot.hardware.iter().filter(behind).collect(), machines.first().copied())
}

fn near_names(snapshot: &Snapshot, word: &str) -> Vec<String> {
    let names: Vec<String> = snapshot
        .hardware
        .iter()
        .flat_map(|hardware| {
            std::iter::once(hardware.name_any()).chain(hardware.macs().map(|mac| mac.to_string()))
        })
        .chain(snapshot.machines.iter().map(ResourceExt::name_any))
        .collect();
    let word = word.parse::<Mac>().map_or_else(|_| word.to_owned(), |mac| mac.to_string());
    manifest::near(&word, names.iter().map(String::as_str)).into_iter().take(5).map(str::to_owned).collect()
}

fn full_name(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
