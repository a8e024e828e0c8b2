// SPDX-License-Identifier: Apache-2.0
//! The options of one message, as raw bytes by code, with typed readers and writers.
//!
//! Called by `message` for the wire walk and by whoever reads or builds a message. Readers return `None` for an
//! option that is absent or too short; they never fail a whole message.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Option codes (RFC 2132 unless said).
pub mod code {
    /// Padding; no length byte.
    pub const PAD: u8 = 0;
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// Domain name servers.
    pub const DNS: u8 = 6;
    /// Log servers.
    pub const LOG_SERVER: u8 = 7;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// Domain name.
    pub const DOMAIN_NAME: u8 = 15;
    /// Broadcast address.
    pub const BROADCAST: u8 = 28;
    /// NTP servers.
    pub const NTP: u8 = 42;
    /// Vendor-specific information; PXE sub-options.
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// Requested IP address.
    pub const REQUESTED_IP: u8 = 50;
    /// Lease time in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// Option overload: `file` and/or `sname` hold options.
    pub const OVERLOAD: u8 = 52;
    /// DHCP message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Parameter request list.
    pub const PARAMETER_LIST: u8 = 55;
    /// Error text of a NAK.
    pub const MESSAGE: u8 = 56;
    /// Largest message that the client accepts.
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// Vendor class identifier.
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// TFTP server name.
    pub const TFTP_SERVER_NAME: u8 = 66;
    /// Boot file name.
    pub const BOOT_FILE_NAME: u8 = 67;
    /// User class (RFC 3004; iPXE sends bare text).
    pub const USER_CLASS: u8 = 77;
    /// Relay agent information (RFC 3046).
    pub const RELAY_AGENT: u8 = 82;
    /// Client system architectures (RFC 4578 section 2.1).
    pub const CLIENT_ARCH: u8 = 93;
    /// Client network interface, UNDI (RFC 4578 section 2.2).
    pub const CLIENT_NDI: u8 = 94;
    /// Client machine identifier, UUID (RFC 4578 section 2.3).
    pub const CLIENT_UUID: u8 = 97;
    /// Domain search list (RFC 3397).
    pub const DOMAIN_SEARCH: u8 = 119;
    /// Classless static routes (RFC 3442).
    pub const CLASSLESS_ROUTES: u8 = 121;
    /// Etherboot encapsulated options, sent by iPXE.
    pub const ETHERBOOT: u8 = 175;
    /// End of options; no length byte.
    pub const END: u8 = 255;
}

/// Bytes of each piece of a value over 255 bytes: a multiple of an address, so that a client that does not join the pieces
/// reads each as a list that is sound.
const PIECE: usize = 252;

/// One classless static route (RFC 3442).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network; bits beyond the prefix are ignored.
    pub destination: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// The router.
    pub router: Ipv4Addr,
}

/// Options by code. Instances of one code are concatenated in the order of appearance (RFC 3396 section 7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The raw value of an option.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Whether the option is there, even with an empty value.
    #[must_use]
    pub fn contains(&self, code: u8) -> bool {
        self.0.contains_key(&code)
    }

    /// All options in ascending order of code.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// The first `N` bytes of an option. A longer value is accepted: clients pad.
    #[must_use]
    pub fn bytes<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.get(code)?.first_chunk::<N>().copied()
    }

    /// The option as an IPv4 address.
    #[must_use]
    pub fn ip(&self, code: u8) -> Option<Ipv4Addr> {
        self.bytes::<4>(code).map(Ipv4Addr::from)
    }

    /// The option as text up to the first NUL, invalid UTF-8 replaced. For logs.
    #[must_use]
    pub fn text(&self, code: u8) -> Option<String> {
        let value = self.get(code)?;
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(value.get(..end)?).into_owned())
    }

    /// Sets an option to raw bytes, replacing what was there. Codes 0 and 255 are not options and are ignored.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        if code != code::PAD && code != code::END {
            self.0.insert(code, value.into());
        }
    }

    /// Sets an option to one address.
    pub fn set_ip(&mut self, code: u8, ip: Ipv4Addr) {
        self.set(code, ip.octets());
    }

    /// Sets an option to a list of addresses; an empty list sets nothing.
    pub fn set_ips(&mut self, code: u8, ips: &[Ipv4Addr]) {
        if !ips.is_empty() {
            self.set(code, ips.iter().flat_map(|ip| ip.octets()).collect::<Vec<u8>>());
        }
    }

    /// Sets a 32-bit option.
    pub fn set_u32(&mut self, code: u8, value: u32) {
        self.set(code, value.to_be_bytes());
    }

    /// Sets a text option, without a trailing NUL (RFC 2132 section 2).
    pub fn set_text(&mut self, code: u8, value: &str) {
        self.set(code, value.as_bytes());
    }

    /// Sets option 121; an empty list sets nothing. The prefix is taken as at most 32.
    pub fn set_routes(&mut self, routes: &[Route]) {
        if routes.is_empty() {
            return;
        }
        let mut value = Vec::with_capacity(routes.len().saturating_mul(9));
        for route in routes {
            let prefix = route.prefix.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let network = (u32::from(route.destination) & mask).to_be_bytes();
            value.push(prefix);
            value.extend(network.iter().take(usize::from(prefix.div_ceil(8))));
            value.extend(route.router.octets());
        }
        self.set(code::CLASSLESS_ROUTES, value);
    }

    /// Sets option 119 (RFC 3397), uncompressed. Names with an empty or over-long label are left out and
    /// returned, so that the caller can report them.
    pub fn set_domain_search<'a>(&mut self, domains: &[&'a str]) -> Vec<&'a str> {
        let mut value = Vec::new();
        let mut refused = Vec::new();
        for domain in domains {
            match encode_name(domain) {
                Some(name) => value.extend(name),
                None => refused.push(*domain),
            }
        }
        if !value.is_empty() {
            self.set(code::DOMAIN_SEARCH, value);
        }
        refused
    }

    /// Removes an option.
    pub fn remove(&mut self, code: u8) -> Option<Vec<u8>> {
        self.0.remove(&code)
    }

    /// Walks one field of options and adds what it finds; a value cut off by the end of the field is dropped and
    /// ends the walk.
    pub(crate) fn walk(&mut self, mut field: &[u8]) {
        while let Some((code, rest)) = field.split_first() {
            match *code {
                code::PAD => field = rest,
                code::END => return,
                code => {
                    let Some((length, rest)) = rest.split_first() else { return };
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                    self.0.entry(code).or_default().extend_from_slice(value);
                    field = rest;
                }
            }
        }
    }

    /// How many bytes an option takes on the wire, its code and length bytes included.
    pub(crate) fn wire_size(value: &[u8]) -> usize {
        let pieces = if value.len() > 255 { value.len().div_ceil(PIECE) } else { 1 };
        value.len() + 2 * pieces
    }

    /// Writes one option, split when it is over 255 bytes (RFC 3396 section 5).
    pub(crate) fn write(out: &mut Vec<u8>, code: u8, value: &[u8]) {
        if value.is_empty() {
            out.extend([code, 0]);
        }
        let size = if value.len() > 255 { PIECE } else { 255 };
        for piece in value.chunks(size) {
            out.push(code);
            out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(piece);
        }
    }
}

/// A domain name as RFC 1035 labels.
fn encode_name(domain: &str) -> Option<Vec<u8>> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let mut name = Vec::with_capacity(domain.len() + 2);
    for label in domain.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        name.push(length);
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    (name.len() <= 255).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_match_the_published_vector() {
        let mut options = Options::default();
        options.set_routes(&[
            Route {
                destination: Ipv4Addr::new(10, 0, 0, 0),
                prefix: 8,
                router: Ipv4Addr::new(192, 168, 1, 10),
            },
            Route {
                destination: Ipv4Addr::new(172, 16, 0, 0),
                prefix: 12,
                router: Ipv4Addr::new(192, 168, 1, 20),
            },
        ]);
        assert_eq!(
            options.get(code::CLASSLESS_ROUTES).unwrap(),
            [8, 10, 0xc0, 0xa8, 1, 0x0a, 12, 0xac, 0x10, 0xc0, 0xa8, 1, 0x14]
        );
    }

    #[test]
    fn default_and_host_routes_have_no_and_four_network_bytes() {
        let router = Ipv4Addr::new(10, 0, 0, 1);
        let mut options = Options::default();
        options.set_routes(&[
            Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, router },
            Route { destination: Ipv4Addr::new(10, 9, 8, 7), prefix: 32, router },
        ]);
        assert_eq!(
            options.get(code::CLASSLESS_ROUTES).unwrap(),
            [0, 10, 0, 0, 1, 32, 10, 9, 8, 7, 10, 0, 0, 1]
        );
    }

    #[test]
    fn search_list_is_labels_and_reports_bad_names() {
        let mut options = Options::default();
        let refused = options.set_domain_search(&["eng.example.com.", "bad..name"]);
        assert_eq!(refused, ["bad..name"]);
        assert_eq!(options.get(code::DOMAIN_SEARCH).unwrap(), b"\x03eng\x07example\x03com\x00");
    }
}
