// SPDX-License-Identifier: Apache-2.0
//! Where an ISO image has its markers, and what stands there for a machine. Pure.
//!
//! A marker is a stretch of known bytes on the kernel lines of the image's boot menu. It is found once, whatever pieces the
//! image comes in; whoever then reads any part of the image finds the machine's text in its place, filled up with spaces.
//! No byte outside of a marker is ever changed, and no length.

/// The marker of HookOS and CaptainOS images: a constant of their format.
pub const HOOK_MARKER: &str = "464vn90e7rbj08xbwdjejmdf4it17c5zfzjyfhthbh19eij201hjgit021bmpdb9ctrc87x2ymc8e7icu4ffi15x1hah9iyaiz38ckyap8hwx2vt5rm44ixv4hau8iw718q5yd019um5dt2xpqqa2rjtdypzr5v1gun8un110hhwp8cex7pqrh2ivh0ynpm4zkkwc8wcn367zyethzy7q8hzudyeyzx3cgmxqbkh825gcak7kxzjbgjajwizryv7ec1xm2h0hh7pz29qmvtgfjj1vphpgq1zcbiiehv52wrjy9yq473d9t1rvryy6929nk435hfx55du3ih05kn5tju3vijreru1p6knc988d4gfdz28eragvryq5x8aibe5trxd0t6t7jwxkde34v6pj1khmp50k6qqj3nzgcfzabtgqkmeqhdedbvwf3byfdma4nkv3rcxugaj2d0ru30pa2fqadjqrtjnv8bu52xzxv7irbhyvygygxu1nt5z4fh9w1vwbdcmagep26d298zknykf2e88kumt59ab7nq79d8amnhhvbexgh48e8qc61vq2e9qkihzt1twk1ijfgw70nwizai15iqyted2dt9gfmf2gg7amzufre79hwqkddc1cd935ywacnkrnak6r7xzcz7zbmq3kt04u2hg1iuupid8rt4nyrju51e6uejb2ruu36g9aibmz3hnmvazptu8x5tyxk820g2cdpxjdij766bt2n3djur7v623a2v44juyfgz80ekgfb9hkibpxh3zgknw8a34t4jifhf116x15cei9hwch0fye3xyq0acuym8uhitu5evc4rag3ui0fny3qg4kju7zkfyy8hwh537urd5uixkzwu5bdvafz4jmv7imypj543xg5em8jk8cgk7c4504xdd5e4e71ihaumt6u5u2t1w7um92fepzae8p0vq93wdrd1756npu1pziiur1payc7kmdwyxg3hj5n4phxbc29x0tcddamjrwt260b0w";

/// Markers of one image; one with more is none of ours.
const MAX_MARKERS: usize = 1024;

/// An image has too many markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image has more than {MAX_MARKERS} markers")]
pub struct TooMany;

/// A text is longer than the marker that it is to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel arguments of the machine have {text} bytes; the marker in the image has room for {marker}"
)]
pub struct TooLong {
    text: usize,
    marker: usize,
}

/// Finds markers in an image that comes in pieces.
#[derive(Debug)]
pub struct Scanner {
    marker: Vec<u8>,
    /// The end of what was seen, in which a marker may have begun.
    tail: Vec<u8>,
    seen: u64,
    found: Vec<u64>,
}

impl Scanner {
    /// A scanner for this marker, which is not empty.
    #[must_use]
    pub fn new(marker: &[u8]) -> Self {
        Self { marker: marker.to_vec(), tail: Vec::new(), seen: 0, found: Vec::new() }
    }

    /// The next bytes of the image.
    ///
    /// # Errors
    ///
    /// When there are too many markers.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooMany> {
        let length = self.marker.len();
        // A marker that begins in the tail ends at most this far in the new piece.
        let joint_end = piece.len().min(length.saturating_sub(1));
        let mut joint = std::mem::take(&mut self.tail);
        let joint_at = self.seen - joint.len() as u64;
        joint.extend_from_slice(piece.get(..joint_end).unwrap_or_default());
        self.find(&joint, joint_at)?;
        self.find(piece, self.seen)?;
        self.seen += piece.len() as u64;
        let keep = length.saturating_sub(1);
        self.tail = match piece.len() >= keep {
            true => piece.get(piece.len() - keep..).unwrap_or_default().to_vec(),
            false => joint.get(joint.len().saturating_sub(keep)..).unwrap_or_default().to_vec(),
        };
        Ok(())
    }

    /// First bytes of all markers so far, ascending.
    #[must_use]
    pub fn found(&self) -> &[u64] {
        &self.found
    }

    /// Up to where it is known what stands in the image: no marker that ends later begins before.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.seen - self.tail.len() as u64
    }

    fn find(&mut self, bytes: &[u8], at: u64) -> Result<(), TooMany> {
        let Some(first) = self.marker.first() else { return Ok(()) };
        let mut from = 0;
        while let Some(offset) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| byte == first))
        {
            let start = from + offset;
            let position = at + start as u64;
            let is_new = self.found.last().is_none_or(|last| position >= last + self.marker.len() as u64);
            if is_new && bytes.get(start..).is_some_and(|rest| rest.starts_with(&self.marker)) {
                if self.found.len() >= MAX_MARKERS {
                    return Err(TooMany);
                }
                self.found.push(position);
                from = start + self.marker.len();
            } else {
                from = start + 1;
            }
        }
        Ok(())
    }
}

/// What stands in the place of each marker: a text and spaces behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch(Vec<u8>);

impl Patch {
    /// Fills a text up to the length of the marker.
    ///
    /// # Errors
    ///
    /// When it is longer.
    pub fn new(text: &str, marker: usize) -> Result<Self, TooLong> {
        if text.len() > marker {
            return Err(TooLong { text: text.len(), marker });
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(marker, b' ');
        Ok(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Replaces what a part of the image, which begins at `offset`, has of the markers at `positions`, which ascend.
    pub fn apply(&self, positions: &[u64], offset: u64, part: &mut [u8]) {
        let end = offset + part.len() as u64;
        let first = positions.partition_point(|position| position + self.0.len() as u64 <= offset);
        let inside =
            positions.get(first..).unwrap_or_default().iter().take_while(|position| **position < end);
        for position in inside {
            // One of the two is 0: the part begins in the marker, or the marker in the part.
            let (skipped, at) = (offset.saturating_sub(*position), position.saturating_sub(offset));
            let (Ok(skipped), Ok(at)) = (usize::try_from(skipped), usize::try_from(at)) else { continue };
            let text = self.0.get(skipped..).unwrap_or_default();
            let place = part.get_mut(at..).unwrap_or_default();
            let length = text.len().min(place.len());
            if let (Some(place), Some(text)) = (place.get_mut(..length), text.get(..length)) {
                place.copy_from_slice(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKER: &[u8] = b"aabaac";

    fn scan(pieces: &[&[u8]]) -> Vec<u64> {
        let mut scanner = Scanner::new(MARKER);
        for piece in pieces {
            scanner.push(piece).unwrap();
        }
        scanner.found().to_vec()
    }

    /// Where the marker is, by the definition: from left to right, without an overlap.
    fn expected(image: &[u8]) -> Vec<u64> {
        let (mut at, mut found) = (0, Vec::new());
        while at + MARKER.len() <= image.len() {
            if image[at..].starts_with(MARKER) {
                found.push(at as u64);
                at += MARKER.len();
            } else {
                at += 1;
            }
        }
        found
    }

    /// An image in which markers, and beginnings of them, are frequent.
    fn image() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(MARKER.to_vec()),
            (1..MARKER.len()).prop_map(|length| MARKER[..length].to_vec()),
            prop::collection::vec(prop::sample::select(b"abcx".to_vec()), 0..9),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    #[test]
    fn the_marker_of_hook_is_the_published_one() {
        use sha2::{Digest as _, Sha256};
        assert_eq!(HOOK_MARKER.len(), 1024);
        assert_eq!(
            hex::encode(Sha256::digest(HOOK_MARKER)),
            "252feaf619f32ca02d967c78c9fa1434c4c70c7774bf038e1de2fafbc5e88a78"
        );
    }

    #[test]
    fn our_own_image_has_the_marker_where_grub_has_the_kernels_arguments() {
        let grub = include_str!("../../../hook-os/files/grub.cfg");
        assert!(grub.contains(&format!("    linux /vmlinuz {HOOK_MARKER}\n")));
    }

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        assert_eq!(Patch::new("1234567", 6), Err(TooLong { text: 7, marker: 6 }));
        assert_eq!(Patch::new("1234", 6).unwrap().bytes(), b"1234  ");
        assert_eq!(Patch::new("123456", 6).unwrap().bytes(), b"123456");
    }

    #[test]
    fn too_many_markers_are_refused() {
        let mut scanner = Scanner::new(MARKER);
        assert_eq!(scanner.push(&MARKER.repeat(MAX_MARKERS)), Ok(()));
        assert_eq!(scanner.push(MARKER), Err(TooMany));
    }

    proptest! {
        #[test]
        fn markers_are_found_in_whatever_pieces_the_image_comes(
            image in image(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(image.len() + 1)).collect();
            cuts.extend([0, image.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &image[cut[0]..cut[1]]).collect();
            prop_assert_eq!(scan(&pieces), expected(&image));
        }

        #[test]
        fn what_is_settled_does_not_change(image in image(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(image.len() + 1);
            let mut scanner = Scanner::new(MARKER);
            scanner.push(&image[..cut]).unwrap();
            let settled = scanner.settled();
            let before = scanner.found().to_vec();
            scanner.push(&image[cut..]).unwrap();
            let patch = Patch::new("X", MARKER.len()).unwrap();
            let length = usize::try_from(settled).unwrap();
            let (mut early, mut late) = (image[..length].to_vec(), image[..length].to_vec());
            patch.apply(&before, 0, &mut early);
            patch.apply(scanner.found(), 0, &mut late);
            prop_assert_eq!(early, late);
        }

        #[test]
        fn any_sequence_of_ranges_is_the_patched_whole(
            image in image(), text in "[A-Z]{0,6}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let found = expected(&image);
            let patch = Patch::new(&text, MARKER.len()).unwrap();
            let mut whole = image.clone();
            for position in &found {
                let at = usize::try_from(*position).unwrap();
                whole[at..at + MARKER.len()].copy_from_slice(patch.bytes());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(image.len() + 1)).collect();
            cuts.extend([0, image.len()]);
            cuts.sort_unstable();
            let mut joined = Vec::new();
            for cut in cuts.windows(2) {
                let mut part = image[cut[0]..cut[1]].to_vec();
                patch.apply(&found, cut[0] as u64, &mut part);
                joined.extend(part);
            }
            prop_assert_eq!(joined, whole);
        }
    }
}
