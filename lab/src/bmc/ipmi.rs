// SPDX-License-Identifier: Apache-2.0
//! A BMC that speaks IPMI 2.0 over LAN: one UDP socket around [`engine::Engine`].
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | sessions and RAKP, BMC side: no socket, no clock |
//! | [`commands`] | what the commands answer and do |

pub mod commands;
pub mod engine;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::commands::{Effect, View};
use self::engine::Engine;
use super::power::{PowerButton, Refused};
use super::{Account, Behaviour, BootWrites};
use crate::chassis::{BootMode, BootOverride, Chassis, PowerState};
use ::ipmi::CompletionCode;

/// Largest datagram that is read; RMCP+ packets of a console are far smaller.
const MAX_DATAGRAM: usize = 2048;
/// Answers that may wait for the BMC's latency; one more is dropped, as by a BMC whose buffers are full.
const MAX_DELAYED: usize = 64;

/// A bound IPMI BMC.
pub struct Server {
    socket: UdpSocket,
    addr: SocketAddr,
    chassis: Arc<dyn Chassis>,
    behaviour: Behaviour,
    engine: Engine,
}

impl Server {
    /// Binds the UDP socket.
    ///
    /// # Errors
    /// What `bind` says.
    pub async fn bind(
        addr: SocketAddr,
        account: Account,
        chassis: Arc<dyn Chassis>,
        behaviour: Behaviour,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr).await?;
        let addr = socket.local_addr()?;
        let engine = Engine::new(account, &chassis.identity(), addr, StdRng::from_os_rng());
        Ok(Self { socket, addr, chassis, behaviour, engine })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let power = PowerButton::new(Arc::clone(&self.chassis), self.behaviour.power_lag);
        let mut delayed: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
        let mut buffer = [0_u8; MAX_DATAGRAM];
        info!(addr = %self.addr, machine = self.chassis.identity().name, "ipmi bmc listens");
        loop {
            let due = delayed.front().map(|(due, _, _)| *due);
            let timer = self.engine.deadline().map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = at(due), if due.is_some() => {
                    if let Some((_, peer, datagram)) = delayed.pop_front() {
                        self.send(peer, &datagram).await;
                    }
                }
                () = at(timer), if timer.is_some() => {
                    let effect = self.engine.tick(Instant::now().into_std());
                    self.apply(effect, &power);
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, peer)) => {
                        let Some(datagram) = buffer.get(..length) else { continue };
                        let Some(answer) = self.answer(datagram, peer, &power) else { continue };
                        if self.behaviour.latency.is_zero() {
                            self.send(peer, &answer).await;
                        } else if delayed.len() < MAX_DELAYED {
                            delayed.push_back((Instant::now() + self.behaviour.latency, peer, answer));
                        }
                    }
                    Err(error) => debug!(addr = %self.addr, %error, "receive failed"),
                },
            }
        }
    }

    fn answer(&mut self, datagram: &[u8], peer: SocketAddr, power: &PowerButton) -> Option<Vec<u8>> {
        let view = View {
            power_on: power.reported() == PowerState::On,
            boot_override: self.chassis.boot_override(),
        };
        let now = Instant::now().into_std();
        let (chassis, behaviour) = (&self.chassis, self.behaviour);
        self.engine
            .datagram(datagram, peer, view, now, &mut |effect| perform(effect, &**chassis, behaviour, power))
    }

    fn apply(&self, effect: Option<Effect>, power: &PowerButton) {
        if let Some(effect) = effect {
            let code = perform(effect, &*self.chassis, self.behaviour, power);
            debug!(addr = %self.addr, %code, ?effect, "timer");
        }
    }

    async fn send(&self, peer: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, peer).await {
            debug!(addr = %self.addr, %peer, %error, "send failed");
        }
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

fn perform(
    effect: Effect,
    chassis: &dyn Chassis,
    behaviour: Behaviour,
    power: &PowerButton,
) -> CompletionCode {
    match effect {
        Effect::Power(action) => match power.press(action) {
            Ok(()) => CompletionCode::OK,
            Err(Refused::Busy) => CompletionCode::NODE_BUSY,
            Err(Refused::NeedsPower) => CompletionCode::WRONG_STATE,
        },
        Effect::Boot(boot_override) => {
            if behaviour.boot_writes == BootWrites::Kept {
                chassis.set_boot_override(boot_override);
            }
            CompletionCode::OK
        }
        Effect::ExpireBoot => {
            let current = chassis.boot_override();
            if current.mode == BootMode::Once {
                chassis.set_boot_override(BootOverride { uefi: current.uefi, ..BootOverride::default() });
            }
            CompletionCode::OK
        }
    }
}
