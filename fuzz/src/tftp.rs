// SPDX-License-Identifier: Apache-2.0
//! TFTP packets, what is granted to the options of a read request, and what a sender does with the ACKs of a stranger. The
//! first half of the input is the request, the second one are wire numbers of ACKs.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tftp::{Event, Limits, Negotiated, Output, Packet, Transfer, negotiate};

const SIZE: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(Packet::Read(request)) = Packet::parse(data) else { return };
    assert!(!request.name.is_empty());
    for limits in [Limits { block_size: 1468, window: 64 }, Limits { block_size: 8, window: 1 }] {
        let granted = negotiate(&request, SIZE, limits);
        let block_size = if request.option("blksize").is_some() { limits.block_size.max(512) } else { 512 };
        assert!((8..=block_size).contains(&granted.block_size), "{granted:?}");
        assert!((1..=limits.window).contains(&granted.window), "{granted:?}");
        if let Some(oack) = &granted.oack {
            assert!(oack.starts_with(&[0, 6]) && oack.ends_with(&[0]) && oack.len() < 128, "{oack:?}");
        }
        send(&granted, &data[data.len() / 2..]);
    }
});

/// Never a block that is not of the content, nor more than a window, whatever is acknowledged and however fast.
fn send(granted: &Negotiated, acks: &[u8]) {
    let mut now = Instant::now();
    let (longest, patience) = (Duration::from_secs(10), Duration::from_secs(50));
    let mut transfer = Transfer::new(granted, SIZE, longest, patience, now);
    let last = SIZE / u64::from(granted.block_size) + 1;
    let mut output = transfer.on(Event::Start, now);
    for ack in acks.chunks_exact(2) {
        match output {
            Output::Blocks(blocks) => {
                assert!(*blocks.start() >= 1 && *blocks.end() <= last, "{blocks:?} of {last}");
                assert!(blocks.end() - blocks.start() < u64::from(granted.window), "{blocks:?}");
            }
            Output::Finished(_) => return,
            Output::Oack | Output::Wait => {}
        }
        now += Duration::from_millis(u64::from(ack[1]));
        output = transfer.on(Event::Ack(u16::from_be_bytes([ack[0], ack[1]])), now);
    }
}
