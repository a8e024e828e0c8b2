// SPDX-License-Identifier: Apache-2.0
//! What a client is answered: the ways by mode and port, and reservation mode itself.
//!
//! Pure: packet, interface, configuration, boot session, leases and time in, answer or the reason for silence out. A
//! REQUEST is granted when it asks for the reserved address of this server, refused when it asks for another one, and none
//! of our business when it names another server. An interface without a reservation is a client of a pool, if there is one
//! for its network; beside another DHCP server (`proxy`) only boot data is given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::Mac;
use dhcp::quirks::{Effect, effects};
use dhcp::{Arch, Message, MessageType, NetbootClient, RelayInfo, VendorOptions, code, netboot_client};

use super::leases::Record;
use super::pool::{Grant, Leases, Wish};
use super::{bootfile, proxy};
use crate::boot::{Protocol, refuses};
use crate::config::{DhcpConfig, DhcpMode, Urls};
use crate::machine::{Lease, Nic};
use crate::session::BootSession;

/// Boot file of a client that may not boot.
const NOT_ALLOWED: &str = "/netboot-not-allowed";

/// Where a packet came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// 67, for all of DHCP.
    Server,
    /// 4011, where a PXE client asks the boot server that it chose.
    Pxe,
}

/// One message and what is known about its sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Message,
    pub(crate) mac: Mac,
    pub(crate) port: Port,
    /// The interface, if exactly one Hardware has it.
    pub(crate) nic: Option<&'a Nic>,
    pub(crate) session: Option<&'a BootSession>,
}

/// What the decision needs beside packet and machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) dhcp: &'a DhcpConfig,
    pub(crate) urls: &'a Urls,
    pub(crate) programs: &'a BTreeMap<Arch, String>,
    /// The address that this client knows us by.
    pub(crate) address: Ipv4Addr,
    /// An address of the network that the packet came in from.
    pub(crate) link: Ipv4Addr,
}

/// An answer, and what is worth telling about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) reply: Message,
    /// The network-boot client, if it is one.
    pub(crate) client: Option<NetbootClient>,
    /// The boot file that it was told.
    pub(crate) boot_file: Option<String>,
    /// What must be on the disk before it is sent.
    pub(crate) record: Option<Record>,
    /// The address that somebody may have unasked, which is to be found out before it is sent.
    pub(crate) probe: Option<Ipv4Addr>,
}

/// Why nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// `disableDhcp` is set.
    Disabled,
    /// The interface has no IPv4 reservation, and there is no pool for it.
    NoAddress,
    /// No Hardware has the MAC, and there is neither pool nor auto-proxy for it.
    Unknown,
    /// The pool has no address left.
    PoolEmpty,
    /// The client chose another server, or asks whoever knows it.
    OtherServer,
    /// The client gives its address back; the record is of a pool.
    Released(Option<Record>),
    /// The client found its address in use; the record is of a pool.
    Declined(Option<Record>),
    /// No network-boot client, where only these are answered.
    NotNetboot,
    /// There is no boot program for the client.
    NoProgram,
    /// The client asks for parameters without saying at which address it is.
    NoClientAddress,
    /// Not a message of a client.
    NotForServers,
}

impl Silence {
    /// Name in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoAddress => "no-address",
            Self::Unknown => "unknown-mac",
            Self::PoolEmpty => "pool-empty",
            Self::OtherServer => "other-server",
            Self::Released(_) => "released",
            Self::Declined(_) => "declined",
            Self::NotNetboot => "not-netboot",
            Self::NoProgram => "no-program",
            Self::NoClientAddress => "no-client-address",
            Self::NotForServers => "not-for-servers",
        }
    }
}

impl Server<'_> {
    /// Whether a server identifier is ours.
    fn is_us(&self, relay: &RelayInfo<'_>, chosen: Ipv4Addr) -> bool {
        chosen == self.address || chosen == self.dhcp.server.address() || Some(chosen) == relay.server
    }
}

/// Decides the answer to one message. `reserved` says which addresses are some Hardware's; `now` is in unix seconds.
pub(crate) fn decide(
    asked: Asked<'_>,
    server: Server<'_>,
    leases: &mut Leases,
    reserved: impl Fn(Ipv4Addr) -> bool,
    now: u64,
) -> Result<Answer, Silence> {
    let mode = server.dhcp.mode;
    if mode != DhcpMode::Reservation || asked.port == Port::Pxe {
        let welcome = asked.nic.is_some() || mode == DhcpMode::AutoProxy;
        return if welcome { proxy::decide(asked, server) } else { Err(Silence::Unknown) };
    }
    if asked.nic.is_some_and(|nic| !nic.dhcp) {
        return Err(Silence::Disabled);
    }
    match asked.nic {
        Some(nic) if nic.lease.address.is_some() => reservation(asked, nic, server),
        _ => pool(asked, server, leases, |address| address == server.address || reserved(address), now),
    }
}

/// An interface whose address is reserved.
fn reservation(asked: Asked<'_>, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let request = asked.request;
    let give = |kind| Ok(lease(kind, asked, nic, &nic.lease, server));
    match kind_for_us(request, server)? {
        MessageType::Discover => give(MessageType::Offer),
        MessageType::Request => match wish(request) {
            // A client that names no address takes what it is given.
            None => give(MessageType::Ack),
            Some(Wish::Offered(wanted) | Wish::Remembered(wanted) | Wish::Longer(wanted)) => {
                if nic.lease.address == Some(wanted) {
                    give(MessageType::Ack)
                } else {
                    Ok(refuse(request, server, &format!("{wanted} is not reserved for this interface")))
                }
            }
        },
        MessageType::Inform => inform(asked, nic, &nic.lease, server),
        MessageType::Release => Err(Silence::Released(None)),
        MessageType::Decline => Err(Silence::Declined(None)),
        _ => Err(Silence::NotForServers),
    }
}

/// A client without a reservation.
fn pool(
    asked: Asked<'_>,
    server: Server<'_>,
    leases: &mut Leases,
    reserved: impl Fn(Ipv4Addr) -> bool,
    now: u64,
) -> Result<Answer, Silence> {
    let (request, mac) = (asked.request, asked.mac);
    let nobody = if asked.nic.is_some() { Silence::NoAddress } else { Silence::Unknown };
    let (index, found) = leases.pool(link(request, server.link)).ok_or(nobody)?;
    let found = found.clone();
    let stranger = Nic { boot: Arc::default(), ..Nic::stranger(mac) };
    let nic = asked.nic.unwrap_or(&stranger);
    match kind_for_us(request, server)? {
        MessageType::Discover => {
            let wish = request.options.ip(code::REQUESTED_IP);
            let address = leases.offer(index, mac, wish, now, reserved).ok_or(Silence::PoolEmpty)?;
            let answer = lease(MessageType::Offer, asked, nic, &found.network(address), server);
            Ok(Answer { probe: Some(address).filter(|address| leases.is_new(*address)), ..answer })
        }
        MessageType::Request => {
            let wish = wish(request).ok_or(Silence::NoClientAddress)?;
            match leases.request(index, mac, wish, now, reserved) {
                Grant::Bound(record) => {
                    let answer = lease(MessageType::Ack, asked, nic, &found.network(record.address), server);
                    Ok(Answer { record: Some(record), ..answer })
                }
                Grant::Refused => Ok(refuse(request, server, "this address is not free for this client")),
                Grant::Unknown => Err(Silence::OtherServer),
            }
        }
        MessageType::Inform => inform(asked, nic, &found.network(request.ciaddr), server),
        MessageType::Release => Err(Silence::Released(leases.release(mac, request.ciaddr, now))),
        MessageType::Decline => {
            let declined = request.options.ip(code::REQUESTED_IP);
            Err(Silence::Declined(declined.and_then(|address| leases.decline(mac, address, now))))
        }
        _ => Err(Silence::NotForServers),
    }
}

/// The type of a message, unless it is for another server (RFC 2131 section 4.3.2: a client that chose names the server,
/// and so does one that gives an address back or declines it).
fn kind_for_us(request: &Message, server: Server<'_>) -> Result<MessageType, Silence> {
    let kind = request.message_type().ok_or(Silence::NotForServers)?;
    let named = request.options.ip(code::SERVER_ID).filter(|_| kind != MessageType::Discover);
    match named {
        Some(chosen) if !server.is_us(&RelayInfo::of(request), chosen) => Err(Silence::OtherServer),
        _ => Ok(kind),
    }
}

/// What a REQUEST asks for: SELECTING names the server, INIT-REBOOT only an address in option 50, RENEWING and REBINDING
/// have it in `ciaddr` (RFC 2131 section 4.3.2).
fn wish(request: &Message) -> Option<Wish> {
    let held = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
    let named = request.options.ip(code::REQUESTED_IP);
    if request.options.contains(code::SERVER_ID) {
        return named.or(held).map(Wish::Offered);
    }
    named.map(Wish::Remembered).or(held.map(Wish::Longer))
}

/// The network that a client is in: as the relay says, else that of the address that it has, else that of our own.
fn link(request: &Message, ours: Ipv4Addr) -> Ipv4Addr {
    let places = [RelayInfo::of(request).link, Some(request.giaddr), Some(request.ciaddr)];
    places.into_iter().flatten().find(|ip| !ip.is_unspecified()).unwrap_or(ours)
}

/// OFFER or ACK.
fn lease(kind: MessageType, asked: Asked<'_>, nic: &Nic, network: &Lease, server: Server<'_>) -> Answer {
    let request = asked.request;
    let mut reply = Message::reply(request, kind);
    if kind == MessageType::Ack {
        reply.ciaddr = request.ciaddr;
    }
    reply.yiaddr = network.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    reply.options.set_u32(code::LEASE_TIME, network.seconds);
    describe_network(&mut reply, request, network, server);
    let (client, boot_file) = describe_boot(&mut reply, asked, nic, server);
    Answer { reply, client, boot_file, record: None, probe: None }
}

/// NAK: the client must begin anew (RFC 2131 table 3: nothing but the reason goes along).
fn refuse(request: &Message, server: Server<'_>, reason: &str) -> Answer {
    let mut reply = Message::reply(request, MessageType::Nak);
    set_server(&mut reply, request, server);
    reply.options.set_text(code::MESSAGE, reason);
    if !request.giaddr.is_unspecified() {
        // The relay must broadcast it (RFC 2131 section 4.3.2).
        reply.set_broadcast(true);
    }
    Answer { reply, client: None, boot_file: None, record: None, probe: None }
}

/// The answer to INFORM: options, but neither address nor lease (RFC 2131 section 4.3.5).
fn inform(asked: Asked<'_>, nic: &Nic, network: &Lease, server: Server<'_>) -> Result<Answer, Silence> {
    let request = asked.request;
    if request.ciaddr.is_unspecified() {
        return Err(Silence::NoClientAddress);
    }
    let mut reply = Message::reply(request, MessageType::Ack);
    reply.ciaddr = request.ciaddr;
    describe_network(&mut reply, request, network, server);
    set_own_boot(&mut reply, nic);
    Ok(Answer { reply, client: None, boot_file: None, record: None, probe: None })
}

/// The server identifier: the relay's own where it asks for that (RFC 5107 section 4).
fn set_server(reply: &mut Message, request: &Message, server: Server<'_>) {
    let relay = RelayInfo::of(request).server.filter(|ip| !ip.is_unspecified());
    reply.options.set_ip(code::SERVER_ID, relay.unwrap_or(server.address));
}

fn describe_network(reply: &mut Message, request: &Message, network: &Lease, server: Server<'_>) {
    reply.siaddr = server.address;
    set_server(reply, request, server);
    let options = &mut reply.options;
    for (option, ip) in [
        (code::SUBNET_MASK, network.netmask),
        (code::BROADCAST, network.broadcast()),
        (code::ROUTER, network.gateway),
        (code::LOG_SERVER, server.dhcp.syslog),
    ] {
        if let Some(ip) = ip {
            options.set_ip(option, ip);
        }
    }
    options.set_ips(code::DNS, &network.name_servers);
    options.set_ips(code::NTP, &network.time_servers);
    if let Some(hostname) = &network.hostname {
        options.set_text(code::HOST_NAME, hostname);
    }
    if let Some(domain) = &network.domain {
        options.set_text(code::DOMAIN_NAME, domain);
        let refused = options.set_domain_search(&[domain]);
        if !refused.is_empty() {
            tracing::debug!(domain, "not a domain name, no search list sent");
        }
    }
    options.set_routes(&network.routes);
}

/// Adds boot data; returns who asked for it and the file that was named.
fn describe_boot(
    reply: &mut Message,
    asked: Asked<'_>,
    nic: &Nic,
    server: Server<'_>,
) -> (Option<NetbootClient>, Option<String>) {
    let request = asked.request;
    let client = netboot_client(request).ok();
    if let Some(file) = set_own_boot(reply, nic) {
        return (client, Some(file));
    }
    let Some(client) = client.filter(|_| server.dhcp.netboot) else { return (None, None) };
    if effects(request).any(|effect| effect == Effect::RepeatClass) {
        reply.options.set_text(code::VENDOR_CLASS, client.kind.vendor_class());
    }
    if let Some(uuid) = request.options.get(code::CLIENT_UUID) {
        reply.options.set(code::CLIENT_UUID, uuid);
    }
    reply.siaddr = Ipv4Addr::UNSPECIFIED;
    let program = nic.boot.program.as_deref().or_else(|| bootfile::program(client.arch, server.programs));
    let Some(program) = program.filter(|_| !refuses(nic, Protocol::Dhcp)) else {
        set_file(reply, NOT_ALLOWED);
        return (Some(client), None);
    };
    let chosen = bootfile::choose(&client, nic, program, server.urls, asked.session);
    reply.siaddr = chosen.next_server.unwrap_or(server.address);
    set_file(reply, &chosen.name);
    let vendor = VendorOptions {
        trace: true,
        raspberry_pi: has_menu(request),
        boot_item: None,
        vlan: nic.boot.vlan_id(),
    };
    reply.options.set(code::VENDOR_SPECIFIC, vendor.encode());
    (Some(client), Some(chosen.name))
}

/// Adds the options 66 and 67 that the machine has of its own; returns the file.
fn set_own_boot(reply: &mut Message, nic: &Nic) -> Option<String> {
    let (tftp_server, file) = nic.own_boot.as_ref()?;
    for (option, text) in [(code::TFTP_SERVER_NAME, tftp_server), (code::BOOT_FILE_NAME, file)] {
        if !text.is_empty() {
            reply.options.set_text(option, text);
        }
    }
    set_file(reply, file);
    Some(file.clone())
}

/// Whether the client looks for the boot menu of a Raspberry Pi.
pub(crate) fn has_menu(request: &Message) -> bool {
    effects(request).any(|effect| effect == Effect::RaspberryPiMenu)
}

/// The boot file goes into the header; one that is too long for it into option 67, which clients prefer anyway.
pub(crate) fn set_file(reply: &mut Message, file: &str) {
    if reply.set_file(file).is_err() {
        reply.options.set_text(code::BOOT_FILE_NAME, file);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::config::tests::config;
    use crate::machine::tests::nic;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];
    const OURS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
    const RESERVED: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);
    const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 99);

    fn answer_with(config: &Config, interface: &Value, request: &Message) -> Result<Answer, Silence> {
        let dhcp = config.dhcp.as_ref().unwrap();
        let server =
            Server { dhcp, urls: &config.urls, programs: &config.programs, address: OURS, link: OURS };
        let nic = nic(interface);
        let asked = Asked { request, mac: nic.mac, port: Port::Server, nic: Some(&nic), session: None };
        decide(asked, server, &mut Leases::new(&[]), |_| false, 0)
    }

    fn answer(interface: &Value, request: &Message) -> Result<Answer, Silence> {
        answer_with(&config(&[]), interface, request)
    }

    fn plain(kind: MessageType) -> Message {
        Message::request(kind, MAC, 7)
    }

    fn pxe(kind: MessageType, class: &str, arch: u16) -> Message {
        let mut request = plain(kind);
        request.options.set_text(code::VENDOR_CLASS, class);
        request.options.set(code::CLIENT_ARCH, arch.to_be_bytes());
        request.options.set(code::CLIENT_NDI, [1, 3, 16]);
        request
    }

    fn kind(answer: &Answer) -> MessageType {
        answer.reply.message_type().unwrap()
    }

    #[test]
    fn a_request_is_granted_refused_or_left_to_others() {
        let request = |server: Option<Ipv4Addr>, wanted: Option<Ipv4Addr>, held: Option<Ipv4Addr>| {
            let mut request = plain(MessageType::Request);
            server.into_iter().for_each(|ip| request.options.set_ip(code::SERVER_ID, ip));
            wanted.into_iter().for_each(|ip| request.options.set_ip(code::REQUESTED_IP, ip));
            request.ciaddr = held.unwrap_or(Ipv4Addr::UNSPECIFIED);
            answer(&json!({}), &request).map(|answer| kind(&answer))
        };
        use MessageType::{Ack, Nak};
        assert_eq!(request(Some(OURS), Some(RESERVED), None), Ok(Ack), "selecting");
        assert_eq!(request(Some(OURS), Some(OTHER), None), Ok(Nak));
        assert_eq!(request(Some(OTHER), Some(OTHER), None), Err(Silence::OtherServer));
        assert_eq!(request(None, Some(RESERVED), None), Ok(Ack), "init-reboot");
        assert_eq!(request(None, Some(OTHER), None), Ok(Nak));
        assert_eq!(request(None, None, Some(RESERVED)), Ok(Ack), "renewing");
        assert_eq!(request(None, None, Some(OTHER)), Ok(Nak));
        assert_eq!(request(None, None, None), Ok(Ack), "a client that names nothing");
    }

    #[test]
    fn a_refusal_says_why_and_nothing_else() {
        let mut request = plain(MessageType::Request);
        request.options.set_ip(code::REQUESTED_IP, OTHER);
        request.giaddr = Ipv4Addr::new(10, 0, 0, 1);
        let reply = answer(&json!({}), &request).unwrap().reply;
        assert_eq!((reply.yiaddr, reply.siaddr), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED));
        assert!(reply.wants_broadcast());
        let codes: Vec<u8> = reply.options.iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [53, 54, 56]);
    }

    #[test]
    fn others_are_silence() {
        assert_eq!(answer(&json!({}), &plain(MessageType::Release)), Err(Silence::Released(None)));
        assert_eq!(answer(&json!({}), &plain(MessageType::Decline)), Err(Silence::Declined(None)));
        assert_eq!(answer(&json!({}), &plain(MessageType::Offer)), Err(Silence::NotForServers));
        let discover = plain(MessageType::Discover);
        assert_eq!(answer(&json!({ "disableDhcp": true }), &discover), Err(Silence::Disabled));
        assert_eq!(answer(&json!({ "dhcp": { "ip": null } }), &discover), Err(Silence::NoAddress));
    }

    #[test]
    fn the_network_is_described_in_full() {
        let interface = json!({ "dhcp": {
            "domain_name": "lab.example",
            "name_servers": ["1.1.1.1", "8.8.8.8"],
            "time_servers": ["10.0.0.7"],
            "lease_time": 86400,
            "classless_static_routes": [{ "destination_descriptor": "10.0.0.0/8", "router": "172.31.0.9" }],
        }});
        let answer = answer(&interface, &plain(MessageType::Discover)).unwrap();
        let reply = &answer.reply;
        assert_eq!((kind(&answer), reply.yiaddr, reply.siaddr), (MessageType::Offer, RESERVED, OURS));
        let options: Vec<(u8, Vec<u8>)> = reply.options.iter().map(|(code, v)| (code, v.to_vec())).collect();
        assert_eq!(
            options,
            [
                (1, vec![255, 255, 255, 0]),
                (3, vec![172, 31, 0, 1]),
                (6, vec![1, 1, 1, 1, 8, 8, 8, 8]),
                (7, vec![172, 31, 0, 1]),
                (12, b"m1".to_vec()),
                (15, b"lab.example".to_vec()),
                (28, vec![172, 31, 0, 255]),
                (42, vec![10, 0, 0, 7]),
                (51, 86400u32.to_be_bytes().to_vec()),
                (53, vec![2]),
                (54, vec![172, 31, 0, 1]),
                (119, b"\x03lab\x07example\x00".to_vec()),
                (121, vec![8, 10, 172, 31, 0, 9]),
            ]
        );
        assert_eq!((reply.file(), answer.client), (String::new(), None));
    }

    #[test]
    fn inform_is_answered_without_an_address() {
        let mut request = plain(MessageType::Inform);
        request.ciaddr = OTHER;
        let reply = answer(&json!({}), &request).unwrap().reply;
        assert_eq!((reply.yiaddr, reply.ciaddr), (Ipv4Addr::UNSPECIFIED, OTHER));
        assert!(!reply.options.contains(code::LEASE_TIME) && reply.options.contains(code::SUBNET_MASK));
    }

    #[test]
    fn upstreams_vector_for_http_boot() {
        let mut request = pxe(MessageType::Discover, "HTTPClient:Arch:xxxxx:UNDI:yyyzzz", 16);
        request.options.set_text(code::USER_CLASS, "Tinkerbell");
        let interface = json!({ "netboot": { "ipxe": { "url": "http://localhost:8181/auto.ipxe" } } });
        let reply = answer(&interface, &request).unwrap().reply;
        assert_eq!(reply.file(), "http://localhost:8181/auto.ipxe");
        assert_eq!(reply.siaddr, OURS);
        assert_eq!(reply.options.get(code::VENDOR_CLASS).unwrap(), b"HTTPClient");
        let mut expected = vec![6, 1, 8, 0x45, 0x1a];
        expected.extend([0; 26]);
        assert_eq!(reply.options.get(code::VENDOR_SPECIFIC).unwrap(), expected);
    }

    #[test]
    fn firmware_gets_a_bare_name_and_the_next_server() {
        let config = config(&["--dhcp-tftp-ip=172.31.0.2"]);
        let answer =
            answer_with(&config, &json!({}), &pxe(MessageType::Request, "PXEClient:Arch:00000", 0)).unwrap();
        assert_eq!(answer.reply.file(), "undionly.kpxe");
        assert_eq!(answer.reply.siaddr, Ipv4Addr::new(172, 31, 0, 2));
        assert!(!answer.reply.options.contains(code::VENDOR_CLASS));
        assert_eq!(answer.boot_file.as_deref(), Some("undionly.kpxe"));
    }

    #[test]
    fn a_client_that_may_not_boot_is_told_so_and_keeps_its_lease() {
        for (interface, class, arch) in [
            (json!({ "netboot": { "allowPXE": false } }), "PXEClient", 7),
            (json!({ "netboot": null }), "HTTPClient", 16),
            (json!({}), "PXEClient", 12),
        ] {
            let answer = answer(&interface, &pxe(MessageType::Discover, class, arch)).unwrap();
            let reply = &answer.reply;
            assert_eq!(
                (reply.file().as_str(), reply.siaddr),
                ("/netboot-not-allowed", Ipv4Addr::UNSPECIFIED)
            );
            assert_eq!(reply.yiaddr, RESERVED);
            assert!(!reply.options.contains(code::VENDOR_SPECIFIC));
            assert_eq!(reply.options.contains(code::VENDOR_CLASS), class == "HTTPClient");
            assert_eq!(answer.boot_file, None);
        }
    }

    #[test]
    fn boot_data_of_the_machine_itself_replaces_ours() {
        let interface = json!({ "dhcp": { "tftp_server_name": "10.0.0.8", "boot_file_name": "own.0" } });
        let reply = answer(&interface, &pxe(MessageType::Discover, "PXEClient", 7)).unwrap().reply;
        assert_eq!(reply.options.get(code::TFTP_SERVER_NAME).unwrap(), b"10.0.0.8");
        assert_eq!(reply.options.get(code::BOOT_FILE_NAME).unwrap(), b"own.0");
        assert_eq!(reply.file(), "own.0");
        assert!(!reply.options.contains(code::VENDOR_SPECIFIC));
    }

    #[test]
    fn boot_data_can_be_switched_off() {
        let config = config(&["--dhcp-enable-netboot-options=false"]);
        let reply =
            answer_with(&config, &json!({}), &pxe(MessageType::Discover, "HTTPClient", 16)).unwrap().reply;
        assert_eq!(reply.file(), "");
        assert!(!reply.options.contains(code::VENDOR_CLASS));
    }

    #[test]
    fn a_long_url_moves_to_option_67() {
        let url = format!("http://h/{}", "x".repeat(200));
        let mut request = pxe(MessageType::Discover, "PXEClient", 7);
        request.options.set_text(code::USER_CLASS, "Tinkerbell");
        let reply = answer(&json!({ "netboot": { "ipxe": { "url": url } } }), &request).unwrap().reply;
        assert_eq!(reply.file(), "");
        assert_eq!(reply.options.get(code::BOOT_FILE_NAME).unwrap(), url.as_bytes());
    }
}
