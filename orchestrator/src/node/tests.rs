// SPDX-License-Identifier: Apache-2.0

use api::anywhere::v1alpha1::CertBundle;
use jiff::Timestamp;

use super::*;
use crate::{cluster, finding::Findings, pki::Part};

const CLUSTER: &str = include_str!("../../tests/data/cluster.yaml");

fn pki() -> Pki {
    let make = |part: Part| part.make(Timestamp::now()).unwrap();
    Pki {
        kubernetes: make(Part::Kubernetes),
        etcd: make(Part::Etcd),
        front_proxy: make(Part::FrontProxy),
        accounts: make(Part::Accounts),
    }
}

/// What a machine would find: its cloud-config, and the files in it.
struct Told {
    config: Value,
    files: BTreeMap<String, (String, String)>,
}

impl Told {
    fn documents(&self, path: &str) -> Vec<Value> {
        self.files[path].0.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect()
    }
}

fn told(
    edit: impl FnOnce(&mut ClusterSpec, &mut TinkerbellMachineConfigSpec),
    entry: Entry,
    pki: &Pki,
) -> Told {
    told_with_image(edit, entry, pki, None)
}

fn told_with_image(
    edit: impl FnOnce(&mut ClusterSpec, &mut TinkerbellMachineConfigSpec),
    entry: Entry,
    pki: &Pki,
    stack_image: Option<&str>,
) -> Told {
    let file = cluster::read("cluster.yaml", CLUSTER, &mut Findings::default()).unwrap();
    let mut spec = file.cluster.value.spec.clone();
    let mut config = file.machine_config("rack").unwrap().value.spec.clone();
    edit(&mut spec, &mut config);
    let token = Token::parse("abcdef.0123456789abcdef").unwrap();
    let settings = Settings {
        cluster: "rack",
        spec: &spec,
        provisioner: Some("10.10.50.3"),
        bootstrap: Some("10.10.50.2"),
        stack_image,
        pki,
    };
    let group = (entry == Entry::JoinWorker).then_some("md-0");
    let identity = "tinkerbell://eksa-system/m1";
    let node = Node { entry, name: "m1", group, identity, config: &config, token: &token };
    let text = user_data(&settings, &node).unwrap();
    let text = text.expose().strip_prefix("#cloud-config\n").unwrap();
    let config: Value = serde_saphyr::from_str(text).unwrap();
    let part = |file: &Value, key: &str| file[key].as_str().unwrap().to_owned();
    let files = config["write_files"].as_array().unwrap().iter();
    let files = files.map(|file| (part(file, "path"), (part(file, "content"), part(file, "permissions"))));
    Told { files: files.collect(), config }
}

#[test]
fn the_first_machine_makes_the_cluster_with_our_keys_and_the_address() {
    let pki = pki();
    let told = told(|_, _| {}, Entry::Init, &pki);
    let documents = told.documents(CONFIG);
    let kinds: Vec<_> = documents.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["InitConfiguration", "ClusterConfiguration", "KubeletConfiguration"]);
    assert_eq!(documents[0]["nodeRegistration"]["name"], "m1");
    assert_eq!(
        documents[0]["nodeRegistration"]["kubeletExtraArgs"],
        json!([
            { "name": "provider-id", "value": "tinkerbell://eksa-system/m1" },
            { "name": "node-labels", "value": "example.com/role=control" },
        ])
    );
    // kubeadm takes groups only for a token that logs in, and gives one without groups the right to join.
    assert_eq!(documents[0]["bootstrapTokens"][0]["usages"], json!(["authentication"]));
    assert_eq!(documents[0]["bootstrapTokens"][0]["groups"], json!(["system:bootstrappers:tink:nobody"]));
    // The usual taint of a control plane is kubeadm's to give.
    assert!(documents[0]["nodeRegistration"].get("taints").is_none());
    assert_eq!(documents[1]["controlPlaneEndpoint"], "10.10.50.2:6443");
    assert_eq!(documents[1]["apiServer"]["certSANs"], json!(["10.10.50.2", "api.example.com"]));
    assert_eq!(documents[1]["networking"]["podSubnet"], "192.168.0.0/16");
    let (key, mode) = &told.files["/etc/kubernetes/pki/etcd/ca.key"];
    assert_eq!((key, mode.as_str()), (pki.etcd.key.expose(), "0600"));
    assert_eq!(told.files["/etc/kubernetes/pki/sa.pub"].0, pki.accounts.public);
    let pod = &told.documents("/etc/kubernetes/manifests/kube-vip.yaml")[0];
    assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/etc/kubernetes/super-admin.conf");
    let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(environment.contains(&json!({ "name": "address", "value": "10.10.50.2" })));
    assert!(environment.contains(&json!({ "name": "svc_enable", "value": "false" })));
    let script = &told.files[SCRIPT].0;
    assert!(script.contains("v1.34.*) ;;") && script.contains("\nkubeadm init --config"), "{script}");
    assert!(script.contains("\nuntil kubeadm init phase addon all --config"), "{script}");
    // The folder of manifests never holds half a pod, or one twice.
    assert!(script.contains("mv /etc/kubernetes/tink/kube-vip.yaml /etc/kubernetes/manifests/"), "{script}");
    assert_eq!(told.config["runcmd"], json!([[SCRIPT]]));
    assert_eq!(told.config["users"][0]["name"], "ec2-user");
    assert_eq!(told.config["ntp"]["servers"], json!(["time.example.com", "10.10.50.1"]));
}

#[test]
fn those_who_join_know_the_api_server_by_its_key_and_workers_hold_no_key() {
    let pki = pki();
    let member = told(|_, _| {}, Entry::JoinControlPlane, &pki);
    let [join] = &member.documents(CONFIG)[..] else { panic!() };
    assert_eq!(join["controlPlane"]["localAPIEndpoint"]["bindPort"], 6443);
    let discovery = &join["discovery"]["bootstrapToken"];
    assert_eq!(discovery["apiServerEndpoint"], "10.10.50.2:6443");
    assert_eq!(discovery["caCertHashes"], json!([pki.pin().unwrap()]));
    assert_eq!(join["timeouts"]["discovery"], "24h0m0s");
    assert!(member.files.contains_key("/etc/kubernetes/pki/ca.key"));
    let pod = &member.documents("/etc/kubernetes/manifests/kube-vip.yaml")[0];
    assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/etc/kubernetes/admin.conf");

    let worker = told(|_, _| {}, Entry::JoinWorker, &pki);
    let [join] = &worker.documents(CONFIG)[..] else { panic!() };
    assert!(join.get("controlPlane").is_none());
    assert_eq!(join["nodeRegistration"]["taints"][0]["key"], "example.com/spot");
    let keys: Vec<_> = worker.files.keys().filter(|path| path.contains("/pki/")).collect();
    assert_eq!(keys, Vec::<&String>::new());
    assert!(!worker.files.contains_key("/etc/kubernetes/manifests/kube-vip.yaml"));
    assert!(!worker.files.values().any(|(content, _)| content.contains("PRIVATE KEY")));
}

#[test]
fn a_cluster_without_workers_runs_pods_on_its_control_plane() {
    let told = told(|spec, _| spec.worker_node_group_configurations.clear(), Entry::Init, &pki());
    assert_eq!(told.documents(CONFIG)[0]["nodeRegistration"]["taints"], json!([]));
    let pod = &told.documents("/etc/kubernetes/manifests/kube-vip.yaml")[0];
    let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(environment.contains(&json!({ "name": "svc_enable", "value": "true" })));
}

#[test]
fn mirrors_proxies_audit_and_kubelet_settings_become_files() {
    let more = json!({
        "registryMirrorConfiguration": {
            "endpoint": "10.0.0.9", "port": "5000", "caCertContent": "PEM",
            "ociNamespaces": [{ "registry": "public.ecr.aws", "namespace": "eks" }],
        },
        "proxyConfiguration": { "httpProxy": "10.0.0.8:3128", "httpsProxy": "10.0.0.8:3128", "noProxy": ["10.1.0.0/16"] },
    });
    let told = told(
        |spec, config| {
            let mut all = serde_json::to_value(&spec).unwrap();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            *spec = serde_json::from_value(all).unwrap();
            let control_plane = spec.control_plane_configuration.as_mut().unwrap();
            control_plane.audit_policy_content = Some("kind: Policy\n".to_owned());
            control_plane.kubelet_configuration = [("maxPods".to_owned(), json!(20))].into();
            config.host_os_configuration.as_mut().unwrap().cert_bundles =
                vec![CertBundle { data: "PEM of ours".to_owned(), name: "ours".to_owned() }];
        },
        Entry::Init,
        &pki(),
    );
    let hosts = &told.files["/etc/containerd/certs.d/public.ecr.aws/hosts.toml"].0;
    assert!(hosts.contains("[host.\"https://10.0.0.9:5000/v2/eks\"]"), "{hosts}");
    assert!(hosts.contains("override_path = true") && hosts.contains("mirror-ca.crt"), "{hosts}");
    let proxy = &told.files["/etc/systemd/system/containerd.service.d/http-proxy.conf"].0;
    let direct = "NO_PROXY=10.1.0.0/16,192.168.0.0/16,10.96.0.0/12,10.10.50.2,10.10.50.3,localhost";
    assert!(proxy.contains(direct), "{proxy}");
    let patch = told.documents(&format!("{PATCHES}/kubeletconfiguration0+strategic.yaml"));
    assert_eq!(patch[0]["maxPods"], 20);
    let documents = told.documents(CONFIG);
    assert_eq!(documents[0]["patches"]["directory"], PATCHES);
    let arguments = documents[1]["apiServer"]["extraArgs"].as_array().unwrap();
    assert!(
        arguments
            .contains(&json!({ "name": "audit-policy-file", "value": "/etc/kubernetes/audit-policy.yaml" }))
    );
    assert_eq!(told.files["/etc/kubernetes/audit-policy.yaml"].0, "kind: Policy\n");
    assert_eq!(told.config["ca_certs"]["trusted"], json!(["PEM of ours"]));
}

#[test]
fn a_version_that_kubeadm_cannot_be_told_in_this_form_is_refused() {
    let file = cluster::read("cluster.yaml", CLUSTER, &mut Findings::default()).unwrap();
    let mut spec = file.cluster.value.spec.clone();
    spec.kubernetes_version = Some("1.30".to_owned());
    let (pki, token) = (pki(), Token::parse("abcdef.0123456789abcdef").unwrap());
    let config = TinkerbellMachineConfigSpec::default();
    let settings = Settings {
        cluster: "rack",
        spec: &spec,
        provisioner: None,
        bootstrap: None,
        stack_image: None,
        pki: &pki,
    };
    let node =
        Node { entry: Entry::Init, name: "m1", group: None, identity: "x", config: &config, token: &token };
    let refused = user_data(&settings, &node).map(drop).unwrap_err();
    assert!(refused.to_string().contains("1.30"), "{refused}");
}

#[test]
fn nodes_of_the_control_plane_fetch_the_image_of_the_daemons_from_before_or_after_the_move() {
    let pki = pki();
    let script =
        |entry, url: Option<&str>| told_with_image(|_, _| {}, entry, &pki, url).files[SCRIPT].0.clone();
    let url = "http://10.10.50.2:7171/images/tink.tar";
    for entry in [Entry::Init, Entry::JoinControlPlane] {
        let script = script(entry, Some(url));
        let both = "for url in 'http://10.10.50.2:7171/images/tink.tar' 'http://10.10.50.3:7171/images/tink.tar'; do";
        assert!(script.contains(both), "{script}");
        assert!(script.contains("image='/var/lib/tinkerbell/images/tink.tar'"), "{script}");
        let kubeadm = script.find("kubeadm ").unwrap();
        assert!(kubeadm < script.find("ctr ").unwrap(), "nobody waits for it:\n{script}");
    }
    assert!(!script(Entry::JoinWorker, Some(url)).contains("ctr "));
    assert!(!script(Entry::Init, None).contains("ctr "));
    // Elsewhere, it stays where it is; and no word of it is a command.
    let odd = script(Entry::Init, Some("https://images.example.com/it's.tar"));
    assert!(odd.contains(r"for url in 'https://images.example.com/it'\''s.tar'; do"), "{odd}");
}
