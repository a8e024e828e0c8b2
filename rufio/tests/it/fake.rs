// SPDX-License-Identifier: Apache-2.0

//! BMCs in memory that can be told to fail, to be slow and to lie.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::bmc::v1alpha1::BootDevice;
use futures::FutureExt;
use futures::future::BoxFuture;
use rufio::bmc::{
    Bmc, BootReading, BootRequest, Connector, Driver, Fault, FaultKind, MediaReading, Power, Switch,
};
use rufio::target::Target;

use crate::world::PASSWORD;

/// One machine.
#[derive(Debug, Default)]
pub struct State {
    pub on: bool,
    pub boot: Option<BootDevice>,
    /// Boot devices that are accepted and not taken over.
    pub boot_ignored: bool,
    /// Commands and boot writes that arrived.
    pub log: Vec<String>,
    /// Faults to answer the next sessions with.
    pub refuse_sessions: VecDeque<Fault>,
    /// Commands never return, though they are carried out.
    pub hang: bool,
    /// Time that each request takes.
    pub latency: Duration,
    pub busy: bool,
    pub sessions: usize,
    pub opened: usize,
    /// Two requests met, or two sessions.
    pub met: bool,
}

/// All machines, by host; one that is not there yet is off.
#[derive(Clone, Debug, Default)]
pub struct Rack {
    machines: Arc<Mutex<HashMap<String, Arc<Mutex<State>>>>>,
}

impl Rack {
    pub fn at(&self, host: &str) -> Arc<Mutex<State>> {
        Arc::clone(self.machines.lock().unwrap().entry(host.to_owned()).or_default())
    }

    pub fn log(&self, host: &str) -> Vec<String> {
        self.at(host).lock().unwrap().log.clone()
    }
}

impl Connector for Rack {
    fn open<'a>(
        &'a self,
        driver: Driver,
        target: &'a Target,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn Bmc>, Fault>> {
        async move {
            let state = self.at(&target.host);
            {
                let mut state = state.lock().unwrap();
                if let Some(fault) = state.refuse_sessions.pop_front() {
                    return Err(fault);
                }
                if target.password.expose() != PASSWORD {
                    return Err(Fault::new(FaultKind::Auth, "the BMC refuses the user name or password"));
                }
                state.met |= state.sessions > 0;
                state.sessions += 1;
                state.opened += 1;
            }
            let bmc: Box<dyn Bmc> = Box::new(Fake { state, driver });
            Ok(bmc)
        }
        .boxed()
    }
}

struct Fake {
    state: Arc<Mutex<State>>,
    driver: Driver,
}

impl Fake {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn busy<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let latency = {
            let mut state = self.lock();
            state.met |= state.busy;
            state.busy = true;
            state.latency
        };
        tokio::time::sleep(latency).await;
        let mut state = self.lock();
        state.busy = false;
        act(&mut state)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.sessions -= 1;
        state.busy = false;
    }
}

impl Bmc for Fake {
    fn driver(&self) -> Driver {
        self.driver
    }

    fn power(&mut self) -> BoxFuture<'_, Result<Power, Fault>> {
        async { Ok(if self.busy(|state| state.on).await { Power::On } else { Power::Off }) }.boxed()
    }

    fn switch(&mut self, switch: Switch) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let hang = self
                .busy(|state| {
                    state.log.push(switch.to_string());
                    state.on = !matches!(switch, Switch::Off | Switch::Soft);
                    state.hang
                })
                .await;
            if hang {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn boot(&mut self) -> BoxFuture<'_, Result<BootReading, Fault>> {
        async {
            let device = self.busy(|state| state.boot).await;
            let shown = device.map_or_else(|| "no override".to_owned(), |device| device.to_string());
            Ok(BootReading { device, shown, persistent: Some(false), efi: Some(true) })
        }
        .boxed()
    }

    fn set_boot(&mut self, request: BootRequest) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            self.busy(|state| {
                state.log.push(format!("boot {}", request.device));
                if !state.boot_ignored {
                    state.boot = Some(request.device);
                }
            })
            .await;
            Ok(())
        }
        .boxed()
    }

    fn media<'a>(&'a mut self, _kind: &'a str) -> BoxFuture<'a, Result<MediaReading, Fault>> {
        async { Ok(MediaReading { inserted: false, image: None }) }.boxed()
    }

    fn set_media<'a>(&'a mut self, kind: &'a str, url: Option<&'a str>) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            self.busy(|state| state.log.push(format!("media {kind} {}", url.unwrap_or("none")))).await;
            Ok(())
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { drop(self) }.boxed()
    }
}
