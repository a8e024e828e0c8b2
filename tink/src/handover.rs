// SPDX-License-Identifier: Apache-2.0

//! The move: another API server comes to own the machines, with everything that is known of them.
//!
//! Owns the rim around [`decide`]: reads both journals ([`api::ownership`]), does the next step, and reads again. Whatever ends it, the same call goes on:
//! the journals are all that it remembers, and copying may be repeated. A Lease on the source keeps a second one out. `tink cluster move` calls it, and
//! prints what it is told. It never touches a machine, and never lets go of one side before the other owns. Where the daemons are to run as pods of the target,
//! they are there and wait before the source is told.
//!
//! ```text
//! Receive ──> Clear ──> Leave ──> Drain ──> Copy ──> Own ──> LetGo ──> Done          given up before Own: Refrain ──> Keep ──> Done
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use api::annotations::SYSTEM_NAMESPACE;
use api::anywhere::v1alpha1::Cluster;
use api::ownership::{self, Journal, JournalError, LEASE, Move, Peer, State};
use daemon::leader::{Election, LeaderError};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy},
};
use manifest::Finding;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    backup::BackupError,
    output,
    pods::{self, Pods, PodsError, Until},
    restore::put::{Differing, Item, Server, levels},
    setup::{self, SetupError},
};

mod away;
mod cargo;
pub mod decide;
mod side;

pub use cargo::Proof;
pub(crate) use side::Leaders;
pub use side::Side;

use away::{AWAY, Away, Lost, RETRY};
use cargo::{Cargo, Difference};
use decide::{Back, Ids, Refused, Step};

/// Longest wait for daemons to stop: longer than they may drain, and than a Lease whose holder vanished.
const DRAIN: Duration = Duration::from_secs(90);
/// How often objects are sent that were not taken: a server that goes away meanwhile does not say so.
const SENDINGS: usize = 3;
/// How often it is copied and compared until both are the same: once, and once more where objects name each other in a circle; more only when somebody
/// writes to the source meanwhile.
const ROUNDS: usize = 5;
/// Events that may wait for whoever prints them.
const EVENTS: usize = 16;
/// Objects that are sent between two looks whether it is still ours to send them.
const PIECE: usize = 64;
/// Objects that an error names.
const NAMED: usize = 10;

/// Why a move ended before its end. The same call goes on after the cause is removed.
#[derive(Debug, Error)]
pub enum MoveError {
    /// There is no next step.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A journal is none.
    #[error("{url}: {source}")]
    Journal {
        /// The server.
        url: String,
        /// What is wrong with it.
        source: JournalError,
    },
    /// A server refused, or did not answer.
    #[error("{url}: {what}: {}", output::problem(source))]
    Api {
        /// The server.
        url: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Somebody else owns the machines, or will.
    #[error("this API server does not own the machines: {0}; name the one that does with --kubeconfig")]
    NotOwner(String),
    /// The target cannot be prepared.
    #[error("the target cannot be prepared: {0}")]
    Setup(#[from] SetupError),
    /// The daemons do not come up there.
    #[error("the daemons do not run on the target: {0}")]
    Pods(#[from] PodsError),
    /// The machines are moved, and pods are left where they were.
    #[error("the machines are moved; the daemons' pods on the source are still there: {0}")]
    Leftover(#[source] PodsError),
    /// Pods need what only Kubernetes has.
    #[error("{0} runs no pods: move there without them (--without-pods), and start the daemons")]
    NoPods(String),
    /// What is to be moved cannot be read.
    #[error(transparent)]
    Read(#[from] BackupError),
    /// The target has machines already, of which no journal tells.
    #[error(
        "the target has {count} objects of its own, such as {first}: two inventories do not become one; delete them, or move to an empty one"
    )]
    NotEmpty {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// A cluster is on its way.
    #[error("the cluster {0} is not ready: let `tink cluster create` or `delete` finish, or say --force")]
    Unfinished(String),
    /// Objects belong to others that stay.
    #[error(
        "these belong to objects that do not go along, and would be removed there: {}; take that owner out of them, or delete them",
        .0.join(", ")
    )]
    Orphans(Vec<String>),
    /// Daemons of the source go on.
    #[error("waited {} s for {on}: stop it", DRAIN.as_secs())]
    StillActs {
        /// What was waited for.
        on: String,
    },
    /// The target refused objects.
    #[error("the target refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Put(Vec<Finding>),
    /// It does not become the same.
    #[error(
        "after {ROUNDS} times of copying these still differ: {}; whoever writes to the source has to stop, such as a `tink cluster create`",
        .0.join(", ")
    )]
    Differs(Vec<String>),
    /// Somebody else goes on with the move, or has given it up.
    #[error("another mover has gone on with this move meanwhile, or has given it up")]
    Overtaken,
    /// It was asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// Its Lease was not renewed in time, and did not come back.
    #[error("{}: the Lease of the move was not renewed in time, and could not be taken again for {} s", .0, AWAY.as_secs())]
    Lost(String),
    /// The work failed: a programming mistake.
    #[error("{0}")]
    Task(String),
}

impl MoveError {
    fn of(url: &str, what: &str, source: kube::Error) -> Self {
        Self::Api { url: url.to_owned(), what: what.to_owned(), source: Box::new(source) }
    }

    /// Whether the same call goes on, as soon as the cause is gone.
    pub(crate) fn is_on_the_way(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Journal { .. } | Self::NotOwner(_) | Self::NotEmpty { .. } => false,
            Self::Unfinished(_) | Self::Orphans(_) | Self::NoPods(_) => false,
            Self::Pods(_)
            | Self::Leftover(_)
            | Self::Api { .. }
            | Self::Setup(_)
            | Self::Read(_)
            | Self::StillActs { .. }
            | Self::Put(_) => true,
            Self::Differs(_) | Self::Overtaken | Self::Stopped | Self::Lost(_) | Self::Task(_) => true,
        }
    }

    /// The server whose answer may be another one in a moment.
    fn may_pass(&self) -> Option<(&str, &kube::Error)> {
        let (on, source) = match self {
            Self::Api { url, source, .. } => (url.as_str(), source),
            Self::Read(BackupError::Read { source, .. }) => ("the source or the target", source),
            Self::Setup(SetupError::Refused { source, .. } | SetupError::Groups(source))
            | Self::Pods(PodsError::Api { source, .. }) => ("the target", source),
            Self::Leftover(PodsError::Api { source, .. }) => ("the source", source),
            _ => return None,
        };
        output::may_pass(source).then_some((on, source))
    }
}

/// What a move tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// A step begins.
    Begins {
        /// Which.
        step: Step,
    },
    /// It is done.
    Done {
        /// Which.
        step: Step,
    },
    /// Something is waited for.
    Waits {
        /// Whose server.
        on: String,
        /// What for.
        reason: String,
        /// For how long so far.
        seconds: u64,
    },
    /// Objects were sent.
    Copied {
        /// How many of them.
        objects: usize,
        /// Of how many.
        of: usize,
    },
    /// Both sides have the same.
    Verified {
        /// How many objects of each kind.
        counts: std::collections::BTreeMap<String, usize>,
        /// SHA-256 over their contents.
        digest: String,
    },
    /// The daemons' pods were taken away where the machines are not owned any more.
    Removed {
        /// Whose server.
        on: String,
        /// Which daemons'.
        daemons: Vec<String>,
    },
    /// A step of giving up is done.
    GaveUp {
        /// Which.
        step: Back,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Move; also while a cluster is not ready, when `force` is said.
    Forth {
        /// Whether clusters on their way are moved as they are.
        force: bool,
    },
    /// Give the move up that was begun.
    Back,
}

/// Moves everything from one server to the other, or gives that up. Events come through the channel, which ends with it. `identity` is a name in the Lease
/// that nobody else uses at this time: whoever has it after a crash goes on at once, and without one waits until the Lease has run out.
///
/// # Errors
///
/// See [`MoveError`].
pub async fn run(
    (source, target): (Side, Side),
    (way, pods): (Way, Option<Pods>),
    identity: Option<String>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> Result<(), MoveError> {
    let (left, telling) = (source.clone(), events.clone());
    // Before the Lease, which the source may not have a place for when it is no server of ours at all.
    let begun = journals(&source, &target, &events).await?;
    let ids = Ids { source: &source.id, target: &target.id };
    if pods.is_some() && !target.is_kubernetes {
        return Err(MoveError::NoPods(target.url));
    }
    match way {
        // It may have been killed just before that.
        Way::Forth { .. } if decide::next(&begun.0, &begun.1, ids, false)? == Step::Done => {
            return retire(&source, &events).await;
        }
        Way::Back if decide::back(&begun.0, &begun.1, ids)? == Back::Done => return Ok(()),
        Way::Forth { .. } | Way::Back => {}
    }
    let election = Election { namespace: SYSTEM_NAMESPACE.to_owned(), identity };
    let health = daemon::Health::new();
    let latch = health.latch("lease", "the Lease of the move");
    let client = source.client.clone();
    let (lost, finished) = (Lost::new(stop.clone()), Arc::new(AtomicBool::new(false)));
    let mover =
        Mover { source, target, events, way, pods, is_begun: Arc::default(), was_away: Arc::default() };
    let work = |stop: CancellationToken| {
        let (mover, finished, asked) = (mover.clone(), finished.clone(), lost.asked.clone());
        let term = lost.term();
        async move {
            let _term = term;
            tokio::select! {
                // Nothing is done any more once the Lease is lost; it begins anew when that is ours again.
                biased;
                () = stop.cancelled() => {
                    if !asked.is_cancelled() {
                        mover.was_away.store(true, Ordering::SeqCst);
                        let lease = "the Lease of the move, which was not renewed in time";
                        mover.waits(&mover.source.url, lease, 0).await;
                    }
                    Ok(())
                }
                outcome = mover.go() => {
                    finished.store(outcome.is_ok(), Ordering::SeqCst);
                    outcome
                }
            }
        }
    };
    let elected = daemon::leader::run(client, (LEASE, Some(&election)), latch, stop, work);
    let ended = tokio::select! {
        ended = elected => ended,
        () = lost.for_good() => return Err(MoveError::Lost(left.url)),
    };
    match ended {
        Ok(()) if !finished.load(Ordering::SeqCst) => Err(MoveError::Stopped),
        Ok(()) if matches!(way, Way::Forth { .. }) => retire(&left, &telling).await,
        Ok(()) => Ok(()),
        Err(LeaderError::Work(error)) => Err(error),
        Err(LeaderError::Task(error)) => Err(MoveError::Task(daemon::chain(&error))),
    }
}

/// What both say.
async fn journals(
    source: &Side,
    target: &Side,
    events: &mpsc::Sender<Event>,
) -> Result<(Journal, Journal), MoveError> {
    let mut away = Away::default();
    loop {
        let asked = Instant::now();
        let both = async { Ok((source.journal().await?.journal, target.journal().await?.journal)) };
        match both.await {
            Ok(both) => return Ok(both),
            Err(error) => away.bear(events, error, asked).await?,
        }
    }
}

/// Takes away the pods of a source that has let go: another move there brings them again.
async fn retire(source: &Side, events: &mpsc::Sender<Event>) -> Result<(), MoveError> {
    if !source.is_kubernetes {
        return Ok(());
    }
    let mut away = Away::default();
    let daemons = loop {
        let asked = Instant::now();
        let removed = async {
            match source.journal().await?.journal.state {
                State::Moved => pods::remove(&source.client).await.map_err(MoveError::Leftover),
                _ => Ok(Vec::new()),
            }
        };
        match removed.await {
            Ok(daemons) => break daemons,
            Err(error) => away.bear(events, error, asked).await?,
        }
    };
    if !daemons.is_empty() {
        // Whoever prints may have left.
        events.send(Event::Removed { on: source.url.clone(), daemons }).await.unwrap_or_default();
    }
    Ok(())
}

/// Waits until the daemons that run as pods of the server answer: after the move, when they may act.
///
/// # Errors
///
/// When they are late, or the server does not answer.
pub async fn answer(target: &Client, url: &str, events: &mpsc::Sender<Event>) -> Result<(), MoveError> {
    await_pods((target, url), Until::Ready, events).await
}

async fn await_pods(
    (client, url): (&Client, &str),
    until: Until,
    events: &mpsc::Sender<Event>,
) -> Result<(), MoveError> {
    let tell = |reason: &str, seconds| {
        let waits = Event::Waits { on: url.to_owned(), reason: reason.to_owned(), seconds };
        // One that nobody reads in time is told no more: the next one is newer.
        events.try_send(waits).unwrap_or_default();
    };
    Ok(pods::wait(client, until, tell).await?)
}

/// Refuses what would act on machines against a server that does not own them.
///
/// # Errors
///
/// Where they are owned, or that it cannot be read.
pub(crate) async fn must_own(client: &Client) -> Result<(), MoveError> {
    let journals: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let found = journals.get_opt(ownership::NAME).await;
    let found = found.map_err(|source| MoveError::of("the API server", "the journal", source))?;
    ownership::may_act(found.as_ref()).map_err(MoveError::NotOwner)
}

/// A channel of a size that fits.
#[must_use]
pub fn channel() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(EVENTS)
}

#[derive(Clone)]
struct Mover {
    source: Side,
    target: Side,
    events: mpsc::Sender<Event>,
    way: Way,
    /// How the daemons run on the target; without it, somebody else sees to that.
    pods: Option<Pods>,
    /// Whether this run has gone on with a move: when there is none any more, somebody has given it up, or finished it and moved back.
    is_begun: Arc<AtomicBool>,
    /// Whether a server was away meanwhile.
    was_away: Arc<AtomicBool>,
}

impl Mover {
    async fn tell(&self, event: Event) {
        // Whoever prints may have left; the move goes on.
        self.events.send(event).await.unwrap_or_default();
    }

    async fn waits(&self, on: &str, reason: &str, seconds: u64) {
        self.tell(Event::Waits { on: on.to_owned(), reason: reason.to_owned(), seconds }).await;
    }

    async fn go(&self) -> Result<(), MoveError> {
        match self.way {
            Way::Forth { force } => self.forth(force).await,
            Way::Back => self.back().await,
        }
    }

    /// Step after step. A server that is away for a moment is waited for.
    async fn forth(&self, force: bool) -> Result<(), MoveError> {
        // The move whose objects this run has copied and compared: one that is begun anew meanwhile is another.
        let mut copied: Option<Move> = None;
        let mut away = Away::default();
        loop {
            let asked = Instant::now();
            match self.step(force, &mut copied).await {
                Ok(true) => return Ok(()),
                Ok(false) => away = Away::default(),
                Err(error) => {
                    away.bear(&self.events, error, asked).await?;
                    self.was_away.store(true, Ordering::SeqCst);
                }
            }
        }
    }

    /// Does what comes next. Whether nothing did.
    async fn step(&self, force: bool, copied: &mut Option<Move>) -> Result<bool, MoveError> {
        let ids = Ids { source: &self.source.id, target: &self.target.id };
        let (source, target) = (self.source.journal().await?, self.target.journal().await?);
        let is_copied = copied.is_some() && *copied == source.journal.of;
        let step = decide::next(&source.journal, &target.journal, ids, is_copied)?;
        if step == Step::Done {
            return Ok(true);
        }
        if step != Step::Receive {
            self.is_begun.store(true, Ordering::SeqCst);
        } else if self.is_begun.load(Ordering::SeqCst) {
            return Err(MoveError::Overtaken);
        }
        self.tell(Event::Begins { step }).await;
        let of = |of: &Journal, peer: &Side| Move {
            id: of.of.as_ref().map(|of| of.id.clone()).unwrap_or_default(),
            peer: Peer { id: peer.id.clone(), url: peer.url.clone() },
        };
        let done = match step {
            Step::Receive => {
                self.has_room(&target.journal).await?;
                self.may_leave(force).await?;
                self.target.prepare().await?;
                let id = uuid::Uuid::new_v4().to_string();
                let of = Move { id, ..of(&target.journal, &self.source) };
                self.target.write(&target, &Journal { state: State::Receiving, of: Some(of) }).await?
            }
            Step::Leave => {
                // What was begun earlier may have waited while the source went on.
                self.may_leave(force).await?;
                // The source goes on until those who follow have started, and wait for leave to act.
                self.start_pods().await?;
                let of = of(&target.journal, &self.target);
                self.source.write(&source, &Journal { state: State::Leaving, of: Some(of) }).await?
            }
            Step::Clear => self.drain(&self.target, &target.journal).await.map(|()| true)?,
            Step::Drain => self.drain(&self.source, &source.journal).await.map(|()| true)?,
            Step::Copy => {
                let proof = self.copied(&target.journal).await?;
                self.tell(Event::Verified { counts: proof.counts, digest: proof.digest }).await;
                copied.clone_from(&source.journal.of);
                true
            }
            Step::Own => self.target.write(&target, &target.journal.in_state(State::Owner)).await?,
            Step::LetGo => self.source.write(&source, &source.journal.in_state(State::Moved)).await?,
            Step::Done => true,
        };
        if done {
            self.tell(Event::Done { step }).await;
        }
        Ok(false)
    }

    /// Copies. What was not taken is sent again: whether it was refused, or nobody was there to take it, is not said.
    async fn copied(&self, awaits: &Journal) -> Result<Proof, MoveError> {
        let mut sendings = 0;
        loop {
            sendings += 1;
            let (from, to) = (&self.source.client, &self.target.client);
            match copy(from, to, &self.events, Some((&self.target, awaits))).await {
                Err(MoveError::Put(_)) if sendings < SENDINGS => {
                    tokio::time::sleep(RETRY).await;
                    self.target.journal().await?;
                }
                other => return other,
            }
        }
    }

    async fn start_pods(&self) -> Result<(), MoveError> {
        let Some(pods) = &self.pods else { return Ok(()) };
        setup::apply_pods(&self.target.client, pods).await?;
        await_pods((&self.target.client, &self.target.url), Until::Started, &self.events).await
    }

    async fn back(&self) -> Result<(), MoveError> {
        let mut away = Away::default();
        loop {
            let asked = Instant::now();
            match self.step_back().await {
                Ok(true) => return Ok(()),
                Ok(false) => away = Away::default(),
                Err(error) => away.bear(&self.events, error, asked).await?,
            }
        }
    }

    /// Does what comes next in giving a move up. Whether nothing did.
    async fn step_back(&self) -> Result<bool, MoveError> {
        let ids = Ids { source: &self.source.id, target: &self.target.id };
        let (source, target) = (self.source.journal().await?, self.target.journal().await?);
        let step = decide::back(&source.journal, &target.journal, ids)?;
        let done = match step {
            Back::Refrain => self.target.write(&target, &target.journal.in_state(State::Moved)).await?,
            Back::Keep => self.source.write(&source, &source.journal.in_state(State::Owner)).await?,
            Back::Done => return Ok(true),
        };
        if done {
            self.tell(Event::GaveUp { step }).await;
        }
        Ok(false)
    }

    /// Whether a target that never took part in a move has no machines of its own.
    async fn has_room(&self, target: &Journal) -> Result<(), MoveError> {
        if target.of.is_none() {
            let there = Cargo::read(&self.target.client).await?;
            let own: Vec<&Item> = there.items.iter().filter(|item| item.is_of_our_kinds()).collect();
            if let Some(first) = own.first() {
                return Err(MoveError::NotEmpty { count: own.len(), first: first.to_string() });
            }
        }
        Ok(())
    }

    /// Looks at what would make the move go wrong before the source is told.
    async fn may_leave(&self, force: bool) -> Result<(), MoveError> {
        let clusters: Api<Cluster> = Api::all(self.source.client.clone());
        let clusters = clusters.list(&ListParams::default()).await;
        let clusters = clusters.map_err(|source| MoveError::of(&self.source.url, "clusters", source))?;
        let unfinished = clusters.items.iter().find(|cluster| {
            let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice());
            let is_ready =
                conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True");
            !is_ready || cluster.metadata.deletion_timestamp.is_some()
        });
        match unfinished {
            Some(cluster) if !force => Err(MoveError::Unfinished(cluster.name_any())),
            _ => refuse_orphans(&Cargo::read(&self.source.client).await?),
        }
    }

    /// Waits until the daemons of a side have stopped, which was told that they must.
    async fn drain(&self, side: &Side, known: &Journal) -> Result<(), MoveError> {
        let since = Instant::now();
        let mut told = None;
        let mut leaders = Leaders::of(&side.client);
        let away = self.was_away.load(Ordering::SeqCst);
        while let Some(reason) = side.draining(&mut leaders, (since, away)).await? {
            let seconds = since.elapsed().as_secs();
            if since.elapsed() > DRAIN {
                return Err(MoveError::StillActs { on: format!("{}: {reason}", side.url) });
            }
            if told.as_ref() != Some(&reason) {
                self.waits(&side.url, &reason, seconds).await;
                told = Some(reason);
            }
            tokio::time::sleep(side::LOOK).await;
        }
        side.speak_for_daemons(known).await
    }
}

fn refuse_orphans(cargo: &Cargo) -> Result<(), MoveError> {
    let mut orphans = cargo.orphans();
    orphans.truncate(NAMED);
    if orphans.is_empty() { Ok(()) } else { Err(MoveError::Orphans(orphans)) }
}

/// Makes everything of ours on one server be on the other as it is, and proves it. Nobody may act on either meanwhile; what is written to the source all
/// the same is copied again. May be repeated. With a side and its journal it sends nothing more once that side says something else: whoever was held up
/// in the middle, and overtaken, does not put back what has gone on there since.
///
/// # Errors
///
/// See [`MoveError`].
pub async fn copy(
    source: &Client,
    target: &Client,
    events: &mpsc::Sender<Event>,
    awaits: Option<(&Side, &Journal)>,
) -> Result<Proof, MoveError> {
    let server = Server::new(target, Differing::Mirrored);
    let mut last = Difference::default();
    for _ in 0..ROUNDS {
        let cargo = Cargo::read(source).await?;
        refuse_orphans(&cargo)?;
        let there = Cargo::read(target).await?;
        cargo.note_uids(&there, &server);
        last = match cargo.compare(&there, &server) {
            Ok(proof) => return Ok(proof),
            Err(difference) => difference,
        };
        still(awaits).await?;
        make_namespaces(target, &cargo).await?;
        let of = last.differing.len();
        let mut objects = 0;
        let levels = levels(std::mem::take(&mut last.differing));
        for piece in levels.iter().flat_map(|level| level.chunks(PIECE)) {
            still(awaits).await?;
            server.all(piece, false).await.map_err(MoveError::Put)?;
            objects += piece.len();
            // Whoever prints may have left; it is copied all the same.
            events.send(Event::Copied { objects, of }).await.unwrap_or_default();
        }
        last.differing.extend(levels.into_iter().flatten());
        for piece in last.extra.chunks(PIECE) {
            still(awaits).await?;
            for item in piece {
                remove(target, item).await?;
            }
        }
    }
    let mut names: Vec<String> = last.differing.iter().chain(&last.extra).map(Item::to_string).collect();
    names.truncate(NAMED);
    Err(MoveError::Differs(names))
}

/// Fails when a side does not say what it is known to have said.
async fn still(awaits: Option<(&Side, &Journal)>) -> Result<(), MoveError> {
    let Some((side, known)) = awaits else { return Ok(()) };
    if side.journal().await?.journal == *known { Ok(()) } else { Err(MoveError::Overtaken) }
}

async fn make_namespaces(target: &Client, cargo: &Cargo) -> Result<(), MoveError> {
    let namespaces: Api<Namespace> = Api::all(target.clone());
    for name in cargo.namespaces() {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let params = PatchParams::apply("tink-move");
        let made = namespaces.patch(name, &params, &Patch::Apply(object)).await;
        made.map_err(|source| MoveError::of("the target", &format!("the namespace {name}"), source))?;
    }
    Ok(())
}

/// Takes an object away that the other side has no more, whatever would keep it: that was asked there already.
async fn remove(target: &Client, item: &Item) -> Result<(), MoveError> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(target.clone(), &item.namespace, &item.collection.resource);
    let failed = |source| MoveError::of("the target", &item.to_string(), source);
    let freed = json!({"metadata": {"finalizers": null}});
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    for outcome in [
        api.patch(&item.name, &PatchParams::default(), &Patch::Merge(freed)).await.map(drop),
        api.delete(&item.name, &params).await.map(drop),
    ] {
        match outcome {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}
