// SPDX-License-Identifier: Apache-2.0
//! The health and metrics endpoint that every daemon has on its own port: `/healthz`, `/readyz`, `/metrics`.
//!
//! It never serves anything about machines or secrets, so that it needs no authentication.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics;

/// Serves until `shutdown`. Liveness is 200 as long as this task runs, so that a stuck runtime shows.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(health)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The routes, for programs that serve several daemons' health themselves.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    if health.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let waiting: String = health
        .waiting()
        .into_iter()
        .map(|(name, waiting)| format!("{name}: waits for {waiting}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, if waiting.is_empty() { "starting\n".to_owned() } else { waiting })
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], health.metrics().encode())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(health.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(to_bytes(response.into_body(), 65536).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_waited_for() {
        let health = Health::new();
        let latch = health.latch("hardware cache", "the first list");
        assert_eq!(fetch(&health, "/healthz").await.0, StatusCode::OK);
        let (status, body) = fetch(&health, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "hardware cache: waits for the first list\n")
        );
        latch.set();
        assert_eq!(fetch(&health, "/readyz").await.0, StatusCode::OK);
    }
}
