// SPDX-License-Identifier: Apache-2.0
//! Images of upstream servers, kept on the disk: fetched once, served while they come, asked for changes now and then.
//!
//! One task owns what is known of each URL; requests ask it and wait for its answer. The first request of a URL makes it ask
//! upstream; further ones wait for the same answer. After [`FRESH`] the next request asks upstream whether the image changed
//! (RFC 9111 section 4.3); while upstream is away what is there is served. All images together are bounded: those that
//! nobody asked for the longest go first. Only URLs that the configuration or a Hardware names come here, and nothing of a
//! client's request does.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use url::Url;

use super::IsoError;
use super::image::{Image, Progress, State};
use super::marker::Scanner;

/// How long what upstream said of an image holds.
const FRESH: Duration = Duration::from_secs(300);
/// How long a failure of upstream holds, so that a BMC that asks again and again does not become upstream's problem.
const FAILED: Duration = Duration::from_secs(2);
/// Requests that wait for the task, and requests that wait for one URL; more are refused.
const QUEUE: usize = 1024;
/// URLs known at once; the next one is refused. Hardware names few.
const MAX_URLS: usize = 256;
/// Time to reach upstream, and longest silence of it.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
/// Redirects of upstream that are followed.
const MAX_REDIRECTS: usize = 10;

/// The way to the task.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    queue: mpsc::Sender<(Url, oneshot::Sender<Result<Image, IsoError>>)>,
}

/// What is remembered of an image beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    url: String,
    etag: Option<String>,
    modified: Option<String>,
    size: u64,
    identity: String,
}

/// An image that is there, and what upstream calls it.
#[derive(Debug, Clone)]
struct Known {
    image: Image,
    etag: Option<String>,
    modified: Option<String>,
}

/// One URL.
#[derive(Debug, Default)]
struct Entry {
    known: Option<Known>,
    /// When upstream answered or failed last, and whether it did.
    asked: Option<(Instant, bool)>,
    used: Option<Instant>,
    waiting: Vec<oneshot::Sender<Result<Image, IsoError>>>,
    /// Whether upstream is being asked.
    asking: bool,
}

/// What a job of the task came to.
enum Done {
    /// Upstream answered: an image that may still be coming, or nothing new.
    Answered(Url, Result<Option<Known>, IsoError>),
    /// An image came to its end, good or bad.
    Came(Url, String, bool),
}

struct Task {
    dir: PathBuf,
    limit: u64,
    marker: Arc<[u8]>,
    client: reqwest::Client,
    entries: HashMap<Url, Entry>,
    done: mpsc::UnboundedSender<Done>,
    jobs: JoinSet<()>,
}

impl Cache {
    /// Starts the task, which ends when the last handle is gone.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub(super) fn spawn(
        dir: &Path,
        limit: u64,
        marker: Arc<[u8]>,
    ) -> io::Result<(Self, tokio::task::JoinHandle<()>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for file in fs::read_dir(dir)?
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|end| end == "part"))
        {
            fs::remove_file(file.path())?;
        }
        let policy = reqwest::redirect::Policy::custom(|attempt| {
            if is_followed(attempt.url(), attempt.previous().len()) {
                attempt.follow()
            } else {
                attempt.error("redirected too often, or to another scheme")
            }
        });
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(policy)
            .build()
            .map_err(io::Error::other)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        // As many messages as there are jobs, at most two for each URL.
        let (done, results) = mpsc::unbounded_channel();
        let (entries, jobs) = (HashMap::new(), JoinSet::new());
        let task = Task { dir: dir.to_owned(), limit, marker, client, entries, done, jobs };
        Ok((Self { queue }, tokio::spawn(task.run(requests, results))))
    }

    /// The image of a URL, which may still be coming.
    ///
    /// # Errors
    ///
    /// When upstream has none and there is none on the disk.
    pub(super) async fn get(&self, url: &Url) -> Result<Image, IsoError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((url.clone(), answer)).map_err(|_| IsoError::Busy)?;
        answered.await.map_err(|_| IsoError::Busy)?
    }
}

impl Task {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<(Url, oneshot::Sender<Result<Image, IsoError>>)>,
        mut results: mpsc::UnboundedReceiver<Done>,
    ) {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some((url, answer)) => self.request(url, answer),
                    None => break,
                },
                Some(done) = results.recv() => self.finish(done),
                Some(ended) = self.jobs.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task that fetches an image ended badly");
                    }
                }
            }
        }
        self.jobs.shutdown().await;
    }

    fn request(&mut self, url: Url, answer: oneshot::Sender<Result<Image, IsoError>>) {
        if self.entries.len() >= MAX_URLS && !self.entries.contains_key(&url) {
            return reply(answer, Err(IsoError::Busy));
        }
        let entry = self.entries.entry(url.clone()).or_default();
        entry.used = Some(Instant::now());
        let holds = entry.asked.is_some_and(|(at, good)| at.elapsed() < if good { FRESH } else { FAILED });
        let usable = entry.known.as_ref().map(|known| known.image.clone());
        let coming = usable.as_ref().is_some_and(|image| image.progress.borrow().state == State::Coming);
        match usable {
            Some(image) if holds || coming => return reply(answer, Ok(image)),
            None if holds => return reply(answer, Err(IsoError::Upstream)),
            _ => {}
        }
        if entry.waiting.len() >= QUEUE {
            return reply(answer, Err(IsoError::Busy));
        }
        entry.waiting.push(answer);
        if !std::mem::replace(&mut entry.asking, true) {
            let known = entry.known.clone();
            let fetch = Fetch {
                url,
                path: PathBuf::new(),
                limit: self.limit,
                marker: Arc::clone(&self.marker),
                client: self.client.clone(),
                done: self.done.clone(),
            };
            self.jobs.spawn(Fetch { path: self.path(&fetch.url), ..fetch }.run(known));
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Answered(url, result) => self.answered(&url, result),
            Done::Came(url, identity, good) => {
                let Some(entry) = self.entries.get_mut(&url) else { return };
                // What failed is fetched anew by the next request.
                if !good && entry.known.as_ref().is_some_and(|known| known.image.identity == identity) {
                    (entry.known, entry.asked) = (None, None);
                }
                self.shrink(&url);
            }
        }
    }

    fn answered(&mut self, url: &Url, result: Result<Option<Known>, IsoError>) {
        let Some(entry) = self.entries.get_mut(url) else { return };
        entry.asking = false;
        let good = result.is_ok();
        entry.asked = Some((Instant::now(), good));
        match result {
            Ok(Some(known)) => entry.known = Some(known),
            Ok(None) => {}
            Err(error) => {
                let stale = entry.known.is_some();
                tracing::warn!(%url, error = daemon::chain(&error), stale, "upstream has no image; a stale one is served");
            }
        }
        let answer = entry.known.as_ref().map(|known| known.image.clone());
        for waiting in entry.waiting.drain(..) {
            reply(waiting, answer.clone().ok_or(IsoError::Upstream));
        }
    }

    /// Removes images while all are too much, those that were not asked for the longest first, and never the newest.
    fn shrink(&mut self, newest: &Url) {
        let files = |dir: &Path| -> io::Result<Vec<(PathBuf, u64)>> {
            let all = fs::read_dir(dir)?.flatten().map(|file| Ok((file.path(), file.metadata()?.len())));
            all.collect()
        };
        let Ok(all) = files(&self.dir) else { return };
        let mut total: u64 = all.iter().map(|(_, size)| size).sum();
        let keep = self.path(newest);
        let used: HashMap<PathBuf, Option<Instant>> =
            self.entries.iter().map(|(url, entry)| (self.path(url), entry.used)).collect();
        let mut old: Vec<_> = all
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|end| end == "iso") && *path != keep)
            .map(|(path, size)| (used.get(path).copied().flatten(), path.clone(), *size))
            .collect();
        old.sort();
        for (_, path, size) in old {
            if total <= self.limit {
                break;
            }
            let removed = fs::remove_file(&path).and_then(|()| fs::remove_file(meta_of(&path)));
            tracing::info!(path = %path.display(), removed = removed.is_ok(), "an image was removed to make room");
            total = total.saturating_sub(size);
            let paths: Vec<Url> = self.entries.keys().filter(|url| self.path(url) == path).cloned().collect();
            paths.iter().for_each(|url| drop(self.entries.remove(url)));
        }
    }

    fn path(&self, url: &Url) -> PathBuf {
        self.dir.join(format!("{}.iso", hex::encode(Sha256::digest(url.as_str()))))
    }
}

fn reply(to: oneshot::Sender<Result<Image, IsoError>>, answer: Result<Image, IsoError>) {
    // Whoever asked may have gone away.
    to.send(answer).map_or_else(drop, drop);
}

fn meta_of(image: &Path) -> PathBuf {
    image.with_extension("json")
}

/// One exchange with upstream.
struct Fetch {
    url: Url,
    path: PathBuf,
    limit: u64,
    marker: Arc<[u8]>,
    client: reqwest::Client,
    done: mpsc::UnboundedSender<Done>,
}

impl Fetch {
    async fn run(self, known: Option<Known>) {
        let known = match known {
            Some(known) => Some(known),
            None => self.restore().await,
        };
        let fresh = match self.ask(known.as_ref()).await {
            Ok(answer) => answer,
            Err(error) => {
                // What is on the disk is served all the same.
                let stale = known.map(Some).ok_or(error);
                return self.say(Done::Answered(self.url.clone(), stale));
            }
        };
        let Some(answer) = fresh else {
            return self.say(Done::Answered(self.url.clone(), Ok(known)));
        };
        match self.begin(&answer) {
            Ok((known, progress, file)) => {
                let identity = known.image.identity.clone();
                let (etag, modified) = (known.etag.clone(), known.modified.clone());
                self.say(Done::Answered(self.url.clone(), Ok(Some(known))));
                let meta =
                    Meta { url: self.url.to_string(), etag, modified, size: 0, identity: identity.clone() };
                let good = self.receive(answer, progress, file, meta).await;
                self.say(Done::Came(self.url.clone(), identity, good));
            }
            Err(error) => self.say(Done::Answered(self.url.clone(), Err(error))),
        }
    }

    fn say(&self, done: Done) {
        // The task is gone only when the process ends.
        self.done.send(done).unwrap_or_default();
    }

    /// The image of an earlier run of this process.
    async fn restore(&self) -> Option<Known> {
        let (path, marker, url) = (self.path.clone(), Arc::clone(&self.marker), self.url.clone());
        let restored = tokio::task::spawn_blocking(move || {
            let meta: Meta = serde_json::from_slice(&fs::read(meta_of(&path)).ok()?).ok()?;
            let file = File::open(&path).ok()?;
            let same = meta.url == url.as_str() && file.metadata().ok()?.len() == meta.size;
            let image = Image::scan(file, meta.identity, &marker);
            if same {
                Some(Known { image: image.ok()?, etag: meta.etag, modified: meta.modified })
            } else {
                None
            }
        });
        restored.await.ok().flatten()
    }

    /// Asks upstream; nothing when it has nothing new.
    async fn ask(&self, known: Option<&Known>) -> Result<Option<reqwest::Response>, IsoError> {
        let mut request = self.client.get(self.url.clone());
        if let Some(Known { etag, modified, .. }) = known {
            request = match (etag, modified) {
                (Some(etag), _) => request.header(header::IF_NONE_MATCH, etag),
                (None, Some(modified)) => request.header(header::IF_MODIFIED_SINCE, modified),
                (None, None) => request,
            };
        }
        let answer = request.send().await.map_err(|error| IsoError::Http(Arc::new(error)))?;
        match answer.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => Ok(None),
            StatusCode::OK => Ok(Some(answer)),
            status => Err(IsoError::Status(status)),
        }
    }

    /// Makes the file for an image that is about to come.
    fn begin(&self, answer: &reqwest::Response) -> Result<(Known, watch::Sender<Progress>, File), IsoError> {
        let size = answer.content_length();
        if size.is_some_and(|size| size > self.limit) {
            return Err(IsoError::TooLarge);
        }
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (etag, modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.with_extension("part"))
            .map_err(|error| IsoError::Disk(Arc::new(error)))?;
        let writer = file.try_clone().map_err(|error| IsoError::Disk(Arc::new(error)))?;
        let coming = Progress { settled: 0, markers: Arc::from([]), state: State::Coming };
        let (sender, progress) = watch::channel(coming);
        let identity = identity(&etag, &modified, size.unwrap_or_default());
        let image = Image { file: Arc::new(file), progress, size, identity };
        Ok((Known { image, etag, modified }, sender, writer))
    }

    /// Takes the image in; true when it is whole and on the disk.
    async fn receive(
        &self,
        mut answer: reqwest::Response,
        progress: watch::Sender<Progress>,
        mut file: File,
        meta: Meta,
    ) -> bool {
        let size = answer.content_length();
        let outcome = async {
            let mut scanner = Scanner::new(&self.marker);
            let mut taken = 0_u64;
            while let Some(chunk) = answer.chunk().await.map_err(|error| IsoError::Http(Arc::new(error)))? {
                taken += chunk.len() as u64;
                if taken > self.limit {
                    return Err(IsoError::TooLarge);
                }
                let moved = (file, scanner);
                let written = tokio::task::spawn_blocking(move || {
                    let (mut file, mut scanner) = moved;
                    file.write_all(&chunk)?;
                    scanner.push(&chunk).map_err(io::Error::other)?;
                    Ok::<_, io::Error>((file, scanner))
                });
                let written = written.await.map_err(io::Error::other).flatten();
                (file, scanner) = written.map_err(|error| IsoError::Disk(Arc::new(error)))?;
                progress.send_modify(|progress| {
                    progress.settled = scanner.settled();
                    if progress.markers.len() != scanner.found().len() {
                        progress.markers = scanner.found().into();
                    }
                });
            }
            if size.is_some_and(|size| size != taken) {
                return Err(IsoError::Upstream);
            }
            self.keep(file, &Meta { size: taken, ..meta })
                .map_err(|error| IsoError::Disk(Arc::new(error)))?;
            Ok(taken)
        };
        match outcome.await {
            Ok(taken) => {
                progress.send_modify(|progress| (progress.settled, progress.state) = (taken, State::Whole));
                tracing::info!(url = %self.url, bytes = taken, markers = progress.borrow().markers.len(), "an image came");
                true
            }
            Err(error) => {
                tracing::warn!(url = %self.url, error = daemon::chain(&error), "an image did not come to its end");
                progress.send_modify(|progress| progress.state = State::Failed);
                // A part of an image is of no use to the next attempt.
                fs::remove_file(self.path.with_extension("part")).unwrap_or_default();
                false
            }
        }
    }

    /// Gives a whole image its name.
    fn keep(&self, file: File, meta: &Meta) -> io::Result<()> {
        file.sync_data()?;
        // An image without its description is fetched anew, one with another's is never taken for it.
        match fs::remove_file(meta_of(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(self.path.with_extension("part"), &self.path)?;
        fs::write(meta_of(&self.path), serde_json::to_vec(meta)?)
    }
}

/// What changes when the image does. One whose server says nothing of its changes is another each time.
fn identity(etag: &Option<String>, modified: &Option<String>, size: u64) -> String {
    let mut hash = Sha256::new();
    let once = if etag.is_none() && modified.is_none() { rand::random() } else { 0_u64 };
    let (etag, modified) = (etag.as_deref().unwrap_or_default(), modified.as_deref().unwrap_or_default());
    for part in [etag, modified, &size.to_string(), &once.to_string()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize().get(..8).unwrap_or_default())
}

/// Whether a redirection to this URL is followed; `count` counts it too.
fn is_followed(url: &Url, count: usize) -> bool {
    count <= MAX_REDIRECTS && matches!(url.scheme(), "http" | "https")
}

#[cfg(test)]
mod tests {
    use super::is_followed;

    #[test]
    fn ten_redirections_to_http_are_followed() {
        for (url, count, expected) in [
            ("http://a.example/x.iso", 1, true),
            ("https://a.example/x.iso", 10, true),
            ("https://a.example/x.iso", 11, false),
            ("ftp://a.example/x.iso", 1, false),
            ("file:///etc/passwd", 1, false),
        ] {
            assert_eq!(is_followed(&url.parse().unwrap(), count), expected, "{url} after {count}");
        }
    }
}
