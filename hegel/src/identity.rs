// SPDX-License-Identifier: Apache-2.0
//! Which address a request counts as coming from.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Longest chain of proxies that is looked at; a longer one is refused.
const MAX_HOPS: usize = 32;

/// The request names no address that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadAddress;

/// The client's address: the peer's own, unless the peer is a trusted proxy; then the last address of `X-Forwarded-For` that is
/// no trusted proxy itself, or the first one if all are.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Result<IpAddr, BadAddress> {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return Ok(peer);
    }
    let mut hops = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        let value = value.to_str().map_err(|_| BadAddress)?;
        for hop in value.split(',') {
            hops.push(hop.trim().parse::<IpAddr>().map_err(|_| BadAddress)?.to_canonical());
            if hops.len() > MAX_HOPS {
                return Err(BadAddress);
            }
        }
    }
    let client = hops.iter().rev().find(|hop| !is_trusted(**hop)).or(hops.first());
    Ok(client.copied().unwrap_or(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_may_say_who_asks() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let cases: [(&str, &[&str], Result<&str, BadAddress>); 8] = [
            ("192.0.2.7", &["192.0.2.9"], Ok("192.0.2.7")),
            ("10.0.0.1", &["192.0.2.9"], Ok("192.0.2.9")),
            ("10.0.0.1", &["203.0.113.5, 192.0.2.9, 10.0.0.2"], Ok("192.0.2.9")),
            ("10.0.0.1", &["203.0.113.5", "192.0.2.9"], Ok("192.0.2.9")),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], Ok("10.0.0.3")),
            ("10.0.0.1", &[], Ok("10.0.0.1")),
            ("10.0.0.1", &["m1"], Err(BadAddress)),
            ("::ffff:192.0.2.7", &[], Ok("192.0.2.7")),
        ];
        for (peer, forwarded, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let found = client_ip(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }
}
