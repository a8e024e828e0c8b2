// SPDX-License-Identifier: Apache-2.0
//! Leader election: of several replicas of a daemon one runs the controllers.
//!
//! Owns one Lease (`coordination.k8s.io/v1`), with the fields and the rules of client-go's `leaderelection`, so that programs in Go
//! may stand for election in the same one. `elector` decides and has no clock; this is the rim: requests, pauses, and the work
//! of a term, which is started when the Lease is ours and has ended before another may take it.
//!
//! ```text
//! candidate --Lease taken--> leader --not renewed for RENEW, or shutdown--> work stops (GRACE, then it is dropped) --> candidate
//! ```
//!
//! What serves requests runs in every replica and does not pass here. A daemon that needs a second Lease calls [`run`] again.

mod elector;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::health::Latch;
use elector::{Elector, Plan, Record, Timing};

/// client-go's defaults, which every controller in Go uses.
const TIMING: Timing =
    Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) };
/// Time that the work has to end after the Lease was not renewed; with it the work is over before the Lease is.
const GRACE: Duration = Duration::from_secs(4);
/// Longest wait for an answer of the API; shorter than what is left of a term when one answer stays away.
const ANSWER: Duration = Duration::from_secs(5);
/// A candidate's pauses are longer by up to this part, so that candidates do not come all at once.
const JITTER: f64 = 1.2;

/// How a daemon stands for election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Who this is, in the Lease; host name and a random part without. Two processes must never have the same; one that is known
    /// to be alone may keep its name over restarts, and then goes on at once.
    pub identity: Option<String>,
}

impl Election {
    /// From the settings `enable-leader-election` and `leader-election-namespace` of a daemon's table; nothing where it is off.
    pub fn from_settings(settings: &mut Settings) -> Option<Self> {
        let namespace = settings.text("leader-election-namespace");
        settings.bool("enable-leader-election").then_some(Self { namespace, identity: None })
    }
}

/// Why leading ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError<E: std::error::Error> {
    /// The work failed.
    #[error(transparent)]
    Work(E),
    /// The work panicked.
    #[error("the work of the leader failed")]
    Task(#[from] JoinError),
}

/// Runs `work` whenever this process leads, until `shutdown`; the work's token ends it. Without an election it leads at once and
/// always. `latch` is set when it is known who leads, and the work was started if it is us: what the work itself is waiting for
/// are latches that it makes before its first await.
///
/// # Errors
/// When the work ends by itself.
pub async fn run<W, F, E>(
    client: Client,
    (lease, election): (&'static str, Option<&Election>),
    latch: Latch,
    shutdown: CancellationToken,
    mut work: W,
) -> Result<(), LeaderError<E>>
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let Some(election) = election else {
        let running = work(shutdown);
        latch.set();
        return running.await.map_err(LeaderError::Work);
    };
    let identity = election.identity.clone().unwrap_or_else(identity);
    let mut race = Race::new(client, lease, election, identity);
    let mut term: Option<Term<E>> = None;
    loop {
        match race.attempt(&mut term).await {
            Attempt::Ended(outcome) => {
                race.release().await;
                return outcome;
            }
            Attempt::Done => latch.set(),
            Attempt::Failed => {}
        }
        match (&term, race.leads()) {
            (None, true) if !shutdown.is_cancelled() => {
                tracing::info!(lease, identity = race.elector.identity(), "leading");
                let stop = shutdown.child_token();
                let task = tokio::spawn(work(stop.clone()));
                term = Some(Term { stop, task });
                latch.set();
            }
            (Some(_), false) => {
                tracing::warn!(lease, "the Lease was not renewed in time; the work is stopped");
                if let Some(term) = term.take() {
                    term.end().await?;
                }
            }
            _ => {}
        }
        if shutdown.is_cancelled() && term.is_none() {
            race.release().await;
            return Ok(());
        }
        if let Some(outcome) = race.pause(&mut term, &shutdown).await {
            race.release().await;
            return outcome;
        }
    }
}

/// The work of one term.
struct Term<E> {
    stop: CancellationToken,
    task: JoinHandle<Result<(), E>>,
}

/// Whoever drops the race ends the work with it.
impl<E> Drop for Term<E> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

impl<E: std::error::Error> Term<E> {
    /// Stops the work, gently for [`GRACE`].
    async fn end(mut self) -> Result<(), LeaderError<E>> {
        self.stop.cancel();
        match tokio::time::timeout(GRACE, &mut self.task).await {
            Ok(ended) => ended?.map_err(LeaderError::Work),
            Err(_) => {
                self.task.abort();
                match (&mut self.task).await {
                    Err(error) if !error.is_cancelled() => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The end of the work, if there is any; else never.
async fn ended<E: std::error::Error>(term: &mut Option<Term<E>>) -> Result<(), LeaderError<E>> {
    match term {
        Some(term) => (&mut term.task).await?.map_err(LeaderError::Work),
        None => std::future::pending().await,
    }
}

enum Attempt<E: std::error::Error> {
    /// The API answered.
    Done,
    /// It did not, or the term ran out meanwhile.
    Failed,
    /// The work ended by itself.
    Ended(Result<(), LeaderError<E>>),
}

/// One candidate and its view of the Lease.
struct Race {
    api: Api<Lease>,
    name: &'static str,
    elector: Elector,
    /// The Lease as it was read or written last.
    known: Option<Lease>,
    origin: Instant,
    /// Whether the last request failed: told once.
    failing: bool,
}

impl Race {
    fn new(client: Client, name: &'static str, election: &Election, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, &election.namespace),
            name,
            elector: Elector::new(identity, TIMING),
            known: None,
            origin: Instant::now(),
            failing: false,
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn leads(&self) -> bool {
        self.elector.leads(self.now())
    }

    /// Waits until what we hold is not ours any more; never when we do not hold it.
    async fn expiry(origin: Instant, until: Option<Duration>) {
        match until {
            Some(until) => tokio::time::sleep_until(origin + until).await,
            None => std::future::pending().await,
        }
    }

    /// One try to take or renew the Lease.
    async fn attempt<E: std::error::Error>(&mut self, term: &mut Option<Term<E>>) -> Attempt<E> {
        let expiry = Self::expiry(self.origin, term.as_ref().and_then(|_| self.elector.leads_until()));
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(ANSWER, self.step()) => outcome,
            () = expiry => return Attempt::Failed,
            outcome = ended(term) => return Attempt::Ended(outcome),
        };
        let problem = match outcome {
            Ok(Ok(())) => {
                self.failing = false;
                return Attempt::Done;
            }
            Ok(Err(error)) => crate::chain(&error),
            Err(_) => "the API does not answer".to_owned(),
        };
        self.known = None;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                lease = self.name,
                error = problem,
                "the Lease cannot be read or written; trying again"
            );
        }
        Attempt::Failed
    }

    async fn step(&mut self) -> Result<(), kube::Error> {
        // A leader knows what it wrote last; a look is needed only when that is not what is there.
        if !(self.leads() && self.known.is_some()) {
            self.known = self.api.get_opt(self.name).await?;
            let record = self.known.as_ref().map(record);
            self.elector.observe(record, self.now());
        }
        let sent = self.now();
        match self.elector.plan(sent, Timestamp::now()) {
            Plan::Wait => Ok(()),
            Plan::Write(wanted) => self.write(wanted, sent).await,
        }
    }

    async fn write(&mut self, wanted: Record, sent: Duration) -> Result<(), kube::Error> {
        let params = PostParams::default();
        let written = match self.known.take() {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() };
                self.api.create(&params, &Lease { metadata, spec: Some(spec(&wanted)) }).await
            }
            Some(mut lease) => {
                lease.spec = Some(spec(&wanted));
                self.api.replace(&lease.name_any(), &params, &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.known = Some(lease);
                self.elector.wrote(wanted, sent);
                Ok(())
            }
            // Somebody else was faster; the next look shows who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease back, so that another need not wait for its end. Whoever cannot be told finds out by waiting.
    async fn release(&mut self) {
        if !self.elector.may_hold() {
            return;
        }
        match tokio::time::timeout(ANSWER, self.give_back()).await {
            Ok(Ok(true)) => tracing::info!(lease = self.name, "the Lease is given back"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::info!(
                    lease = self.name,
                    error = crate::chain(&error),
                    "the Lease could not be given back"
                );
            }
            Err(_) => tracing::info!(lease = self.name, "the Lease could not be given back in time"),
        }
    }

    /// Writes that nobody holds it, if what is there says that we do. It is read again: a renewal may have been under way.
    async fn give_back(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(self.name).await? else { return Ok(false) };
        self.elector.observe(Some(record(&lease)), self.now());
        let Some(wanted) = self.elector.release(Timestamp::now()) else { return Ok(false) };
        lease.spec = Some(spec(&wanted));
        let written = self.api.replace(self.name, &PostParams::default(), &lease).await;
        match written {
            // The server has just got round to a renewal that we do not wait for any more.
            Err(kube::Error::Api(status)) if status.code == 409 => Box::pin(self.give_back()).await,
            other => other.map(|_| true),
        }
    }

    /// Waits until the next try; the outcome of the work when it ended meanwhile.
    async fn pause<E: std::error::Error>(
        &self,
        term: &mut Option<Term<E>>,
        shutdown: &CancellationToken,
    ) -> Option<Result<(), LeaderError<E>>> {
        let spread = if term.is_some() { 1.0 } else { 1.0 + JITTER * fraction() };
        let expiry = Self::expiry(self.origin, term.as_ref().and_then(|_| self.elector.leads_until()));
        tokio::select! {
            outcome = ended(term) => Some(outcome),
            () = tokio::time::sleep(TIMING.retry.mul_f64(spread)) => None,
            () = expiry => None,
            // A leader goes on renewing while its work ends.
            () = shutdown.cancelled(), if !shutdown.is_cancelled() => None,
        }
    }
}

/// A number from 0 to 1 that differs between processes and calls.
fn fraction() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// Host name, process and a random part: who reads the Lease finds the leader.
fn identity() -> String {
    format!("{}_{}_{}", crate::events::hostname(), std::process::id(), uuid::Uuid::new_v4())
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        lease: Duration::from_secs(seconds),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

fn spec(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        lease_duration_seconds: i32::try_from(record.lease.as_secs()).ok(),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests;
