// SPDX-License-Identifier: Apache-2.0

//! One worker per BMC: it holds at most one session, answers one request at a time, and closes the session when idle.
//!
//! Controllers send requests through [`Pool::request`]; nobody else talks to a BMC. BMCs have few sessions and answer
//! slowly, so a session is kept between the polls of one Task and no two requests ever meet.
//!
//! ```text
//! request ──► queue of the BMC ──► session open? ── no ──► try protocols in order ──► remember the one that worked
//!                                       └────── yes ──► ask, read back, answer ──► idle 20 s: log out ──► idle 2 h: end
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bmc::{
    Bmc, BootReading, BootRequest, Connector, Driver, Fault, FaultKind, MediaReading, Power, Switch,
};
use crate::target::{EndpointKey, Target};
use crate::verify;

/// Requests waiting for one BMC; the next caller waits for room.
const QUEUE: usize = 16;
/// BMCs with a worker; beyond it requests are told to come back. Workers of BMCs that nobody asks for end.
const MAX_WORKERS: usize = 20_000;
/// Idle time after which the session is closed: longer than the pause between two polls, shorter than any BMC's own limit.
const IDLE_SESSION: Duration = Duration::from_secs(20);
/// Idle time after which the worker ends and what it remembers is forgotten; longer than the usual power check interval.
const IDLE_WORKER: Duration = Duration::from_secs(2 * 3600);
/// Longest time for closing a session.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Longest time for one request after the session is open; a BMC may run a task of two minutes for a reset.
const REQUEST_LIMIT: Duration = Duration::from_secs(180);
/// How long a request that is under way at shutdown may still take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the power state.
    Power,
    /// Send a power command.
    Switch(Switch),
    /// Set the boot device and read it back.
    Boot(BootRequest),
    /// Insert (with a URL) or eject virtual media and read it back.
    Media {
        /// Kind of media.
        kind: String,
        /// The image; `None` ejects.
        url: Option<String>,
    },
}

impl Request {
    /// Whether a protocol has this at all.
    fn served_by(&self, driver: Driver) -> bool {
        match (self, driver) {
            (Self::Media { .. }, Driver::Ipmi) => false,
            (Self::Boot(boot), Driver::Redfish) => boot.device != api::bmc::v1alpha1::BootDevice::Safe,
            _ => true,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The protocol that was used.
    pub driver: Driver,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The power state.
    Power(Power),
    /// The command was accepted.
    Switched,
    /// What the BMC shows after it was set; a wrong device has become a fault already.
    Boot(BootReading),
    /// What the BMC shows after it was set.
    Media(MediaReading),
}

struct Call {
    target: Target,
    request: Request,
    reply: oneshot::Sender<Result<Answer, Fault>>,
}

/// The handle; clones share the workers.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Arc<dyn Connector>,
    connect_limit: Duration,
    shutdown: CancellationToken,
    workers: Mutex<HashMap<EndpointKey, mpsc::Sender<Call>>>,
    tracker: TaskTracker,
}

impl Pool {
    /// A pool without workers. `connect_limit` holds for each protocol tried.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, connect_limit: Duration, shutdown: CancellationToken) -> Self {
        let (workers, tracker) = (Mutex::default(), TaskTracker::new());
        Self { shared: Arc::new(Shared { connector, connect_limit, shutdown, workers, tracker }) }
    }

    /// Asks a BMC and waits for the answer.
    ///
    /// # Errors
    /// Whatever the BMC or the way to it answered; [`FaultKind::Busy`] when rufio is stopping.
    pub async fn request(&self, target: &Target, request: Request) -> Result<Answer, Fault> {
        let (reply, answer) = oneshot::channel();
        let mut call = Call { target: target.clone(), request, reply };
        // A worker may end between being found and being sent to; a new one is started then.
        for _ in 0..2 {
            let worker = self.worker(target)?;
            match worker.send(call).await {
                Ok(()) => return answer.await.unwrap_or_else(|_| Err(stopping())),
                Err(mpsc::error::SendError(unsent)) => call = unsent,
            }
        }
        Err(stopping())
    }

    /// Waits until every worker has closed its session and ended; call it after shutdown.
    pub async fn drained(&self) {
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }

    fn worker(&self, target: &Target) -> Result<mpsc::Sender<Call>, Fault> {
        if self.shared.shutdown.is_cancelled() {
            return Err(stopping());
        }
        let mut workers = self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = target.key();
        if let Some(worker) = workers.get(&key).filter(|worker| !worker.is_closed()) {
            return Ok(worker.clone());
        }
        workers.retain(|_, worker| !worker.is_closed());
        if workers.len() >= MAX_WORKERS {
            return Err(Fault::new(FaultKind::Busy, format!("more than {MAX_WORKERS} BMCs are in use")));
        }
        let (sender, calls) = mpsc::channel(QUEUE);
        let worker = Worker {
            connector: Arc::clone(&self.shared.connector),
            connect_limit: self.shared.connect_limit,
            shutdown: self.shared.shutdown.clone(),
            session: None,
            remembered: None,
        };
        self.shared.tracker.spawn(worker.run(calls));
        workers.insert(key, sender.clone());
        Ok(sender)
    }
}

fn stopping() -> Fault {
    Fault::new(FaultKind::Busy, "rufio is stopping")
}

struct Session {
    target: Target,
    bmc: Box<dyn Bmc>,
}

struct Worker {
    connector: Arc<dyn Connector>,
    connect_limit: Duration,
    shutdown: CancellationToken,
    session: Option<Session>,
    /// The protocol that worked last, tried first next time.
    remembered: Option<Driver>,
}

impl Worker {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        loop {
            let idle = if self.session.is_some() { IDLE_SESSION } else { IDLE_WORKER };
            let call = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                call = calls.recv() => call,
                () = sleep(idle) => {
                    if self.session.is_some() {
                        self.close().await;
                        continue;
                    }
                    // Whoever sends now starts a new worker; what is queued already is still answered.
                    calls.close();
                    continue;
                }
            };
            let Some(call) = call else { break };
            let shutdown = self.shutdown.clone();
            let overdue = async {
                shutdown.cancelled().await;
                sleep(SHUTDOWN_LIMIT).await
            };
            let answered = tokio::select! {
                answer = self.answer(&call.target, &call.request) => answer,
                () = overdue => Err(stopping()),
            };
            // A caller that is gone has been told to stop; the next pass reads the state anew.
            if call.reply.send(answered).is_err() {
                tracing::debug!(bmc = %call.target.host, "nobody waits for the answer any more");
            }
        }
        self.close().await;
    }

    async fn answer(&mut self, target: &Target, request: &Request) -> Result<Answer, Fault> {
        let reused = self.session.as_ref().is_some_and(|session| session.target == *target);
        let first = self.attempt(target, request).await;
        match first {
            // A kept session may have died of age; a read costs nothing to repeat, a command is left to the caller.
            Err(fault)
                if reused
                    && (fault.is_transient() || fault.kind == FaultKind::Auth)
                    && *request == Request::Power =>
            {
                self.attempt(target, request).await
            }
            other => other,
        }
    }

    async fn attempt(&mut self, target: &Target, request: &Request) -> Result<Answer, Fault> {
        let driver = self.open(target, request).await?;
        let Some(session) = self.session.as_mut() else { return Err(stopping()) };
        let asked = ask(session.bmc.as_mut(), request);
        let outcome = timeout(REQUEST_LIMIT, asked).await.unwrap_or_else(|_| {
            let message = format!("the BMC did not finish within {} s", REQUEST_LIMIT.as_secs());
            Err(Fault::new(FaultKind::Unreachable, message))
        });
        match outcome {
            Ok(outcome) => Ok(Answer { driver, outcome }),
            Err(fault) => {
                if !matches!(fault.kind, FaultKind::Unsupported | FaultKind::Refused | FaultKind::Config) {
                    self.close().await;
                }
                Err(fault)
            }
        }
    }

    /// Makes sure that there is a session for this target that can serve this request.
    async fn open(&mut self, target: &Target, request: &Request) -> Result<Driver, Fault> {
        if let Some(session) = &self.session {
            let driver = session.bmc.driver();
            if session.target == *target && request.served_by(driver) {
                return Ok(driver);
            }
            self.close().await;
        }
        let mut drivers: Vec<Driver> =
            target.drivers.iter().copied().filter(|driver| request.served_by(*driver)).collect();
        drivers.sort_by_key(|driver| Some(*driver) != self.remembered);
        let mut faults: Vec<Fault> = Vec::new();
        for driver in drivers {
            match self.connector.open(driver, target, self.connect_limit).await {
                Ok(bmc) => {
                    self.remembered = Some(driver);
                    self.session = Some(Session { target: target.clone(), bmc });
                    return Ok(driver);
                }
                Err(fault) => faults.push(fault),
            }
        }
        Err(combined(faults))
    }

    async fn close(&mut self) {
        let Some(session) = self.session.take() else { return };
        if timeout(CLOSE_LIMIT, session.bmc.close()).await.is_err() {
            tracing::debug!(bmc = %session.target.host, "session was not closed in time");
        }
    }
}

/// The most telling kind, and every protocol's sentence.
fn combined(mut faults: Vec<Fault>) -> Fault {
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.kind));
    match faults.first() {
        None => Fault::new(FaultKind::Unsupported, "none of the protocols of this BMC can do this"),
        Some(first) => {
            let kind = first.kind;
            let mut sentences: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
            sentences.dedup();
            Fault::new(kind, sentences.join("; "))
        }
    }
}

async fn ask(bmc: &mut dyn Bmc, request: &Request) -> Result<Outcome, Fault> {
    match request {
        Request::Power => bmc.power().await.map(Outcome::Power),
        Request::Switch(switch) => bmc.switch(*switch).await.map(|()| Outcome::Switched),
        Request::Boot(wanted) => set_boot(bmc, *wanted).await.map(Outcome::Boot),
        Request::Media { kind, url } => set_media(bmc, kind, url.as_deref()).await.map(Outcome::Media),
    }
}

/// Writes, reads back, and writes once more when the BMC shows another device.
async fn set_boot(bmc: &mut dyn Bmc, wanted: BootRequest) -> Result<BootReading, Fault> {
    let mut shown = String::new();
    for _ in 0..2 {
        bmc.set_boot(wanted).await?;
        let read = bmc.boot().await?;
        if read.device == Some(wanted.device) {
            return Ok(read);
        }
        shown = read.shown;
    }
    let message = format!("the BMC accepted boot device {} twice and still shows {shown}", wanted.device);
    Err(Fault::new(FaultKind::Refused, message))
}

/// The same for virtual media.
async fn set_media(bmc: &mut dyn Bmc, kind: &str, url: Option<&str>) -> Result<MediaReading, Fault> {
    let mut shown = String::new();
    for _ in 0..2 {
        bmc.set_media(kind, url).await?;
        let read = bmc.media(kind).await?;
        match verify::media(url, &read) {
            Ok(()) => return Ok(read),
            Err(problem) => shown = problem,
        }
    }
    Err(Fault::new(FaultKind::Refused, format!("the BMC accepted the virtual media twice and still {shown}")))
}
