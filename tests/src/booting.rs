// SPDX-License-Identifier: Apache-2.0
//! Machines without a processor that boot over the network: a lease through a relay, the boot program over TFTP, the script over
//! HTTP. As firmware does, each repeats what is not answered, and begins anew when that does not help.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dhcp::{Message, MessageType, code};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a client waits for an answer before it repeats itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it does so before it begins anew.
const TRIES: u32 = 5;
/// Bytes of a TFTP block that it asks for.
const BLOCK: usize = 1468;
/// Answers that wait for one client.
const ANSWERS: usize = 16;
/// Longest answer over HTTP.
const MAX_SCRIPT: u64 = 1 << 20;

/// Who has which address, by the ACKs that came. The same address for two machines is an error.
#[derive(Debug, Default)]
pub struct Ledger {
    by_address: Mutex<HashMap<Ipv4Addr, [u8; 6]>>,
    booted: Mutex<HashMap<[u8; 6], Ipv4Addr>>,
}

/// A machine's way to the server.
pub struct Relay {
    socket: UdpSocket,
    address: Ipv4Addr,
    server: Ipv4Addr,
    waiting: Mutex<HashMap<u32, mpsc::Sender<Message>>>,
}

/// What a machine is to find.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The boot program and its size.
    pub program: (String, usize),
    /// Port of HTTP.
    pub http: u16,
}

impl Ledger {
    /// Machines that have an address.
    pub fn leased(&self) -> usize {
        locked(&self.by_address).len()
    }

    /// Machines that have their script, and their addresses.
    pub fn booted(&self) -> HashMap<[u8; 6], Ipv4Addr> {
        locked(&self.booted).clone()
    }

    fn acknowledged(&self, mac: [u8; 6], address: Ipv4Addr) -> Result<()> {
        let mut all = locked(&self.by_address);
        let other = all.insert(address, mac).filter(|other| *other != mac);
        ensure!(other.is_none(), "{address} was given to {mac:02x?} and to {other:02x?}");
        let own: Vec<_> =
            all.iter().filter(|(_, holder)| **holder == mac).map(|(address, _)| *address).collect();
        ensure!(own == [address], "{mac:02x?} was given {own:?}");
        Ok(())
    }
}

impl Relay {
    /// A relay at an address of this host, for a server at another one. It must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: Ipv4Addr, server: Ipv4Addr) -> Result<Arc<Self>> {
        let socket = UdpSocket::bind((address, dhcp::SERVER_PORT)).await?;
        let relay = Arc::new(Self { socket, address, server, waiting: Mutex::default() });
        let listening = Arc::clone(&relay);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                // While nobody has the server's port the kernel reports that; the client repeats itself.
                let Ok((length, _)) = listening.socket.recv_from(&mut buffer).await else { continue };
                let Ok(answer) = Message::parse(buffer.get(..length).unwrap_or_default()) else { continue };
                if let Some(client) = locked(&listening.waiting).get(&answer.xid) {
                    // A client that is busy drops what it cannot take, as a network card does.
                    client.try_send(answer).unwrap_or_default();
                }
            }
        });
        Ok(relay)
    }

    /// Sends a message until it is answered or has been repeated often enough.
    async fn ask(&self, mut message: Message) -> Option<Message> {
        message.giaddr = self.address;
        let bytes = message.encode(usize::MAX).ok()?.bytes;
        let (sender, mut answers) = mpsc::channel(ANSWERS);
        locked(&self.waiting).insert(message.xid, sender);
        let mut answer = None;
        for _ in 0..TRIES {
            // What cannot be sent is repeated like what is lost.
            self.socket.send_to(&bytes, (self.server, dhcp::SERVER_PORT)).await.map(drop).unwrap_or_default();
            if let Ok(Some(came)) = timeout(PATIENCE, answers.recv()).await {
                answer = Some(came);
                break;
            }
        }
        locked(&self.waiting).remove(&message.xid);
        answer
    }

    /// One try to get a lease; nothing when it must begin anew.
    async fn lease(&self, mac: [u8; 6], ledger: &Ledger) -> Result<Option<Message>> {
        let Some(offer) = self.ask(firmware(MessageType::Discover, mac)).await else { return Ok(None) };
        if offer.message_type() != Some(MessageType::Offer) {
            return Ok(None);
        }
        let mut request = firmware(MessageType::Request, mac);
        request.options.set_ip(code::REQUESTED_IP, offer.yiaddr);
        request
            .options
            .set_ip(code::SERVER_ID, offer.options.ip(code::SERVER_ID).context("an OFFER without a server")?);
        match self.ask(request).await {
            Some(ack) if ack.message_type() == Some(MessageType::Ack) => {
                ledger.acknowledged(mac, ack.yiaddr)?;
                Ok(Some(ack))
            }
            _ => Ok(None),
        }
    }

    /// Boots a machine to its script, however often it must begin anew.
    ///
    /// # Errors
    /// When it was given what it should not have been, or the deadline passes.
    pub async fn boot(
        &self,
        mac: [u8; 6],
        ledger: &Ledger,
        expected: &Expected,
        until: Instant,
    ) -> Result<()> {
        while Instant::now() < until {
            let Some(ack) = self.lease(mac, ledger).await? else { continue };
            let (name, size) = &expected.program;
            ensure!(ack.file() == *name, "{mac:02x?} was told {:?}", ack.file());
            let Some(program) = tftp(ack.siaddr, name).await? else { continue };
            ensure!(program == *size, "{mac:02x?} got {program} bytes of {name}");
            let path = format!("/ipxe/script/{}/auto.ipxe", text(mac));
            let Some(script) = http((self.server, expected.http).into(), &path).await else { continue };
            ensure!(
                script.contains("\r\n\r\n#!ipxe\n") && script.contains(&format!(" hw_addr={} ", text(mac))),
                "{mac:02x?} got {script}"
            );
            locked(&ledger.booted).insert(mac, ack.yiaddr);
            return Ok(());
        }
        bail!("{mac:02x?} did not boot in time")
    }

    /// Renews a lease, as its client does after half of its time.
    ///
    /// # Errors
    /// When it is refused, or not answered.
    pub async fn renew(&self, mac: [u8; 6], address: Ipv4Addr, ledger: &Ledger) -> Result<()> {
        let mut request = Message::request(MessageType::Request, mac, rand::random());
        request.ciaddr = address;
        let answer = self.ask(request).await.context("no answer to a renewal")?;
        let (kind, given) = (answer.message_type(), answer.yiaddr);
        ensure!(
            (kind, given) == (Some(MessageType::Ack), address),
            "{mac:02x?} at {address} got {kind:?} {given}"
        );
        ledger.acknowledged(mac, given)
    }
}

/// A message of UEFI firmware.
pub fn firmware(kind: MessageType, mac: [u8; 6]) -> Message {
    let mut message = Message::request(kind, mac, rand::random());
    message.options.set_text(code::VENDOR_CLASS, "PXEClient:Arch:00007:UNDI:003016");
    message.options.set(code::CLIENT_ARCH, [0, 7]);
    message.options.set(code::CLIENT_NDI, [1, 3, 16]);
    message
}

/// Reads a file block by block; gives its size, or nothing when the server fell silent.
async fn tftp(server: Ipv4Addr, name: &str) -> Result<Option<usize>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let request =
        [b"\0\x01", name.as_bytes(), b"\0octet\0blksize\0", BLOCK.to_string().as_bytes(), b"\0"].concat();
    let (mut last, mut to) = (request, SocketAddrV4::new(server, 69).into());
    let (mut size, mut block) = (0, 0_u16);
    let (mut buffer, mut tries) = ([0; BLOCK + 4], 0);
    loop {
        socket.send_to(&last, to).await.map(drop).unwrap_or_default();
        let Ok(Ok((length, from))) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await else {
            tries += 1;
            if tries == TRIES {
                return Ok(None);
            }
            continue;
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let [kind, number] = match packet.as_chunks::<2>().0 {
            [kind, number, ..] => [*kind, *number].map(u16::from_be_bytes),
            _ => continue,
        };
        match kind {
            6 if block == 0 => {}
            3 if number == block.wrapping_add(1) => {
                block = number;
                size += length - 4;
            }
            5 => {
                let text = String::from_utf8_lossy(packet.get(4..).unwrap_or_default());
                bail!("TFTP error {number}: {text}");
            }
            // What was there already.
            _ => continue,
        }
        (last, to, tries) = ([&[0, 4][..], &block.to_be_bytes()].concat(), from, 0);
        if block > 0 && length < BLOCK + 4 {
            socket.send_to(&last, to).await?;
            return Ok(Some(size));
        }
    }
}

/// Asks for a path, connecting anew as often as iPXE does; nothing when there is no whole answer.
async fn http(server: std::net::SocketAddr, path: &str) -> Option<String> {
    for _ in 0..TRIES {
        let begun = Instant::now();
        let asked = async {
            let mut stream = TcpStream::connect(server).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(MAX_SCRIPT).read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        match timeout(PATIENCE * TRIES, asked).await {
            Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('\n') => {
                return Some(answer);
            }
            // A server that is being started refuses at once.
            _ => tokio::time::sleep_until((begun + PATIENCE).into()).await,
        }
    }
    None
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is one map access, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
