// SPDX-License-Identifier: Apache-2.0

//! The configuration of kubeadm, `kubeadm.k8s.io/v1beta4`, and what it patches.

use serde_json::{Map, Value, json};

use super::{
    API_PORT, CONFIG, Entry, Files, IMAGE_VERSION, Node, NodeError, PATCHES, Settings, endpoint, shape,
};

const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";
const AUDIT_POLICY: &str = "/etc/kubernetes/audit-policy.yaml";
const AUDIT_LOGS: &str = "/var/log/kubernetes";
/// How long a machine waits for its turn. Whoever lets it in gives up long before.
const DISCOVERY: &str = "24h0m0s";
/// How long parts of the control plane may take to start: slow machines and slow registries are no failure.
const PATIENCE: &str = "15m0s";
/// `kubeadm init` makes a token for a whole day unless it is given one: this one lets nobody in, as its group may do nothing.
const INIT_TOKEN_LIFE: &str = "1m0s";
const INIT_TOKEN_GROUP: &str = "system:bootstrappers:tink:nobody";

pub(super) fn files(settings: &Settings<'_>, node: &Node<'_>, files: &mut Files) -> Result<(), NodeError> {
    let documents = match node.entry {
        Entry::Init => vec![init(settings, node)?, cluster(settings)?, kubelet(settings)],
        Entry::JoinControlPlane | Entry::JoinWorker => vec![join(settings, node)?],
    };
    let texts: Result<Vec<_>, _> = documents.iter().map(serde_saphyr::to_string).collect();
    files.add(CONFIG, "0600", &texts?.join("---\n"));
    let shape = shape(settings, node)?;
    if !shape.kubelet.is_empty() {
        // What the cluster says wins over what kubeadm writes, for this node alone.
        let patch = serde_saphyr::to_string(&kubelet_patch(shape.kubelet))?;
        files.add(&format!("{PATCHES}/kubeletconfiguration0+strategic.yaml"), "0644", &patch);
    }
    let audit = settings.spec.control_plane_configuration.as_ref();
    if let Some(policy) = audit.and_then(|one| one.audit_policy_content.as_deref())
        && node.entry != Entry::JoinWorker
    {
        files.add(AUDIT_POLICY, "0600", policy);
    }
    Ok(())
}

fn init(settings: &Settings<'_>, node: &Node<'_>) -> Result<Value, NodeError> {
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{
            "token": node.token.reveal().expose(),
            "description": "of kubeadm init",
            "ttl": INIT_TOKEN_LIFE,
            "usages": ["authentication"],
            "groups": [INIT_TOKEN_GROUP],
        }],
        "localAPIEndpoint": { "bindPort": API_PORT },
        "nodeRegistration": registration(settings, node)?,
        "patches": patches(settings, node)?,
        "timeouts": timeouts(),
    }))
}

/// The folder of patches; kubeadm wants it to be there when it is named.
fn patches(settings: &Settings<'_>, node: &Node<'_>) -> Result<Value, NodeError> {
    let none = shape(settings, node)?.kubelet.is_empty();
    Ok(if none { json!({}) } else { json!({ "directory": PATCHES }) })
}

fn join(settings: &Settings<'_>, node: &Node<'_>) -> Result<Value, NodeError> {
    let token = node.token.reveal();
    let mut join = json!({
        "apiVersion": API_VERSION,
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": format!("{}:{API_PORT}", endpoint(settings)?),
                "token": token.expose(),
                "caCertHashes": [settings.pki.pin()?],
            },
            "tlsBootstrapToken": token.expose(),
        },
        "nodeRegistration": registration(settings, node)?,
        "patches": patches(settings, node)?,
        "timeouts": timeouts(),
    });
    if let (Entry::JoinControlPlane, Some(join)) = (node.entry, join.as_object_mut()) {
        join.insert("controlPlane".to_owned(), json!({ "localAPIEndpoint": { "bindPort": API_PORT } }));
    }
    Ok(join)
}

fn timeouts() -> Value {
    json!({
        "controlPlaneComponentHealthCheck": PATIENCE,
        "discovery": DISCOVERY,
        "etcdAPICall": PATIENCE,
        "kubeletHealthCheck": PATIENCE,
        "kubernetesAPICall": "5m0s",
        "tlsBootstrap": PATIENCE,
    })
}

fn registration(settings: &Settings<'_>, node: &Node<'_>) -> Result<Value, NodeError> {
    let shape = shape(settings, node)?;
    let mut arguments = vec![json!({ "name": "provider-id", "value": node.identity })];
    if !shape.labels.is_empty() {
        let labels: Vec<_> = shape.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        arguments.push(json!({ "name": "node-labels", "value": labels.join(",") }));
    }
    let mut registration = json!({
        "name": node.name,
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": arguments,
    });
    if let (Some(taints), Some(registration)) = (&shape.taints, registration.as_object_mut()) {
        registration.insert("taints".to_owned(), json!(taints));
    }
    Ok(registration)
}

fn cluster(settings: &Settings<'_>) -> Result<Value, NodeError> {
    let spec = settings.spec;
    let network = spec.cluster_network.as_ref().ok_or(NodeError::Missing("spec.clusterNetwork"))?;
    let first = |blocks: Option<&api::anywhere::v1alpha1::CidrBlocks>| {
        blocks.and_then(|blocks| blocks.cidr_blocks.first()).cloned()
    };
    let pods = first(network.pods.as_ref()).ok_or(NodeError::Missing("spec.clusterNetwork.pods"))?;
    let services =
        first(network.services.as_ref()).ok_or(NodeError::Missing("spec.clusterNetwork.services"))?;
    let mut controllers = Vec::new();
    if let Some(size) = network.nodes.as_ref().and_then(|nodes| nodes.cidr_mask_size) {
        controllers.push(json!({ "name": "node-cidr-mask-size", "value": size.to_string() }));
    }
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "ClusterConfiguration",
        "clusterName": settings.cluster,
        "controlPlaneEndpoint": format!("{}:{API_PORT}", endpoint(settings)?),
        // The image says which patch release it has.
        "kubernetesVersion": IMAGE_VERSION,
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": { "podSubnet": pods, "serviceSubnet": services, "dnsDomain": "cluster.local" },
        "apiServer": api_server(settings)?,
        "controllerManager": { "extraArgs": controllers },
    }))
}

fn api_server(settings: &Settings<'_>) -> Result<Value, NodeError> {
    let control_plane = settings
        .spec
        .control_plane_configuration
        .as_ref()
        .ok_or(NodeError::Missing("spec.controlPlaneConfiguration"))?;
    let names: Vec<_> =
        [endpoint(settings)?].into_iter().chain(control_plane.cert_sans.iter().map(String::as_str)).collect();
    let mut arguments: Vec<(String, String)> =
        control_plane.api_server_extra_args.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut volumes = Vec::new();
    if let Some(issuer) = settings.spec.pod_iam_config.as_ref().map(|one| &one.service_account_issuer) {
        arguments.push(("service-account-issuer".to_owned(), issuer.clone()));
    }
    if control_plane.audit_policy_content.is_some() {
        let log = format!("{AUDIT_LOGS}/api-audit.log");
        let own = [
            ("audit-policy-file", AUDIT_POLICY),
            ("audit-log-path", &log),
            ("audit-log-maxage", "30"),
            ("audit-log-maxbackup", "10"),
            ("audit-log-maxsize", "512"),
        ];
        arguments.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let volume = |name: &str, path: &str, kind: &str, read_only: bool| json!({ "name": name, "hostPath": path, "mountPath": path, "pathType": kind, "readOnly": read_only });
        volumes.push(volume("audit-policy", AUDIT_POLICY, "File", true));
        volumes.push(volume("audit-log-dir", AUDIT_LOGS, "DirectoryOrCreate", false));
    }
    let arguments: Vec<_> =
        arguments.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    Ok(json!({ "certSANs": names, "extraArgs": arguments, "extraVolumes": volumes }))
}

/// What holds for all kubelets of the cluster.
fn kubelet(settings: &Settings<'_>) -> Value {
    let mut kubelet = kubelet_patch(&std::collections::BTreeMap::new());
    let network = settings.spec.cluster_network.as_ref();
    let resolver = network.and_then(|network| network.dns.as_ref()?.resolv_conf.as_ref()?.path.clone());
    if let (Some(path), Some(kubelet)) = (resolver, kubelet.as_object_mut()) {
        kubelet.insert("resolvConf".to_owned(), json!(path));
    }
    kubelet
}

fn kubelet_patch(fields: &std::collections::BTreeMap<String, Value>) -> Value {
    let mut patch: Map<String, Value> = fields.clone().into_iter().collect();
    patch.insert("apiVersion".to_owned(), json!("kubelet.config.k8s.io/v1beta1"));
    patch.insert("kind".to_owned(), json!("KubeletConfiguration"));
    Value::Object(patch)
}
