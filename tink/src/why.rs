// SPDX-License-Identifier: Apache-2.0

//! `tink why`: in one sentence, what a machine is doing or why it is not.
//!
//! Owns the answer, as a pure function of what the daemons wrote ([`Snapshot`]): Workflow, BMC Machine, Jobs, Tasks and
//! Events. It asks no machine and no daemon, and never guesses beyond what stands there; the lines under the sentence say
//! where it is from.

use std::fmt;

use api::{
    bmc::v1alpha1::{Job, Machine, Task},
    v1alpha1::{Hardware, Workflow},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::output;

mod explain;
mod target;
#[cfg(test)]
mod tests;

pub use explain::explain;
use target::Target;

/// Everything that the answer is made of.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All Hardware.
    pub hardware: Vec<Hardware>,
    /// All Workflows.
    pub workflows: Vec<Workflow>,
    /// All BMC Machines.
    pub machines: Vec<Machine>,
    /// All BMC Jobs.
    pub jobs: Vec<Job>,
    /// All BMC Tasks.
    pub tasks: Vec<Task>,
    /// All Events.
    pub events: Vec<Event>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One sentence.
    pub sentence: String,
    /// What it was read from, one line each.
    pub evidence: Vec<String>,
    /// Whether the machine is known at all.
    pub known: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum WhyError {
    /// The API server refused or cannot be reached.
    #[error("{}", output::problem(.0))]
    Api(#[from] kube::Error),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sentence)?;
        self.evidence.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Snapshot {
    /// Reads everything there is in a namespace, or in all.
    ///
    /// # Errors
    ///
    /// When the API server refuses or cannot be reached.
    pub async fn fetch(client: &Client, namespace: Option<&str>) -> Result<Self, WhyError> {
        let (hardware, workflows, machines, jobs, tasks, events) = tokio::try_join!(
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
            list(client, namespace),
        )?;
        Ok(Self { hardware, workflows, machines, jobs, tasks, events })
    }

    /// Reads only what a machine is found by.
    ///
    /// # Errors
    ///
    /// When the API server refuses or cannot be reached.
    pub async fn fetch_machines(client: &Client, namespace: Option<&str>) -> Result<Self, WhyError> {
        let (hardware, machines) = tokio::try_join!(list(client, namespace), list(client, namespace))?;
        Ok(Self { hardware, machines, ..Self::default() })
    }
}

/// The Hardware that a word means, or a sentence that says why it means none.
///
/// # Errors
///
/// That sentence.
pub fn hardware<'a>(snapshot: &'a Snapshot, word: &str) -> Result<&'a Hardware, String> {
    match target::find(snapshot, word) {
        Target::Hardware(hardware) => Ok(hardware),
        _ => Err(explain(snapshot, word, Timestamp::now()).sentence),
    }
}

async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + fmt::Debug,
{
    let api: Api<K> = daemon::watch::scoped(client, namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}
