// SPDX-License-Identifier: Apache-2.0

//! From claimed machines to a cluster, and back: what is done next, as often as somebody asks.
//!
//! Owns the life of a cluster. [`decide`] is pure: everything that is seen goes in, and what is to be done comes out, whatever
//! happened before; what woke it is never used. [`run`] reads the world, writes the [`record`] first and acts after, so that a
//! run that ends anywhere is gone on with by the next one. [`remove`] takes a cluster apart in the same way.
//!
//! A place of the cluster goes through these stages:
//!
//! ```text
//!  claim ──▶ Installing ──▶ Starting ──▶ Joining ──▶ Joined
//!              │   ▲        (its turn)      │
//!         fails│   │                        │its node does not come up
//!              ▼   │fewer than ATTEMPTS     ▼
//!            Repeating ─────────────────▶ Leaving ──▶ Released ──▶ claim of a spare
//! ```
//!
//! Who leaves is out of etcd first, then off, then given back: a machine is never replaced while it may still run. The control
//! plane grows by one member of etcd at a time, and only while all others are well. Nothing here knows a BMC, a MAC or a disk.

mod addons;
mod decide;
mod etcd;
#[cfg(test)]
mod model;
pub mod record;
pub mod remove;
pub mod run;
mod status;
pub mod store;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    node::Entry,
    plan::{Role, RoleKind},
    provider::{Observation, Switched},
};

pub use addons::{Addon, AddonError, MAX_MANIFEST, objects};
pub use decide::{ATTEMPTS, decide};
pub use record::{Place, Record, Stage};

/// Everything that is seen of a cluster at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// Name of the cluster.
    pub cluster: String,
    /// Unix seconds.
    pub now: i64,
    /// Seconds after which a node that did not come up counts as failed.
    pub patience: i64,
    /// What it is to consist of, with who fits.
    pub roles: Vec<Role>,
    /// The machine of each place that holds one.
    pub held: BTreeMap<String, String>,
    /// Places whose machine can still ask for what it was told for its first start.
    pub told: BTreeSet<String>,
    /// How far the machine of each place is.
    pub observed: BTreeMap<String, Observation>,
    /// What became of switching machines off.
    pub switched: BTreeMap<String, Switched>,
    /// What earlier runs wrote down.
    pub record: Record,
    /// What is to be put into the cluster.
    pub addons: BTreeSet<Addon>,
    /// The cluster itself.
    pub target: Target,
}

/// What the cluster's own API says.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nothing, and why.
    Silent(String),
    /// This.
    Answers(Seen),
}

/// What is seen in the cluster.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Nodes by machine.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Members of etcd, or why they are not known.
    pub members: Result<Vec<Member>, String>,
    /// Places whose token lets a machine in.
    pub tokens: BTreeSet<String>,
    /// What was put into it.
    pub addons: BTreeSet<Addon>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Whether kubeadm finished making it one of the control plane.
    pub control_plane: bool,
    /// Whether it is ready; else what its kubelet says.
    pub ready: Result<(), String>,
}

/// A member of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its machine; empty while it was added and has not started.
    pub machine: String,
    /// Whether it does not vote yet.
    pub learner: bool,
    /// Whether it answers.
    pub healthy: bool,
}

/// One thing that is to be done. Each may be asked for again after a crash, and then does what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum Action {
    /// Take a machine.
    Claim {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Install it.
    Boot {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
        /// What it becomes.
        entry: Entry,
        /// Its role.
        role: String,
    },
    /// Take back what came of an installation.
    Reset {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Let it join: put its token into the cluster.
    Admit {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Take its token out of the cluster.
    Revoke {
        /// The place.
        slot: String,
    },
    /// Take back what it was told for its first start: keys are in it.
    Forget {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Take it out of etcd.
    RemoveMember {
        /// The machine.
        machine: String,
    },
    /// Move its pods elsewhere.
    Drain {
        /// The machine.
        machine: String,
    },
    /// Take its node out of the cluster.
    RemoveNode {
        /// The machine.
        machine: String,
    },
    /// Switch it off.
    PowerOff {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Give it back.
    Release {
        /// The place.
        slot: String,
        /// The machine.
        machine: String,
    },
    /// Put something into the cluster.
    Apply {
        /// What.
        addon: Addon,
    },
}

/// Something that somebody else has to do first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Wait {
    /// On whom: a machine, or what else it is.
    pub on: String,
    /// Why.
    pub reason: String,
    /// Whether it goes on by itself; one that waits for others that failed does not.
    #[serde(skip)]
    pub live: bool,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is something to do or to wait for.
    Going,
    /// Everything is as it is to be.
    Ready,
    /// Nothing goes on any more: what a person has to do.
    Stuck(Vec<String>),
}

/// What comes of looking at a [`World`].
#[derive(Clone, Debug)]
pub struct Decision {
    /// What is to be written down before anything is done.
    pub record: Record,
    /// What is to be done; the order does not matter.
    pub actions: Vec<Action>,
    /// What is waited for.
    pub waits: Vec<Wait>,
    /// How it stands.
    pub outcome: Outcome,
}

impl World {
    /// What is seen in the cluster, when it answers.
    fn seen(&self) -> Option<&Seen> {
        match &self.target {
            Target::Answers(seen) => Some(seen),
            Target::Silent(_) => None,
        }
    }

    fn kind(&self, role: &str) -> RoleKind {
        let found = self.roles.iter().find(|one| one.name == role);
        found.map_or(RoleKind::Worker, |role| role.kind)
    }
}
