// SPDX-License-Identifier: Apache-2.0

//! Networks and addresses: pods, services, machines, and the two addresses that no machine may have.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::Check;
use crate::{cluster::Sourced, finding::Place, syntax};

const ENDPOINT: &str = "spec.controlPlaneConfiguration.endpoint.host";
const PODS: &str = "spec.clusterNetwork.pods.cidrBlocks";
const SERVICES: &str = "spec.clusterNetwork.services.cidrBlocks";
const NODE_MASK: &str = "spec.clusterNetwork.nodes.cidrMaskSize";
const DEFAULT_NODE_MASK: i64 = 24;
/// Kubernetes keeps a bitmap of the nodes' parts.
const MAX_MASK_DIFFERENCE: i64 = 16;

pub(super) fn check(check: &mut Check<'_>) {
    let spec = &check.file().cluster.value.spec;
    let Some(network) = &spec.cluster_network else {
        let fix = "add pods.cidrBlocks, services.cidrBlocks and cniConfig";
        check.wrong("no-network", "spec.clusterNetwork", "is missing", fix);
        return addresses(check, &[]);
    };
    let pods = block(check, PODS, network.pods.as_ref().map(|pods| pods.cidr_blocks.as_slice()));
    let services =
        block(check, SERVICES, network.services.as_ref().map(|services| services.cidr_blocks.as_slice()));
    if let (Some(pods), Some(services)) = (pods, services)
        && overlap(pods, services)
    {
        let what = format!("{services} overlaps the pods' network {pods}");
        check.wrong(
            "network-overlap",
            &format!("{SERVICES}[0]"),
            what,
            "choose networks that share no address",
        );
    }
    if let Some(pods) = pods {
        node_mask(check, pods);
    }
    plugin(check);
    let cluster_networks: Vec<_> = [("pods'", PODS, pods), ("services'", SERVICES, services)]
        .into_iter()
        .filter_map(|(name, field, network)| Some((name, field, network?)))
        .collect();
    machine_networks(check, &cluster_networks);
    addresses(check, &cluster_networks);
}

fn block(check: &mut Check<'_>, field: &str, blocks: Option<&[String]>) -> Option<Ipv4Net> {
    let fix = "write one network, such as 192.168.0.0/16";
    let [text] = blocks.unwrap_or_default() else {
        let what = match blocks.map_or(0, <[String]>::len) {
            0 => "is missing".to_owned(),
            count => format!("has {count} networks, and exactly one is supported"),
        };
        check.wrong("network", field, what, fix);
        return None;
    };
    let field = format!("{field}[0]");
    match text.parse::<IpNet>() {
        Ok(IpNet::V4(network)) if network.addr() == network.network() => Some(network),
        Ok(IpNet::V4(network)) => {
            let what = format!("{text} is an address within a network");
            check.wrong("network", &field, what, format!("write {}, if that is meant", network.trunc()));
            None
        }
        Ok(IpNet::V6(_)) => {
            check.wrong("network", &field, format!("{text} is an IPv6 network"), fix);
            None
        }
        Err(_) => {
            check.wrong("network", &field, format!("{text:?} is no network"), fix);
            None
        }
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Each node takes a part of the pods' network: there must be as many parts as nodes.
fn node_mask(check: &mut Check<'_>, pods: Ipv4Net) {
    let spec = &check.file().cluster.value.spec;
    let given = spec.cluster_network.as_ref().and_then(|network| network.nodes.as_ref()?.cidr_mask_size);
    let mask = given.unwrap_or(DEFAULT_NODE_MASK);
    let prefix = i64::from(pods.prefix_len());
    let difference = mask - prefix;
    let field = if given.is_some() { NODE_MASK } else { PODS };
    if difference <= 0 || mask > 32 {
        let what = format!("nodes with a /{mask} each do not fit into the pods' network {pods}");
        check.wrong("node-mask", field, what, "make the pods' network larger, or each node's part smaller");
        return;
    }
    if difference > MAX_MASK_DIFFERENCE {
        let what = format!("a /{mask} for each node in {pods} is more parts than Kubernetes can count");
        let fix = format!("let the two prefixes differ by at most {MAX_MASK_DIFFERENCE}");
        return check.wrong("node-mask", field, what, fix);
    }
    let nodes: i64 =
        check.file().cluster.value.spec.worker_node_group_configurations.iter().map(most).sum::<i64>()
            + spec.control_plane_configuration.as_ref().and_then(|one| one.count).unwrap_or(0);
    let parts = 1_i64 << difference;
    if nodes > parts {
        let what = format!("{pods} has parts for {parts} nodes, and there are to be {nodes}");
        check.wrong(
            "pods-network-small",
            field,
            what,
            "make the pods' network larger, or each node's part smaller",
        );
    }
}

fn most(group: &api::anywhere::v1alpha1::WorkerNodeGroupConfiguration) -> i64 {
    let scaled = group.autoscaling_configuration.as_ref().and_then(|scaling| scaling.max_count);
    scaled.or(group.count).unwrap_or(0).clamp(0, 1 << 20)
}

fn plugin(check: &mut Check<'_>) {
    const FIELD: &str = "spec.clusterNetwork.cniConfig";
    let Some(network) = &check.file().cluster.value.spec.cluster_network else { return };
    let Some(config) = &network.cni_config else {
        if network.cni.is_none() {
            check.wrong("cni", FIELD, "is missing", "write cilium: {} below it");
        }
        return;
    };
    if config.kindnetd.is_some() {
        let what = "kindnetd is for clusters in containers";
        return check.wrong("cni", &format!("{FIELD}.kindnetd"), what, "write cilium: {} instead");
    }
    let Some(cilium) = &config.cilium else {
        return check.wrong("cni", FIELD, "names no network plugin", "write cilium: {} below it");
    };
    let choices = [
        (
            "policyEnforcementMode",
            cilium.policy_enforcement_mode.as_deref(),
            &["default", "always", "never"][..],
        ),
        ("routingMode", cilium.routing_mode.as_deref(), &["overlay", "direct"][..]),
    ];
    for (name, value, known) in choices {
        if let Some(value) = value.filter(|value| !value.is_empty() && !known.contains(value)) {
            let what = format!("{value:?} is not known");
            check.wrong(
                "cilium",
                &format!("{FIELD}.cilium.{name}"),
                what,
                format!("write one of {}", known.join(", ")),
            );
        }
    }
    let native = cilium.ipv4_native_routing_cidr.as_deref();
    if let Some(text) = native.filter(|text| !text.is_empty() && text.parse::<Ipv4Net>().is_err()) {
        let field = format!("{FIELD}.cilium.ipv4NativeRoutingCIDR");
        check.wrong("cilium", &field, format!("{text:?} is no IPv4 network"), "write one such as 10.0.0.0/8");
    }
}

/// The machines' networks against those of the cluster.
fn machine_networks(check: &mut Check<'_>, cluster: &[(&str, &str, Ipv4Net)]) {
    let Some(inventory) = check.subject.inventory else { return };
    for (name, field, network) in cluster {
        let mut hit = inventory.servers.iter().filter_map(|(line, server)| Some((line, server.network()?)));
        if let Some((line, machines)) = hit.find(|(_, machines)| overlap(*machines, *network)) {
            let what = format!(
                "the {name} network {network} overlaps {machines}, which machines are in ({}:{line})",
                inventory.file
            );
            check.wrong(
                "network-overlap",
                &format!("{field}[0]"),
                what,
                "choose a network that no machine uses",
            );
        }
    }
}

/// The address of the API server and that of the stack.
fn addresses(check: &mut Check<'_>, cluster: &[(&str, &str, Ipv4Net)]) {
    let file = check.file();
    let host =
        file.cluster.value.spec.control_plane_configuration.as_ref().and_then(|one| one.endpoint.as_ref());
    let endpoint =
        address(check, &file.cluster, ENDPOINT, host.map_or("", |endpoint| endpoint.host.as_str()));
    let mut tinkerbell = None;
    if let Some(datacenter) = &file.datacenter {
        tinkerbell = address(check, datacenter, "spec.tinkerbellIP", &datacenter.value.spec.tinkerbell_ip);
        if let (Some(endpoint), Some(own)) = (endpoint, tinkerbell)
            && endpoint == own
        {
            let what = format!("{own} is the address of the endpoint too");
            check.wrong_in(
                datacenter,
                ("address-twice", "spec.tinkerbellIP"),
                what,
                "choose another free address",
            );
        }
    }
    let places = [
        endpoint.map(|address| (address, file.cluster.place(ENDPOINT))),
        tinkerbell
            .zip(file.datacenter.as_ref())
            .map(|(address, datacenter)| (address, datacenter.place("spec.tinkerbellIP"))),
    ];
    for (address, place) in places.into_iter().flatten() {
        free(check, address, &place, cluster);
    }
    machines_in_cluster_networks(check, cluster);
}

fn address<T>(check: &mut Check<'_>, document: &Sourced<T>, field: &str, text: &str) -> Option<Ipv4Addr> {
    let fix = "write a free IPv4 address of the machines' network, outside of every DHCP pool";
    if text.is_empty() {
        check.wrong_in(document, ("address", field), "is not filled in", fix);
        return None;
    }
    match text.parse::<Ipv4Addr>() {
        Ok(address) if syntax::is_host_address(address) => Some(address),
        _ => {
            check.wrong_in(
                document,
                ("address", field),
                format!("{text:?} is no IPv4 address of a machine"),
                fix,
            );
            None
        }
    }
}

/// Nothing else may have this address, and the machines must be able to answer for it.
fn free(check: &mut Check<'_>, address: Ipv4Addr, place: &Place, cluster: &[(&str, &str, Ipv4Net)]) {
    let fix = "choose a free address of the machines' network";
    if let Some((name, _, network)) = cluster.iter().find(|(.., network)| network.contains(&address)) {
        let what = format!("{address} is in the {name} network {network}");
        check.findings.error("address-in-cluster-network", place.clone(), what, fix);
        return;
    }
    let Some(inventory) = check.subject.inventory else { return };
    let taken = inventory.servers.iter().find_map(|(line, server)| {
        let whose = if server.nics().any(|nic| nic.address.is_some_and(|one| one.addr() == address)) {
            "the machine"
        } else if server.gateway == address {
            "the gateway of the machine"
        } else if server.bmc.as_ref().is_some_and(|bmc| bmc.address == address) {
            "the BMC of the machine"
        } else if server.name_servers.contains(&address.into()) {
            "a name server of the machine"
        } else {
            return None;
        };
        Some(format!("{address} is the address of {whose} {} ({}:{line})", server.hostname, inventory.file))
    });
    if let Some(what) = taken {
        check.findings.error("address-taken", place.clone(), what, fix);
        return;
    }
    let mut networks = inventory.servers.iter().filter_map(|(_, server)| server.network());
    if let Some(first) = networks.clone().next()
        && !networks.any(|network| network.contains(&address))
    {
        let what = format!("{address} is in no network of the machines, such as {first}");
        let fix = "choose one there: machines answer for it by ARP, which does not cross a router";
        check.findings.error("address-not-on-segment", place.clone(), what, fix);
    }
}

fn machines_in_cluster_networks(check: &mut Check<'_>, cluster: &[(&str, &str, Ipv4Net)]) {
    let Some(inventory) = check.subject.inventory else { return };
    for (line, server) in &inventory.servers {
        let others = server.extra_nics.iter().filter_map(|nic| nic.address);
        for address in others.map(|network| network.addr()) {
            if let Some((name, _, network)) = cluster.iter().find(|(.., network)| network.contains(&address))
            {
                let place = Place::new(&inventory.file, *line, "extra_nics");
                let what = format!("{address} is in the {name} network {network}");
                check.findings.error(
                    "address-in-cluster-network",
                    place,
                    what,
                    "change the network of the cluster",
                );
            }
        }
    }
}
