// SPDX-License-Identifier: Apache-2.0
//! The lab's own network namespace: nothing that the rack does reaches the host's network, and nothing is left behind.
//!
//! The whole lab process lives in the namespace, and so do the daemons and servers that it starts. An unnamed namespace ends with
//! its last process, so that there is nothing to clean up, whatever kills the lab.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Tells the program that was started anew which namespace it came from.
const MARKER: &str = "TINKERBELL_LAB_OUTER_NETNS";

/// The namespace that this process is in.
pub(crate) const OWN: &str = "/proc/self/ns/net";

/// How many datagrams wait in a unix socket; the kernel's default of 10 makes QEMU's queues shorter than a TCP window.
const DATAGRAM_QUEUE: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// Why there is no namespace. None of them is retried.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The namespace that we are in cannot be told.
    #[error("cannot tell which network namespace this is")]
    Unknown(#[source] io::Error),
    /// `unshare` could not be started.
    #[error("cannot run unshare (package util-linux)")]
    Unshare(#[source] io::Error),
    /// We were started anew and are still where we were: the kernel or a policy forbids namespaces to this user.
    #[error(
        "no network namespace of our own: run as root, or allow user namespaces (kernel.unprivileged_userns_clone=1)"
    )]
    Refused,
    /// The loopback interface could not be switched on.
    #[error("cannot run `ip {arguments}`: {problem}")]
    Ip {
        /// What was asked.
        arguments: String,
        /// What went wrong.
        problem: String,
    },
}

/// Proof that this process is in a network namespace of its own.
#[derive(Debug)]
pub struct Namespace(());

/// Makes sure that this process is in a network namespace of its own: returns the proof if so, otherwise replaces the process with
/// itself inside a new one (as root by a network namespace, else with a user namespace around it). Call it first in `main`,
/// before anything that must not happen twice.
///
/// # Errors
/// See [`NetnsError`].
pub fn enter_or_reexec() -> Result<Namespace, NetnsError> {
    let own = std::fs::read_link(OWN).map_err(NetnsError::Unknown)?;
    if let Some(outer) = std::env::var_os(MARKER) {
        if Path::new(&outer) == own {
            return Err(NetnsError::Refused);
        }
        ip(&["link", "set", "lo", "up"])?;
        if let Err(error) = std::fs::write(DATAGRAM_QUEUE, "1024") {
            tracing::debug!(error = %error, "the datagram queue keeps its length");
        }
        return Ok(Namespace(()));
    }
    let program = std::env::current_exe().map_err(NetnsError::Unknown)?;
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--").arg(program).args(std::env::args_os().skip(1)).env(MARKER, own);
    Err(NetnsError::Unshare(unshare.exec()))
}

/// Runs `ip` of iproute2 with these arguments, inside the namespace that the process is in.
pub(crate) fn ip(arguments: &[&str]) -> Result<(), NetnsError> {
    let failed = |problem: String| NetnsError::Ip { arguments: arguments.join(" "), problem };
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
