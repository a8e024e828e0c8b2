// SPDX-License-Identifier: Apache-2.0
//! From a seed to a sequence of steps. Pure: the same seed gives the same sequence.
//!
//! It keeps a guess of what exists, so that most requests meet something and name versions and UIDs that were once true.
//! A wrong guess does no harm: what is asked then is only less interesting.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::dice::Dice;
use super::kinds::{KINDS, Kind};
use super::step::{Action, Fact, Reference, Request, Step};
use super::{requests, spoil};

/// Namespaces that sequences work in.
pub const NAMESPACES: [&str; 2] = ["east", "west"];
/// Names per kind and namespace.
const SLOTS: usize = 3;
/// Steps between two looks at everything.
const SETTLE_EVERY: usize = 40;

/// `generateName` of the objects that have one.
pub(super) const GENERATED: &str = "made-";

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";

/// The sequence of a seed: about `length` steps that send something, and the waits between them.
pub fn sequence(seed: u64, length: usize) -> Vec<Step> {
    let mut generator = Generator {
        dice: Dice::new(seed),
        spoiled: false,
        lives: BTreeMap::new(),
        owners: BTreeSet::new(),
        steps: Vec::new(),
    };
    generator.open_watches();
    while generator.steps.len() < length {
        let plan = *generator.dice.weighted(requests::PLAN);
        plan(&mut generator);
        if generator.steps.len().is_multiple_of(SETTLE_EVERY) {
            generator.settle();
        }
    }
    generator.settle();
    generator.steps
}

/// An object that a request is about, whether it exists or not.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    pub kind: &'static Kind,
    pub namespace: Option<&'static str>,
    pub name: String,
}

impl Aim {
    pub fn collection(&self) -> String {
        self.kind.collection(self.namespace)
    }

    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    fn key(&self) -> Key {
        (self.kind.plural, self.namespace, self.name.clone())
    }

    /// The object with this content.
    pub fn object(&self, content: Value, mut metadata: Value) -> Value {
        let mut object = json!({"apiVersion": self.kind.api_version(), "kind": self.kind.kind});
        set(&mut metadata, "name", self.name.as_str().into());
        if let Some(namespace) = self.namespace {
            set(&mut metadata, "namespace", namespace.into());
        }
        set(&mut object, "metadata", metadata);
        if let (Value::Object(object), Value::Object(content)) = (&mut object, content) {
            object.extend(content);
        }
        object
    }
}

/// Plural, namespace and name: both APIs of Events show the same objects.
type Key = (&'static str, Option<&'static str>, String);

pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(field.to_owned(), value);
    }
}

/// What the generator believes of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    pub alive: bool,
    /// The step that created it last.
    pub created: usize,
    /// Steps whose answers showed a version of it, the newest last.
    pub writes: Vec<usize>,
    /// Has a finalizer of ours.
    pub held: bool,
}

pub(super) struct Generator {
    pub dice: Dice,
    /// The content that was made last has something wrong in it.
    pub spoiled: bool,
    lives: BTreeMap<Key, Life>,
    /// Objects that another one has named as its owner.
    owners: BTreeSet<Key>,
    pub steps: Vec<Step>,
}

impl Generator {
    /// Watches of everything, some with a selector, from the start to the end.
    fn open_watches(&mut self) {
        for kind in KINDS {
            let mut queries = vec!["watch=1&resourceVersion=⟨version:LIST⟩".to_owned()];
            if self.dice.chance(40) {
                queries.push("watch=1&resourceVersion=⟨version:LIST⟩&labelSelector=tier%3Dfront".to_owned());
            }
            if let Some(field) = kind.fields.first() {
                let field = escape(field);
                queries.push(format!("watch=1&resourceVersion=⟨version:LIST⟩&fieldSelector={field}"));
            }
            // The programs of Kubernetes have objects of the built-in kinds in other namespaces.
            let collection = kind.collection((!kind.custom).then_some("east"));
            let list = self.ask("list", "", "GET", collection.clone(), Value::Null);
            for query in queries {
                let query = query.replace("⟨version:LIST⟩", &told(Fact::Version, list));
                self.watch(format!("{collection}?{query}"));
            }
        }
    }

    /// An object of any kind; mostly one that exists.
    pub fn aim(&mut self) -> Aim {
        let rows: Vec<(u32, &'static Kind)> = KINDS.iter().map(|kind| (kind.weight, kind)).collect();
        let kind = *self.dice.weighted(&rows);
        self.aim_of(kind)
    }

    /// An object of a kind.
    pub fn aim_of(&mut self, kind: &'static Kind) -> Aim {
        let slot = self.dice.below(SLOTS);
        let initial = kind.plural.chars().next().unwrap_or('x');
        let aim = Aim {
            kind,
            namespace: kind.namespaced.then(|| self.dice.pick(&["east", "east", "east", "west"])),
            name: format!("{initial}{slot}"),
        };
        // An object with a generated name now and then.
        let generated = |key: &&Key| key.0 == kind.plural && key.1 == aim.namespace && key.2.starts_with('⟨');
        match self.lives.keys().rfind(generated) {
            Some(key) if self.dice.chance(10) => Aim { name: key.2.clone(), ..aim },
            _ => aim,
        }
    }

    pub fn life(&self, aim: &Aim) -> Life {
        self.lives.get(&aim.key()).cloned().unwrap_or_default()
    }

    pub fn life_mut(&mut self, aim: &Aim) -> &mut Life {
        self.lives.entry(aim.key()).or_default()
    }

    /// An object of the namespace that is there, for an owner reference.
    pub fn owner(&mut self, of: &Aim) -> Option<Value> {
        let there: Vec<(Key, usize)> = self
            .lives
            .iter()
            .filter(|(key, life)| {
                life.alive && (key.1.is_none() || key.1 == of.namespace) && **key != of.key()
            })
            .map(|(key, life)| (key.clone(), life.created))
            .collect();
        let rows: Vec<&(Key, usize)> = there.iter().collect();
        if rows.is_empty() {
            return None;
        }
        let (key, created) = self.dice.pick(&rows);
        let kind = KINDS.iter().find(|kind| kind.plural == key.0)?;
        let uid = match self.dice.chance(90) {
            true => told(Fact::Uid, *created),
            false => "00000000-0000-4000-8000-000000000000".to_owned(),
        };
        self.owners.insert(key.clone());
        let mut owner =
            json!({"apiVersion": kind.api_version(), "kind": kind.kind, "name": key.2, "uid": uid});
        if self.dice.chance(40) {
            set(&mut owner, "blockOwnerDeletion", true.into());
        }
        if self.dice.chance(30) {
            set(&mut owner, "controller", true.into());
        }
        Some(owner)
    }

    /// True for an object on which others depend.
    pub fn is_owner(&self, aim: &Aim) -> bool {
        self.owners.contains(&aim.key())
    }

    /// True once there has been an owner.
    pub fn has_owners(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Labels, annotations, finalizers and owners, as they come.
    pub fn metadata(&mut self, aim: &Aim) -> Value {
        let mut metadata = json!({});
        if self.dice.chance(50) {
            let tier = self.dice.pick(&["front", "back"]);
            set(&mut metadata, "labels", json!({"tier": tier, "n": self.dice.below(3).to_string()}));
        }
        if self.dice.chance(20) {
            set(&mut metadata, "annotations", json!({"example.com/note": self.dice.pick(&["a", "b"])}));
        }
        if self.dice.chance(10) {
            set(&mut metadata, "finalizers", json!(["example.com/hold"]));
        }
        if self.dice.chance(8)
            && let Some(owner) = self.owner(aim)
        {
            set(&mut metadata, "ownerReferences", json!([owner]));
        }
        metadata
    }

    /// Valid content of a kind, or content with something wrong in it.
    pub fn content(&mut self, kind: &Kind) -> Value {
        let mut content = (kind.content)(&mut self.dice);
        self.spoiled = self.dice.chance(25);
        if self.spoiled {
            spoil::spoil(&mut self.dice, &mut content);
        }
        content
    }

    pub fn push(&mut self, what: impl Into<String>, about: &str, action: Action) -> usize {
        let number = self.steps.len();
        self.steps.push(Step { number, what: what.into(), about: about.to_owned(), action });
        number
    }

    /// A request with a JSON body (none for null); gives its number.
    pub fn ask(&mut self, what: &str, about: &str, method: &'static str, path: String, body: Value) -> usize {
        let (headers, body) = match body {
            Value::Null => (Vec::new(), String::new()),
            body => (vec![("content-type", JSON.to_owned())], body.to_string()),
        };
        self.push(what, about, Action::Ask(Request { method, path, headers, body }))
    }

    pub fn watch(&mut self, path: String) {
        let request = Request { method: "GET", path, headers: Vec::new(), body: String::new() };
        self.push("watch", "", Action::Watch(request));
    }

    pub fn settle(&mut self) {
        self.push("settle", "", Action::Settle);
    }
}

/// Text inside a query; references stay as they are.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | '⟨' | '⟩' | ':' => {
                escaped.push(letter)
            }
            other => other.to_string().bytes().for_each(|byte| escaped.push_str(&format!("%{byte:02X}"))),
        }
    }
    escaped
}

/// A path with a query, if there is any.
pub(super) fn with_query(path: &str, query: &[String]) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// A reference as text.
pub(super) fn told(fact: Fact, step: usize) -> String {
    Reference { fact, step }.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_seed_gives_one_sequence() {
        assert_eq!(sequence(7, 200), sequence(7, 200));
        assert_ne!(sequence(7, 200), sequence(8, 200));
    }

    #[test]
    fn sequences_meet_every_kind_and_every_verb() {
        let steps: Vec<Step> = (0..10).flat_map(|seed| sequence(seed, 300)).collect();
        for kind in KINDS {
            let collection = format!("/{}/", kind.plural);
            assert!(steps.iter().any(|step| step.about.contains(&collection)), "{kind:?}");
        }
        let whats: BTreeSet<&str> = steps.iter().map(|step| step.what.as_str()).collect();
        assert!(whats.len() > 25, "{whats:?}");
    }

    proptest! {
        #[test]
        fn every_reference_names_an_earlier_step_that_can_tell(seed in any::<u64>()) {
            let steps = sequence(seed, 150);
            for (at, step) in steps.iter().enumerate() {
                prop_assert_eq!(step.number, at);
                for reference in step.needs() {
                    prop_assert!(reference.step < at, "step {} needs {}", at, reference);
                    let told = steps.get(reference.step).map(|earlier| &earlier.action);
                    let Some(Action::Ask(request)) = told else {
                        return Err(TestCaseError::fail(format!("{reference} is told by no request")));
                    };
                    let lists = request.method == "GET";
                    let can = match reference.fact {
                        Fact::Continue => lists && request.path.contains("limit="),
                        Fact::Name | Fact::Uid => matches!(request.method, "POST" | "PATCH" | "PUT"),
                        Fact::Version => true,
                    };
                    prop_assert!(can, "{} is not told by {}", reference, request);
                }
            }
        }
    }
}
