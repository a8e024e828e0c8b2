// SPDX-License-Identifier: Apache-2.0
//! One of the two servers during a sequence: what it was asked, what it told, the watches that are open on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::generator::NAMESPACES;
use super::kinds::KINDS;
use super::normal::Symbols;
use super::step::{Fact, Facts, Reference, Request};
use crate::target::{Answer, Target};

/// Time that a watch waits for its next event: longer than any sequence.
const QUIET: Duration = Duration::from_secs(3600);
/// Time for everything to be removed after a sequence.
const REMOVAL: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// What Kubernetes' own controllers put into every namespace.
const OF_CONTROLLERS: (&str, &str) = ("ServiceAccount", "default");

/// A watch that is followed.
struct Following {
    path: String,
    events: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server.
pub(super) struct Side<'a> {
    target: &'a Target,
    pub facts: Facts,
    pub symbols: Symbols,
    watches: Vec<Following>,
}

impl<'a> Side<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self { target, facts: Facts::new(), symbols: Symbols::default(), watches: Vec::new() }
    }

    /// Sends the request of a step; gives the answer as it is compared.
    pub async fn ask(&mut self, number: usize, request: &Request) -> Result<Value> {
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer =
            self.target.request_with(request.method, &request.path, &headers, request.body.clone()).await?;
        Ok(self.told(number, &answer))
    }

    fn told(&mut self, number: usize, answer: &Answer) -> Value {
        if answer.code < 300 {
            for fact in Fact::ALL {
                if let Some(text) = fact.of(&answer.json) {
                    self.facts.insert(Reference { fact, step: number }, text.to_owned());
                }
            }
        }
        self.symbols.learn(&answer.json);
        let body = match &answer.json {
            Value::Null => self.symbols.normal(&answer.text().into()),
            json => self.symbols.normal(json),
        };
        let warnings: Vec<Value> = answer
            .headers
            .get_all("warning")
            .iter()
            .map(|warning| self.symbols.normal(&warning.to_str().unwrap_or_default().into()))
            .collect();
        json!({"code": answer.code, "type": answer.header("content-type"), "warnings": warnings, "body": body})
    }

    /// Opens a watch; gives the head of the answer, or all of a refusal.
    pub async fn watch(&mut self, number: usize, request: &Request) -> Result<Value> {
        let mut watch = match self.target.open(&request.path, &[]).await? {
            Err(refusal) => return Ok(self.told(number, &refusal)),
            Ok(watch) => watch,
        };
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let task = tokio::spawn(async move {
            let note = |event| seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            loop {
                match watch.next(QUIET).await {
                    Ok(Some(event)) => note(event),
                    Ok(None) => return note(json!({"type": "END", "object": {}})),
                    Err(error) => return note(json!({"type": "BROKEN", "object": error.to_string()})),
                }
            }
        });
        self.watches.push(Following { path: request.path.clone(), events, task });
        Ok(json!({"code": 200}))
    }

    /// How many events each watch has told so far.
    pub fn heard(&self) -> Vec<usize> {
        let count = |watch: &Following| {
            let events = watch.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.iter().filter(|event| is_compared(event)).count()
        };
        self.watches.iter().map(count).collect()
    }

    /// What each watch told of each object.
    pub fn streams(&self) -> Vec<(String, BTreeMap<String, Vec<Value>>)> {
        let stream = |watch: &Following| {
            let mut objects: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            let events = watch.events.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events.iter().filter(|event| is_compared(event)) {
                let object = event.get("object").and_then(|object| self.symbols.identity(object));
                let object = object.unwrap_or("no object").to_owned();
                objects.entry(object).or_default().push(self.symbols.normal(event));
            }
            (watch.path.clone(), objects)
        };
        self.watches.iter().map(stream).collect()
    }

    /// Everything that is stored in the namespaces of the sequences.
    pub async fn stored(&self) -> Result<Vec<(String, Value)>> {
        let mut stored = Vec::new();
        // The second version of a kind shows nothing new.
        for kind in KINDS.iter().filter(|kind| !matches!(kind.version, "v1beta1")) {
            let list = self.target.get(&kind.collection(None)).await?;
            let items = list.json.get("items").and_then(Value::as_array);
            let items =
                items.with_context(|| format!("list {kind:?} of {:?}: {}", self.target, list.text()))?;
            for item in items {
                let text = |field: &str| {
                    item.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default()
                };
                let ours = !kind.namespaced || NAMESPACES.contains(&text("namespace"));
                if ours && (kind.kind, text("name")) != OF_CONTROLLERS {
                    let namespace = kind.namespaced.then(|| text("namespace"));
                    stored.push((format!("{}/{}", kind.collection(namespace), text("name")), item.clone()));
                }
            }
        }
        Ok(stored)
    }

    /// Takes note of what is stored, and gives it as it is compared.
    pub fn learn_stored(&mut self, stored: &[(String, Value)]) -> Value {
        stored.iter().for_each(|(_, object)| self.symbols.learn(object));
        let normal = |(path, object): &(String, Value)| {
            let path = self.symbols.normal(&path.as_str().into());
            (path.as_str().unwrap_or_default().to_owned(), self.symbols.normal(object))
        };
        Value::Object(stored.iter().map(normal).collect())
    }

    /// Removes one object, whatever holds it.
    pub async fn remove(&self, path: &str) -> Result<()> {
        let free = json!({"metadata": {"finalizers": null}}).to_string();
        self.target.request("PATCH", path, "application/merge-patch+json", free).await?;
        self.target.request("DELETE", &format!("{path}?propagationPolicy=Background"), "", "").await?;
        Ok(())
    }

    /// Removes everything.
    pub async fn clear(&self) -> Result<()> {
        let until = Instant::now() + REMOVAL;
        loop {
            let stored = self.stored().await?;
            if stored.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{:?} keeps {:?}", self.target, stored.first());
            }
            for (path, _) in stored {
                self.remove(&path).await?;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Bookmarks come when a server likes, but for the one that ends the initial events; and what controllers make, when they get to it.
fn is_compared(event: &Value) -> bool {
    let annotations = event.pointer("/object/metadata/annotations");
    let text = |at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let of_controllers = (text("/object/kind"), text("/object/metadata/name")) == OF_CONTROLLERS;
    (event.get("type") != Some(&json!("BOOKMARK")) || annotations.is_some()) && !of_controllers
}
