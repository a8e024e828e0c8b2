// SPDX-License-Identifier: Apache-2.0

//! TLS towards BMCs: which certificates are believed, and what a failed handshake means in words.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Where Debian and most other distributions keep the system's roots as one PEM file.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A PEM bundle larger than this is not a bundle of certificates.
const MAX_BUNDLE: u64 = 8 << 20;

/// Whom to believe. `insecureTLS: true` of a Machine is [`Trust::Anything`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Any certificate, as BMCs leave the factory with self-signed ones. The connection is encrypted, the peer unknown.
    Anything,
    /// The system's roots in `/etc/ssl/certs/ca-certificates.crt`.
    SystemRoots,
    /// The roots in this PEM file, and no others.
    Bundle(PathBuf),
}

/// Why there are no roots to verify with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(
        "the root certificates in {path} cannot be read ({source}); install ca-certificates, or set insecureTLS"
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no usable root certificate")]
    Empty { path: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Builds the client side. HTTP/1.1 only: BMC web servers that offer more get it wrong.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Anything => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { schemes }))
            .with_no_client_auth(),
        Trust::SystemRoots => {
            builder.with_root_certificates(roots(Path::new(SYSTEM_ROOTS))?).with_no_client_auth()
        }
        Trust::Bundle(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
    };
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let read = |source| TrustError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(read)?.len() > MAX_BUNDLE {
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, "more than 8 MiB")));
    }
    let pem = fs::read(path).map_err(read)?;
    let mut store = RootCertStore::empty();
    let (added, _ignored) = store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 { Err(TrustError::Empty { path: path.to_owned() }) } else { Ok(store) }
}

/// The reason of a failed handshake in words, if `error` was one.
pub(crate) fn handshake_failure(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return Some(describe(tls));
        }
        // io::Error hides what it wraps from `source`, and the connector wraps twice.
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => current.source(),
        };
    }
    None
}

fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => {
            let problem = match certificate {
                CertificateError::UnknownIssuer => {
                    "is not signed by a trusted authority (self-signed?)".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "was issued for another name".to_owned()
                }
                other => format!("is refused: {other}"),
            };
            format!("the TLS certificate {problem}; install a good one, or set insecureTLS")
        }
        rustls::Error::InvalidMessage(_) => "does not speak TLS on this port".to_owned(),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            format!("no common TLS version or cipher (1.2 or newer is needed): {error}")
        }
        other => format!("the TLS handshake failed: {other}"),
    }
}

/// Accepts every certificate. The signature over the handshake is not checked either: by an unknown key it proves
/// nothing, and the check would refuse the X.509 version 1 certificates that old BMCs carry.
#[derive(Debug)]
struct AnyCertificate {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
