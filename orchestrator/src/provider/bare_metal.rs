// SPDX-License-Identifier: Apache-2.0

//! Servers of `hardware.csv`, chosen by the selectors of a machine configuration; [`Rack`] drives them through the API.

mod rack;

use std::collections::BTreeMap;

use api::anywhere::v1alpha1::TinkerbellMachineConfigSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

pub use rack::Rack;

use crate::{inventory::Server, plan::Candidate};

/// The servers that a configuration fits, with the sum of the weights of what it prefers.
pub fn candidates<'a>(
    config: &TinkerbellMachineConfigSpec,
    servers: impl Iterator<Item = &'a Server>,
) -> Vec<Candidate> {
    let required: Vec<_> = match &config.hardware_affinity {
        Some(affinity) => {
            affinity.required.iter().filter_map(|term| selector(&term.label_selector).ok()).collect()
        }
        None if config.hardware_selector.is_empty() => Vec::new(),
        None => vec![Selector::from_iter(config.hardware_selector.clone())],
    };
    let preferred: Vec<_> = config
        .hardware_affinity
        .iter()
        .flat_map(|affinity| &affinity.preferred)
        .filter_map(|one| Some((one.weight, selector(&one.hardware_affinity_term.label_selector).ok()?)))
        .collect();
    let fits = |server: &&Server| {
        config.arch.is_none_or(|arch| arch == server.arch)
            && config.boot_mode.is_none_or(|mode| mode == server.boot_mode)
            && required.iter().any(|selector| selector.matches(&server.labels))
    };
    let score = |labels: &BTreeMap<String, String>| {
        preferred.iter().filter(|(_, selector)| selector.matches(labels)).map(|(weight, _)| weight).sum()
    };
    servers
        .filter(fits)
        .map(|server| Candidate { machine: server.hostname.clone(), score: score(&server.labels) })
        .collect()
}

/// A selector that can be applied.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn selector(wire: &LabelSelector) -> Result<Selector, String> {
    let lists = wire.match_expressions.iter().flatten();
    for one in lists {
        let values = one.values.as_ref().is_some_and(|values| !values.is_empty());
        match one.operator.as_str() {
            "In" | "NotIn" if !values => {
                return Err(format!("{} of {:?} has no values", one.operator, one.key));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values => {
                return Err(format!("{} of {:?} has values", one.operator, one.key));
            }
            "Exists" | "DoesNotExist" => {}
            other => return Err(format!("{other:?} is no operator")),
        }
    }
    Selector::try_from(wire.clone()).map_err(|error| error.to_string())
}

/// What a configuration asks for, for people: `type=worker`.
#[must_use]
pub fn describe(config: &TinkerbellMachineConfigSpec) -> String {
    let mut parts: Vec<_> = match &config.hardware_affinity {
        Some(affinity) => {
            let terms = affinity.required.iter().filter_map(|term| selector(&term.label_selector).ok());
            vec![terms.map(|term| term.to_string()).collect::<Vec<_>>().join(" or ")]
        }
        None => config.hardware_selector.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    };
    parts.extend(config.arch.map(|arch| arch.as_str().to_owned()));
    parts.extend(config.boot_mode.map(|mode| mode.as_str().to_owned()));
    parts.join(" with ")
}
