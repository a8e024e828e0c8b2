// SPDX-License-Identifier: Apache-2.0

//! How a node's container runtime reaches images: through a mirror of registries, through a proxy.

use std::fmt::Write as _;

use api::anywhere::v1alpha1::{ProxyConfiguration, RegistryMirrorConfiguration};

use super::{Files, NodeError, Settings, endpoint};

const HOSTS: &str = "/etc/containerd/certs.d";
const AUTHORITY: &str = "/etc/containerd/certs.d/mirror-ca.crt";
const PROXY: &str = "/etc/systemd/system/containerd.service.d/http-proxy.conf";
/// The registry that a mirror without `ociNamespaces` stands for: that of EKS Anywhere.
const DEFAULT_REGISTRY: &str = "public.ecr.aws";
/// The registry of kubeadm's own images, which a mirror of everything must have.
const KUBEADM_REGISTRY: &str = "registry.k8s.io";
/// That of [`super::KUBE_VIP_IMAGE`].
const VIP_REGISTRY: &str = "ghcr.io";

/// Puts the files into effect. Where containerd's own file names a folder of hosts, it stays; a table that is there twice would keep
/// it from starting, and its name depends on the version of the file.
pub(super) const COMMANDS: &str = r##"if [ -d /etc/containerd/certs.d ]; then
  conf=/etc/containerd/config.toml
  if grep -Eq '^ *config_path *=' $conf; then
    sed -i -E "s#^( *config_path *= *)(\"\"|'')#\1\"/etc/containerd/certs.d\"#" $conf
  else
    plugin=io.containerd.grpc.v1.cri
    if grep -Eq '^ *version *= *3' $conf; then plugin=io.containerd.cri.v1.images; fi
    printf '\n[plugins."%s".registry]\n  config_path = "/etc/containerd/certs.d"\n' $plugin >> $conf
  fi
fi
if [ -d /etc/containerd/certs.d ] || [ -e /etc/systemd/system/containerd.service.d/http-proxy.conf ]; then
  systemctl daemon-reload
  systemctl restart containerd
fi
"##;

pub(super) fn files(settings: &Settings<'_>, files: &mut Files) -> Result<(), NodeError> {
    if let Some(mirror) = &settings.spec.registry_mirror_configuration {
        mirrored(mirror, files);
    }
    if let Some(proxy) = &settings.spec.proxy_configuration {
        files.add(PROXY, "0640", &proxied(settings, proxy)?);
    }
    Ok(())
}

fn mirrored(mirror: &RegistryMirrorConfiguration, files: &mut Files) {
    let host = mirror.endpoint.as_deref().unwrap_or_default();
    let port = mirror.port.as_deref().unwrap_or("443");
    let skip = mirror.insecure_skip_verify.unwrap_or(false);
    let mut add = |registry: &str, namespace: &str| {
        let path = if namespace.is_empty() { String::new() } else { format!("/v2/{namespace}") };
        let mut hosts = format!(
            "server = \"https://{registry}\"\n\n[host.\"https://{host}:{port}{path}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        if !path.is_empty() {
            hosts.push_str("  override_path = true\n");
        }
        if mirror.ca_cert_content.is_some() {
            // Writing to a String cannot fail.
            writeln!(hosts, "  ca = \"{AUTHORITY}\"").unwrap_or_default();
        }
        if skip {
            hosts.push_str("  skip_verify = true\n");
        }
        files.add(&format!("{HOSTS}/{registry}/hosts.toml"), "0644", &hosts);
    };
    for one in &mirror.oci_namespaces {
        add(&one.registry, &one.namespace);
    }
    if mirror.oci_namespaces.is_empty() {
        add(DEFAULT_REGISTRY, "");
        add(KUBEADM_REGISTRY, "");
        add(VIP_REGISTRY, "");
    }
    if let Some(authority) = &mirror.ca_cert_content {
        files.add(AUTHORITY, "0644", authority);
    }
}

/// Everything of the cluster itself is reached without the proxy, as EKS Anywhere has it.
fn proxied(settings: &Settings<'_>, proxy: &ProxyConfiguration) -> Result<String, NodeError> {
    let network = settings.spec.cluster_network.as_ref();
    let blocks = [network.and_then(|one| one.pods.as_ref()), network.and_then(|one| one.services.as_ref())];
    let blocks = blocks.into_iter().flatten().flat_map(|blocks| &blocks.cidr_blocks).map(String::as_str);
    let own = [endpoint(settings)?].into_iter().chain(settings.provisioner);
    let fixed = ["localhost", "127.0.0.1", ".svc", ".cluster.local"];
    let given = proxy.no_proxy.iter().map(String::as_str);
    let direct: Vec<_> = given.chain(blocks).chain(own).chain(fixed).collect();
    let variable = |name: &str, value: &str| format!("Environment=\"{name}={value}\"\n");
    Ok(format!(
        "[Service]\n{}{}{}",
        variable("HTTP_PROXY", proxy.http_proxy.as_deref().unwrap_or_default()),
        variable("HTTPS_PROXY", proxy.https_proxy.as_deref().unwrap_or_default()),
        variable("NO_PROXY", &direct.join(",")),
    ))
}
