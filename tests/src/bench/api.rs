// SPDX-License-Identifier: Apache-2.0
//! The API server (`tink api`) beside kube-apiserver with etcd: the same client, TLS, durable writes on both sides.
//!
//! Both run from the start; rounds alternate between them, so that one is idle while the other is measured. Latencies are
//! those of closed loops: every client sends its next request when it has the answer to the last.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{RUNS, Report, Row, median};
use crate::alone::Alone;
use crate::target::Kind;

mod load;
mod watchers;

use load::{Load, quantile};

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    objects: usize,
    watchers: usize,
    rounds: usize,
    /// Requests in a round for each client count.
    creates: [(usize, usize); 3],
    reads: usize,
    patches: usize,
    /// Time for which watchers are written to at one rate.
    watched: Duration,
}

const FULL: Scale = Scale {
    objects: 50_000,
    watchers: 100,
    rounds: RUNS,
    creates: [(1, 400), (16, 2000), (64, 4000)],
    reads: 4000,
    patches: 2000,
    watched: Duration::from_secs(5),
};
const QUICK: Scale = Scale {
    objects: 3000,
    watchers: 20,
    rounds: 1,
    creates: [(1, 100), (16, 400), (64, 800)],
    reads: 800,
    patches: 400,
    watched: Duration::from_secs(2),
};
/// Clients that read and patch at once.
const CLIENTS: usize = 16;
/// Writes per second while watchers are told.
const RATES: [u32; 2] = [10, 40];
/// Objects in a page of a list, as client-go asks.
const PAGE: usize = 500;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// This many times the peer's.
    Times(f64),
    /// This part of the peer's, as 1/N.
    Fraction(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    None,
}

/// Measurements of one thing at both sides.
struct Figure {
    unit: &'static str,
    aim: Aim,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// All figures, in the order in which they were first measured.
#[derive(Default)]
struct Figures {
    order: Vec<String>,
    all: BTreeMap<String, Figure>,
}

impl Figures {
    fn add(&mut self, kind: Kind, name: impl Into<String>, (value, unit): (f64, &'static str), aim: Aim) {
        let name = name.into();
        if !self.all.contains_key(&name) {
            self.order.push(name.clone());
        }
        let empty = Figure { unit, aim, ours: Vec::new(), theirs: Vec::new() };
        let figure = self.all.entry(name).or_insert(empty);
        match kind {
            Kind::Embedded => figure.ours.push(value),
            Kind::Kubernetes => figure.theirs.push(value),
        }
    }

    /// Rate and latencies of a round.
    fn round(&mut self, kind: Kind, name: &str, (took, latencies): (Duration, Vec<Duration>), rate: Aim) {
        let share = match rate {
            Aim::Times(times) => Aim::Fraction(times),
            _ => Aim::Fraction(5.0),
        };
        self.add(kind, format!("{name}, rate"), (load::rate(latencies.len(), took), "/s"), rate);
        for (label, part) in [("p50", 0.5), ("p99", 0.99)] {
            let value = quantile(&latencies, part).as_secs_f64() * 1e3;
            self.add(kind, format!("{name}, {label}"), (value, "ms"), share);
        }
    }

    fn report(&self) -> Report {
        let mut report = Report { rows: Vec::new(), text: String::new() };
        let width = self.order.iter().map(String::len).max().unwrap_or(0);
        report.text.push_str(&format!(
            "{:width$}  {:>12}  {:>12}        {:>7}  {:>9}\n",
            "", "tink api", "k8s + etcd", "ratio", "aim"
        ));
        for (name, figure) in self.order.iter().filter_map(|name| Some((name, self.all.get(name)?))) {
            let (ours, theirs) = (median(figure.ours.clone()), median(figure.theirs.clone()));
            let ratio = ours / theirs;
            let (aim, met) = match figure.aim {
                Aim::Times(times) => (format!("x{times:.1}"), Some(ratio >= times)),
                Aim::Fraction(part) => (format!("x{:.2}", 1.0 / part), Some(ratio * part <= 1.0)),
                Aim::AtMost(most) => (format!("<={most}"), Some(ours <= most)),
                Aim::None => (String::new(), None),
            };
            let verdict = met.map_or("", |met| if met { "met" } else { "MISSED" });
            report.text.push_str(&format!(
                "{name:width$}  {ours:>12.2}  {theirs:>12.2} {:5}  x{ratio:<6.2}  {aim:>9}  {verdict}\n",
                figure.unit
            ));
            for (subject, value) in [("tink api", ours), ("kube-apiserver + etcd", theirs)] {
                let (bench, subject) = (format!("api: {name}"), subject.to_owned());
                report.rows.push(Row { bench, subject, value, unit: figure.unit });
            }
        }
        report
    }
}

/// One of the servers with its clients.
struct Side {
    server: Alone,
    load: Load,
}

/// Measures both; `quick` does a part of it, for those who work on the server.
pub fn run(quick: bool) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On this thread, which stays: the servers end with the one that started them.
    runtime.block_on(measure(if quick { QUICK } else { FULL }))
}

async fn measure(scale: Scale) -> Result<Report> {
    let mut figures = Figures::default();
    let mut sides = Vec::new();
    for kind in [Kind::Embedded, Kind::Kubernetes] {
        let (server, took) = Alone::start(kind, false).await?;
        figures.add(kind, "start to ready, empty", (took.as_secs_f64(), "s"), Aim::AtMost(0.1));
        figures.add(kind, "RSS, empty", (mib(server.memory()?.0), "MiB"), Aim::None);
        let load = Load::new(&server, 64).await?;
        sides.push(Side { server, load });
    }
    println!("  objects of {} bytes as they are sent", load::hardware("x").len());
    creates(&mut figures, &mut sides, scale).await?;
    requests(&mut figures, &sides, scale).await?;
    watches(&mut figures, &sides, scale).await?;
    for side in &mut sides {
        sizes(&mut figures, side).await?;
    }
    Ok(figures.report())
}

async fn creates(figures: &mut Figures, sides: &mut [Side], scale: Scale) -> Result<()> {
    for _ in 0..scale.rounds {
        for (clients, count) in scale.creates {
            for side in &mut *sides {
                let name = format!("create, {clients} clients");
                figures.round(
                    side.server.kind,
                    &name,
                    side.load.create(clients, count).await?,
                    Aim::Times(5.0),
                );
            }
        }
    }
    for side in sides {
        let missing = scale.objects.saturating_sub(side.load.objects());
        let (took, latencies) = side.load.create(64, missing).await?;
        let name = format!("create up to {} objects, 64 clients", scale.objects);
        figures.add(side.server.kind, name, (load::rate(latencies.len(), took), "/s"), Aim::Times(5.0));
        println!("  {}: {} objects are there", side.server.kind.name(), side.load.objects());
    }
    Ok(())
}

async fn requests(figures: &mut Figures, sides: &[Side], scale: Scale) -> Result<()> {
    for _ in 0..scale.rounds {
        for side in sides {
            let kind = side.server.kind;
            let get = side.load.get(1, scale.reads / 4).await?;
            figures.round(kind, "get, 1 client", get, Aim::None);
            let get = side.load.get(CLIENTS, scale.reads).await?;
            figures.round(kind, &format!("get, {CLIENTS} clients"), get, Aim::None);
            let patch = side.load.patch(1, scale.patches / 4).await?;
            figures.round(kind, "merge patch, 1 client", patch, Aim::None);
            let patch = side.load.patch(CLIENTS, scale.patches).await?;
            figures.round(kind, &format!("merge patch, {CLIENTS} clients"), patch, Aim::None);
        }
    }
    for _ in 0..scale.rounds {
        for side in sides {
            let kind = side.server.kind;
            let (took, bytes) = side.load.list(None).await?;
            figures.add(kind, "list of everything", (took.as_secs_f64() * 1e3, "ms"), Aim::Fraction(5.0));
            figures.add(kind, "list of everything, size", (mib(bytes), "MiB"), Aim::None);
            let (took, _) = side.load.list(Some(PAGE)).await?;
            let name = format!("list of everything, pages of {PAGE}");
            figures.add(kind, name, (took.as_secs_f64() * 1e3, "ms"), Aim::Fraction(5.0));
        }
    }
    Ok(())
}

async fn watches(figures: &mut Figures, sides: &[Side], scale: Scale) -> Result<()> {
    let mut audiences = Vec::new();
    for side in sides {
        audiences.push((side, watchers::Audience::open(&side.server, scale.watchers).await?));
    }
    for _ in 0..scale.rounds {
        for rate in RATES {
            for (side, audience) in &mut audiences {
                let delays = audience.tell(&side.load, rate, scale.watched).await?;
                for (label, part) in [("p50", 0.5), ("p99", 0.99)] {
                    let name = format!("write to event, {} watchers, {rate}/s, {label}", scale.watchers);
                    let value = quantile(&delays, part).as_secs_f64() * 1e3;
                    figures.add(side.server.kind, name, (value, "ms"), Aim::Fraction(5.0));
                }
            }
        }
    }
    for (side, _) in &audiences {
        let (now, peak) = side.server.memory()?;
        let aim = Aim::AtMost(150.0);
        let with = format!("{} objects and {} watchers", scale.objects, scale.watchers);
        figures.add(side.server.kind, format!("RSS, {with}"), (mib(now), "MiB"), aim);
        figures.add(side.server.kind, "RSS, highest", (mib(peak), "MiB"), aim);
    }
    Ok(())
}

async fn sizes(figures: &mut Figures, side: &mut Side) -> Result<()> {
    let kind = side.server.kind;
    figures.add(kind, "size on disk", (mib(side.server.disk()?), "MiB"), Aim::None);
    for (name, signal) in [("after an end", Signal::TERM), ("after kill -9", Signal::KILL)] {
        let took = side.server.restart(signal).await?;
        let name = format!("start to ready with everything, {name}");
        figures.add(kind, name, (took.as_secs_f64(), "s"), Aim::AtMost(0.1));
    }
    figures.add(kind, "RSS, started again", (mib(side.server.memory()?.0), "MiB"), Aim::None);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
