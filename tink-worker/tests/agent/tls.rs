// SPDX-License-Identifier: Apache-2.0
//! TLS: to the server with and without verification, and for downloads.

use std::sync::Arc;
use std::time::Duration;

use proto::workflow::action_status_request::StateType;
use tink_worker::config::{Config, Transport};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::servers::{Agent, Tink, World, action, dirty_disk, image2disk};

fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_server_is_used_only_when_verification_is_off() {
    let own = certificate();
    for (transport, works) in [(Transport::TlsUnverified, true), (Transport::Tls, false)] {
        let tink = Tink::with([action("a", "nginx", 5, &[])]);
        let server = tink.serve_tls(&own.cert.pem(), &own.signing_key.serialize_pem()).await;
        let state = tempfile::tempdir().unwrap();
        let mut config = Config::new("agent", server.address.to_string(), state.path());
        config.transport = transport;
        config.longest_backoff = Duration::from_millis(100);
        if works {
            let _agent = Agent::start(config);
            assert_eq!(tink.end_of("a").await.0, StateType::Failed);
        } else {
            // Without a bundle of certificates it does not start; with one it never gets through.
            let run = tokio::spawn(tink_worker::run(config, tokio_util::sync::CancellationToken::new()));
            let ended = tokio::time::timeout(Duration::from_secs(2), run).await;
            assert!(ended.is_err() || ended.is_ok_and(|run| run.unwrap().is_err()));
            assert_eq!(tink.0.lock().unwrap().polls, 0);
        }
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_server_with_an_unknown_certificate_is_refused_at_once() {
    let own = certificate();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/a.img", listener.local_addr().unwrap().port());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // The client breaks off the handshake; that is what this test is about.
            drop(acceptor.accept(stream).await);
        }
    });
    let world = World::new([]).await;
    let disk = dirty_disk(world.directory.path(), 4096);
    world.tink.0.lock().unwrap().actions.push_back(image2disk("a", &url, &disk, &[]));
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Failed);
    assert!(message.contains("UnknownIssuer"), "{message}");
    serving.abort();
}
