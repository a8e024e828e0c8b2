// SPDX-License-Identifier: Apache-2.0

//! What to do next for a Task: the state machine of power actions. Pure.
//!
//! Called by the Task controller on every pass with what the Task's status says, what this process remembers of it, and
//! the power state just read. Boot device and media need no machine: they are written, read back and done in one pass.
//!
//! ```text
//! on, off, soft:  wanted state? ─ yes ─► done      no ─► send ─► wait (settle) ─► send again ─► wait ─► failed
//! cycle, reset:   off? ─► send on                  on ─► send ─► on again? ─► done
//! ```
//!
//! **After a restart of rufio.** The condition `Issued` names the command that is about to leave; it is written before the
//! command, and again before one of another kind. So a Task that is found with it may have had that command carried out.
//! `on` and `off` look at the state and send again only if it is not the wanted one, which repeats nothing. `cycle` and
//! `reset` are never sent a second time, because the machine may by now be in the middle of what the restart was for: found
//! on, they are done; found off, they get the time to come back, then the machine is switched on.

use std::time::Duration;

use api::bmc::v1alpha1::PowerAction;

use crate::bmc::{FaultKind, Power, Switch};

/// Longest life of a Task, from its start time.
pub const TASK_LIMIT: Duration = Duration::from_secs(600);
/// Condition of a Task: the command that its message names is about to leave, or has left.
pub const ISSUED: &str = "Issued";
/// Transient faults in a row after which a Task fails; with the pauses of [`pause_after_faults`] about a minute plus the
/// BMC's own timeouts.
pub const MAX_FAULTS: u32 = 8;

/// Commands of one kind sent before a BMC that shows no effect is given up.
const MAX_SENT: u8 = 2;
/// Time for the power to follow a hard command.
const SETTLE: Duration = Duration::from_secs(60);
/// Time for an operating system to shut down.
const SETTLE_SOFT: Duration = Duration::from_secs(270);
/// Time after a restart command during which "on" may still be from before.
const RESTART_DELAY: Duration = Duration::from_secs(3);

/// What is known of the commands of a Task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The last command.
    pub last: Switch,
    /// How often it was sent in a row.
    pub sent: u8,
    /// Time since it was last sent; since it was found, when `resumed`.
    pub elapsed: Duration,
    /// Only known from the condition `Issued`: another process wrote it, and perhaps sent the command.
    pub resumed: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this command.
    Send(Switch),
    /// Look again after this time.
    Wait(Duration),
    /// The Task is completed, with a message.
    Done(String),
    /// The Task has failed, with the reason.
    Fail(String),
}

/// The next step of a power action. `attempt`: `None` as long as nothing was sent.
#[must_use]
pub fn next(action: PowerAction, attempt: Option<Attempt>, read: Power) -> Step {
    match action {
        PowerAction::Status => Step::Done(format!("power is {read}")),
        PowerAction::On => reach(Power::On, Switch::On, attempt, read),
        PowerAction::Off => reach(Power::Off, Switch::Off, attempt, read),
        PowerAction::Soft => reach(Power::Off, Switch::Soft, attempt, read),
        PowerAction::Cycle => restart(Switch::Cycle, attempt, read),
        PowerAction::Reset => restart(Switch::Reset, attempt, read),
    }
}

/// The command that the message of the condition `Issued` names.
#[must_use]
pub fn issued(message: &str) -> Option<Switch> {
    [Switch::On, Switch::Off, Switch::Soft, Switch::Cycle, Switch::Reset]
        .into_iter()
        .find(|switch| message == switch.to_string())
}

/// The command to send instead of one that the BMC does not have; `None` when there is no other way.
#[must_use]
pub fn substitute(switch: Switch, read: Power) -> Option<Switch> {
    match (switch, read) {
        // Off now; the next pass finds it off after a restart command and switches it on.
        (Switch::Cycle | Switch::Reset, Power::On | Power::Unknown) => Some(Switch::Off),
        _ => None,
    }
}

/// The pause before the next try after `faults` transient faults in a row.
#[must_use]
pub fn pause_after_faults(faults: u32) -> Duration {
    Duration::from_secs(1 << faults.saturating_sub(1).min(4)).min(Duration::from_secs(15))
}

/// Whether a Task fails after this fault, `faults` being the transient ones in a row with this one.
#[must_use]
pub fn gives_up(kind: FaultKind, faults: u32) -> bool {
    match kind {
        // The Secret or the Machine may be a moment late; a wrong one stays wrong.
        FaultKind::Unreachable | FaultKind::Busy | FaultKind::Config => faults >= MAX_FAULTS,
        FaultKind::Refused | FaultKind::Unsupported | FaultKind::Tls | FaultKind::Auth => true,
    }
}

fn reach(wanted: Power, switch: Switch, attempt: Option<Attempt>, read: Power) -> Step {
    if read == wanted {
        let already = if attempt.is_none() { " already" } else { "" };
        return Step::Done(format!("power is {read}{already}"));
    }
    let Some(attempt) = attempt.filter(|attempt| attempt.last == switch) else { return Step::Send(switch) };
    let soft = switch == Switch::Soft;
    // A second press of the power button may mean something else to an operating system that is already going down.
    if attempt.resumed && !soft {
        return Step::Send(switch);
    }
    if attempt.elapsed < (if soft { SETTLE_SOFT } else { SETTLE }) {
        return Step::Wait(poll(attempt.elapsed));
    }
    if attempt.sent < MAX_SENT {
        return Step::Send(switch);
    }
    Step::Fail(format!("the BMC accepted {switch} {} times, but the power is still {read}", attempt.sent))
}

fn restart(switch: Switch, attempt: Option<Attempt>, read: Power) -> Step {
    let Some(attempt) = attempt else {
        // A restart of a machine that is off is a start.
        return Step::Send(if read == Power::Off { Switch::On } else { switch });
    };
    match (attempt.last, read) {
        (Switch::On, _) => reach(Power::On, Switch::On, Some(attempt), read),
        // By hand: off was sent in place of a command that the BMC does not have.
        (Switch::Off | Switch::Soft, Power::Off) => Step::Send(Switch::On),
        (Switch::Off | Switch::Soft, _) => reach(Power::Off, Switch::Off, Some(attempt), read),
        (Switch::Cycle | Switch::Reset, _) if attempt.elapsed < RESTART_DELAY => {
            Step::Wait(RESTART_DELAY.saturating_sub(attempt.elapsed))
        }
        (Switch::Cycle | Switch::Reset, Power::On) if attempt.resumed => Step::Done(format!(
            "power is on; {switch} was under way when rufio restarted and is not repeated"
        )),
        (Switch::Cycle | Switch::Reset, Power::On) => Step::Done(format!("{switch} done, power is on")),
        (Switch::Cycle | Switch::Reset, _) if attempt.elapsed < SETTLE => Step::Wait(poll(attempt.elapsed)),
        // It went off and did not come back by itself.
        (Switch::Cycle | Switch::Reset, Power::Off) => Step::Send(Switch::On),
        (Switch::Cycle | Switch::Reset, Power::Unknown) => {
            Step::Fail(format!("after {switch} the BMC does not tell the power state"))
        }
    }
}

/// Quick looks first, as most BMCs follow within seconds; every 3 s later, which is upstream's pace.
fn poll(elapsed: Duration) -> Duration {
    if elapsed < Duration::from_secs(5) { Duration::from_millis(500) } else { Duration::from_secs(3) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::bmc::v1alpha1::PowerAction;
    use proptest::prelude::*;

    use super::{
        Attempt, FaultKind, MAX_FAULTS, Step, TASK_LIMIT, gives_up, issued, next, pause_after_faults,
        substitute,
    };
    use crate::bmc::{Power, Switch};

    /// A machine behind a BMC: what it does with a command, and after how long.
    #[derive(Clone, Debug)]
    struct Model {
        on: bool,
        delay: Duration,
        /// Commands that are swallowed without effect before one works.
        deaf: u8,
        has_cycle: bool,
        pending: Option<(Duration, bool)>,
        log: Vec<Switch>,
    }

    impl Model {
        fn read(&mut self, now: Duration) -> Power {
            if let Some((_, on)) = self.pending.take_if(|(at, _)| *at <= now) {
                self.on = on;
            }
            if self.on { Power::On } else { Power::Off }
        }

        fn send(&mut self, switch: Switch, now: Duration) {
            self.log.push(switch);
            if self.deaf > 0 {
                self.deaf -= 1;
                return;
            }
            match switch {
                Switch::On => self.pending = Some((now + self.delay, true)),
                Switch::Off | Switch::Soft => self.pending = Some((now + self.delay, false)),
                Switch::Cycle => {
                    self.on = false;
                    self.pending = Some((now + self.delay, true));
                }
                Switch::Reset => {}
            }
        }
    }

    /// Runs a Task to its end. In pass `crash_at` the process dies after writing `Issued`, before (`sends` false) or after
    /// sending; the next one knows only the condition.
    fn run(action: PowerAction, model: &mut Model, crash_at: Option<usize>, sends: bool) -> Step {
        let mut now = Duration::ZERO;
        let mut condition: Option<String> = None;
        let mut memory: Option<(Attempt, Duration)> = None;
        for pass in 0.. {
            assert!(now <= TASK_LIMIT, "no end after {pass} passes");
            let crash = crash_at == Some(pass);
            let read = model.read(now);
            if memory.is_none()
                && let Some(last) = condition.as_deref().and_then(issued)
            {
                memory = Some((Attempt { last, sent: 1, elapsed: Duration::ZERO, resumed: true }, now));
            }
            let attempt = memory.map(|(attempt, at)| Attempt { elapsed: now - at, ..attempt });
            match next(action, attempt, read) {
                Step::Send(wanted) => {
                    let available = model.has_cycle || !matches!(wanted, Switch::Cycle | Switch::Reset);
                    condition = Some(wanted.to_string());
                    let switch = if available { wanted } else { substitute(wanted, read).unwrap() };
                    condition = if crash && !sends { condition } else { Some(switch.to_string()) };
                    if !crash || sends {
                        model.send(switch, now);
                    }
                    let again = memory.is_some_and(|(attempt, _)| attempt.last == switch && !attempt.resumed);
                    let sent = memory.filter(|_| again).map_or(0, |(attempt, _)| attempt.sent) + 1;
                    memory =
                        Some((Attempt { last: switch, sent, elapsed: Duration::ZERO, resumed: false }, now));
                    now += Duration::from_millis(10);
                }
                Step::Wait(wait) => now += wait,
                end => return end,
            }
            if crash {
                memory = None;
            }
        }
        unreachable!()
    }

    fn actions() -> impl Strategy<Value = PowerAction> {
        prop::sample::select(vec![
            PowerAction::On,
            PowerAction::Off,
            PowerAction::Soft,
            PowerAction::Cycle,
            PowerAction::Reset,
            PowerAction::Status,
        ])
    }

    proptest! {
        #[test]
        fn every_action_ends_in_its_state_in_time(
            action in actions(), on: bool, has_cycle: bool, deaf in 0_u8..2, delay in 0_u64..50,
            crash in prop::option::of(0_usize..20), sends: bool,
        ) {
            let delay = Duration::from_secs(delay);
            let mut model = Model { on, delay, deaf, has_cycle, pending: None, log: Vec::new() };
            let end = run(action, &mut model, crash, sends);
            prop_assert!(matches!(end, Step::Done(_)), "{end:?} {:?}", model.log);
            let late = model.read(TASK_LIMIT * 2);
            match action {
                PowerAction::On => prop_assert_eq!(late, Power::On),
                PowerAction::Off | PowerAction::Soft => prop_assert_eq!(late, Power::Off),
                PowerAction::Cycle | PowerAction::Reset => prop_assert_eq!(late, Power::On),
                PowerAction::Status => prop_assert!(model.log.is_empty()),
            }
            let restarts = model.log.iter().filter(|sent| matches!(sent, Switch::Cycle | Switch::Reset)).count();
            prop_assert!(restarts <= 1, "restarted {restarts} times: {:?}", model.log);
            if !on && matches!(action, PowerAction::Off | PowerAction::Soft) {
                prop_assert!(model.log.is_empty(), "nothing to send to a machine that is off");
            }
        }
    }

    #[test]
    fn a_bmc_that_obeys_nothing_is_told_after_two_commands() {
        let mut model = Model {
            on: true,
            delay: Duration::ZERO,
            deaf: 9,
            has_cycle: true,
            pending: None,
            log: Vec::new(),
        };
        let Step::Fail(reason) = run(PowerAction::Off, &mut model, None, true) else {
            panic!("it must fail")
        };
        assert_eq!(reason, "the BMC accepted power off 2 times, but the power is still on");
        assert_eq!(model.log.len(), 2);
    }

    #[test]
    fn credentials_fail_at_once_and_silence_after_a_minute() {
        assert!(
            gives_up(FaultKind::Auth, 1)
                && gives_up(FaultKind::Unsupported, 1)
                && gives_up(FaultKind::Tls, 1)
        );
        assert!(
            !gives_up(FaultKind::Unreachable, MAX_FAULTS - 1) && gives_up(FaultKind::Unreachable, MAX_FAULTS)
        );
        let total: Duration = (1..MAX_FAULTS).map(pause_after_faults).sum();
        assert!((50..=70).contains(&total.as_secs()), "{total:?}");
    }
}
