// SPDX-License-Identifier: Apache-2.0
//! The files of a cluster as its owner would write them, for simulated servers if nothing else is said, and the command that makes it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use tink::demo::Server;
use tokio::process::Command;

use crate::kubeadm::{Machine, Order};
use crate::simulated::{PROVISIONER, Simulated};
use crate::stack::tink;

/// The address of the cluster.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 5);
/// The manifest of its network.
pub const NETWORK: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: network, namespace: kube-system}\ndata: {mode: none}\n";
/// A public key of a user.
pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEEwDkJ9RMuXy3QpVzmK3lYGQe5lIhWHkPPkPSJlOOyQ me@host";

/// What is installed on a server comes up once it is there: it becomes a node, with its files in a folder of its name in `dir`.
///
/// # Errors
/// When its folder or a runtime cannot be made.
pub fn comes_up(mounted: &Simulated, dir: &Path, image: &[u8], order: &Order) -> Result<()> {
    let Simulated { server, chassis, .. } = mounted;
    let root = dir.join(&server.name);
    fs::create_dir_all(&root)?;
    let machine = Machine {
        name: server.name.clone(),
        address: server.address,
        chassis: chassis.clone(),
        root,
        endpoint: ENDPOINT,
        provisioner: server.provisioner,
    };
    machine.start_when_installed(server.disk.clone().into(), image.to_vec(), Arc::clone(order))
}

/// What is asked for. Machines whose names begin with `cp` are for the control plane, those with `wk` are workers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Machines of the control plane.
    pub control_plane: usize,
    /// Workers; without any, there is no group of them.
    pub workers: usize,
    /// URL of the image.
    pub image: String,
    /// How it is written.
    pub template: Template,
    /// How long a node may take to come up, as Go writes durations.
    pub patience: Option<&'static str>,
    /// The manifest of its network.
    pub network: String,
}

/// The template of the machines.
#[derive(Debug, Clone)]
pub enum Template {
    /// One of the cluster's own, which writes the image and does nothing else.
    Own {
        /// What the image is to be, as `sha256:HEX`.
        digest: Option<String>,
    },
    /// The one that belongs to the image's operating system.
    OfSystem,
}

impl Plan {
    /// Machines that become nodes as soon as the image is on them, with a network that is none.
    pub fn new(control_plane: usize, workers: usize, image: String) -> Self {
        let template = Template::Own { digest: None };
        Self { control_plane, workers, image, template, patience: None, network: NETWORK.to_owned() }
    }
}

/// A table of machines, each with the first two letters of its name for its type.
///
/// # Errors
/// When a name is too short for its type.
pub fn table<'a>(machines: impl IntoIterator<Item = &'a Simulated>) -> Result<String> {
    let typed = machines.into_iter().map(|Simulated { server, .. }| {
        anyhow::Ok((server, server.name.get(..2).context("a name of two letters")?))
    });
    Ok(table_of(typed.collect::<Result<Vec<_>>>()?))
}

/// A table of servers with their types.
pub fn table_of<'a>(servers: impl IntoIterator<Item = (&'a Server, &'a str)>) -> String {
    let mut csv =
        "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk\n"
            .to_owned();
    csv.extend(servers.into_iter().map(|(server, kind)| {
        let Server { name, mac, address, netmask, bmc, user, password, disk, .. } = server;
        format!(
            "{name},{bmc},{user},{password},{mac},{address},{netmask},{PROVISIONER},{PROVISIONER},type={kind},{disk}\n"
        )
    }));
    csv
}

/// `tink cluster create` in the folder of its files, with the stack that has this state directory. It asks nothing, and ends with
/// whoever started it.
///
/// # Errors
/// When it is not built.
pub fn create(dir: &Path, state: &Path) -> Result<Command> {
    let mut command = Command::new(tink()?);
    command.arg("--state-dir").arg(state).args(["cluster", "create", "--yes", "-f", "cluster.yaml"]);
    command.args(["-z", "hardware.csv", "--cni-manifest", "cni.yaml"]);
    command.args(["--tinkerbell-bootstrap-ip", &PROVISIONER.to_string()]);
    command.current_dir(dir).env_remove("KUBECONFIG").stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Writes `cluster.yaml` of the cluster `rack`, and the manifest of its network.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, plan: &Plan) -> Result<()> {
    let control_plane = plan.control_plane;
    let (reference, system_image, template) = match &plan.template {
        Template::Own { digest } => {
            let reference = "{kind: TinkerbellTemplateConfig, name: rack}";
            (
                reference,
                format!("http://{PROVISIONER}/debian-1-34.gz"),
                template(&plan.image, digest.as_deref()),
            )
        }
        Template::OfSystem => ("{}", plan.image.clone(), String::new()),
    };
    let patience =
        plan.patience.map(|time| format!("\n  machineHealthCheck: {{nodeStartupTimeout: {time}}}"));
    let workers = match plan.workers {
        0 => String::new(),
        count => format!(
            "\n  workerNodeGroupConfigurations:
    - name: md-0
      count: {count}
      machineGroupRef: {{kind: TinkerbellMachineConfig, name: rack}}"
        ),
    };
    let cluster = format!(
        "apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: Cluster
metadata: {{name: rack}}
spec:
  kubernetesVersion: \"1.34\"
  clusterNetwork:
    cniConfig: {{cilium: {{}}}}
    pods: {{cidrBlocks: [192.168.0.0/16]}}
    services: {{cidrBlocks: [10.96.0.0/12]}}
  controlPlaneConfiguration:
    count: {control_plane}
    endpoint: {{host: {ENDPOINT}}}
    machineGroupRef: {{kind: TinkerbellMachineConfig, name: rack-cp}}
  datacenterRef: {{kind: TinkerbellDatacenterConfig, name: rack}}
  managementCluster: {{name: rack}}{}{workers}
---
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellDatacenterConfig
metadata: {{name: rack}}
spec: {{tinkerbellIP: 172.31.0.6, osImageURL: \"{system_image}\"}}
{}{}{}",
        patience.unwrap_or_default(),
        machines("rack-cp", "cp", reference),
        if plan.workers == 0 { String::new() } else { machines("rack", "wk", reference) },
        template,
    );
    fs::write(dir.join("cluster.yaml"), cluster)?;
    Ok(fs::write(dir.join("cni.yaml"), &plan.network)?)
}

/// The document with what is asked of the machines of one kind.
fn machines(name: &str, kind: &str, template: &str) -> String {
    format!(
        "---
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellMachineConfig
metadata: {{name: {name}}}
spec:
  hardwareSelector: {{type: {kind}}}
  osFamily: ubuntu
  templateRef: {template}
  users:
    - name: ec2-user
      sshAuthorizedKeys: [{KEY}]
"
    )
}

/// The document with the template of all machines: an image from this URL is written, and nothing else.
pub fn template(image: &str, digest: Option<&str>) -> String {
    let digest = digest.map(|digest| format!("\n              IMG_DIGEST: {digest}"));
    format!(
        "---
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellTemplateConfig
metadata: {{name: rack}}
spec:
  template:
    version: \"0.1\"
    name: rack
    global_timeout: 600
    tasks:
      - name: rack
        worker: \"{{{{.device_1}}}}\"
        actions:
          - name: stream image to disk
            image: 127.0.0.1/embedded/image2disk:latest
            timeout: 600
            environment:
              DEST_DISK: \"{{{{ index .Hardware.Disks 0 }}}}\"
              IMG_URL: {image}{}
",
        digest.unwrap_or_default()
    )
}
