// SPDX-License-Identifier: Apache-2.0
//! TLS for downloads and for the server, with *ring* and the certificate bundle of the system, if it has one. Without a
//! bundle plain HTTP works all the same.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where distributions and in-memory systems keep their bundle.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Verification was asked for and there is nothing to verify against.
    #[error("no CA certificates found ({}): TLS to the server cannot be verified", BUNDLES.join(", "))]
    NoBundle,
    /// rustls refused.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// rustls refused to build a verifier.
    #[error("TLS cannot be set up: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let named = std::env::var("SSL_CERT_FILE").ok();
    let found = named.iter().map(String::as_str).chain(BUNDLES).find_map(|path| std::fs::read(path).ok());
    let certificates = CertificateDer::pem_slice_iter(found.as_deref().unwrap_or_default());
    store.add_parsable_certificates(certificates.filter_map(Result::ok));
    store
}

/// For downloads over HTTPS; without a bundle every certificate is refused.
pub(crate) fn for_downloads() -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Verifies the server's certificate.
pub(crate) fn verified() -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let roots = roots();
    if roots.is_empty() {
        return Err(TlsError::NoBundle);
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// Accepts any certificate, because the operator said so.
pub(crate) fn unverified() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyCertificate(provider().signature_verification_algorithms))
}

#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
