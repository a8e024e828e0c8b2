// SPDX-License-Identifier: Apache-2.0

//! The CustomResourceDefinitions of all kinds.
//!
//! Owns what the derive cannot say about a definition: labels of Cluster API, and the small differences between the
//! schema of a Rust type and the published schema. The API server of this workspace, `deploy/crds` and the cluster
//! installer take definitions from here, never from `Kind::crd()`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{anywhere, bmc, v1alpha1};

/// Labels by which `clusterctl move` takes objects of a kind to another cluster.
const MOVE_LABELS: [&str; 2] = ["clusterctl.cluster.x-k8s.io", "clusterctl.cluster.x-k8s.io/move"];

/// The definitions as files, as they are checked in.
const PUBLISHED: [&str; 11] = [
    include_str!("../../deploy/crds/anywhere.eks.amazonaws.com_clusters.yaml"),
    include_str!("../../deploy/crds/anywhere.eks.amazonaws.com_tinkerbelldatacenterconfigs.yaml"),
    include_str!("../../deploy/crds/anywhere.eks.amazonaws.com_tinkerbellmachineconfigs.yaml"),
    include_str!("../../deploy/crds/anywhere.eks.amazonaws.com_tinkerbelltemplateconfigs.yaml"),
    include_str!("../../deploy/crds/bmc.tinkerbell.org_jobs.yaml"),
    include_str!("../../deploy/crds/bmc.tinkerbell.org_machines.yaml"),
    include_str!("../../deploy/crds/bmc.tinkerbell.org_tasks.yaml"),
    include_str!("../../deploy/crds/tinkerbell.org_hardware.yaml"),
    include_str!("../../deploy/crds/tinkerbell.org_templates.yaml"),
    include_str!("../../deploy/crds/tinkerbell.org_workflowrulesets.yaml"),
    include_str!("../../deploy/crds/tinkerbell.org_workflows.yaml"),
];

/// A number that stands for the content of all definitions: others have another one. It costs next to nothing, while [`crds`]
/// takes tens of milliseconds.
#[must_use]
pub fn crds_digest() -> u64 {
    let mut digest = DefaultHasher::new();
    PUBLISHED.hash(&mut digest);
    digest.finish()
}

/// The definitions of all kinds, in the order in which they are installed.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        movable(v1alpha1::Hardware::crd()),
        v1alpha1::Template::crd(),
        v1alpha1::Workflow::crd(),
        v1alpha1::WorkflowRuleSet::crd(),
        movable(bmc::v1alpha1::Machine::crd()),
        bmc::v1alpha1::Job::crd(),
        bmc::v1alpha1::Task::crd(),
        anywhere::v1alpha1::Cluster::crd(),
        anywhere::v1alpha1::TinkerbellDatacenterConfig::crd(),
        anywhere::v1alpha1::TinkerbellMachineConfig::crd(),
        anywhere::v1alpha1::TinkerbellTemplateConfig::crd(),
    ];
    all.iter_mut().for_each(publish);
    all
}

/// The definitions as files: name and YAML. `cargo run -p xtask -- generate` writes them to `deploy/crds`.
///
/// # Errors
///
/// When a definition cannot be written as YAML, which no released version does.
pub fn crd_files() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    crds()
        .iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((name, format!("# SPDX-License-Identifier: Apache-2.0\n{}", serde_saphyr::to_string(crd)?)))
        })
        .collect()
}

fn movable(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = crd.metadata.labels.get_or_insert_default();
    labels.extend(MOVE_LABELS.map(|key| (key.to_owned(), String::new())));
    crd
}

/// Turns the schema of the Rust types into the published one.
fn publish(crd: &mut CustomResourceDefinition) {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    let versions = crd.spec.versions.iter_mut();
    for root in versions.filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        align(root);
        // An object without a spec is legal; the derive knows only kinds that must have one.
        root.required = None;
        for part in root.properties.iter_mut().flat_map(|all| all.values_mut()) {
            part.default = None;
        }
    }
}

/// Null is pruned like any other unknown value, not a value of its own; and whole numbers are signed.
fn align(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    match schema.format.as_deref() {
        Some("uint64") => schema.format = Some("int64".to_owned()),
        Some("uint32") => schema.format = Some("int32".to_owned()),
        _ => {}
    }
    schema.properties.iter_mut().flat_map(|all| all.values_mut()).for_each(align);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        align(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        align(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_digested_is_what_is_defined() {
        let files = crd_files().unwrap();
        assert_eq!(files.len(), PUBLISHED.len());
        for (name, text) in &files {
            assert!(PUBLISHED.contains(&text.as_str()), "{name}: run cargo run -p xtask -- generate");
        }
    }
}
