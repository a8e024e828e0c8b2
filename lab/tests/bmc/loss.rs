// SPDX-License-Identifier: Apache-2.0
//! Client and BMC as two state machines joined by a bad network, in virtual time: every lost datagram costs time and nothing
//! else. A second test does the same over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipmi::packet::{self, PayloadType};
use ipmi::rakp::OpenRequest;
use ipmi::session::{Session, Step};
use ipmi::{
    BootDevice, BootFlags, ChassisControl, Client, Command, CompletionCode, Credentials, Error, Options,
};
use lab::bmc::Kind;
use lab::bmc::ipmi::commands::{Effect, View};
use lab::bmc::ipmi::engine::Engine;
use lab::chassis::{BootOverride, BootTarget, PowerAction, PowerState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;

use crate::{PASSWORD, Rig, USER, account, identity};

/// A network that loses, repeats and delays; the BMC at its other end; and what the BMC did.
struct World {
    now: Instant,
    rng: StdRng,
    loss: f64,
    engine: Engine,
    client: Session,
    /// Whether every datagram is preceded by broken copies of itself.
    noise: bool,
    /// Answers under way: arrival and bytes.
    answers: Vec<(Instant, Vec<u8>)>,
    done: Vec<Effect>,
}

impl World {
    fn new(seed: u64, loss: f64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 623));
        let engine = Engine::new(account(), &identity(), addr, StdRng::seed_from_u64(seed ^ 0xb0c));
        let credentials = Credentials::new(USER, PASSWORD).unwrap();
        let client = Session::new(credentials, Options::default(), rng.random());
        Self {
            now: Instant::now(),
            rng,
            loss,
            engine,
            client,
            noise: false,
            answers: Vec::new(),
            done: Vec::new(),
        }
    }

    /// One datagram from the client: lost, delivered, or delivered twice; its answers likewise.
    fn send(&mut self, datagram: &[u8]) {
        let copies =
            if self.rng.random_bool(self.loss) { 0 } else { 1 + usize::from(self.rng.random_bool(0.1)) };
        let mut arrivals = vec![datagram.to_vec(); copies];
        if self.noise {
            arrivals.insert(0, self.broken(datagram));
        }
        for datagram in &arrivals {
            let view = View { power_on: true, boot_override: BootOverride::default() };
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
            let done = &mut self.done;
            let answer = self.engine.datagram(datagram, peer, view, self.now, &mut |effect| {
                done.push(effect);
                CompletionCode::OK
            });
            if let Some(answer) = answer
                && !self.rng.random_bool(self.loss)
            {
                // Up to 1.2 s: later than the first repetition, so that answers come twice and out of order.
                let delay = Duration::from_millis(self.rng.random_range(0..1_200));
                if self.noise {
                    let broken = self.broken(&answer);
                    self.answers.push((self.now, broken));
                }
                self.answers.push((self.now + delay, answer));
            }
        }
    }

    /// The datagram cut short, lengthened or with some bits turned.
    fn broken(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut bytes = datagram.to_vec();
        match self.rng.random_range(0..3) {
            0 => bytes.truncate(self.rng.random_range(0..bytes.len())),
            1 => bytes.push(self.rng.random()),
            _ => {}
        }
        for _ in 0..self.rng.random_range(1..4) {
            if let Some(last) = bytes.len().checked_sub(1) {
                bytes[self.rng.random_range(0..=last)] ^= 1 << self.rng.random_range(0..8);
            }
        }
        bytes
    }

    fn settle(&mut self, mut step: Step) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(datagram) = step.send.take() {
                self.send(&datagram);
            }
            if let Some(outcome) = step.outcome {
                return outcome;
            }
            let deadline = self.client.deadline().expect("a pending question has a deadline");
            self.answers.sort_by_key(|(at, _)| *at);
            step = match self.answers.first() {
                Some((at, _)) if *at < deadline => {
                    let (at, answer) = self.answers.remove(0);
                    self.now = self.now.max(at);
                    self.client.datagram(&answer, self.now)
                }
                _ => {
                    self.now = deadline;
                    self.client.tick(self.now)
                }
            };
        }
    }
}

#[test]
fn every_power_action_happens_once_however_bad_the_network() {
    let mut gave_up = 0;
    for seed in 0..300 {
        let mut world = World::new(seed, 0.2);
        let step = world.client.open(world.now);
        if let Err(error) = world.settle(step) {
            assert!(error.is_transient(), "seed {seed}: {error}");
            gave_up += 1;
            continue;
        }
        let mut wanted = 0;
        for control in [ChassisControl::PowerCycle, ChassisControl::HardReset, ChassisControl::PowerCycle] {
            let step = world.client.request(Command::CHASSIS_CONTROL, &[control.number()], world.now);
            match world.settle(step) {
                Ok(_) => wanted += 1,
                Err(error) => {
                    assert!(error.is_transient(), "seed {seed}: {error}");
                    gave_up += 1;
                    break;
                }
            }
            let expected: &[Effect] = &[
                Effect::Power(PowerAction::Cycle),
                Effect::Power(PowerAction::Reset),
                Effect::Power(PowerAction::Cycle),
            ];
            assert_eq!(world.done, expected[..wanted], "seed {seed}");
        }
    }
    // Seven attempts at a fifth lost each way: one question in 1,300 fails, and a run has eight.
    assert!(gave_up <= 10, "{gave_up} of 300 runs gave up");
}

#[test]
fn a_recorded_session_cannot_be_played_again() {
    let mut world = World::new(1, 0.0);
    let step = world.client.open(world.now);
    world.settle(step).unwrap();
    let step = world.client.request(Command::CHASSIS_CONTROL, &[2], world.now);
    let recorded = step.send.clone().unwrap();
    world.settle(step).unwrap();
    let step = world.client.request(Command::GET_CHASSIS_STATUS, &[], world.now);
    world.settle(step).unwrap();
    let before = world.done.len();
    world.send(&recorded);
    world.now += Duration::from_secs(59);
    world.send(&recorded);
    assert_eq!(world.done.len(), before, "a replay was carried out");
    // The replay did not keep the session alive either.
    world.now += Duration::from_secs(2);
    let step = world.client.request(Command::GET_CHASSIS_STATUS, &[], world.now);
    let lost = world.settle(step).unwrap_err();
    assert!(matches!(lost, Error::Unreachable { .. }), "{lost}");
}

#[test]
fn boot_flags_expire_after_sixty_seconds_unless_told_otherwise() {
    for (keep, expires) in [(0x00, true), (0x08, false)] {
        let mut world = World::new(2, 0.0);
        let step = world.client.open(world.now);
        world.settle(step).unwrap();
        let flags = BootFlags::once(BootDevice::Pxe, false).encode();
        for data in [&[3, keep][..], &[&[5][..], &flags].concat()] {
            let step = world.client.request(Command::SET_BOOT_OPTIONS, data, world.now);
            world.settle(step).unwrap();
        }
        assert_eq!(world.engine.tick(world.now + Duration::from_secs(58)), None);
        let expired = world.engine.tick(world.now + Duration::from_secs(61));
        assert_eq!(expired.is_some(), expires);
    }
}

#[test]
fn broken_datagrams_are_survived_and_change_nothing() {
    let mut opened = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, 0.0);
        world.noise = seed % 2 == 0;
        let step = world.client.open(world.now);
        // Outside a session nothing is signed, so noise may look like a refusal: any error is fine, a panic is not.
        if world.settle(step).is_err() {
            continue;
        }
        opened += 1;
        world.noise = true;
        let mut wanted = 0;
        for _ in 0..3 {
            let step = world.client.request(Command::CHASSIS_CONTROL, &[2], world.now);
            world.settle(step).unwrap();
            wanted += 1;
            assert_eq!(world.done.len(), wanted, "seed {seed}");
        }
    }
    assert!(opened >= 100, "only {opened} of 200 sessions were opened");
}

#[test]
fn a_flood_of_requests_locks_nobody_out() {
    let mut world = World::new(3, 0.0);
    for console_id in 1..=10_000 {
        let algorithms = [Some(1), Some(1), Some(1)];
        let request = OpenRequest { tag: 0, privilege: 4, console_id, algorithms };
        world.send(&packet::plain(PayloadType::OpenRequest, &request.encode()));
    }
    world.answers.clear();
    let step = world.client.open(world.now);
    world.settle(step).unwrap();
}

/// Forwards datagrams between one client and the BMC and loses a fifth of them in each direction.
async fn lossy_proxy(bmc: SocketAddr) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    back.connect(bmc).await.unwrap();
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut rng = StdRng::seed_from_u64(20);
        let mut client = None;
        let (mut inward, mut outward) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                received = front.recv_from(&mut inward) => {
                    let (length, peer) = received.unwrap();
                    client = Some(peer);
                    if !rng.random_bool(0.2) {
                        back.send(&inward[..length]).await.unwrap();
                    }
                }
                received = back.recv(&mut outward) => {
                    let length = received.unwrap();
                    if let Some(peer) = client && !rng.random_bool(0.2) {
                        front.send_to(&outward[..length], peer).await.unwrap();
                    }
                }
            }
        }
    });
    addr
}

#[tokio::test]
async fn gets_through_with_a_fifth_of_all_datagrams_lost() {
    let rig = Rig::start(Kind::Ipmi).await;
    let proxy = lossy_proxy(rig.bmc.addr()).await;
    let credentials = Credentials::new(USER, PASSWORD).unwrap();
    // A short first wait, so that the test does not take long; the number of attempts is what gets it through.
    let options = Options { first_timeout: Duration::from_millis(50), attempts: 10, ..Options::default() };
    let mut client = Client::connect_to(proxy, &credentials, &options).await.unwrap();
    client.set_boot_flags(BootFlags::once(BootDevice::Pxe, false)).await.unwrap();
    client.chassis_control(ChassisControl::PowerUp).await.unwrap();
    rig.wait_for_power(PowerState::On).await;
    for _ in 0..10 {
        assert!(client.chassis_status().await.unwrap().power_on);
    }
    client.chassis_control(ChassisControl::HardReset).await.unwrap();
    rig.wait(|chassis| chassis.starts() == [BootTarget::Pxe, BootTarget::None], "one reset").await;
}
