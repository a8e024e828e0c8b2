// SPDX-License-Identifier: Apache-2.0
//! Room for the datagrams that come while a listener is busy.
//!
//! A listener that reads one datagram after the other has no queue but that of its socket, and what does not fit there is lost.
//! Linux gives a process at most `net.core.rmem_max` (208 KiB as it comes, some hundred DHCP packets), unless it may administer
//! the network, as a DHCP server that runs as root may.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Gives the socket room for `bytes`, as far as this process may; less is told, since a storm then loses packets.
///
/// # Errors
///
/// When the socket is none.
pub(crate) fn enlarge(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let socket = socket.as_fd();
    if setsockopt(&socket, sockopt::RcvBufForce, &bytes).is_ok() {
        return Ok(());
    }
    setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
    // The kernel doubles what was asked for, to have room for what it notes about each packet (socket(7)).
    let given = getsockopt(&socket, sockopt::RcvBuf)? / 2;
    if given < bytes {
        tracing::warn!(
            wanted = bytes,
            given,
            "a socket has little room for packets that wait: raise net.core.rmem_max or give the capability CAP_NET_ADMIN"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_gets_what_was_asked_for_or_what_the_kernel_allows() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        enlarge(&socket, 4 << 20).unwrap();
        let administers =
            setsockopt(&std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), sockopt::RcvBufForce, &1).is_ok();
        let most: usize =
            std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
        let expected = if administers { 4 << 20 } else { most.min(4 << 20) };
        assert_eq!(getsockopt(&socket, sockopt::RcvBuf).unwrap(), 2 * expected);
    }
}
