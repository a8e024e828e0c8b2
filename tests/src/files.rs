// SPDX-License-Identifier: Apache-2.0
//! A web server of files, as the owner of a rack has one for images, which remembers who read what.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::web::{NOT_FOUND, Request, head};

/// The server. Ends with its runtime.
#[derive(Debug)]
pub struct Files {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// By name.
    files: BTreeMap<String, PathBuf>,
    /// Whoever began to read a file from its first byte, by the file's name.
    reads: Mutex<Vec<(String, IpAddr)>>,
}

impl Files {
    /// Serves these files, by their own names, on a free port of this address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: Ipv4Addr, files: impl IntoIterator<Item = PathBuf>) -> Result<Self> {
        let named = files.into_iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, path))
        });
        let shared = Arc::new(Shared { files: named.collect(), reads: Mutex::default() });
        let listener = TcpListener::bind((address, 0)).await?;
        let files = Self { address: listener.local_addr()?, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            while let Ok((client, peer)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A client may leave at any time.
                    drop(serve(client, peer.ip(), &shared).await);
                });
            }
        });
        Ok(files)
    }

    /// Where a file is.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Who has read a file from its beginning, each as often as it did.
    pub fn readers(&self, name: &str) -> Vec<IpAddr> {
        let reads = self.shared.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.iter().filter(|(read, _)| read == name).map(|(_, who)| *who).collect()
    }
}

async fn serve(client: TcpStream, peer: IpAddr, shared: &Shared) -> Result<()> {
    let mut client = BufReader::new(client);
    let Request { path, from, head_only } = Request::read(&mut client).await?;
    let client = client.get_mut();
    let name = path.trim_start_matches('/');
    let Some(place) = shared.files.get(name) else {
        client.write_all(NOT_FOUND).await?;
        return Ok(client.shutdown().await?);
    };
    let mut file = File::open(place).await?;
    head(client, usize::try_from(file.metadata().await?.len())?, from, Some(Timestamp::now())).await?;
    if !head_only {
        if from.unwrap_or(0) == 0 {
            let mut reads = shared.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.push((name.to_owned(), peer));
        }
        file.seek(SeekFrom::Start(u64::try_from(from.unwrap_or(0))?)).await?;
        tokio::io::copy(&mut file, client).await?;
    }
    Ok(client.shutdown().await?)
}
