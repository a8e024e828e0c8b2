// SPDX-License-Identifier: Apache-2.0
//! Telling about machines: Events on the Hardware of a Workflow.
//!
//! Called by the controller and the gRPC endpoint after a status was written, never before, so that an Event never
//! tells of something that was not kept. A Workflow without Hardware has nothing to hang an Event on.

use api::events::Reason;
use api::v1alpha1::Workflow;
use daemon::events::{Recorder, hardware_reference};
use kube::ResourceExt;

use crate::workflow::{Note, hardware_name};

/// Where Events go.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl Events {
    pub(crate) const fn new(recorder: Recorder) -> Self {
        Self(recorder)
    }

    /// Writes the notes of one status write.
    pub(crate) fn tell(&self, workflow: &Workflow, notes: &[Note]) {
        let Some(hardware) = hardware_name(workflow) else { return };
        let namespace = workflow.namespace().unwrap_or_default();
        let reference = hardware_reference(&namespace, hardware, None);
        let boot = workflow.status.as_ref().and_then(|s| s.agent_token.as_ref()).map(|token| token.boot);
        for note in notes {
            let reason = note.reason;
            let phase = match &note.action_id {
                Some(id) => reason.action_phase(id),
                None => reason.phase().to_owned(),
            };
            let message = format!("Workflow {}: {}", workflow.name_any(), note.message);
            self.0.record(&reference, reason.as_str(), &phase, boot, message, reason.is_warning());
        }
    }

    /// Says that the agent of a Workflow's machine called.
    pub(crate) fn connected(&self, workflow: &Workflow, message: String) {
        self.tell(workflow, &[Note { reason: Reason::AgentConnected, action_id: None, message }]);
    }
}
