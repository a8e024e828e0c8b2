// SPDX-License-Identifier: Apache-2.0

//! Who may do what: the one table of the rights of every daemon.
//!
//! Owns [`TABLE`]. The embedded API server is given it as data, a Kubernetes cluster as RBAC (`deploy/rbac`, generated from here), and people as a page
//! (`deploy/rbac/README.md`, generated too). A daemon that needs more gets a row here, and the end-to-end tests, which run under these rights, show that what
//! is here is enough. Nothing here decides: the API servers do.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::annotations::{DEFAULT_NAMESPACE, SYSTEM_NAMESPACE};
use crate::anywhere::v1alpha1::NAMESPACE as CLUSTERS_NAMESPACE;
use crate::ownership;
use crate::token::SECRET_NAME;

/// The Lease of rufio's controllers. Upstream's name, so that where both are installed only one acts.
pub const RUFIO_LEASE: &str = "e74dec1a.bmc.tinkerbell.org";
/// The Lease of the Workflow controller, upstream's name as well.
pub const TINK_SERVER_LEASE: &str = "tink-controller.tinkerbell.org";
/// The Lease of the one boots that answers, where several run.
pub const BOOTS_LEASE: &str = "boots-dhcp";
/// The Lease of whoever keeps clusters as their objects say.
pub const ORCHESTRATOR_LEASE: &str = "orchestrator.tinkerbell.org";

const TINKERBELL: &str = "tinkerbell.org";
const BMC: &str = "bmc.tinkerbell.org";
const ANYWHERE: &str = "anywhere.eks.amazonaws.com";
const CORE: &str = "";
const COORDINATION: &str = "coordination.k8s.io";

/// A program with an account of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Network boot.
    Boots,
    /// Metadata.
    Hegel,
    /// BMCs.
    Rufio,
    /// Workflows.
    TinkServer,
    /// Clusters.
    Orchestrator,
}

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In every namespace, or in the one that the daemon is confined to (`backend-kube-namespace`).
    Everywhere,
    /// In the namespaces that hold the Secrets of BMCs, never in that of the daemons.
    Machines,
    /// In the namespace of the daemons.
    System,
    /// In the namespace of clusters, with their machines and keys.
    Clusters,
}

/// One row: what somebody may do, where, and what for.
#[derive(Debug)]
pub struct Right {
    /// Who.
    pub component: Component,
    /// Where.
    pub place: Place,
    /// API group of the resources.
    pub group: &'static str,
    /// Resources, with their subresource after a slash.
    pub resources: &'static [&'static str],
    /// Only the objects of these names; all without.
    pub names: &'static [&'static str],
    /// Verbs as Kubernetes has them.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

use Component::{Boots, Hegel, Orchestrator, Rufio, TinkServer};
use Place::{Clusters, Everywhere, Machines, System};

/// The table. Creation cannot be narrowed to a name: the name is not known when the request is judged.
#[rustfmt::skip]
pub const TABLE: &[Right] = &[
    row(Boots, Everywhere, TINKERBELL, &["hardware", "workflows"], &["list", "watch"], "whom to answer, and which Workflow a boot is for"),
    named(Boots, System, CORE, &["configmaps"], &[ownership::NAME], &["list", "watch"], "whether this API server owns the machines"),
    row(Boots, Everywhere, CORE, &["events"], &["create", "get", "patch"], "what each boot came to"),
    named(Boots, System, CORE, &["secrets"], &[SECRET_NAME], &["get"], "the key that agent tokens are minted with"),
    row(Boots, System, COORDINATION, &["leases"], &["create"], "leader election"),
    named(Boots, System, COORDINATION, &["leases"], &[BOOTS_LEASE], &["get", "update"], "leader election"),

    row(Hegel, Everywhere, TINKERBELL, &["hardware"], &["list", "watch"], "what machines are told about themselves"),
    named(Hegel, System, CORE, &["configmaps"], &[ownership::NAME], &["list", "watch"], "whether this API server owns the machines"),
    row(Hegel, Everywhere, CORE, &["events"], &["create", "get", "patch"], "that a machine asked"),

    row(Rufio, Everywhere, BMC, &["machines", "jobs", "tasks"], &["get", "list", "watch"], "what is to be done"),
    row(Rufio, Everywhere, BMC, &["machines/status", "jobs/status", "tasks/status"], &["patch"], "what came of it"),
    row(Rufio, Everywhere, BMC, &["tasks"], &["create", "delete"], "the Tasks of a Job"),
    row(Rufio, Everywhere, TINKERBELL, &["hardware"], &["list", "watch"], "which Hardware to tell about a BMC"),
    row(Rufio, Everywhere, CORE, &["events"], &["create", "get", "patch"], "power and boot device"),
    row(Rufio, Machines, CORE, &["secrets"], &["get"], "user and password of a BMC; no list, so that a name must be known"),
    named(Rufio, System, CORE, &["configmaps"], &[ownership::NAME], &["list", "watch"], "whether this API server owns the machines"),
    row(Rufio, System, COORDINATION, &["leases"], &["create"], "leader election"),
    named(Rufio, System, COORDINATION, &["leases"], &[RUFIO_LEASE], &["get", "update"], "leader election"),

    row(TinkServer, Everywhere, TINKERBELL, &["workflows"], &["get", "list", "watch", "patch"], "what is to be done; the inventory of the agent as an annotation"),
    row(TinkServer, Everywhere, TINKERBELL, &["workflows/status"], &["patch"], "what came of it"),
    row(TinkServer, Everywhere, TINKERBELL, &["templates"], &["get", "list", "watch"], "rendering"),
    row(TinkServer, Everywhere, TINKERBELL, &["hardware"], &["get", "list", "watch", "update", "patch"], "rendering; the network-boot switch and the inventory"),
    row(TinkServer, Everywhere, BMC, &["jobs"], &["get", "list", "watch", "create", "delete"], "booting the machine of a Workflow"),
    row(TinkServer, Everywhere, CORE, &["events"], &["create", "get", "patch"], "progress of Workflows"),
    named(TinkServer, System, CORE, &["secrets"], &[SECRET_NAME], &["get"], "the key that agent tokens are checked with"),
    row(TinkServer, System, CORE, &["secrets"], &["create"], "that key, once"),
    named(TinkServer, System, CORE, &["configmaps"], &[ownership::NAME], &["list", "watch"], "whether this API server owns the machines"),
    row(TinkServer, System, COORDINATION, &["leases"], &["create"], "leader election"),
    named(TinkServer, System, COORDINATION, &["leases"], &[TINK_SERVER_LEASE], &["get", "update"], "leader election"),

    row(Orchestrator, Everywhere, CORE, &["nodes"], &["list"], "whether a cluster would take itself apart"),
    row(Orchestrator, Clusters, ANYWHERE, &["clusters"], &["get", "list", "watch", "patch"], "what is to be; the mark that it is gone"),
    row(Orchestrator, Clusters, ANYWHERE, &["clusters/status"], &["patch"], "how far it is"),
    row(Orchestrator, Clusters, ANYWHERE, &["tinkerbelldatacenterconfigs", "tinkerbellmachineconfigs", "tinkerbelltemplateconfigs"], &["get", "list", "delete"], "what clusters consist of"),
    row(Orchestrator, Clusters, TINKERBELL, &["hardware"], &["get", "list", "watch", "patch"], "which machines there are; claims"),
    row(Orchestrator, Clusters, TINKERBELL, &["templates", "workflows"], &["get", "create", "delete"], "installations"),
    row(Orchestrator, Clusters, BMC, &["jobs"], &["get", "create", "delete"], "switching machines off"),
    row(Orchestrator, Clusters, CORE, &["secrets"], &["get", "list", "create", "delete"], "keys of clusters, and the tokens of their machines"),
    row(Orchestrator, Clusters, CORE, &["configmaps"], &["get", "list", "create", "update", "delete"], "what was done with which machine"),
    named(Orchestrator, System, CORE, &["configmaps"], &[ownership::NAME], &["list", "watch"], "whether this API server owns the machines"),
    row(Orchestrator, System, COORDINATION, &["leases"], &["create"], "leader election"),
    named(Orchestrator, System, COORDINATION, &["leases"], &[ORCHESTRATOR_LEASE], &["get", "update"], "leader election"),
];

const fn row(
    component: Component,
    place: Place,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { component, place, group, resources, names: &[], verbs, why }
}

#[expect(clippy::too_many_arguments, reason = "a row of the table, which has as many columns")]
const fn named(
    component: Component,
    place: Place,
    group: &'static str,
    resources: &'static [&'static str],
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { component, place, group, resources, names, verbs, why }
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] = [Boots, Hegel, Rufio, TinkServer, Orchestrator];

    /// Name of the daemon, and of its service account.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Boots => "boots",
            Hegel => "hegel",
            Rufio => "rufio",
            TinkServer => "tink-server",
            Orchestrator => "orchestrator",
        }
    }

    /// Name of its user, as Kubernetes calls the bearer of a service account's token.
    #[must_use]
    pub fn user(self) -> String {
        format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", self.name())
    }

    /// Its rights in a kind of place, as rules of the API.
    #[must_use]
    pub fn rules(self, place: Place) -> Vec<PolicyRule> {
        TABLE
            .iter()
            .filter(|right| right.component == self && right.place == place)
            .map(Right::rule)
            .collect()
    }

    fn subject(self) -> Subject {
        Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: self.name().to_owned(),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        }
    }

    /// Name of the role with its rights in a kind of place.
    fn role(self, place: Place) -> String {
        match place {
            Everywhere | System | Clusters => format!("tinkerbell:{}", self.name()),
            Machines => format!("tinkerbell:{}:bmc-secrets", self.name()),
        }
    }
}

impl Right {
    fn rule(&self) -> PolicyRule {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![self.group.to_owned()]),
            resources: Some(list(self.resources)),
            resource_names: (!self.names.is_empty()).then(|| list(self.names)),
            verbs: list(self.verbs),
            non_resource_urls: None,
        }
    }
}

/// Where the daemons' rights hold on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All namespaces: the daemons' default.
    AllNamespaces,
    /// One namespace: daemons that run with `backend-kube-namespace`.
    OneNamespace,
}

/// What a cluster needs before the daemons run in it, besides the resource definitions: namespaces, accounts, roles, bindings; as JSON objects, in the order
/// in which they are applied.
///
/// # Errors
/// When an object has no JSON form, which no released version has.
pub fn rbac(reach: Reach) -> Result<Vec<serde_json::Value>, serde_json::Error> {
    let mut all = roles()?;
    all.extend(bindings(reach)?);
    Ok(all)
}

/// [`rbac`] as files for `deploy/rbac`, and the table as a page for people: names and contents.
///
/// # Errors
/// When an object cannot be written as YAML, which no released version has.
pub fn rbac_files() -> Result<Vec<(String, String)>, AccessError> {
    let parts = [
        ("roles.yaml", roles()?),
        ("all-namespaces.yaml", bindings(Reach::AllNamespaces)?),
        ("one-namespace.yaml", bindings(Reach::OneNamespace)?),
    ];
    let mut files = vec![("README.md".to_owned(), page())];
    for (name, objects) in parts {
        let mut text = "# SPDX-License-Identifier: Apache-2.0\n".to_owned();
        for object in objects {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&object)?);
        }
        files.push((name.to_owned(), text));
    }
    Ok(files)
}

/// Why the files could not be made; a programming mistake.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No JSON form.
    #[error("an object has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// No YAML form.
    #[error("an object has no YAML form: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

/// A binding of a ClusterRole in one namespace.
fn bound(component: Component, place: Place, namespace: &str) -> RoleBinding {
    let name = component.role(place);
    let role_ref = role_ref("ClusterRole", &name);
    RoleBinding {
        metadata: metadata(&name, Some(namespace)),
        role_ref,
        subjects: Some(vec![component.subject()]),
    }
}

fn roles() -> Result<Vec<serde_json::Value>, serde_json::Error> {
    let mut all = Objects::default();
    for name in [DEFAULT_NAMESPACE, SYSTEM_NAMESPACE, CLUSTERS_NAMESPACE] {
        all.add(&Namespace { metadata: metadata(name, None), ..Namespace::default() })?;
    }
    for component in Component::ALL {
        let account = metadata(component.name(), Some(SYSTEM_NAMESPACE));
        all.add(&ServiceAccount { metadata: account, ..ServiceAccount::default() })?;
        for place in [Everywhere, Machines] {
            let rules = component.rules(place);
            if !rules.is_empty() {
                let metadata = metadata(&component.role(place), None);
                all.add(&ClusterRole { metadata, rules: Some(rules), ..ClusterRole::default() })?;
            }
        }
        for (place, namespace) in [(System, SYSTEM_NAMESPACE), (Clusters, CLUSTERS_NAMESPACE)] {
            let rules = component.rules(place);
            if !rules.is_empty() {
                let name = component.role(place);
                let metadata = metadata(&name, Some(namespace));
                all.add(&Role { metadata: metadata.clone(), rules: Some(rules) })?;
                let subjects = Some(vec![component.subject()]);
                all.add(&RoleBinding { metadata, role_ref: role_ref("Role", &name), subjects })?;
            }
        }
        if !component.rules(Machines).is_empty() {
            for namespace in [DEFAULT_NAMESPACE, CLUSTERS_NAMESPACE] {
                all.add(&bound(component, Machines, namespace))?;
            }
        }
    }
    Ok(all.0)
}

fn bindings(reach: Reach) -> Result<Vec<serde_json::Value>, serde_json::Error> {
    let mut all = Objects::default();
    for component in Component::ALL {
        let name = component.role(Everywhere);
        if component.rules(Everywhere).is_empty() {
            continue;
        }
        match reach {
            Reach::OneNamespace => all.add(&bound(component, Everywhere, DEFAULT_NAMESPACE))?,
            Reach::AllNamespaces => all.add(&ClusterRoleBinding {
                metadata: metadata(&name, None),
                role_ref: role_ref("ClusterRole", &name),
                subjects: Some(vec![component.subject()]),
            })?,
        }
    }
    Ok(all.0)
}

#[derive(Default)]
struct Objects(Vec<serde_json::Value>);

impl Objects {
    fn add(&mut self, object: &impl Serialize) -> Result<(), serde_json::Error> {
        self.0.push(serde_json::to_value(object)?);
        Ok(())
    }
}

/// The table in Markdown.
fn page() -> String {
    let mut text = format!(
        "# Who may do what\n\n\
         Generated by `./x generate` from `api/src/access.rs`; the embedded API server enforces the same table.\n\n\
         `tink setup` applies all of this and the resource definitions to the cluster of a kubeconfig. By hand: `../crds`, then\n\
         `roles.yaml`, then `all-namespaces.yaml`, or `one-namespace.yaml` for daemons that run with\n\
         `--backend-kube-namespace={DEFAULT_NAMESPACE}`. The daemons run in the namespace `{SYSTEM_NAMESPACE}` under the service account of\n\
         their name. Secrets of BMCs in a further namespace need a RoleBinding to `{}` there.\n\n\
         Places: *everywhere* is every namespace, or the one that the daemon is confined to; *machines* are the namespaces with the\n\
         Secrets of BMCs, never `{SYSTEM_NAMESPACE}`; *system* is `{SYSTEM_NAMESPACE}`; *clusters* is `{CLUSTERS_NAMESPACE}`.\n\n\
         | Who | Where | API group | Resources | Only | Verbs | What for |\n|---|---|---|---|---|---|---|\n",
        Rufio.role(Machines)
    );
    for right in TABLE {
        let place = match right.place {
            Everywhere => "everywhere",
            Machines => "machines",
            System => "system",
            Clusters => "clusters",
        };
        let group = if right.group.is_empty() { "core" } else { right.group };
        let (resources, names, verbs) =
            (right.resources.join(", "), right.names.join(", "), right.verbs.join(", "));
        let who = right.component.name();
        // Writing into a String does not fail.
        let _: std::fmt::Result =
            writeln!(text, "| {who} | {place} | {group} | {resources} | {names} | {verbs} | {} |", right.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_listed_by_the_keeper_of_clusters_alone_and_only_two_read_the_token_key() {
        for right in TABLE.iter().filter(|right| right.resources.contains(&"secrets")) {
            let keeper = right.component == Orchestrator && right.place == Clusters;
            let lists = right.verbs.iter().any(|verb| ["list", "watch", "*"].contains(verb));
            assert!(!lists || keeper, "{right:?}");
            let reads_any = right.verbs.contains(&"get") && right.names.is_empty();
            assert!(!reads_any || right.place == Machines || keeper, "{right:?}");
        }
        let key =
            |right: &&Right| right.place == System && right.verbs.contains(&"get") && right.group.is_empty();
        let readers: Vec<_> = TABLE.iter().filter(key).map(|right| right.component).collect();
        assert_eq!(readers, [Boots, TinkServer]);
    }

    #[test]
    fn the_files_are_what_a_cluster_takes() {
        let objects = rbac(Reach::AllNamespaces).unwrap();
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        for kind in
            ["Namespace", "ServiceAccount", "ClusterRole", "Role", "RoleBinding", "ClusterRoleBinding"]
        {
            assert!(kinds.contains(&kind), "{kind}");
        }
        assert!(objects.iter().all(|object| object["apiVersion"].is_string()));
        let one = rbac(Reach::OneNamespace).unwrap();
        assert!(one.iter().all(|object| object["kind"] != "ClusterRoleBinding"));
    }
}
