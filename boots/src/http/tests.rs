// SPDX-License-Identifier: Apache-2.0
use super::*;

fn client(peer: &str, forwarded: &[&str]) -> String {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
    let mut headers = HeaderMap::new();
    for value in forwarded {
        headers.append("x-forwarded-for", value.parse().unwrap());
    }
    client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
}

#[test]
fn only_trusted_proxies_say_who_asks() {
    assert_eq!(client("172.31.0.11", &["172.31.0.12"]), "172.31.0.11");
    assert_eq!(client("10.1.1.1", &["172.31.0.12"]), "172.31.0.12");
    assert_eq!(client("::ffff:10.1.1.1", &["172.31.0.12"]), "172.31.0.12");
    assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
}

#[test]
fn the_last_address_that_is_no_proxy_is_the_client() {
    assert_eq!(client("10.1.1.1", &["172.31.0.99, 172.31.0.12, 192.0.2.1"]), "172.31.0.12");
    assert_eq!(client("10.1.1.1", &["172.31.0.12", "10.9.9.9"]), "172.31.0.12");
    assert_eq!(client("10.1.1.1", &["172.31.0.12, nonsense"]), "10.1.1.1", "what is forged ends the chain");
}
