// SPDX-License-Identifier: Apache-2.0
//! What can be set about the log server, and what follows from it.

use std::net::{IpAddr, SocketAddr};

use daemon::config::{Kind, Setting, Settings};

use crate::logs::LogsConfig;

/// The directory of logs in the state directory.
pub(super) const LOGS: &str = "boots-logs";
/// Fewest and most KiB per machine.
const KEEP: std::ops::RangeInclusive<u64> = 64..=65_536;

/// The settings.
pub(super) const SETTINGS: [Setting; 5] = [
    Setting::new("syslog-enabled", "syslog-enabled", Kind::Bool, "receive the log messages of machines")
        .with_default("true"),
    Setting::new(
        "syslog-bind-addr",
        "syslog-bind-addr",
        Kind::Ip,
        "address that syslog listens on; bind-address when unset",
    ),
    Setting::new("syslog-bind-port", "syslog-bind-port", Kind::Port, "UDP port that syslog listens on")
        .with_default("514"),
    Setting::new(
        "syslog-keep",
        "syslog-keep",
        Kind::Integer,
        "KiB of log that are kept of one machine, the newest, in boots-logs of the state directory",
    )
    .with_default("1024"),
    Setting::new(
        "syslog-keep-total",
        "syslog-keep-total",
        Kind::Integer,
        "MiB of log that are kept in all; beyond it the machines that were silent for longest lose theirs",
    )
    .with_default("1024"),
];

/// The log server.
#[derive(Debug, Clone)]
pub struct SyslogConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What is kept.
    pub logs: LogsConfig,
}

impl SyslogConfig {
    /// Reads the settings, nothing when it is off; mistakes are recorded in them.
    pub(super) fn from_settings(settings: &mut Settings, bind: IpAddr) -> Option<Self> {
        let address = settings.get_or("syslog-bind-addr", bind);
        let port = settings.get_or("syslog-bind-port", 514);
        let machine = settings.get_or("syslog-keep", 1024_u64);
        if !KEEP.contains(&machine) {
            settings.mistake("syslog-keep", "must be from 64 to 65536");
        }
        let machine = machine.saturating_mul(1 << 10);
        let total = settings.get_or("syslog-keep-total", 1024_u64).saturating_mul(1 << 20);
        if total < machine {
            settings.mistake("syslog-keep-total", "must be at least as much as syslog-keep");
        }
        let state_dir = settings.path("state-dir");
        let dir = daemon::state_dir(state_dir).join(LOGS);
        let config =
            Self { listen: SocketAddr::new(address, port), logs: LogsConfig { dir, machine, total } };
        settings.bool("syslog-enabled").then_some(config)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn it_listens_where_it_is_told_to_else_where_http_does() {
        let listen = |flags: &[&str]| config(flags).syslog.unwrap().listen.to_string();
        assert_eq!(listen(&[]), "0.0.0.0:514");
        assert_eq!(listen(&["--bind-address=::"]), "[::]:514");
        let own = ["--bind-address=10.0.0.1", "--syslog-bind-addr=172.31.0.1", "--syslog-bind-port=5514"];
        assert_eq!(listen(&own), "172.31.0.1:5514");
        assert!(config(&["--syslog-enabled=false"]).syslog.is_none());
    }
}
