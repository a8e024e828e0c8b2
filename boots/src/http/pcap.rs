// SPDX-License-Identifier: Apache-2.0
//! The packets of a machine's last boot over HTTP: `GET /pcap/<namespace>/<machine>`, a pcapng file, for whoever has the token.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use crate::access::HttpToken;
use crate::capture::Reader;
use crate::kept::Name;

/// Captures and who may read them.
#[derive(Debug, Clone)]
pub(crate) struct Pcap {
    reader: Reader,
    token: HttpToken,
}

impl Pcap {
    pub(crate) fn new(reader: Reader, token: HttpToken) -> Self {
        Self { reader, token }
    }
}

pub(super) async fn pcap(
    State(pcap): State<Pcap>,
    Path((namespace, machine)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = pcap.token.refusal(&headers) {
        return refusal;
    }
    let name = Name { namespace, machine };
    match pcap.reader.read(&name).await {
        Ok(Some(file)) => {
            let head = [(header::CONTENT_TYPE, "application/x-pcapng"), (header::CACHE_CONTROL, "no-store")];
            (head, file).into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "no packets of this machine are kept\n").into_response(),
        Err(error) => {
            tracing::warn!(machine = name.machine, %error, "the packets of a machine cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
