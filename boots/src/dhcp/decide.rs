// SPDX-License-Identifier: Apache-2.0
//! Reservation mode: what a known interface is answered.
//!
//! Pure: packet, interface, configuration and boot session in, answer or the reason for silence out. Addresses are
//! reservations, so there is no lease to keep: a REQUEST is granted when it asks for the reserved address of this
//! server, refused when it asks for another one, and none of our business when it names another server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp::{
    Arch, ClientKind, Message, MessageType, NetbootClient, VendorOptions, code, is_raspberry_pi,
    netboot_client,
};

use super::bootfile;
use crate::config::{DhcpConfig, Urls};
use crate::machine::Nic;
use crate::session::BootSession;

/// Boot file of a client that may not boot.
const NOT_ALLOWED: &str = "/netboot-not-allowed";

/// What the decision needs beside packet and machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) dhcp: &'a DhcpConfig,
    pub(crate) urls: &'a Urls,
    pub(crate) programs: &'a BTreeMap<Arch, String>,
}

/// An answer, and what is worth telling about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) reply: Message,
    /// The network-boot client, if it is one.
    pub(crate) client: Option<NetbootClient>,
    /// The boot file that it was told.
    pub(crate) boot_file: Option<String>,
}

/// Why nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// `disableDhcp` is set.
    Disabled,
    /// The interface has no IPv4 reservation.
    NoAddress,
    /// The client chose another server.
    OtherServer,
    /// The client gives its address back.
    Released,
    /// The client found its address in use.
    Declined,
    /// Not a message of a client.
    NotForServers,
}

/// Decides the answer to one message of an interface.
pub(crate) fn decide(
    request: &Message,
    nic: &Nic,
    server: Server<'_>,
    session: Option<&BootSession>,
) -> Result<Answer, Silence> {
    if !nic.dhcp {
        return Err(Silence::Disabled);
    }
    let address = nic.lease.address.ok_or(Silence::NoAddress)?;
    match request.message_type() {
        Some(MessageType::Discover) => Ok(lease(MessageType::Offer, request, nic, server, session)),
        Some(MessageType::Request) => {
            let chosen = request.options.ip(code::SERVER_ID);
            if chosen.is_some_and(|chosen| chosen != server.dhcp.server) {
                return Err(Silence::OtherServer);
            }
            // SELECTING and INIT-REBOOT name the address in option 50, RENEWING and REBINDING in `ciaddr`
            // (RFC 2131 section 4.3.2). A client that names none takes what it is given.
            let held = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
            match request.options.ip(code::REQUESTED_IP).or(held) {
                Some(wanted) if wanted != address => Ok(refuse(request, server, wanted)),
                _ => Ok(lease(MessageType::Ack, request, nic, server, session)),
            }
        }
        Some(MessageType::Inform) => Ok(inform(request, nic, server)),
        Some(MessageType::Release) => Err(Silence::Released),
        Some(MessageType::Decline) => Err(Silence::Declined),
        _ => Err(Silence::NotForServers),
    }
}

/// OFFER or ACK.
fn lease(
    kind: MessageType,
    request: &Message,
    nic: &Nic,
    server: Server<'_>,
    session: Option<&BootSession>,
) -> Answer {
    let mut reply = Message::reply(request, kind);
    if kind == MessageType::Ack {
        reply.ciaddr = request.ciaddr;
    }
    reply.yiaddr = nic.lease.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    reply.options.set_u32(code::LEASE_TIME, nic.lease.seconds);
    describe_network(&mut reply, nic, server.dhcp);
    let (client, boot_file) = describe_boot(&mut reply, request, nic, server, session);
    Answer { reply, client, boot_file }
}

/// NAK: the client must begin anew (RFC 2131 table 3: nothing but the reason goes along).
fn refuse(request: &Message, server: Server<'_>, wanted: Ipv4Addr) -> Answer {
    let mut reply = Message::reply(request, MessageType::Nak);
    reply.options.set_ip(code::SERVER_ID, server.dhcp.server);
    reply.options.set_text(code::MESSAGE, &format!("{wanted} is not reserved for this interface"));
    if !request.giaddr.is_unspecified() {
        // The relay must broadcast it (RFC 2131 section 4.3.2).
        reply.set_broadcast(true);
    }
    Answer { reply, client: None, boot_file: None }
}

/// The answer to INFORM: options, but neither address nor lease (RFC 2131 section 4.3.5).
fn inform(request: &Message, nic: &Nic, server: Server<'_>) -> Answer {
    let mut reply = Message::reply(request, MessageType::Ack);
    reply.ciaddr = request.ciaddr;
    describe_network(&mut reply, nic, server.dhcp);
    Answer { reply, client: None, boot_file: None }
}

fn describe_network(reply: &mut Message, nic: &Nic, server: &DhcpConfig) {
    let lease = &nic.lease;
    reply.siaddr = server.server;
    let options = &mut reply.options;
    options.set_ip(code::SERVER_ID, server.server);
    for (option, ip) in [
        (code::SUBNET_MASK, lease.netmask),
        (code::BROADCAST, lease.broadcast()),
        (code::ROUTER, lease.gateway),
        (code::LOG_SERVER, server.syslog),
    ] {
        if let Some(ip) = ip {
            options.set_ip(option, ip);
        }
    }
    options.set_ips(code::DNS, &lease.name_servers);
    options.set_ips(code::NTP, &lease.time_servers);
    if let Some(hostname) = &lease.hostname {
        options.set_text(code::HOST_NAME, hostname);
    }
    if let Some(domain) = &lease.domain {
        options.set_text(code::DOMAIN_NAME, domain);
        let refused = options.set_domain_search(&[domain]);
        if !refused.is_empty() {
            tracing::debug!(mac = %nic.mac, domain, "not a domain name, no search list sent");
        }
    }
    options.set_routes(&lease.routes);
}

/// Adds boot data; returns who asked for it and the file that was named.
fn describe_boot(
    reply: &mut Message,
    request: &Message,
    nic: &Nic,
    server: Server<'_>,
    session: Option<&BootSession>,
) -> (Option<NetbootClient>, Option<String>) {
    let client = netboot_client(request).ok();
    if let Some((tftp_server, file)) = &nic.own_boot {
        reply.options.set_text(code::TFTP_SERVER_NAME, tftp_server);
        reply.options.set_text(code::BOOT_FILE_NAME, file);
        set_file(reply, file);
        return (client, Some(file.clone()));
    }
    let Some(client) = client.filter(|_| server.dhcp.netboot) else { return (None, None) };
    if client.kind == ClientKind::Http {
        reply.options.set_text(code::VENDOR_CLASS, client.kind.vendor_class());
    }
    reply.siaddr = Ipv4Addr::UNSPECIFIED;
    let program = bootfile::program(client.arch, server.programs).or(nic.boot.program.as_deref());
    let Some(program) = program.filter(|_| nic.boot.allowed) else {
        set_file(reply, NOT_ALLOWED);
        return (Some(client), None);
    };
    let chosen = bootfile::choose(&client, nic, program, server.urls, session);
    reply.siaddr = chosen.next_server.unwrap_or(server.dhcp.server);
    set_file(reply, &chosen.name);
    let raspberry_pi = is_raspberry_pi(nic.mac.octets());
    reply.options.set(code::VENDOR_SPECIFIC, VendorOptions { raspberry_pi }.encode());
    (Some(client), Some(chosen.name))
}

/// The boot file goes into the header; one that is too long for it into option 67, which clients prefer anyway.
fn set_file(reply: &mut Message, file: &str) {
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
        let server =
            Server { dhcp: config.dhcp.as_ref().unwrap(), urls: &config.urls, programs: &config.programs };
        decide(request, &nic(interface), server, None)
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
        assert_eq!(answer(&json!({}), &plain(MessageType::Release)), Err(Silence::Released));
        assert_eq!(answer(&json!({}), &plain(MessageType::Decline)), Err(Silence::Declined));
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
