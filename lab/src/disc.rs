// SPDX-License-Identifier: Apache-2.0
//! A disc in the virtual drive of a machine: an image behind a URL, of which the BMC reads over HTTP what the machine reads.
//!
//! QEMU is given it as a network block device on a Unix socket (the NBD protocol document, newstyle negotiation, simple replies,
//! read only). [`crate::machine`] starts one with the machine and drops it with it. It must never keep more of an image than
//! one block: what a machine reads again is asked for again, as real BMCs do.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_RANGE, HOST, RANGE};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are asked for at once: firmware reads sector by sector.
const BLOCK: u64 = 256 * 1024;
/// Longest time until the server of the image answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest read that a client may ask for; QEMU's are 32 MiB at most.
const MAX_READ: u32 = 32 << 20;
/// Longest option; the protocol's limit of a name is 4096 bytes.
const MAX_OPTION: u32 = 8192;

const INIT: &[u8; 8] = b"NBDMAGIC";
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Handshake flag: fixed newstyle. No zeroes is the second one, which the client confirms.
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
/// Options, and types of answers to them.
const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 0x8000_0001;
/// Transmission flags: there are flags, and nothing can be written.
const READ_ONLY: u16 = 0b11;
/// Commands and errors.
const READ: u16 = 0;
const DISCONNECT: u16 = 2;
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// A disc that can be read. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Disc {
    _task: AbortOnDropHandle<()>,
}

/// Why an image is no disc. Not retried: the drive stays empty.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscError {
    /// It is not behind a URL of plain HTTP.
    #[error("{0} is no URL of HTTP")]
    Url(String),
    /// Its server cannot be reached.
    #[error("the image's server cannot be reached")]
    Unreachable(#[source] io::Error),
    /// Its server does not speak HTTP.
    #[error("the image cannot be read")]
    Http(#[from] hyper::Error),
    /// Its server is too slow.
    #[error("the image's server does not answer")]
    Slow(#[from] tokio::time::error::Elapsed),
    /// Its server says something else than a part of it.
    #[error("the image is not served in ranges: {0}")]
    NoRanges(StatusCode),
    /// The socket for QEMU cannot be made.
    #[error("the drive's socket cannot be made")]
    Socket(#[from] io::Error),
}

impl Disc {
    /// Asks for the image behind a URL and exports it on a socket.
    pub(crate) async fn insert(url: &str, socket: &Path) -> Result<Self, DiscError> {
        let uri =
            url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let uri = uri.ok_or_else(|| DiscError::Url(url.to_owned()))?;
        let mut image = Image { uri, size: 0, block: (u64::MAX, Bytes::new()) };
        image.size = image.measure().await?;
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        tracing::info!(url, size = image.size, "a disc was inserted");
        let task = tokio::spawn(serve(listener, image));
        Ok(Self { _task: AbortOnDropHandle::new(task) })
    }
}

/// The image of a disc.
#[derive(Debug, Clone)]
struct Image {
    uri: Uri,
    size: u64,
    /// The block that was read last, and its place.
    block: (u64, Bytes),
}

impl Image {
    /// The size, from the answer to a request for the first byte.
    async fn measure(&self) -> Result<u64, DiscError> {
        let (status, headers, _) = self.get("bytes=0-0").await?;
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let size = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
        size.filter(|_| status == StatusCode::PARTIAL_CONTENT).ok_or(DiscError::NoRanges(status))
    }

    /// Asks for a range, on a connection of its own.
    async fn get(&self, range: &str) -> Result<(StatusCode, HeaderMap, Bytes), DiscError> {
        let host = self.uri.host().unwrap_or_default();
        let authority = format!("{host}:{}", self.uri.port_u16().unwrap_or(80));
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = path.parse().map_err(|_| DiscError::Url(self.uri.to_string()))?;
        for (name, value) in [(HOST, authority.as_str()), (RANGE, range)] {
            let value = value.parse().map_err(|_| DiscError::Url(self.uri.to_string()))?;
            request.headers_mut().insert(name, value);
        }
        let exchange = async {
            let stream = TcpStream::connect(&authority).await.map_err(DiscError::Unreachable)?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
            let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
            let (head, body) = sender.send_request(request).await?.into_parts();
            // A server that knows no ranges would send the whole image.
            let body = Limited::new(body, usize::try_from(BLOCK).unwrap_or(usize::MAX)).collect().await;
            let bytes = body.map_err(|_| DiscError::NoRanges(head.status))?.to_bytes();
            Ok((head.status, head.headers, bytes))
        };
        timeout(PATIENCE, exchange).await?
    }

    /// The bytes from `offset` on.
    async fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, DiscError> {
        let mut bytes = Vec::new();
        let end = offset + u64::from(length);
        let mut at = offset;
        while at < end {
            let begin = at - at % BLOCK;
            if self.block.0 != begin {
                self.block = (begin, self.fetch(begin, begin.saturating_add(BLOCK).min(self.size)).await?);
            }
            let within = |place: u64| usize::try_from(place - begin).unwrap_or(usize::MAX);
            let to = end.min(begin.saturating_add(BLOCK));
            bytes.extend_from_slice(self.block.1.get(within(at)..within(to)).unwrap_or_default());
            at = to;
        }
        Ok(bytes)
    }

    async fn fetch(&self, begin: u64, end: u64) -> Result<Bytes, DiscError> {
        let (status, _, bytes) = self.get(&format!("bytes={begin}-{}", end - 1)).await?;
        let whole = u64::try_from(bytes.len()).is_ok_and(|length| length == end - begin);
        if status == StatusCode::PARTIAL_CONTENT && whole {
            Ok(bytes)
        } else {
            Err(DiscError::NoRanges(status))
        }
    }
}

async fn serve(listener: UnixListener, image: Image) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let image = image.clone();
                    clients.spawn(async move {
                        if let Err(error) = converse(BufStream::new(stream), image).await {
                            tracing::debug!(%error, "the machine left its drive");
                        }
                    });
                }
                Err(error) => return tracing::warn!(%error, "the drive's socket failed"),
            },
        }
    }
}

async fn converse(mut stream: BufStream<UnixStream>, mut image: Image) -> io::Result<()> {
    if !negotiate(&mut stream, image.size).await? {
        return Ok(());
    }
    loop {
        stream.flush().await?;
        if stream.read_u32().await? != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (_flags, command, handle) =
            (stream.read_u16().await?, stream.read_u16().await?, stream.read_u64().await?);
        let (offset, length) = (stream.read_u64().await?, stream.read_u32().await?);
        let inside = offset.checked_add(length.into()).is_some_and(|end| end <= image.size);
        let answer = match command {
            DISCONNECT => return Ok(()),
            READ if inside && length <= MAX_READ => image.read(offset, length).await.map_err(|error| {
                tracing::warn!(uri = %image.uri, offset, error = %error, "a disc cannot be read");
                EIO
            }),
            READ => Err(EINVAL),
            // A client of an export that is read only sends none that has more data than this head.
            _ => Err(EPERM),
        };
        stream.write_u32(REPLY).await?;
        stream.write_u32(answer.as_ref().err().copied().unwrap_or(0)).await?;
        stream.write_u64(handle).await?;
        stream.write_all(&answer.unwrap_or_default()).await?;
    }
}

/// The handshake; whether transmission begins.
async fn negotiate(stream: &mut BufStream<UnixStream>, size: u64) -> io::Result<bool> {
    stream.write_all(INIT).await?;
    stream.write_all(OPTION).await?;
    stream.write_u16(FIXED_NEWSTYLE | NO_ZEROES).await?;
    stream.flush().await?;
    let zeroes = stream.read_u32().await? & u32::from(NO_ZEROES) == 0;
    loop {
        stream.flush().await?;
        let mut magic = [0; 8];
        stream.read_exact(&mut magic).await?;
        let (option, length) = (stream.read_u32().await?, stream.read_u32().await?);
        if magic != *OPTION || length > MAX_OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Which export is wanted, and which facts about it: there is one, of which all are told.
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut data).await?;
        match option {
            EXPORT_NAME => {
                stream.write_u64(size).await?;
                stream.write_u16(READ_ONLY).await?;
                let padding: &[u8] = if zeroes { &[0; 124] } else { &[] };
                stream.write_all(padding).await?;
                return Ok(true);
            }
            INFO | GO => {
                reply(
                    stream,
                    option,
                    REP_INFO,
                    &[&[0, 0][..], &size.to_be_bytes(), &READ_ONLY.to_be_bytes()].concat(),
                )
                .await?;
                reply(stream, option, REP_ACK, &[]).await?;
                if option == GO {
                    return Ok(true);
                }
            }
            ABORT => {
                reply(stream, option, REP_ACK, &[]).await?;
                stream.flush().await?;
                return Ok(false);
            }
            _ => reply(stream, option, REP_ERR_UNSUP, &[]).await?,
        }
    }
}

async fn reply(stream: &mut BufStream<UnixStream>, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_u64(OPTION_REPLY).await?;
    stream.write_u32(option).await?;
    stream.write_u32(kind).await?;
    stream.write_u32(u32::try_from(data.len()).unwrap_or(u32::MAX)).await?;
    stream.write_all(data).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderMap;
    use axum::response::IntoResponse as _;

    use super::*;

    const SIZE: usize = 3 * 256 * 1024 + 100;

    fn image() -> Vec<u8> {
        (0..SIZE).map(|place| u8::try_from(place / 7 % 251).unwrap()).collect()
    }

    /// A server of the image; gives its URL and how often it was asked.
    async fn server() -> (String, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = move |headers: HeaderMap| async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned();
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let range = format!("bytes {first}-{last}/{SIZE}");
            (StatusCode::PARTIAL_CONTENT, [(CONTENT_RANGE, range)], image()[first..=last].to_vec())
                .into_response()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a.iso", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/a.iso", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, asked)
    }

    /// A client that knows the protocol as its document has it, after the option GO.
    async fn client(socket: &Path) -> (UnixStream, u64) {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, *b"NBDMAGICIHAVEOPT\x00\x03");
        // Structured replies, which are refused, then the export without a name.
        stream
            .write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0")
            .await
            .unwrap();
        let mut refused = [0; 20];
        stream.read_exact(&mut refused).await.unwrap();
        assert_eq!(refused, *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\x80\0\0\x01\0\0\0\0");
        let mut export = [0; 32];
        stream.read_exact(&mut export).await.unwrap();
        assert_eq!(export[..22], *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x0c\0\0");
        assert_eq!(export[30..], [0, 3], "there are flags, and it is read only");
        let mut done = [0; 20];
        stream.read_exact(&mut done).await.unwrap();
        assert_eq!(done, *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0");
        (stream, u64::from_be_bytes(export[22..30].try_into().unwrap()))
    }

    /// The error and the bytes of one command.
    async fn ask(stream: &mut UnixStream, command: u16, offset: u64, length: u32) -> (u32, Vec<u8>) {
        let head = [&REQUEST.to_be_bytes()[..], &[0, 0], &command.to_be_bytes(), b"12345678"].concat();
        let whole = [&head[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat();
        stream.write_all(&whole).await.unwrap();
        let (magic, error) = (stream.read_u32().await.unwrap(), stream.read_u32().await.unwrap());
        assert_eq!((magic, stream.read_u64().await.unwrap()), (REPLY, u64::from_be_bytes(*b"12345678")));
        let mut bytes = vec![0; if error == 0 { usize::try_from(length).unwrap() } else { 0 }];
        stream.read_exact(&mut bytes).await.unwrap();
        (error, bytes)
    }

    #[tokio::test]
    async fn a_disc_has_the_bytes_of_its_image_and_can_only_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("disc");
        let (url, asked) = server().await;
        let disc = Disc::insert(&url, &socket).await.unwrap();
        let (mut stream, size) = client(&socket).await;
        assert_eq!(usize::try_from(size).unwrap(), SIZE);
        for (offset, length) in [(0, 512), (2048, 2048), (262_000, 600), (786_000, 532), (100, 786_432)] {
            let (error, bytes) = ask(&mut stream, READ, offset, length).await;
            let offset = usize::try_from(offset).unwrap();
            let end = offset + usize::try_from(length).unwrap();
            assert!(error == 0 && bytes == image()[offset..end], "{offset} {length}");
        }
        assert_eq!(
            asked.load(Ordering::Relaxed),
            1 + 1 + 1 + 2 + 4,
            "sectors of one block are asked for once"
        );
        assert_eq!(ask(&mut stream, READ, size - 1, 2).await.0, EINVAL);
        assert_eq!(ask(&mut stream, READ, u64::MAX, 2).await.0, EINVAL);
        assert_eq!(ask(&mut stream, 4, 0, 512).await.0, EPERM, "a trim");
        drop(disc);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "it was taken out");
    }

    #[tokio::test]
    async fn what_cannot_be_read_in_ranges_is_no_disc() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("disc");
        let (url, _) = server().await;
        let nothing = url.replace("a.iso", "b.iso");
        assert!(matches!(
            Disc::insert(&nothing, &socket).await,
            Err(DiscError::NoRanges(StatusCode::NOT_FOUND))
        ));
        for no_url in ["https://127.0.0.1/a.iso", "file:///a.iso", "a.iso", ""] {
            assert!(matches!(Disc::insert(no_url, &socket).await, Err(DiscError::Url(_))), "{no_url}");
        }
        assert!(!socket.exists());
    }
}
