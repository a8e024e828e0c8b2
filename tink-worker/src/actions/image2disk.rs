// SPDX-License-Identifier: Apache-2.0
//! image2disk: streams an image from a URL to a disk. The download runs as a task and feeds the blocking pipeline of
//! `diskimage` through a bounded queue; this module connects the two and decides when to start over.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use diskimage::{Cancel, Declared, Digest, Image, Written, disks, write_image};
use tokio::sync::mpsc;
use url::Url;

use super::{ActionError, Context, Done};
use crate::action::{Action, Environment, Invalid};
use crate::config::Proxies;
use crate::download::{self, Download, DownloadError, Patience};
use crate::report::Level;

/// Pieces between the download and the pipeline; when it is full the download waits.
const FEED: usize = 16;

/// How long to go on without a byte unless the action says otherwise; its timeout usually comes first.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// `RETRY_DURATION_MINUTES` when it is absent or unreadable.
const DEFAULT_RETRY_MINUTES: u64 = 10;

/// `PROGRESS_INTERVAL_SECONDS` when it is absent or unreadable.
const DEFAULT_PROGRESS_SECONDS: u64 = 3;

/// How long a disk may take to appear: its driver may still be probing.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// A download that cannot be continued is started over this often.
const RESTARTS: u32 = 3;

/// The action's variables, parsed.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    url: Url,
    disk: PathBuf,
    declared: Declared,
    digest: Option<Digest>,
    patience: Duration,
    log_every: Duration,
}

impl Settings {
    fn parse(environment: &Environment) -> Result<Self, Invalid> {
        let url = Url::parse(environment.required("IMG_URL")?)
            .map_err(|error| Invalid::variable("IMG_URL", error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Invalid::variable(
                "IMG_URL",
                format!("`{}` is neither http nor https", url.scheme()),
            ));
        }
        let disk = PathBuf::from(environment.required("DEST_DISK")?);
        if !disk.is_absolute() {
            return Err(Invalid::variable("DEST_DISK", format!("`{}` is not absolute", disk.display())));
        }
        let digest = environment.get("IMG_DIGEST").map(str::parse).transpose();
        let number = |name: &str| environment.get(name).and_then(|text| text.parse::<u64>().ok());
        let patience = if environment.switch("RETRY_ENABLED") {
            let minutes = number("RETRY_DURATION_MINUTES").unwrap_or(DEFAULT_RETRY_MINUTES);
            Duration::from_secs(minutes.saturating_mul(60))
        } else {
            DEFAULT_PATIENCE
        };
        let log_every = number("PROGRESS_INTERVAL_SECONDS").unwrap_or(DEFAULT_PROGRESS_SECONDS).max(1);
        Ok(Self {
            url,
            disk,
            declared: if environment.switch("COMPRESSED") { Declared::Compressed } else { Declared::Raw },
            digest: digest.map_err(|error: diskimage::ParseDigestError| {
                Invalid::variable("IMG_DIGEST", error.to_string())
            })?,
            patience,
            log_every: Duration::from_secs(log_every),
        })
    }
}

/// Carries out the action.
pub(super) async fn run(action: &Action, context: &Context) -> Result<Done, ActionError> {
    let settings = Settings::parse(&action.environment)?;
    let client = download::client(&proxies(&action.environment, &context.proxies))?;
    let disk = find_disk(&settings.disk).await?;
    let started = Instant::now();
    let mut restarts = 0;
    loop {
        let source = Download::open(
            client.clone(),
            settings.url.clone(),
            Patience(settings.patience),
            context.standstill.clone(),
        );
        let source = tokio::select! {
            source = source => source?,
            () = context.cancel.cancelled() => return Err(diskimage::Error::Cancelled.into()),
        };
        let from = download::redacted(&settings.url);
        let length = source.length().map_or("unknown length".to_owned(), |length| format!("{length} bytes"));
        context.say(action, Level::Info, &format!("writing {from} ({length}) to {}", disk.display()));
        match transfer(source, &settings, &disk, action, context).await {
            Ok(written) => return Ok(done(&written, context, started.elapsed())),
            Err(ActionError::Download(error @ DownloadError::Changed { .. })) if restarts < RESTARTS => {
                restarts += 1;
                context.say(action, Level::Warn, &format!("starting over from byte 0: {error}"));
                context.progress.restart();
            }
            Err(error) => return Err(error),
        }
    }
}

fn done(written: &Written, context: &Context, took: Duration) -> Done {
    let at = context.progress.snapshot();
    let message = format!(
        "wrote image of {} bytes ({} written, {} zero) from {} bytes {} in {:.1}s",
        written.image_bytes,
        at.written,
        at.zero,
        written.source_bytes,
        written.compression,
        took.as_secs_f64()
    );
    Done { message, then: None }
}

/// One whole download into one whole write.
async fn transfer(
    source: Download,
    settings: &Settings,
    disk: &Path,
    action: &Action,
    context: &Context,
) -> Result<Written, ActionError> {
    let image = Image {
        name: settings.url.path().to_owned(),
        declared: settings.declared,
        len: source.length(),
        digest: settings.digest,
    };
    let (sender, receiver) = mpsc::channel(FEED);
    let cancel = Cancel::default();
    let mut writing = {
        let (disk, progress, cancel) = (disk.to_owned(), context.progress.clone(), cancel.clone());
        let feed = FeedReader { feed: receiver, current: Bytes::new(), ended: false };
        tokio::task::spawn_blocking(move || write_image(feed, &image, &disk, &progress, &cancel))
    };
    // Dropped when this function returns, and with it the feed: then the pipeline's reading thread ends too.
    let mut pumping = Box::pin(pump(source, sender));
    let mut pumped = false;
    let mut ticks = tokio::time::interval(settings.log_every);
    ticks.tick().await;
    loop {
        tokio::select! {
            result = &mut writing => {
                return match result {
                    Ok(result) => result.map_err(into_action_error),
                    Err(_) => Err(ActionError::Thread),
                };
            }
            () = &mut pumping, if !pumped => pumped = true,
            _ = ticks.tick() => log_progress(action, context),
            () = context.cancel.cancelled() => {
                cancel.cancel();
                drop(pumping);
                // The write stops at its next chunk; the agent bounds how long it waits for that.
                drop(writing.await);
                return Err(diskimage::Error::Cancelled.into());
            }
        }
    }
}

fn log_progress(action: &Action, context: &Context) {
    let at = context.progress.snapshot();
    tracing::info!(
        action = %action.name, read = at.read, total = at.total, written = at.written, zero = at.zero, "progress"
    );
}

/// The source's failure is the cause behind the pipeline's.
fn into_action_error(error: diskimage::Error) -> ActionError {
    match error {
        diskimage::Error::Source(inner) => match inner.downcast::<DownloadError>() {
            Ok(download) => ActionError::Download(download),
            Err(inner) => ActionError::Image(diskimage::Error::Source(inner)),
        },
        other => ActionError::Image(other),
    }
}

/// What the download hands to the pipeline.
enum Feed {
    Data(Bytes),
    End,
    Failed(DownloadError),
}

async fn pump(mut source: Download, feed: mpsc::Sender<Feed>) {
    loop {
        let (item, last) = match source.next().await {
            Ok(Some(bytes)) => (Feed::Data(bytes), false),
            Ok(None) => (Feed::End, true),
            Err(error) => (Feed::Failed(error), true),
        };
        // A closed feed means that the pipeline has failed and says so itself.
        if feed.send(item).await.is_err() || last {
            tracing::debug!(connections = source.resumed() + 1, "download ended");
            return;
        }
    }
}

/// The pipeline's end of the feed.
struct FeedReader {
    feed: mpsc::Receiver<Feed>,
    current: Bytes,
    ended: bool,
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.feed.blocking_recv() {
                Some(Feed::Data(bytes)) => self.current = bytes,
                Some(Feed::End) => self.ended = true,
                Some(Feed::Failed(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other("the download was abandoned")),
            }
        }
        let count = self.current.len().min(buffer.len());
        let bytes = self.current.split_to(count);
        if let Some(target) = buffer.get_mut(..count) {
            target.copy_from_slice(&bytes);
        }
        Ok(count)
    }
}

/// The node of the disk. One that is missing is not waited for longer than a driver takes; the pipeline then says what
/// there is.
async fn find_disk(disk: &Path) -> Result<PathBuf, ActionError> {
    let disk = disk.to_owned();
    let found =
        tokio::task::spawn_blocking(move || disks::wait_for(Path::new(disks::SYS), &disk, DISK_PATIENCE));
    let found = found.await.map_err(|_| ActionError::Thread)?;
    Ok(found.map_err(diskimage::Error::from)?)
}

/// The action's own proxies win over the agent's, each by itself.
fn proxies(environment: &Environment, agent: &Proxies) -> Proxies {
    let pick = |name: &str, otherwise: &Option<String>| {
        environment.get(name).map(str::to_owned).or_else(|| otherwise.clone())
    };
    Proxies {
        http: pick("HTTP_PROXY", &agent.http),
        https: pick("HTTPS_PROXY", &agent.https),
        no_proxy: pick("NO_PROXY", &agent.no_proxy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::tests::action;

    fn settings(environment: &[&str]) -> Result<Settings, Invalid> {
        Settings::parse(&action("actions/image2disk", &[], environment).environment)
    }

    #[test]
    fn variables_have_the_defaults_of_the_contract() {
        let plain = settings(&["IMG_URL=http://h/a.img", "DEST_DISK=/dev/sda"]).unwrap();
        assert_eq!((plain.declared, plain.digest, plain.patience), (Declared::Raw, None, DEFAULT_PATIENCE));
        assert_eq!(plain.log_every, Duration::from_secs(3));
        let all = settings(&[
            "IMG_URL=https://h/a.gz?x=1",
            "DEST_DISK=/dev/sda",
            "COMPRESSED=true",
            "RETRY_ENABLED=T",
            "RETRY_DURATION_MINUTES=bad",
            "PROGRESS_INTERVAL_SECONDS=0",
            &format!("IMG_DIGEST=sha256:{}", "ab".repeat(32)),
        ])
        .unwrap();
        assert_eq!((all.declared, all.patience), (Declared::Compressed, Duration::from_secs(600)));
        assert_eq!(all.log_every, Duration::from_secs(1));
        assert!(all.digest.is_some());
    }

    #[test]
    fn wrong_variables_are_named() {
        let name = |environment: &[&str]| match settings(environment).unwrap_err() {
            Invalid::Missing(name) | Invalid::Variable { name, .. } => name,
            other => panic!("{other}"),
        };
        assert_eq!(name(&["DEST_DISK=/dev/sda"]), "IMG_URL");
        assert_eq!(name(&["IMG_URL=http://h/a"]), "DEST_DISK");
        assert_eq!(name(&["IMG_URL=file:///etc/passwd", "DEST_DISK=/dev/sda"]), "IMG_URL");
        assert_eq!(name(&["IMG_URL=a", "DEST_DISK=/dev/sda"]), "IMG_URL");
        assert_eq!(name(&["IMG_URL=http://h/a", "DEST_DISK=sda"]), "DEST_DISK");
        assert_eq!(name(&["IMG_URL=http://h/a", "DEST_DISK=/dev/sda", "IMG_DIGEST=abc"]), "IMG_DIGEST");
    }
}
