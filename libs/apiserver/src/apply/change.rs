// SPDX-License-Identifier: Apache-2.0

//! What a change means for the owners of an object: each sees it in the version that it wrote in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::FieldSet;
use super::managed::{Identity, Managed, Owned, bound};
use super::merge;
use super::shape::Shape;
use super::{Applied, Manager};
use crate::object;
use crate::registry::{Builtin, Served, Version};

/// Who owns what was there when somebody first applied and nobody was noted.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Version of the Scale of an object.
pub(super) const SCALE: &str = "autoscaling/v1";

/// The versions of a resource as their owners know them, and the part of an object that a write in one of them is about.
pub(super) struct Types<'a> {
    /// Version of the write.
    pub own: String,
    shapes: BTreeMap<String, Shape<'a>>,
    /// Fields that the write may give, but that are reset. Kubernetes knows of them in the version of the write alone: owners in another one lose what the
    /// write would change there.
    reset: &'static [&'static str],
}

impl<'a> Types<'a> {
    /// Of a resource, for a write through a subresource or none.
    pub fn of(served: &'a Served, subresource: &str) -> Self {
        let resource = &served.resource;
        let definition = resource.builtin() == Some(Builtin::CustomResourceDefinition);
        let reset: &[&str] = match subresource {
            "" if served.version().status => &["status"],
            "status" if definition => &["metadata", "spec"],
            "status" => &["spec"],
            "finalize" => &["metadata", "status"],
            _ => &[],
        };
        let shape =
            |version: &'a Version| (object::api_version(&resource.group, &version.name), Shape::of(version));
        Self { own: served.api_version(), shapes: resource.versions.iter().map(shape).collect(), reset }
    }

    /// Of the Scale of an object.
    pub fn scale() -> Self {
        let shapes = BTreeMap::from([(SCALE.to_owned(), Shape::scale())]);
        Self { own: SCALE.into(), shapes, reset: &[] }
    }

    fn shape(&self, api_version: &str) -> Shape<'a> {
        self.shapes.get(api_version).copied().unwrap_or(Shape::Unknown)
    }

    /// Takes out what is owned in a version that the resource does not have (any more). To both APIs of Events the other one's versions are unknown.
    pub fn forget_unknown(&self, managed: &mut Managed) {
        managed.retain(|_, owned| self.shapes.contains_key(&owned.api_version));
    }

    /// What the writer and the owners see of a change.
    fn compare(&self, managed: &Managed, before: &Value, after: &Value) -> Seen<'_> {
        let sees = |version: &String| {
            *version == self.own || managed.values().any(|owned| owned.api_version == *version)
        };
        let seen = self.shapes.iter().filter(|(version, _)| sees(version)).map(|(version, shape)| {
            let reset: &[&str] = if *version == self.own { self.reset } else { &[] };
            (version.as_str(), Comparison::of(before, after, *shape).without(reset))
        });
        Seen { by_version: seen.collect(), nothing: Comparison::default() }
    }
}

/// What a change does in one version.
#[derive(Debug, Default)]
struct Comparison {
    /// New or different.
    changed: FieldSet,
    gone: FieldSet,
}

impl Comparison {
    fn of(before: &Value, after: &Value, shape: Shape<'_>) -> Self {
        Self {
            changed: FieldSet::changed(before, after, shape),
            gone: FieldSet::all(before, shape).difference(&FieldSet::all(after, shape)),
        }
    }

    fn without(mut self, fields: &[&str]) -> Self {
        for field in fields {
            self.changed.remove_field(field);
            self.gone.remove_field(field);
        }
        self
    }
}

/// What a change does in each version.
struct Seen<'a> {
    by_version: BTreeMap<&'a str, Comparison>,
    nothing: Comparison,
}

impl Seen<'_> {
    fn by(&self, api_version: &str) -> &Comparison {
        self.by_version.get(api_version).unwrap_or(&self.nothing)
    }
}

/// The owners after `before` became `after` by an update.
pub(super) fn update(
    types: &Types<'_>,
    mut managed: Managed,
    (before, after): (&Value, &Value),
    manager: &Manager,
) -> Managed {
    types.forget_unknown(&mut managed);
    let seen = types.compare(&managed, before, after);
    // Nobody owns what is not there any more, and only the writer owns what changed.
    for owned in managed.values_mut() {
        let seen = seen.by(&owned.api_version);
        owned.fields = owned.fields.difference(&seen.gone).difference(&seen.changed);
    }
    let changed = seen.by(&types.own).changed.clone().without_metadata();
    if !changed.is_empty() {
        let identity = Identity::update(&manager.name, &types.own, &manager.subresource);
        let owned = managed.entry(identity).or_insert_with(|| Owned {
            time: String::new(),
            api_version: types.own.clone(),
            fields: FieldSet::default(),
        });
        owned.fields = owned.fields.union(&changed);
        owned.time.clone_from(&manager.time);
    }
    managed.retain(|_, owned| !owned.fields.is_empty());
    bound(&mut managed);
    managed
}

/// What an apply finds.
pub(super) struct Found<'a> {
    /// What there is.
    pub before: &'a Value,
    /// There is nothing yet.
    pub new: bool,
    /// What of it nobody set.
    pub made: &'a Value,
    pub managed: Managed,
    /// What this manager may change though others own it.
    pub upgraded: FieldSet,
}

/// What an apply makes of it.
pub(super) struct Made {
    pub after: Value,
    pub managed: Managed,
}

/// Lays a configuration over what there is.
///
/// # Errors
/// Owner and path of every field that somebody else owns and that is to change, unless `force` is set.
pub(super) fn apply(
    types: &Types<'_>,
    found: Found<'_>,
    applied: &Applied,
    (manager, force): (&Manager, bool),
) -> Result<Made, Vec<(String, String)>> {
    let shape = types.shape(&types.own);
    let identity = Identity::apply(&manager.name, &manager.subresource);
    let mut wanted = FieldSet::of(&applied.given, shape);
    types.reset.iter().for_each(|field| wanted.remove_field(field));
    let Found { before, new, made, mut managed, upgraded } = found;
    if managed.is_empty() {
        let first = Manager { name: BEFORE_FIRST_APPLY.into(), ..manager.clone() };
        managed = update(types, managed, (made, before), &first);
    }
    types.forget_unknown(&mut managed);
    let merged = merge::merge(before, &applied.object, shape);
    // As it is given: what says nothing is set, too, though it is not kept.
    let asked = merge::merge(before, &applied.given, shape);
    let seen = types.compare(&managed, before, &asked);
    let taken = |owned: &Owned| owned.fields.intersection(&seen.by(&owned.api_version).changed);
    if !force {
        let mut others: Vec<_> = managed.iter().filter(|(other, _)| **other != identity).collect();
        others.sort_by_key(|(other, owned)| other.place(&owned.time));
        let conflicts = others.into_iter().flat_map(|(other, owned)| {
            let disputed = taken(owned).difference(&upgraded).paths();
            disputed.into_iter().map(move |path| (other.told(), path))
        });
        let conflicts: Vec<_> = conflicts.collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    let last = managed.remove(&identity);
    let given_up = last.as_ref().map(|last| last.fields.difference(&wanted)).unwrap_or_default();
    let mut others = FieldSet::default();
    for owned in managed.values_mut() {
        owned.fields = owned.fields.difference(&taken(owned));
        others = others.union(&owned.fields);
    }
    // What is still applied keeps the structures around it, too, which an earlier update may have owned.
    let after = merge::remove(&merged, &given_up, &others.union(&wanted), shape);
    // What is no longer there is owned by nobody.
    let seen = types.compare(&managed, before, &after);
    for owned in managed.values_mut() {
        owned.fields = owned.fields.difference(&seen.by(&owned.api_version).gone);
    }
    // The time is that of the last change; who applies what is there already gets none.
    let time = match last {
        _ if new || after != *before || asked != *before => manager.time.clone(),
        Some(owned) => owned.time,
        None => String::new(),
    };
    managed.insert(identity, Owned { time, api_version: types.own.clone(), fields: wanted });
    managed.retain(|_, owned| !owned.fields.is_empty());
    Ok(Made { after, managed })
}
