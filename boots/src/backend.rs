// SPDX-License-Identifier: Apache-2.0
//! Which machine has which MAC and address, and which Workflow it boots for: every lookup is a map access.
//!
//! The index is pure; `watch` keeps it true. No packet and no request ever reaches the API server. A MAC or an address
//! that two Hardware objects claim belongs to neither: answering would be guessing.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use api::Mac;
use api::v1alpha1::{Hardware, Turn, Workflow};
use dhcp::RelayInfo;
use dhcp::v6::{Duid, eui64_mac};
use kube::ResourceExt as _;

use crate::machine::{Boot, Machine, Nic, RelayPort};

pub(crate) mod watch;

/// Namespace and name of an object.
type Key = (String, String);

/// Why no machine was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No Hardware has it.
    Unknown,
    /// More than one Hardware has it.
    Ambiguous,
}

/// A machine and the interface by which it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) machine: Arc<Machine>,
    nic: Arc<Nic>,
}

impl Found {
    /// The interface.
    pub(crate) fn nic(&self) -> &Nic {
        &self.nic
    }
}

/// All machines and Workflows.
#[derive(Debug, Default)]
pub(crate) struct Index {
    machines: HashMap<Arc<Key>, Arc<Machine>>,
    by_mac: Claims<Mac>,
    by_address: Claims<IpAddr>,
    by_port: Claims<RelayPort>,
    by_duid: Claims<Duid>,
    /// The ways in which machines boot, each in memory once.
    boots: HashSet<Arc<Boot>>,
    workflows: HashMap<Key, BTreeMap<String, Claim>>,
    claims: HashMap<Key, Key>,
}

/// Which Hardware objects claim what: one does, unless somebody made a mistake.
type Claims<K> = HashMap<K, Vec<Arc<Key>>>;

/// What a Workflow wants of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    uid: String,
    /// Who is to work on it, once that is known.
    agent: Option<String>,
    turn: Turn,
}

impl Index {
    /// Adds a Hardware or replaces its earlier form. Returns what could not be used of it.
    pub(crate) fn apply_hardware(&mut self, hardware: &Hardware) -> Vec<String> {
        let key = key(hardware);
        self.remove_hardware(&key);
        let (mut machine, problems) = Machine::read(hardware);
        for nic in &mut machine.nics {
            let nic = Arc::make_mut(nic);
            nic.boot = self.shared(&nic.boot);
        }
        let key = Arc::new(key);
        for nic in &machine.nics {
            claim(&mut self.by_mac, nic.mac, &key);
            if let Some(address) = nic.address() {
                claim(&mut self.by_address, address, &key);
            }
        }
        if let Some(port) = &machine.port {
            claim(&mut self.by_port, port.clone(), &key);
        }
        if let Some(duid) = &machine.duid {
            claim(&mut self.by_duid, duid.clone(), &key);
        }
        self.machines.insert(key, Arc::new(machine));
        problems
    }

    /// A way to boot, in memory once.
    fn shared(&mut self, boot: &Arc<Boot>) -> Arc<Boot> {
        if let Some(known) = self.boots.get(boot) {
            return Arc::clone(known);
        }
        self.boots.insert(Arc::clone(boot));
        Arc::clone(boot)
    }

    pub(crate) fn remove_hardware(&mut self, key: &Key) {
        let Some(machine) = self.machines.remove(key) else { return };
        for nic in &machine.nics {
            forget(&mut self.by_mac, &nic.mac, key);
            if let Some(address) = nic.address() {
                forget(&mut self.by_address, &address, key);
            }
            // The machine's and ours: nobody else boots so.
            if Arc::strong_count(&nic.boot) <= 2 {
                self.boots.remove(&nic.boot);
            }
        }
        if let Some(port) = &machine.port {
            forget(&mut self.by_port, port, key);
        }
        if let Some(duid) = &machine.duid {
            forget(&mut self.by_duid, duid, key);
        }
    }

    /// Adds a Workflow or replaces its earlier form.
    pub(crate) fn apply_workflow(&mut self, workflow: &Workflow) {
        let key = key(workflow);
        self.remove_workflow(&key);
        let Some(name) = workflow.spec.hardware_ref.clone().filter(|name| !name.is_empty()) else { return };
        let Some(turn) = workflow.turn() else { return };
        let agent = workflow.status.as_ref().and_then(|status| status.agent_id.clone());
        let claim = Claim { uid: workflow.first_uid().to_owned(), agent, turn };
        let machine = (key.0.clone(), name);
        self.workflows.entry(machine.clone()).or_default().insert(key.1.clone(), claim);
        self.claims.insert(key, machine);
    }

    pub(crate) fn remove_workflow(&mut self, key: &Key) {
        let Some(machine) = self.claims.remove(key) else { return };
        if let Some(claims) = self.workflows.get_mut(&machine) {
            claims.remove(&key.1);
            if claims.is_empty() {
                self.workflows.remove(&machine);
            }
        }
    }

    /// The machine whose interface has this MAC.
    pub(crate) fn by_mac(&self, mac: Mac) -> Result<Found, Miss> {
        self.only(self.by_mac.get(&mac), |nic| nic.mac == mac)
    }

    /// The machine whose interface is reserved this address, else, over IPv6, whose MAC the address is made of: that is
    /// how most machines get one from their router.
    pub(crate) fn by_address(&self, address: impl Into<IpAddr>) -> Result<Found, Miss> {
        let address = address.into();
        let reserved = self.only(self.by_address.get(&address), |nic| nic.address() == Some(address));
        match address {
            IpAddr::V6(made) if reserved.as_ref().is_err_and(|miss| *miss == Miss::Unknown) => {
                eui64_mac(made).map_or(reserved, |mac| self.by_mac(mac.into()))
            }
            _ => reserved,
        }
    }

    /// The machine that calls itself so in DHCPv6, by the first interface that DHCP answers.
    pub(crate) fn by_duid(&self, duid: &Duid) -> Result<Found, Miss> {
        self.only(self.by_duid.get(duid), |nic| nic.dhcp)
    }

    /// The machine on the switch port that a relay names, by the first interface that DHCP answers. One that is known by both
    /// names of its port is found before one that is known by one of them.
    pub(crate) fn by_port(&self, info: &RelayInfo<'_>) -> Result<Found, Miss> {
        let (circuit, remote) = (info.circuit_id.map(<[u8]>::to_vec), info.remote_id.map(<[u8]>::to_vec));
        if circuit.is_none() && remote.is_none() {
            return Err(Miss::Unknown);
        }
        let ports = [(circuit.clone(), remote.clone()), (circuit, None), (None, remote)];
        let known = ports
            .into_iter()
            .find_map(|(circuit_id, remote_id)| self.by_port.get(&RelayPort { circuit_id, remote_id }));
        self.only(known, |nic| nic.dhcp)
    }

    /// Whether an address is some Hardware's.
    pub(crate) fn is_reserved(&self, address: impl Into<IpAddr>) -> bool {
        self.by_address.contains_key(&address.into())
    }

    /// UID of the Workflow that the machine boots for through this interface: the one whose turn it is. One that waits for
    /// another agent than the interface's would not be handed to it, so it comes after all others.
    pub(crate) fn workflow(&self, machine: &Machine, nic: &Nic) -> Option<&str> {
        let claims = self.workflows.get(&(machine.namespace.clone(), machine.name.clone()))?;
        let other_agent = |claim: &Claim| claim.agent.as_ref().is_some_and(|agent| *agent != nic.agent_id);
        let first = claims.values().min_by_key(|claim| (other_agent(claim), &claim.turn));
        first.map(|claim| claim.uid.as_str())
    }

    /// How many machines there are.
    pub(crate) fn len(&self) -> usize {
        self.machines.len()
    }

    fn only(&self, keys: Option<&Vec<Arc<Key>>>, nic: impl Fn(&Nic) -> bool) -> Result<Found, Miss> {
        let mut keys = keys.into_iter().flatten();
        let machine = keys.next().and_then(|key| self.machines.get(key)).ok_or(Miss::Unknown)?;
        if keys.next().is_some() {
            return Err(Miss::Ambiguous);
        }
        let nic = machine.nics.iter().find(|one| nic(one)).ok_or(Miss::Unknown)?;
        Ok(Found { machine: Arc::clone(machine), nic: Arc::clone(nic) })
    }
}

fn key<K: kube::Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn claim<K: Hash + Eq>(claims: &mut Claims<K>, entry: K, key: &Arc<Key>) {
    match claims.entry(entry) {
        // A vector that grows makes room for more than the one that nearly all have.
        Entry::Vacant(free) => drop(free.insert(vec![Arc::clone(key)])),
        Entry::Occupied(taken) if taken.get().contains(key) => {}
        Entry::Occupied(mut taken) => taken.get_mut().push(Arc::clone(key)),
    }
}

fn forget<K: Hash + Eq>(claims: &mut Claims<K>, entry: &K, key: &Key) {
    if let Some(keys) = claims.get_mut(entry) {
        keys.retain(|one| **one != *key);
        if keys.is_empty() {
            claims.remove(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use serde_json::json;

    use super::*;
    use crate::machine::tests::hardware;

    fn mac() -> Mac {
        "52:54:00:00:00:11".parse().unwrap()
    }

    #[test]
    fn machines_that_boot_alike_share_how() {
        let named = |name: &str, interface: serde_json::Value| {
            let mut hardware = hardware(&interface);
            hardware.metadata.name = Some(name.to_owned());
            hardware
        };
        let mut index = Index::default();
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            index.apply_hardware(&named(
                name,
                json!({ "dhcp": { "mac": format!("52:54:00:00:01:0{number}") } }),
            ));
        }
        assert_eq!(index.boots.len(), 1);
        index.apply_hardware(&named("c", json!({ "netboot": { "allowPXE": false } })));
        assert_eq!(index.boots.len(), 2);
        assert_eq!(index.by_mac(mac()).unwrap().nic().boot.allowed, false.into());
        for name in ["a", "c"] {
            index.remove_hardware(&("tinkerbell".to_owned(), name.to_owned()));
        }
        let left: Vec<_> = index.boots.iter().map(|boot| boot.allowed).collect();
        assert_eq!(left, [true.into()], "what nobody does is forgotten");
    }

    #[test]
    fn a_machine_is_known_by_its_switch_port() {
        let on_port = |name: &str, circuit: Option<&str>, remote: Option<&str>| {
            let mut hardware = hardware(&json!({}));
            hardware.metadata.name = Some(name.to_owned());
            let annotations = hardware.metadata.annotations.get_or_insert_default();
            for (key, value) in [("circuit", circuit), ("remote", remote)] {
                value.into_iter().for_each(|value| {
                    annotations.insert(format!("tinkerbell.org/dhcp-{key}-id"), value.to_owned());
                });
            }
            hardware
        };
        let mut index = Index::default();
        index.apply_hardware(&on_port("one", Some("p1"), Some("sw1")));
        index.apply_hardware(&on_port("any", Some("p1"), None));
        index.apply_hardware(&on_port("whole", None, Some("line")));
        let find = |index: &Index, circuit: Option<&'static [u8]>, remote: Option<&'static [u8]>| {
            let info = RelayInfo { circuit_id: circuit, remote_id: remote, ..RelayInfo::default() };
            index.by_port(&info).map(|found| found.machine.name.clone())
        };
        assert_eq!(find(&index, Some(b"p1"), Some(b"sw1")), Ok("one".to_owned()));
        assert_eq!(find(&index, Some(b"p1"), Some(b"sw2")), Ok("any".to_owned()));
        assert_eq!(find(&index, Some(b"p9"), Some(b"line")), Ok("whole".to_owned()));
        assert_eq!(find(&index, None, None), Err(Miss::Unknown));
        index.apply_hardware(&on_port("two", Some("p1"), None));
        assert_eq!(find(&index, Some(b"p1"), None), Err(Miss::Ambiguous));
        index.apply_hardware(&on_port("two", None, None));
        assert_eq!(find(&index, Some(b"p1"), None), Ok("any".to_owned()));
    }

    #[test]
    fn a_machine_is_known_by_its_ipv6_addresses_and_its_duid() {
        let mut machine = hardware(
            &json!({ "dhcp": { "ip": { "address": "2001:db8::11", "netmask": null, "gateway": null } } }),
        );
        let annotations = machine.metadata.annotations.get_or_insert_default();
        annotations.insert("tinkerbell.org/dhcp-duid".to_owned(), "00:04:07".to_owned());
        let mut index = Index::default();
        assert_eq!(index.apply_hardware(&machine), Vec::<String>::new());
        let found = |address: &str| {
            index.by_address(address.parse::<Ipv6Addr>().unwrap()).map(|found| found.nic().mac)
        };
        assert_eq!(found("2001:db8::11"), Ok(mac()));
        assert_eq!(found("fe80::5054:ff:fe00:11"), Ok(mac()));
        assert_eq!(found("2001:db8:7::5054:ff:fe00:11"), Ok(mac()));
        assert_eq!(found("2001:db8::12"), Err(Miss::Unknown));
        let duid = Duid::new(&[0, 4, 7]).unwrap();
        assert_eq!(index.by_duid(&duid).unwrap().nic().mac, mac());
        index.remove_hardware(&("tinkerbell".into(), "m1".into()));
        assert_eq!(index.by_duid(&duid).unwrap_err(), Miss::Unknown);
        assert!(index.by_duid.is_empty() && index.by_address.is_empty());
    }

    fn workflow(name: &str, state: &str, created: &str) -> Workflow {
        serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1",
            "kind": "Workflow",
            "metadata": {
                "name": name, "namespace": "tinkerbell", "uid": format!("uid-{name}"), "creationTimestamp": created,
            },
            "spec": { "hardwareRef": "m1" },
            "status": { "state": state },
        }))
        .unwrap()
    }

    #[test]
    fn machines_are_found_by_mac_and_address_until_they_change() {
        let mut index = Index::default();
        index.apply_hardware(&hardware(&json!({})));
        assert_eq!(index.by_mac(mac()).unwrap().machine.name, "m1");
        assert_eq!(index.by_address(Ipv4Addr::new(172, 31, 0, 11)).unwrap().nic().mac, mac());
        index.apply_hardware(&hardware(&json!({ "dhcp": { "ip": { "address": "172.31.0.50" } } })));
        assert_eq!(index.by_address(Ipv4Addr::new(172, 31, 0, 11)).unwrap_err(), Miss::Unknown);
        assert!(index.by_address(Ipv4Addr::new(172, 31, 0, 50)).is_ok());
        index.remove_hardware(&("tinkerbell".into(), "m1".into()));
        assert_eq!(index.by_mac(mac()).unwrap_err(), Miss::Unknown);
        assert!(index.by_mac.is_empty() && index.by_address.is_empty());
    }

    #[test]
    fn a_mac_that_two_machines_claim_belongs_to_neither() {
        let mut index = Index::default();
        let mut twin = hardware(&json!({}));
        index.apply_hardware(&twin);
        twin.metadata.name = Some("m2".into());
        index.apply_hardware(&twin);
        assert_eq!(index.by_mac(mac()).unwrap_err(), Miss::Ambiguous);
        index.remove_hardware(&("tinkerbell".into(), "m1".into()));
        assert_eq!(index.by_mac(mac()).unwrap().machine.name, "m2");
    }

    #[test]
    fn the_workflow_that_runs_comes_before_those_that_wait() {
        let mut index = Index::default();
        index.apply_hardware(&hardware(&json!({})));
        let found = index.by_mac(mac()).unwrap();
        let apply = |index: &mut Index, name: &str, state: &str, created: &str| {
            index.apply_workflow(&workflow(name, state, created));
            index.workflow(&found.machine, found.nic()).map(str::to_owned)
        };
        let uid = |name: &str| Some(format!("uid-{name}"));
        assert_eq!(apply(&mut index, "old", "SUCCESS", "2026-01-01T00:00:00Z"), None);
        assert_eq!(apply(&mut index, "b", "PENDING", "2026-01-03T00:00:00Z"), uid("b"));
        assert_eq!(apply(&mut index, "a", "PENDING", "2026-01-02T00:00:00Z"), uid("a"), "the older one");
        assert_eq!(apply(&mut index, "b", "RUNNING", "2026-01-03T00:00:00Z"), uid("b"));
        assert_eq!(apply(&mut index, "b", "FAILED", "2026-01-03T00:00:00Z"), uid("a"));
        index.remove_workflow(&("tinkerbell".into(), "a".into()));
        assert_eq!(index.workflow(&found.machine, found.nic()), None);
        assert!(index.workflows.is_empty() && index.claims.len() == index.workflows.len());
    }

    #[test]
    fn a_workflow_for_another_agent_does_not_keep_the_token_from_one_for_this() {
        let mut index = Index::default();
        index.apply_hardware(&hardware(&json!({})));
        let found = index.by_mac(mac()).unwrap();
        let mut stale = workflow("stale", "PENDING", "2026-01-01T00:00:00Z");
        stale.status.get_or_insert_default().agent_id = Some("elsewhere".into());
        index.apply_workflow(&stale);
        assert_eq!(index.workflow(&found.machine, found.nic()), Some("uid-stale"));
        let mut right = workflow("right", "PENDING", "2026-01-02T00:00:00Z");
        right.status.get_or_insert_default().agent_id = Some(found.nic().agent_id.clone());
        index.apply_workflow(&right);
        assert_eq!(index.workflow(&found.machine, found.nic()), Some("uid-right"));
    }
}
