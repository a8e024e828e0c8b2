// SPDX-License-Identifier: Apache-2.0
//! What a scenario has: one server, a namespace of its own on it, and expectations of whole answers.
//!
//! An expectation that is not met is noted and the scenario goes on, so that one run tells everything that differs;
//! [`World::close`] fails with all of it. Transport errors and events that do not come end a scenario at once.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Deref;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::runner::Run;
use tests::stack::eventually;
use tests::target::{Answer, Target, Watch};

/// Media types of bodies.
pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const MERGE: &str = "application/merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// Where definitions live.
pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Time for what a server does by itself.
pub const SOON: Duration = Duration::from_secs(60);

/// What the scenarios call themselves; before the slash is the manager of their fields.
const USER_AGENT: &str = "suite/1.0 (test)";

/// Name and function of a scenario.
pub type Check = (&'static str, for<'a> fn(&'a World<'a>) -> Run<'a>);

/// Differences of a scenario so far.
type Noted = Rc<RefCell<Vec<String>>>;

/// One server as a scenario sees it.
pub struct World<'a> {
    target: &'a Target,
    /// The scenario's own namespace.
    pub namespace: String,
    noted: Noted,
}

/// Makes a server ready for all scenarios: it serves Widgets.
pub async fn prepare(target: &Target) -> Result<()> {
    let answer = target.request("POST", CRDS, YAML, include_str!("widget.yaml")).await?;
    ensure!(answer.code == 201, "{}", answer.text());
    served(target, "widgets.example.org", "/apis/example.org/v1/widgets").await
}

/// Waits until a definition is established and its objects are served.
async fn served(target: &Target, name: &str, path: &str) -> Result<()> {
    eventually(&format!("{name} is served"), SOON, async || {
        let definition = target.get(&format!("{CRDS}/{name}")).await.map_err(|error| error.to_string())?;
        let conditions = definition.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        let list = target.get(path).await.map_err(|error| error.to_string())?;
        if established && list.code == 200 {
            Ok(Some(()))
        } else {
            Err(format!("{conditions:?} {}", list.code))
        }
    })
    .await
}

/// A Widget.
pub fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A ConfigMap.
pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

impl<'a> World<'a> {
    /// Makes the namespace of a scenario.
    pub async fn open(target: &'a Target, name: &str) -> Result<Self> {
        let namespace = name.replace('_', "-");
        let world = Self { target, namespace, noted: Noted::default() };
        let body = json!({"metadata": {"name": world.namespace}});
        let made = world.post("/api/v1/namespaces", &body).await?;
        ensure!(made.code == 201, "namespace: {}", made.text());
        Ok(world)
    }

    /// The outcome of a scenario that ended with `ran`.
    pub fn close(self, ran: Result<()>) -> Result<()> {
        let mut noted = self.noted.take();
        noted.extend(ran.err().map(|error| format!("{error:?}")));
        if noted.is_empty() {
            return Ok(());
        }
        bail!("{} differences\n{}", noted.len(), noted.join("\n"))
    }

    /// Path of a collection of the core group in the scenario's namespace.
    pub fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// Path of a collection of another group in the scenario's namespace.
    pub fn of(&self, group_version: &str, plural: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{plural}", self.namespace)
    }

    /// Path of the scenario's ConfigMaps.
    pub fn maps(&self) -> String {
        self.core("configmaps")
    }

    /// Path of the scenario's Widgets.
    pub fn widgets(&self) -> String {
        self.of("example.org/v1", "widgets")
    }

    /// Any request.
    pub async fn send(
        &self,
        method: &str,
        path: impl AsRef<str>,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Reply> {
        let path = path.as_ref();
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "user-agent") {
            all.push(("user-agent", USER_AGENT));
        }
        let answer = self.target.request_with(method, path, &all, body).await?;
        Ok(Reply { what: format!("{method} {path}"), answer, noted: Rc::clone(&self.noted) })
    }

    /// A request without token, or with another one.
    pub async fn as_token(&self, token: Option<&str>, path: &str) -> Result<Reply> {
        let answer = self.target.get_as(token, path).await?;
        Ok(Reply { what: format!("GET {path}"), answer, noted: Rc::clone(&self.noted) })
    }

    pub async fn get(&self, path: impl AsRef<str>) -> Result<Reply> {
        self.send("GET", path, &[], "").await
    }

    pub async fn get_as(&self, path: impl AsRef<str>, accept: &str) -> Result<Reply> {
        self.send("GET", path, &[("accept", accept)], "").await
    }

    pub async fn post(&self, path: impl AsRef<str>, body: &Value) -> Result<Reply> {
        self.send("POST", path, &[("content-type", JSON)], body.to_string()).await
    }

    pub async fn put(&self, path: impl AsRef<str>, body: &Value) -> Result<Reply> {
        self.send("PUT", path, &[("content-type", JSON)], body.to_string()).await
    }

    pub async fn patch(&self, form: &str, path: impl AsRef<str>, body: &Value) -> Result<Reply> {
        self.send("PATCH", path, &[("content-type", form)], body.to_string()).await
    }

    /// Server-side apply by `manager`.
    pub async fn apply(&self, path: impl AsRef<str>, manager: &str, body: &Value) -> Result<Reply> {
        let path = format!("{}?fieldManager={manager}", path.as_ref());
        self.patch(APPLY, path, body).await
    }

    /// Server-side apply that takes what others own.
    pub async fn apply_by_force(&self, path: impl AsRef<str>, manager: &str, body: &Value) -> Result<Reply> {
        let path = format!("{}?fieldManager={manager}&force=true", path.as_ref());
        self.patch(APPLY, path, body).await
    }

    /// DELETE without options.
    pub async fn delete(&self, path: impl AsRef<str>) -> Result<Reply> {
        self.send("DELETE", path, &[], "").await
    }

    /// DELETE with `DeleteOptions`.
    pub async fn delete_with(&self, path: impl AsRef<str>, options: &Value) -> Result<Reply> {
        self.send("DELETE", path, &[("content-type", JSON)], options.to_string()).await
    }

    /// Creates what must be creatable.
    pub async fn create(&self, path: impl AsRef<str>, body: &Value) -> Result<Value> {
        let made = self.post(path, body).await?;
        ensure!(made.code == 201, "{}: {} {}", made.what, made.code, made.text());
        Ok(made.answer.json)
    }

    /// Creates a definition and waits until its objects are served at `path`.
    pub async fn define(&self, definition: &Value, path: &str) -> Result<()> {
        let made = self.create(CRDS, definition).await?;
        served(self.target, made["metadata"]["name"].as_str().unwrap_or_default(), path).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: impl AsRef<str>) -> Result<Events> {
        let watch = self.target.watch(path.as_ref()).await?;
        Ok(Events { watch, what: path.as_ref().to_owned(), noted: Rc::clone(&self.noted) })
    }

    /// The same in another form.
    pub async fn watch_as(&self, path: impl AsRef<str>, accept: &str) -> Result<Events> {
        let watch = self.target.watch_with(path.as_ref(), &[("accept", accept)]).await?;
        Ok(Events { watch, what: path.as_ref().to_owned(), noted: Rc::clone(&self.noted) })
    }

    /// Waits until `path` is not found.
    pub async fn gone(&self, path: impl AsRef<str>) -> Result<()> {
        let path = path.as_ref();
        self.until(&format!("{path} is gone"), path, |answer| answer.code == 404).await.map(drop)
    }

    /// Waits until what is read at `path` is as wanted, and gives it.
    pub async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<Value> {
        eventually(what, SOON, async || {
            let answer = self.target.get(path).await.map_err(|error| error.to_string())?;
            if wanted(&answer) { Ok(Some(answer.json)) } else { Err(answer.text()) }
        })
        .await
    }

    /// Waits until the server's clock shows a later second than `time`.
    pub async fn second_after(&self, time: &Value) -> Result<()> {
        let path = format!("{}?dryRun=All", self.maps());
        let body = json!({"metadata": {"generateName": "clock-"}}).to_string();
        eventually("a second passes", SOON, async || {
            let made = self.target.request("POST", &path, JSON, body.clone()).await;
            let made = made.map_err(|error| error.to_string())?;
            Ok((made.json["metadata"]["creationTimestamp"] != *time).then_some(()))
        })
        .await
    }

    /// Expects two values to be the same.
    #[track_caller]
    pub fn same<A: PartialEq<B> + Debug, B: Debug>(&self, what: &str, found: A, wanted: B) {
        if found != wanted {
            note(&self.noted, what, &format!("{found:?}\n      wanted {wanted:?}"));
        }
    }
}

#[track_caller]
fn note(noted: &Noted, what: &str, text: &str) {
    let place = Location::caller();
    let file = place.file().rsplit('/').next().unwrap_or_default();
    noted.borrow_mut().push(format!("  {file}:{}: {what}\n      found {text}", place.line()));
}

/// An answer with what is expected of it.
pub struct Reply {
    what: String,
    answer: Answer,
    noted: Noted,
}

impl Deref for Reply {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.answer
    }
}

impl Reply {
    #[track_caller]
    fn expect<A: PartialEq<B> + Debug, B: Debug>(&self, what: &str, found: A, wanted: B) {
        if found != wanted {
            note(&self.noted, &self.what, &format!("{what} {found:?}\n      wanted {wanted:?}"));
        }
    }

    /// The HTTP code.
    #[track_caller]
    pub fn is(self, code: u16) -> Self {
        if self.code != code {
            note(&self.noted, &self.what, &format!("{} {}\n      wanted {code}", self.code, self.text()));
        }
        self
    }

    /// A whole `Status` of a failure but for its details.
    #[track_caller]
    pub fn refused(self, code: u16, reason: &str, message: impl AsRef<str>) -> Self {
        let message = message.as_ref();
        let mut found = self.json.clone();
        found.as_object_mut().map(|status| status.remove("details"));
        let mut wanted = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code});
        if reason.is_empty() {
            wanted.as_object_mut().map(|status| status.remove("reason"));
        }
        if self.code != code || found != wanted {
            let text = if self.json.is_null() { self.text() } else { found.to_string() };
            note(&self.noted, &self.what, &format!("{} {text}\n      wanted {code} {wanted}", self.code));
        }
        self
    }

    /// A `Status` of a failure whose message has parts that no other server can have: only these are expected.
    #[track_caller]
    pub fn refused_like(self, code: u16, reason: &str, parts: &[&str]) -> Self {
        let message = self.str("/message");
        let said = parts.iter().all(|part| message.contains(part));
        let form = self.str("/kind") == "Status" && self.str("/status") == "Failure";
        if self.code != code || self.str("/reason") != reason || !said || !form {
            note(
                &self.noted,
                &self.what,
                &format!("{} {}\n      wanted {code} {reason} {parts:?}", self.code, self.text()),
            );
        }
        self
    }

    /// The whole details of a `Status`.
    #[track_caller]
    pub fn details(self, wanted: Value) -> Self {
        self.expect("details", &self.json["details"], &wanted);
        self
    }

    /// The causes of a `Status`: reason, field and message of each.
    #[track_caller]
    pub fn causes(self, wanted: &[(&str, &str, &str)]) -> Self {
        let found =
            self.json.pointer("/details/causes").and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        let found: Vec<_> =
            found.iter().map(|c| (of(c, "reason"), of(c, "field"), of(c, "message"))).collect();
        let found: Vec<(&str, &str, &str)> =
            found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        self.expect("causes", found.as_slice(), wanted);
        self
    }

    /// What is at a JSON pointer; null where there must be nothing.
    #[track_caller]
    pub fn at(self, pointer: &str, wanted: impl Into<Value>) -> Self {
        let found = self.json.pointer(pointer).cloned().unwrap_or_default();
        self.expect(pointer, found, wanted.into());
        self
    }

    /// The names of a list's items, in order.
    #[track_caller]
    pub fn lists(self, wanted: &[&str]) -> Self {
        let names: Vec<String> = self.names();
        self.expect("items", names.iter().map(String::as_str).collect::<Vec<_>>(), wanted.to_vec());
        self
    }

    /// The whole body as text.
    #[track_caller]
    pub fn text_is(self, wanted: &str) -> Self {
        self.expect("text", self.text(), wanted);
        self
    }

    /// A header; empty when it must be missing.
    #[track_caller]
    pub fn has(self, header: &str, wanted: &str) -> Self {
        self.expect(header, self.header(header), wanted);
        self
    }

    /// All `Warning` headers, in order.
    #[track_caller]
    pub fn warns(self, wanted: &[&str]) -> Self {
        let all = self.headers.get_all("warning");
        let found: Vec<&str> = all.iter().filter_map(|value| value.to_str().ok()).collect();
        self.expect("warnings", found.as_slice(), wanted);
        self
    }

    /// The names of a list's items.
    pub fn names(&self) -> Vec<String> {
        let items = self.json["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The body.
    pub fn object(&self) -> Value {
        self.json.clone()
    }

    /// The object's resource version, or the list's.
    pub fn version(&self) -> String {
        self.str("/metadata/resourceVersion").to_owned()
    }
}

/// A watch with what is expected of it.
pub struct Events {
    watch: Watch,
    what: String,
    noted: Noted,
}

impl Events {
    /// The next event, which must come.
    pub async fn next(&mut self) -> Result<Value> {
        self.watch.next(SOON).await?.with_context(|| format!("{} ends", self.what))
    }

    /// Expects the next events: type and name of each; a bookmark has no name, and may come unasked at any time.
    pub async fn sees(&mut self, wanted: &[(&str, &str)]) -> Result<()> {
        let mut found = Vec::new();
        while found.len() < wanted.len() {
            let event = self.next().await.with_context(|| format!("after {found:?} of {wanted:?}"))?;
            let waits_for_mark = wanted.get(found.len()).is_some_and(|(kind, _)| *kind == "BOOKMARK");
            if event["type"] == "BOOKMARK" && !waits_for_mark {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found.push((text(&event["type"]), text(&event["object"]["metadata"]["name"])));
        }
        let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        if found != wanted {
            note(&self.noted, &self.what, &format!("{found:?}\n      wanted {wanted:?}"));
        }
        Ok(())
    }

    /// Expects that the server ends the watch and sends nothing before.
    pub async fn ends(&mut self) -> Result<()> {
        if let Some(event) = self.watch.next(SOON).await? {
            note(&self.noted, &self.what, &format!("{event}\n      wanted the end"));
        }
        Ok(())
    }
}
