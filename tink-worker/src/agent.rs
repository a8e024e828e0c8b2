// SPDX-License-Identifier: Apache-2.0
//! The agent's loop: asks, runs, reports. It is the only owner of the journal, and the only place that decides what a
//! server's answer means.
//!
//! ```text
//!            +--> asking --(action)--> announcing --(RUNNING taken)--> running --> reporting --(taken)--+
//!            |      ^  |                   |                                          |                 |
//!            |      +--+ wait, ask again   +-- not taken: wait, ask again             +-- workflow gone |
//!            |                                                                        v                 v
//!            +------------------------------------------------------------------------+--- no power plan
//!                                                                       machine reboots <--- power plan
//! ```

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use diskimage::Progress;
use proto::workflow::action_status_request::StateType;
use proto::workflow::{ActionMessage, ActionRequest, ActionStatusRequest, AgentAttributes};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::action::{Action, Key};
use crate::actions::{self, ActionError, Context, Done};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{Authority, Config, Inventory};
use crate::download::Standstill;
use crate::inventory;
use crate::journal::{Ending, Journal, Outcome};
use crate::power::{self, PowerPlan};
use crate::report::{Level, Reporter, Speaker, Stream};
use crate::rpc::{AddressError, Server};

/// How often progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long an action whose time is over may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A reported message is cut at this many bytes.
const LONGEST_MESSAGE: usize = 2048;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be addressed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The state directory cannot be used.
    #[error("cannot keep a journal in {directory}: {source}")]
    Journal {
        /// The directory.
        directory: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs the agent until `shutdown`, or until the machine goes down under it. A running action is stopped, not waited
/// for: the server hands it out again.
///
/// # Errors
/// Only at start. Afterwards everything is retried or reported.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let clock = Clock::new(config.authority);
    if let Some(seconds) = config.not_before {
        clock.not_before(seconds);
    }
    let server = Server::new(&config, clock)?;
    let journal = Journal::open(&config.state_dir)
        .map_err(|source| Error::Journal { directory: config.state_dir.display().to_string(), source })?;
    let attributes = (config.inventory == Inventory::Sent).then(|| inventory::collect(Path::new("/")));
    let speaker = Speaker {
        agent_id: config.agent_id.clone(),
        token: config.token.as_ref().map(|token| token.reveal().to_owned()).unwrap_or_default(),
        attributes: attributes.clone(),
    };
    let (reporter, stream) = Reporter::start(server.clone(), speaker);
    tracing::info!(agent = %config.agent_id, server = %config.server, "agent started");
    let backoff = Backoff::new(config.longest_backoff);
    let agent = Agent { server, journal, attributes, reporter, backoff, shutdown, refusal: None, config };
    agent.serve(stream).await;
    Ok(())
}

/// A token that SIGTERM and SIGINT cancel. When signals cannot be caught they end the process themselves.
pub fn stop_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    token
}

struct Agent {
    config: Config,
    server: Server,
    journal: Journal,
    attributes: Option<AgentAttributes>,
    reporter: Reporter,
    backoff: Backoff,
    shutdown: CancellationToken,
    /// What was logged last about not getting an action, so that a long wait is logged once.
    refusal: Option<(Code, String)>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    Taken,
    /// The server knows no such action any more.
    Gone,
    /// The agent ends before the server answered.
    Unanswered,
}

impl Agent {
    async fn serve(mut self, stream: Stream) {
        if let Some(plan) = self.unfinished().await {
            return self.power(plan, stream).await;
        }
        let plan = loop {
            if self.shutdown.is_cancelled() {
                break None;
            }
            let action = match self.ask().await {
                Some(action) => action,
                None => {
                    self.pause().await;
                    continue;
                }
            };
            match self.carry_out(&action).await {
                Step::Next => {}
                Step::Pause => self.pause().await,
                Step::Power(plan) => break Some(plan),
            }
        };
        if let Some(plan) = plan {
            self.power(plan, stream).await;
        } else {
            stream.finish().await;
        }
    }

    /// What an earlier process of this boot was about to do when it died. The server may have its report and would not hand
    /// the action out again, so the machine would stay as it is for ever; so the report is repeated, which changes nothing
    /// where it is known, and the rest follows when the server has it.
    async fn unfinished(&self) -> Option<PowerPlan> {
        let (key, outcome) = self.journal.unfinished()?;
        tracing::info!(workflow = %key.workflow, action = %key.action, "an earlier process ended before its power action");
        match self.report(key, "", outcome).await {
            Reported::Taken => outcome.then.filter(|_| self.config.authority == Authority::Machine),
            Reported::Gone | Reported::Unanswered => None,
        }
    }

    /// The action to carry out now, if the server has one and is there.
    async fn ask(&mut self) -> Option<Action> {
        let request = ActionRequest {
            agent_id: Some(self.config.agent_id.clone()),
            agent_attributes: self.attributes.clone(),
        };
        let answer = tokio::select! {
            answer = self.server.get_action(request) => answer,
            () = self.shutdown.cancelled() => return None,
        };
        match answer {
            Ok(response) => match Action::parse(response, &self.config.agent_id) {
                Ok(action) => {
                    self.refusal = None;
                    Some(action)
                }
                Err(error) => {
                    self.note_refusal(&Status::internal(error.to_string()));
                    None
                }
            },
            // The machine's workflow is being prepared, or has ended: nothing to say.
            Err(status) if status.code() == Code::FailedPrecondition => None,
            Err(status) => {
                self.note_refusal(&status);
                None
            }
        }
    }

    /// Logs why there is no action, once per reason.
    fn note_refusal(&mut self, status: &Status) {
        let refusal = (status.code(), status.message().to_owned());
        if self.refusal.as_ref() != Some(&refusal) {
            tracing::info!(code = ?status.code(), reason = status.message(), "no action");
            self.refusal = Some(refusal);
        }
    }

    async fn pause(&mut self) {
        let wait = self.backoff.next();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn carry_out(&mut self, action: &Action) -> Step {
        // A server that hands out what has ended is not to be asked again at once.
        let mut next = Step::Next;
        let outcome = match self.journal.outcome(&action.key).cloned() {
            Some(outcome) => {
                tracing::info!(action = %action.name, "action has already ended; reporting it again");
                next = Step::Pause;
                outcome
            }
            None => {
                if !self.announce(action).await {
                    return Step::Pause;
                }
                let Some(outcome) = self.execute(action).await else {
                    return Step::Pause;
                };
                if let Err(error) = self.journal.record(&action.key, &outcome) {
                    tracing::error!(%error, "journal not written");
                }
                outcome
            }
        };
        match self.report(&action.key, &action.name, &outcome).await {
            Reported::Taken => {
                self.backoff.reset();
                outcome.then.map_or(next, Step::Power)
            }
            Reported::Gone => {
                tracing::warn!(action = %action.name, workflow = %action.key.workflow, "workflow is gone");
                Step::Pause
            }
            Reported::Unanswered => Step::Pause,
        }
    }

    /// Reports RUNNING; false when the server did not take it.
    async fn announce(&self, action: &Action) -> bool {
        let (key, id) = (&action.key, &self.config.agent_id);
        let status = status_of(key, &action.name, id, StateType::Running, "running action");
        match self.server.report_action(status).await {
            Ok(()) => true,
            Err(status) => {
                let reason = status.message();
                tracing::warn!(action = %action.name, code = ?status.code(), reason, "start not taken by the server");
                false
            }
        }
    }

    /// Runs the action to its end; `None` when the agent was told to end first.
    async fn execute(&self, action: &Action) -> Option<Outcome> {
        let context = Context {
            proxies: self.config.proxies.clone(),
            authority: self.config.authority,
            reporter: self.reporter.clone(),
            progress: Progress::default(),
            standstill: Standstill::default(),
            cancel: self.shutdown.child_token(),
        };
        context.say(action, Level::Info, &format!("action `{}` started ({})", action.name, action.image));
        let started = SystemTime::now();
        let clock = Instant::now();
        let result = self.run_within_time(action, &context).await;
        if self.shutdown.is_cancelled() && result.is_err() {
            return None;
        }
        let took = clock.elapsed();
        let (ending, message, then) = match result {
            Ok(Done { message, then }) => (Ending::Success, message, then),
            Err(Failure::Action(error)) => (Ending::Failed, error.to_string(), None),
            Err(Failure::TimedOut) => {
                let at = context.progress.snapshot();
                let limit = action.timeout.unwrap_or_default().as_secs();
                let read =
                    if at.read > 0 { format!(" at byte {} of {}", at.read, at.total) } else { String::new() };
                (Ending::Timeout, format!("timed out after {limit}s{read}"), None)
            }
        };
        let level = if ending == Ending::Success { Level::Info } else { Level::Error };
        context.say(action, level, &format!("action `{}` ended: {message}", action.name));
        Some(Outcome {
            ending,
            message: cut(message),
            started: milliseconds(started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            duration_ms: milliseconds(took),
            then,
        })
    }

    async fn run_within_time(&self, action: &Action, context: &Context) -> Result<Done, Failure> {
        let builtin = action.recognise().map_err(|error| Failure::Action(error.into()))?;
        let running = actions::run(builtin, action, context);
        tokio::pin!(running);
        // No limit: a time that does not come.
        let limit = action.timeout.unwrap_or(Duration::from_secs(60 * 60 * 24 * 365));
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let mut ticks = tokio::time::interval(PROGRESS_EVERY);
        let state = || (context.progress.snapshot(), context.standstill.get());
        let mut last = state();
        loop {
            tokio::select! {
                result = &mut running => {
                    let (at, waiting) = state();
                    self.reporter.progress(&action.key, at, waiting);
                    return result.map_err(Failure::Action);
                }
                () = &mut deadline => break,
                _ = ticks.tick() => {
                    let now = state();
                    // While it waits, again and again: what was sent may have been lost with what it waits for.
                    if now != last || now.1.is_some() {
                        self.reporter.progress(&action.key, now.0, now.1.clone());
                        last = now;
                    }
                }
            }
        }
        context.cancel.cancel();
        if tokio::time::timeout(STOP_PATIENCE, running).await.is_err() {
            tracing::error!(action = %action.name, "action does not stop");
        }
        Err(Failure::TimedOut)
    }

    /// Reports the end of an action until the server has answered.
    async fn report(&self, key: &Key, name: &str, outcome: &Outcome) -> Reported {
        let state = match outcome.ending {
            Ending::Success => StateType::Success,
            Ending::Failed => StateType::Failed,
            Ending::Timeout => StateType::Timeout,
        };
        let took = Duration::from_millis(outcome.duration_ms);
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(outcome.started);
        let status = ActionStatusRequest {
            execution_start: Some(start.into()),
            execution_stop: Some((start + took).into()),
            execution_duration: Some(duration_text(took)),
            ..status_of(key, name, &self.config.agent_id, state, &outcome.message)
        };
        let mut backoff = Backoff::new(self.config.longest_backoff);
        let mut logged = false;
        loop {
            let answer = tokio::select! {
                answer = self.server.report_action(status.clone()) => answer,
                () = self.shutdown.cancelled() => return Reported::Unanswered,
            };
            match answer {
                Ok(()) => return Reported::Taken,
                Err(status) => match status.code() {
                    Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => {
                        return Reported::Gone;
                    }
                    code if !logged => {
                        let reason = status.message();
                        tracing::warn!(action = %key.action, name, ?code, reason, "result will be reported again");
                        logged = true;
                    }
                    _ => {}
                },
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.shutdown.cancelled() => return Reported::Unanswered,
            }
        }
    }

    /// The success was acknowledged: nothing is left to do but this.
    async fn power(self, plan: PowerPlan, stream: Stream) {
        if self.config.authority != Authority::Machine {
            stream.finish().await;
            return;
        }
        self.reporter.log("", Level::Info, format!("{:?} in {}s", plan.change, plan.delay_seconds));
        stream.finish().await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(plan.delay_seconds)) => {}
            () = self.shutdown.cancelled() => {}
        }
        tracing::info!(change = ?plan.change, "machine goes down");
        match tokio::task::spawn_blocking(move || power::perform(plan.change)).await {
            Ok(error) => tracing::error!(%error, "machine does not go down"),
            Err(_) => tracing::error!("machine does not go down"),
        }
    }
}

/// What the loop does after an action.
enum Step {
    Next,
    Pause,
    Power(PowerPlan),
}

enum Failure {
    Action(ActionError),
    TimedOut,
}

fn status_of(key: &Key, name: &str, agent_id: &str, state: StateType, message: &str) -> ActionStatusRequest {
    ActionStatusRequest {
        workflow_id: Some(key.workflow.clone()),
        agent_id: Some(agent_id.to_owned()),
        task_id: Some(key.task.clone()),
        action_id: Some(key.action.clone()),
        action_name: Some(name.to_owned()),
        action_state: Some(state.into()),
        execution_start: None,
        execution_stop: None,
        execution_duration: None,
        message: Some(ActionMessage { message: Some(message.to_owned()) }),
    }
}

fn cut(mut message: String) -> String {
    let mut end = LONGEST_MESSAGE.min(message.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The two most significant units, as agents of the contract write it: `1m5s`, `2h3m`, `5s120ms`.
fn duration_text(duration: Duration) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = milliseconds(duration);
    let mut text = String::new();
    let mut left = 2;
    for (unit, size) in units {
        let count = rest / size;
        rest %= size;
        if left < 2 || count > 0 {
            if count > 0 {
                text.push_str(&format!("{count}{unit}"));
            }
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_most_significant_units() {
        for (ms, text) in [
            (0, "0s"),
            (7, "7ms"),
            (5120, "5s120ms"),
            (12_000, "12s"),
            (65_900, "1m5s"),
            (3_600_000, "1h"),
            (7_385_000, "2h3m"),
            (3_605_000, "1h"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let long = "ä".repeat(LONGEST_MESSAGE);
        let short = cut(format!("x{long}"));
        assert!(short.len() <= LONGEST_MESSAGE && short.starts_with("xä"));
    }
}
