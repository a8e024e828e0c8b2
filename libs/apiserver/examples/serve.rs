// SPDX-License-Identifier: Apache-2.0

//! The server alone: `cargo run -p apiserver --example serve -- DIRECTORY ADDRESS`.
//!
//! Serves what `DIRECTORY/api.redb` holds on ADDRESS until interrupted, and writes `DIRECTORY/kubeconfig`:
//! `kubectl --kubeconfig DIRECTORY/kubeconfig apply -f crds.yaml` is all that is needed next.

use std::error::Error;
use std::path::PathBuf;

use apiserver::{Options, Server, Tls, pki};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(address), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: serve DIRECTORY ADDRESS".into());
    };
    let directory = PathBuf::from(directory);
    let server = Server::open(Options::new(directory.join("api.redb"))).await?;
    let identity = pki::Identity::load_or_create(&directory.join("pki"), &[])?;
    let listener = TcpListener::bind(address).await?;
    let url = format!("https://{}", listener.local_addr()?);
    pki::write_private(&directory.join("kubeconfig"), &identity.kubeconfig(&url, "default"))?;
    println!("serving on {url}");
    let shutdown = CancellationToken::new();
    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        // Without a handler for the signal there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    server.serve_tls(listener, Tls::new(&identity)?, shutdown).await?;
    server.close().await;
    Ok(())
}
