// SPDX-License-Identifier: Apache-2.0
//! The options of one message, as raw bytes in their order, with typed readers and writers.
//!
//! Called by `message` for the wire walk and by whoever reads or builds a message. Readers return `None` for an option
//! that is absent or has a wrong form; they never fail a whole message. Of an option that may stand once the first counts.

use std::net::Ipv6Addr;

/// Option codes (RFC 8415 section 21 unless said).
pub mod code {
    /// Client identifier, a DUID.
    pub const CLIENT_ID: u16 = 1;
    /// Server identifier, a DUID.
    pub const SERVER_ID: u16 = 2;
    /// Identity association for addresses.
    pub const IA_NA: u16 = 3;
    /// Identity association for temporary addresses.
    pub const IA_TA: u16 = 4;
    /// One address of an identity association.
    pub const IA_ADDRESS: u16 = 5;
    /// Codes of the options that the client wants.
    pub const REQUEST_LIST: u16 = 6;
    /// A message inside a relay's.
    pub const RELAY_MESSAGE: u16 = 9;
    /// How an exchange or an identity association went.
    pub const STATUS: u16 = 13;
    /// Two messages instead of four.
    pub const RAPID_COMMIT: u16 = 14;
    /// User class: items with a length.
    pub const USER_CLASS: u16 = 15;
    /// Vendor class: enterprise number, items with a length.
    pub const VENDOR_CLASS: u16 = 16;
    /// The interface of a relay, which it wants back.
    pub const INTERFACE_ID: u16 = 18;
    /// Domain name servers (RFC 3646).
    pub const DNS: u16 = 23;
    /// Domain search list (RFC 3646).
    pub const DOMAIN_LIST: u16 = 24;
    /// Identity association for prefixes.
    pub const IA_PD: u16 = 25;
    /// Seconds after which the answer to an Information-request is old.
    pub const INFORMATION_REFRESH: u16 = 32;
    /// The line of a relay: enterprise number, identifier (RFC 4649).
    pub const REMOTE_ID: u16 = 37;
    /// Codes of the options that a relay wants back (RFC 4994).
    pub const ECHO_REQUEST: u16 = 43;
    /// Time servers, as sub-options (RFC 5908).
    pub const NTP: u16 = 56;
    /// URL of the boot file (RFC 5970 section 3.1).
    pub const BOOT_FILE_URL: u16 = 59;
    /// Parameters for the boot file (RFC 5970 section 3.2).
    pub const BOOT_FILE_PARAMETERS: u16 = 60;
    /// Client system architectures (RFC 5970 section 3.3).
    pub const CLIENT_ARCH: u16 = 61;
    /// The client's link-layer address, from its relay (RFC 6939).
    pub const CLIENT_LINK_LAYER: u16 = 79;
    /// The relay's UDP port is another than usual, and is where it wants the answer (RFC 8357).
    pub const RELAY_PORT: u16 = 135;
}

/// Status codes (RFC 8415 section 21.13).
pub mod status {
    /// It went well.
    pub const SUCCESS: u16 = 0;
    /// There is no address for the identity association.
    pub const NO_ADDRESSES: u16 = 2;
    /// The client has no such binding.
    pub const NO_BINDING: u16 = 3;
    /// The address does not belong to the client's link.
    pub const NOT_ON_LINK: u16 = 4;
    /// The client has to use multicast.
    pub const USE_MULTICAST: u16 = 5;
    /// There is no prefix for the identity association.
    pub const NO_PREFIX: u16 = 6;
}

/// Sub-option of option 56 with the address of one time server (RFC 5908 section 4.1).
const NTP_SERVER_ADDRESS: u16 = 1;

/// Options in their order. One code may stand several times: a client has several identity associations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(u16, Vec<u8>)>);

/// An identity association for addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IaNa {
    /// Its number, chosen by the client.
    pub id: [u8; 4],
    /// Seconds until the client renews; 0 leaves it to the client.
    pub t1: u32,
    /// Seconds until the client rebinds; 0 leaves it to the client.
    pub t2: u32,
    /// Addresses and status inside it.
    pub options: Options,
}

/// A status: code and text.
pub type Status<'a> = (u16, &'a str);

impl Options {
    /// Reads options to the end of `bytes`. One whose length passes the end is left out with all that follows.
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
            let [a, b, c, d] = *head;
            let length = usize::from(u16::from_be_bytes([c, d]));
            let Some((value, rest)) = rest.split_at_checked(length) else { break };
            options.add(u16::from_be_bytes([a, b]), value);
            bytes = rest;
        }
        options
    }

    /// Writes all options; one that is longer than its length can say is left out.
    pub fn encode(&self, into: &mut Vec<u8>) {
        for (code, value) in &self.0 {
            let Ok(length) = u16::try_from(value.len()) else { continue };
            into.extend(code.to_be_bytes());
            into.extend(length.to_be_bytes());
            into.extend(value);
        }
    }

    /// The raw value of the first option of a code.
    #[must_use]
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }

    /// The raw values of all options of a code.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(found, _)| *found == code).map(|(_, value)| value.as_slice())
    }

    /// Whether there is one, even with an empty value.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.get(code).is_some()
    }

    /// All options in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// Adds an option behind all others.
    pub fn add(&mut self, code: u16, value: impl Into<Vec<u8>>) {
        self.0.push((code, value.into()));
    }

    /// The codes that the client wants (option 6).
    pub fn requested(&self) -> impl Iterator<Item = u16> {
        numbers(self.get(code::REQUEST_LIST))
    }

    /// Whether the client wants an option.
    #[must_use]
    pub fn wants(&self, code: u16) -> bool {
        self.requested().any(|wanted| wanted == code)
    }

    /// The architectures of the client (option 61).
    pub fn architectures(&self) -> impl Iterator<Item = u16> {
        numbers(self.get(code::CLIENT_ARCH))
    }

    /// The identity associations for addresses; one that is cut off is left out.
    pub fn ia_na(&self) -> impl Iterator<Item = IaNa> {
        self.all(code::IA_NA).filter_map(IaNa::parse)
    }

    /// The items of the user class.
    pub fn user_classes(&self) -> impl Iterator<Item = &[u8]> {
        self.all(code::USER_CLASS).flat_map(items)
    }

    /// The items of all vendor classes, whatever their enterprise number.
    pub fn vendor_classes(&self) -> impl Iterator<Item = &[u8]> {
        self.all(code::VENDOR_CLASS).flat_map(|value| items(value.get(4..).unwrap_or_default()))
    }

    /// The remote identifier of a relay without its enterprise number.
    #[must_use]
    pub fn remote_id(&self) -> Option<&[u8]> {
        self.get(code::REMOTE_ID)?.get(4..)
    }

    /// Adds a list of addresses, unless it is empty.
    pub fn add_addresses(&mut self, code: u16, addresses: &[Ipv6Addr]) {
        if !addresses.is_empty() {
            let octets: Vec<u8> = addresses.iter().flat_map(Ipv6Addr::octets).collect();
            self.add(code, octets);
        }
    }

    /// Adds a list of domain names in the form of RFC 1035 section 3.1, unless none of them is a domain name; gives back
    /// those that are none.
    pub fn add_domains<'a>(&mut self, code: u16, domains: &'a [String]) -> Vec<&'a str> {
        let (mut value, mut refused) = (Vec::new(), Vec::new());
        for domain in domains {
            match domain_name(domain) {
                Some(name) => value.extend(name),
                None => refused.push(domain.as_str()),
            }
        }
        if !value.is_empty() {
            self.add(code, value);
        }
        refused
    }

    /// Adds time servers by their addresses, unless there are none (RFC 5908 section 4).
    pub fn add_time_servers(&mut self, servers: &[Ipv6Addr]) {
        let mut inner = Self::default();
        for server in servers {
            inner.add(NTP_SERVER_ADDRESS, server.octets());
        }
        if !servers.is_empty() {
            self.add_inner(code::NTP, &[], &inner);
        }
    }

    /// Adds a vendor class of one item (RFC 8415 section 21.16).
    pub fn add_vendor_class(&mut self, enterprise: u32, class: &str) {
        let mut value = enterprise.to_be_bytes().to_vec();
        value.extend(u16::try_from(class.len()).unwrap_or_default().to_be_bytes());
        value.extend(class.as_bytes());
        self.add(code::VENDOR_CLASS, value);
    }

    /// Adds a user class of one item (RFC 8415 section 21.15).
    pub fn add_user_class(&mut self, class: &str) {
        let mut value = u16::try_from(class.len()).unwrap_or_default().to_be_bytes().to_vec();
        value.extend(class.as_bytes());
        self.add(code::USER_CLASS, value);
    }

    /// Adds a list of option codes.
    pub fn add_codes(&mut self, code: u16, codes: &[u16]) {
        let value: Vec<u8> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        self.add(code, value);
    }

    /// Adds a status.
    pub fn add_status(&mut self, (code, text): Status<'_>) {
        let mut value = code.to_be_bytes().to_vec();
        value.extend(text.as_bytes());
        self.add(code::STATUS, value);
    }

    /// Adds an identity association.
    pub fn add_ia_na(&mut self, ia: &IaNa) {
        let head = [&ia.id[..], &ia.t1.to_be_bytes(), &ia.t2.to_be_bytes()].concat();
        self.add_inner(code::IA_NA, &head, &ia.options);
    }

    /// Adds an option that is a head and options.
    pub fn add_inner(&mut self, code: u16, head: &[u8], inner: &Self) {
        let mut value = head.to_vec();
        inner.encode(&mut value);
        self.add(code, value);
    }
}

impl IaNa {
    /// Reads the value of option 3.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (id, rest) = value.split_first_chunk::<4>()?;
        let (t1, rest) = rest.split_first_chunk::<4>()?;
        let (t2, rest) = rest.split_first_chunk::<4>()?;
        let (t1, t2) = (u32::from_be_bytes(*t1), u32::from_be_bytes(*t2));
        Some(Self { id: *id, t1, t2, options: Options::parse(rest) })
    }

    /// The addresses in it.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.options
            .all(code::IA_ADDRESS)
            .filter_map(|value| value.first_chunk::<16>().copied())
            .map(Ipv6Addr::from)
    }

    /// Adds an address with its preferred and its valid lifetime in seconds.
    pub fn add_address(&mut self, address: Ipv6Addr, (preferred, valid): (u32, u32)) {
        let value = [&address.octets()[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat();
        self.options.add(code::IA_ADDRESS, value);
    }
}

/// The status code among options; a message or an association without one went well.
#[must_use]
pub fn status_of(options: &Options) -> u16 {
    let code = options.get(code::STATUS).and_then(|value| value.first_chunk::<2>());
    code.map_or(status::SUCCESS, |code| u16::from_be_bytes(*code))
}

fn numbers(value: Option<&[u8]>) -> impl Iterator<Item = u16> {
    value.unwrap_or_default().as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

/// The items of a list with a length before each; what is cut off ends it.
fn items(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (item, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = tail;
        Some(item)
    })
}

/// A domain name as labels (RFC 1035 sections 2.3.4 and 3.1).
fn domain_name(domain: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    for label in domain.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !label.bytes().all(plain) {
            return None;
        }
        name.push(length);
        name.extend(label.as_bytes());
    }
    name.push(0);
    (name.len() <= 255).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_cut_off_hides_only_what_follows() {
        let options = Options::parse(&[0, 1, 0, 2, 7, 8, 0, 6, 0, 0, 0, 23, 0, 9, 1]);
        assert_eq!(options.iter().collect::<Vec<_>>(), [(1, &[7, 8][..]), (6, &[][..])]);
        assert!(options.contains(6) && !options.contains(23));
    }

    #[test]
    fn classes_are_items_with_their_length_in_bytes() {
        let mut options = Options::default();
        options.add_vendor_class(343, "HTTPClient");
        options.add_user_class("iPXE");
        assert_eq!(options.get(code::VENDOR_CLASS).unwrap(), b"\x00\x00\x01\x57\x00\x0aHTTPClient");
        assert_eq!(options.get(code::USER_CLASS).unwrap(), b"\x00\x04iPXE");
        assert_eq!(options.vendor_classes().collect::<Vec<_>>(), [b"HTTPClient"]);
        options.add(code::USER_CLASS, *b"\x00\x01a\x00\x09cut");
        assert_eq!(options.user_classes().collect::<Vec<_>>(), [&b"iPXE"[..], b"a"]);
        options.add(code::VENDOR_CLASS, [0, 0]);
        assert_eq!(options.vendor_classes().count(), 1);
    }

    #[test]
    fn an_association_reads_back_and_a_short_one_is_none() {
        let mut ia = IaNa { id: [1, 2, 3, 4], t1: 50, t2: 80, options: Options::default() };
        let address: Ipv6Addr = "2001:db8::11".parse().unwrap();
        ia.add_address(address, (50, 100));
        ia.options.add_status((status::SUCCESS, "ok"));
        let mut options = Options::default();
        options.add_ia_na(&ia);
        options.add(code::IA_NA, [1; 11]);
        let back: Vec<IaNa> = options.ia_na().collect();
        assert_eq!(back, [ia]);
        assert_eq!(back[0].addresses().collect::<Vec<_>>(), [address]);
        assert_eq!(status_of(&back[0].options), 0);
    }

    #[test]
    fn domains_are_labels_and_others_are_refused() {
        let mut options = Options::default();
        let long = "a".repeat(64);
        let all = ["lab.example", "x.", "a..b", "", &long, "a b"].map(str::to_owned);
        assert_eq!(options.add_domains(code::DOMAIN_LIST, &all), ["a..b", "", &long, "a b"]);
        assert_eq!(options.get(code::DOMAIN_LIST).unwrap(), b"\x03lab\x07example\x00\x01x\x00");
        let mut none = Options::default();
        none.add_domains(code::DOMAIN_LIST, &[]);
        none.add_time_servers(&[]);
        none.add_addresses(code::DNS, &[]);
        assert_eq!(none, Options::default(), "an empty list is no option");
    }

    #[test]
    fn time_servers_are_sub_options() {
        let mut options = Options::default();
        options.add_time_servers(&["2001:db8::1".parse().unwrap()]);
        assert_eq!(
            options.get(code::NTP).unwrap(),
            b"\x00\x01\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
        );
    }
}
