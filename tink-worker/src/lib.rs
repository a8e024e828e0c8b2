// SPDX-License-Identifier: Apache-2.0
//! The agent: runs on the machine that is being provisioned, asks the server for actions, carries them out itself and
//! reports what became of them.
//!
//! It speaks `proto.WorkflowService`, so it works against any server of that contract, and reports progress and log
//! lines to `tinkerbell.agent.v1.AgentService` where the server has that. The actions are part of it: nothing is
//! pulled and nothing runs in a container.
//!
//! ```text
//!                +----------------------- agent (one task owns the loop) ---------------------+
//!  GetAction --> | recognise --> report RUNNING --> run --> journal --> report until answered | --> power action
//!                +----------------------------------------------------------------------------+
//!                       progress, log lines --> report stream (own task, may be absent)
//! ```
//!
//! Rules that no change may break:
//! * An action that has ended is never run again in the same boot: its result is in the journal before it is reported.
//! * The server's absence does not disturb a running action.
//! * The machine is rebooted, and its clock set, only when its kernel was booted for this agent or the operator says so.
//! * No environment of an action and no token gets into a log line, an error or a status.

pub mod config;

mod action;
mod actions;
mod agent;
mod backoff;
mod clock;
mod cmdline;
mod download;
mod inventory;
mod journal;
mod power;
mod report;
mod rpc;
mod tls;

pub use agent::{Error, run, stop_on_signal};
