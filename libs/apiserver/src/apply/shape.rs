// SPDX-License-Identifier: Apache-2.0

//! What the fields of an object are for ownership: granular or atomic maps, lists that are sets or maps.

use crate::registry::Version;
use crate::schema::{ListType, Schema};

/// How a list is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List<'a> {
    /// As a whole.
    Atomic,
    /// Value by value.
    Set,
    /// Item by item, told apart by these fields.
    Map(Keys<'a>),
}

/// Names of key fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys<'a> {
    Schema(&'a [String]),
    Fixed(&'static [&'static str]),
}

impl Keys<'_> {
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Schema(names) => names.iter().map(String::as_str).collect(),
            Self::Fixed(names) => names.to_vec(),
        }
    }
}

/// A node of the fixed tree: metadata, and the built-in kinds.
#[derive(Debug)]
pub(super) struct Fixed {
    name: &'static str,
    list: List<'static>,
    atomic: bool,
    /// Items of a list are owned as a whole.
    atomic_items: bool,
    children: &'static [Fixed],
}

const fn node(name: &'static str, children: &'static [Fixed]) -> Fixed {
    Fixed { name, list: List::Atomic, atomic: false, atomic_items: false, children }
}

const fn list(name: &'static str, list: List<'static>) -> Fixed {
    Fixed { name, list, atomic: false, atomic_items: false, children: &[] }
}

const fn atomic(name: &'static str) -> Fixed {
    Fixed { name, list: List::Atomic, atomic: true, atomic_items: false, children: &[] }
}

/// A list map whose items are atomic maps.
const fn list_of_atoms(name: &'static str, list: List<'static>) -> Fixed {
    Fixed { name, list, atomic: false, atomic_items: true, children: &[] }
}

static ATOM: Fixed = atomic("");

static METADATA: Fixed = node(
    "metadata",
    &[list("finalizers", List::Set), list_of_atoms("ownerReferences", List::Map(Keys::Fixed(&["uid"])))],
);

/// `x-kubernetes-list-type` and map-type of the built-in kinds' Go types; field names of different kinds do not collide.
static BUILTIN: Fixed = node(
    "",
    &[
        node(
            "metadata",
            &[
                list("finalizers", List::Set),
                list_of_atoms("ownerReferences", List::Map(Keys::Fixed(&["uid"]))),
            ],
        ),
        node("status", &[list("conditions", List::Map(Keys::Fixed(&["type"])))]),
        list_of_atoms("secrets", List::Map(Keys::Fixed(&["name"]))),
        atomic("involvedObject"),
        atomic("regarding"),
        atomic("related"),
    ],
);

/// Fields of the built-in kinds that are maps; all others with something in them are structs.
const MAPS: &[&str] = &[
    "annotations",
    "binaryData",
    "data",
    "definitions",
    "dependencies",
    "labels",
    "patternProperties",
    "properties",
    "stringData",
];

/// The shape of one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'a> {
    /// The root of a custom resource.
    Root(&'a Schema),
    Schema(&'a Schema),
    Fixed(&'static Fixed),
    /// A struct of a built-in kind: what is in it are its fields.
    Struct,
    /// A map of a built-in kind: what is in it are keys.
    Map,
    /// Not described: maps are granular, lists atomic.
    Unknown,
}

impl<'a> Shape<'a> {
    pub fn of(version: &'a Version) -> Self {
        match &version.schema {
            Some(schema) => Self::Root(schema),
            None => Self::Fixed(&BUILTIN),
        }
    }

    /// Of the Scale of an object.
    pub fn scale() -> Self {
        Self::Fixed(&BUILTIN)
    }

    pub fn field(self, name: &str) -> Self {
        match self {
            Self::Root(_) if name == "metadata" => Self::Fixed(&METADATA),
            Self::Root(schema) | Self::Schema(schema) => {
                schema.field(name).map_or(Self::Unknown, Self::Schema)
            }
            Self::Fixed(fixed) => {
                let child = fixed.children.iter().find(|child| child.name == name);
                child.map_or(Self::Struct.field(name), Self::Fixed)
            }
            Self::Struct if MAPS.contains(&name) => Self::Map,
            Self::Struct | Self::Map => Self::Struct,
            Self::Unknown => Self::Unknown,
        }
    }

    /// The items of a list.
    pub fn item(self) -> Self {
        match self {
            Self::Schema(schema) => schema.items.as_deref().map_or(Self::Unknown, Self::Schema),
            Self::Fixed(fixed) if fixed.atomic_items => Self::Fixed(&ATOM),
            _ => Self::Unknown,
        }
    }

    /// True when the field is one that the schema names, not a key of a map.
    pub fn names_field(self, name: &str) -> bool {
        match self {
            Self::Root(schema) | Self::Schema(schema) => {
                let head = matches!(self, Self::Root(_)) && name == "metadata";
                schema.properties.contains_key(name) || head
            }
            Self::Fixed(_) | Self::Struct => true,
            Self::Map | Self::Unknown => false,
        }
    }

    pub fn is_atomic_map(self) -> bool {
        match self {
            Self::Root(schema) | Self::Schema(schema) => schema.atomic_map,
            Self::Fixed(fixed) => fixed.atomic,
            Self::Struct | Self::Map | Self::Unknown => false,
        }
    }

    pub fn list(self) -> List<'a> {
        match self {
            Self::Schema(schema) => match &schema.list_type {
                ListType::Atomic => List::Atomic,
                ListType::Set => List::Set,
                ListType::Map(keys) => List::Map(Keys::Schema(keys)),
            },
            Self::Fixed(fixed) => fixed.list,
            Self::Root(_) | Self::Struct | Self::Map | Self::Unknown => List::Atomic,
        }
    }
}
