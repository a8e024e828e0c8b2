// SPDX-License-Identifier: Apache-2.0

//! What goes along in a move, and whether it arrived.
//!
//! Owns which objects are ours: everything of our kinds in any namespace, and ConfigMaps and Secrets that are in our namespaces, are named by a BMC, or are
//! marked for `clusterctl move`. Events and Leases stay: they tell of the server that was. All are of one moment of their server, and kept as text.
//! How they get to the other server is [`crate::restore::put`]'s.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::annotations::{DEFAULT_NAMESPACE, FIRST_UID, LABEL_MOVE, SYSTEM_NAMESPACE};
use api::anywhere::v1alpha1::NAMESPACE;
use kube::Client;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::MoveError;
use crate::{
    backup::{self, BackupError, Collection, Moment},
    restore::put::{Item, Server, content, is_going, text},
};

/// Namespaces that are ours with all ConfigMaps and Secrets in them.
const OURS: [&str; 3] = [DEFAULT_NAMESPACE, SYSTEM_NAMESPACE, NAMESPACE];
/// Secrets that tell how something was installed into a cluster; they belong to that cluster.
const OF_HELM: &str = "helm.sh/release.v1";

/// An object's place: path of its collection, and its name.
type Place = (String, String);

/// The objects of one moment.
pub(crate) struct Cargo {
    pub(crate) items: Vec<Item>,
}

/// How two cargoes differ.
#[derive(Default)]
pub(crate) struct Difference {
    /// What is not there, or is not the same.
    pub(crate) differing: Vec<Item>,
    /// What is there, and is ours, and is not here any more.
    pub(crate) extra: Vec<Item>,
}

/// That everything arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How many objects of each kind.
    pub counts: BTreeMap<String, usize>,
    /// SHA-256 over their contents, as both sides have them.
    pub digest: String,
}

impl Proof {
    /// How many objects.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.counts.values().sum()
    }
}

impl Cargo {
    /// Reads everything that goes along.
    ///
    /// # Errors
    ///
    /// When the server does not give it, or an object belongs to one that does not go along.
    pub(crate) async fn read(client: &Client) -> Result<Self, MoveError> {
        let mut attempt = 1;
        loop {
            match Self::at(&Moment::now(client).await?).await {
                Err(error) if error.is_gone() && attempt < backup::ATTEMPTS => attempt += 1,
                read => return Ok(Self { items: read? }),
            }
        }
    }

    async fn at(moment: &Moment) -> Result<Vec<Item>, BackupError> {
        let (mut items, mut named) = (Vec::new(), BTreeSet::new());
        for definition in api::crds() {
            let Some(collection) = Collection::of_definition(&json!(definition)) else { continue };
            let take = |mut object: Value| {
                if collection.resource.kind == "Machine" {
                    references(object.get("spec").unwrap_or(&Value::Null), &mut named);
                }
                if collection.resource.kind == "Workflow" {
                    keep_first_uid(&mut object);
                }
                items.push(Item::of("", 0, &collection, &object));
                Ok(())
            };
            match moment.each(&collection, take).await {
                // A server of an earlier version knows fewer kinds.
                Err(error) if error.is_unknown() => {}
                other => other?,
            }
        }
        let [_, _, _, maps, secrets] = backup::builtin();
        for collection in [&maps, &secrets] {
            let take = |object: Value| {
                if goes(&object, &named) {
                    items.push(Item::of("", 0, collection, &object));
                }
                Ok(())
            };
            moment.each(collection, take).await?;
        }
        Ok(items)
    }

    /// Objects that belong to one that does not go along: the other server's garbage collector would remove them.
    pub(crate) fn orphans(&self) -> Vec<String> {
        let known: HashSet<&str> = self.items.iter().map(|item| item.uid.as_str()).collect();
        let lost = |item: &&Item| item.owners.iter().any(|owner| !known.contains(owner.as_str()));
        self.items.iter().filter(lost).map(Item::to_string).collect()
    }

    /// Namespaces that something is in.
    pub(crate) fn namespaces(&self) -> BTreeSet<&str> {
        self.items.iter().map(|item| item.namespace.as_str()).collect()
    }

    /// Notes for each object the UID that it has on `server`.
    pub(crate) fn note_uids(&self, there: &Self, server: &Server) {
        let places = there.places();
        for item in &self.items {
            if let Some(other) = places.get(&item.place()) {
                server.note(item, &other.object());
            }
        }
    }

    fn places(&self) -> BTreeMap<Place, &Item> {
        self.items.iter().map(|item| (item.place(), item)).collect()
    }

    /// What differs on `server`, which has `there`, and the proof when that is nothing.
    pub(crate) fn compare(&self, there: &Self, server: &Server) -> Result<Proof, Difference> {
        let mut places = there.places();
        let (mut difference, mut here_digest, mut there_digest) =
            (Difference::default(), Sha256::new(), Sha256::new());
        let mut counts = BTreeMap::new();
        for (place, item) in self.places() {
            let wanted = lasting(&server.turned(item));
            let found = places.remove(&place).map(|other| lasting(&other.object()));
            if found.as_ref() != Some(&wanted) {
                difference.differing.push(item.clone());
            }
            for (digest, object) in
                [(&mut here_digest, &wanted), (&mut there_digest, found.as_ref().unwrap_or(&Value::Null))]
            {
                digest.update(format!("{}/{}\0{object}\n", place.0, place.1));
            }
            *counts.entry(item.collection.resource.kind.clone()).or_default() += 1;
        }
        difference.extra = places.into_values().filter(|item| item.is_of_our_kinds()).cloned().collect();
        let (here, there) = (hex(&here_digest.finalize()), hex(&there_digest.finalize()));
        if difference.differing.is_empty() && difference.extra.is_empty() && here == there {
            return Ok(Proof { counts, digest: here });
        }
        Err(difference)
    }
}

impl Item {
    fn place(&self) -> Place {
        (self.path(), self.name.clone())
    }

    /// Whether nobody else can have made it. ConfigMaps and Secrets that only one side has may be somebody else's, and stay.
    pub(crate) fn is_of_our_kinds(&self) -> bool {
        !self.collection.resource.group.is_empty()
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.collection.resource.kind, self.namespace, self.name)
    }
}

/// An object as it has to be on both sides, with whether it is being removed.
fn lasting(object: &Value) -> Value {
    json!([content(object), is_going(object)])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a ConfigMap or Secret goes along.
fn goes(object: &Value, named: &BTreeSet<(String, String)>) -> bool {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let ours = OURS.contains(&namespace) && text(object, "/type") != OF_HELM;
    let marked = object.pointer("/metadata/labels").is_some_and(|labels| labels.get(LABEL_MOVE).is_some());
    ours || marked || named.contains(&(namespace.to_owned(), name.to_owned()))
}

/// Notes what is named by namespace and name in a BMC's connection: its Secrets.
fn references(value: &Value, named: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(name)), Some(Value::String(namespace))) =
                (fields.get("name"), fields.get("namespace"))
            {
                named.insert((namespace.clone(), name.clone()));
            }
            fields.values().for_each(|value| references(value, named));
        }
        Value::Array(all) => all.iter().for_each(|value| references(value, named)),
        _ => {}
    }
}

/// Tokens of agents that run name their Workflow by the UID that it had when they booted.
fn keep_first_uid(workflow: &mut Value) {
    let uid = workflow.pointer("/metadata/uid").cloned().unwrap_or_default();
    let Some(metadata) = workflow.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.entry(FIRST_UID).or_insert(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_goes_along_and_what_is_others_stays() {
        let named = BTreeSet::from([("racks".to_owned(), "bmc-1".to_owned())]);
        let object = |namespace: &str, name: &str, label: &str, kind: &str| json!({"metadata": {"namespace": namespace, "name": name, "labels": {label: "true"}}, "type": kind});
        for (object, expected) in [
            (object(SYSTEM_NAMESPACE, "tink-agent-token-key", "x", ""), true),
            (object(NAMESPACE, "sh.helm.release.v1.stack.v1", "x", OF_HELM), false),
            (object("racks", "bmc-1", "x", ""), true),
            (object("racks", "bmc-2", "x", ""), false),
            (object("racks", "bmc-2", LABEL_MOVE, ""), true),
            (object("kube-system", "bmc-1", "x", ""), false),
        ] {
            assert_eq!(goes(&object, &named), expected, "{object}");
        }
    }

    #[test]
    fn secrets_are_found_wherever_a_bmc_names_them() {
        let spec = json!({"connection": {"authSecretRef": {"name": "a", "namespace": "n"},
            "providerOptions": {"rpc": {"hmac": {"secrets": {"sha256": [{"name": "b", "namespace": "n"}]}}}}}});
        let mut named = BTreeSet::new();
        references(&spec, &mut named);
        assert_eq!(named.len(), 2);
    }

    #[test]
    fn the_first_uid_stays_the_first() {
        let mut workflow = json!({"metadata": {"uid": "one"}});
        keep_first_uid(&mut workflow);
        workflow["metadata"]["uid"] = "two".into();
        keep_first_uid(&mut workflow);
        assert_eq!(workflow["metadata"]["annotations"][FIRST_UID], "one");
    }
}
