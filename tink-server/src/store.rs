// SPDX-License-Identifier: Apache-2.0
//! Writing to the API: the status of Workflows, the netboot switch of Hardware, annotations.
//!
//! Every write of a status is a merge patch of what changed, guarded by the resourceVersion that was read; fields that
//! this program does not know survive, and a lost race is read again and decided again. Called by the controller and
//! by the gRPC endpoint. It decides nothing.

use std::time::Duration;

use api::annotations::NETBOOT_FOR;
use api::v1alpha1::{Hardware, Workflow, WorkflowStatus};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Map, Value as Json, json};

/// Tries until a lost race is given up; with the pauses below they take about 2 s.
const TRIES: u32 = 10;

/// The pause after the first lost race; it grows with every further one.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API refused or did not answer. Worth a retry.
    #[error("the API did not take the write: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// Others wrote the object every time. Worth a retry, later.
    #[error("the object changed under every one of {TRIES} writes")]
    Contended,
    /// An object cannot be turned into JSON; a programming mistake.
    #[error("the object has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<kube::Error> for StoreError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Whether the API answered with this HTTP status.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Writes a status over that of `read`. `Ok(None)` is a lost race.
pub(crate) async fn write_status(
    client: &Client,
    read: &Workflow,
    status: &WorkflowStatus,
) -> Result<Option<Workflow>, StoreError> {
    let old = serde_json::to_value(read.status.clone().unwrap_or_default())?;
    let new = serde_json::to_value(status)?;
    let patch = json!({
        "metadata": { "resourceVersion": read.resource_version() },
        "status": merge_patch(&old, &new),
    });
    let api: Api<Workflow> = Api::namespaced(client.clone(), &read.namespace().unwrap_or_default());
    match api.patch_status(&read.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_status(&error, 409) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits a little before try number `attempt`, differently in every caller.
pub(crate) async fn pause(attempt: u32) -> Result<(), StoreError> {
    if attempt >= TRIES {
        return Err(StoreError::Contended);
    }
    let spread = rand::random_range(0.5..1.5);
    tokio::time::sleep(PAUSE.saturating_mul(attempt.saturating_mul(attempt)).mul_f64(spread)).await;
    Ok(())
}

/// The merge patch (RFC 7386) that turns `old` into `new`.
fn merge_patch(old: &Json, new: &Json) -> Json {
    let (Json::Object(old), Json::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Json::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) => {
                patch.insert(key.clone(), merge_patch(other, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Json::Object(patch)
}

/// Who a netboot switch is on for: the value of [`NETBOOT_FOR`].
pub(crate) fn holder(workflow: &Workflow) -> String {
    format!("{}/{}", workflow.name_any(), workflow.uid().unwrap_or_default())
}

/// Whether netboot is to be allowed, and for whom.
#[derive(Debug, Clone)]
pub(crate) enum Netboot {
    /// On, for this [`holder`].
    OnFor(String),
    /// Off, whoever it was on for.
    Off,
    /// Off, if it is still on for this [`holder`].
    OffFor(String),
}

/// Sets `netboot.allowPXE` of every interface, in a copy of the object as the API has it, so that fields of other
/// versions survive, and notes for whom it is on. A Hardware that is gone is no error: there is nothing left to switch.
pub(crate) async fn set_netboot(
    client: &Client,
    namespace: &str,
    hardware: &str,
    netboot: &Netboot,
) -> Result<(), StoreError> {
    let resource = ApiResource::erase::<Hardware>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    for attempt in 1.. {
        let Some(mut object) = api.get_opt(hardware).await? else { return Ok(()) };
        let held = object.annotations().get(NETBOOT_FOR).cloned();
        if matches!(netboot, Netboot::OffFor(holder) if held.as_ref() != Some(holder)) {
            return Ok(());
        }
        let (allow, holder) = match netboot {
            Netboot::OnFor(holder) => (true, Some(holder.clone())),
            Netboot::Off | Netboot::OffFor(_) => (false, None),
        };
        let switched = switch(&mut object.data, allow);
        if !switched && held == holder {
            return Ok(());
        }
        match holder {
            Some(holder) => object.annotations_mut().insert(NETBOOT_FOR.to_owned(), holder),
            None => object.annotations_mut().remove(NETBOOT_FOR),
        };
        match api.replace(hardware, &PostParams::default(), &object).await {
            Err(error) if is_status(&error, 409) => pause(attempt).await?,
            other => return Ok(other.map(drop)?),
        }
    }
    Ok(())
}

/// Sets the switch in a Hardware's JSON; false when it was so already.
fn switch(hardware: &mut Json, allow: bool) -> bool {
    let mut changed = false;
    let interfaces = hardware.pointer_mut("/spec/interfaces").and_then(Json::as_array_mut);
    for interface in interfaces.into_iter().flatten().filter_map(Json::as_object_mut) {
        let netboot = interface.entry("netboot").or_insert_with(|| json!({}));
        if netboot.is_null() {
            *netboot = json!({});
        }
        if let Some(netboot) = netboot.as_object_mut()
            && netboot.get("allowPXE") != Some(&Json::Bool(allow))
        {
            netboot.insert("allowPXE".to_owned(), Json::Bool(allow));
            changed = true;
        }
    }
    changed
}

/// Adds an annotation, unless there is one under that key in `object`.
pub(crate) async fn annotate_once<K>(
    client: &Client,
    object: &K,
    key: &str,
    value: &str,
) -> Result<(), StoreError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
{
    if object.annotations().contains_key(key) {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_holds_what_changed_and_removes_what_went() {
        let old = json!({"a": 1, "b": {"x": 1, "y": 2}, "c": [1], "d": 4});
        let new = json!({"a": 1, "b": {"x": 1, "z": 3}, "c": [2]});
        assert_eq!(merge_patch(&old, &new), json!({"b": {"y": null, "z": 3}, "c": [2], "d": null}));
        assert_eq!(merge_patch(&new, &new), json!({}));
    }

    #[test]
    fn the_switch_reaches_every_interface_and_keeps_the_rest() {
        let mut hardware = json!({"spec": {"interfaces": [
            {"netboot": {"allowPXE": true, "later": 1}},
            {"dhcp": {"mac": "x"}},
            {"netboot": null}
        ]}});
        assert!(switch(&mut hardware, false));
        assert_eq!(
            hardware,
            json!({"spec": {"interfaces": [
                {"netboot": {"allowPXE": false, "later": 1}},
                {"dhcp": {"mac": "x"}, "netboot": {"allowPXE": false}},
                {"netboot": {"allowPXE": false}}
            ]}})
        );
        assert!(!switch(&mut hardware, false));
        assert!(!switch(&mut json!({"spec": {}}), true));
    }
}
