// SPDX-License-Identifier: Apache-2.0

//! What a machine is told at its first start so that it becomes a node: cloud-init's user data around kubeadm's configuration.
//!
//! Owns the files and commands of a node. Pure: the same [`Node`] gives the same text. What is in it may be read by whoever can
//! ask the metadata service from the machine's address, so a worker's holds no key of an authority.

mod kubeadm;
mod registry;
mod stack;
mod vip;

use std::collections::BTreeMap;

use api::anywhere::v1alpha1::{ClusterSpec, HostOsConfiguration, TinkerbellMachineConfigSpec, User};
use daemon::Secret;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    pki::{Pki, PkiError},
    syntax::Minor,
    token::Token,
};

pub use vip::KUBE_VIP_IMAGE;

/// Where the configuration of kubeadm lies until the node is up.
const CONFIG: &str = "/etc/kubernetes/tink/kubeadm.yaml";
/// The script that makes a node.
const SCRIPT: &str = "/etc/kubernetes/tink/bootstrap.sh";
/// The last phase of `kubeadm init` asks through the cluster's address, each question for ten seconds and once, while a slow control
/// plane still starts and the address may move: it is a step of its own that is repeated.
const INIT: &str = "kubeadm init --config $config --skip-phases=addon
tries=0
until kubeadm init phase addon all --config $config; do
  tries=$((tries + 1))
  [ $tries -lt 30 ] || exit 1
  sleep 10
done
";
const JOIN: &str = "kubeadm join --config $config\n";
/// A worker that does not come in at once, for want of an image or of an answer, begins anew. What a member of the control plane was
/// given to sign with would be gone after that.
const JOIN_AGAIN: &str = "tries=0
until kubeadm join --config $config; do
  tries=$((tries + 1))
  [ $tries -lt 5 ] || exit 1
  kubeadm reset --force || true
  sleep 15
done
";
/// Patches of what kubeadm writes.
const PATCHES: &str = "/etc/kubernetes/tink/patches";
/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// In the configuration, the version of Kubernetes that only the image knows.
const IMAGE_VERSION: &str = "KUBERNETES_VERSION";

/// How a machine becomes a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// It makes the cluster.
    Init,
    /// It joins the control plane.
    JoinControlPlane,
    /// It joins as a worker.
    JoinWorker,
}

/// What is the same for all nodes of a cluster.
#[derive(Clone)]
pub struct Settings<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// The cluster.
    pub spec: &'a ClusterSpec,
    /// The address of the provisioner in the final cluster.
    pub provisioner: Option<&'a str>,
    /// Its address while the cluster is made.
    pub bootstrap: Option<&'a str>,
    /// URL of a docker-archive with the image of the daemons, for nodes that cannot pull it.
    pub stack_image: Option<&'a str>,
    /// Its certificates and keys.
    pub pki: &'a Pki,
}

/// One machine that is to be a node.
#[derive(Clone)]
pub struct Node<'a> {
    /// How.
    pub entry: Entry,
    /// Its name.
    pub name: &'a str,
    /// Name of its worker group; none for the control plane.
    pub group: Option<&'a str>,
    /// How its provider calls it: `spec.providerID`.
    pub identity: &'a str,
    /// Its configuration.
    pub config: &'a TinkerbellMachineConfigSpec,
    /// What lets it in.
    pub token: &'a Token,
}

/// Why there is no user data. Not retried: the cluster's objects have to be put right.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The cluster does not say something that is needed.
    #[error("the Cluster has no {0}")]
    Missing(&'static str),
    /// The version of Kubernetes is none, or is too old.
    #[error("spec.kubernetesVersion {0:?} is not 1.31 or later")]
    Version(String),
    /// A key or certificate is no use.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// It cannot be written as YAML.
    #[error("user data cannot be written: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// The user data of a machine.
///
/// # Errors
///
/// See [`NodeError`].
pub fn user_data(settings: &Settings<'_>, node: &Node<'_>) -> Result<Secret<String>, NodeError> {
    let mut files = Files::default();
    if node.entry != Entry::JoinWorker {
        files.certificates(settings.pki);
    }
    kubeadm::files(settings, node, &mut files)?;
    vip::files(settings, node, &mut files)?;
    registry::files(settings, &mut files)?;
    files.add(SCRIPT, "0700", &script(settings, node)?);

    let mut config = Map::new();
    let mut set = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
    set("hostname", json!(node.name));
    set("preserve_hostname", json!(false));
    set("users", users(&node.config.users));
    if let Some(host) = &node.config.host_os_configuration {
        host_settings(host, &mut set);
    }
    set("write_files", Value::Array(files.0));
    set("runcmd", json!([[SCRIPT]]));
    Ok(Secret::new(format!("#cloud-config\n{}", serde_saphyr::to_string(&Value::Object(config))?)))
}

/// Files that are written before anything is started.
#[derive(Default)]
struct Files(Vec<Value>);

impl Files {
    fn add(&mut self, path: &str, mode: &str, content: &str) {
        self.0.push(json!({ "path": path, "owner": "root:root", "permissions": mode, "content": content }));
    }

    /// Everything that the control plane signs with, as kubeadm looks for it: it makes what is not there.
    fn certificates(&mut self, pki: &Pki) {
        let pairs = [
            ("ca", "crt", &pki.kubernetes),
            ("etcd/ca", "crt", &pki.etcd),
            ("front-proxy-ca", "crt", &pki.front_proxy),
            ("sa", "pub", &pki.accounts),
        ];
        for (name, ending, pair) in pairs {
            self.add(&format!("/etc/kubernetes/pki/{name}.{ending}"), "0640", &pair.public);
            self.add(&format!("/etc/kubernetes/pki/{name}.key"), "0600", pair.key.expose());
        }
    }
}

fn users(users: &[User]) -> Value {
    let one = |user: &User| {
        json!({
            "name": user.name,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "shell": "/bin/bash",
            "lock_passwd": true,
            "ssh_authorized_keys": user.ssh_authorized_keys,
        })
    };
    users.iter().map(one).collect()
}

fn host_settings(host: &HostOsConfiguration, set: &mut impl FnMut(&str, Value)) {
    if let Some(ntp) = &host.ntp_configuration {
        set("ntp", json!({ "enabled": true, "servers": ntp.servers }));
    }
    if !host.cert_bundles.is_empty() {
        let trusted: Vec<_> = host.cert_bundles.iter().map(|bundle| bundle.data.as_str()).collect();
        set("ca_certs", json!({ "trusted": trusted }));
    }
}

/// What is run last. kubeadm says what went wrong in cloud-init's log; a node that does not come up is noticed by the one who
/// waits for it.
fn script(settings: &Settings<'_>, node: &Node<'_>) -> Result<String, NodeError> {
    let minor = version(settings, node)?;
    let (start, after) = match node.entry {
        Entry::Init => (INIT, vip::AFTER_INIT),
        Entry::JoinControlPlane => (JOIN, ""),
        Entry::JoinWorker => (JOIN_AGAIN, ""),
    };
    Ok(format!(
        "#!/bin/sh
set -eu
[ ! -e /etc/kubernetes/kubelet.conf ] || exit 0
version=$(kubeadm version -o short)
case $version in
v{minor}.*) ;;
*) echo \"the image has Kubernetes $version, and this node is to have {minor}\" >&2; exit 1 ;;
esac
sed -i \"s/{IMAGE_VERSION}/$version/\" {CONFIG}
config={CONFIG}
{}{start}{after}rm -f {CONFIG}
{}",
        registry::COMMANDS,
        stack::commands(settings, node),
    ))
}

/// The version of a node: that of its group, else of the cluster.
fn version(settings: &Settings<'_>, node: &Node<'_>) -> Result<Minor, NodeError> {
    let groups = &settings.spec.worker_node_group_configurations;
    let group = groups.iter().find(|group| group.name.as_deref() == node.group);
    let own = group.and_then(|group| group.kubernetes_version.as_deref());
    let text = own.or(settings.spec.kubernetes_version.as_deref());
    let text = text.ok_or(NodeError::Missing("spec.kubernetesVersion"))?;
    // kubeadm's v1beta4 is there from 1.31 on.
    Minor::parse(text).filter(|minor| minor.0 >= 31).ok_or_else(|| NodeError::Version(text.to_owned()))
}

/// Labels, taints and kubelet settings that the cluster has for a node.
struct Shape<'a> {
    labels: &'a BTreeMap<String, String>,
    /// None = what kubeadm gives by itself.
    taints: Option<Vec<Taint>>,
    kubelet: &'a BTreeMap<String, Value>,
}

fn shape<'a>(settings: &Settings<'a>, node: &Node<'_>) -> Result<Shape<'a>, NodeError> {
    let spec = settings.spec;
    if let Some(group) = node.group {
        let groups = &spec.worker_node_group_configurations;
        let found = groups.iter().find(|one| one.name.as_deref() == Some(group));
        let found = found.ok_or(NodeError::Missing("worker group of that name"))?;
        let taints = Some(found.taints.clone());
        return Ok(Shape { labels: &found.labels, taints, kubelet: &found.kubelet_configuration });
    }
    let control_plane = spec
        .control_plane_configuration
        .as_ref()
        .ok_or(NodeError::Missing("spec.controlPlaneConfiguration"))?;
    let alone = spec.worker_node_group_configurations.is_empty();
    // Without workers the control plane runs the pods.
    let taints = control_plane.taints.clone().or_else(|| alone.then(Vec::new));
    Ok(Shape { labels: &control_plane.labels, taints, kubelet: &control_plane.kubelet_configuration })
}

/// Host of the API server.
fn endpoint<'a>(settings: &Settings<'a>) -> Result<&'a str, NodeError> {
    let control_plane = settings.spec.control_plane_configuration.as_ref();
    let host = control_plane.and_then(|one| one.endpoint.as_ref()).map(|endpoint| endpoint.host.as_str());
    host.filter(|host| !host.is_empty())
        .ok_or(NodeError::Missing("spec.controlPlaneConfiguration.endpoint.host"))
}

#[cfg(test)]
mod tests;
