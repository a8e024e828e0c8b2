// SPDX-License-Identifier: Apache-2.0

//! References between the documents of a cluster file.

use std::collections::BTreeSet;

use api::anywhere::v1alpha1::{Cluster, Ref, TinkerbellDatacenterConfig};
use kube::ResourceExt;

use super::{ClusterFile, Sourced};
use crate::finding::{Findings, Place};

const DATACENTER: &str = "TinkerbellDatacenterConfig";
const MACHINES: &str = "TinkerbellMachineConfig";
const TEMPLATE: &str = "TinkerbellTemplateConfig";

/// The datacenter that the cluster names; told when it is not there, or another besides.
pub(super) fn datacenter(
    cluster: &Sourced<Cluster>,
    all: Vec<Sourced<TinkerbellDatacenterConfig>>,
    file: &str,
    findings: &mut Findings,
) -> Option<Sourced<TinkerbellDatacenterConfig>> {
    let names: Vec<_> = all.iter().map(|one| one.name().to_owned()).collect();
    let reference = cluster.value.spec.datacenter_ref.as_ref();
    if all.is_empty() {
        let fix = "add one, and name it in spec.datacenterRef";
        findings.error(
            "no-datacenter",
            Place::new(file, 0, ""),
            format!("there is no {DATACENTER} in it"),
            fix,
        );
    } else {
        resolve(cluster, "spec.datacenterRef", reference, (DATACENTER, &names), findings);
    }
    let wanted = reference.and_then(|reference| reference.name.clone());
    let mut all = all.into_iter();
    let first = all.find(|one| wanted.as_deref().is_none_or(|wanted| one.name() == wanted));
    for other in all.filter(|_| first.is_some()) {
        unused(&other, findings);
    }
    first
}

/// Every other reference: machine groups and templates. What nothing refers to is told too.
pub(super) fn check(file: &ClusterFile, findings: &mut Findings) {
    let spec = &file.cluster.value.spec;
    let configs: Vec<_> = file.machine_configs.iter().map(|one| one.name().to_owned()).collect();
    let mut references = Vec::new();
    if let Some(control_plane) = &spec.control_plane_configuration {
        let field = "spec.controlPlaneConfiguration.machineGroupRef".to_owned();
        references.push((field, control_plane.machine_group_ref.as_ref()));
    }
    for (number, group) in spec.worker_node_group_configurations.iter().enumerate() {
        let field = format!("spec.workerNodeGroupConfigurations[{number}].machineGroupRef");
        references.push((field, group.machine_group_ref.as_ref()));
    }
    let mut used = BTreeSet::new();
    for (field, reference) in references {
        resolve(&file.cluster, &field, reference, (MACHINES, &configs), findings);
        used.extend(reference.and_then(|reference| reference.name.as_deref()));
    }
    // Refused elsewhere; what it names is not unused.
    let etcd = spec.external_etcd_configuration.as_ref().and_then(|etcd| etcd.machine_group_ref.as_ref());
    used.extend(etcd.and_then(|reference| reference.name.as_deref()));
    file.machine_configs
        .iter()
        .filter(|one| !used.contains(one.name()))
        .for_each(|one| unused(one, findings));

    let templates: Vec<_> = file.templates.iter().map(|one| one.name().to_owned()).collect();
    let mut used = BTreeSet::new();
    for config in &file.machine_configs {
        // `templateRef: {}` is what is generated for "the built-in one".
        let reference =
            config.value.spec.template_ref.as_ref().filter(|one| one.name.is_some() || one.kind.is_some());
        if reference.is_some() {
            resolve(config, "spec.templateRef", reference, (TEMPLATE, &templates), findings);
        }
        used.extend(reference.and_then(|reference| reference.name.as_deref()));
    }
    file.templates.iter().filter(|one| !used.contains(one.name())).for_each(|one| unused(one, findings));
}

fn resolve<T>(
    from: &Sourced<T>,
    field: &str,
    reference: Option<&Ref>,
    (kind, names): (&str, &[String]),
    findings: &mut Findings,
) {
    let Some(reference) = reference else {
        let fix = format!("name a {kind} of this file by kind and name");
        findings.error("no-reference", from.place(field), "is missing", fix);
        return;
    };
    let given = reference.kind.as_deref().unwrap_or_default();
    if given != kind {
        let what = if given.is_empty() { "is missing".to_owned() } else { format!("is {given:?}") };
        findings.error("reference-kind", from.place(&format!("{field}.kind")), what, format!("write {kind}"));
    }
    let name = reference.name.as_deref().unwrap_or_default();
    if names.iter().any(|known| known == name) {
        return;
    }
    let known = names.iter().map(String::as_str);
    let fix = match (manifest::nearest(name, known), names) {
        (Some(near), _) => format!("write {near:?}, if that is meant"),
        (None, []) => format!("add a {kind} of this name"),
        (None, _) => format!("add it, or name one of {}", names.join(", ")),
    };
    let what = format!("there is no {kind} {name:?} in this file");
    findings.error("dangling-reference", from.place(&format!("{field}.name")), what, fix);
}

fn unused<T: ResourceExt>(one: &Sourced<T>, findings: &mut Findings) {
    let what = format!("nothing in this file refers to {:?}", one.name());
    findings.warning("not-referred-to", one.place("metadata.name"), what, "refer to it, or remove it");
}
