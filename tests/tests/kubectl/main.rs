// SPDX-License-Identifier: Apache-2.0
//! `kubectl`, unmodified, against our server and against a real Kubernetes at the same time: every command must end with the
//! same code and print the same text on both, but for what no two servers have in common (`normal`).
//!
//! Each scenario runs with the `kubectl` of the release that we follow, and some once more with an older one where the machine
//! has one. A scenario has a namespace of its own, of the same name on both servers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use tests::kubernetes;
use tests::runner::{Scenario, suite_at_once};
use tests::target::{Kind, Target};

mod apply;
mod change;
mod create;
mod delete;
mod describe;
mod edit;
mod errors;
mod explore;
mod get;
mod manifests;
mod normal;
mod program;
mod server_side;
mod session;
mod wait;
mod watch;

use program::Kubectl;
use session::{Difference, Session, differences};

/// Scenarios that an older `kubectl` runs, too: those in which it asks for something in a way of its own.
const OLDER: &[&str] = &[
    "printing",
    "watching_one",
    "patches",
    "deleting",
    "conditions",
    "describing",
    "explaining",
    "resources",
    "lists",
];

/// Scenarios that are run whenever anything is tested: each verb that people use is in one of them. The others are long rows.
const ALWAYS: &[&str] = &[
    "printing",
    "selecting",
    "chunks",
    "watching_one",
    "applying",
    "conflicts",
    "editing",
    "diffing",
    "patches",
    "strategic_patches",
    "cascades",
    "conditions",
    "events",
    "explaining",
    "resources",
    "definitions",
    "upstream",
];
/// Scenarios at the same time. Each has a namespace of its own, and they mostly wait: for a server, or for what one does by itself.
const AT_ONCE: usize = 4;

/// Both servers, with our CRDs and one made for these tests.
struct World {
    embedded: Target,
    kubernetes: Target,
    /// Keeps what every `kubectl` has learned of a server.
    caches: tempfile::TempDir,
    /// Held by scenarios that list all kinds or make one.
    kinds: tokio::sync::Mutex<()>,
}

/// Those scenarios.
const OF_ALL_KINDS: [&str; 2] = ["resources", "definitions"];

impl World {
    async fn start() -> Result<Self> {
        let world = Self {
            embedded: Target::start(Kind::Embedded).await?,
            kubernetes: Target::start(Kind::Kubernetes).await?,
            caches: tempfile::tempdir()?,
            kinds: tokio::sync::Mutex::default(),
        };
        let kubectl = Kubectl::current(kubernetes::programs()?.join("kubectl"));
        compare(&world, &kubectl, "setup", explore::installing).await?;
        Ok(world)
    }
}

/// Runs a scenario on both servers at once and holds what was printed side by side.
async fn compare(
    world: &World,
    kubectl: &Kubectl,
    name: &str,
    scenario: impl AsyncFn(&mut Session<'_>) -> Result<()>,
) -> Result<()> {
    let _alone = if OF_ALL_KINDS.contains(&name) { Some(world.kinds.lock().await) } else { None };
    let side = async |target| {
        let mut session = Session::start(target, kubectl, name, world.caches.path()).await?;
        let ended = scenario(&mut session).await;
        anyhow::Ok((session.into_steps(), ended))
    };
    let (ours, theirs) = tokio::try_join!(side(&world.embedded), side(&world.kubernetes))?;
    let mut found = differences(&ours.0, &theirs.0);
    for (kind, ended) in [(Kind::Embedded, ours.1), (Kind::Kubernetes, theirs.1)] {
        if let Err(error) = ended {
            found.push(Difference(format!("{}: {error:#}", kind.name())));
        }
    }
    let wrong: Vec<String> = found.into_iter().map(|Difference(what)| what).collect();
    ensure!(wrong.is_empty(), "{} of {} steps\n{}", wrong.len(), ours.0.len(), wrong.join("\n"));
    Ok(())
}

/// The scenarios with one `kubectl`.
fn scenarios(kubectl: &Kubectl) -> Vec<Scenario<World>> {
    let mut list = Vec::new();
    let runs = |name: &str| kubectl.is_current() || OLDER.contains(&name);
    macro_rules! rows {
        ($($module:ident: $($name:ident),+;)+) => {
            $($(if runs(stringify!($name)) {
                let kubectl = kubectl.clone();
                let always = kubectl.is_current() && ALWAYS.contains(&stringify!($name));
                let long = if always { "" } else { "full_" };
                let name = format!("{long}{}::{}", kubectl.label, stringify!($name));
                list.push(Scenario::new(name, move |world: &World| {
                    let kubectl = kubectl.clone();
                    let scenario = stringify!($name);
                    Box::pin(async move { compare(world, &kubectl, scenario, $module::$name).await })
                }));
            })+)+
        };
    }
    rows! {
        get: printing, templates, selecting, chunks, raw;
        watch: watching, watching_one;
        create: subcommands, validation, dry_run;
        apply: applying, fields_that_go, folders, pruning, apply_sets, last_applied;
        server_side: conflicts, owners, migration;
        edit: editing, diffing;
        change: labels, patches, strategic_patches, subresources, replacing, scaling;
        delete: deleting, cascades, namespaces;
        wait: conditions, appearing;
        describe: describing, events;
        explore: explaining, resources, permissions, definitions;
        manifests: upstream, lists, unknown_fields;
        errors: refusals, invalid_objects;
    }
    list
}

fn main() -> ExitCode {
    let current = kubernetes::programs().map(|folder| folder.join("kubectl"));
    let mut all = scenarios(&Kubectl::current(current.unwrap_or_default()));
    if let Some(older) = Kubectl::older() {
        all.extend(scenarios(&older));
    }
    suite_at_once(AT_ONCE, World::start, &all)
}
