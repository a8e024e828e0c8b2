// SPDX-License-Identifier: Apache-2.0
//! What a DHCPv6 client is answered (RFC 8415 section 18.3), by message and mode.
//!
//! Pure: packet, interface and configuration in, answer or the reason for silence out. Options go only to who asks for them.
//! A client that may boot and asks for a boot-file URL of which there is none is not answered at all, so that another server can.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use api::Mac;
use dhcp::quirks::{Effect, effects6};
use dhcp::v6::{
    HTTP_CLASS, INTEL, Message, MessageType, Packet, boot_file_size, code, netboot_client, status,
};
use dhcp::{Arch, ClientKind, NetbootClient, UserClass};
use ipnet::Ipv6Net;

use super::give::{Associations, address};
use crate::boot::{Protocol, refuses};
use crate::config::{Dhcp6Config, Dhcp6Mode};
use crate::dhcp::bootfile;
use crate::machine::Nic;

/// Seconds after which the answer to an Information-request is asked for anew.
const REFRESH: u32 = 4 * 3600;
/// Last element of the URL of a client that may not boot.
const NOT_ALLOWED: &str = "netboot-not-allowed";

/// One message and what is known about its sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) packet: &'a Packet,
    pub(crate) mac: Mac,
    /// The interface, if exactly one Hardware has it.
    pub(crate) nic: Option<&'a Nic>,
    /// Whether it was sent to an address of ours alone.
    pub(crate) unicast: bool,
}

/// What the decision needs beside packet and machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) dhcp: &'a Dhcp6Config,
    pub(crate) programs: &'a BTreeMap<Arch, String>,
    /// Bytes of the boot programs.
    pub(crate) sizes: &'a BTreeMap<String, u64>,
    /// Prefixes of the link that the packet came in from.
    pub(crate) on_link: &'a [Ipv6Net],
}

/// An answer, and what is worth telling about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) reply: Message,
    /// The network-boot client, if it is one.
    pub(crate) client: Option<NetbootClient>,
    /// The boot file that it was told.
    pub(crate) boot_file: Option<String>,
    /// The address that was given, or taken back.
    pub(crate) address: Option<Ipv6Addr>,
}

/// Why nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// `disableDhcp` is set.
    Disabled,
    /// No Hardware has the machine, and there is no auto-stateless for it.
    Unknown,
    /// The mode gives no addresses.
    Stateless,
    /// The interface has no address.
    NoAddress,
    /// The message has no identity association for addresses, or too many.
    NoAssociation,
    /// Identifiers are missing, or there where they must not be (RFC 8415 section 16).
    Identifiers,
    /// The client chose another server.
    OtherServer,
    /// It was sent to this server alone, which it must not be (RFC 8415 section 16).
    Unicast,
    /// The client asks whether its addresses fit a link that is not known.
    UnknownLink,
    /// There is no boot program for the client.
    NoProgram,
    /// Not a message of a client.
    NotForServers,
}

impl Silence {
    /// Name in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Unknown => "unknown-mac",
            Self::Stateless => "stateless",
            Self::NoAddress => "no-address",
            Self::NoAssociation => "no-association",
            Self::Identifiers => "identifiers",
            Self::OtherServer => "other-server",
            Self::Unicast => "unicast",
            Self::UnknownLink => "unknown-link",
            Self::NoProgram => "no-program",
            Self::NotForServers => "not-for-servers",
        }
    }
}

/// Decides the answer to one message.
pub(crate) fn decide(asked: Asked<'_>, server: Server<'_>) -> Result<Answer, Silence> {
    let request = &asked.packet.message;
    check_identifiers(request, server)?;
    let stranger;
    let nic = match asked.nic {
        Some(nic) if !nic.dhcp => return Err(Silence::Disabled),
        Some(nic) => nic,
        None if server.dhcp.mode == Dhcp6Mode::AutoStateless => {
            stranger = Nic::stranger(asked.mac);
            &stranger
        }
        None => return Err(Silence::Unknown),
    };
    if request.kind != MessageType::InformationRequest && !server.dhcp.mode.gives_addresses() {
        return Err(Silence::Stateless);
    }
    if asked.unicast && asked.packet.relays.is_empty() {
        return not_by_unicast(request, server);
    }
    match request.kind {
        MessageType::InformationRequest => information(request, nic, server),
        MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind => {
            lease(asked.packet, nic, server)
        }
        MessageType::Release | MessageType::Decline => take_back(asked.packet, nic, server),
        MessageType::Confirm => confirm(asked.packet, nic, server),
        MessageType::Advertise | MessageType::Reply | MessageType::Reconfigure => Err(Silence::NotForServers),
    }
}

/// Which identifiers a message must have and must not have (RFC 8415 sections 16.2 to 16.12).
fn check_identifiers(request: &Message, server: Server<'_>) -> Result<(), Silence> {
    use MessageType::{Confirm, Decline, InformationRequest, Rebind, Release, Renew, Request, Solicit};
    let ours = request.options.get(code::SERVER_ID).map(|id| id == server.dhcp.duid.as_bytes());
    let client = super::client::duid(request).is_some();
    match (request.kind, client, ours) {
        (Solicit | Confirm | Rebind, true, None)
        | (Request | Renew | Release | Decline, true, Some(true)) => Ok(()),
        (InformationRequest, _, None | Some(true)) => {
            // A client that wants addresses asks otherwise.
            if request.options.contains(code::IA_NA) { Err(Silence::Identifiers) } else { Ok(()) }
        }
        (_, _, Some(false)) => Err(Silence::OtherServer),
        (MessageType::Advertise | MessageType::Reply | MessageType::Reconfigure, ..) => {
            Err(Silence::NotForServers)
        }
        _ => Err(Silence::Identifiers),
    }
}

/// A message that came by unicast, which this server never allows (RFC 8415 sections 16 and 18.3).
fn not_by_unicast(request: &Message, server: Server<'_>) -> Result<Answer, Silence> {
    use MessageType::{Decline, Release, Renew, Request};
    if !matches!(request.kind, Request | Renew | Release | Decline) {
        return Err(Silence::Unicast);
    }
    let mut reply = begin(request, MessageType::Reply, server);
    reply.options.add_status((status::USE_MULTICAST, "use multicast"));
    Ok(plain(reply))
}

/// Options without an address (RFC 8415 section 18.3.6).
fn information(request: &Message, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let mut reply = begin(request, MessageType::Reply, server);
    if request.options.wants(code::INFORMATION_REFRESH) {
        reply.options.add(code::INFORMATION_REFRESH, REFRESH.to_be_bytes());
    }
    describe(reply, request, nic, server)
}

/// An address (RFC 8415 sections 18.3.1, 18.3.2, 18.3.4 and 18.3.5).
fn lease(packet: &Packet, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let request = &packet.message;
    let associations = Associations::of(request).ok_or(Silence::NoAssociation)?;
    let address = address(nic, packet, server.dhcp).ok_or(Silence::NoAddress)?;
    let rapid = request.kind == MessageType::Solicit && request.options.contains(code::RAPID_COMMIT);
    let kind = match request.kind {
        MessageType::Solicit if !rapid => MessageType::Advertise,
        _ => MessageType::Reply,
    };
    let mut reply = begin(request, kind, server);
    if rapid {
        reply.options.add(code::RAPID_COMMIT, []);
    }
    let given = associations.grant(request.kind, address, nic.lease.seconds, &mut reply.options);
    let answer = describe(reply, request, nic, server)?;
    Ok(Answer { address: given.then_some(address), ..answer })
}

/// Release and Decline (RFC 8415 sections 18.3.7 and 18.3.8). A reservation stays what it is.
fn take_back(packet: &Packet, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let request = &packet.message;
    let associations = Associations::of(request).ok_or(Silence::NoAssociation)?;
    let address = address(nic, packet, server.dhcp);
    let mut reply = begin(request, MessageType::Reply, server);
    reply.options.add_status((status::SUCCESS, ""));
    let had = associations.take_back(address, &mut reply.options);
    Ok(Answer { address: address.filter(|_| had), ..plain(reply) })
}

/// Whether the addresses of a client fit its link (RFC 8415 section 18.3.3).
fn confirm(packet: &Packet, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let request = &packet.message;
    let associations = Associations::of(request).ok_or(Silence::NoAssociation)?;
    let own = address(nic, packet, server.dhcp);
    let fits = |named: Ipv6Addr| own == Some(named) || server.on_link.iter().any(|net| net.contains(&named));
    let mut named = associations.named().peekable();
    if named.peek().is_none() {
        return Err(Silence::NoAssociation);
    }
    let (code, text) = match named.all(fits) {
        true => (status::SUCCESS, ""),
        false if server.on_link.is_empty() => return Err(Silence::UnknownLink),
        false => (status::NOT_ON_LINK, "an address is not of this link"),
    };
    let mut reply = begin(request, MessageType::Reply, server);
    reply.options.add_status((code, text));
    Ok(plain(reply))
}

/// An answer with the identifiers that every answer has.
fn begin(request: &Message, kind: MessageType, server: Server<'_>) -> Message {
    let mut reply = Message::new(kind, request.id);
    if let Some(client) = request.options.get(code::CLIENT_ID) {
        reply.options.add(code::CLIENT_ID, client);
    }
    reply.options.add(code::SERVER_ID, server.dhcp.duid.as_bytes());
    reply
}

fn plain(reply: Message) -> Answer {
    Answer { reply, client: None, boot_file: None, address: None }
}

/// Adds what the client wants to know of its network and of its boot.
fn describe(mut reply: Message, request: &Message, nic: &Nic, server: Server<'_>) -> Result<Answer, Silence> {
    let dhcp = server.dhcp;
    let client = netboot_client(&request.options).filter(|_| dhcp.netboot);
    let options = &mut reply.options;
    if request.options.wants(code::DNS) {
        let own = &nic.lease6.name_servers;
        let all = if own.is_empty() { &dhcp.name_servers } else { own };
        let one = client.iter().flat_map(effects6).any(|effect| effect == Effect::OneNameServer);
        options.add_addresses(code::DNS, all.get(..1).filter(|_| one).unwrap_or(all));
    }
    if request.options.wants(code::DOMAIN_LIST) {
        let own: Vec<String> = nic.lease.domain.iter().cloned().collect();
        let refused =
            options.add_domains(code::DOMAIN_LIST, if own.is_empty() { &dhcp.search } else { &own });
        if !refused.is_empty() {
            tracing::debug!(?refused, "no domain names, not in the search list");
        }
    }
    if request.options.wants(code::NTP) {
        options.add_time_servers(&nic.lease6.time_servers);
    }
    let Some(client) = client else { return Ok(plain(reply)) };
    let boot_file = describe_boot(&mut reply, request, &client, (nic, server))?;
    Ok(Answer { reply, client: Some(client), boot_file, address: None })
}

/// Adds boot data; returns the file that was named.
fn describe_boot(
    reply: &mut Message,
    request: &Message,
    client: &NetbootClient,
    (nic, server): (&Nic, Server<'_>),
) -> Result<Option<String>, Silence> {
    let urls = &server.dhcp.urls;
    let program = nic.boot.program.as_deref().or_else(|| bootfile::program(client.arch, server.programs));
    let url = match refuses(nic, Protocol::Dhcp) {
        true => None,
        false => Some(bootfile::choose6(client, nic, program, urls).ok_or(Silence::NoProgram)?),
    };
    let options = &mut reply.options;
    match &url {
        Some(url) => options.add(code::BOOT_FILE_URL, url.as_bytes()),
        None => {
            let script = urls.script(nic.mac);
            let directory = script.rsplit_once('/').map_or("", |(directory, _)| directory);
            options.add(code::BOOT_FILE_URL, format!("{directory}/{NOT_ALLOWED}").into_bytes());
        }
    }
    let loads = (client.user_class, client.kind) == (UserClass::Firmware, ClientKind::Pxe) && url.is_some();
    let size = program.filter(|_| loads).and_then(|program| server.sizes.get(program));
    if let Some(size) = size.and_then(|size| boot_file_size(*size))
        && request.options.wants(code::BOOT_FILE_PARAMETERS)
    {
        options.add(code::BOOT_FILE_PARAMETERS, size);
    }
    if request.options.architectures().any(|arch| arch == client.arch.0) {
        options.add(code::CLIENT_ARCH, client.arch.0.to_be_bytes());
    }
    if client.kind == ClientKind::Http {
        options.add_vendor_class(INTEL, HTTP_CLASS);
    }
    Ok(url)
}
