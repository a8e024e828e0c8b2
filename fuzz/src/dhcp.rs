// SPDX-License-Identifier: Apache-2.0
//! DHCPv4 messages: what parses is read in full, and reads back the same after it was written.

#![no_main]

use dhcp::{
    IpxeFeatures, Message, MessageType, RelayInfo, UserClass, boot_item, code, netboot_client, quirks,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::parse(data) else { return };
    read(&message);
    let written = message.encode(usize::MAX).expect("without a limit everything fits");
    assert!(written.dropped.is_empty());
    assert_eq!(Message::parse(&written.bytes).as_ref(), Ok(&message));

    let limit = message.accepted_size();
    // An answer that repeats everything is more than any real one.
    let mut answer = Message::reply(&message, MessageType::Offer);
    for (option, value) in message.options.iter() {
        answer.options.set(option, value);
    }
    if let Ok(encoded) = answer.encode_for(&message) {
        assert!(encoded.bytes.len() <= limit, "{} bytes, {limit} accepted", encoded.bytes.len());
        let back = Message::parse(&encoded.bytes).expect("an answer of ours parses");
        for gone in encoded.dropped {
            assert!(answer.options.remove(gone).is_some(), "only what is there is left out");
        }
        assert_eq!(back, answer);
    }
});

/// Calls every accessor that a server calls on a stranger's message.
fn read(message: &Message) {
    let _ =
        (message.message_type(), message.mac(), message.wants_broadcast(), message.file(), message.sname());
    let _ = (UserClass::of(message).name(), IpxeFeatures::of(message));
    let _ = (RelayInfo::of(message), boot_item(message), quirks::effects(message).count());
    for (option, _) in message.options.iter() {
        let _ = (message.options.text(option), message.options.ip(option));
    }
    if let Ok(client) = netboot_client(message) {
        assert!(message.options.contains(code::CLIENT_ARCH));
        let _ = (client.arch.name(), client.kind.vendor_class());
    }
}
