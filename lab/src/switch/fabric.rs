// SPDX-License-Identifier: Apache-2.0
//! Moves frames between the ports of the switch: one thread, one poll, no copy but the kernel's.
//!
//! A thread of its own rather than tasks: a frame costs two system calls and no wake-up of another thread, which is what decides
//! how fast an image travels when the emulated machines take all cores.
//!
//! A port that is slower than what is sent to it has a queue; beyond it frames are lost, as on any switch.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::faults::{Fate, Faults, Faulty, Way};
use super::pcap::{Capture, Writer};
use super::{Egress, Port, Switch, Vlans};

/// Largest frame: jumbo, with room for tags. A longer one is cut by the kernel and dropped here.
const MAX_FRAME_BYTES: usize = 9216 + 64;

/// Frames that wait for a slow port; the next ones are lost.
const QUEUE: usize = 1024;

/// Frames taken from one port before the others have their turn.
const BURST: usize = 64;

/// How long the thread waits for something to do before it makes the capture visible to readers.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What a port is made of.
#[derive(Debug)]
pub enum Cable {
    /// A QEMU machine with `-netdev dgram`: we bind `ours`, it binds `theirs` whenever it runs.
    Datagram {
        /// Path of our socket.
        ours: PathBuf,
        /// Path of QEMU's socket.
        theirs: PathBuf,
    },
    /// A tap interface.
    Tap(File),
}

/// A port with its cable.
#[derive(Debug)]
pub struct Link {
    /// What it is made of.
    pub cable: Cable,
    /// What goes wrong on it.
    pub faults: Faults,
    /// The VLANs of the port.
    pub vlans: Vlans,
}

impl From<Cable> for Link {
    fn from(cable: Cable) -> Self {
        Self { cable, faults: Faults::default(), vlans: Vlans::default() }
    }
}

/// A running switch. Dropping it stops it.
#[derive(Debug)]
pub struct Fabric {
    stop: OwnedFd,
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Fabric {
    /// Plugs the cables in, in the order of the port numbers, and starts forwarding.
    ///
    /// # Errors
    /// When a socket cannot be bound or the capture file cannot be made.
    pub fn start(links: Vec<Link>, capture: Option<&Capture>) -> io::Result<Self> {
        let switch = Switch::new(links.iter().map(|link| link.vlans).collect());
        let ports = links.into_iter().map(Plug::new).collect::<io::Result<Vec<_>>>()?;
        let capture = capture.map(Writer::create).transpose()?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let lost = Arc::new(AtomicU64::new(0));
        let engine = Engine { ports, switch, capture, lost: Arc::clone(&lost) };
        let thread =
            std::thread::Builder::new().name("switch".to_owned()).spawn(move || engine.run(&stopped))?;
        Ok(Self { stop, lost, thread: Some(thread) })
    }

    /// Frames that were lost: by the faults of a cable, or because nobody was at its other end or had room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1u64.to_ne_bytes()) {
            tracing::warn!(error = %error, "the switch cannot be told to stop");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the switch panicked");
        }
    }
}

struct Engine {
    ports: Vec<Plug>,
    switch: Switch,
    capture: Option<Writer>,
    lost: Arc<AtomicU64>,
}

impl Engine {
    fn run(mut self, stop: &OwnedFd) {
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        loop {
            match self.wait(stop) {
                Ok(Wake::Stop) => break,
                Ok(Wake::Idle) => self.flush_capture(),
                Ok(Wake::Ready(ready)) => {
                    for (number, flags) in ready {
                        self.serve(number, flags, &mut buffer);
                    }
                }
                Ok(Wake::Due) => {}
                Err(error) => {
                    tracing::error!(error = %error, "the switch stops");
                    break;
                }
            }
            self.send_late();
        }
        self.flush_capture();
        tracing::debug!(lost = self.lost.load(Ordering::Relaxed), "switch stopped");
    }

    fn wait(&self, stop: &OwnedFd) -> io::Result<Wake> {
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        for port in &self.ports {
            let (input, output) = port.fds();
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
            let wanted = if port.queue.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::from_borrowed_fd(output, wanted));
        }
        let due = self.ports.iter().filter_map(|port| port.faulty.next()).min();
        let until = due.map(|due| due.saturating_duration_since(Instant::now()));
        let until = until.and_then(|until| Timespec::try_from(until).ok());
        match poll(&mut fds, Some(&until.map_or(IDLE, |until| until.min(IDLE)))) {
            Ok(0) if until.is_some() => return Ok(Wake::Due),
            Ok(0) => return Ok(Wake::Idle),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Wake::Ready(Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let mut flags = fds.iter().map(PollFd::revents);
        if flags.next().is_some_and(|flags| !flags.is_empty()) {
            return Ok(Wake::Stop);
        }
        let mut ready = Vec::with_capacity(self.ports.len());
        for number in 0..self.ports.len() {
            let input = flags.next().unwrap_or(PollFlags::empty());
            let output = flags.next().unwrap_or(PollFlags::empty());
            ready.push((Port(number), input | output));
        }
        Ok(Wake::Ready(ready))
    }

    fn serve(&mut self, number: Port, flags: PollFlags, buffer: &mut [u8]) {
        let waiting = self.ports.get(number.0).is_some_and(|port| !port.queue.is_empty());
        if waiting
            && flags.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP)
            && let Some(port) = self.ports.get_mut(number.0)
        {
            port.drain();
        }
        if !flags.contains(PollFlags::IN) {
            return;
        }
        for _ in 0..BURST {
            let Some(length) = self.ports.get_mut(number.0).and_then(|port| port.receive(buffer)) else {
                return;
            };
            let (Some(frame), Some(port)) = (buffer.get_mut(..length), self.ports.get_mut(number.0)) else {
                continue;
            };
            match port.faulty.meet(Way::In, frame, Instant::now()) {
                Fate::Passes => self.forward(number, frame),
                Fate::Lost => self.lose(1),
                Fate::Late => {}
            }
        }
    }

    /// Sends the late frames whose time has come on their way.
    fn send_late(&mut self) {
        let now = Instant::now();
        for number in 0..self.ports.len() {
            while let Some((way, frame)) = self.ports.get_mut(number).and_then(|port| port.faulty.due(now)) {
                match way {
                    Way::In => self.forward(Port(number), &frame),
                    Way::Out => {
                        let sent = self.ports.get_mut(number).is_some_and(|port| port.send(&frame));
                        self.lose(u64::from(!sent));
                    }
                }
            }
        }
    }

    fn forward(&mut self, from: Port, frame: &[u8]) {
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.frame(SystemTime::now(), frame)
        {
            tracing::warn!(error = %error, "the capture ends");
            self.capture = None;
        }
        let egress = self.switch.forward(from, frame);
        let mut lost = 0;
        for (number, port) in self.ports.iter_mut().enumerate() {
            let vlan = match egress {
                Egress::Port(to, vlan) if to.0 == number => vlan,
                Egress::Flood(vlan) if from.0 != number => vlan,
                _ => continue,
            };
            if let Some(frame) = self.switch.leaving(Port(number), vlan, frame) {
                lost += u64::from(!port.give(&frame));
            }
        }
        self.lose(lost);
    }

    fn lose(&self, frames: u64) {
        self.lost.fetch_add(frames, Ordering::Relaxed);
    }

    fn flush_capture(&mut self) {
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.flush()
        {
            tracing::warn!(error = %error, "the capture ends");
            self.capture = None;
        }
    }
}

enum Wake {
    Stop,
    Idle,
    /// A late frame's time has come.
    Due,
    Ready(Vec<(Port, PollFlags)>),
}

/// One port with its queue.
struct Plug {
    line: Line,
    faulty: Faulty,
    queue: VecDeque<Vec<u8>>,
}

enum Line {
    /// Two sockets: a datagram socket that is connected takes frames of its peer only, which a restarted QEMU is not; one that
    /// is not connected cannot tell when its peer has room again.
    Datagram {
        input: UnixDatagram,
        output: UnixDatagram,
        theirs: PathBuf,
        connected: bool,
    },
    Tap(File),
}

/// What became of a frame that was to be sent.
enum Sent {
    Yes,
    /// The other side has no room now.
    Full,
    /// There is no other side.
    Gone,
}

impl Plug {
    fn new(link: Link) -> io::Result<Self> {
        let line = match link.cable {
            Cable::Tap(file) => Line::Tap(file),
            Cable::Datagram { ours, theirs } => {
                let input = UnixDatagram::bind(ours)?;
                let output = UnixDatagram::unbound()?;
                input.set_nonblocking(true)?;
                output.set_nonblocking(true)?;
                Line::Datagram { input, output, theirs, connected: false }
            }
        };
        Ok(Self { line, faulty: Faulty::new(link.faults), queue: VecDeque::new() })
    }

    fn fds(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        match &self.line {
            Line::Datagram { input, output, .. } => (input.as_fd(), output.as_fd()),
            Line::Tap(file) => (file.as_fd(), file.as_fd()),
        }
    }

    /// The length of the next frame, or nothing when there is none now.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match &mut self.line {
            Line::Datagram { input, .. } => input.recv(buffer).ok(),
            Line::Tap(file) => file.read(buffer).ok(),
        }
    }

    /// Hands a frame to the cable and its faults; false when it is lost.
    fn give(&mut self, frame: &[u8]) -> bool {
        // Only what comes from a machine is changed.
        match self.faulty.meet(Way::Out, &mut frame.to_vec(), Instant::now()) {
            Fate::Passes => self.send(frame),
            Fate::Lost => false,
            Fate::Late => true,
        }
    }

    /// Sends a frame or queues it; false when it is lost.
    fn send(&mut self, frame: &[u8]) -> bool {
        if self.queue.is_empty() {
            match self.line.send(frame) {
                Sent::Yes => return true,
                Sent::Gone => return false,
                Sent::Full => {}
            }
        }
        let room = self.queue.len() < QUEUE;
        if room {
            self.queue.push_back(frame.to_vec());
        }
        room
    }

    /// Sends what waits, as far as it goes. Nobody at the other end: nothing waits any more.
    fn drain(&mut self) {
        while let Some(frame) = self.queue.front() {
            match self.line.send(frame) {
                Sent::Yes => {
                    self.queue.pop_front();
                }
                Sent::Full => return,
                Sent::Gone => self.queue.clear(),
            }
        }
    }
}

impl Line {
    fn send(&mut self, frame: &[u8]) -> Sent {
        match self {
            Self::Tap(file) => sent(file.write(frame)),
            Self::Datagram { output, theirs, connected, .. } => {
                if *connected {
                    match sent(output.send(frame)) {
                        // A QEMU that was started anew listens under the same path: the frame is for it.
                        Sent::Gone => *connected = false,
                        outcome => return outcome,
                    }
                }
                if output.connect(theirs).is_err() {
                    return Sent::Gone;
                }
                *connected = true;
                sent(output.send(frame))
            }
        }
    }
}

fn sent(outcome: io::Result<usize>) -> Sent {
    match outcome {
        Ok(_) => Sent::Yes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
        Err(_) => Sent::Gone,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    /// What QEMU does with its end of the cable.
    fn machine(dir: &Path, name: &str) -> UnixDatagram {
        let path = dir.join(format!("{name}.machine"));
        std::fs::remove_file(&path).ok();
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn cable(dir: &Path, name: &str) -> Link {
        let ours = dir.join(format!("{name}.switch"));
        Cable::Datagram { ours, theirs: dir.join(format!("{name}.machine")) }.into()
    }

    fn frame(to: u8, from: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0x52, 0, 0, 0, 0, to, 0x52, 0, 0, 0, 0, from, 8, 0];
        frame.resize(14 + payload, from);
        frame
    }

    #[test]
    fn frames_reach_the_other_machine_also_after_it_was_restarted() {
        let dir = tempfile::tempdir().unwrap();
        let capture = Capture { path: dir.path().join("rack.pcap"), snap_bytes: 64, max_bytes: 1 << 20 };
        let fabric =
            Fabric::start(vec![cable(dir.path(), "a"), cable(dir.path(), "b")], Some(&capture)).unwrap();
        let a = machine(dir.path(), "a");
        let mut buffer = [0; 2048];
        for restart in 0..3u8 {
            let b = machine(dir.path(), "b");
            // B speaks first, as a machine does that was just switched on.
            b.send_to(&frame(1, 2, 100), dir.path().join("b.switch")).unwrap();
            assert_eq!(a.recv(&mut buffer).unwrap(), 114, "{restart}");
            a.send_to(&frame(2, 1, 60), dir.path().join("a.switch")).unwrap();
            assert_eq!(b.recv(&mut buffer).unwrap(), 74, "{restart}");
            assert_eq!(buffer[..6], [0x52, 0, 0, 0, 0, 2]);
        }
        drop(fabric);
        let captured = std::fs::metadata(&capture.path).unwrap().len();
        assert_eq!(captured, 24 + 6 * (16 + 64), "every frame once");
    }

    #[test]
    fn frames_of_a_bad_cable_are_late_and_some_are_lost() {
        let dir = tempfile::tempdir().unwrap();
        let delay = Duration::from_millis(20);
        let loss = crate::switch::faults::Loss { per_mille: 100, seed: 3 };
        let faults = Faults { loss, delay, plain_rom: false };
        let bad = Link { faults, ..cable(dir.path(), "b") };
        let fabric = Fabric::start(vec![cable(dir.path(), "a"), bad], None).unwrap();
        let (a, b) = (machine(dir.path(), "a"), machine(dir.path(), "b"));
        let (begin, sent) = (Instant::now(), 200u16);
        for number in 0..sent {
            let mut frame = frame(2, 1, 60);
            frame[14..16].copy_from_slice(&number.to_be_bytes());
            a.send_to(&frame, dir.path().join("a.switch")).unwrap();
        }
        let mut expected = Faulty::new(Faults { loss, ..Faults::default() });
        let arrive =
            |number: &u16| expected.meet(Way::Out, &mut [u8::from(*number > 255)], begin) == Fate::Passes;
        let numbers: Vec<u16> = (0..sent).filter(arrive).collect();
        assert!((160..=195).contains(&numbers.len()), "{}", numbers.len());
        let mut buffer = [0; 2048];
        for (i, number) in numbers.into_iter().enumerate() {
            b.recv(&mut buffer).unwrap();
            assert_eq!(buffer[14..16], number.to_be_bytes(), "in order, and the seed's frames");
            assert!(i > 0 || begin.elapsed() >= delay);
        }
        assert!((5..=40).contains(&fabric.lost()), "{}", fabric.lost());
    }

    #[test]
    fn a_slow_machine_loses_nothing_that_fits_its_queue() {
        let dir = tempfile::tempdir().unwrap();
        let _fabric = Fabric::start(vec![cable(dir.path(), "a"), cable(dir.path(), "b")], None).unwrap();
        let (a, b) = (machine(dir.path(), "a"), machine(dir.path(), "b"));
        let sent: u16 = 600;
        for number in 0..sent {
            let mut frame = frame(2, 1, 1486);
            frame[14..16].copy_from_slice(&number.to_be_bytes());
            a.send_to(&frame, dir.path().join("a.switch")).unwrap();
        }
        let mut buffer = [0; 2048];
        for number in 0..sent {
            assert_eq!(b.recv(&mut buffer).unwrap(), 1500);
            assert_eq!(buffer[14..16], number.to_be_bytes(), "in order");
        }
    }
}
