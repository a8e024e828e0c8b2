// SPDX-License-Identifier: Apache-2.0
//! Which machine has which address: every lookup is one map access, no request reaches the API server.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use api::v1alpha1::Hardware;

use crate::machine::{Key, Machine};

/// Why no machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No Hardware has it.
    Unknown,
    /// More than one Hardware has it: answering would be guessing.
    Ambiguous,
}

/// All machines, by object, address and instance ID.
#[derive(Debug, Default)]
pub(crate) struct Index {
    machines: HashMap<Key, Arc<Machine>>,
    by_address: HashMap<IpAddr, BTreeSet<Key>>,
    by_instance: HashMap<String, BTreeSet<Key>>,
}

impl Index {
    /// Adds a Hardware or replaces its earlier form.
    pub(crate) fn apply(&mut self, hardware: &Hardware) {
        let earlier = self.remove(&Key::of(hardware));
        let machine = Machine::new(hardware, earlier.map(|machine| machine.last_fetch()));
        for address in &machine.addresses {
            self.by_address.entry(*address).or_default().insert(machine.key.clone());
        }
        if let Some(id) = &machine.instance_id {
            self.by_instance.entry(id.clone()).or_default().insert(machine.key.clone());
        }
        self.machines.insert(machine.key.clone(), Arc::new(machine));
    }

    /// Forgets a Hardware.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Machine>> {
        let machine = self.machines.remove(key)?;
        for address in &machine.addresses {
            forget(&mut self.by_address, address, key);
        }
        if let Some(id) = &machine.instance_id {
            forget(&mut self.by_instance, id, key);
        }
        Some(machine)
    }

    /// Makes `all` the whole truth.
    pub(crate) fn replace(&mut self, all: &[Hardware]) {
        let kept: BTreeSet<Key> = all.iter().map(Key::of).collect();
        let gone: Vec<Key> = self.machines.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        for hardware in all {
            self.apply(hardware);
        }
    }

    /// The one machine with this reserved address.
    pub(crate) fn by_address(&self, address: IpAddr) -> Result<Arc<Machine>, Miss> {
        self.only(self.by_address.get(&address))
    }

    /// The one machine with this instance ID.
    pub(crate) fn by_instance(&self, id: &str) -> Result<Arc<Machine>, Miss> {
        self.only(self.by_instance.get(id))
    }

    /// How many machines there are.
    pub(crate) fn len(&self) -> usize {
        self.machines.len()
    }

    fn only(&self, keys: Option<&BTreeSet<Key>>) -> Result<Arc<Machine>, Miss> {
        let mut keys = keys.into_iter().flatten();
        let first = keys.next().and_then(|key| self.machines.get(key)).ok_or(Miss::Unknown)?;
        if keys.next().is_some() { Err(Miss::Ambiguous) } else { Ok(Arc::clone(first)) }
    }
}

fn forget<K: Hash + Eq>(map: &mut HashMap<K, BTreeSet<Key>>, entry: &K, key: &Key) {
    if let Some(keys) = map.get_mut(entry) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::tests::hardware;

    #[derive(Debug, Clone)]
    enum Step {
        Apply(u8, Vec<u8>),
        Remove(u8),
        Replace(Vec<(u8, Vec<u8>)>),
    }

    fn machine(name: u8, addresses: &[u8]) -> Hardware {
        let addresses: Vec<String> = addresses.iter().map(|last| format!("10.0.0.{last}")).collect();
        hardware(&format!("m{name}"), &addresses.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn step() -> impl Strategy<Value = Step> {
        let addresses = || prop::collection::vec(0u8..4, 0..3);
        prop_oneof![
            (0u8..4, addresses()).prop_map(|(name, addresses)| Step::Apply(name, addresses)),
            (0u8..4).prop_map(Step::Remove),
            prop::collection::vec((0u8..4, addresses()), 0..4).prop_map(Step::Replace),
        ]
    }

    proptest! {
        /// The index answers like a search through all Hardware, whatever came before.
        #[test]
        fn the_index_is_a_search_through_all_hardware(steps in prop::collection::vec(step(), 0..20)) {
            let mut index = Index::default();
            let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
            for step in steps {
                match step {
                    Step::Apply(name, addresses) => {
                        index.apply(&machine(name, &addresses));
                        model.insert(name, addresses);
                    }
                    Step::Remove(name) => {
                        index.remove(&Key::of(&machine(name, &[])));
                        model.remove(&name);
                    }
                    Step::Replace(all) => {
                        index.replace(&all.iter().map(|(name, addresses)| machine(*name, addresses)).collect::<Vec<_>>());
                        model = all.into_iter().collect();
                    }
                }
                for last in 0u8..4 {
                    let owners: Vec<u8> = model.iter().filter(|(_, all)| all.contains(&last)).map(|(name, _)| *name).collect();
                    let found = index.by_address(IpAddr::from([10, 0, 0, last])).map(|machine| machine.key.name.clone());
                    let expected = match owners.as_slice() {
                        [] => Err(Miss::Unknown),
                        [name] => Ok(format!("m{name}")),
                        _ => Err(Miss::Ambiguous),
                    };
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(index.len(), model.len());
            }
        }
    }
}
