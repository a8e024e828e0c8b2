// SPDX-License-Identifier: Apache-2.0
//! What can be set.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use daemon::config::{Kind, Setting, Settings};
use daemon::http::TrustedProxies;

/// All settings of this daemon, beside those of the skeleton.
pub const SETTINGS: &[Setting] = &[
    Setting::new("bind-addr", "tootles-bind-addr", Kind::Ip, "address that the metadata service listens on").with_default("0.0.0.0"),
    Setting::new("http-port", "tootles-http-port", Kind::Port, "port that the metadata service listens on").with_default("7172"),
    TrustedProxies::SETTING,
    Setting::new(
        "instance-endpoint",
        "tootles-instance-endpoint",
        Kind::Bool,
        "also serve /tootles/instanceID/<id>/...; whoever reaches the port can then read every machine's user data",
    )
    .with_default("false"),
    Setting::health_port("tootles-health-port", "9102"),
];

/// The configuration of the daemon.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether machines can be asked for by instance ID.
    pub instance_endpoint: bool,
    /// Namespace whose Hardware is served; nothing is all.
    pub namespace: Option<String>,
}

impl Config {
    /// Reads the settings; mistakes are recorded in them.
    pub fn from_settings(settings: &mut Settings) -> Self {
        let address = settings.get_or("bind-addr", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = settings.get("http-port");
        if port == Some(0) {
            settings.mistake("http-port", "must not be 0");
        }
        Self {
            listen: SocketAddr::new(address, port.unwrap_or_default()),
            trusted_proxies: TrustedProxies::from_settings(settings),
            instance_endpoint: settings.bool("instance-endpoint"),
            namespace: settings.get("backend-kube-namespace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::config::Inputs;

    use super::*;

    #[test]
    fn every_setting_is_read_and_proxies_are_networks_or_addresses() {
        let args = [
            "--trusted-proxies=10.0.0.0/8,192.0.2.1",
            "--tootles-http-port=80",
            "--tootles-instance-endpoint",
        ];
        let inputs = Inputs::gather(args.map(str::to_owned), []);
        let mut settings = Settings::load("hegel", SETTINGS, inputs);
        let config = Config::from_settings(&mut settings);
        assert_eq!(settings.unread(), ["health-port"], "that one is the skeleton's");
        settings.finish().unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:80");
        let proxies = ["10.0.0.0/8", "192.0.2.1/32"].map(|network| network.parse().unwrap());
        assert_eq!(config.trusted_proxies, proxies.into_iter().collect());
        assert!(config.instance_endpoint);
    }

    #[test]
    fn mistakes_are_told_together() {
        let args =
            ["--trusted-proxies=10.0.0.0/8,nowhere", "--tootles-http-port=0", "--tootles-bind-addr=here"];
        let mut settings = Settings::load("hegel", SETTINGS, Inputs::gather(args.map(str::to_owned), []));
        Config::from_settings(&mut settings);
        assert_eq!(settings.finish().unwrap_err().mistakes().len(), 3);
    }
}
