// SPDX-License-Identifier: Apache-2.0

//! The inventory in the API: every row becomes its objects, and nothing that a cluster holds is touched.
//!
//! Owns the order of that: all machines are looked at before the first object is sent, and one that a cluster holds and whose
//! row says something else keeps everything from being sent. Objects are applied on the server's side under a field manager of
//! their own; a Hardware that somebody claims in between is refused by its resource version.

use std::fmt;

use api::{
    annotations::{LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE},
    anywhere::v1alpha1::NAMESPACE,
    bmc::v1alpha1::Machine,
    v1alpha1::Hardware,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::ObjectMeta,
};
use thiserror::Error;

use super::{Inventory, RpcBmc, Server};
use crate::{
    finding::{Findings, Place},
    object::Namespaced,
};

/// Who wrote the objects, in their managed fields.
const FIELD_MANAGER: &str = "tink-hardware";

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there and is another now.
    Changed,
    /// It was as the row says.
    Unchanged,
    /// A cluster holds the machine, which is as the row says; nothing was sent.
    Held {
        /// The holder: namespace and name.
        by: String,
    },
}

/// One object with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Kind and name: `hardware/m1`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why objects were not applied. A second run goes on where this one ended.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The API server does not know our kinds. Not retried.
    #[error("the API server does not know {kind}: run `tink setup` for it first")]
    NoDefinition {
        /// The kind.
        kind: &'static str,
    },
    /// Somebody changed the object in between, perhaps a cluster that claimed it. Retried by running it again.
    #[error("{object} was changed by somebody else at this moment; run it again")]
    Conflict {
        /// Kind and name.
        object: String,
    },
    /// The server refused, or did not answer.
    #[error("{object}: {source}")]
    Api {
        /// Kind and name.
        object: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Changed => f.write_str("changed"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Held { by } => write!(f, "unchanged, held by {by}"),
        }
    }
}

/// Applies all machines. A machine that a cluster holds and whose row differs is told in `findings`, and then nothing was sent.
///
/// # Errors
///
/// See [`ApplyError`].
pub async fn apply(
    client: &Client,
    inventory: &Inventory,
    rpc: Option<&RpcBmc>,
    findings: &mut Findings,
) -> Result<Vec<Applied>, ApplyError> {
    known::<Hardware>(client, "Hardware").await?;
    known::<Machine>(client, "Machine").await?;
    let mut looked = Vec::new();
    for (line, server) in &inventory.servers {
        let current = Current::read(client, &server.hostname).await?;
        if let Some(by) = current.holder()
            && !current.is(server)
        {
            let what =
                format!("{} is held by {by}, and the row is another than the machine", server.hostname);
            let fix = "put the row back as it was, or release the machine from its cluster first";
            findings.error("hardware-held", Place::new(&inventory.file, *line, "hostname"), what, fix);
        }
        looked.push((server, current));
    }
    if findings.has_errors() {
        return Ok(Vec::new());
    }
    namespace(client).await?;
    let mut applied = Vec::new();
    for (server, current) in looked {
        if let Some(by) = current.holder() {
            let object = format!("hardware/{}", server.hostname);
            applied.push(Applied { object, outcome: Outcome::Held { by } });
            continue;
        }
        let mut objects = server.objects(rpc);
        for secret in objects.secrets {
            applied.push(send(client, secret).await?);
        }
        if let Some(machine) = objects.machine {
            applied.push(send(client, machine).await?);
        }
        // Only the Hardware that was looked at: a claim in between changes its version.
        objects.hardware.metadata.resource_version =
            current.hardware.and_then(|hardware| hardware.metadata.resource_version);
        applied.push(send(client, objects.hardware).await?);
    }
    Ok(applied)
}

/// A machine as it is in the API.
struct Current {
    hardware: Option<Hardware>,
    machine: Option<Machine>,
    secret: Option<Secret>,
}

impl Current {
    async fn read(client: &Client, name: &str) -> Result<Self, ApplyError> {
        let hardware: Option<Hardware> = get(client, name).await?;
        let held = hardware.as_ref().is_some_and(|hardware| holder(hardware).is_some());
        let (mut machine, mut secret) = (None, None);
        if let Some(bmc) = hardware.as_ref().and_then(Hardware::bmc_name).filter(|_| held) {
            machine = get::<Machine>(client, bmc).await?;
            let reference =
                machine.as_ref().and_then(|machine| machine.spec.connection.auth_secret_ref.as_ref());
            if let Some(name) = reference.and_then(|reference| reference.name.as_deref()) {
                secret = get(client, name).await?;
            }
        }
        Ok(Self { hardware, machine, secret })
    }

    fn holder(&self) -> Option<String> {
        self.hardware.as_ref().and_then(holder)
    }

    fn is(&self, server: &Server) -> bool {
        let current = self
            .hardware
            .as_ref()
            .map(|hardware| Server::from_objects(hardware, self.machine.as_ref(), self.secret.as_ref()));
        matches!(current, Some(Ok(current)) if current == *server)
    }
}

/// Who holds a machine: namespace and name of the machine of a cluster.
fn holder(hardware: &Hardware) -> Option<String> {
    let labels = hardware.metadata.labels.as_ref()?;
    let namespace = labels.get(LABEL_OWNER_NAMESPACE).map_or("", String::as_str);
    labels.get(LABEL_OWNER_NAME).map(|name| format!("{namespace}/{name}"))
}

async fn namespace(client: &Client) -> Result<(), ApplyError> {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER);
    let applied = api.patch(NAMESPACE, &params, &Patch::Apply(&namespace)).await;
    applied.map(drop).map_err(|source| told::<Namespace>(NAMESPACE, source))
}

/// Whether the server knows a kind: nothing else tells an unknown kind from an absent object.
async fn known<K: Namespaced>(client: &Client, kind: &'static str) -> Result<(), ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    match api.list(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(ApplyError::NoDefinition { kind }),
        Err(source) => Err(told::<K>("", source)),
    }
}

async fn get<K: Namespaced>(client: &Client, name: &str) -> Result<Option<K>, ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    api.get_opt(name).await.map_err(|source| told::<K>(name, source))
}

async fn send<K: Namespaced>(client: &Client, object: K) -> Result<Applied, ApplyError> {
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let name = object.name_any();
    let before = get::<K>(client, &name).await?.and_then(|before| before.resource_version());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let after = api.patch(&name, &params, &Patch::Apply(&object)).await;
    let after = after.map_err(|source| told::<K>(&name, source))?.resource_version();
    let outcome = match before {
        None => Outcome::Created,
        Some(before) if Some(&before) == after.as_ref() => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    };
    Ok(Applied { object: label::<K>(&name), outcome })
}

fn label<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{}/{name}", K::kind(&()).to_lowercase())
}

fn told<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> ApplyError {
    match &source {
        kube::Error::Api(status) if status.code == 409 => ApplyError::Conflict { object: label::<K>(name) },
        _ => ApplyError::Api { object: label::<K>(name), source: Box::new(source) },
    }
}
