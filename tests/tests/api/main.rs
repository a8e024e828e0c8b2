// SPDX-License-Identifier: Apache-2.0
//! One suite for the API, each scenario run against our server and against a real Kubernetes: what is asserted here is
//! Kubernetes' contract, which the real one proves.
//!
//! A scenario has a namespace of its own and looks at nothing outside of it, so that many run at the same time. Both
//! servers serve the Widgets of `widget.yaml`; a scenario that changes definitions makes its own.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tests::kubernetes::Options;
use tests::runner::{Scenario, suite_at_once};
use tests::target::{Kind, Target};
use tokio::sync::OnceCell;

use crate::world::{Check, World};

mod apply;
mod apply_lists;
mod authorisation;
mod bad_bodies;
mod bad_metadata;
mod bad_requests;
mod built_in;
mod cel;
mod crd_checks;
mod crds;
mod create_and_read;
mod deletion;
mod discovery;
mod dry_run;
mod garbage_collection;
mod lists;
mod openapi;
mod patches;
mod schema;
mod selectors;
mod status;
mod strategic;
mod tables;
mod update;
mod watches;
mod world;

/// Scenarios that run at the same time.
const AT_ONCE: usize = 12;
/// Time that a scenario may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(150);
/// How long both servers remember what was, so that a scenario can wait until they have forgotten.
const MEMORY: Duration = Duration::from_secs(20);

const TOPICS: &[(&str, &[Check])] = &[
    ("apply", apply::ALL),
    ("apply_lists", apply_lists::ALL),
    ("authorisation", authorisation::ALL),
    ("bad_bodies", bad_bodies::ALL),
    ("bad_metadata", bad_metadata::ALL),
    ("bad_requests", bad_requests::ALL),
    ("built_in", built_in::ALL),
    ("cel", cel::ALL),
    ("crd_checks", crd_checks::ALL),
    ("crds", crds::ALL),
    ("create_and_read", create_and_read::ALL),
    ("deletion", deletion::ALL),
    ("discovery", discovery::ALL),
    ("dry_run", dry_run::ALL),
    ("garbage_collection", garbage_collection::ALL),
    ("lists", lists::ALL),
    ("openapi", openapi::ALL),
    ("patches", patches::ALL),
    ("schema", schema::ALL),
    ("selectors", selectors::ALL),
    ("status", status::ALL),
    ("strategic", strategic::ALL),
    ("tables", tables::ALL),
    ("update", update::ALL),
    ("watches", watches::ALL),
];

/// Both servers, each started for the first scenario that asks for it.
#[derive(Default)]
struct Both {
    embedded: OnceCell<Result<Target>>,
    kubernetes: OnceCell<Result<Target>>,
}

impl Both {
    async fn of(&self, kind: Kind) -> Result<&Target> {
        let target = match kind {
            Kind::Embedded => &self.embedded,
            Kind::Kubernetes => &self.kubernetes,
        };
        // One that does not start is not tried again for each scenario.
        target.get_or_init(|| start(kind)).await.as_ref().map_err(|error| anyhow!("{error:#}"))
    }
}

async fn start(kind: Kind) -> Result<Target> {
    let target = match kind {
        Kind::Embedded => Target::embedded(|options| options.log_age = MEMORY).await?,
        Kind::Kubernetes => {
            let flags = vec![format!("--etcd-compaction-interval={}s", MEMORY.as_secs())];
            Target::kubernetes(&Options { flags, ..Options::default() }).await?
        }
    };
    world::prepare(&target).await.with_context(|| format!("{target:?}"))?;
    Ok(target)
}

async fn run(both: &Both, kind: Kind, topic: &str, (name, check): Check) -> Result<()> {
    let world = World::open(both.of(kind).await?, &format!("{topic}-{name}")).await?;
    let ran = tokio::time::timeout(DEADLINE, check(&world)).await;
    let ran = ran.unwrap_or_else(|_| Err(anyhow!("not over within {} s", DEADLINE.as_secs())));
    world.close(ran)
}

fn main() -> ExitCode {
    let mut scenarios = Vec::new();
    for (topic, checks) in TOPICS {
        for check in *checks {
            for kind in [Kind::Embedded, Kind::Kubernetes] {
                let name = format!("{}::{topic}::{}", kind.name(), check.0);
                scenarios
                    .push(Scenario::new(name, move |both: &Both| Box::pin(run(both, kind, topic, *check))));
            }
        }
    }
    suite_at_once(AT_ONCE, async || Ok(Both::default()), &scenarios)
}
