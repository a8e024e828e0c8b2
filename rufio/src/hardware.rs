// SPDX-License-Identifier: Apache-2.0

//! Which Hardware a Machine powers: `spec.bmcRef.name` in the Machine's namespace. Needed for Events only.
//!
//! One task follows the watch and owns the changes; readers take a short look. Only names are kept, not the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use api::v1alpha1::Hardware;
use daemon::events::hardware_reference;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

/// Namespace and name.
type Key = (String, String);

/// Hardware by the Machine that powers it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Machine to Hardware names; several are a mistake of the manifests, and all are told.
    by_machine: BTreeMap<Key, BTreeSet<String>>,
    /// Hardware to its Machine's name and its UID, to take the entry back.
    by_hardware: BTreeMap<Key, (String, Option<String>)>,
}

impl Index {
    /// References to the Hardware of this Machine.
    pub(crate) fn of_machine(&self, namespace: &str, machine: &str) -> Vec<ObjectReference> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let names = entries.by_machine.get(&(namespace.to_owned(), machine.to_owned()));
        let reference = |name: &String| {
            let uid = entries
                .by_hardware
                .get(&(namespace.to_owned(), name.clone()))
                .and_then(|(_, uid)| uid.as_deref());
            hardware_reference(namespace, name, uid)
        };
        names.into_iter().flatten().map(reference).collect()
    }

    /// Follows the watch until `shutdown`.
    pub(crate) async fn follow(self, api: Api<Hardware>, shutdown: CancellationToken) {
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        daemon::watch::follow(events, shutdown, |event| self.apply(event, &mut seen)).await;
    }

    fn apply(&self, event: Event<Hardware>, seen: &mut BTreeSet<Key>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(hardware) => {
                seen.insert(key(&hardware));
                entries.put(&hardware);
            }
            Event::InitDone => {
                let gone: Vec<Key> =
                    entries.by_hardware.keys().filter(|key| !seen.contains(*key)).cloned().collect();
                for key in gone {
                    entries.remove(&key);
                }
                seen.clear();
            }
            Event::Apply(hardware) => entries.put(&hardware),
            Event::Delete(hardware) => entries.remove(&key(&hardware)),
        }
    }
}

impl Entries {
    fn put(&mut self, hardware: &Hardware) {
        let key = key(hardware);
        self.remove(&key);
        let Some(machine) = hardware.bmc_name() else { return };
        self.by_machine.entry((key.0.clone(), machine.to_owned())).or_default().insert(key.1.clone());
        self.by_hardware.insert(key, (machine.to_owned(), hardware.uid()));
    }

    fn remove(&mut self, key: &Key) {
        let Some((machine, _)) = self.by_hardware.remove(key) else { return };
        let place = (key.0.clone(), machine);
        if let Some(names) = self.by_machine.get_mut(&place) {
            names.remove(&key.1);
            if names.is_empty() {
                self.by_machine.remove(&place);
            }
        }
    }
}

fn key(hardware: &Hardware) -> Key {
    (hardware.namespace().unwrap_or_default(), hardware.name_any())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use api::v1alpha1::{BmcRef, Hardware, HardwareSpec};
    use kube::runtime::watcher::Event;

    use super::Index;

    fn hardware(name: &str, machine: Option<&str>) -> Hardware {
        let bmc_ref = machine.map(|name| BmcRef { name: name.to_owned(), ..BmcRef::default() });
        let mut hardware = Hardware::new(name, HardwareSpec { bmc_ref, ..HardwareSpec::default() });
        hardware.metadata.namespace = Some("lab".into());
        hardware
    }

    #[test]
    fn the_index_follows_changes_and_relists() {
        let (index, mut seen) = (Index::default(), BTreeSet::new());
        let names =
            |machine| index.of_machine("lab", machine).into_iter().filter_map(|r| r.name).collect::<Vec<_>>();
        index.apply(Event::Apply(hardware("m1", Some("bmc1"))), &mut seen);
        index.apply(Event::Apply(hardware("m2", Some("bmc2"))), &mut seen);
        assert_eq!(names("bmc1"), ["m1"]);
        index.apply(Event::Apply(hardware("m1", Some("bmc3"))), &mut seen);
        assert!(names("bmc1").is_empty());
        assert_eq!(names("bmc3"), ["m1"]);
        for event in [Event::Init, Event::InitApply(hardware("m1", None)), Event::InitDone] {
            index.apply(event, &mut seen);
        }
        assert!(names("bmc3").is_empty() && names("bmc2").is_empty(), "what a new list lacks is gone");
        assert!(index.of_machine("other", "bmc2").is_empty());
    }
}
