// SPDX-License-Identifier: Apache-2.0
//! What a simulated server does at its first start: cloud-init and kubeadm without a machine. It asks the metadata service for
//! its user data from its own address, writes the files, and does what the configuration of kubeadm says with real programs:
//! its own member of etcd, kube-apiserver on the machine that has the cluster's address, kube-controller-manager to sign for
//! tokens and to collect what lost its owner. It joins only when the cluster signs for its token, and grows etcd as kubeadm does: as
//! a learner, then as a voter.
//!
//! What differs from kubeadm: there is no kubelet, so that nodes are registered with the token itself instead of with a
//! certificate that it pays for, and only the first machine runs an API server.

#![expect(
    clippy::indexing_slicing,
    reason = "an index that is missing in JSON gives null, and a test may panic"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::chassis::{Chassis as _, PowerState, SimulatedChassis};
use lab::rack::PROVISIONER_INTERFACE;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::kubernetes::programs;
use crate::process::Process;
use crate::simulated::{PROVISIONER, ip};
use crate::stack::eventually;

/// Until a machine is admitted: its turn may be far away.
const TURN: Duration = Duration::from_secs(600);
const READY: Duration = Duration::from_secs(180);
const PKI: &str = "etc/kubernetes/pki";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Names of the machines in the order in which they came to vote in etcd or became nodes.
pub type Order = Arc<Mutex<Vec<String>>>;

/// A server that was installed.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its power.
    pub chassis: SimulatedChassis,
    /// Its file system.
    pub root: PathBuf,
    /// The address of the cluster.
    pub endpoint: Ipv4Addr,
    /// Where its metadata are.
    pub provisioner: Ipv4Addr,
}

impl Machine {
    /// Starts the installed system once `disk` begins with `image`, and runs it until the power is off. On a thread of its own,
    /// to which the life of its programs is tied.
    ///
    /// # Errors
    /// When there is no runtime for it.
    pub fn start_when_installed(self, disk: PathBuf, image: Vec<u8>, order: Order) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            let name = self.name.clone();
            if let Err(error) = runtime.block_on(self.run(&disk, &image, &order)) {
                println!("{name} did not become a node: {error:#}");
            }
        });
        Ok(())
    }

    async fn run(self, disk: &Path, image: &[u8], order: &Order) -> Result<()> {
        eventually(&format!("the image on {}", self.name), TURN, async || {
            let begin = fs::read(disk).map_err(|error| error.to_string())?;
            Ok((begin.get(..image.len()) == Some(image)).then_some(()))
        })
        .await?;
        ip(&["address", "add", &format!("{}/24", self.address), "dev", PROVISIONER_INTERFACE])?;
        let documents = self.cloud_init().await?;
        let mut processes = Vec::new();
        match documents.get("InitConfiguration") {
            Some(init) => self.init(init, &mut processes, order).await?,
            None => {
                let join = documents.get("JoinConfiguration").context("no configuration of kubeadm")?;
                self.join(join, &mut processes, order).await?;
            }
        }
        while self.chassis.power() == PowerState::On {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(processes);
        Ok(())
    }

    /// Fetches the user data and writes its files; gives the documents for kubeadm by kind.
    async fn cloud_init(&self) -> Result<BTreeMap<String, Value>> {
        let url = format!("http://{}:7172/2009-04-04/user-data", self.provisioner);
        let text = eventually(&format!("the user data of {}", self.name), READY, async || {
            let text = curl(&["--interface", &self.address.to_string(), &url]).await?;
            Ok(text.starts_with("#cloud-config").then_some(text))
        })
        .await?;
        let config: Value = serde_saphyr::from_str(&text)?;
        let mut documents = BTreeMap::new();
        for file in config["write_files"].as_array().context("no files")? {
            let (path, content) = (file["path"].as_str(), file["content"].as_str());
            let (path, content) = (path.context("no path")?, content.context("no content")?);
            let place = self.root.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().context("no folder")?)?;
            fs::write(place, content)?;
            if path.ends_with("kubeadm.yaml") {
                for document in content.split("---\n") {
                    let document: Value = serde_saphyr::from_str(document)?;
                    let kind = document["kind"].as_str().context("no kind")?.to_owned();
                    documents.insert(kind, document);
                }
            }
        }
        Ok(documents)
    }

    async fn init(&self, init: &Value, processes: &mut Vec<Process>, order: &Order) -> Result<()> {
        let peers = format!("{}=https://{}:2380", self.name, self.address);
        self.etcd("new", &peers, processes)?;
        ip(&["address", "add", &format!("{}/24", self.endpoint), "dev", PROVISIONER_INTERFACE])?;
        self.api_server(processes)?;
        self.certificate("ca", "admin", "kubernetes-admin", Some("system:masters"), &[])?;
        let url = format!("https://{}:6443", self.endpoint);
        eventually("the first API server", READY, async || {
            Ok((self.admin("GET", "/readyz", None).await? == "ok").then_some(()))
        })
        .await?;
        for (path, object) in self.bootstrap_objects(&url)? {
            created(&path, async || self.admin("POST", &path, Some(&object)).await).await?;
        }
        self.controllers(&url, processes)?;
        let object = self.node(&init["nodeRegistration"], true);
        created(&self.name, async || self.admin("POST", "/api/v1/nodes", Some(&object)).await).await?;
        self.came_up(order);
        Ok(())
    }

    async fn join(&self, join: &Value, processes: &mut Vec<Process>, order: &Order) -> Result<()> {
        let token = join["discovery"]["bootstrapToken"]["token"].as_str().context("no token")?.to_owned();
        let (id, _) = token.split_once('.').context("no token")?;
        let base = format!("https://{}:6443", self.endpoint);
        let signature = format!("jws-kubeconfig-{id}");
        eventually(&format!("the turn of {}", self.name), TURN, async || {
            let url = format!("{base}/api/v1/namespaces/kube-public/configmaps/cluster-info");
            let info: Value =
                serde_json::from_str(&curl(&["-k", &url]).await?).map_err(|error| error.to_string())?;
            Ok(info["data"].get(&signature).map(drop))
        })
        .await?;
        let control_plane = join.get("controlPlane").is_some();
        if control_plane {
            self.join_etcd(&base, &token, processes).await?;
        }
        let object = self.node(&join["nodeRegistration"], control_plane).to_string();
        let bearer = format!("Authorization: Bearer {token}");
        let json = "Content-Type: application/json";
        let url = format!("{base}/api/v1/nodes");
        created(&self.name, async || curl(&["-k", "-H", &bearer, "-H", json, "-d", &object, &url]).await)
            .await?;
        self.came_up(order);
        Ok(())
    }

    /// Adds a learner, starts it, and lets it vote when it is up to date. Asks again as kubeadm does: etcd refuses a member
    /// while another one has not been connected for some seconds.
    async fn join_etcd(&self, base: &str, token: &str, processes: &mut Vec<Process>) -> Result<()> {
        let bearer = format!("Authorization: Bearer {token}");
        let nodes: Value = eventually("the nodes", READY, async || {
            let listed = curl(&["-k", "-H", &bearer, &format!("{base}/api/v1/nodes")]).await?;
            serde_json::from_str(&listed).map(Some).map_err(|error| error.to_string())
        })
        .await?;
        let nodes = nodes["items"].as_array().context("no nodes")?.iter();
        let first = nodes.filter(|node| node["metadata"]["labels"].get(CONTROL_PLANE).is_some());
        let mut addresses =
            first.map(|node| node["status"]["addresses"][0]["address"].as_str().unwrap_or(""));
        let there = addresses.next_back().context("no control plane")?.to_owned();
        self.certificate("etcd/ca", "etcd/client", "kubeadm", None, &[])?;
        let own = format!("https://{}:2380", self.address);
        let (id, members) = eventually(&format!("the place of {} in etcd", self.name), READY, async || {
            // An addition whose answer was lost is found in the list.
            let listed = self.etcd_call(&there, "list", &json!({})).await?;
            let members = listed["members"].as_array().ok_or("no members")?;
            if let Some(member) = members.iter().find(|member| member["peerURLs"][0] == own) {
                return Ok(Some((member["ID"].as_str().ok_or("no ID")?.to_owned(), members.clone())));
            }
            self.etcd_call(&there, "add", &json!({ "peerURLs": [own], "isLearner": true })).await?;
            Ok(None)
        })
        .await?;
        let peers = members.iter().map(|member| {
            let name = member["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(&self.name);
            format!("{name}={}", member["peerURLs"][0].as_str().unwrap_or(""))
        });
        self.etcd("existing", &peers.collect::<Vec<_>>().join(","), processes)?;
        eventually(&format!("the vote of {}", self.name), READY, async || {
            // A promotion whose answer was lost is refused the next time: it is in the list.
            let listed = self.etcd_call(&there, "list", &json!({})).await?;
            let members = listed["members"].as_array().ok_or("no members")?;
            if members.iter().any(|member| member["ID"] == id && member["isLearner"] != true) {
                return Ok(Some(()));
            }
            self.etcd_call(&there, "promote", &json!({ "ID": id })).await?;
            Ok(None)
        })
        .await?;
        Ok(())
    }

    async fn etcd_call(&self, there: &str, method: &str, body: &Value) -> Result<Value, String> {
        let file = |name: &str| self.file(name);
        let (authority, certificate, key) =
            (file("etcd/ca.crt"), file("etcd/client.crt"), file("etcd/client.key"));
        let url = format!("https://{there}:2379/v3/cluster/member/{method}");
        let text = body.to_string();
        let answer =
            curl(&["--cacert", &authority, "--cert", &certificate, "--key", &key, "-d", &text, &url]).await?;
        serde_json::from_str(&answer).map_err(|error| error.to_string())
    }

    fn etcd(&self, state: &str, peers: &str, processes: &mut Vec<Process>) -> Result<()> {
        let address = self.address.to_string();
        // Members see each other come from the first address of the namespace that all of them share.
        let shared = PROVISIONER.to_string();
        self.certificate("etcd/ca", "etcd/server", &self.name, None, &[&address, &shared])?;
        self.certificate("etcd/ca", "etcd/client", "kubeadm", None, &[])?;
        let (file, data) = (|name: &str| self.file(name), self.root.join("etcd"));
        self.program("etcd", processes, |command| {
            command
                .args([
                    "--name",
                    &self.name,
                    "--log-level=warn",
                    "--client-cert-auth",
                    "--peer-client-cert-auth",
                ])
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--listen-client-urls=https://{address}:2379"))
                .arg(format!("--advertise-client-urls=https://{address}:2379"))
                .arg(format!("--listen-peer-urls=https://{address}:2380"))
                .arg(format!("--initial-advertise-peer-urls=https://{address}:2380"))
                .arg(format!("--initial-cluster={peers}"))
                .arg(format!("--initial-cluster-state={state}"));
            for (flag, name) in
                [("cert-file", "server.crt"), ("key-file", "server.key"), ("trusted-ca-file", "ca.crt")]
            {
                let path = file(&format!("etcd/{name}"));
                command.arg(format!("--{flag}={path}")).arg(format!("--peer-{flag}={path}"));
            }
        })
    }

    fn api_server(&self, processes: &mut Vec<Process>) -> Result<()> {
        let names = [self.endpoint.to_string(), self.address.to_string(), "10.96.0.1".to_owned()];
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.extend(["kubernetes", "kubernetes.default.svc"]);
        self.certificate("ca", "apiserver", "kube-apiserver", None, &names)?;
        let file = |name: &str| self.file(name);
        self.program("kube-apiserver", processes, |command| {
            command
                .arg(format!("--bind-address={}", self.endpoint))
                .arg(format!("--advertise-address={}", self.address))
                .args(["--secure-port=6443", "--authorization-mode=RBAC", "--enable-bootstrap-token-auth"])
                .args(["--service-cluster-ip-range=10.96.0.0/12", "--endpoint-reconciler-type=none"])
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!("--etcd-servers=https://{}:2379", self.address));
            for (flag, name) in [
                ("etcd-cafile", "etcd/ca.crt"),
                ("etcd-certfile", "etcd/client.crt"),
                ("etcd-keyfile", "etcd/client.key"),
                ("client-ca-file", "ca.crt"),
                ("tls-cert-file", "apiserver.crt"),
                ("tls-private-key-file", "apiserver.key"),
                ("service-account-key-file", "sa.pub"),
                ("service-account-signing-key-file", "sa.key"),
            ] {
                command.arg(format!("--{flag}={}", file(name)));
            }
        })
    }

    fn controllers(&self, url: &str, processes: &mut Vec<Process>) -> Result<()> {
        let kubeconfig = self.root.join("controller-manager.conf");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "own",
            "clusters": [{ "name": "own", "cluster": { "server": url, "certificate-authority": self.file("ca.crt") } }],
            "users": [{ "name": "own", "user": {
                "client-certificate": self.file("admin.crt"), "client-key": self.file("admin.key"),
            } }],
            "contexts": [{ "name": "own", "context": { "cluster": "own", "user": "own" } }],
        });
        fs::write(&kubeconfig, config.to_string())?;
        self.program("kube-controller-manager", processes, |command| {
            command.arg(format!("--kubeconfig={}", kubeconfig.display())).args([
                "--controllers=bootstrap-signer-controller,token-cleaner-controller,garbage-collector-controller",
                "--leader-elect=false",
                "--secure-port=0",
            ]);
        })
    }

    /// What `kubeadm init` leaves for those who join.
    fn bootstrap_objects(&self, url: &str) -> Result<Vec<(String, Value)>> {
        let authority = fs::read_to_string(self.file("ca.crt"))?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{ "name": "", "cluster": { "server": url, "certificate-authority-data": authority } }],
        });
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let role = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
        let anonymous =
            json!({ "kind": "User", "name": "system:anonymous", "apiGroup": "rbac.authorization.k8s.io" });
        let bearers = json!({
            "kind": "Group", "name": "system:bootstrappers:kubeadm:default-node-token",
            "apiGroup": "rbac.authorization.k8s.io",
        });
        let public = format!("{rbac}/namespaces/kube-public");
        Ok(vec![
            (
                "/api/v1/namespaces/kube-public/configmaps".to_owned(),
                json!({ "metadata": { "name": "cluster-info" }, "data": { "kubeconfig": kubeconfig.to_string() } }),
            ),
            (
                format!("{public}/roles"),
                json!({ "metadata": { "name": "cluster-info" }, "rules": [{
                    "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"],
                }] }),
            ),
            (
                format!("{public}/rolebindings"),
                json!({ "metadata": { "name": "cluster-info" }, "roleRef": role("Role", "cluster-info"), "subjects": [anonymous] }),
            ),
            (
                format!("{rbac}/clusterroles"),
                json!({ "metadata": { "name": "joins" }, "rules": [{
                    "apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["get", "list", "create"],
                }] }),
            ),
            (
                format!("{rbac}/clusterrolebindings"),
                json!({ "metadata": { "name": "joins" }, "roleRef": role("ClusterRole", "joins"), "subjects": [bearers] }),
            ),
        ])
    }

    /// The node as its kubelet would register it.
    fn node(&self, registration: &Value, control_plane: bool) -> Value {
        let arguments = registration["kubeletExtraArgs"].as_array().into_iter().flatten();
        let identity = arguments.clone().find(|argument| argument["name"] == "provider-id");
        let mut labels = json!({ "kubernetes.io/hostname": self.name });
        if control_plane {
            labels[CONTROL_PLANE] = json!("");
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": registration["name"], "labels": labels },
            "spec": { "providerID": identity.map(|argument| argument["value"].clone()) },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": self.address }],
                "conditions": [{ "type": "Ready", "status": "True", "reason": "Simulated", "message": "" }],
            },
        })
    }

    /// Asks the API server as its administrator.
    async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, String> {
        let url = format!("https://{}:6443{path}", self.endpoint);
        let (authority, certificate, key) =
            (self.file("ca.crt"), self.file("admin.crt"), self.file("admin.key"));
        let text = body.map(Value::to_string);
        let mut arguments =
            vec!["-X", method, "--cacert", &authority, "--cert", &certificate, "--key", &key, &url];
        if let Some(text) = &text {
            arguments.extend(["-H", "Content-Type: application/json", "-d", text]);
        }
        curl(&arguments).await
    }

    fn program(
        &self,
        name: &str,
        processes: &mut Vec<Process>,
        configure: impl FnOnce(&mut std::process::Command),
    ) -> Result<()> {
        let log = self.root.join(format!("{name}.log"));
        let title = format!("{name} of {}", self.name);
        processes.push(Process::start(&title, &programs()?.join(name), log, configure)?);
        Ok(())
    }

    /// A leaf that an authority of the user data signs.
    fn certificate(
        &self,
        authority: &str,
        name: &str,
        common: &str,
        group: Option<&str>,
        names: &[&str],
    ) -> Result<()> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.file(&format!("{authority}.key")))?)?;
        let mut issuer = CertificateParams::new(Vec::new())?;
        issuer.distinguished_name = rcgen::DistinguishedName::new();
        let issuer_name = if authority == "ca" { "kubernetes" } else { "etcd-ca" };
        issuer.distinguished_name.push(DnType::CommonName, issuer_name);
        let issuer = Issuer::new(issuer, key);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let own = KeyPair::generate()?;
        let signed = params.signed_by(&own, &issuer)?;
        fs::write(self.file(&format!("{name}.crt")), signed.pem())?;
        fs::write(self.file(&format!("{name}.key")), own.serialize_pem())?;
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.root.join(PKI).join(name).display().to_string()
    }

    fn came_up(&self, order: &Order) {
        if let Ok(mut order) = order.lock() {
            order.push(self.name.clone());
        }
    }
}

/// Creates an object, as often as it takes while the server has no answer; one that is there already was created by a request
/// whose answer was lost.
async fn created(what: &str, create: impl AsyncFn() -> Result<String, String>) -> Result<()> {
    eventually(what, READY, async || match create().await {
        Err(error) if !error.contains("AlreadyExists") => Err(error),
        _ => Ok(Some(())),
    })
    .await
}

/// What curl gets; its error, and the body with it, when the answer is none.
async fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "--fail-with-body", "--max-time", "10", "--noproxy", "*"]).args(arguments);
    let output = command.kill_on_drop(true).output().await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let run = || -> Result<()> {
        ensure!(output.status.success(), "{} {text}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    };
    run().map_err(|error| error.to_string())?;
    Ok(text)
}
