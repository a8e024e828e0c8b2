// SPDX-License-Identifier: Apache-2.0
//! TFTP packets, and what is granted to the options of a read request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tftp::{Limits, Packet, negotiate};

fuzz_target!(|data: &[u8]| {
    let Ok(Packet::Read(request)) = Packet::parse(data) else { return };
    assert!(!request.name.is_empty());
    for limits in [Limits { block_size: 1468, window: 64 }, Limits { block_size: 8, window: 1 }] {
        let granted = negotiate(&request, 1 << 33, limits);
        let block_size = if request.option("blksize").is_some() { limits.block_size.max(512) } else { 512 };
        assert!((8..=block_size).contains(&granted.block_size), "{granted:?}");
        assert!((1..=limits.window).contains(&granted.window), "{granted:?}");
        if let Some(oack) = granted.oack {
            assert!(oack.starts_with(&[0, 6]) && oack.ends_with(&[0]) && oack.len() < 128, "{oack:?}");
        }
    }
});
