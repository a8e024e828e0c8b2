// SPDX-License-Identifier: Apache-2.0
//! Sends what kernel and agent say to the log server that the kernel command line names (`syslog_host`).
//!
//! `hook-init` calls it. A line is one datagram in the form of RFC 5424, without a time: the server knows better when it came
//! than a machine whose clock was never set. A line of the kernel waits until there is a way to the server, since the kernel
//! keeps it; one of the agent does not, and nothing that goes wrong here holds the agent up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Port of log servers (RFC 5426 section 3.3).
const PORT: u16 = 514;
/// Bytes of a line; a longer one is sent in pieces. A record of the kernel has at most about 1000, and what does not fit into a
/// frame would be lost as a whole with any part of it.
const MAX_LINE: usize = 1200;
/// Largest record of `/dev/kmsg` (`CONSOLE_EXT_LOG_MAX` of the kernel's printk).
const MAX_RECORD: usize = 8192;
/// Lines of a program that wait, such as for a name server that does not answer; further ones are on the console only.
const MAX_WAITING: usize = 1024;
/// How long the last lines of a program that ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Until the server is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Kernel argument whose value proves who the agent is.
const TOKEN: &str = "tink_agent_token=";
/// Facility of daemons and severities of RFC 5424 section 6.2.1.
const DAEMON: u8 = 3 << 3;
const LEVELS: [(&str, u8); 5] = [("ERROR", 3), ("WARN", 4), ("INFO", 6), ("DEBUG", 7), ("TRACE", 7)];
const INFORMATIONAL: u8 = 6;

/// The server.
#[derive(Debug)]
pub struct Log {
    server: String,
    socket: Option<UdpSocket>,
}

impl Log {
    /// A server by name or address; it is looked for when there is something to send.
    #[must_use]
    pub fn new(server: &str) -> Self {
        Self { server: server.to_owned(), socket: None }
    }

    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            let bare = self.server.trim_start_matches('[').trim_end_matches(']');
            let unspecified = if bare.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(unspecified)?;
            socket.connect((bare, PORT))?;
            self.socket = Some(socket);
        }
        let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(datagram));
        match sent {
            // That an earlier one found nobody says nothing about this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => {
                // The way to it, or what is behind its name, may be another one the next time.
                self.socket = None;
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }

    /// Sends what the kernel has said since its start, and then what it says.
    ///
    /// # Errors
    /// When the kernel's log cannot be read.
    pub fn follow_kernel(&mut self) -> io::Result<()> {
        let mut log = File::open("/dev/kmsg")?;
        let mut buffer = vec![0; MAX_RECORD];
        loop {
            let length = match log.read(&mut buffer) {
                Ok(length) => length,
                // What was next has been overwritten by newer records.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let record = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            let Some((priority, text)) = kernel_record(&record) else { continue };
            let datagram = datagram(priority, "kernel", &without_token(text));
            while self.send(datagram.as_bytes()).is_err() {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Runs a program to its end, sends what it prints under its name, and prints it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(self, name: &'static str, program: &str) -> io::Result<ExitStatus> {
        let (output, theirs) = io::pipe()?;
        let mut command = Command::new(program);
        command.stdout(theirs.try_clone()?).stderr(theirs);
        let mut child = command.spawn()?;
        // Only the child may hold the other end, or its end would never be seen.
        drop(command);
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let (all, sent) = sync_channel::<()>(0);
        thread::spawn(move || {
            self.send_lines(name, &waiting);
            drop(all);
        });
        show(output, &lines);
        let ended = child.wait();
        drop(lines);
        // It is disconnected when the last line was sent; what is not sent by then is on the console only.
        sent.recv_timeout(LAST_WORDS).unwrap_or_default();
        ended
    }

    fn send_lines(mut self, name: &str, lines: &Receiver<String>) {
        for line in lines {
            // Lost if it fails, as syslog over UDP is; the console has it.
            let line = without_token(&line);
            self.send(datagram(DAEMON | severity(&line), name, &line).as_bytes()).unwrap_or_default();
        }
    }
}

/// Prints what comes out of a pipe, and hands on its lines.
fn show(mut output: impl Read, lines: &SyncSender<String>) {
    let (mut cut, mut buffer) = (Lines::default(), [0; 4096]);
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        // There is nowhere left to tell that the console is gone.
        io::stdout().write_all(bytes).unwrap_or_default();
        cut.add(bytes, |line| {
            lines.try_send(String::from_utf8_lossy(line).into_owned()).unwrap_or_default();
        });
    }
}

/// Cuts what a program prints into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for byte in bytes {
            if *byte != b'\n' {
                self.0.push(*byte);
            }
            if *byte == b'\n' || self.0.len() >= MAX_LINE {
                if !self.0.is_empty() {
                    line(&self.0);
                }
                self.0.clear();
            }
        }
    }
}

/// Priority and text of a record of `/dev/kmsg`: `priority,sequence,time,flags[,...];text`, then lines with details
/// (Documentation/ABI/testing/dev-kmsg of the kernel). None for what programs wrote there.
fn kernel_record(record: &str) -> Option<(u8, &str)> {
    let (head, rest) = record.split_once(';')?;
    let priority: u8 = head.split(',').next()?.parse().ok()?;
    let text = rest.split('\n').next().filter(|text| !text.is_empty())?;
    (priority < 8).then_some((priority, text))
}

/// The level that tracing prints after the time, as a severity.
fn severity(line: &str) -> u8 {
    let words = line.split_whitespace().take(2);
    let known = words.filter_map(|word| LEVELS.iter().find(|(level, _)| *level == word));
    known.map(|(_, severity)| *severity).next().unwrap_or(INFORMATIONAL)
}

/// A line without the agent's token, which the kernel prints with its command line.
fn without_token(line: &str) -> String {
    let mut parts = line.split(TOKEN);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| !letter.is_whitespace() && letter != '"');
        shown.push_str(TOKEN);
        shown.push_str("***");
        shown.push_str(rest);
    }
    shown
}

/// A message of RFC 5424 section 6 without host (the server knows it by its address), process and structured data.
fn datagram(priority: u8, name: &str, text: &str) -> String {
    format!("<{priority}>1 - - {name} - - - {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_kernel_are_read_as_it_documents_them() {
        let record = "6,339,5140900,-;NET: Registered PF_VSOCK protocol family\n SUBSYSTEM=net\n DEVICE=n3\n";
        assert_eq!(kernel_record(record), Some((6, "NET: Registered PF_VSOCK protocol family")));
        assert_eq!(kernel_record("3,1,0,c,caller=T1;a;b"), Some((3, "a;b")));
        assert_eq!(kernel_record("30,340,5690716,-;udevd[80]: starting version 181"), None, "not the kernel");
        for broken in ["", "6", "6,1,2,-;", "x,1,2,-;text", "600,1,2,-;text"] {
            assert_eq!(kernel_record(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn the_agents_token_is_not_sent() {
        let line = "Command line: a=1 tink_agent_token=abc.DEF-_9 tink_time=1 \"tink_agent_token=x\"";
        let shown = "Command line: a=1 tink_agent_token=*** tink_time=1 \"tink_agent_token=***\"";
        assert_eq!(without_token(line), shown);
        assert_eq!(without_token("nothing of it"), "nothing of it");
    }

    #[test]
    fn a_line_has_the_level_that_it_says() {
        assert_eq!(severity("2026-11-28T07:00:00.1Z ERROR no image"), 3);
        assert_eq!(severity("2026-11-28T07:00:00.1Z  INFO an ERROR was there"), 6);
        assert_eq!(severity("thread 'main' panicked at ERROR"), 6);
        assert_eq!(severity(""), 6);
    }

    #[test]
    fn lines_are_whole_whatever_pieces_they_come_in_and_have_a_bound() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["one", "\n\ntw", "o\n", &"x".repeat(MAX_LINE + 5), "\n"] {
            lines.add(piece.as_bytes(), |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        assert_eq!(seen, ["one", "two", &"x".repeat(MAX_LINE), "xxxxx"]);
    }

    #[test]
    fn a_program_is_heard_on_the_server_and_tells_how_it_ended() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.local_addr().unwrap()).unwrap();
        let log = Log { server: "127.0.0.1".to_owned(), socket: Some(socket) };
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("agent");
        std::fs::write(&program, "#!/bin/sh\necho time WARN to out\necho to error >&2\nexit 3\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let ended = log.run("tink-worker", program.to_str().unwrap()).unwrap();
        assert_eq!(ended.code(), Some(3));
        let mut buffer = [0; 2048];
        for expected in
            ["<28>1 - - tink-worker - - - time WARN to out", "<30>1 - - tink-worker - - - to error"]
        {
            let length = server.recv(&mut buffer).unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
        }
    }
}
