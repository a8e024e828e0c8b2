// SPDX-License-Identifier: Apache-2.0
//! The certificate and key of a server, read from files and read again when they change, so that a renewed certificate needs
//! no restart. While the files do not fit together what was read before stays in use.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Why certificate and key cannot be used. Retried when the files change.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM form", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// They do not fit together, or are of no kind that TLS knows.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    stamps: [Stamp; 2],
    looked: Instant,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Self {
        std::fs::metadata(path).map_or(Self::default(), |metadata| Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        // Looked at before they are read: what changes in between is read again.
        let stamps = [Stamp::of(certificate), Stamp::of(key)];
        let current = Current { config: read(certificate, key)?, stamps, looked: Instant::now() };
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current: Mutex::new(current) })
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        // Every change is whole before it is assigned, so that a panic elsewhere leaves it usable.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamps = [Stamp::of(&self.certificate), Stamp::of(&self.key)];
            if stamps != current.stamps {
                match read(&self.certificate, &self.key) {
                    Ok(config) => {
                        tracing::info!(certificate = %self.certificate.display(), "certificate read again");
                        (current.config, current.stamps) = (config, stamps);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the certificate changed and cannot be used; the old one stays")
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let content = |path: &Path, what| TlsError::Content { path: path.to_owned(), what };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bounded(certificate)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| content(certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&bounded(key)?).map_err(|_| content(key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn bounded(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    let wrap = |source| TlsError::File { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(wrap)?.len() > MAX_FILE {
        return Err(wrap(io::Error::new(io::ErrorKind::InvalidData, "it is too large")));
    }
    std::fs::read(path).map(zeroize::Zeroizing::new).map_err(wrap)
}
