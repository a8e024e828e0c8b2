// SPDX-License-Identifier: Apache-2.0
//! Logs: level, format, and where they go (standard error).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::Settings;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// A filter in `tracing`'s own language; `RUST_LOG` wins over it.
    pub filter: String,
    /// JSON records instead of lines for people.
    pub json: bool,
}

impl Telemetry {
    /// Reads `log-level` and `log-format` from the skeleton's settings.
    pub fn from_settings(settings: &mut Settings) -> Self {
        let filter = filter(&settings.text("log-level"));
        if EnvFilter::try_new(&filter).is_err() {
            settings.mistake("log-level", "is neither a number nor a log filter");
        }
        let json = match settings.text("log-format").as_str() {
            "json" => true,
            "text" => false,
            _ => !std::io::stderr().is_terminal(),
        };
        Self { filter, json }
    }

    /// Starts logging for this process; a second call changes nothing.
    pub fn init(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&self.filter));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let outcome = if self.json {
            builder.json().flatten_event(true).try_init()
        } else {
            builder.with_ansi(std::io::stderr().is_terminal()).try_init()
        };
        if outcome.is_err() {
            tracing::debug!("logging was already set up");
        }
    }
}

/// Upstream's numbers (higher is more) as filters; anything else is a filter already.
fn filter(level: &str) -> String {
    match level.parse::<i64>() {
        Ok(number) => match number {
            ..0 => "off",
            0 => "info",
            1 => "debug",
            2.. => "trace",
        }
        .to_owned(),
        Err(_) if level.is_empty() => "info".to_owned(),
        Err(_) => level.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_levels_and_filters() {
        let cases = [
            ("-1", "off"),
            ("0", "info"),
            ("", "info"),
            ("1", "debug"),
            ("9", "trace"),
            ("boots=debug", "boots=debug"),
        ];
        for (given, expected) in cases {
            assert_eq!(filter(given), expected, "{given}");
        }
    }
}
