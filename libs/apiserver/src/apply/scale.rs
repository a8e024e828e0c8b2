// SPDX-License-Identifier: Apache-2.0

//! Who owns the replicas of an object, handed to its Scale and back.
//!
//! A change of a Scale is a change of another object: Kubernetes hands it the owners of the replicas, notes the change there and brings back what became of
//! them. There and back an update's owner is not recognised, since the version of the Scale is another: its replicas come back in an entry of their own,
//! without a time, even beside one of the same identity, of which the next write finds only the later. And a Scale whose replicas nobody owns is one whose
//! owners are not noted. Clients see all this in `managedFields`, so it is done here, too.

use serde_json::Value;

use super::change::{self, Found, SCALE, Types};
use super::fields::FieldSet;
use super::managed::{self, Identity, Managed, Operation, Owned};
use super::{Applied, Manager};
use crate::object;
use crate::registry::Served;
use crate::status::ApiError;

/// The owners of a Scale.
pub(crate) struct Owners(Managed);

/// The replicas in an object of a version that has a Scale.
fn replicas(served: &Served, api_version: &str) -> Option<FieldSet> {
    let resource = &served.resource;
    let is_it = |name: &str| object::api_version(&resource.group, name) == api_version;
    let version = resource.versions.iter().find(|version| is_it(&version.name))?;
    let path: Vec<&str> = version.scale.as_ref()?.spec_replicas.iter().map(String::as_str).collect();
    Some(FieldSet::field(&path))
}

fn replicas_of_scale() -> FieldSet {
    FieldSet::field(&["spec", "replicas"])
}

impl Owners {
    /// Those of the Scale of an object.
    pub fn of(served: &Served, live: &Value) -> Self {
        let mut owners = Managed::new();
        for (identity, owned) in managed::read(live) {
            let Some(field) = replicas(served, &owned.api_version) else { continue };
            if !owned.fields.has(&field) {
                continue;
            }
            let identity = match identity.operation {
                Operation::Apply => identity,
                Operation::Update => Identity { api_version: SCALE.into(), ..identity },
            };
            let owned = Owned { time: owned.time, api_version: SCALE.into(), fields: replicas_of_scale() };
            owners.insert(identity, owned);
        }
        Self(owners)
    }

    /// Those after an update of a Scale.
    pub fn updated(self, (before, after): (&Value, &Value), manager: &Manager) -> Self {
        match self.0.is_empty() {
            true => self,
            false => Self(change::update(&Types::scale(), self.0, (before, after), manager)),
        }
    }

    /// Those after an apply of a Scale, and the Scale.
    ///
    /// # Errors
    /// 409 when another manager owns the replicas and `force` is not set.
    pub fn applied(
        self,
        before: &Value,
        configuration: Value,
        (manager, force): (&Manager, bool),
    ) -> Result<(Self, Value), ApiError> {
        let made = Value::default();
        let found = Found { before, new: false, made: &made, managed: self.0, upgraded: FieldSet::default() };
        let applied = Applied { given: configuration.clone(), object: configuration };
        let made = change::apply(&Types::scale(), found, &applied, (manager, force))
            .map_err(|conflicts| ApiError::apply_conflict(&conflicts))?;
        Ok((Self(made.managed), made.after))
    }

    /// Brings them back into what became of an object.
    pub fn bring_back(self, served: &Served, live: &Value, new: &mut Value) {
        let Self(mut owners) = self;
        let mut entries: Vec<(Identity, Owned)> = Vec::new();
        let mut known = managed::read(live);
        Types::of(served, "").forget_unknown(&mut known);
        for (identity, mut owned) in known {
            let field = replicas(served, &owned.api_version).filter(|field| owned.fields.has(field));
            if let Some(field) = field
                && owners.remove(&identity).is_none()
            {
                owned.fields = owned.fields.difference(&field);
            }
            entries.push((identity, owned));
        }
        let own = served.api_version();
        let field = replicas(served, &own).unwrap_or_default();
        for (identity, owned) in owners {
            if !owned.fields.has(&replicas_of_scale()) {
                continue;
            }
            let mut back = Owned { time: String::new(), api_version: own.clone(), fields: field.clone() };
            match entries.iter_mut().find(|(other, _)| *other == identity) {
                Some((_, owned)) => {
                    back.time.clone_from(&owned.time);
                    *owned = back;
                }
                None => entries.push((identity, back)),
            }
        }
        managed::write(new, entries.iter().map(|(identity, owned)| (identity, owned)));
    }
}
