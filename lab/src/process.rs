// SPDX-License-Identifier: Apache-2.0
//! A child process that does not outlive us: killed when its handle is dropped, and by the kernel when we die in any other way.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::watch;

/// A running child in a process group of its own, so that Ctrl-C on the terminal is ours alone to handle.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Arc<Mutex<Option<Pid>>>,
    exited: watch::Receiver<Option<Exit>>,
    thread: Option<JoinHandle<()>>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) String);

impl Process {
    /// Starts `program` under setpriv (util-linux), which has the kernel kill it when the thread that started it ends. That thread
    /// is made here and does nothing but wait for the child: a thread of a pool may end at any time.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(program: &str, configure: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).process_group(0);
        configure(&mut command);
        let pid = Arc::new(Mutex::new(None));
        let (exit, exited) = watch::channel(None);
        let (started, outcome) = std::sync::mpsc::channel();
        let shared = Arc::clone(&pid);
        let thread = std::thread::Builder::new().name("child".to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return started.send(Err(error)).unwrap_or_default(),
            };
            *lock(&shared) = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            started.send(Ok(())).unwrap_or_default();
            let waited = wait_unreaped(&shared);
            // Nobody can signal the number any more once it is free for others.
            *lock(&shared) = None;
            let status = child.wait().and_then(|status| waited.map(|()| status));
            exit.send_replace(Some(Exit(describe(status))));
        })?;
        let started = outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread ended")));
        let process = Self { pid, exited, thread: Some(thread) };
        started.map(|()| process)
    }

    /// Its number, none once it has ended.
    pub(crate) fn number(&self) -> Option<i32> {
        lock(&self.pid).map(Pid::as_raw_nonzero).map(std::num::NonZero::get)
    }

    /// Kills the child and all its own children; nothing happens to one that has ended.
    pub(crate) fn kill(&self) {
        let pid = lock(&self.pid);
        if let Some(pid) = *pid
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::warn!(error = %error, "a child could not be killed");
        }
    }

    /// Waits until the child has ended.
    pub(crate) async fn exited(&self) -> Exit {
        let mut exited = self.exited.clone();
        let exit = exited.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(|| Exit("its thread ended".to_owned()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of a child panicked");
        }
    }
}

fn lock(pid: &Mutex<Option<Pid>>) -> MutexGuard<'_, Option<Pid>> {
    // One assignment each: a panic elsewhere leaves it whole.
    pid.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end of the child but leaves it to be reaped, so that its number stays its own.
fn wait_unreaped(pid: &Mutex<Option<Pid>>) -> io::Result<()> {
    let Some(pid) = *lock(pid) else { return Ok(()) };
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.map(drop).map_err(io::Error::from),
        }
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_ends_with_its_handle() {
        let process = Process::spawn("sleep", |command| {
            command.arg("1000");
        })
        .unwrap();
        let pid = lock(&process.pid).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err(), "killed and reaped");
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_told() {
        let process = Process::spawn("sh", |command| {
            command.args(["-c", "exit 3"]);
        })
        .unwrap();
        assert_eq!(process.exited().await, Exit("exit status: 3".to_owned()));
        process.kill();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_ends_at_once() {
        let process = Process::spawn("/nonexistent/qemu", |_| {}).unwrap();
        assert_eq!(process.exited().await, Exit("exit status: 127".to_owned()));
    }
}
