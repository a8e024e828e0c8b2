// SPDX-License-Identifier: Apache-2.0
//! A program that a test runs beside itself: killed with its group when its value is dropped, and by the kernel when the
//! thread that started it ends in any other way.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often its end is looked for: short, because restarts are measured.
const POLL: Duration = Duration::from_millis(2);
/// Lines of its log that an error shows.
const TAIL: usize = 20;

/// The running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// Boxed: it is large, and values that hold a process are kept beside small ones.
    command: Box<Command>,
    child: Child,
    log: PathBuf,
}

/// Resident memory of a process now and at its highest, in bytes.
///
/// # Errors
/// When it is gone.
pub fn memory(process: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        let kibibytes = line.trim().trim_end_matches(" kB");
        Ok(kibibytes.parse::<u64>()? * 1024)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

impl Process {
    /// Starts `program` as `configure` says, with its output at the end of `log`. Must be called on a thread that stays: the
    /// parent-death signal is tied to it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        log: PathBuf,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        configure(&mut command);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), command: Box::new(command), child, log })
    }

    /// Starts it as before, once it has ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = self.command.spawn().with_context(|| format!("start {} again", self.name))?;
        Ok(())
    }

    /// What it is called here.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number; `setpriv` becomes the program, so it is the program's own.
    pub fn number(&self) -> u32 {
        self.child.id()
    }

    /// An error, with the end of its log, when it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.tail());
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        self.check()?;
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal to its group and waits for its end.
    ///
    /// # Errors
    /// When it had ended by itself, or does not end within the deadline.
    pub async fn end(&mut self, signal: Signal, deadline: Duration) -> Result<ExitStatus> {
        self.check()?;
        self.signal(signal)?;
        self.ended(deadline).await
    }

    /// Waits for its end, whoever brought it about.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < until, "{} does not end: {}", self.name, self.tail());
            tokio::time::sleep(POLL).await;
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process_group(Pid::from_child(&self.child), signal)?)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.signal(Signal::KILL).unwrap_or_default();
        drop(self.child.wait());
    }
}
