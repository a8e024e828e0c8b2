// SPDX-License-Identifier: Apache-2.0

//! `tink setup`: what a Kubernetes cluster needs before the daemons run in it: namespaces, resource definitions, accounts and
//! their rights; and the daemons themselves, where they are to be pods.
//!
//! Owns the order and the waiting. The objects are [`api::crds`] and [`api::access`]; the embedded server brings all of it by
//! itself. Applied server-side, so that a second run changes what a newer version changed and nothing else.

use std::time::Duration;

use api::access::{self, Reach};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, ResourceExt};
use serde_json::Value;
use thiserror::Error;

use crate::{
    output,
    pods::{self, Pods, PodsError, Until},
};

/// Field manager of what is applied here.
const MANAGER: &str = "tink-setup";

/// How long the API server may take to serve a definition.
const ESTABLISH: Duration = Duration::from_secs(60);
/// Until it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

const RBAC: &str = "rbac.authorization.k8s.io";

/// Why the cluster is not set up. None is retried; what was applied stays.
#[derive(Debug, Error)]
pub enum SetupError {
    /// An object was refused.
    #[error("{object}: {source}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server does not answer.
    #[error("the API server cannot be asked which groups it has: {0}")]
    Groups(Box<kube::Error>),
    /// A definition was taken, but is not served.
    #[error("{name} is not served {} s after it was applied", ESTABLISH.as_secs())]
    NotEstablished {
        /// The definition.
        name: String,
    },
    /// An object has no JSON form: a programming mistake.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// An object has no YAML form: a programming mistake.
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// The daemons do not run.
    #[error(transparent)]
    Pods(#[from] PodsError),
    /// The terminal is gone.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

/// Everything as YAML documents, for those who apply it by other means.
///
/// # Errors
///
/// When an object has no YAML form, or the output fails.
pub fn print(reach: Reach, pods: Option<&Pods>) -> Result<(), SetupError> {
    let mut text = String::new();
    for object in objects(reach)?.into_iter().chain(pods.map(Pods::objects).unwrap_or_default()) {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object)?);
    }
    Ok(output::print(&text)?)
}

/// Applies everything, and waits until the definitions are served. A server without RBAC (the embedded one) gets the
/// definitions and namespaces only.
///
/// # Errors
///
/// See [`SetupError`].
pub async fn setup(client: &Client, reach: Reach, pods: Option<&Pods>) -> Result<(), SetupError> {
    apply(client, reach, output::print).await?;
    let Some(pods) = pods else { return Ok(()) };
    apply_pods(client, pods).await?;
    let tell = |reason: &str, seconds: u64| {
        // Whoever reads it may have left.
        output::print(&format!("waiting for {reason} ({seconds}s)\n")).unwrap_or_default();
    };
    pods::wait(client, Until::Ready, tell).await?;
    Ok(output::print("the daemons run and are ready\n")?)
}

/// Whether the server has rights that are objects, as every Kubernetes has; ours brings those of the daemons by itself.
///
/// # Errors
///
/// When the server does not answer.
pub(crate) async fn has_rbac(client: &Client) -> Result<bool, SetupError> {
    let groups = client.list_api_groups().await.map_err(|error| SetupError::Groups(Box::new(error)))?;
    Ok(groups.groups.iter().any(|group| group.name == RBAC))
}

/// The same, and `tell` gets a line for each object.
///
/// # Errors
///
/// See [`SetupError`].
pub(crate) async fn apply(
    client: &Client,
    reach: Reach,
    tell: impl Fn(&str) -> std::io::Result<()>,
) -> Result<(), SetupError> {
    let has_rbac = has_rbac(client).await?;
    for object in objects(reach)? {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().unwrap_or_default();
        if types.api_version.starts_with(RBAC) && !has_rbac {
            continue;
        }
        apply_one(client, &object).await?;
        tell(&format!("{}/{} applied\n", types.kind.to_lowercase(), object.name_any()))?;
    }
    if !has_rbac {
        tell("this API server has no RBAC: it knows the daemons by the tokens that it made\n")?;
    }
    for crd in api::crds() {
        let name = crd.name_any();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let served = async {
            // A watch that breaks off begins again.
            let established =
                || await_condition(definitions.clone(), &name, conditions::is_crd_established());
            while established().await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        };
        if tokio::time::timeout(ESTABLISH, served).await.is_err() {
            return Err(SetupError::NotEstablished { name });
        }
    }
    Ok(())
}

/// Applies the daemons as pods; they may not have started when this returns.
///
/// # Errors
///
/// See [`SetupError`].
pub(crate) async fn apply_pods(client: &Client, pods: &Pods) -> Result<(), SetupError> {
    for object in pods.objects() {
        apply_one(client, &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

/// Definitions first, then what has rights to them.
fn objects(reach: Reach) -> Result<Vec<Value>, serde_json::Error> {
    let mut all = api::crds().iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    all.extend(access::rbac(reach)?);
    Ok(all)
}

async fn apply_one(client: &Client, object: &DynamicObject) -> Result<(), SetupError> {
    let types = object.types.clone().unwrap_or_default();
    let kind =
        GroupVersionKind::try_from(&types).unwrap_or_else(|_| GroupVersionKind::gvk("", "", &types.kind));
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object.name_any();
    let applied = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await;
    let refused =
        |source| SetupError::Refused { object: format!("{} {name}", types.kind), source: Box::new(source) };
    applied.map(drop).map_err(refused)
}
