// SPDX-License-Identifier: Apache-2.0
//! Our stream of reports: hello, progress, log lines.
//!
//! One task per stream owns what it needs. Nothing here may slow an agent down or lose it work: what cannot be kept
//! is dropped with a log line. Progress reaches the Workflow's status at most once a second, the newest first; log
//! lines go to this daemon's log, bounded in length and number.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use api::v1alpha1::{AgentFirstCall, Workflow};
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use proto::agent::v1::agent_event::Event;
use proto::agent::v1::agent_service_server::AgentService;
use proto::agent::v1::{AgentEvent, Hello, LogLine, Progress, ReportResponse};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Endpoint, agent_id, denied_status, pause};

/// Shortest time between two writes of progress.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Log lines per second and stream; more are counted and dropped.
const LOG_LINES: u32 = 100;

/// Longest log message that is kept, in bytes.
const LOG_BYTES: usize = 4096;

/// Longest reason for a standstill that is kept, in bytes.
const WAITING_BYTES: usize = 512;

/// Workflows that one stream may report on; an agent has one at a time.
const WORKFLOWS: usize = 64;

/// Two hellos whose kernels started within this time are of one boot.
const SAME_BOOT: f64 = 30.0;

#[tonic::async_trait]
impl AgentService for Endpoint {
    async fn report(
        &self,
        request: Request<Streaming<AgentEvent>>,
    ) -> Result<Response<ReportResponse>, Status> {
        let caller = Caller::of(&request);
        let stream = Reports {
            endpoint: self.clone(),
            caller,
            admitted: BTreeSet::new(),
            pending: None,
            logs: LogBudget::new(),
        };
        stream.run(request.into_inner()).await.map(|()| Response::new(ReportResponse {}))
    }
}

/// One stream.
struct Reports {
    endpoint: Endpoint,
    caller: Caller,
    /// Workflows (`namespace/name`) and agents that the token was found good for.
    admitted: BTreeSet<(String, String)>,
    /// The newest progress that is not written yet, with its agent.
    pending: Option<(String, Progress)>,
    logs: LogBudget,
}

impl Reports {
    async fn run(
        mut self,
        events: impl Stream<Item = Result<AgentEvent, Status>> + Send,
    ) -> Result<(), Status> {
        let mut events = pin!(events);
        let mut next_write = Instant::now();
        let shutdown = self.endpoint.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.flush().await?;
                    return Err(Status::unavailable("the server is stopping"));
                }
                () = tokio::time::sleep_until(next_write), if self.pending.is_some() => {
                    next_write = Instant::now() + PROGRESS_PERIOD;
                    self.flush().await?;
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event).await?,
                    // A stream that broke is an agent that lost its network; it comes back.
                    Some(Err(_)) | None => return self.flush().await,
                }
            }
        }
    }

    async fn take(&mut self, event: AgentEvent) -> Result<(), Status> {
        let agent = agent_id(&event.agent_id)?;
        let agent = agent.as_str();
        match event.event {
            Some(Event::Hello(hello)) => self.hello(agent, &hello).await?,
            Some(Event::Progress(progress)) => self.pending = Some((agent.to_owned(), progress)),
            Some(Event::Log(line)) => self.logs.write(agent, &line),
            None => {}
        }
        Ok(())
    }

    /// Remembers the first call of a boot, and says so.
    async fn hello(&mut self, agent: &str, hello: &Hello) -> Result<(), Status> {
        if self.caller.token.is_none() && !hello.token.is_empty() {
            self.caller.token = Some(hello.token.clone());
        }
        let uptime = if hello.uptime_seconds.is_finite() { hello.uptime_seconds.max(0.0) } else { 0.0 };
        let peer = self.caller.peer.map(|peer| peer.ip().to_canonical().to_string());
        tracing::info!(agent, peer, version = hello.version, uptime, "agent connected");
        let chosen = match self.endpoint.choose(agent, &self.caller).await {
            Ok(chosen) => chosen,
            // There is nothing to remember it in; the agent may wait for a Workflow.
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
            Err(status) => return Err(status),
        };
        if !crate::workflow::is_active(&chosen) {
            return Ok(());
        }
        let namespace = chosen.namespace().unwrap_or_default();
        for attempt in 1.. {
            let workflow = self.endpoint.read(&namespace, &chosen.name_any()).await?;
            let hardware = self.endpoint.hardware(&workflow).await?;
            let now = Timestamp::now();
            let first_use = self
                .endpoint
                .guard
                .admit(self.caller.bearer(), &workflow, hardware.as_ref(), agent, now)
                .map_err(|denied| denied_status(&denied))?;
            let mut status = workflow.status.clone().unwrap_or_default();
            let known = status.agent_first_call.as_ref().is_some_and(|call| same_boot(call, uptime, now));
            if !known {
                status.agent_first_call = Some(AgentFirstCall {
                    time: Some(Time(now)),
                    uptime_seconds: Some(uptime),
                    peer: peer.clone(),
                    version: Some(clean(&hello.version, 100)).filter(|version| !version.is_empty()),
                });
            }
            if let Some(first_use) = first_use {
                status.agent_token = Some(first_use);
            }
            if workflow.status.as_ref() != Some(&status) {
                if !self.endpoint.write(&workflow, &status, &[]).await? {
                    pause(attempt).await?;
                    continue;
                }
                let workflow = Workflow { status: Some(status), ..workflow.clone() };
                let message = format!("the agent called {uptime:.1} s after its kernel started");
                if !known {
                    self.endpoint.events.connected(&workflow, message);
                }
            }
            self.endpoint.annotate(&workflow, hardware.as_ref(), hello.attributes.as_ref()).await;
            return Ok(());
        }
        Ok(())
    }

    /// Writes the newest progress.
    async fn flush(&mut self) -> Result<(), Status> {
        let Some((agent, progress)) = self.pending.take() else { return Ok(()) };
        let (namespace, name) = self.endpoint.workflow_id(&progress.workflow_id)?;
        let reference = ObjectRef::<Workflow>::new(&name).within(&namespace);
        let Some(workflow) = self.endpoint.workflows.get(&reference) else { return Ok(()) };
        if !runs(&workflow, &agent, &progress.action_id) {
            return Ok(());
        }
        self.admit(&agent, &progress.workflow_id, &workflow).await?;
        let patch = json!({ "status": { "progress": {
            "actionID": progress.action_id,
            "bytesRead": progress.bytes_read,
            "bytesWritten": progress.bytes_written,
            "bytesZero": progress.bytes_zero,
            "bytesTotal": (progress.total_bytes > 0).then_some(progress.total_bytes),
            "updated": Time(Timestamp::now()),
            "waiting": (!progress.waiting.is_empty()).then(|| clean(&progress.waiting, WAITING_BYTES)),
        }}});
        let api: Api<Workflow> = Api::namespaced(self.endpoint.client.clone(), &namespace);
        // No resourceVersion: nobody else writes this field, and what is written next is newer.
        if let Err(error) = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            tracing::debug!(workflow = name, error = %error, "progress was not written");
        }
        Ok(())
    }

    /// Checks the token for a Workflow, once per stream.
    async fn admit(&mut self, agent: &str, id: &str, workflow: &Workflow) -> Result<(), Status> {
        let key = (id.to_owned(), agent.to_owned());
        if self.admitted.contains(&key) {
            return Ok(());
        }
        if self.admitted.len() >= WORKFLOWS {
            return Err(Status::resource_exhausted("too many workflows in one stream"));
        }
        let hardware = self.endpoint.hardware(workflow).await?;
        self.endpoint
            .guard
            .admit(self.caller.bearer(), workflow, hardware.as_ref(), agent, Timestamp::now())
            .map_err(|denied| denied_status(&denied))?;
        self.admitted.insert(key);
        Ok(())
    }
}

/// Whether the action belongs to the agent and is the one that is worked on.
fn runs(workflow: &Workflow, agent: &str, action: &str) -> bool {
    let status = workflow.status.as_ref();
    status
        .and_then(|status| status.action(action))
        .is_some_and(|(task, action)| task.agent_id == agent && !action.state.is_final())
        && crate::workflow::is_active(workflow)
}

/// Whether a hello is of the boot that is remembered already: the kernels started at the same moment.
fn same_boot(known: &AgentFirstCall, uptime: f64, now: Timestamp) -> bool {
    let (Some(time), Some(then)) = (&known.time, known.uptime_seconds) else { return false };
    let passed = now.duration_since(time.0).as_secs_f64();
    (passed - (uptime - then)).abs() < SAME_BOOT
}

/// Without control characters and cut to `most` bytes at a character.
fn clean(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let text = text.get(..end).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Log lines of one stream in the running second.
struct LogBudget {
    second: Instant,
    written: u32,
    dropped: u32,
}

impl LogBudget {
    fn new() -> Self {
        Self { second: Instant::now(), written: 0, dropped: 0 }
    }

    fn write(&mut self, agent: &str, line: &LogLine) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.dropped > 0 {
                tracing::warn!(agent, lines = self.dropped, "agent log lines were dropped");
            }
            *self = Self::new();
        }
        if self.written >= LOG_LINES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.written += 1;
        let (level, message) = (clean(&line.level, 16), clean(&line.message, LOG_BYTES));
        let action = clean(&line.action_id, 64);
        tracing::info!(agent, action, level, text = message, "agent log");
    }
}
