// SPDX-License-Identifier: Apache-2.0

//! The servers of a rack as a [`Provider`]: everything is asked for through objects of the API, which the daemons carry out.
//!
//! A claim is a pair of labels on the Hardware, those of Cluster API's provider for Tinkerbell, written together with the resource
//! version that was read. An installation is a Template and a Workflow with the name of the slot. Objects that are there are never
//! written a second time: a Workflow that has run must not run again.

use std::collections::BTreeMap;

use api::{
    annotations::{LABEL_CLUSTER, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE},
    anywhere::v1alpha1::{NAMESPACE, TinkerbellMachineConfigSpec},
    bmc::v1alpha1::{Action, Job, JobSpec, MachineRef, PowerAction},
    v1alpha1::{
        BootMode, BootOptions, Hardware, Template, TemplateSpec, Workflow, WorkflowCondition, WorkflowSpec,
        WorkflowState, WorkflowStatus,
    },
};
use futures::FutureExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;

use super::candidates;
use crate::{
    inventory::Server,
    object::Namespaced,
    plan::Candidate,
    provider::{
        Addressing, Answer, Boot, Held, Observation, Phase, Power, Provider, ProviderError, Service, Slot,
        Switched,
    },
    templates,
};

/// Mark of Cluster API's provider for Tinkerbell: the machine was installed.
const PROVISIONED: &str = "v1alpha1.tinkerbell.org/provisioned";

const SERVICES: [Service; 4] = [
    Service { daemon: "boots", exclusive: true },
    Service { daemon: "hegel", exclusive: false },
    Service { daemon: "rufio", exclusive: false },
    Service { daemon: "tink-server", exclusive: false },
];

/// The servers of one API.
#[derive(Clone)]
pub struct Rack {
    client: Client,
}

impl Rack {
    /// The servers in the namespace of clusters.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn hardware(&self, machine: &str) -> Result<Hardware, ProviderError> {
        let found =
            self.api::<Hardware>().get_opt(machine).await.map_err(|source| failed(machine, source))?;
        found.ok_or_else(|| ProviderError::Machine {
            machine: machine.to_owned(),
            problem: "there is no such Hardware".to_owned(),
        })
    }

    /// The Hardware, which this slot must hold.
    async fn held_by(&self, machine: &str, slot: &Slot) -> Result<Hardware, ProviderError> {
        let hardware = self.hardware(machine).await?;
        match holder(&hardware) {
            Some(by) if by == *slot => Ok(hardware),
            Some(by) => Err(taken(machine, &by)),
            None => Err(ProviderError::Machine {
                machine: machine.to_owned(),
                problem: format!("{} does not hold it", slot.name),
            }),
        }
    }

    /// Writes a Hardware only if it is still the one that was read.
    async fn swap(&self, hardware: &Hardware, mut patch: serde_json::Value) -> Result<(), ProviderError> {
        let machine = hardware.name_any();
        if let Some(metadata) = patch.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(hardware.metadata.resource_version));
        }
        let patched =
            self.api::<Hardware>().patch(&machine, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(|source| failed(&machine, source))
    }

    /// Creates an object; one that is there stays as it is.
    async fn create<K: Namespaced>(&self, machine: &str, object: &K) -> Result<(), ProviderError> {
        match self.api::<K>().create(&PostParams::default(), object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(source) => Err(failed(machine, source)),
        }
    }

    /// What the Jobs that bring a machine to boot meet while they are tried again.
    async fn kept_from_booting(
        &self,
        machine: &str,
        status: WorkflowStatus,
    ) -> Result<Option<String>, ProviderError> {
        let jobs = status.boot_options.unwrap_or_default().jobs;
        for (name, _) in jobs.into_iter().filter(|(_, job)| job.complete != Some(true)) {
            let job = self.api::<Job>().get_opt(&name).await.map_err(|source| failed(machine, source))?;
            if let Some(Switched::Running(Some(why))) = job.as_ref().map(switched) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Deletes an object; one that is not there is as good as deleted.
    async fn delete<K: Namespaced>(&self, machine: &str, name: &str) -> Result<(), ProviderError> {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(failed(machine, source)),
        }
    }
}

impl Provider for Rack {
    fn candidates<'a>(
        &'a self,
        config: &'a TinkerbellMachineConfigSpec,
        cluster: &'a str,
    ) -> Answer<'a, Vec<Candidate>> {
        async move {
            let all = self.api::<Hardware>().list(&ListParams::default()).await;
            let all = all.map_err(|source| failed("Hardware", source))?;
            let free = all.items.iter().filter(|hardware| {
                !hardware.is_protected() && holder(hardware).is_none_or(|by| by.cluster == cluster)
            });
            let servers: Vec<_> = free.filter_map(|one| Server::from_objects(one, None, None).ok()).collect();
            Ok(candidates(config, servers.iter()))
        }
        .boxed()
    }

    fn held<'a>(&'a self, cluster: &'a str) -> Answer<'a, BTreeMap<String, Held>> {
        async move {
            let labelled = ListParams::default().labels(LABEL_OWNER_NAME);
            let all =
                self.api::<Hardware>().list(&labelled).await.map_err(|source| failed("Hardware", source))?;
            let of_cluster = all.items.iter().filter_map(|hardware| {
                let by = holder(hardware).filter(|by| by.cluster == cluster)?;
                let told = hardware.spec.user_data.is_some();
                Some((by.name, Held { machine: hardware.name_any(), told }))
            });
            Ok(of_cluster.collect())
        }
        .boxed()
    }

    fn claim<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()> {
        async move {
            let hardware = self.hardware(machine).await?;
            if hardware.is_protected() {
                let problem = format!("it is annotated as {}", api::annotations::PROTECTED);
                return Err(ProviderError::Impossible { machine: machine.to_owned(), problem });
            }
            match holder(&hardware) {
                Some(by) if by == *slot => Ok(()),
                Some(by) => Err(taken(machine, &by)),
                None => {
                    let labels = json!({
                        LABEL_OWNER_NAME: slot.name,
                        LABEL_OWNER_NAMESPACE: slot.namespace,
                        LABEL_CLUSTER: slot.cluster,
                    });
                    self.swap(&hardware, json!({ "metadata": { "labels": labels } })).await
                }
            }
        }
        .boxed()
    }

    fn release<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()> {
        async move {
            let hardware = self.hardware(machine).await?;
            if holder(&hardware).is_none_or(|by| by != *slot) {
                return Ok(());
            }
            self.delete::<Workflow>(machine, &slot.name).await?;
            self.delete::<Template>(machine, &slot.name).await?;
            for power in [Power::On, Power::Off] {
                self.delete::<Job>(machine, &job_name(slot, power)).await?;
            }
            let metadata = json!({
                "labels": { LABEL_OWNER_NAME: null, LABEL_OWNER_NAMESPACE: null, LABEL_CLUSTER: null },
                "annotations": { PROVISIONED: null },
            });
            self.swap(&hardware, json!({ "metadata": metadata, "spec": { "userData": null } })).await
        }
        .boxed()
    }

    fn boot<'a>(&'a self, machine: &'a str, slot: &'a Slot, boot: &'a Boot) -> Answer<'a, ()> {
        async move {
            let hardware = self.held_by(machine, slot).await?;
            if hardware.spec.user_data.as_deref() != Some(boot.user_data.as_str()) {
                let patch = json!({ "metadata": {}, "spec": { "userData": boot.user_data } });
                self.swap(&hardware, patch).await?;
            }
            let template = Template {
                metadata: meta(&slot.name),
                spec: TemplateSpec { data: Some(templates::to_yaml(&boot.template)) },
                status: None,
            };
            self.create(machine, &template).await?;
            self.create(machine, &workflow(&hardware, slot)).await
        }
        .boxed()
    }

    fn forget<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()> {
        async move {
            let hardware = self.held_by(machine, slot).await?;
            if hardware.spec.user_data.is_none() {
                return Ok(());
            }
            self.swap(&hardware, json!({ "metadata": {}, "spec": { "userData": null } })).await
        }
        .boxed()
    }

    fn observe<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, Observation> {
        async move {
            let found = self.api::<Workflow>().get_opt(&slot.name).await;
            let workflow = found.map_err(|source| failed(machine, source))?;
            let status = workflow.and_then(|workflow| workflow.status);
            let mut seen = observation(status.as_ref());
            if seen.phase == Phase::Booting {
                seen.cause = match self.hardware(machine).await?.bmc_name() {
                    Some(_) => self.kept_from_booting(machine, status.unwrap_or_default()).await?,
                    None => Some("it has no BMC: start it from the network by hand".to_owned()),
                };
            }
            Ok(seen)
        }
        .boxed()
    }

    fn reset<'a>(&'a self, machine: &'a str, slot: &'a Slot) -> Answer<'a, ()> {
        async move {
            self.held_by(machine, slot).await?;
            self.delete::<Workflow>(machine, &slot.name).await?;
            self.delete::<Template>(machine, &slot.name).await?;
            // What was not done yet must not be done to the next installation.
            for power in [Power::On, Power::Off] {
                self.delete::<Job>(machine, &job_name(slot, power)).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn switched<'a>(&'a self, machine: &'a str, slot: &'a Slot, power: Power) -> Answer<'a, Switched> {
        async move {
            if self.hardware(machine).await?.bmc_name().is_none() {
                return Ok(Switched::ByHand("it has no BMC".to_owned()));
            }
            let found = self.api::<Job>().get_opt(&job_name(slot, power)).await;
            let job = found.map_err(|source| failed(machine, source))?;
            Ok(job.map_or(Switched::NotAsked, |job| switched(&job)))
        }
        .boxed()
    }

    fn power<'a>(&'a self, machine: &'a str, slot: &'a Slot, power: Power) -> Answer<'a, ()> {
        async move {
            let hardware = self.held_by(machine, slot).await?;
            let Some(bmc) = hardware.bmc_name() else {
                let problem = "it has no BMC: switch it by hand".to_owned();
                return Err(ProviderError::Impossible { machine: machine.to_owned(), problem });
            };
            let action = match power {
                Power::On => PowerAction::On,
                Power::Off => PowerAction::Off,
            };
            let name = job_name(slot, power);
            if power == Power::Off {
                // Else it is started again as soon as its BMC answers, which may be later.
                self.delete::<Workflow>(machine, &slot.name).await?;
            }
            // What an earlier one came to says nothing of now.
            self.delete::<Job>(machine, &name).await?;
            let machine_ref = MachineRef { name: bmc.to_owned(), namespace: NAMESPACE.to_owned() };
            let spec = JobSpec { machine_ref, tasks: vec![Action::power(action)] };
            self.create(machine, &Job { metadata: meta(&name), spec, status: None }).await
        }
        .boxed()
    }

    fn addressing<'a>(&'a self, machine: &'a str) -> Answer<'a, Addressing> {
        async move {
            let hardware = self.hardware(machine).await?;
            let address = hardware.spec.interfaces.first().and_then(api::v1alpha1::Interface::ip);
            Ok(address.map_or(Addressing::Dynamic, Addressing::Static))
        }
        .boxed()
    }

    fn node_identity(&self, machine: &str) -> String {
        format!("tinkerbell://{NAMESPACE}/{machine}")
    }

    fn services(&self) -> &'static [Service] {
        &SERVICES
    }
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() }
}

/// Who holds a machine. One that was claimed by Cluster API's own provider is of no cluster of ours.
fn holder(hardware: &Hardware) -> Option<Slot> {
    let labels = hardware.metadata.labels.as_ref()?;
    let label = |key: &str| labels.get(key).cloned();
    let (cluster, namespace) = (label(LABEL_CLUSTER), label(LABEL_OWNER_NAMESPACE));
    let name = label(LABEL_OWNER_NAME)?;
    Some(Slot { cluster: cluster.unwrap_or_default(), name, namespace: namespace.unwrap_or_default() })
}

fn workflow(hardware: &Hardware, slot: &Slot) -> Workflow {
    let device = hardware.instance_id().map(str::to_owned);
    let device = device.or_else(|| hardware.macs().next().map(|mac| mac.to_string())).unwrap_or_default();
    Workflow {
        metadata: meta(&slot.name),
        spec: WorkflowSpec {
            boot_options: Some(BootOptions {
                // Without a BMC a person brings the machine to boot.
                boot_mode: hardware.bmc_name().map(|_| BootMode::Netboot),
                toggle_allow_netboot: Some(true),
                ..BootOptions::default()
            }),
            hardware_map: BTreeMap::from([("device_1".to_owned(), device)]),
            hardware_ref: Some(hardware.name_any()),
            template_ref: Some(slot.name.clone()),
            ..WorkflowSpec::default()
        },
        status: None,
    }
}

fn observation(status: Option<&WorkflowStatus>) -> Observation {
    let Some(status) = status else { return Observation::default() };
    let phase = match status.state {
        WorkflowState::Unset | WorkflowState::Preparing | WorkflowState::Pending => Phase::Booting,
        WorkflowState::Running | WorkflowState::Other(_) => Phase::Installing,
        // What was done for the boot is undone, whatever the installation came to.
        WorkflowState::Post if status.current_state.as_ref().is_some_and(|now| is_failure(&now.state)) => {
            Phase::Installing
        }
        WorkflowState::Post | WorkflowState::Success => Phase::Installed,
        WorkflowState::Failed | WorkflowState::Timeout => Phase::Failed,
    };
    let step = status.current_state.as_ref().and_then(|current| current.action_name.clone());
    let bytes = status.progress.as_ref().map(|progress| (progress.bytes_read, progress.bytes_total));
    let bytes = bytes.filter(|_| phase == Phase::Installing);
    Observation { phase, step, cause: cause(status).filter(|_| phase == Phase::Failed), bytes }
}

const fn is_failure(state: &WorkflowState) -> bool {
    matches!(state, WorkflowState::Failed | WorkflowState::Timeout)
}

/// What is said of the action that failed; where none was begun, of the last step before that did.
fn cause(status: &WorkflowStatus) -> Option<String> {
    let mut actions = status.tasks.iter().flat_map(|task| &task.actions);
    let action = actions.find(|action| is_failure(&action.state)).and_then(|action| action.message.clone());
    let is_error = |condition: &&WorkflowCondition| condition.reason.as_deref() == Some("Error");
    let before =
        status.conditions.iter().rev().find(is_error).and_then(|condition| condition.message.clone());
    let said = action.or(before);
    said.filter(|text| !text.is_empty())
}

/// Name of the Job that switches a slot's machine.
fn job_name(slot: &Slot, power: Power) -> String {
    let word = match power {
        Power::On => "poweron",
        Power::Off => "poweroff",
    };
    format!("{}-{word}", slot.name)
}

fn switched(job: &Job) -> Switched {
    let status = job.status.clone().unwrap_or_default();
    if status.is("Failed") {
        let message = status.condition("Failed").and_then(|condition| condition.message.clone());
        return Switched::Failed(message.unwrap_or_default());
    }
    if status.is("Completed") {
        return Switched::Done;
    }
    let met = status.condition("Running").and_then(|condition| condition.message.clone());
    Switched::Running(met.map(|why| format!("its BMC: {why}")))
}

fn taken(machine: &str, by: &Slot) -> ProviderError {
    ProviderError::Held { machine: machine.to_owned(), by: format!("{}/{}", by.namespace, by.name) }
}

fn failed(machine: &str, source: kube::Error) -> ProviderError {
    match source {
        kube::Error::Api(status) if status.code == 409 => {
            ProviderError::Conflict { machine: machine.to_owned() }
        }
        source => ProviderError::Api { machine: machine.to_owned(), source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: serde_json::Value) -> Observation {
        observation(Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn what_is_undone_at_the_end_of_a_failed_installation_does_not_make_it_a_good_one() {
        let state = |state: &str, outcome: &str| {
            seen(json!({ "state": state, "currentState": { "state": outcome, "actionName": "stream" } }))
                .phase
        };
        assert_eq!(state("POST", "SUCCESS"), Phase::Installed);
        assert_eq!(state("POST", "FAILED"), Phase::Installing);
        assert_eq!(state("POST", "TIMEOUT"), Phase::Installing);
        assert_eq!(state("FAILED", "FAILED"), Phase::Failed);
        assert_eq!(state("SUCCESS", "SUCCESS"), Phase::Installed);
    }

    #[test]
    fn the_cause_of_a_failure_is_what_its_action_said_or_what_kept_it_from_its_first() {
        let action = |state: &str, message: &str| json!({ "id": state, "state": state, "message": message });
        let tasks = json!([{ "agentID": "a", "id": "t", "name": "t", "actions": [
            action("SUCCESS", "fine"), action("FAILED", "no room"), action("PENDING", ""),
        ] }]);
        let error = |message: &str| json!({ "type": "BootJobFailed", "status": "True", "reason": "Error", "message": message });
        let failed = seen(json!({ "state": "FAILED", "tasks": tasks, "conditions": [error("before")] }));
        assert_eq!(failed.cause.as_deref(), Some("no room"));
        let failed = seen(json!({ "state": "FAILED", "conditions": [error("one"), error("no such user")] }));
        assert_eq!(failed.cause.as_deref(), Some("no such user"));
        let runs = seen(json!({ "state": "RUNNING", "conditions": [error("before")] }));
        assert_eq!(runs.cause, None);
    }
}
