// SPDX-License-Identifier: Apache-2.0

//! The cluster file: one Cluster and what it refers to, in one YAML file of several documents.
//!
//! Owns the reading of that file with the place of every field ([`read`]), the references between its documents, and the file
//! that a person begins with ([`generate()`]). What the values mean is judged by [`crate::check`]. Pure.

mod generate;
mod reference;

use std::sync::LazyLock;

use api::anywhere::v1alpha1::{
    Cluster, GROUP, TinkerbellDatacenterConfig, TinkerbellMachineConfig, TinkerbellTemplateConfig,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::ResourceExt;
use manifest::{Definition, Document};
use serde::de::DeserializeOwned;

pub use generate::{DEFAULT_KUBERNETES, PLACEHOLDER_KEY, generate};
pub(crate) use generate::{NAME_RULE, name_problem};

use crate::finding::{Finding, Findings, Place, Severity};

/// Kinds of the same group that a cluster file may hold and that nothing here acts on yet.
const KEPT: [&str; 4] = ["GitOpsConfig", "FluxConfig", "OIDCConfig", "AWSIamConfig"];
/// How the kinds of EKS Anywhere's other providers begin.
const OTHER_PROVIDERS: [&str; 5] = ["VSphere", "Docker", "CloudStack", "Nutanix", "Snow"];

/// An object with the document that it was read from.
#[derive(Debug)]
pub struct Sourced<T> {
    /// The object.
    pub value: T,
    document: Document,
}

/// What a cluster file says.
#[derive(Debug)]
pub struct ClusterFile {
    /// The file, as the user named it.
    pub file: String,
    /// The cluster.
    pub cluster: Sourced<Cluster>,
    /// Its site; none when the file lacks it, which was told.
    pub datacenter: Option<Sourced<TinkerbellDatacenterConfig>>,
    /// Configurations of machines.
    pub machine_configs: Vec<Sourced<TinkerbellMachineConfig>>,
    /// Templates that take the place of the built-in ones.
    pub templates: Vec<Sourced<TinkerbellTemplateConfig>>,
}

impl<T> Sourced<T> {
    /// The place of a field, or of what would hold it.
    #[must_use]
    pub fn place(&self, field: &str) -> Place {
        let found = self.document.finding(field, "");
        Place { file: found.file, line: found.line, field: found.field }
    }
}

impl<T: ResourceExt> Sourced<T> {
    /// The name of the object; empty when it has none, which was told.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value.meta().name.as_deref().unwrap_or_default()
    }
}

impl ClusterFile {
    /// The configuration of this name.
    #[must_use]
    pub fn machine_config(&self, name: &str) -> Option<&Sourced<TinkerbellMachineConfig>> {
        self.machine_configs.iter().find(|one| one.name() == name)
    }

    /// The template of this name.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<&Sourced<TinkerbellTemplateConfig>> {
        self.templates.iter().find(|one| one.name() == name)
    }
}

/// Reads a cluster file. What is wrong goes into `findings`; whatever can be read is returned all the same, with wrong values left
/// out, so that every other mistake can be told too. Nothing is returned when there is not exactly one Cluster.
#[must_use]
pub fn read(file: &str, text: &str, findings: &mut Findings) -> Option<ClusterFile> {
    let (mut documents, mut broken) = (Vec::new(), Vec::new());
    manifest::parse(file, text, &mut documents, &mut broken);
    findings.extend(broken.into_iter().map(|found| told("yaml-syntax", found)));
    if documents.is_empty() && findings.as_slice().is_empty() {
        let fix = "`tink cluster generate NAME` prints one to begin with";
        findings.error("cluster-file-empty", Place::new(file, 0, ""), "there is nothing in it", fix);
        return None;
    }
    let mut parts = Parts::default();
    for document in documents {
        parts.take(document, findings);
    }
    parts.assemble(file, findings)
}

/// What was found so far.
#[derive(Default)]
struct Parts {
    clusters: Vec<Sourced<Cluster>>,
    datacenters: Vec<Sourced<TinkerbellDatacenterConfig>>,
    machine_configs: Vec<Sourced<TinkerbellMachineConfig>>,
    templates: Vec<Sourced<TinkerbellTemplateConfig>>,
}

impl Parts {
    fn take(&mut self, document: Document, findings: &mut Findings) {
        let Some(kind) = kind_of(&document, findings) else { return };
        match kind.as_str() {
            "Cluster" => self.clusters.extend(sourced(document, &kind, findings)),
            "TinkerbellDatacenterConfig" => self.datacenters.extend(sourced(document, &kind, findings)),
            "TinkerbellMachineConfig" => self.machine_configs.extend(sourced(document, &kind, findings)),
            "TinkerbellTemplateConfig" => self.templates.extend(sourced(document, &kind, findings)),
            _ => {}
        }
    }

    fn assemble(mut self, file: &str, findings: &mut Findings) -> Option<ClusterFile> {
        repeated(&self.datacenters, findings);
        repeated(&self.machine_configs, findings);
        repeated(&self.templates, findings);
        let mut clusters = std::mem::take(&mut self.clusters).into_iter();
        let Some(cluster) = clusters.next() else {
            let what = "there is no Cluster in it";
            let fix = "add one; `tink cluster generate NAME` prints an example";
            findings.error("no-cluster", Place::new(file, 0, ""), what, fix);
            return None;
        };
        let mut several = false;
        for other in clusters {
            several = true;
            let what = format!("a second Cluster, {:?}, beside {:?}", other.name(), cluster.name());
            findings.error(
                "several-clusters",
                other.place("kind"),
                what,
                "write each cluster into a file of its own",
            );
        }
        if several {
            return None;
        }
        let datacenter = reference::datacenter(&cluster, self.datacenters, file, findings);
        let file = ClusterFile {
            file: file.to_owned(),
            cluster,
            datacenter,
            machine_configs: self.machine_configs,
            templates: self.templates,
        };
        reference::check(&file, findings);
        Some(file)
    }
}

/// The kind of a document, when it is one of those that are read here.
fn kind_of(document: &Document, findings: &mut Findings) -> Option<String> {
    let (api_version, kind) = (document.root.text("apiVersion"), document.root.text("kind"));
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        let what = "apiVersion and kind are needed to know what this is";
        let fix = format!("write apiVersion: {GROUP}/v1alpha1 and a kind, or remove the document");
        findings.error("no-kind", place(document, ""), what, fix);
        return None;
    };
    let kinds: Vec<_> = SCHEMAS.iter().map(|(kind, _)| kind.as_str()).collect();
    let version = api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/'));
    let same_group = version.is_some();
    if version.is_some_and(|version| version != "v1alpha1") {
        let fix = format!("write {GROUP}/v1alpha1");
        findings.error(
            "unknown-version",
            place(document, "apiVersion"),
            format!("{api_version:?} is not known"),
            fix,
        );
        return None;
    }
    if same_group && kinds.contains(&kind) {
        return Some(kind.to_owned());
    }
    let place = place(document, "kind");
    if same_group && KEPT.contains(&kind) {
        let fix = "remove it, or set that up when the cluster is there";
        findings.warning("kind-not-used", place, format!("{kind} is not acted on yet"), fix);
    } else if same_group && OTHER_PROVIDERS.iter().any(|prefix| kind.starts_with(prefix)) {
        let fix =
            "machines are bare metal so far: use TinkerbellDatacenterConfig and TinkerbellMachineConfig";
        findings.error("other-provider", place, format!("{kind} is of another provider"), fix);
    } else {
        let fix = match manifest::nearest(kind, kinds.iter().copied()) {
            Some(near) => format!("write {near} in {GROUP}/v1alpha1, if that is meant"),
            None => format!("a cluster file holds {}", kinds.join(", ")),
        };
        findings.error(
            "unknown-kind",
            place,
            format!("{kind} in {api_version} is no part of a cluster file"),
            fix,
        );
    }
    None
}

/// The kinds of a cluster file with their schemas, made once: that takes longer than reading a file.
static SCHEMAS: LazyLock<Vec<(String, JSONSchemaProps)>> = LazyLock::new(|| {
    let ours = api::crds().into_iter().filter(|crd| crd.spec.group == GROUP);
    let schema = |crd: CustomResourceDefinition| {
        let version = crd.spec.versions.into_iter().next()?;
        Some((crd.spec.names.kind, version.schema?.open_api_v3_schema?))
    };
    ours.filter_map(schema).collect()
});

/// Checks a document against the schema of its kind and reads what of it fits.
fn sourced<T: DeserializeOwned>(
    document: Document,
    kind: &str,
    findings: &mut Findings,
) -> Option<Sourced<T>> {
    let (_, schema) = SCHEMAS.iter().find(|(name, _)| name == kind)?;
    let wrong = manifest::check(&document, Definition { kind, schema: Some(schema) });
    findings.extend(wrong.into_iter().map(|found| told("schema", found)));
    let mut value = manifest::repaired(&document.root, schema);
    // The schema of a kind says nothing of metadata.
    let metadata = document.root.get("metadata").map(|metadata| metadata.to_json());
    let metadata = metadata
        .filter(|metadata| serde_json::from_value::<kube::core::ObjectMeta>(metadata.clone()).is_ok());
    if let Some(root) = value.as_object_mut() {
        root.insert("metadata".to_owned(), metadata.unwrap_or_else(|| serde_json::json!({})));
    }
    match serde_json::from_value(value) {
        Ok(value) => Some(Sourced { value, document }),
        Err(error) => {
            let fix = "write the value in the form that `tink cluster generate` shows";
            findings.error("schema", place(&document, ""), error.to_string(), fix);
            None
        }
    }
}

fn repeated<T: ResourceExt>(all: &[Sourced<T>], findings: &mut Findings) {
    for (number, one) in all.iter().enumerate() {
        let earlier =
            all.iter().take(number).any(|other| other.name() == one.name() && !one.name().is_empty());
        if earlier {
            let what = format!("{:?} is there twice", one.name());
            findings.error(
                "repeated-name",
                one.place("metadata.name"),
                what,
                "rename or remove one of the two",
            );
        }
    }
}

fn place(document: &Document, field: &str) -> Place {
    let found = document.finding(field, "");
    Place { file: found.file, line: found.line, field: found.field }
}

/// A mistake of the reader as a finding: what comes after the first semicolon is what would be right.
fn told(code: &'static str, found: manifest::Finding) -> Finding {
    let (what, fix) = match found.problem.split_once("; ") {
        Some((what, fix)) => (what.to_owned(), fix.to_owned()),
        None if found.problem == "is missing" => (found.problem, "add it".to_owned()),
        None => (found.problem, "correct it; `tink cluster generate` shows the form".to_owned()),
    };
    let place = Place { file: found.file, line: found.line, field: found.field };
    Finding { severity: Severity::Error, code, place, what, fix }
}

#[cfg(test)]
mod tests;
