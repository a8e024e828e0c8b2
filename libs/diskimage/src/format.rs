// SPDX-License-Identifier: Apache-2.0
//! Which decompressor an image needs: decided from its name, from what the action declares and from its first bytes.
//! Pure; the pipeline calls [`choose`] before anything on the disk is touched.

use std::fmt;

/// How an image is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the bytes are the disk.
    Raw,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 8878, one or several frames.
    Zstd,
    /// The .xz container, one or several streams.
    Xz,
    /// bzip2, one or several streams.
    Bzip2,
}

/// What the action says about its image (`COMPRESSED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// The bytes are to be written as they are.
    Raw,
    /// The bytes are to be decompressed.
    Compressed,
}

/// Formats that are recognised only to say that they are not disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// QEMU copy-on-write.
    Qcow2,
    /// VMware sparse extent.
    Vmdk,
    /// Hyper-V VHDX.
    Vhdx,
    /// A zip archive.
    Zip,
    /// A tar archive.
    Tar,
    /// An HTML page, usually a proxy's or server's error message.
    Html,
}

/// Why the data cannot be an image of the declared kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Compressed data would have been written as it is.
    #[error("image looks like {0} data but the action does not say COMPRESSED=true")]
    LooksCompressed(Compression),
    /// The name says one thing, the data another.
    #[error("image is named as {named} but its data is {found}")]
    Mismatch {
        /// By its suffix.
        named: Compression,
        /// By its first bytes.
        found: Found,
    },
    /// Neither name nor data says how to decompress.
    #[error(
        "COMPRESSED=true but neither the name `{0}` nor the data tells how; known are .gz, .bz2, .bzip2, .xz, .zst, .zs"
    )]
    Unknown(String),
    /// The data is something that is no raw disk image.
    #[error("image is {0}, not a raw disk image")]
    Foreign(Foreign),
}

/// What the first bytes look like, for the error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A compression that we know.
    Known(Compression),
    /// Nothing that we know.
    Unknown,
}

/// Bytes that [`Compression::from_magic`] wants to see.
pub(crate) const MAGIC: usize = 10;

/// Bytes of an image that [`Foreign::detect`] wants to see.
pub(crate) const FOREIGN_HEAD: usize = 512;

impl Compression {
    /// By the suffix of a URL or path; query and fragment are ignored. `None` when the suffix is unknown.
    pub fn from_name(name: &str) -> Option<Self> {
        let path = name.split(['?', '#']).next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let (_, suffix) = file.rsplit_once('.')?;
        match suffix.to_ascii_lowercase().as_str() {
            "gz" => Some(Self::Gzip),
            "zst" | "zs" => Some(Self::Zstd),
            "xz" => Some(Self::Xz),
            "bz2" | "bzip2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// By the first bytes; 10 are enough.
    pub fn from_magic(head: &[u8]) -> Option<Self> {
        match head {
            // RFC 1952 section 2.3.1: ID1, ID2, CM = deflate.
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // RFC 8878 section 3.1.1, and 3.1.2 for a leading skippable frame (as pzstd writes).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            // The .xz file format 1.2.1, section 2.1.1.1.
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // "BZh", level, then the first block's (or an empty stream's) 48-bit magic.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Self::Bzip2),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(compression) => write!(f, "{compression}"),
            Self::Unknown => f.write_str("not"),
        }
    }
}

impl Foreign {
    /// By the first `FOREIGN_HEAD` bytes of the decompressed data.
    pub fn detect(head: &[u8]) -> Option<Self> {
        // A disk image has boot code or zeros at 257, so the tar magic there is decisive only without a boot signature.
        let boot_signature = head.get(510..512) == Some(&[0x55, 0xaa]);
        if head.starts_with(b"QFI\xfb") {
            Some(Self::Qcow2)
        } else if head.starts_with(b"KDMV") || head.starts_with(b"# Disk DescriptorFile") {
            Some(Self::Vmdk)
        } else if head.starts_with(b"vhdxfile") {
            Some(Self::Vhdx)
        } else if head.starts_with(b"PK\x03\x04") {
            Some(Self::Zip)
        } else if head.get(257..262) == Some(b"ustar") && !boot_signature {
            Some(Self::Tar)
        } else if is_html(head) {
            Some(Self::Html)
        } else {
            None
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qcow2 => "a qcow2 image",
            Self::Vmdk => "a VMDK image",
            Self::Vhdx => "a VHDX image",
            Self::Zip => "a zip archive",
            Self::Tar => "a tar archive",
            Self::Html => "an HTML page",
        })
    }
}

fn is_html(head: &[u8]) -> bool {
    let text: Vec<u8> = head
        .iter()
        .skip_while(|byte| byte.is_ascii_whitespace())
        .take(14)
        .map(u8::to_ascii_lowercase)
        .collect();
    text.starts_with(b"<!doctype html") || text.starts_with(b"<html")
}

/// Decides how to decompress an image from its `name`, what the action declares and the first bytes of the data.
///
/// # Errors
/// When the three contradict each other; the text says how to fix the action.
pub(crate) fn choose(name: &str, declared: Declared, head: &[u8]) -> Result<Compression, FormatError> {
    let found = Compression::from_magic(head);
    match (declared, Compression::from_name(name), found) {
        (Declared::Raw, _, Some(found)) => Err(FormatError::LooksCompressed(found)),
        (Declared::Raw, _, None) => Ok(Compression::Raw),
        (Declared::Compressed, None, None) => Err(FormatError::Unknown(name.to_owned())),
        (Declared::Compressed, None, Some(found)) => Ok(found),
        (Declared::Compressed, Some(named), Some(found)) if named == found => Ok(named),
        // Too short to hold any header: let the decoder call it truncated.
        (Declared::Compressed, Some(named), None) if head.len() < MAGIC => Ok(named),
        (Declared::Compressed, Some(named), found) => {
            let found = found.map_or(Found::Unknown, Found::Known);
            Err(FormatError::Mismatch { named, found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_is_that_of_the_path() {
        let cases = [
            ("http://h/a/image.img.gz", Some(Compression::Gzip)),
            ("http://h/a/image.img.GZ?sig=a.b/c.xz", Some(Compression::Gzip)),
            ("/image.zst#frag.gz", Some(Compression::Zstd)),
            ("image.zs", Some(Compression::Zstd)),
            ("image.xz", Some(Compression::Xz)),
            ("image.bz2", Some(Compression::Bzip2)),
            ("image.bzip2", Some(Compression::Bzip2)),
            ("http://h.gz/image", None),
            ("http://h/gz", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Compression::from_name(name), expected, "{name}");
        }
    }

    #[test]
    fn contradictions_between_name_declaration_and_data_are_errors() {
        let gz = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
        let raw = [0u8; 16];
        assert_eq!(choose("a.img", Declared::Raw, &raw), Ok(Compression::Raw));
        assert_eq!(choose("a.img.gz", Declared::Raw, &raw), Ok(Compression::Raw));
        assert_eq!(choose("a.gz", Declared::Compressed, &gz), Ok(Compression::Gzip));
        assert_eq!(choose("a.img", Declared::Compressed, &gz), Ok(Compression::Gzip));
        assert_eq!(choose("a.gz", Declared::Raw, &gz), Err(FormatError::LooksCompressed(Compression::Gzip)));
        assert_eq!(
            choose("a.zst", Declared::Compressed, &gz),
            Err(FormatError::Mismatch { named: Compression::Zstd, found: Found::Known(Compression::Gzip) })
        );
        assert_eq!(
            choose("a.zst", Declared::Compressed, &raw),
            Err(FormatError::Mismatch { named: Compression::Zstd, found: Found::Unknown })
        );
        assert_eq!(
            choose("a.img", Declared::Compressed, &raw),
            Err(FormatError::Unknown("a.img".to_owned()))
        );
    }

    #[test]
    fn what_is_no_disk_image_is_named() {
        let mut tar = vec![0u8; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Foreign::detect(&tar), Some(Foreign::Tar));
        tar[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(Foreign::detect(&tar), None);
        assert_eq!(Foreign::detect(b"QFI\xfb\0\0\0\x03"), Some(Foreign::Qcow2));
        assert_eq!(Foreign::detect(b"\r\n<!DOCTYPE HTML><html>"), Some(Foreign::Html));
        assert_eq!(Foreign::detect(&[0; 512]), None);
        assert_eq!(Foreign::detect(&[]), None);
    }
}
