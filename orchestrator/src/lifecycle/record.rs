// SPDX-License-Identifier: Apache-2.0

//! What a run writes down for the next one: the stage of every place, and which machines failed.
//!
//! Owns the form of that. It is written before anything is done, so that it is never behind the world by more than what can be
//! asked for twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::node::Entry;

/// What is known of earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Whether there is a cluster, which nobody may make a second time.
    pub initialized: bool,
    /// Places that hold a machine.
    pub places: BTreeMap<String, Place>,
    /// Machines that failed, and why; they are not taken again.
    pub failed: BTreeMap<String, String>,
    /// Whether the last run ended because nothing went on.
    pub stuck: bool,
}

/// A place with its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The machine.
    pub machine: String,
    /// The role.
    pub role: String,
    /// What the machine was told to become.
    pub entry: Entry,
    /// How far it is.
    pub stage: Stage,
    /// When the stage began, unix seconds.
    pub since: i64,
    /// Installations that were begun.
    pub attempts: u32,
}

/// How far a place is; the module above has the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Its machine is installed.
    Installing,
    /// What came of an installation that failed is taken back.
    Repeating,
    /// It is installed and waits for its turn.
    Starting,
    /// It may join.
    Joining,
    /// It is a node.
    Joined,
    /// It failed and is taken out.
    Leaving(String),
    /// It is given back.
    Released(String),
}

impl Record {
    /// A new run after one that got stuck: a person has looked at it, so that machines that failed get another chance.
    pub fn forgive(&mut self, now: i64) {
        if !std::mem::take(&mut self.stuck) {
            return;
        }
        self.failed.clear();
        for place in self.places.values_mut() {
            if matches!(place.stage, Stage::Leaving(_)) {
                *place = Place { stage: Stage::Repeating, since: now, attempts: 1, ..place.clone() };
            }
        }
    }
}
