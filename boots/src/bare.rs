// SPDX-License-Identifier: Apache-2.0
//! HTTP as the daemon does it, without a socket and without an API server: for the fuzz target of requests.

use std::path::Path;
use std::sync::Arc;

use api::token::TokenKey;
use api::v1alpha1::{Hardware, Workflow};
use axum::Router;
use daemon::Health;
use daemon::events::Recorder;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::assets::Assets;
use crate::backend::watch::Backend;
use crate::files::{Directory, Programs};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::scripts::Scripts;
use crate::{Config, Error, capture, http, http_token, iso, joined, logs};

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
        let mut run = |task: JoinHandle<()>| drop(tasks.spawn(joined(task)));
        let state = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::State { path, source }
        };
        let health = Health::new();
        let metrics = Metrics::register(health.metrics());
        let (recorder, task) = Recorder::spawn(client, "boots", health.metrics(), CancellationToken::new());
        run(task);
        let captures = config.capture.as_ref().map(|capture| {
            capture::spawn(capture, metrics.clone()).map_err(state(&capture.dir)).map(
                |(captures, reader, task)| {
                    run(task);
                    (captures, reader)
                },
            )
        });
        let (captures, captured) = captures.transpose()?.unzip();
        let journal = Journal::new(recorder, metrics, captures);
        let backend = Backend::default();
        backend.change(|index| {
            machines.iter().for_each(|machine| drop(index.apply_hardware(machine)));
            workflows.iter().for_each(|workflow| index.apply_workflow(workflow));
        });
        let opens = http_token(config)?;
        let logs = config.syslog.as_ref().map(|syslog| {
            logs::spawn(&syslog.logs, journal.clone()).map_err(state(&syslog.logs.dir)).map(
                |(_, reader, task)| {
                    run(task);
                    http::Logs::new(reader, opens.clone())
                },
            )
        });
        let scripts = Scripts {
            backend: backend.clone(),
            config: Arc::new(config.script.clone()),
            urls: Arc::new(config.urls.clone()),
            key,
            journal,
            strangers: false,
            v6: None,
        };
        let isos = config.iso.as_ref().map(|iso| {
            iso::Isos::spawn(iso.clone(), scripts.clone()).map_err(state(&iso.dir)).map(|(isos, task)| {
                run(task);
                isos
            })
        });
        let assets = Assets { backend, dir: config.pxe.assets.as_deref().map(Arc::from) };
        let router = http::router(http::Server {
            scripts,
            programs: Programs::read(config)?,
            hook: config.hook_dir.as_deref().map(Directory::new),
            images: config.images_dir.as_deref().map(Directory::new),
            assets: config.pxe.http_prefix.clone().map(|prefix| (assets, prefix)),
            trusted_proxies: config.trusted_proxies.clone(),
            logs: logs.transpose()?,
            pcap: captured.map(|reader| http::Pcap::new(reader, opens)),
            isos: isos.transpose()?,
            limits: config.http_rate.map(http::limits),
            serves: http::Serves { programs: config.http_programs, scripts: config.http_scripts },
        });
        Ok(Self { router, _tasks: tasks })
    }

    /// All routes. A request needs [`daemon::http::Peer`] as an extension to be somebody's.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
}
