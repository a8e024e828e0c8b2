// SPDX-License-Identifier: Apache-2.0
//! A web server that misbehaves on purpose: one file that is announced longer than it is, and one that comes slowly until
//! the test lets it go, by two names.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How often the slow file gives a few bytes.
const DRIP: Duration = Duration::from_millis(500);
/// How many.
const DROPS: usize = 1024;

/// Paths of the slow file; the second says which Kubernetes is in it, as an image's name must.
const SLOW: [&str; 2] = ["/slow.img", "/debian-1-34.img"];

/// The answer to whoever asks for anything else.
pub(crate) const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The server. Ends with its runtime.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// [`SLOW`].
    slow: Vec<u8>,
    released: CancellationToken,
    slow_requests: AtomicU32,
    /// `/short.img`: its announced length; half of it is there.
    announced: usize,
    /// How many seconds its clock is behind.
    behind: AtomicU32,
}

/// An image of so many bytes, none of which is zero, and without the magic number of any compression.
pub fn image(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap_or(0) | 1).collect()
}

impl Web {
    /// Serves on a free port of this address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: Ipv4Addr, slow: Vec<u8>, announced: usize) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let shared = Arc::new(Shared {
            slow,
            released: CancellationToken::new(),
            slow_requests: AtomicU32::new(0),
            announced,
            behind: AtomicU32::new(0),
        });
        let web = Self { address: listener.local_addr()?, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // A client may leave at any time.
                    drop(serve(client, &shared).await);
                });
            }
        });
        Ok(web)
    }

    /// The file that comes slowly until it is let go.
    pub fn slow_url(&self) -> String {
        format!("http://{}{}", self.address, SLOW[0])
    }

    /// The same file by the name of an image of a node.
    pub fn image_url(&self) -> String {
        format!("http://{}{}", self.address, SLOW[1])
    }

    /// The file that ends at half of its announced length.
    pub fn short_url(&self) -> String {
        format!("http://{}/short.img", self.address)
    }

    /// The rest of the slow file comes at once.
    pub fn release(&self) {
        self.shared.released.cancel();
    }

    /// Sets its clock back, in the heads that it answers.
    pub fn is_behind(&self, seconds: u32) {
        self.shared.behind.store(seconds, Ordering::Relaxed);
    }

    /// How often the slow file was asked for.
    pub fn slow_requests(&self) -> u32 {
        self.shared.slow_requests.load(Ordering::Relaxed)
    }
}

/// What was asked for.
pub(crate) struct Request {
    pub(crate) path: String,
    /// First byte that is wanted, where it is not all.
    pub(crate) from: Option<usize>,
    pub(crate) head_only: bool,
}

impl Request {
    /// Reads the head of a request.
    pub(crate) async fn read(client: &mut BufReader<TcpStream>) -> Result<Self> {
        let mut request = Self { path: String::new(), from: None, head_only: false };
        loop {
            let mut line = String::new();
            if client.read_line(&mut line).await? == 0 {
                bail!("the client is gone");
            }
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("GET ").or_else(|| line.strip_prefix("HEAD ")) {
                request.head_only = line.starts_with("HEAD ");
                request.path = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                request.from = range.trim_end_matches('-').parse().ok();
            }
            if line.is_empty() {
                return Ok(request);
            }
        }
    }
}

async fn serve(client: TcpStream, shared: &Shared) -> Result<()> {
    let mut client = BufReader::new(client);
    let Request { path, from, head_only } = Request::read(&mut client).await?;
    let client = client.get_mut();
    match path.as_str() {
        path if SLOW.contains(&path) && head_only => {
            let now =
                Timestamp::now() - SignedDuration::from_secs(shared.behind.load(Ordering::Relaxed).into());
            head(client, shared.slow.len(), None, Some(now)).await?;
        }
        path if SLOW.contains(&path) => {
            shared.slow_requests.fetch_add(1, Ordering::Relaxed);
            head(client, shared.slow.len(), from, None).await?;
            drip(client, shared.slow.get(from.unwrap_or(0)..).unwrap_or_default(), &shared.released).await?;
        }
        "/short.img" => {
            head(client, shared.announced, from, None).await?;
            let half = vec![0x5a; (shared.announced / 2).saturating_sub(from.unwrap_or(0))];
            client.write_all(&half).await?;
        }
        _ => client.write_all(NOT_FOUND).await?,
    }
    Ok(client.shutdown().await?)
}

/// The head of an answer, with the time when there is one.
pub(crate) async fn head(
    client: &mut TcpStream,
    length: usize,
    from: Option<usize>,
    now: Option<Timestamp>,
) -> Result<()> {
    let start = from.unwrap_or(0);
    let (status, range) = match from {
        Some(_) => {
            let last = length.saturating_sub(1);
            ("206 Partial Content", format!("Content-Range: bytes {start}-{last}/{length}\r\n"))
        }
        None => ("200 OK", String::new()),
    };
    let left = length.saturating_sub(start);
    let date = now.map(|now| now.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string());
    let date = date.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: \"one\"\r\nAccept-Ranges: bytes\r\nContent-Length: {left}\r\n{range}{date}Connection: close\r\n\r\n"
    );
    Ok(client.write_all(head.as_bytes()).await?)
}

/// A few bytes at a time until `released`, then the rest.
async fn drip(client: &mut TcpStream, mut body: &[u8], released: &CancellationToken) -> Result<()> {
    while !body.is_empty() && !released.is_cancelled() {
        let (drops, rest) = body.split_at(DROPS.min(body.len()));
        client.write_all(drops).await?;
        body = rest;
        tokio::select! {
            () = released.cancelled() => {}
            () = tokio::time::sleep(DRIP) => {}
        }
    }
    Ok(client.write_all(body).await?)
}
