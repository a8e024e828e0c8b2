// SPDX-License-Identifier: Apache-2.0

//! `tink pcap`: the packets of a machine's last boot, as boots saw them, for tshark and Wireshark.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use reqwest::StatusCode;
use thiserror::Error;

use crate::traces::{Boots, Place, TraceError};

/// Why there is no capture. None is retried.
#[derive(Debug, Error)]
pub enum PcapError {
    /// Boots does not give it.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The answer broke off.
    #[error("the connection to boots broke")]
    Broken(#[source] reqwest::Error),
    /// Nobody could read it there.
    #[error(
        "a capture is no text: name a file with --write, or pipe it, as in `tink pcap {machine} | tshark -r -`"
    )]
    Terminal {
        /// The machine.
        machine: String,
    },
    /// It cannot be written.
    #[error("{place} cannot be written")]
    Output {
        /// Where to.
        place: String,
        /// Why.
        source: io::Error,
    },
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => {
            ": it has no packets of this machine, which did not boot since it keeps them (boots.pcap-enabled)"
        }
        _ => "",
    }
}

/// Writes the capture of a machine in a namespace to a file, else to standard output.
///
/// # Errors
///
/// See [`PcapError`].
pub async fn pcap(
    place: &Place,
    (namespace, machine): (&str, &str),
    write: Option<PathBuf>,
) -> Result<(), PcapError> {
    if write.is_none() && io::stdout().is_terminal() {
        return Err(PcapError::Terminal { machine: machine.to_owned() });
    }
    let answer = Boots::at(place)?.get(&format!("/pcap/{namespace}/{machine}"), hint).await?;
    let bytes = answer.bytes().await.map_err(PcapError::Broken)?;
    match write {
        Some(path) => std::fs::write(&path, &bytes)
            .map_err(|source| PcapError::Output { place: path.display().to_string(), source }),
        None => io::stdout()
            .write_all(&bytes)
            .map_err(|source| PcapError::Output { place: "standard output".to_owned(), source }),
    }
}
