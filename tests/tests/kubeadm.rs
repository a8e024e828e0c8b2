// SPDX-License-Identifier: Apache-2.0

//! The user data of nodes against the real kubeadm: it takes the configuration of each way into a cluster, with everything that a
//! cluster file can say about it, and signs the control plane's certificates with our keys.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use jiff::Timestamp;
use orchestrator::{
    cluster,
    finding::Findings,
    node::{Entry, Node, Settings, user_data},
    pki::{Part, Pki},
    token::Token,
};
use serde_json::{Value, json};
use tests::kubernetes::programs;

const CLUSTER: &str = include_str!("../../orchestrator/tests/data/cluster.yaml");
const VERSION: &str = "v1.34.2";
const CONFIG: &str = "/etc/kubernetes/tink/kubeadm.yaml";
const CERTIFICATES: &str = "/etc/kubernetes/pki/";

/// The files that a machine is told, by path; the kubelet has these settings.
fn told(entry: Entry, kubelet: Value) -> BTreeMap<String, String> {
    let file = cluster::read("cluster.yaml", CLUSTER, &mut Findings::default()).unwrap();
    let mut spec = file.cluster.value.spec.clone();
    let control_plane = spec.control_plane_configuration.as_mut().unwrap();
    control_plane.audit_policy_content = Some("kind: Policy\n".to_owned());
    control_plane.kubelet_configuration = serde_json::from_value(kubelet).unwrap();
    let make = |part: Part| part.make(Timestamp::now()).unwrap();
    let pki = Pki {
        kubernetes: make(Part::Kubernetes),
        etcd: make(Part::Etcd),
        front_proxy: make(Part::FrontProxy),
        accounts: make(Part::Accounts),
    };
    let token = Token::parse("abcdef.0123456789abcdef").unwrap();
    let config = file.machine_config("rack").unwrap().value.spec.clone();
    let settings = Settings {
        cluster: "rack",
        spec: &spec,
        provisioner: Some("10.10.50.3"),
        bootstrap: Some("10.10.50.2"),
        stack_image: None,
        pki: &pki,
    };
    let group = (entry == Entry::JoinWorker).then_some("md-0");
    let identity = "tinkerbell://eksa-system/m1";
    let node = Node { entry, name: "m1", group, identity, config: &config, token: &token };
    let text = user_data(&settings, &node).unwrap();
    let config: Value =
        serde_saphyr::from_str(text.expose().strip_prefix("#cloud-config\n").unwrap()).unwrap();
    let part = |file: &Value, key: &str| file[key].as_str().unwrap().to_owned();
    let files = config["write_files"].as_array().unwrap().iter();
    files.map(|file| (part(file, "path"), part(file, "content"))).collect()
}

fn kubeadm(arguments: &[&str], config: &Path) -> Output {
    let program = programs().unwrap().join("kubeadm");
    Command::new(program).args(arguments).arg("--config").arg(config).output().unwrap()
}

#[test]
#[ignore = "needs a Kubernetes: run ./x test"]
fn kubeadm_takes_what_machines_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeadm.yaml");
    for entry in [Entry::Init, Entry::JoinControlPlane, Entry::JoinWorker] {
        for kubelet in [json!({}), json!({ "maxPods": 20 })] {
            // The script on the machine names the version.
            let text = told(entry, kubelet)[CONFIG].replace("KUBERNETES_VERSION", VERSION);
            fs::write(&path, &text).unwrap();
            let asked = kubeadm(&["config", "validate"], &path);
            let said = String::from_utf8_lossy(&asked.stderr);
            assert!(asked.status.success() && !said.contains("WARNING"), "{entry:?}: {said}\n{text}");
        }
    }
}

#[test]
#[ignore = "needs a Kubernetes: run ./x test"]
fn kubeadm_signs_with_the_keys_that_the_first_machine_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = dir.path().join("pki");
    let files = told(Entry::Init, json!({}));
    for (path, content) in &files {
        let Some(name) = path.strip_prefix(CERTIFICATES) else { continue };
        let path = certificates.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let here = format!("kind: ClusterConfiguration\ncertificatesDir: {}", certificates.display());
    let endpoint = "localAPIEndpoint:\n  advertiseAddress: 10.10.50.4";
    let text = files[CONFIG].replace("KUBERNETES_VERSION", VERSION);
    let text = text.replace("kind: ClusterConfiguration", &here).replace("localAPIEndpoint:", endpoint);
    let config = dir.path().join("kubeadm.yaml");
    fs::write(&config, &text).unwrap();
    let asked = kubeadm(&["init", "phase", "certs", "all"], &config);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}\n{text}");
    // What was there is used, and what it signs is new.
    for name in ["ca", "etcd/ca", "front-proxy-ca"] {
        let path = format!("{CERTIFICATES}{name}.crt");
        assert_eq!(fs::read_to_string(certificates.join(format!("{name}.crt"))).unwrap(), files[&path]);
    }
    for name in ["apiserver", "apiserver-etcd-client", "etcd/server", "front-proxy-client"] {
        assert!(certificates.join(format!("{name}.crt")).is_file(), "{name} was not signed");
    }
}
