// SPDX-License-Identifier: Apache-2.0

//! Sets of fields, in memory and in their `FieldsV1` form.
//!
//! `f:<name>` is a field, `k:{<keys>}` an item of a list map, `v:<value>` a value of a set, `i:<n>` an item by position; `.` says that the node itself is in
//! the set beside its children.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::{Keys, List, Shape};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Field(String),
    /// Key fields as JSON with sorted keys.
    Key(String),
    /// A plain value as JSON.
    Value(String),
    Index(u64),
}

impl Step {
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            // Parsed and printed again, so that equal keys compare equal however they were written.
            "k" => sorted(&serde_json::from_str(rest).ok()?).map(Self::Key),
            "v" => Some(Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// As error messages write it.
    pub fn show(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            Self::Value(value) => format!("[={value}]"),
            Self::Index(index) => format!("[{index}]"),
        }
    }

    /// The step to an item of a list map; key fields that are missing are left out.
    pub fn key(item: &Value, keys: &Keys<'_>) -> Self {
        let found: BTreeMap<&str, &Value> =
            keys.names().into_iter().filter_map(|name| Some((name, item.get(name)?))).collect();
        Self::Key(serde_json::to_string(&found).unwrap_or_default())
    }

    pub fn value(value: &Value) -> Self {
        Self::Value(value.to_string())
    }

    /// The step to the item at `index`, as its list tells items apart.
    pub fn of_item(item: &Value, list: &List<'_>) -> Option<Self> {
        match list {
            List::Map(keys) => Some(Self::key(item, keys)),
            List::Set => Some(Self::value(item)),
            List::Atomic => None,
        }
    }
}

fn sorted(value: &Value) -> Option<String> {
    let sorted: BTreeMap<&String, &Value> = value.as_object()?.iter().collect();
    serde_json::to_string(&sorted).ok()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The node itself is in the set.
    member: bool,
    children: FieldSet,
}

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet(BTreeMap<Step, Node>);

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn from_json(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, below) in value.as_object().into_iter().flatten() {
            let Some(step) = Step::decode(key) else { continue };
            let children = Self::from_json(below);
            let member = children.is_empty() || below.get(".").is_some();
            set.0.insert(step, Node { member, children });
        }
        set
    }

    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (step, node) in &self.0 {
            let mut below = node.children.to_json();
            if let (true, false, Some(below)) = (node.member, node.children.is_empty(), below.as_object_mut())
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(step.encode(), below);
        }
        Value::Object(map)
    }

    fn put(&mut self, step: Step, node: Node) {
        if node.member || !node.children.is_empty() {
            self.0.insert(step, node);
        }
    }

    /// One field.
    pub fn field(path: &[&str]) -> Self {
        let mut set = Self::default();
        if let Some((first, rest)) = path.split_first() {
            let node = Node { member: rest.is_empty(), children: Self::field(rest) };
            set.put(Step::Field((*first).to_owned()), node);
        }
        set
    }

    /// The fields that a configuration sets: leaves, items of lists, keys of maps; not the structures around them.
    pub fn of(value: &Value, shape: Shape<'_>) -> Self {
        let mut set = Self::default();
        match value {
            Value::Object(map) if !shape.is_atomic_map() => {
                for (name, below) in map {
                    let inner = shape.field(name);
                    let children = Self::of(below, inner);
                    let empty = below.as_object().is_some_and(Map::is_empty);
                    let member =
                        is_leaf(below, inner) || below.is_null() || empty || !shape.names_field(name);
                    set.put(Step::Field(name.clone()), Node { member, children });
                }
            }
            Value::Array(items) => {
                let list = shape.list();
                for item in items {
                    let Some(step) = Step::of_item(item, &list) else { break };
                    let children = if matches!(list, List::Map(_)) {
                        Self::of(item, shape.item())
                    } else {
                        Self::default()
                    };
                    set.put(step, Node { member: true, children });
                }
            }
            _ => {}
        }
        set
    }

    /// The nodes of `after` that are new or different; what is gone is not in it.
    pub fn changed(before: &Value, after: &Value, shape: Shape<'_>) -> Self {
        Self::compare(Some(before), after, shape)
    }

    /// Every node there is.
    pub fn all(value: &Value, shape: Shape<'_>) -> Self {
        Self::compare(None, value, shape)
    }

    fn compare(before: Option<&Value>, after: &Value, shape: Shape<'_>) -> Self {
        let mut set = Self::default();
        match after {
            Value::Object(map) if !shape.is_atomic_map() => {
                for (name, below) in map {
                    let old = before.and_then(|before| before.get(name));
                    set.put(Step::Field(name.clone()), Self::node(old, below, shape.field(name)));
                }
            }
            Value::Array(items) => {
                let list = shape.list();
                let old_items = before.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for item in items {
                    let Some(step) = Step::of_item(item, &list) else { break };
                    let old = old_items.iter().find(|old| Step::of_item(old, &list).as_ref() == Some(&step));
                    let node = match list {
                        List::Map(_) => Self::node(old, item, shape.item()),
                        List::Set | List::Atomic => Node { member: old.is_none(), children: Self::default() },
                    };
                    set.put(step, node);
                }
            }
            _ => {}
        }
        set
    }

    fn node(before: Option<&Value>, after: &Value, shape: Shape<'_>) -> Node {
        let Some(before) = before else {
            return Node { member: true, children: Self::all(after, shape) };
        };
        // Nothing is as good as an empty structure: only what is in it comes or goes.
        if before.is_null() && !is_leaf(after, shape) {
            return Node { member: false, children: Self::all(after, shape) };
        }
        if after.is_null() && !is_leaf(before, shape) {
            return Node::default();
        }
        if is_leaf(before, shape) || is_leaf(after, shape) {
            return Node { member: before != after, children: Self::default() };
        }
        if before.is_object() != after.is_object() {
            return Node { member: true, children: Self::all(after, shape) };
        }
        Node { member: false, children: Self::compare(Some(before), after, shape) }
    }

    /// Nobody owns `metadata` itself, only what is in it.
    pub fn without_metadata(mut self) -> Self {
        let step = Step::Field("metadata".into());
        if let Some(mut node) = self.0.remove(&step) {
            node.member = false;
            self.put(step, node);
        }
        self
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        for (step, node) in &other.0 {
            let own = result.0.entry(step.clone()).or_default();
            own.member |= node.member;
            own.children = own.children.union(&node.children);
        }
        result
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let mut result = Self::default();
        for (step, node) in &self.0 {
            let Some(theirs) = other.0.get(step) else { continue };
            let children = node.children.intersection(&theirs.children);
            result.put(step.clone(), Node { member: node.member && theirs.member, children });
        }
        result
    }

    pub fn difference(&self, other: &Self) -> Self {
        let mut result = Self::default();
        for (step, node) in &self.0 {
            let kept = match other.0.get(step) {
                None => node.clone(),
                Some(theirs) => Node {
                    member: node.member && !theirs.member,
                    children: node.children.difference(&theirs.children),
                },
            };
            result.put(step.clone(), kept);
        }
        result
    }

    /// Takes out a top-level field with everything below it.
    pub fn remove_field(&mut self, name: &str) {
        self.0.remove(&Step::Field(name.to_owned()));
    }

    /// True when all of `other` is in it.
    pub fn has(&self, other: &Self) -> bool {
        self.intersection(other) == *other
    }

    /// Below a step: whether the node there is in the set, and what of its children is. None when nothing of it is.
    pub fn at(&self, step: &Step) -> Option<(bool, &FieldSet)> {
        self.0.get(step).map(|node| (node.member, &node.children))
    }

    /// The members as error messages write them: those of a node before those further below.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        let path = |step: &Step| format!("{prefix}{}", step.show());
        paths.extend(self.0.iter().filter(|(_, node)| node.member).map(|(step, _)| path(step)));
        for (step, node) in &self.0 {
            node.children.collect(&path(step), paths);
        }
    }
}

/// True for values that are owned as a whole.
pub(super) fn is_leaf(value: &Value, shape: Shape<'_>) -> bool {
    match value {
        Value::Object(_) => shape.is_atomic_map(),
        Value::Array(_) => shape.list() == List::Atomic,
        _ => true,
    }
}
