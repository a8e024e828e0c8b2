// SPDX-License-Identifier: Apache-2.0
//! Splits a chunk of an image into what must be written and what is zero. Pure; the write stage calls [`split`].

use std::ops::Range;

/// Zeros are looked for in blocks of this size, which is also the largest logical block size of disks today: every
/// run but the last of an image starts and ends on a multiple of it.
pub(crate) const BLOCK: usize = 4096;

/// A run of zeros shorter than this is written as data: a request to the disk costs more than it saves.
pub(crate) const SHORTEST_ZERO_RUN: usize = 64 * 1024;

/// A part of a chunk, as a byte range within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    /// Bytes that must be written.
    Data(Range<usize>),
    /// Bytes that are all zero.
    Zero(Range<usize>),
}

/// Whether every byte is zero. By whole words, so that it is fast also where the compiler does not vectorise.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    let words = |line: &[u8; 64]| {
        let (words, _) = line.as_chunks::<8>();
        words.iter().fold(0, |sum, word| sum | u64::from_ne_bytes(*word))
    };
    lines.iter().all(|line| words(line) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Splits `chunk` into runs that cover it without gap or overlap, alternating between data and zeros.
pub(crate) fn split(chunk: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut data_start = 0;
    let mut zero_start = None;
    let mut offset = 0;
    for block in chunk.chunks(BLOCK) {
        if is_zero(block) {
            zero_start.get_or_insert(offset);
        } else if let Some(start) = zero_start.take() {
            close_zero_run(&mut runs, &mut data_start, start..offset);
        }
        offset += block.len();
    }
    if let Some(start) = zero_start {
        close_zero_run(&mut runs, &mut data_start, start..offset);
    }
    if data_start < offset {
        runs.push(Run::Data(data_start..offset));
    }
    runs
}

fn close_zero_run(runs: &mut Vec<Run>, data_start: &mut usize, zeros: Range<usize>) {
    if zeros.len() < SHORTEST_ZERO_RUN {
        return;
    }
    if *data_start < zeros.start {
        runs.push(Run::Data(*data_start..zeros.start));
    }
    *data_start = zeros.end;
    runs.push(Run::Zero(zeros));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk_of(blocks: &[bool], tail: usize) -> Vec<u8> {
        let mut chunk: Vec<u8> =
            blocks.iter().flat_map(|data| std::iter::repeat_n(u8::from(*data), BLOCK)).collect();
        chunk.extend(std::iter::repeat_n(7, tail));
        chunk
    }

    proptest! {
        #[test]
        fn runs_cover_the_chunk_and_tell_the_truth(
            blocks in proptest::collection::vec(prop_oneof![8 => Just(false), 1 => Just(true)], 0..80),
            tail in 0usize..BLOCK,
        ) {
            let chunk = chunk_of(&blocks, tail);
            let mut at = 0;
            let mut last_zero = None;
            for run in split(&chunk) {
                let (range, zero) = match run { Run::Data(range) => (range, false), Run::Zero(range) => (range, true) };
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                prop_assert_ne!(last_zero, Some(zero));
                if zero {
                    prop_assert!(chunk[range.clone()].iter().all(|byte| *byte == 0));
                    prop_assert!(range.len() >= SHORTEST_ZERO_RUN && range.start % BLOCK == 0);
                }
                last_zero = Some(zero);
                at = range.end;
            }
            prop_assert_eq!(at, chunk.len());
        }

        #[test]
        fn one_byte_anywhere_is_not_zero(len in 1usize..300, at in 0usize..300) {
            let mut bytes = vec![0u8; len];
            prop_assert!(is_zero(&bytes));
            bytes[at % len] = 1;
            prop_assert!(!is_zero(&bytes));
        }
    }

    #[test]
    fn long_zeros_are_found_and_short_ones_are_data() {
        let mut chunk = vec![1u8; 4 * SHORTEST_ZERO_RUN];
        chunk[SHORTEST_ZERO_RUN..2 * SHORTEST_ZERO_RUN].fill(0);
        assert_eq!(
            split(&chunk),
            [
                Run::Data(0..SHORTEST_ZERO_RUN),
                Run::Zero(SHORTEST_ZERO_RUN..2 * SHORTEST_ZERO_RUN),
                Run::Data(2 * SHORTEST_ZERO_RUN..4 * SHORTEST_ZERO_RUN)
            ]
        );
        chunk[SHORTEST_ZERO_RUN] = 1;
        assert_eq!(split(&chunk), [Run::Data(0..4 * SHORTEST_ZERO_RUN)]);
    }
}
