// SPDX-License-Identifier: Apache-2.0
//! What stands before two replicas of the gRPC endpoint in a cluster: every connection goes to the next one that takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections to `address` in turn to `replicas`. Ends with its runtime.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(address: SocketAddr, replicas: Vec<SocketAddr>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let (replicas, turn) = (Arc::new(replicas), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (replicas, turn) = (Arc::clone(&replicas), Arc::clone(&turn));
            tokio::spawn(forward(client, replicas, turn));
        }
    });
    Ok(())
}

async fn forward(mut client: TcpStream, replicas: Arc<Vec<SocketAddr>>, turn: Arc<AtomicUsize>) {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for replica in replicas.iter().cycle().skip(first % replicas.len().max(1)).take(replicas.len()) {
        if let Ok(mut server) = TcpStream::connect(replica).await {
            // Either side may leave at any time.
            drop(copy_bidirectional(&mut client, &mut server).await);
            return;
        }
    }
}
