// SPDX-License-Identifier: Apache-2.0

//! The Machine kind: one BMC, and whether it can be talked to.
//!
//! Owns only the wire form; rufio writes the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Connection;

/// Type of the one condition of a Machine: its BMC answers, or not (with the reason).
pub const CONTACTABLE: &str = "Contactable";

/// The BMC of one machine.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "bmc.tinkerbell.org",
    version = "v1alpha1",
    kind = "Machine",
    plural = "machines",
    singular = "machine",
    category = "tinkerbell",
    namespaced,
    status = "MachineStatus",
    derive = "Default",
    derive = "PartialEq",
    attr = "cfg_attr(all(), serde(default))",
    doc = "One BMC, and whether it can be talked to."
)]
pub struct MachineSpec {
    /// How it is reached.
    pub connection: Connection,
}

/// What is known of a BMC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Whether it can be talked to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<MachineCondition>,
    /// Power state of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_state: Option<PowerState>,
}

/// One thing that is or is not so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineCondition {
    /// When that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// Explanation for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `True` or `False`.
    pub status: String,
    /// What it is about: `Contactable`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// Power state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    /// On.
    On,
    /// Off.
    Off,
    /// The BMC cannot be asked, or does not say.
    Unknown,
}

impl PowerState {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

impl MachineStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&MachineCondition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Puts a condition in place of the one of its type, or adds it. The time changes only when the status flips.
    pub fn set_condition(&mut self, mut new: MachineCondition) {
        match self.conditions.iter_mut().find(|condition| condition.type_ == new.type_) {
            Some(old) => {
                if old.status == new.status && old.last_update_time.is_some() {
                    new.last_update_time = old.last_update_time.take();
                }
                *old = new;
            }
            None => self.conditions.push(new),
        }
    }
}
