// SPDX-License-Identifier: Apache-2.0
//! Sends a sequence to both servers, one request at a time, and notes where their answers differ.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::difference::{Difference, places};
use super::generator::NAMESPACES;
use super::settle::unsettled;
use super::side::Side;
use super::step::{Action, Request, Step};
use crate::kubernetes::Options;
use crate::stack::eventually;
use crate::target::{Kind, Target};

/// Time until a server serves a new definition.
const SERVED: Duration = Duration::from_secs(60);
/// Time that garbage collection may take on a busy machine.
const COLLECTED: Duration = Duration::from_secs(20);
/// Time that events may take to reach a watch, and time without any after which none is expected.
const HEARD: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(50);
/// Definitions of the kinds that are made for this.
const DEFINITIONS: [&str; 2] = [include_str!("widgets.yaml"), include_str!("racks.yaml")];

/// Both servers.
pub struct Pair {
    embedded: Target,
    kubernetes: Target,
}

/// What came of a sequence.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests that were sent to both.
    pub asked: usize,
    /// Steps that were left out, because no answer had told what they need.
    pub skipped: usize,
    /// Where the two differ.
    pub differences: Vec<Difference>,
}

/// A step as text.
pub(super) fn asked(step: &Step) -> String {
    match &step.action {
        Action::Ask(request) | Action::Watch(request) => request.to_string(),
        Action::Settle => "(everything that is stored)".to_owned(),
    }
}

impl Pair {
    /// Starts both, with all kinds. Must be called on a thread that stays.
    ///
    /// # Errors
    /// When one does not become ready.
    pub async fn start() -> Result<Self> {
        let embedded = Target::start(Kind::Embedded).await?;
        let mut kubernetes =
            Target::kubernetes(&Options { controllers: false, ..Options::default() }).await?;
        for target in [&embedded, &kubernetes] {
            install(target).await?;
        }
        // The collector looks for new kinds every half minute, and when it starts.
        kubernetes.start_controllers()?;
        for target in [&embedded, &kubernetes] {
            collects(target).await?;
        }
        Ok(Self { embedded, kubernetes })
    }

    /// Runs a sequence on both, which are empty before and after.
    ///
    /// # Errors
    /// When a server gives no answer at all.
    pub async fn run(&self, steps: &[Step]) -> Result<Outcome> {
        let mut run = Run {
            embedded: Side::new(&self.embedded),
            kubernetes: Side::new(&self.kubernetes),
            outcome: Outcome::default(),
            tainted: BTreeSet::new(),
        };
        for step in steps {
            run.step(step).await?;
        }
        run.streams(steps).await?;
        let Run { embedded, kubernetes, outcome, .. } = run;
        let (ours, theirs) = tokio::join!(embedded.clear(), kubernetes.clear());
        ours.and(theirs)?;
        Ok(outcome)
    }
}

/// Definitions and namespaces.
async fn install(target: &Target) -> Result<()> {
    let mut definitions: Vec<String> = DEFINITIONS.map(str::to_owned).into();
    for definition in api::crds() {
        definitions.push(serde_json::to_string(&definition)?);
    }
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for definition in definitions {
        let answer = target.request("POST", path, "application/yaml", definition).await?;
        if answer.code != 201 {
            bail!("{target:?} refuses a definition: {}", answer.text());
        }
        let name = answer.str("/metadata/name").to_owned();
        let served: Vec<Value> =
            answer.json.pointer("/spec/versions").and_then(Value::as_array).cloned().unwrap_or_default();
        for version in served.iter().filter_map(|version| version.get("name").and_then(Value::as_str)) {
            let collection =
                format!("/apis/{}/{version}/{}", answer.str("/spec/group"), answer.str("/spec/names/plural"));
            eventually(&format!("{name} is served"), SERVED, async || {
                let list = target.get(&collection).await.map_err(|error| error.to_string())?;
                Ok((list.code == 200).then_some(()))
            })
            .await?;
        }
    }
    for namespace in NAMESPACES {
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).to_string();
        let answer = target.request("POST", "/api/v1/namespaces", "application/json", body).await?;
        if answer.code != 201 {
            bail!("{target:?} refuses a namespace: {}", answer.text());
        }
    }
    Ok(())
}

/// Waits until the garbage collector knows the kinds.
async fn collects(target: &Target) -> Result<()> {
    let widget = json!({
        "apiVersion": "differential.example/v1", "kind": "Widget", "spec": {"title": "x"},
        "metadata": {"name": "first", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none",
            "uid": "00000000-0000-4000-8000-000000000000"}]},
    });
    let collection = "/apis/differential.example/v1/namespaces/east/widgets";
    target.request("POST", collection, "application/json", widget.to_string()).await?;
    eventually("an object without its owner is collected", SERVED, async || {
        let answer = target.get(&format!("{collection}/first")).await.map_err(|error| error.to_string())?;
        Ok((answer.code == 404).then_some(()))
    })
    .await
    .map(drop)
}

struct Run<'a> {
    embedded: Side<'a>,
    kubernetes: Side<'a>,
    outcome: Outcome,
    /// Objects on which the two have differed, as the paths of steps: what their watches tell differs too.
    tainted: BTreeSet<String>,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<()> {
        let (request, watch) = match &step.action {
            Action::Ask(request) => (request, false),
            Action::Watch(request) => (request, true),
            Action::Settle => return self.settle(step).await,
        };
        let resolved = (request.resolve(&self.embedded.facts), request.resolve(&self.kubernetes.facts));
        let (Ok(mine), Ok(other)) = resolved else {
            self.outcome.skipped += 1;
            return Ok(());
        };
        self.outcome.asked += 1;
        let (ours, theirs) = if watch {
            tokio::join!(self.embedded.watch(step.number, &mine), self.kubernetes.watch(step.number, &other))
        } else {
            tokio::join!(self.embedded.ask(step.number, &mine), self.kubernetes.ask(step.number, &other))
        };
        let asked = || format!("step {}: {other}", step.number);
        let found = places(&ours.with_context(asked)?, &theirs.with_context(asked)?);
        if found.is_empty() {
            return Ok(());
        }
        let difference = Difference { step: step.clone(), request: mine.to_string(), places: found };
        self.outcome.differences.push(difference);
        self.heal(step, &mine, &other).await
    }

    /// Removes the object on which the two differ, so that one difference does not make others.
    async fn heal(&mut self, step: &Step, mine: &Request, other: &Request) -> Result<()> {
        if step.about.is_empty() || mine.method == "GET" {
            return Ok(());
        }
        self.tainted.insert(step.about.clone());
        // A generated name is part of the path that was sent.
        let path = |request: &Request| {
            let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
            path.trim_end_matches("/status").trim_end_matches("/scale").to_owned()
        };
        let (ours, theirs) = match mine.method {
            "POST" => (step.about.clone(), step.about.clone()),
            _ => (path(mine), path(other)),
        };
        if ours.rsplit('/').next().is_none_or(|name| name.contains('⟨')) {
            return Ok(());
        }
        let (ours, theirs) = tokio::join!(self.embedded.remove(&ours), self.kubernetes.remove(&theirs));
        ours.and(theirs)
    }

    /// Waits until nothing is left to collect, and compares what is stored.
    async fn settle(&mut self, step: &Step) -> Result<()> {
        let until = Instant::now() + COLLECTED;
        let (ours, theirs) = loop {
            let (ours, theirs) = tokio::join!(self.embedded.stored(), self.kubernetes.stored());
            let (ours, theirs) = (ours?, theirs?);
            let open = unsettled(&ours).map(|path| ("embedded", path.to_owned()));
            let open = open.or(unsettled(&theirs).map(|path| ("kubernetes", path.to_owned())));
            let Some(open) = open else { break (ours, theirs) };
            if Instant::now() > until {
                let place = places(&json!({"settled": true}), &json!({"settled": open}));
                let difference =
                    Difference { step: step.clone(), request: format!("{open:?} stays"), places: place };
                self.outcome.differences.push(difference);
                break (ours, theirs);
            }
            tokio::time::sleep(POLL).await;
        };
        let found = places(&self.embedded.learn_stored(&ours), &self.kubernetes.learn_stored(&theirs));
        let mut about = BTreeSet::new();
        for place in found {
            let object = place.at.split('/').nth(1).unwrap_or_default().replace("~1", "/");
            if self.tainted.insert(object.clone()) || about.contains(&object) {
                about.insert(object.clone());
                let request = format!("stored: {object}");
                self.outcome.differences.push(Difference {
                    step: step.clone(),
                    request,
                    places: vec![place],
                });
            }
        }
        Ok(())
    }

    /// Waits until the watches are quiet, and compares what they told.
    async fn streams(&mut self, steps: &[Step]) -> Result<()> {
        let until = Instant::now() + HEARD;
        let mut last = (self.embedded.heard(), Instant::now());
        loop {
            let (ours, theirs) = (self.embedded.heard(), self.kubernetes.heard());
            if ours != theirs || ours != last.0 {
                last = (ours, Instant::now());
            }
            if last.1.elapsed() > QUIET || Instant::now() > until {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let last = steps.last().context("a sequence has steps")?;
        for ((path, ours), (_, theirs)) in self.embedded.streams().into_iter().zip(self.kubernetes.streams())
        {
            let objects: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for object in objects {
                let none = Vec::new();
                let (ours, theirs) = (ours.get(object).unwrap_or(&none), theirs.get(object).unwrap_or(&none));
                let mut pairs = ours.iter().zip(theirs).map(|(ours, theirs)| places(ours, theirs));
                let found = pairs.find(|places| !places.is_empty()).unwrap_or_else(|| {
                    places(&json!({"events": kinds(ours)}), &json!({"events": kinds(theirs)}))
                });
                if !found.is_empty() && !self.is_tainted(object) {
                    let step = Step { what: "event".to_owned(), about: String::new(), ..last.clone() };
                    let request = format!("watch {path} of {object}");
                    self.outcome.differences.push(Difference { step, request, places: found });
                }
            }
        }
        Ok(())
    }

    /// Whether answers about an object of this namespace and name have differed.
    fn is_tainted(&self, symbol: &str) -> bool {
        let place = symbol.rsplit(' ').next().unwrap_or_default().trim_end_matches('>');
        let (namespace, name) = place.split_once('/').unwrap_or_default();
        self.tainted.iter().any(|path| path.contains(namespace) && path.ends_with(&format!("/{name}")))
    }
}

fn kinds(events: &[Value]) -> Vec<Value> {
    events.iter().filter_map(|event| event.get("type").cloned()).collect()
}
