// SPDX-License-Identifier: Apache-2.0

//! Who holds a port.
//!
//! Owns the check before anything is started, and the search through `/proc` for the process that is in the way. A port
//! may still be taken between check and use; whoever binds it then says so without the holder's name.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
};

/// TCP's state LISTEN as `/proc/net/tcp` has it.
const LISTEN: &str = "0A";

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An address that is needed.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// What for, and which setting changes it.
    pub(crate) what: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process ID.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// An address that cannot be used.
#[derive(Debug)]
pub struct Busy {
    /// What it is needed for.
    pub what: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// The address.
    pub address: SocketAddr,
    /// Who holds it, where that can be seen.
    pub holders: Vec<Holder>,
    /// What the kernel says.
    pub error: io::Error,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{protocol} {} for {} ", self.address, self.what)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse if self.holders.is_empty() => {
                f.write_str("is held by a process that cannot be seen from here; `ss -lpn` as root names it")
            }
            io::ErrorKind::AddrInUse => {
                let names: Vec<_> =
                    self.holders.iter().map(|h| format!("{} (process {})", h.name, h.pid)).collect();
                write!(f, "is held by {}: stop it or choose another port", names.join(" and "))
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("needs root or the capability CAP_NET_BIND_SERVICE, as every port below 1024")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str("is no address of this machine"),
            _ => write!(f, "cannot be used: {}", self.error),
        }
    }
}

/// All addresses that cannot be used now, and two listeners that want the same one.
pub(crate) fn busy(listeners: &[Listener]) -> Vec<Busy> {
    let mut busy = Vec::new();
    // Held until all were tried, so that two of our own that want the same port collide here and not later.
    let mut held = Vec::new();
    for listener in listeners {
        match try_bind(listener) {
            Ok(socket) => held.push(socket),
            Err(error) => busy.push(Busy {
                what: listener.what,
                protocol: listener.protocol,
                address: listener.address,
                holders: if error.kind() == io::ErrorKind::AddrInUse {
                    holders(listener)
                } else {
                    Vec::new()
                },
                error,
            }),
        }
    }
    busy
}

enum Socket {
    Tcp { _held: TcpListener },
    Udp { _held: UdpSocket },
}

fn try_bind(listener: &Listener) -> io::Result<Socket> {
    Ok(match listener.protocol {
        Protocol::Tcp => Socket::Tcp { _held: TcpListener::bind(listener.address)? },
        Protocol::Udp => Socket::Udp { _held: UdpSocket::bind(listener.address)? },
    })
}

fn holders(listener: &Listener) -> Vec<Holder> {
    let tables: [&str; 2] = match listener.protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: BTreeSet<u64> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| inodes(&text, listener.protocol, listener.address))
        .collect();
    processes(&inodes)
}

/// Inodes of the sockets in a table of `/proc/net` (proc(5)) that stand in the way of `wanted`.
fn inodes(table: &str, protocol: Protocol, wanted: SocketAddr) -> Vec<u64> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
        let (local, state, inode) = (row.get(1)?, row.get(3)?, row.get(9)?);
        let address = socket_address(local)?;
        let same = address.port() == wanted.port() && overlaps(address.ip(), wanted.ip());
        let waiting = protocol == Protocol::Udp || *state == LISTEN;
        if same && waiting { inode.parse().ok() } else { None }
    })
    .collect()
}

/// Whether a socket on one of these addresses excludes one on the other.
fn overlaps(a: IpAddr, b: IpAddr) -> bool {
    a.is_unspecified() || b.is_unspecified() || a.to_canonical() == b.to_canonical()
}

/// An address as `/proc/net` has it: 32-bit words in the machine's byte order, then the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
    };
    Some(SocketAddr::new(ip, port))
}

/// The processes that have one of these sockets open, as far as we may look.
fn processes(inodes: &BTreeSet<u64>) -> Vec<Holder> {
    processes_with(|target| {
        let inode =
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// The processes that have something open which `/proc` shows as a path like that, as far as we may look.
pub(crate) fn processes_with(wanted: impl Fn(&Path) -> bool) -> Vec<Holder> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut holders: Vec<_> = pids.filter(|pid| holds(*pid, &wanted)).map(named).collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

fn holds(pid: u32, wanted: &impl Fn(&Path) -> bool) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| wanted(&target))
}

fn named(pid: u32) -> Holder {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Holder { pid, name: name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(protocol: Protocol, address: SocketAddr) -> Listener {
        Listener { what: "the test", protocol, address }
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (protocol, address) in
            [(Protocol::Tcp, tcp.local_addr().unwrap()), (Protocol::Udp, udp.local_addr().unwrap())]
        {
            let anywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            for address in [address, anywhere] {
                let found = busy(&[wanted(protocol, address)]);
                let [one] = found.as_slice() else { panic!("{found:?}") };
                assert!(one.holders.iter().any(|holder| holder.pid == std::process::id()), "{one}");
                assert!(one.to_string().contains(&format!("(process {})", std::process::id())), "{one}");
            }
        }
    }

    #[test]
    fn free_ports_are_free_and_two_of_our_own_collide() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let one = wanted(Protocol::Tcp, free);
        assert!(busy(std::slice::from_ref(&one)).is_empty());
        let found = busy(&[one.clone(), one]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_address_of_another_machine_is_said_to_be_one() {
        let found = busy(&[wanted(Protocol::Udp, "192.0.2.1:9".parse().unwrap())]);
        assert!(found[0].to_string().ends_with("is no address of this machine"), "{}", found[0]);
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n   \
             1: 0100007F:192B 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n   \
             2: 0200007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(inodes(table, Protocol::Tcp, at("127.0.0.1:6443")), [111]);
        assert_eq!(inodes(table, Protocol::Tcp, at("0.0.0.0:6443")), [111, 333]);
        assert_eq!(inodes(table, Protocol::Tcp, at("127.0.0.1:6444")), [0; 0]);
        assert_eq!(
            socket_address("00000000000000000000000001000000:0016"),
            Some("[::1]:22".parse().unwrap())
        );
    }
}
