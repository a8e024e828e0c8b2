// SPDX-License-Identifier: Apache-2.0

//! The Machine controller: asks the BMC for its power state when it is due and writes what it learnt.

use std::sync::Arc;
use std::time::Instant;

use api::bmc::v1alpha1::{CONTACTABLE, Machine};
use api::events::Reason;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::bmc::Fault;
use crate::context::{Context, MachineMemo, PassError};
use crate::machine;

/// One pass. Its own status writes wake it too, which is why a Machine that is not due is left alone.
pub(super) async fn reconcile(cached: Arc<Machine>, context: Arc<Context>) -> Result<Action, PassError> {
    let uid = cached.uid().unwrap_or_default();
    let Some((_, current)) = context.current(cached.as_ref()).await? else {
        context.forget_machine(&uid);
        return Ok(Action::await_change());
    };
    if current.metadata.deletion_timestamp.is_some() {
        context.forget_machine(&uid);
        return Ok(Action::await_change());
    }
    let namespace = current.namespace().ok_or(PassError::Incomplete("namespace"))?;
    let (target, secret_version) = context.target(&current.spec.connection, &namespace).await?;
    let fingerprint = (current.metadata.generation, secret_version);
    let known = context.machine_memo(&uid).filter(|memo| memo.fingerprint == fingerprint);
    if let Some(wait) = known.as_ref().and_then(|memo| memo.due.checked_duration_since(Instant::now())) {
        return Ok(Action::requeue(wait.min(machine::look(context.machine_count()))));
    }
    let contact = match &target {
        Ok(target) => context.power(target).await,
        Err(fault) => Err(fault.clone()),
    };
    if context.shutdown.is_cancelled() {
        return Ok(Action::await_change());
    }
    let failures = contact.as_ref().err().map_or(0, |_| known.map_or(0, |memo| memo.failures) + 1);
    tell_change(&context, &current, contact.as_ref().err());
    context.note_contact(&current, contact.as_ref().copied()).await?;
    let kind = contact.as_ref().err().map(|fault| fault.kind);
    let pause = machine::pause(kind, failures, context.config.power_check_interval);
    context.remember_machine(&uid, MachineMemo { fingerprint, due: Instant::now() + pause, failures });
    Ok(Action::requeue(pause.min(machine::look(context.machine_count()))))
}

/// Logs and records that a BMC can no longer be talked to, or again: once, not at every look.
fn tell_change(context: &Context, machine: &Machine, fault: Option<&Fault>) {
    let old = machine.status.as_ref().and_then(|status| status.condition(CONTACTABLE));
    let name = machine.name_any();
    match fault {
        Some(fault) if old.and_then(|old| old.message.as_deref()) != Some(fault.message.as_str()) => {
            tracing::warn!(machine = name, error = fault.message, "BMC cannot be talked to");
            let message = format!("BMC {name}: {}", fault.message);
            context.tell(&machine.namespace().unwrap_or_default(), &name, Reason::PowerFailed, &message);
        }
        None if old.is_none_or(|old| old.status != "True") => tracing::info!(machine = name, "BMC answers"),
        _ => {}
    }
}
