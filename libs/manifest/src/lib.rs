// SPDX-License-Identifier: Apache-2.0

//! Manifests as people write them: YAML in which every value knows its line, compared with the schema of its kind.
//!
//! Owns reading ([`read`], [`parse`]), the comparison ([`check()`]) and the nearest name to a mistyped one ([`nearest`]). `tink apply`
//! and the reader of cluster files call it. It knows no kind by itself and sends nothing.

mod check;
mod document;
mod near;

pub use check::{Definition, check, repaired};
pub use document::{Content, Document, Finding, Node, parse, read};
pub use near::{near, nearest};
