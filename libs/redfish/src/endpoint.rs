// SPDX-License-Identifier: Apache-2.0

//! Where a Redfish service is, and which links still belong to it.

use std::fmt;
use std::net::Ipv6Addr;

use url::Url;

use crate::error::Error;

/// The root of a Redfish service: scheme, host and port. Built only by [`Endpoint::parse`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    base: Url,
}

/// The host text cannot be used as a Redfish endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{host:?} is not a BMC host: {reason}")]
pub struct InvalidEndpoint {
    host: String,
    reason: &'static str,
}

impl Endpoint {
    /// Takes a host name, an IPv4 or IPv6 address (with or without brackets), optionally with `:port` or with a scheme
    /// (`https://` is meant when there is none); `port` wins over a port in the text.
    ///
    /// # Errors
    /// When the text is empty, names a user, a path or a query, or another scheme than http and https.
    pub fn parse(host: &str, port: Option<u16>) -> Result<Self, InvalidEndpoint> {
        let invalid = |reason| InvalidEndpoint { host: host.to_owned(), reason };
        let host = host.trim();
        let text = if host.contains("://") {
            host.to_owned()
        } else if host.parse::<Ipv6Addr>().is_ok() {
            format!("https://[{host}]")
        } else {
            format!("https://{host}")
        };
        let mut base = Url::parse(&text).map_err(|_| invalid("it is neither a name nor an address"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid("the scheme must be https or http"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            // The text may hold a password, so it is not repeated.
            return Err(InvalidEndpoint {
                host: "<host with credentials>".into(),
                reason: "credentials belong into the Secret",
            });
        }
        if !matches!(base.path(), "" | "/") || base.query().is_some() || base.fragment().is_some() {
            return Err(invalid("a path cannot be given"));
        }
        if let Some(port) = port {
            base.set_port(Some(port)).map_err(|()| invalid("a port cannot be set on it"))?;
        }
        Ok(Self { base })
    }

    /// `/redfish/v1/`, the only path that is not learnt from a link (DSP0266 6.2).
    pub(crate) fn root(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path("/redfish/v1/");
        url
    }

    /// Turns a link of an answer into a URL of this service; a fragment is dropped.
    pub(crate) fn resolve(&self, link: &str) -> Result<Url, Error> {
        let mut url =
            self.root().join(link).map_err(|_| Error::Protocol(format!("link {link:?} is not a URL")))?;
        url.set_fragment(None);
        if self.owns(&url) {
            Ok(url)
        } else {
            Err(Error::Protocol(format!(
                "a link leads to another host ({})",
                url.host_str().unwrap_or("none")
            )))
        }
    }

    /// Whether a redirect may be followed: same host, and never from TLS back to clear text.
    pub(crate) fn may_redirect(&self, url: &Url) -> bool {
        self.base.host_str() == url.host_str()
            && (url.scheme() == "https" || (self.base.scheme() == "http" && url.scheme() == "http"))
    }

    fn owns(&self, url: &Url) -> bool {
        self.base.host_str() == url.host_str()
            && self.base.scheme() == url.scheme()
            && self.base.port_or_known_default() == url.port_or_known_default()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn takes_every_form_of_host() {
        for (host, port, shown) in [
            ("10.0.0.1", None, "https://10.0.0.1"),
            ("10.0.0.1", Some(8443), "https://10.0.0.1:8443"),
            ("bmc.example", Some(443), "https://bmc.example"),
            ("bmc.example:8000", None, "https://bmc.example:8000"),
            ("bmc.example:8000", Some(9), "https://bmc.example:9"),
            ("fe80::1", None, "https://[fe80::1]"),
            ("[fe80::1]", Some(1443), "https://[fe80::1]:1443"),
            ("http://10.0.0.1/", Some(8000), "http://10.0.0.1:8000"),
        ] {
            assert_eq!(Endpoint::parse(host, port).unwrap().to_string(), shown, "{host}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for host in ["", "ftp://x", "https://x/redfish", "a b", "x?y=1"] {
            assert!(Endpoint::parse(host, None).is_err(), "{host}");
        }
        let error = Endpoint::parse("https://root:hunter2@x", None).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn links_stay_on_the_host() {
        let endpoint = Endpoint::parse("10.0.0.1", None).unwrap();
        assert_eq!(endpoint.resolve("/redfish/v1/Systems/1#/Boot").unwrap().path(), "/redfish/v1/Systems/1");
        assert_eq!(endpoint.resolve("https://10.0.0.1:443/x").unwrap().as_str(), "https://10.0.0.1/x");
        for link in [
            "https://10.0.0.2/x",
            "//10.0.0.2/x",
            "http://10.0.0.1/x",
            "https://10.0.0.1:1/x",
            "file:///etc/passwd",
        ] {
            assert!(endpoint.resolve(link).is_err(), "{link}");
        }
        assert!(!endpoint.may_redirect(&"http://10.0.0.1/".parse().unwrap()));
        assert!(endpoint.may_redirect(&"https://10.0.0.1:8443/".parse().unwrap()));
    }
}
