// SPDX-License-Identifier: Apache-2.0
//! One step of a sequence: what is asked, with what only an earlier answer can tell left open. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// What an earlier answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// `metadata.resourceVersion`.
    Version,
    /// `metadata.uid`.
    Uid,
    /// `metadata.name`, for generated names.
    Name,
    /// `metadata.continue` of a list.
    Continue,
}

impl Fact {
    /// Every fact.
    pub const ALL: [Self; 4] = [Self::Version, Self::Uid, Self::Name, Self::Continue];

    fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Uid => "uid",
            Self::Name => "name",
            Self::Continue => "continue",
        }
    }

    /// The fact in an answer; nothing in the answer that has none, such as a refusal.
    pub fn of(self, answer: &Value) -> Option<&str> {
        let pointer = match self {
            Self::Version => "/metadata/resourceVersion",
            Self::Uid => "/metadata/uid",
            Self::Name => "/metadata/name",
            Self::Continue => "/metadata/continue",
        };
        answer.pointer(pointer).and_then(Value::as_str).filter(|fact| !fact.is_empty())
    }
}

/// A fact that the answer to step number `step` tells. Written `⟨uid:12⟩` in paths and bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// What is told.
    pub fact: Fact,
    /// [`Step::number`] of the step whose answer tells it.
    pub step: usize,
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "⟨{}:{}⟩", self.fact.word(), self.step)
    }
}

/// What is known of the answers so far.
pub type Facts = BTreeMap<Reference, String>;

/// Text between references, and references.
fn parts(text: &str) -> Vec<Result<&str, Reference>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once('⟨') {
        let Some((reference, after)) = inner.split_once('⟩') else { break };
        let reference = reference.split_once(':').and_then(|(word, step)| {
            let fact = Fact::ALL.into_iter().find(|fact| fact.word() == word)?;
            Some(Reference { fact, step: step.parse().ok()? })
        });
        let Some(reference) = reference else { break };
        parts.extend([Ok(before), Err(reference)]);
        rest = after;
    }
    parts.push(Ok(rest));
    parts
}

/// The references in a text.
pub fn references(text: &str) -> Vec<Reference> {
    parts(text).into_iter().filter_map(Result::err).collect()
}

/// The text with its references replaced.
///
/// # Errors
/// A reference that no answer has told.
pub fn resolve(text: &str, facts: &Facts) -> Result<String, Reference> {
    let told = |part| match part {
        Ok(text) => Ok(text),
        Err(reference) => facts.get(&reference).map(String::as_str).ok_or(reference),
    };
    parts(text).into_iter().map(told).collect()
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// HTTP method.
    pub method: &'static str,
    /// Path with its query; may hold references.
    pub path: String,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body; may hold references.
    pub body: String,
}

impl Request {
    /// The request with its references replaced.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn resolve(&self, facts: &Facts) -> Result<Self, Reference> {
        let (path, body) = (resolve(&self.path, facts)?, resolve(&self.body, facts)?);
        Ok(Self { path, body, ..self.clone() })
    }
}

impl fmt::Display for Request {
    /// As a command line of curl, but for address and token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "curl -X {} '$SERVER{}'", self.method, self.path)?;
        for (name, value) in &self.headers {
            write!(out, " -H '{name}: {value}'")?;
        }
        if !self.body.is_empty() {
            write!(out, " --data-binary '{}'", self.body)?;
        }
        Ok(())
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends a request and compares the answers.
    Ask(Request),
    /// Opens a watch that lasts until the end of the sequence; only the answer's head is compared here.
    Watch(Request),
    /// Waits until garbage collection is through, and compares everything stored.
    Settle,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place in the sequence as it was made; references name it, also where other steps were left out.
    pub number: usize,
    /// The kind of request in two or three words, to group differences by.
    pub what: String,
    /// The object it is about, as a path without its query; empty when it is about none.
    pub about: String,
    /// What it does.
    pub action: Action,
}

impl Step {
    /// The steps whose answers this one needs.
    pub fn needs(&self) -> Vec<Reference> {
        match &self.action {
            Action::Ask(request) | Action::Watch(request) => {
                references(&request.path).into_iter().chain(references(&request.body)).collect()
            }
            Action::Settle => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_replaced_by_what_the_answers_told() {
        let reference = Reference { fact: Fact::Uid, step: 12 };
        let text = format!("a {reference} b {reference}");
        assert_eq!(text, "a ⟨uid:12⟩ b ⟨uid:12⟩");
        assert_eq!(references(&text), [reference, reference]);
        assert_eq!(resolve(&text, &Facts::new()), Err(reference));
        let told = json!({"metadata": {"uid": "x", "resourceVersion": ""}});
        let facts = Facts::from([(reference, Fact::Uid.of(&told).unwrap().to_owned())]);
        assert_eq!(resolve(&text, &facts).unwrap(), "a x b x");
        assert_eq!(Fact::Version.of(&told), None);
        assert_eq!(resolve("⟨other⟩ ⟨uid:x⟩", &facts).unwrap(), "⟨other⟩ ⟨uid:x⟩");
    }
}
