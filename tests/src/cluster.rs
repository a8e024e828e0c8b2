// SPDX-License-Identifier: Apache-2.0
//! The files of a cluster of simulated servers, as their owner would write them.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::kubeadm::{Machine, Order};
use crate::simulated::{PROVISIONER, Simulated};

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
    /// What the image is to be, as `sha256:HEX`.
    pub digest: Option<String>,
    /// How long a node may take to come up, as Go writes durations.
    pub patience: Option<&'static str>,
}

/// A table of machines.
///
/// # Errors
/// When a name is too short for its kind.
pub fn table<'a>(machines: impl IntoIterator<Item = &'a Simulated>) -> Result<String> {
    let mut csv =
        "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,gateway,nameservers,labels,disk\n"
            .to_owned();
    for Simulated { server, .. } in machines {
        let kind = server.name.get(..2).context("a name of two letters")?;
        writeln!(
            csv,
            "{},{},{},{},{},{},24,{PROVISIONER},{PROVISIONER},type={kind},{}",
            server.name, server.bmc, server.user, server.password, server.mac, server.address, server.disk
        )?;
    }
    Ok(csv)
}

/// Writes `cluster.yaml` of the cluster `rack`, and the manifest of its network.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, plan: &Plan) -> Result<()> {
    let config = |name: &str, label: &str| {
        format!(
            "---
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellMachineConfig
metadata: {{name: {name}}}
spec:
  hardwareSelector: {{type: {label}}}
  osFamily: ubuntu
  templateRef: {{kind: TinkerbellTemplateConfig, name: rack}}
  users:
    - name: ec2-user
      sshAuthorizedKeys: [{KEY}]
"
        )
    };
    let control_plane = plan.control_plane;
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
spec: {{tinkerbellIP: 172.31.0.6, osImageURL: \"http://{PROVISIONER}/debian-1-34.gz\"}}
{}{}{}",
        patience.unwrap_or_default(),
        config("rack-cp", "cp"),
        if plan.workers == 0 { String::new() } else { config("rack", "wk") },
        template(&plan.image, plan.digest.as_deref()),
    );
    fs::write(dir.join("cluster.yaml"), cluster)?;
    Ok(fs::write(dir.join("cni.yaml"), NETWORK)?)
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
