// SPDX-License-Identifier: Apache-2.0

//! What is put into a cluster once there is one: the network plugin, a storage class. Whose manifests they are is the user's
//! choice; they are kept in a ConfigMap, so that a later run needs no file.

use std::fmt;

use kube::{
    Client,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest manifest: what fits into one object.
pub const MAX_MANIFEST: usize = 1 << 20;
/// Who wrote the objects, in their managed fields.
pub(super) const FIELD_MANAGER: &str = "tink-cluster";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Addon {
    /// The network plugin.
    Cni,
    /// The default storage class.
    Storage,
}

/// Why a manifest was not applied. Retried: definitions may have to settle first.
#[derive(Debug, Error)]
pub enum AddonError {
    /// It is no manifest.
    #[error("the manifest of the {addon}: {problem}")]
    Manifest {
        /// Which.
        addon: Addon,
        /// What is wrong.
        problem: String,
    },
    /// The cluster refused an object.
    #[error("{object}: {source}")]
    Api {
        /// Kind and name.
        object: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

impl Addon {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Cni, Self::Storage];

    /// Its key in the ConfigMap.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Cni => "cni.yaml",
            Self::Storage => "storage.yaml",
        }
    }
}

impl fmt::Display for Addon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cni => "network plugin",
            Self::Storage => "storage class",
        })
    }
}

/// The objects of a manifest.
///
/// # Errors
///
/// When a document is no object.
pub fn objects(addon: Addon, text: &str) -> Result<Vec<DynamicObject>, AddonError> {
    let (mut documents, mut findings) = (Vec::new(), Vec::new());
    manifest::parse(&addon.to_string(), text, &mut documents, &mut findings);
    if let Some(finding) = findings.first() {
        return Err(AddonError::Manifest { addon, problem: finding.to_string() });
    }
    let read = documents.iter().map(|document| {
        let object = serde_json::from_value::<DynamicObject>(document.root.to_json());
        object.map_err(|error| AddonError::Manifest { addon, problem: error.to_string() })
    });
    let objects = read.collect::<Result<Vec<_>, _>>()?;
    let nameless = |object: &&DynamicObject| object.types.is_none() || object.metadata.name.is_none();
    if objects.is_empty() || objects.iter().find(nameless).is_some() {
        let problem = "every document must have apiVersion, kind and metadata.name".to_owned();
        return Err(AddonError::Manifest { addon, problem });
    }
    Ok(objects)
}

/// Applies a manifest: definitions and namespaces come first, whatever their order in it.
pub(super) async fn apply(client: &Client, addon: Addon, text: &str) -> Result<(), AddonError> {
    let mut objects = objects(addon, text)?;
    objects.sort_by_key(|object| match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("CustomResourceDefinition") => 0,
        Some("Namespace") => 1,
        _ => 2,
    });
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let told = |source| AddonError::Api {
            object: format!("{}/{name}", types.kind.to_lowercase()),
            source: Box::new(source),
        };
        let kind = GroupVersionKind::try_from(&types)
            .map_err(|error| AddonError::Manifest { addon, problem: error.to_string() })?;
        let (resource, capabilities) = kube::discovery::pinned_kind(client, &kind).await.map_err(told)?;
        let api: kube::Api<DynamicObject> = match capabilities.scope {
            kube::discovery::Scope::Cluster => kube::Api::all_with(client.clone(), &resource),
            kube::discovery::Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
                kube::Api::namespaced_with(client.clone(), namespace, &resource)
            }
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.map_err(told)?;
    }
    Ok(())
}
