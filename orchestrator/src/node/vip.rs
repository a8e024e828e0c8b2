// SPDX-License-Identifier: Apache-2.0

//! The address of the API server, which one machine of the control plane has at a time: kube-vip as a static pod.

use serde_json::{Value, json};

use super::{API_PORT, Entry, Files, Node, NodeError, Settings, endpoint};

/// The image of kube-vip.
pub const KUBE_VIP_IMAGE: &str = "ghcr.io/kube-vip/kube-vip:v0.9.1";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-vip.yaml";
/// From Kubernetes 1.29 on, `admin.conf` may do nothing until the end of `kubeadm init`, which needs the address.
const BEFORE_INIT: &str = "/etc/kubernetes/super-admin.conf";
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Takes the rights away again that only the beginning needs. The kubelet reads every file in the folder of manifests, so that the
/// new one is written elsewhere, and is there whole at once.
pub(super) const AFTER_INIT: &str = "if [ -e /etc/kubernetes/manifests/kube-vip.yaml ]; then
  sed s#/etc/kubernetes/super-admin.conf#/etc/kubernetes/admin.conf# /etc/kubernetes/manifests/kube-vip.yaml \
    > /etc/kubernetes/tink/kube-vip.yaml
  chmod 600 /etc/kubernetes/tink/kube-vip.yaml
  mv /etc/kubernetes/tink/kube-vip.yaml /etc/kubernetes/manifests/kube-vip.yaml
fi
";

pub(super) fn files(settings: &Settings<'_>, node: &Node<'_>, files: &mut Files) -> Result<(), NodeError> {
    let control_plane = settings.spec.control_plane_configuration.as_ref();
    let skipped = control_plane.and_then(|one| one.skip_load_balancer_deployment).unwrap_or(false);
    if node.entry == Entry::JoinWorker || skipped {
        return Ok(());
    }
    files.add(MANIFEST, "0600", &serde_saphyr::to_string(&manifest(settings, node)?)?);
    Ok(())
}

fn manifest(settings: &Settings<'_>, node: &Node<'_>) -> Result<Value, NodeError> {
    let host = endpoint(settings)?;
    // Where there are no workers, it answers for Services, too.
    let services = settings.spec.worker_node_group_configurations.is_empty();
    let config = if node.entry == Entry::Init { BEFORE_INIT } else { ADMIN };
    let port = API_PORT.to_string();
    let set = [
        ("vip_arp", "true"),
        ("port", &port),
        ("vip_subnet", "32"),
        ("cp_enable", "true"),
        ("cp_namespace", "kube-system"),
        ("vip_leaderelection", "true"),
        ("vip_leaseduration", "15"),
        ("vip_renewdeadline", "10"),
        ("vip_retryperiod", "2"),
        ("svc_enable", if services { "true" } else { "false" }),
        ("svc_election", if services { "true" } else { "false" }),
        ("address", host),
    ];
    let mut environment: Vec<_> =
        set.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let node_name = json!({ "fieldRef": { "fieldPath": "spec.nodeName" } });
    environment.push(json!({ "name": "vip_nodename", "valueFrom": node_name }));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "kube-vip", "namespace": "kube-system" },
        "spec": {
            "hostNetwork": true,
            // It asks for the API server of its own machine by this name, which its certificate has.
            "hostAliases": [{ "ip": "127.0.0.1", "hostnames": ["kubernetes"] }],
            "containers": [{
                "name": "kube-vip",
                "image": KUBE_VIP_IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "args": ["manager"],
                "env": environment,
                "securityContext": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] } },
                "volumeMounts": [{ "mountPath": ADMIN, "name": "kubeconfig" }],
            }],
            "volumes": [{ "name": "kubeconfig", "hostPath": { "path": config } }],
        },
    }))
}
