// SPDX-License-Identifier: Apache-2.0
//! The BMC Jobs that bring a machine to boot and clean up after it.
//!
//! One Job per purpose, in the Workflow's namespace, owned by the Workflow: a Job that is there and owned by this
//! Workflow is the one that was made for it, whatever the status remembers; one owned by another (an earlier Workflow
//! of the same name) is deleted first. Called by [`super::decide()`]; it makes objects and writes none.

use api::annotations::LABEL_JOB_AUTO_CREATED;
use api::bmc::v1alpha1::{Action, BootDevice, Job, JobSpec, MachineRef, PowerAction, VirtualMedia};
use api::v1alpha1::{BootMode, Hardware, Workflow, WorkflowStatus};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

/// The media kind of ISO images.
const CD: &str = "CD";

/// Why there is no Job for a Workflow. Nothing but other objects can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// The Hardware has no BMC.
    #[error("boot mode {mode} needs a BMC, but Hardware {hardware} has no bmcRef")]
    NoBmc {
        /// The Hardware.
        hardware: String,
        /// The boot mode.
        mode: &'static str,
    },
    /// ISO boot without an ISO.
    #[error("boot mode isoboot needs bootOptions.isoURL")]
    NoIso,
    /// The media URL of an action does not render.
    #[error("the media URL of customboot action {index} cannot be rendered: {source}")]
    MediaUrl {
        /// Which action, from 0.
        index: usize,
        /// Why.
        source: gotemplate::Error,
    },
}

/// The Job that prepares the boot: its name, if the boot mode wants one.
pub fn preparing_job(workflow: &Workflow) -> Option<String> {
    let name = workflow.name_any();
    match mode(workflow)? {
        BootMode::Netboot => Some(format!("netboot-{name}")),
        BootMode::Isoboot | BootMode::Iso => Some(format!("iso-mount-{name}")),
        BootMode::Customboot if custom(workflow, true).is_empty() => None,
        BootMode::Customboot => Some(format!("customboot-preparing-{name}")),
    }
}

/// The Job that cleans up, if there is one and it is not done yet. Only what was mounted is ejected.
pub fn post_job(workflow: &Workflow, status: &WorkflowStatus) -> Option<String> {
    let jobs = status.boot_options.as_ref().map(|boot| &boot.jobs)?;
    let started = preparing_job(workflow).is_none_or(|name| jobs.contains_key(&name));
    let name = workflow.name_any();
    let job = match mode(workflow)? {
        BootMode::Netboot => return None,
        BootMode::Isoboot | BootMode::Iso => format!("iso-eject-{name}"),
        BootMode::Customboot if custom(workflow, false).is_empty() => return None,
        BootMode::Customboot => format!("customboot-post-{name}"),
    };
    let done = jobs.get(&job).is_some_and(|job| job.complete == Some(true));
    (started && !done).then_some(job)
}

/// The boot mode of a Workflow.
fn mode(workflow: &Workflow) -> Option<BootMode> {
    workflow.spec.boot_options.as_ref()?.boot_mode
}

fn custom(workflow: &Workflow, preparing: bool) -> &[Action] {
    let config = workflow.spec.boot_options.as_ref().and_then(|boot| boot.customboot_config.as_ref());
    match (config, preparing) {
        (Some(config), true) => &config.preparing_actions,
        (Some(config), false) => &config.post_actions,
        (None, _) => &[],
    }
}

/// The content of a preparing or post Job.
///
/// # Errors
/// See [`BootError`].
pub fn job(workflow: &Workflow, hardware: &Hardware, name: &str, preparing: bool) -> Result<Job, BootError> {
    let (label, tasks) = match (mode(workflow), preparing) {
        (Some(BootMode::Netboot) | None, _) => ("netboot", netboot(hardware)),
        (Some(BootMode::Isoboot | BootMode::Iso), true) => ("isoboot", iso_mount(workflow, hardware)?),
        (Some(BootMode::Isoboot | BootMode::Iso), false) => ("isoboot", vec![media(None)]),
        (Some(BootMode::Customboot), _) => ("customboot", rendered(custom(workflow, preparing), hardware)?),
    };
    let machine =
        hardware.bmc_name().ok_or_else(|| BootError::NoBmc { hardware: hardware.name_any(), mode: label })?;
    let namespace = workflow.namespace().unwrap_or_default();
    let mark = BTreeMap::from([(LABEL_JOB_AUTO_CREATED.to_owned(), "true".to_owned())]);
    let mut job = Job::new(
        name,
        JobSpec { machine_ref: MachineRef { name: machine.to_owned(), namespace: namespace.clone() }, tasks },
    );
    job.metadata.namespace = Some(namespace);
    job.metadata.labels = Some(mark.clone());
    job.metadata.annotations = Some(mark);
    job.metadata.owner_references = workflow.controller_owner_ref(&()).map(|owner| vec![owner]);
    Ok(job)
}

/// Whether this Job was made for this Workflow and not for an earlier one of its name.
pub fn is_ours(job: &Job, workflow: &Workflow) -> bool {
    let uid = workflow.uid();
    let owners = job.owner_references();
    uid.is_some_and(|uid| owners.iter().any(|owner| owner.uid == uid))
}

fn netboot(hardware: &Hardware) -> Vec<Action> {
    vec![
        Action::power(PowerAction::Off),
        Action::boot_once(BootDevice::Pxe, hardware.is_uefi()),
        Action::power(PowerAction::On),
    ]
}

fn iso_mount(workflow: &Workflow, hardware: &Hardware) -> Result<Vec<Action>, BootError> {
    let url = workflow.spec.boot_options.as_ref().and_then(|boot| boot.iso_url.clone());
    let url = url.filter(|url| !url.is_empty()).ok_or(BootError::NoIso)?;
    Ok(vec![
        Action::power(PowerAction::Off),
        media(None),
        media(Some(url)),
        Action::boot_once(BootDevice::Cdrom, hardware.is_uefi()),
        Action::power(PowerAction::On),
    ])
}

/// Inserts an image, or ejects what is there.
fn media(url: Option<String>) -> Action {
    let media = VirtualMedia { kind: CD.to_owned(), media_url: Some(url.unwrap_or_default()) };
    Action { virtual_media_action: Some(media), ..Action::default() }
}

fn rendered(actions: &[Action], hardware: &Hardware) -> Result<Vec<Action>, BootError> {
    let data = crate::view::media_url_data(hardware);
    let mut out = actions.to_vec();
    for (index, action) in out.iter_mut().enumerate() {
        if let Some(media) = &mut action.virtual_media_action
            && let Some(url) = &mut media.media_url
        {
            *url = gotemplate::render(url, &data).map_err(|source| BootError::MediaUrl { index, source })?;
        }
    }
    Ok(out)
}
