// SPDX-License-Identifier: Apache-2.0

//! Small texts that several commands print: ages, sizes, errors of the API server, YAML.

use std::io::{self, Write as _};

use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use serde_json::Value;

/// Writes to standard output; a reader that has gone away (as `head` does) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A duration in its one or two largest units: `45s`, `3m20s`, `5h`, `12d`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 && seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 10 && minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 && hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        () => format!("{days}d"),
    }
}

/// How long ago an object was made; empty when it does not say.
pub(crate) fn age(object: &DynamicObject, now: Timestamp) -> String {
    let made = object.metadata.creation_timestamp.as_ref();
    made.map(|made| duration(now.duration_since(made.0))).unwrap_or_default()
}

/// Bytes in a unit that people read.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = "B";
    let mut scale = 1_u64;
    for (next, name) in [(1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB")] {
        if count >= next {
            (scale, unit) = (next, name);
        }
    }
    let tenths = u128::from(count) * 10 / u128::from(scale);
    if scale == 1 { format!("{count} {unit}") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// An object or a list as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}

/// What went wrong with a request, in one line: the server's own words where it has any.
pub(crate) fn problem(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => daemon::chain(other),
    }
}

/// Whether the same request may be answered in a moment: the server did not answer at all, or said itself that it cannot now.
pub(crate) fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_what_the_server_has_not_decided() {
        let status = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            kube::Error::Api(Box::new(status))
        };
        for code in [429, 500, 503, 504] {
            assert!(may_pass(&status(code)), "{code}");
        }
        for code in [400, 403, 404, 409, 410, 422] {
            assert!(!may_pass(&status(code)), "{code}");
        }
        assert!(may_pass(&kube::Error::Service("connection refused".into())));
    }

    #[test]
    fn durations_and_sizes_are_short() {
        let text = |seconds| duration(SignedDuration::from_secs(seconds));
        assert_eq!(text(-5), "0s");
        assert_eq!(text(119), "119s");
        assert_eq!(text(125), "2m5s");
        assert_eq!(text(3 * 3600 + 120), "3h2m");
        assert_eq!(text(90 * 60), "90m");
        assert_eq!(text(50 * 3600), "2d2h");
        assert_eq!(text(30 * 86_400), "30d");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }
}
