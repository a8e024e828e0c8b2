// SPDX-License-Identifier: Apache-2.0

//! When a Machine's BMC is asked again, and what its status says. Pure.

use std::time::Duration;

use api::bmc::v1alpha1::{CONTACTABLE, MachineCondition, MachineStatus, PowerState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::bmc::{Fault, FaultKind, Power};

/// First pause after a BMC did not answer; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest pause for a BMC that does not answer.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// First pause after a failure that needs somebody to change something; doubles. BMCs lock accounts and block peers after
/// a few wrong passwords, and a change of the Machine or its Secret is acted on soon anyway.
const FIRST_RETRY_FINAL: Duration = Duration::from_secs(60);

/// Pause between two looks at a Machine and its Secret, of which nothing tells that it changed: who may watch Secrets may read
/// all of them. With many machines the pause grows, so that all looks together stay below some thirteen a second.
const LOOK: Duration = Duration::from_secs(5);
const LOOKS: u32 = 64;

/// Time until it is looked whether somebody changed a Machine's Secret, where there are this many Machines.
#[must_use]
pub fn look(machines: usize) -> Duration {
    LOOK.saturating_mul((u32::try_from(machines).unwrap_or(u32::MAX) / LOOKS).max(1))
}

/// Time until the BMC is asked again, after `failures` in a row (0: it answered).
#[must_use]
pub fn pause(failed: Option<FaultKind>, failures: u32, interval: Duration) -> Duration {
    let doubled = |first: Duration| first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    match failed {
        None => interval,
        Some(FaultKind::Unreachable | FaultKind::Busy | FaultKind::Config) => {
            doubled(FIRST_RETRY).min(LONGEST_RETRY).min(interval)
        }
        Some(FaultKind::Refused | FaultKind::Unsupported | FaultKind::Tls | FaultKind::Auth) => {
            doubled(FIRST_RETRY_FINAL).min(interval)
        }
    }
}

/// The status after a contact.
#[must_use]
pub fn status(old: Option<&MachineStatus>, contact: Result<Power, &Fault>, now: Time) -> MachineStatus {
    let mut status = old.cloned().unwrap_or_default();
    let (contactable, message, power) = match contact {
        Ok(power) => ("True", None, power),
        Err(fault) => ("False", Some(fault.message.clone()), Power::Unknown),
    };
    status.power_state = Some(match power {
        Power::On => PowerState::On,
        Power::Off => PowerState::Off,
        Power::Unknown => PowerState::Unknown,
    });
    status.set_condition(MachineCondition {
        last_update_time: Some(now),
        message,
        status: contactable.to_owned(),
        type_: CONTACTABLE.to_owned(),
    });
    status
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::bmc::v1alpha1::{CONTACTABLE, PowerState};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::{pause, status};
    use crate::bmc::{Fault, FaultKind, Power};

    const HALF_HOUR: Duration = Duration::from_secs(1800);

    #[test]
    fn looks_are_quick_for_a_rack_and_bounded_for_a_hall() {
        assert_eq!([0, 1, 100].map(super::look), [Duration::from_secs(5); 3]);
        assert_eq!(super::look(6400), Duration::from_secs(500));
    }

    #[test]
    fn a_silent_bmc_is_asked_soon_and_a_locked_one_is_left_alone() {
        let pauses = |kind| (1..=8).map(|n| pause(Some(kind), n, HALF_HOUR).as_secs()).collect::<Vec<_>>();
        assert_eq!(pauses(FaultKind::Unreachable), [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pauses(FaultKind::Auth), [60, 120, 240, 480, 960, 1800, 1800, 1800]);
        assert_eq!(pause(None, 0, HALF_HOUR), HALF_HOUR);
        assert_eq!(pause(Some(FaultKind::Auth), u32::MAX, Duration::from_secs(5)), Duration::from_secs(5));
    }

    #[test]
    fn the_time_changes_only_when_the_condition_flips() {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let fault = Fault::new(FaultKind::Auth, "wrong password");
        let first = status(None, Ok(Power::On), at(1));
        let second = status(Some(&first), Ok(Power::Off), at(2));
        assert_eq!(second.power_state, Some(PowerState::Off));
        assert_eq!(second.condition(CONTACTABLE).unwrap().last_update_time, Some(at(1)));
        let third = status(Some(&second), Err(&fault), at(3));
        assert_eq!(third.power_state, Some(PowerState::Unknown));
        let condition = third.condition(CONTACTABLE).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.message.as_deref()),
            ("False", Some("wrong password"))
        );
        assert_eq!(condition.last_update_time, Some(at(3)));
        let fourth = status(Some(&third), Ok(Power::On), at(4));
        assert_eq!(fourth.condition(CONTACTABLE).unwrap().message, None, "an old reason does not stay");
    }
}
