// SPDX-License-Identifier: Apache-2.0
//! Range headers, and what they give of a patched image. The first line is the header, the rest the image.

#![no_main]

use boots::decoders::{Asked, Patch, Scanner};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

const MARKER: &[u8] = b"abac";
/// Bytes that the image comes in at a time.
const PIECE: usize = 7;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, image) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(header) = HeaderValue::from_bytes(line) else { return };

    let mut scanner = Scanner::new(MARKER);
    for piece in image.chunks(PIECE) {
        if scanner.push(piece).is_err() {
            return;
        }
        assert!(scanner.settled() <= image.len() as u64);
    }
    let patch = Patch::new("XY", MARKER.len()).expect("it fits");
    let mut whole = image.to_vec();
    patch.apply(scanner.found(), 0, &mut whole);
    assert!(!whole.windows(MARKER.len()).any(|window| window == MARKER) || patch.bytes() == MARKER);
    let markers = scanner.found().len();
    let changed = image.iter().zip(&whole).filter(|(before, after)| before != after).count();
    assert!(changed <= markers * MARKER.len(), "nothing but markers changes");

    let size = image.len() as u64;
    let ranges = match Asked::read(&header, size) {
        Asked::Whole | Asked::Unsatisfiable => return,
        Asked::One(first, last) => vec![(first, last)],
        Asked::Several(parts) => {
            assert!((2..=16).contains(&parts.ranges.len()) && parts.size == size);
            parts.ranges
        }
    };
    for (first, last) in ranges {
        assert!(first <= last && last < size, "{first}-{last} of {size}");
        let (from, to) = (first as usize, last as usize + 1);
        let mut part = image[from..to].to_vec();
        patch.apply(scanner.found(), first, &mut part);
        assert_eq!(part, whole[from..to]);
    }
});
