// SPDX-License-Identifier: Apache-2.0
//! HTTP as the daemon does it, without a socket and without an API server: for the fuzz target of requests.

use api::token::TokenKey;
use api::v1alpha1::{Hardware, Workflow};
use axum::Router;
use daemon::Health;
use daemon::events::Recorder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::watch::Backend;
use crate::files::Programs;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::{Config, Error, captures, http, http_token, isos, joined, logs, machine_files, router, scripts};

/// A server, and the tasks of what it keeps and tells.
#[derive(Debug)]
pub struct Web {
    router: Router,
    _tasks: JoinSet<()>,
}

impl Web {
    /// A server that knows these machines and Workflows, whose tokens `key` signs. Events go to `client`. It must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When files are missing or a directory cannot be used.
    pub fn new(
        config: &Config,
        client: kube::Client,
        key: TokenKey,
        (machines, workflows): (&[Hardware], &[Workflow]),
    ) -> Result<Self, Error> {
        let mut tasks = JoinSet::new();
        let health = Health::new();
        let metrics = Metrics::register(health.metrics());
        let (recorder, task) = Recorder::spawn(client, "boots", health.metrics(), CancellationToken::new());
        tasks.spawn(joined(task));
        let (captures, captured) = captures(config, &metrics, &mut tasks)?.unzip();
        let journal = Journal::new(recorder, metrics, captures);
        let backend = Backend::default();
        backend.change(|index| {
            machines.iter().for_each(|machine| drop(index.apply_hardware(machine)));
            workflows.iter().for_each(|workflow| index.apply_workflow(workflow));
        });
        let opens = http_token(config)?;
        let logs = match &config.syslog {
            None => None,
            Some(syslog) => Some(logs(&syslog.logs, &journal, &opens, &mut tasks)?.1),
        };
        let scripts = scripts(config, backend, key, journal);
        let isos = isos(config, &scripts, &mut tasks)?;
        let pcap = captured.map(|reader| http::Pcap::new(reader, opens));
        let files = machine_files(config, Programs::read(config)?, scripts);
        let router = router(config, &files, (logs, pcap, isos));
        Ok(Self { router, _tasks: tasks })
    }

    /// All routes. A request needs [`daemon::http::Peer`] as an extension to be somebody's.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
}
