// SPDX-License-Identifier: Apache-2.0
//! Which machine a request comes from, where proxies may stand between: one rule for every daemon that knows machines by
//! their addresses. Pure.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::config::{Kind, Setting, Settings};

/// Longest chain of proxies that is looked at; a longer one is refused.
const MAX_HOPS: usize = 32;

const KEY: &str = "trusted-proxies";

/// The request names no address that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("X-Forwarded-For names no address")]
pub struct BadAddress;

/// Proxies whose `X-Forwarded-For` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// The setting, for the table of a daemon.
    pub const SETTING: Setting = Setting::new(
        KEY,
        KEY,
        Kind::Csv("networks such as 10.0.0.0/8"),
        "who may say in X-Forwarded-For which machine asks",
    );

    /// Reads the setting; mistakes are recorded in it.
    pub fn from_settings(settings: &mut Settings) -> Self {
        settings.list::<Network>(KEY).into_iter().map(|network| network.0).collect()
    }

    /// The client's address: the peer's own, unless the peer is a trusted proxy; then the last address of
    /// `X-Forwarded-For` that is no trusted proxy itself, or the first one if all are. What stands left of it is the
    /// client's to write, and is not read.
    ///
    /// # Errors
    /// [`BadAddress`] when what a trusted proxy forwarded is no address, or the chain is too long.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, BadAddress> {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| self.0.iter().any(|network| network.contains(&address));
        if !is_trusted(peer) {
            return Ok(peer);
        }
        let mut client = peer;
        let mut hops = 0;
        for value in headers.get_all("x-forwarded-for").iter().rev() {
            for hop in value.to_str().map_err(|_| BadAddress)?.rsplit(',') {
                hops += 1;
                if hops > MAX_HOPS {
                    return Err(BadAddress);
                }
                client = hop.trim().parse::<IpAddr>().map_err(|_| BadAddress)?.to_canonical();
                if !is_trusted(client) {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// A network in CIDR form, or one address.
struct Network(IpNet);

impl std::str::FromStr for Network {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Inputs;

    #[test]
    fn only_a_trusted_proxy_may_say_who_asks() {
        let trusted: TrustedProxies = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        let long = vec!["10.0.0.9"; MAX_HOPS + 1].join(",");
        let cases: [(&str, &[&str], Result<&str, BadAddress>); 11] = [
            ("192.0.2.7", &["192.0.2.9"], Ok("192.0.2.7")),
            ("10.0.0.1", &["192.0.2.9"], Ok("192.0.2.9")),
            ("10.0.0.1", &["203.0.113.5, 192.0.2.9, 10.0.0.2"], Ok("192.0.2.9")),
            ("10.0.0.1", &["203.0.113.5", "192.0.2.9"], Ok("192.0.2.9")),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], Ok("10.0.0.3")),
            ("10.0.0.1", &[], Ok("10.0.0.1")),
            ("10.0.0.1", &["m1"], Err(BadAddress)),
            ("10.0.0.1", &["192.0.2.9, m1"], Err(BadAddress)),
            ("10.0.0.1", &["forged, 192.0.2.9"], Ok("192.0.2.9")),
            ("10.0.0.1", &[&long], Err(BadAddress)),
            ("::ffff:192.0.2.7", &[], Ok("192.0.2.7")),
        ];
        for (peer, forwarded, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let found = trusted.client(peer.parse().unwrap(), &headers);
            assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn proxies_are_networks_or_addresses() {
        let load = |value: &str| {
            let inputs = Inputs::gather([format!("--trusted-proxies={value}")], []);
            let mut settings = Settings::load("test", &[TrustedProxies::SETTING], inputs);
            let proxies = TrustedProxies::from_settings(&mut settings);
            settings.finish().map(|_| proxies)
        };
        let expected = ["10.0.0.0/8", "192.0.2.1/32"].map(|network| network.parse().unwrap());
        assert_eq!(load("10.0.0.0/8,192.0.2.1").unwrap(), expected.into_iter().collect());
        assert_eq!(load("10.0.0.0/8,nowhere").unwrap_err().mistakes().len(), 1);
    }
}
