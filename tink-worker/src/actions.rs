// SPDX-License-Identifier: Apache-2.0
//! The built-in actions. The agent loop calls [`run`]; each action is its own module.

mod image2disk;
mod writefile;

use diskimage::Progress;
use tokio_util::sync::CancellationToken;

use crate::action::{Action, Builtin, Invalid};
use crate::config::{Authority, Proxies};
use crate::download::{DownloadError, Standstill};
use crate::power::PowerPlan;
use crate::report::{Level, Reporter};

/// What an action gets from the agent.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) proxies: Proxies,
    pub(crate) authority: Authority,
    pub(crate) reporter: Reporter,
    /// Read by the agent while the action runs.
    pub(crate) progress: Progress,
    /// Why it does not move; read by the agent too.
    pub(crate) standstill: Standstill,
    /// Set when the action's time is over or the agent ends.
    pub(crate) cancel: CancellationToken,
}

/// How an action succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) message: String,
    /// What is to happen once the success was acknowledged.
    pub(crate) then: Option<PowerPlan>,
}

/// Why an action failed; the text goes into the Workflow's status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Image(#[from] diskimage::Error),
    #[error(transparent)]
    WriteFile(#[from] writefile::WriteFileError),
    #[error(
        "refusing to reboot or power off: this machine was not booted for provisioning (start the agent with \
         --power=always to allow it)"
    )]
    NoAuthority,
    #[error("the action's thread failed")]
    Thread,
}

impl Context {
    /// A line for the operator: on the console and to the server.
    pub(crate) fn say(&self, action: &Action, level: Level, message: &str) {
        match level {
            Level::Info => tracing::info!(action = %action.name, message),
            Level::Warn => tracing::warn!(action = %action.name, message),
            Level::Error => tracing::error!(action = %action.name, message),
        }
        self.reporter.log(&action.key.action, level, message);
    }
}

/// Carries out an action that was recognised.
pub(crate) async fn run(builtin: Builtin, action: &Action, context: &Context) -> Result<Done, ActionError> {
    match builtin {
        Builtin::Image2Disk => image2disk::run(action, context).await,
        Builtin::WriteFile => writefile::run(action, context).await,
        Builtin::Power(_) if context.authority != Authority::Machine => Err(ActionError::NoAuthority),
        // The change itself follows when the server has acknowledged this success.
        Builtin::Power(plan) => {
            Ok(Done { message: "action completed; the machine follows".to_owned(), then: Some(plan) })
        }
    }
}
