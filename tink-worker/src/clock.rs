// SPDX-License-Identifier: Apache-2.0
//! The machine's clock: many machines come up years off, and then no certificate is valid. It is stepped forward to
//! the time in the boot script before anything else, and then follows the `date` of the server's answers.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec};

use crate::config::Authority;

/// Smaller differences are left to whatever keeps time in the installed system.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Sets the system clock, if the agent may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Authority);

impl Clock {
    pub(crate) fn new(authority: Authority) -> Self {
        Self(authority)
    }

    /// Steps to `seconds` since 1970 unless the clock is already later.
    pub(crate) fn not_before(self, seconds: u64) {
        // A number beyond all calendars is no time.
        let floor = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        if let Some(time) =
            floor.and_then(|floor| correction(SystemTime::now(), floor, Direction::ForwardOnly))
        {
            self.set(time);
        }
    }

    /// Follows the value of an HTTP `date` header (RFC 9110, section 5.6.7).
    pub(crate) fn follow(self, date: &str) {
        let server = jiff::fmt::rfc2822::parse(date).map(|date| SystemTime::from(date.timestamp()));
        let Ok(server) = server else {
            return;
        };
        if let Some(time) = correction(SystemTime::now(), server, Direction::Either) {
            self.set(time);
        }
    }

    fn set(self, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.0 != Authority::Machine {
            return;
        }
        let Ok(tv_sec) = i64::try_from(since.as_secs()) else {
            return;
        };
        let tv_nsec = since.subsec_nanos().into();
        match rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec }) {
            Ok(()) => tracing::info!(seconds = tv_sec, "clock set from the server"),
            Err(error) => tracing::warn!(%error, "clock could not be set"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ForwardOnly,
    Either,
}

/// The time to set, or `None` when `now` is close enough to (or, forward only, later than) `reference`.
fn correction(now: SystemTime, reference: SystemTime, direction: Direction) -> Option<SystemTime> {
    let off = match reference.duration_since(now) {
        Ok(behind) => behind,
        Err(_) if direction == Direction::ForwardOnly => return None,
        Err(ahead) => ahead.duration(),
    };
    (off > TOLERANCE).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_the_command_line_that_is_none_is_left_alone() {
        Clock::new(Authority::DisksOnly).not_before(u64::MAX);
    }

    #[test]
    fn only_a_clock_that_is_off_is_set_and_the_floor_never_turns_it_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let later = now + Duration::from_secs(60);
        assert_eq!(correction(now, later, Direction::ForwardOnly), Some(later));
        assert_eq!(correction(later, now, Direction::ForwardOnly), None);
        assert_eq!(correction(later, now, Direction::Either), Some(now));
        let near = now + Duration::from_secs(2);
        assert_eq!(correction(now, near, Direction::Either), None);
        assert_eq!(correction(near, now, Direction::Either), None);
    }

    #[test]
    fn http_dates_are_understood() {
        let parsed = jiff::fmt::rfc2822::parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(parsed.timestamp().as_second(), 784_111_777);
    }
}
