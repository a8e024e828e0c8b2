// SPDX-License-Identifier: Apache-2.0
//! The asynchronous client: one connected UDP socket around one [`Session`].
//!
//! Called by `rufio`, one client per BMC and batch of operations. It keeps one session for all of them, closes it when
//! told or dropped, and must never be shared: a BMC has room for a handful of sessions and answers one question at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::debug;

use crate::chassis::{
    BootFlags, ChassisControl, ChassisStatus, KEEP_AFTER_TIMEOUT, PARAM_BOOT_FLAGS, PARAM_BOOT_INFO_ACK,
    PARAM_SET_IN_PROGRESS, PARAM_VALID_BIT_CLEARING, PARAM_VERSION, SET_COMMIT, SET_COMPLETE,
    SET_IN_PROGRESS,
};
use crate::command::{Command, CompletionCode};
use crate::crypto::CipherSuite;
use crate::error::Error;
use crate::options::{Credentials, Options};
use crate::session::{Session, Step};

/// UDP port of IPMI over LAN (DSP0136: the ASF primary RMCP port).
pub const DEFAULT_PORT: u16 = 623;
/// Largest datagram that is looked at; an RMCP+ packet of ours is below 200 bytes.
const MAX_DATAGRAM: usize = 2048;

/// An open session with a BMC, at the privilege that the options ask for.
pub struct Client {
    socket: UdpSocket,
    peer: SocketAddr,
    session: Session,
}

/// What Get Device ID says about the BMC (section 20.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceId {
    /// Device identifier.
    pub device: u8,
    /// Firmware version: major, and minor in BCD.
    pub firmware: (u8, u8),
    /// IPMI version in BCD, low nibble first: 02h is 2.0.
    pub ipmi_version: u8,
    /// IANA enterprise number of the manufacturer.
    pub manufacturer: u32,
    /// Product identifier.
    pub product: u16,
}

impl Client {
    /// Opens a session: finds the host's addresses and takes the first one whose BMC answers. `host` is an IPv4 or IPv6
    /// address (with or without brackets) or a name.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Socket`], [`Error::Unreachable`], [`Error::Auth`], [`Error::Unsupported`],
    /// [`Error::Busy`] or [`Error::Completion`].
    pub async fn connect(
        host: &str,
        port: u16,
        credentials: &Credentials,
        options: &Options,
    ) -> Result<Self, Error> {
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut last = Error::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for peer in tokio::net::lookup_host((name, port)).await.map_err(Error::Resolve)? {
            match Self::connect_to(peer, credentials, options).await {
                Err(error @ (Error::Unreachable { .. } | Error::Socket(_))) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    /// Opens a session with the BMC at this address.
    ///
    /// # Errors
    /// As [`Self::connect`], without [`Error::Resolve`].
    pub async fn connect_to(
        peer: SocketAddr,
        credentials: &Credentials,
        options: &Options,
    ) -> Result<Self, Error> {
        let local: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((local, 0)).await.map_err(Error::Socket)?;
        socket.connect(peer).await.map_err(Error::Socket)?;
        let session = Session::new(credentials.clone(), options.clone(), rand::random());
        let mut client = Self { socket, peer, session };
        let step = client.session.open(Instant::now().into_std());
        client.drive(step).await?;
        Ok(client)
    }

    /// The BMC's address.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The suite that was agreed on.
    #[must_use]
    pub fn suite(&self) -> Option<CipherSuite> {
        self.session.suite()
    }

    /// Sends any command; gives the response data after the completion code. May be cancelled: the session stays usable.
    ///
    /// # Errors
    /// [`Error::Completion`] for every completion code but zero, [`Error::Unreachable`], [`Error::Closed`].
    pub async fn command(&mut self, command: Command, data: &[u8]) -> Result<Vec<u8>, Error> {
        let step = self.session.request(command, data, Instant::now().into_std());
        self.drive(step).await
    }

    /// Reads the chassis status.
    ///
    /// # Errors
    /// As [`Self::command`], and [`Error::Malformed`].
    pub async fn chassis_status(&mut self) -> Result<ChassisStatus, Error> {
        let command = Command::GET_CHASSIS_STATUS;
        let data = self.command(command, &[]).await?;
        ChassisStatus::decode(&data).map_err(|_| Error::Malformed { command })
    }

    /// Powers on, off, cycles, resets or asks for a shutdown. Returns when the BMC has accepted it, not when it is done.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn chassis_control(&mut self, control: ChassisControl) -> Result<(), Error> {
        self.command(Command::CHASSIS_CONTROL, &[control.number()]).await.map(drop)
    }

    /// Reads the boot flags.
    ///
    /// # Errors
    /// As [`Self::command`], and [`Error::Malformed`].
    pub async fn boot_flags(&mut self) -> Result<BootFlags, Error> {
        let command = Command::GET_BOOT_OPTIONS;
        let data = self.command(command, &[PARAM_BOOT_FLAGS, 0, 0]).await?;
        match data.as_slice() {
            [version, selector, flags @ ..]
                if version & 0x0f == PARAM_VERSION && selector & 0x7f == PARAM_BOOT_FLAGS =>
            {
                BootFlags::decode(flags).map_err(|_| Error::Malformed { command })
            }
            _ => Err(Error::Malformed { command }),
        }
    }

    /// Writes the boot flags, and sees to it that they outlive the 60 seconds after which a BMC drops them when no chassis
    /// control follows (section 28.13, parameter 3). Whether the BMC took them is for the caller to read back.
    ///
    /// # Errors
    /// As [`Self::command`]; steps that a BMC need not support are let pass.
    pub async fn set_boot_flags(&mut self, flags: BootFlags) -> Result<(), Error> {
        let locked = self.set_optional_parameter(PARAM_SET_IN_PROGRESS, &[SET_IN_PROGRESS]).await?;
        let written = self.write_boot_flags(flags).await;
        if locked {
            // Commit is optional even where the lock is not (table 28-14, parameter 0).
            if written.is_ok() {
                self.set_optional_parameter(PARAM_SET_IN_PROGRESS, &[SET_COMMIT]).await?;
            }
            self.set_optional_parameter(PARAM_SET_IN_PROGRESS, &[SET_COMPLETE]).await?;
        }
        written
    }

    /// Reads who the BMC is.
    ///
    /// # Errors
    /// As [`Self::command`], and [`Error::Malformed`].
    pub async fn device_id(&mut self) -> Result<DeviceId, Error> {
        let command = Command::GET_DEVICE_ID;
        let data = self.command(command, &[]).await?;
        let [device, _revision, major, minor, ipmi_version, _support, m0, m1, m2, p0, p1, ..] = *data else {
            return Err(Error::Malformed { command });
        };
        Ok(DeviceId {
            device,
            firmware: (major & 0x7f, minor),
            ipmi_version,
            manufacturer: u32::from_le_bytes([m0, m1, m2 & 0x0f, 0]),
            product: u16::from_le_bytes([p0, p1]),
        })
    }

    /// Closes the session and waits until the BMC has said so, or for a few attempts. Dropping the client closes it too,
    /// with one datagram and no wait.
    pub async fn close(mut self) {
        let step = self.session.close(Instant::now().into_std());
        if let Err(error) = self.drive(step).await {
            debug!(peer = %self.peer, %error, "ipmi session not closed");
        }
    }

    async fn write_boot_flags(&mut self, flags: BootFlags) -> Result<(), Error> {
        self.set_optional_parameter(PARAM_VALID_BIT_CLEARING, &[KEEP_AFTER_TIMEOUT]).await?;
        // The BIOS has not yet seen these flags.
        self.set_optional_parameter(PARAM_BOOT_INFO_ACK, &[0x01, 0x01]).await?;
        self.set_parameter(PARAM_BOOT_FLAGS, &flags.encode()).await
    }

    async fn set_parameter(&mut self, parameter: u8, data: &[u8]) -> Result<(), Error> {
        self.command(Command::SET_BOOT_OPTIONS, &[&[parameter], data].concat()).await.map(drop)
    }

    /// Sets a parameter that a BMC may do without; tells whether it was taken.
    async fn set_optional_parameter(&mut self, parameter: u8, data: &[u8]) -> Result<bool, Error> {
        match self.set_parameter(parameter, data).await {
            Ok(()) => Ok(true),
            Err(Error::Completion { code, .. }) if code != CompletionCode::INSUFFICIENT_PRIVILEGE => {
                debug!(peer = %self.peer, parameter, %code, "optional boot option refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Carries out a step and feeds the session until its question is settled.
    async fn drive(&mut self, mut step: Step) -> Result<Vec<u8>, Error> {
        let mut buffer = [0_u8; MAX_DATAGRAM];
        let mut last = None;
        loop {
            if let Some(datagram) = &step.send
                && let Err(error) = self.socket.send(datagram).await
            {
                last = Some(error);
            }
            if let Some(outcome) = step.outcome {
                return outcome.map_err(|error| with_source(error, last));
            }
            let Some(deadline) = self.session.deadline() else { return Err(Error::Closed) };
            let deadline = Instant::from_std(deadline);
            // An ICMP error is remembered and nothing more: a BMC that restarts refuses for a while, then answers.
            step = match tokio::time::timeout_at(deadline, self.socket.recv(&mut buffer)).await {
                Ok(Ok(length)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    self.session.datagram(datagram, Instant::now().into_std())
                }
                Ok(Err(error)) => {
                    last = Some(error);
                    Step::default()
                }
                Err(_elapsed) => self.session.tick(Instant::now().into_std()),
            };
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(datagram) = self.session.farewell()
            && let Err(error) = self.socket.try_send(&datagram)
        {
            debug!(peer = %self.peer, %error, "ipmi session not closed");
        }
    }
}

fn with_source(error: Error, last: Option<io::Error>) -> Error {
    match error {
        Error::Unreachable { step, attempts, .. } => Error::Unreachable { step, attempts, source: last },
        other => other,
    }
}
