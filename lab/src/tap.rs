// SPDX-License-Identifier: Apache-2.0
//! A tap interface: the switch's port towards the daemons. It is gone when its file is closed.

use std::ffi::c_short;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::ioctl::{Setter, opcode};

use crate::netns::Namespace;

/// `IFNAMSIZ` of linux/if.h.
const NAME_BYTES: usize = 16;

/// `struct ifreq` of linux/if.h as TUNSETIFF reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: c_short,
    rest: [u8; 22],
}

/// `TUNSETIFF` of linux/if_tun.h, which is declared with an int and takes an `ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<std::ffi::c_int>(b'T', 202);
/// `IFF_TAP | IFF_NO_PI` of linux/if_tun.h: whole Ethernet frames, nothing in front.
const TAP: c_short = 0x0002 | 0x1000;

/// Makes a tap interface called `name` and returns its file, not blocking. The interface is down.
///
/// # Errors
/// When there is no /dev/net/tun, or the name is taken or too long.
pub(crate) fn create(_inside: &Namespace, name: &str) -> io::Result<File> {
    let mut request = InterfaceRequest { name: [0; NAME_BYTES], flags: TAP, rest: [0; 22] };
    // One byte stays zero: the kernel wants the name terminated.
    match request.name.get_mut(..name.len()) {
        Some(bytes) if name.len() < NAME_BYTES => bytes.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the interface name is too long")),
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
    #[expect(
        unsafe_code,
        reason = "TUNSETIFF has no safe wrapper; the request is a whole ifreq that outlives the call"
    )]
    // SAFETY: TUNSETIFF reads one `ifreq`, which is what `InterfaceRequest` is laid out as (40 bytes on every target), and keeps
    // no pointer to it.
    unsafe {
        rustix::ioctl::ioctl(&file, Setter::<TUNSETIFF, InterfaceRequest>::new(request))?;
    }
    Ok(file)
}
