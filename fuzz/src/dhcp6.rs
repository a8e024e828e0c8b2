// SPDX-License-Identifier: Apache-2.0
//! DHCPv6 packets, relays included: what parses is read in full, reads back the same after it was written, and its answer
//! goes back through the relays that it came through.

#![no_main]

use dhcp::v6::{Duid, Message, MessageType, Options, Packet, code, eui64_mac, netboot_client, status_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = Packet::parse(data) else { return };
    assert_eq!(Packet::parse(&packet.encode()).as_ref(), Ok(&packet));
    read(&packet);

    let mut reply = Message::new(MessageType::Reply, packet.message.id);
    for ia in packet.message.options.ia_na() {
        reply.options.add_ia_na(&ia);
        let back = reply.options.ia_na().last();
        assert_eq!(back.as_ref(), Some(&ia));
    }
    let back = Packet::parse_reply(&packet.encode_reply(&reply)).expect("an answer of ours parses");
    assert_eq!(back.message, reply);
    assert_eq!(back.relays.len(), packet.relays.len());
    for (there, back) in packet.relays.iter().zip(&back.relays) {
        assert_eq!((there.link, there.peer, there.hops), (back.link, back.peer, back.hops));
        assert_eq!(there.options.get(code::INTERFACE_ID), back.options.get(code::INTERFACE_ID));
    }
});

/// Calls every accessor that a server calls on a stranger's packet.
fn read(packet: &Packet) {
    let _ = (packet.link(), packet.innermost().map(|relay| eui64_mac(relay.peer)));
    for relay in &packet.relays {
        let _ = relay.options.remote_id();
    }
    let options = &packet.message.options;
    let _ = (options.requested().count(), options.architectures().count(), status_of(options));
    let items = options.user_classes().chain(options.vendor_classes()).map(<[u8]>::len).sum::<usize>();
    assert!(items <= options.iter().map(|(_, value)| value.len()).sum());
    if let Some(duid) = options.get(code::CLIENT_ID).and_then(|id| Duid::new(id).ok()) {
        assert_eq!(duid.to_string().parse(), Ok(duid.clone()));
        let _ = duid.mac();
    }
    for ia in options.ia_na() {
        assert!(ia.addresses().count() <= ia.options.iter().count());
    }
    if let Some(client) = netboot_client(options) {
        assert!(options.wants(code::BOOT_FILE_URL));
        let _ = (client.arch.name(), client.kind.vendor_class(), client.user_class.name());
    }
    let _: Options = Options::parse(options.get(code::RELAY_MESSAGE).unwrap_or_default());
}
