// SPDX-License-Identifier: Apache-2.0

//! Which resources are served: the built-in ones and those of the stored CRDs.
//!
//! The set is an immutable [`Catalogue`], replaced as a whole when a CRD changes; a request uses the one it started with.
//! Handlers look resources up by URL, the garbage collector by kind, discovery walks all of them.

mod builtin;
mod columns;
mod crd;

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::Value;

pub(crate) use builtin::Builtin;
pub(crate) use crd::{
    is_established, names_of, parse as parse_crd, rule_problems, storage_version, version_names,
};

use crate::object;
use crate::openapi;
use crate::schema::{self, Schema};
use crate::status::Subject;
use crate::store::{Key, Prefix, Stored};
use crate::table::Column;

/// What a resource's objects obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Builtin(Builtin),
    Custom,
}

/// A resource, in all its versions.
#[derive(Debug)]
pub(crate) struct Resource {
    pub group: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Its definition is being deleted: nothing is made any more.
    pub terminating: bool,
    pub behaviour: Behaviour,
    /// `group/plural` of the stored objects; two resources may show the same objects in two forms.
    pub storage: String,
    /// Version in which objects are stored.
    pub storage_version: String,
    /// Served versions, the preferred one first.
    pub versions: Vec<Version>,
    /// Resource version since which the schemas are what they are: what was stored before is read in the form that they give it today. None for built-in
    /// kinds.
    pub since: Option<u64>,
}

/// One served version of a resource.
#[derive(Debug, Default)]
pub(crate) struct Version {
    pub name: String,
    /// None for built-in kinds: their Rust type is the schema.
    pub schema: Option<Schema>,
    /// The schema as published (OpenAPI).
    pub openapi: Option<Value>,
    pub columns: Vec<Column>,
    /// Has the `status` subresource.
    pub status: bool,
    /// Has the `scale` subresource.
    pub scale: Option<Scale>,
    /// Fields that field selectors may use, beyond name and namespace.
    pub selectable: Vec<String>,
    /// Warning that every answer in this version carries.
    pub deprecation: Option<String>,
}

/// Where the `scale` subresource finds its numbers: plain paths into the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub label_selector: Option<Vec<String>>,
}

impl Resource {
    /// The stored key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key::new(&self.storage, namespace, name)
    }

    /// Where Kubernetes stores an object below the root of its storage, which some of its refusals name.
    pub fn storage_path(&self, namespace: &str, name: &str) -> String {
        // The groups that came first have no place of their own.
        let named = self.builtin().is_none_or(|kind| kind == Builtin::CustomResourceDefinition);
        let group = if named { self.group.as_str() } else { "" };
        let steps = [group, &self.plural, namespace, name];
        steps.into_iter().filter(|step| !step.is_empty()).map(|step| format!("/{step}")).collect()
    }

    /// Whether it gives stored objects the same form as another.
    pub fn stores_like(&self, other: &Self) -> bool {
        let alike =
            |(one, other): (&Version, &Version)| one.name == other.name && one.openapi == other.openapi;
        self.storage_version == other.storage_version
            && self.versions.len() == other.versions.len()
            && self.versions.iter().zip(&other.versions).all(alike)
    }

    /// The stored keys of a collection.
    pub fn prefix(&self, namespace: Option<&str>) -> Prefix {
        Prefix::new(&self.storage, namespace)
    }

    /// For error answers.
    pub fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject { group: &self.group, plural: &self.plural, kind: &self.kind, name }
    }

    pub fn builtin(&self) -> Option<Builtin> {
        match self.behaviour {
            Behaviour::Builtin(builtin) => Some(builtin),
            Behaviour::Custom => None,
        }
    }
}

/// A resource in the version a request names.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub resource: Arc<Resource>,
    index: usize,
}

impl Served {
    fn new(resource: &Arc<Resource>, version: &str) -> Option<Self> {
        let index = resource.versions.iter().position(|v| v.name == version)?;
        Some(Self { resource: Arc::clone(resource), index })
    }

    pub fn version(&self) -> &Version {
        #[expect(
            clippy::indexing_slicing,
            reason = "the index comes from a search in the same immutable list"
        )]
        &self.resource.versions[self.index]
    }

    /// `apiVersion` of objects in this version.
    pub fn api_version(&self) -> String {
        object::api_version(&self.resource.group, &self.version().name)
    }

    fn stored_api_version(&self) -> String {
        match self.resource.builtin() {
            Some(Builtin::EventsV1Event) => "v1".into(),
            _ => object::api_version(&self.resource.group, &self.resource.storage_version),
        }
    }

    /// True when stored bytes can be handed out as they are.
    pub fn is_stored_form(&self) -> bool {
        self.resource.builtin() != Some(Builtin::EventsV1Event)
            && self.version().name == self.resource.storage_version
    }

    /// True for an object that was stored under an earlier definition.
    pub fn is_outdated(&self, version: u64) -> bool {
        self.resource.since.is_some_and(|since| version < since)
    }

    /// A stored object in the form that the definition of today gives it: in the storage version, without what its schema does not know, with its defaults.
    /// Nothing is decoded unless it was stored under an earlier definition.
    pub fn renewed(&self, stored: Stored) -> Stored {
        Stored { bytes: self.renewed_bytes(stored.version, stored.bytes), ..stored }
    }

    /// The same for the bytes of an object that was stored at `version`.
    pub fn renewed_bytes(&self, version: u64, bytes: Bytes) -> Bytes {
        if !self.is_outdated(version) {
            return bytes;
        }
        let Ok(mut object) = serde_json::from_slice::<Value>(&bytes) else { return bytes };
        self.renew(&mut object);
        object.to_string().into()
    }

    /// Whether writing back what was read of an object changes it: it was stored under an earlier definition, in another form.
    pub fn renews(&self, stored: &Stored) -> bool {
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        self.is_outdated(stored.version)
            && value(&stored.bytes) != value(&self.renewed_bytes(stored.version, stored.bytes.clone()))
    }

    /// The same for an object at hand.
    fn renew(&self, object: &mut Value) {
        let version = object::meta_str(object, "resourceVersion").parse();
        if !version.is_ok_and(|version| self.is_outdated(version)) {
            return;
        }
        let written = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let name = written.rsplit('/').next().unwrap_or_default();
        let of = |name: &str| self.resource.versions.iter().find(|version| version.name == name);
        let version = of(name).or_else(|| of(&self.resource.storage_version));
        if let Some(schema) = version.and_then(|version| version.schema.as_ref()) {
            schema::prune(schema, object);
            schema::default(schema, object);
            schema::drop_nulls(schema, object);
        }
        object::object_mut(object).insert("apiVersion".into(), self.stored_api_version().into());
    }

    /// From the version of the request to the stored form.
    pub fn stored_form(&self, mut object: Value) -> Value {
        if self.is_stored_form() {
            return object;
        }
        if self.resource.builtin() == Some(Builtin::EventsV1Event) {
            builtin::event_to_core(&mut object);
        }
        object::object_mut(&mut object).insert("apiVersion".into(), self.stored_api_version().into());
        object
    }

    /// From the stored form to the version of the request.
    pub fn request_form(&self, mut object: Value) -> Value {
        self.renew(&mut object);
        if self.is_stored_form() {
            return object;
        }
        if self.resource.builtin() == Some(Builtin::EventsV1Event) {
            builtin::event_from_core(&mut object);
        }
        // Versions need not have the same fields.
        if let Some(schema) = &self.version().schema {
            schema::prune(schema, &mut object);
        }
        object::object_mut(&mut object).insert("apiVersion".into(), self.api_version().into());
        object
    }
}

/// Everything that is served at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    resources: Vec<Arc<Resource>>,
    /// The documents that describe it, once they were asked for.
    pub openapi: openapi::Cache,
}

impl Catalogue {
    /// By the parts of a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        let found = self.resources.iter().find(|r| r.group == group && r.plural == plural)?;
        Served::new(found, version)
    }

    /// By kind, in the version the objects are stored in.
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.group == group && r.kind == kind)
    }

    /// By the stored `group/plural`.
    pub fn by_storage(&self, storage: &str) -> Option<Served> {
        let found = self.resources.iter().find(|r| format!("{}/{}", r.group, r.plural) == storage)?;
        Served::new(found, &found.storage_version)
    }

    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Groups in the order of registration, the core group first.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for resource in &self.resources {
            if !groups.contains(&resource.group.as_str()) {
                groups.push(&resource.group);
            }
        }
        groups
    }

    /// True for a group that has no built-in kind.
    pub fn is_custom(&self, group: &str) -> bool {
        !self.resources.iter().any(|resource| resource.group == group && resource.builtin().is_some())
    }

    /// Versions of a group, the preferred one first.
    pub fn versions(&self, group: &str) -> Vec<&str> {
        let mut versions: Vec<&str> = Vec::new();
        let of_group = self.resources.iter().filter(|r| r.group == group);
        for version in of_group.flat_map(|r| &r.versions) {
            if !versions.contains(&version.name.as_str()) {
                versions.push(&version.name);
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(crd::version_priority(version)));
        versions
    }

    /// Resources of a group served in a version.
    pub fn in_version(&self, group: &str, version: &str) -> Vec<Served> {
        self.resources.iter().filter(|r| r.group == group).filter_map(|r| Served::new(r, version)).collect()
    }
}

/// The catalogue in use.
pub(crate) struct Registry {
    current: RwLock<Arc<Catalogue>>,
}

impl Registry {
    /// The built-in kinds only; CRDs are added by [`Self::replace_custom`].
    pub fn new() -> Self {
        let resources = builtin::resources().into_iter().map(Arc::new).collect();
        Self { current: RwLock::new(Arc::new(Catalogue { resources, ..Catalogue::default() })) }
    }

    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves the built-in kinds and exactly these custom resources from now on.
    pub fn replace_custom(&self, custom: Vec<Resource>) {
        let builtin = builtin::resources().into_iter();
        let resources = builtin.chain(custom).map(Arc::new).collect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Catalogue { resources, ..Catalogue::default() });
    }
}
