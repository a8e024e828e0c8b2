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
      sshAuthorizedKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEEwDkJ9RMuXy3QpVzmK3lYGQe5lIhWHkPPkPSJlOOyQ me@host]
"
        )
    };
    let (control_plane, image) = (plan.control_plane, &plan.image);
    let digest = plan.digest.as_ref().map(|digest| format!("\n              IMG_DIGEST: {digest}"));
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
{}{}---
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
        patience.unwrap_or_default(),
        config("rack-cp", "cp"),
        if plan.workers == 0 { String::new() } else { config("rack", "wk") },
        digest.unwrap_or_default(),
    );
    fs::write(dir.join("cluster.yaml"), cluster)?;
    let cni = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: network, namespace: kube-system}\ndata: {mode: none}\n";
    Ok(fs::write(dir.join("cni.yaml"), cni)?)
}
