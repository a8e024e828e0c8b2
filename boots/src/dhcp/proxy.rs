// SPDX-License-Identifier: Apache-2.0
//! What a network-boot client is told beside another DHCP server: everything but an address.
//!
//! For the modes `proxy` and `auto-proxy`, and in every mode for the PXE port, where a client asks the boot server that it
//! chose (PXE 2.1 section 2.2.3). Pure.

use dhcp::{Message, MessageType, VendorOptions, boot_item, code, netboot_client};

use super::bootfile;
use super::decide::{Answer, Asked, Server, Silence, has_menu, set_file};
use crate::boot::{Protocol, refuses};
use crate::machine::Nic;

/// Decides the answer to a client; one without a machine is a stranger that auto-proxy lets boot.
pub(crate) fn decide(asked: Asked<'_>, server: Server<'_>) -> Result<Answer, Silence> {
    let request = asked.request;
    let kind = match request.message_type() {
        Some(MessageType::Discover) => MessageType::Offer,
        Some(MessageType::Request) => MessageType::Ack,
        _ => return Err(Silence::NotForServers),
    };
    let client = netboot_client(request).ok().filter(|_| server.dhcp.netboot).ok_or(Silence::NotNetboot)?;
    let stranger;
    let nic = match asked.nic {
        Some(nic) if !nic.dhcp => return Err(Silence::Disabled),
        Some(nic) => nic,
        None => {
            stranger = Nic::stranger(asked.mac);
            &stranger
        }
    };
    let program = nic.boot.program.as_deref().or_else(|| bootfile::program(client.arch, server.programs));
    let program = program.ok_or(Silence::NoProgram)?;
    let chosen = bootfile::choose(&client, nic, program, server.urls, asked.session);
    let next_server = chosen.next_server.unwrap_or(server.address);

    let mut reply = Message::reply(request, kind);
    reply.siaddr = next_server;
    // An address is at most 15 bytes of the field's 63.
    reply.set_sname(&next_server.to_string()).unwrap_or_default();
    reply.options.set_ip(code::SERVER_ID, next_server);
    reply.options.set_text(code::VENDOR_CLASS, client.kind.vendor_class());
    // Of a client that sent none it is there too, without a value, as Tinkerbell has it.
    reply.options.set(code::CLIENT_UUID, request.options.get(code::CLIENT_UUID).unwrap_or_default());
    let vendor = VendorOptions {
        trace: false,
        raspberry_pi: has_menu(request),
        boot_item: boot_item(request),
        vlan: nic.boot.vlan_id(),
    };
    reply.options.set(code::VENDOR_SPECIFIC, vendor.encode());
    let boot_file = Some(chosen.name).filter(|_| !refuses(nic, Protocol::Dhcp));
    match &boot_file {
        Some(file) => set_file(&mut reply, file),
        None => set_file(&mut reply, &format!("/{}/netboot-not-allowed", nic.mac)),
    }
    Ok(Answer { reply, client: Some(client), boot_file, record: None, probe: None })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};

    use super::super::decide::{Port, decide as decide_all};
    use super::super::pool::Leases;
    use super::*;
    use crate::config::tests::config;
    use crate::machine::tests::nic;

    const OURS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);

    fn answer(
        flags: &[&str],
        interface: Option<&Value>,
        request: &Message,
        port: Port,
    ) -> Result<Answer, Silence> {
        let config = config(flags);
        let dhcp = config.dhcp.as_ref().unwrap();
        let nic = interface.map(nic);
        let mac = request.mac().unwrap().into();
        let asked = Asked { request, mac, port, nic: nic.as_ref(), session: None };
        let server =
            Server { dhcp, urls: &config.urls, programs: &config.programs, address: OURS, link: OURS };
        decide_all(asked, server, &mut Leases::new(&[]), |_| false, 0)
    }

    fn pxe(kind: MessageType) -> Message {
        let mut request = Message::request(kind, [0x52, 0x54, 0, 0, 0, 0x11], 7);
        request.options.set_text(code::VENDOR_CLASS, "PXEClient:Arch:00007:UNDI:003016");
        request.options.set(code::CLIENT_ARCH, [0, 7]);
        request.options.set(code::CLIENT_NDI, [1, 3, 16]);
        request.options.set(code::CLIENT_UUID, [0; 17]);
        request
    }

    const PROXY: &[&str] = &["--dhcp-mode=proxy"];
    const AUTO: &[&str] = &["--dhcp-mode=auto-proxy"];

    #[test]
    fn boot_data_without_an_address() {
        let answer = answer(PROXY, Some(&json!({})), &pxe(MessageType::Discover), Port::Server).unwrap();
        let reply = &answer.reply;
        assert_eq!(reply.message_type(), Some(MessageType::Offer));
        assert!(reply.yiaddr.is_unspecified());
        assert_eq!(
            (reply.siaddr, reply.sname().as_str(), reply.file().as_str()),
            (OURS, "172.31.0.1", "ipxe.efi")
        );
        let codes: Vec<u8> = reply.options.iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [43, 53, 54, 60, 97]);
        assert_eq!(reply.options.get(43).unwrap(), [6, 1, 8]);
        assert_eq!(reply.options.get(60).unwrap(), b"PXEClient");
    }

    #[test]
    fn only_network_boot_clients_that_are_known_or_welcome_are_answered() {
        let plain = Message::request(MessageType::Discover, [2; 6], 1);
        assert_eq!(answer(AUTO, None, &plain, Port::Server), Err(Silence::NotNetboot));
        let inform = pxe(MessageType::Inform);
        assert_eq!(answer(PROXY, Some(&json!({})), &inform, Port::Server), Err(Silence::NotForServers));
        let request = pxe(MessageType::Request);
        assert_eq!(answer(PROXY, None, &request, Port::Server), Err(Silence::Unknown));
        assert!(answer(AUTO, None, &request, Port::Server).is_ok());
        let off = json!({ "disableDhcp": true });
        assert_eq!(answer(AUTO, Some(&off), &request, Port::Server), Err(Silence::Disabled));
        let silent = ["--dhcp-mode=auto-proxy", "--dhcp-enable-netboot-options=false"];
        assert_eq!(answer(&silent, None, &request, Port::Server), Err(Silence::NotNetboot));
        let mut unknown_arch = pxe(MessageType::Request);
        unknown_arch.options.set(code::CLIENT_ARCH, [0, 12]);
        assert_eq!(answer(AUTO, None, &unknown_arch, Port::Server), Err(Silence::NoProgram));
        let own = json!({ "netboot": { "ipxe": { "binary": "ppc.elf" } } });
        assert_eq!(answer(AUTO, Some(&own), &unknown_arch, Port::Server).unwrap().reply.file(), "ppc.elf");
    }

    #[test]
    fn a_machine_that_may_not_boot_is_told_so() {
        let interface = json!({ "netboot": { "allowPXE": false } });
        let answer = answer(AUTO, Some(&interface), &pxe(MessageType::Discover), Port::Server).unwrap();
        assert_eq!(answer.reply.file(), "/52:54:00:00:00:11/netboot-not-allowed");
        assert_eq!(answer.boot_file, None);
    }

    #[test]
    fn the_machines_own_script_counts_here_too() {
        let mut request = pxe(MessageType::Discover);
        request.options.set_text(code::USER_CLASS, "Tinkerbell");
        let interface = json!({ "netboot": { "ipxe": { "url": "http://own/s" } } });
        assert_eq!(
            answer(PROXY, Some(&interface), &request, Port::Server).unwrap().reply.file(),
            "http://own/s"
        );
    }

    #[test]
    fn the_pxe_port_gives_boot_data_in_reservation_mode_too() {
        let mut request = pxe(MessageType::Request);
        request.ciaddr = Ipv4Addr::new(172, 31, 0, 11);
        request.options.set(code::VENDOR_SPECIFIC, *b"\x47\x04\x80\x00\x00\x00");
        let reply = answer(&[], Some(&json!({})), &request, Port::Pxe).unwrap().reply;
        assert_eq!(reply.message_type(), Some(MessageType::Ack));
        assert_eq!((reply.yiaddr, reply.options.contains(code::LEASE_TIME)), (Ipv4Addr::UNSPECIFIED, false));
        assert_eq!(reply.options.get(43).unwrap(), b"\x06\x01\x08\x47\x04\x80\x00\x00\x00");
        assert_eq!(answer(&[], None, &request, Port::Pxe), Err(Silence::Unknown));
    }
}
