// SPDX-License-Identifier: Apache-2.0

//! Where machines come from.
//!
//! Owns the seam between what is of every cluster and what is of one kind of machine: [`Provider`]. Whoever makes a cluster names
//! machines by [`Provider`]'s own names, hands over user data and an image, and watches an [`Observation`]; only [`bare_metal`]
//! knows BMCs, MACs and disks. Every operation may be asked for again after a crash and then does what is left of it.

pub mod bare_metal;

use std::{collections::BTreeMap, net::IpAddr};

use api::anywhere::v1alpha1::{TinkerbellMachineConfigSpec, WorkflowTemplate};
use futures::future::BoxFuture;
use thiserror::Error;

use crate::plan::Candidate;

/// The place in a cluster that a machine is claimed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The cluster.
    pub cluster: String,
    /// Its name, as [`crate::plan::slot_name`] makes it.
    pub name: String,
    /// Namespace of the cluster.
    pub namespace: String,
}

/// A machine that a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub machine: String,
    /// Whether it can still ask for what it was told for its first start (its user data).
    pub told: bool,
}

/// What a machine is to become.
#[derive(Clone, Debug)]
pub struct Boot {
    /// What is done with it.
    pub template: WorkflowTemplate,
    /// What the installed system is told at its first start; it may hold secrets.
    pub user_data: String,
}

/// Where the address of a machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// It is known before the machine runs.
    Static(IpAddr),
    /// It is known when the machine has asked for one.
    Dynamic,
}

/// How far a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was asked of it.
    #[default]
    Idle,
    /// It is brought to boot.
    Booting,
    /// Its disk is written.
    Installing,
    /// It starts what was installed.
    Installed,
    /// It ended with an error.
    Failed,
}

/// What is seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How far it is.
    pub phase: Phase,
    /// What it does at the moment, or what failed.
    pub step: Option<String>,
    /// Why that failed, or what keeps the machine from being started, in the words of whoever did it.
    pub cause: Option<String>,
    /// Bytes that are done, and of how many, where that is known.
    pub bytes: Option<(u64, Option<u64>)>,
}

/// What can be asked of the power of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Switched on.
    On,
    /// Switched off at once.
    Off,
}

/// What became of switching a machine off or on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switched {
    /// Nobody asked for it.
    NotAsked,
    /// It is on the way; what is met there, where that is known.
    Running(Option<String>),
    /// It was done.
    Done,
    /// It failed, and may be asked for again.
    Failed(String),
    /// Nobody can do it from here.
    ByHand(String),
}

/// A part of the provisioner that has to be where the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the daemon.
    pub daemon: &'static str,
    /// Whether two of them at once would answer the same machines.
    pub exclusive: bool,
}

/// Why an operation did not do what was asked.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// There is no such machine, or it is not what a cluster needs. Not retried.
    #[error("{machine}: {problem}")]
    Machine {
        /// The machine.
        machine: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else holds the machine. Not retried: another one is chosen.
    #[error("{machine} is held by {by}")]
    Held {
        /// The machine.
        machine: String,
        /// The holder.
        by: String,
    },
    /// Somebody changed the machine at the same moment. Retried at once.
    #[error("{machine} was changed by somebody else at this moment")]
    Conflict {
        /// The machine.
        machine: String,
    },
    /// The machine cannot do that, for instance because nobody can switch it on from here. Not retried: a person has to.
    #[error("{machine}: {problem}")]
    Impossible {
        /// The machine.
        machine: String,
        /// What cannot be done.
        problem: String,
    },
    /// The API server refused or did not answer. Retried.
    #[error("{machine}: {source}")]
    Api {
        /// The machine.
        machine: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

/// The answer of an operation.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ProviderError>>;

/// What yields machines.
pub trait Provider: Send + Sync {
    /// Machines that fit a configuration and that nobody holds, or that a slot of this cluster holds.
    fn candidates<'a>(
        &'a self,
        config: &'a TinkerbellMachineConfigSpec,
        cluster: &'a str,
    ) -> Answer<'a, Vec<Candidate>>;

    /// Who holds what: the machine of each slot of a cluster.
    fn held<'a>(&'a self, cluster: &'a str) -> Answer<'a, BTreeMap<String, Held>>;

    /// Takes a machine for a slot, by compare and swap: of two who ask at once, one gets it.
    fn claim<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()>;

    /// Gives a machine back; what it was told (its user data) is gone with that. One that the slot does not hold is left alone.
    fn release<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()>;

    /// Installs and starts a claimed machine. Asked again for the same slot, it goes on with what was begun.
    fn boot<'a>(&'a self, machine: &'a str, slot: &'a Slot, boot: &'a Boot) -> Answer<'a, ()>;

    /// Takes back what a machine was told for its first start, which is over.
    fn forget<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()>;

    /// What is seen of a slot's machine.
    fn observe<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, Observation>;

    /// Takes back what came of an installation that failed, so that [`Self::boot`] begins anew.
    fn reset<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()>;

    /// What became of [`Self::power`].
    fn switched<'a>(&'a self, machine: &'a str, slot: &'a Slot, power: Power) -> Answer<'a, Switched>;

    /// Switches a machine on or off.
    fn power<'a>(&'a self, machine: &'a str, slot: &'a Slot, power: Power) -> Answer<'a, ()>;

    /// Where its address comes from.
    fn addressing<'a>(&'a self, machine: &'a str) -> Answer<'a, Addressing>;

    /// The name by which Kubernetes knows the machine of a node (`spec.providerID`).
    fn node_identity(&self, machine: &str) -> String;

    /// What has to go along when the cluster comes to own its provisioner.
    fn services(&self) -> &'static [Service];
}
