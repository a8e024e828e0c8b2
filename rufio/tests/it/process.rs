// SPDX-License-Identifier: Apache-2.0

//! Programs that we did not write, started for one test and gone with it.

use std::ffi::OsString;
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process group that is killed on drop; a survivor fails the test.
pub struct Peer {
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// Starts `command` in a group of its own, with its output in `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let log = folder.join("peer.log");
        let file = File::create(&log).unwrap();
        let command =
            command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    /// What it has printed, for messages.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails with its output if it has ended.
    pub fn assert_alive(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the peer has ended:\n{}", self.output());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(killed.is_ok() && ended.is_ok(), "{killed:?} {ended:?}");
        }
    }
}

/// Where the peers' files are; without them the test fails and says how to get them.
pub fn place(variable: &str) -> PathBuf {
    let value: OsString = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: run this test with ./x test, which fetches its peers")
    });
    PathBuf::from(value)
}

/// A TCP port nobody has at the moment.
pub fn free_tcp_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A UDP port nobody has at the moment.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
