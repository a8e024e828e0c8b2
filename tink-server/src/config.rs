// SPDX-License-Identifier: Apache-2.0
//! What can be set, and what was.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use daemon::config::{Kind, Setting, Settings};
use daemon::leader::Election;

/// Every setting of this daemon; those of the skeleton come on top.
pub const SETTINGS: &[Setting] = &[
    Setting::new("bind-addr", "tink-server-bind-addr", Kind::Ip, "address of the gRPC endpoint")
        .with_default("0.0.0.0"),
    Setting::new("bind-port", "tink-server-bind-port", Kind::Port, "port of the gRPC endpoint")
        .with_default("42113"),
    Setting::new("tls-cert-file", "tls-cert-file", Kind::Path, "PEM certificate chain; switches TLS on"),
    Setting::new("tls-key-file", "tls-key-file", Kind::Path, "PEM key of the certificate"),
    Setting::new(
        "allow-legacy-agents",
        "tink-server-allow-legacy-agents",
        Kind::Bool,
        "serve agents that bring no one-time token (unmodified tink-agent, tink-worker)",
    )
    .with_default("true"),
    Setting::new(
        "agent-token-namespace",
        "tink-server-agent-token-namespace",
        Kind::Text,
        "namespace of the Secret with the key of the one-time tokens",
    )
    .with_default(api::annotations::SYSTEM_NAMESPACE),
    Setting::new(
        "max-concurrent-reconciles",
        "tink-controller-max-concurrent-reconciles",
        Kind::Integer,
        "Workflows that are worked on at the same time",
    )
    .with_default("16"),
    Setting::new(
        "enable-leader-election",
        "tink-controller-enable-leader-election",
        Kind::Bool,
        "of several replicas let one work on Workflows (all serve agents); off, there must be no other",
    )
    .with_default("true"),
    Setting::new(
        "leader-election-namespace",
        "tink-controller-leader-election-namespace",
        Kind::Text,
        "namespace of the Lease",
    )
    .with_default(api::annotations::SYSTEM_NAMESPACE),
    Setting::health_port("tink-server-health-port", "9104"),
];

/// Certificate and key of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// The configuration of this daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the gRPC endpoint listens.
    pub bind: SocketAddr,
    /// TLS, or plain text without.
    pub tls: Option<TlsFiles>,
    /// Whether agents without a one-time token are served.
    pub allow_legacy_agents: bool,
    /// Namespace of the Secret with the token key.
    pub agent_token_namespace: String,
    /// Reconciliations at the same time, at least 1.
    pub concurrency: u16,
    /// The only namespace to look at; all without.
    pub namespace: Option<String>,
    /// How replicas agree on who works on Workflows; `None` where there is no other.
    pub election: Option<Election>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 42113),
            tls: None,
            allow_legacy_agents: true,
            agent_token_namespace: api::annotations::SYSTEM_NAMESPACE.to_owned(),
            concurrency: 16,
            namespace: None,
            election: None,
        }
    }
}

impl Config {
    /// Reads the settings; mistakes are recorded in them.
    pub fn from_settings(settings: &mut Settings) -> Self {
        let address: IpAddr = settings.get_or("bind-addr", Ipv4Addr::UNSPECIFIED.into());
        let port = settings.get_or("bind-port", 42113);
        let certificate = settings.path("tls-cert-file");
        let key = settings.path("tls-key-file");
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                settings.mistake("tls-key-file", "must be set together with tls-cert-file");
                None
            }
            (None, Some(_)) => {
                settings.mistake("tls-cert-file", "must be set together with tls-key-file");
                None
            }
        };
        let concurrency: u16 = settings.get_or("max-concurrent-reconciles", 16);
        if concurrency == 0 {
            settings.mistake("max-concurrent-reconciles", "must be at least 1");
        }
        let namespace = settings.text("backend-kube-namespace");
        Self {
            bind: SocketAddr::new(address, port),
            tls,
            allow_legacy_agents: settings.bool("allow-legacy-agents"),
            agent_token_namespace: settings.text("agent-token-namespace"),
            concurrency: concurrency.max(1),
            namespace: (!namespace.is_empty()).then_some(namespace),
            election: Election::from_settings(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::{Inputs, Layers, Table};

    use super::*;

    fn read(args: &[&str]) -> (Config, Vec<&'static str>, Result<(), daemon::config::ConfigErrors>) {
        let inputs = Inputs { args: args.iter().map(|&a| a.to_owned()).collect(), ..Inputs::default() };
        let table = Table { daemon: "tink-server", settings: SETTINGS, common: daemon::COMMON };
        let layers = Layers::read(&[table], inputs, true);
        let mut settings = layers.settings("tink-server");
        let config = Config::from_settings(&mut settings);
        let unread = settings.unread();
        (config, unread, layers.finish([settings]).map(drop))
    }

    #[test]
    fn the_table_and_the_defaults_agree() {
        let (config, unread, result) = read(&[]);
        let election = Election { namespace: api::annotations::SYSTEM_NAMESPACE.to_owned(), identity: None };
        assert_eq!(config, Config { election: Some(election), ..Config::default() });
        let own: Vec<_> = SETTINGS.iter().map(|s| s.key).filter(|key| *key != "health-port").collect();
        assert!(unread.iter().all(|key| !own.contains(key)), "{unread:?}");
        assert!(result.is_ok());
    }

    #[test]
    fn half_of_a_tls_pair_and_no_workers_are_mistakes() {
        let (_, _, result) = read(&["--tls-cert-file=/x", "--tink-controller-max-concurrent-reconciles=0"]);
        assert_eq!(result.unwrap_err().mistakes().len(), 2);
    }
}
