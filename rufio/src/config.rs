// SPDX-License-Identifier: Apache-2.0

//! rufio's settings: names as upstream has them, without its prefix.

use std::time::Duration;

use daemon::config::{Kind, Setting, Settings};
use daemon::leader::Election;

/// What upstream does with an interval of zero.
const INTERVAL_WHEN_ZERO: Duration = Duration::from_secs(180);

/// Every setting of rufio; the skeleton adds logging, the API server and the namespace.
pub const SETTINGS: &[Setting] = &[
    Setting::new(
        "power-check-interval",
        "rufio-power-check-interval",
        Kind::Duration,
        "how often a BMC that answers is asked for its power state; one that does not is asked sooner",
    )
    .with_default("30m"),
    Setting::new(
        "bmc-connect-timeout",
        "rufio-bmc-connect-timeout",
        Kind::Duration,
        "longest time to open a session with one protocol",
    )
    .with_default("30s"),
    Setting::new(
        "max-concurrent-reconciles",
        "rufio-max-concurrent-reconciles",
        Kind::Integer,
        "Machines, Jobs and Tasks that are worked on at the same time, each; one BMC is never asked two things at once",
    )
    .with_default("16"),
    Setting::new(
        "enable-leader-election",
        "rufio-controller-enable-leader-election",
        Kind::Bool,
        "of several replicas let one act; off, there must be no other",
    )
    .with_default("true"),
    Setting::new(
        "leader-election-namespace",
        "rufio-controller-leader-election-namespace",
        Kind::Text,
        "namespace of the Lease",
    )
    .with_default(api::annotations::SYSTEM_NAMESPACE),
    Setting::health_port("rufio-health-port", "9103"),
];

/// What rufio works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace to work in; `None` is all.
    pub namespace: Option<String>,
    /// Time between two looks at a BMC that answers.
    pub power_check_interval: Duration,
    /// Longest time to open a session with one protocol.
    pub bmc_connect_timeout: Duration,
    /// Objects of one kind worked on at the same time; at least 1.
    pub max_concurrent_reconciles: u16,
    /// How replicas agree on who acts; `None` where there is no other.
    pub election: Option<Election>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: None,
            power_check_interval: Duration::from_secs(30 * 60),
            bmc_connect_timeout: Duration::from_secs(30),
            max_concurrent_reconciles: 16,
            election: None,
        }
    }
}

impl Config {
    /// Reads the settings; every mistake is recorded in them.
    pub fn from_settings(settings: &mut Settings) -> Self {
        let fallback = Self::default();
        let mut interval = settings.duration("power-check-interval");
        if interval.is_zero() {
            interval = INTERVAL_WHEN_ZERO;
        }
        let mut connect = settings.duration("bmc-connect-timeout");
        if connect.is_zero() {
            settings.mistake("bmc-connect-timeout", "must be longer than zero");
            connect = fallback.bmc_connect_timeout;
        }
        let concurrent = settings.get_or("max-concurrent-reconciles", fallback.max_concurrent_reconciles);
        if concurrent == 0 {
            settings.mistake("max-concurrent-reconciles", "must be at least 1");
        }
        let namespace = settings.text("backend-kube-namespace");
        Self {
            namespace: (!namespace.is_empty()).then_some(namespace),
            power_check_interval: interval,
            bmc_connect_timeout: connect,
            max_concurrent_reconciles: concurrent.max(1),
            election: Election::from_settings(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daemon::config::{Inputs, Layers, Table};

    use super::{Config, Election, SETTINGS};

    fn configured(args: &[&str]) -> Result<Config, String> {
        let inputs = Inputs { args: args.iter().map(|&arg| arg.to_owned()).collect(), ..Inputs::default() };
        let tables = [Table { daemon: "rufio", settings: SETTINGS, common: daemon::COMMON }];
        let layers = Layers::read(&tables, inputs, false);
        let mut settings = layers.settings("rufio");
        let config = Config::from_settings(&mut settings);
        layers.finish([settings]).map(|_| config).map_err(|errors| errors.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let election = Election { namespace: api::annotations::SYSTEM_NAMESPACE.to_owned(), identity: None };
        let config = configured(&[]).unwrap();
        assert_eq!(config, Config { election: Some(election), ..Config::default() });
        let alone = configured(&["--rufio-controller-enable-leader-election=false"]).unwrap();
        assert_eq!(alone, Config::default());
    }

    #[test]
    fn upstreams_flags_are_understood() {
        let args = [
            "--rufio-power-check-interval=0",
            "--rufio-max-concurrent-reconciles=3",
            "--backend-kube-namespace=lab",
        ];
        let config = configured(&args).unwrap();
        assert_eq!(config.power_check_interval, Duration::from_secs(180));
        assert_eq!((config.max_concurrent_reconciles, config.namespace.as_deref()), (3, Some("lab")));
    }

    #[test]
    fn mistakes_are_told_together() {
        let told = configured(&["--rufio-bmc-connect-timeout=0", "--rufio-max-concurrent-reconciles=0"])
            .unwrap_err();
        assert!(told.contains("bmc-connect-timeout") && told.contains("max-concurrent-reconciles"), "{told}");
    }
}
