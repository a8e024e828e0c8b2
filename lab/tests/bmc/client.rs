// SPDX-License-Identifier: Apache-2.0
//! The IPMI BMC as our own client sees it, over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipmi::{
    AuthFailure, BootDevice, BootFlags, ChassisControl, CipherSuite, Client, Command, CompletionCode,
    Credentials, Error, Options, Privilege,
};
use lab::bmc::{Behaviour, Kind};
use lab::chassis::{BootMode, BootTarget, Chassis, PowerState, SimulatedChassis};

use crate::{PASSWORD, Rig, USER, account, identity};

fn credentials() -> Credentials {
    Credentials::new(USER, PASSWORD).unwrap()
}

fn only(suite: CipherSuite) -> Options {
    Options { suites: vec![suite], ..Options::default() }
}

async fn connect(rig: &Rig, options: &Options) -> Result<Client, Error> {
    Client::connect_to(rig.bmc.addr(), &credentials(), options).await
}

#[tokio::test]
async fn drives_power_and_boot_device_with_both_suites() {
    for suite in [CipherSuite::Suite3, CipherSuite::Suite17] {
        let rig = Rig::start(Kind::Ipmi).await;
        let mut client = connect(&rig, &only(suite)).await.unwrap();
        assert_eq!(client.suite(), Some(suite));
        assert_eq!(client.device_id().await.unwrap().ipmi_version, 2);
        assert!(!client.chassis_status().await.unwrap().power_on);
        let flags = BootFlags::once(BootDevice::Pxe, true);
        client.set_boot_flags(flags).await.unwrap();
        assert_eq!(client.boot_flags().await.unwrap(), flags);
        client.chassis_control(ChassisControl::PowerUp).await.unwrap();
        rig.wait_for_power(PowerState::On).await;
        assert_eq!(rig.chassis.starts(), [BootTarget::Pxe]);
        assert!(client.chassis_status().await.unwrap().power_on);
        assert!(!client.boot_flags().await.unwrap().valid, "used by the start");
        client.chassis_control(ChassisControl::PowerDown).await.unwrap();
        rig.wait_for_power(PowerState::Off).await;
        let refused = client.chassis_control(ChassisControl::PowerCycle).await.unwrap_err();
        assert!(
            matches!(
                refused,
                Error::Completion { command: Command::CHASSIS_CONTROL, code: CompletionCode::WRONG_STATE }
            ),
            "{refused}"
        );
        client.close().await;
    }
}

#[tokio::test]
async fn answers_a_presence_ping() {
    let rig = Rig::start(Kind::Ipmi).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&ipmi::packet::ping(42), rig.bmc.addr()).await.unwrap();
    let mut buffer = [0; 64];
    let received = tokio::time::timeout(crate::DEADLINE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer[..received], ipmi::packet::pong(42));
}

#[tokio::test]
async fn many_bmcs_live_in_one_process() {
    let mut rigs = Vec::new();
    for host in 2..6 {
        let addr = SocketAddr::from(([127, 0, 0, host], 0));
        let chassis = SimulatedChassis::new(identity(), Duration::ZERO);
        let shared: Arc<dyn Chassis> = Arc::new(chassis.clone());
        let bmc = lab::bmc::start(Kind::Ipmi, addr, account(), shared, Behaviour::default()).await.unwrap();
        rigs.push(Rig { chassis, bmc });
    }
    let mut client = connect(&rigs[2], &Options::default()).await.unwrap();
    client.chassis_control(ChassisControl::PowerUp).await.unwrap();
    rigs[2].wait_for_power(PowerState::On).await;
    for (at, rig) in rigs.iter().enumerate() {
        assert_eq!(rig.chassis.power() == PowerState::On, at == 2);
    }
}

#[tokio::test]
async fn prefers_suite_17_and_falls_back_on_what_the_bmc_has() {
    let rig = Rig::start(Kind::Ipmi).await;
    let client = connect(&rig, &Options::default()).await.unwrap();
    assert_eq!(client.suite(), Some(CipherSuite::Suite17));
}

#[tokio::test]
async fn tells_wrong_credentials_apart() {
    let rig = Rig::start(Kind::Ipmi).await;
    for (user, password, expected) in [
        (USER, "incorrect horse", AuthFailure::WrongPassword),
        ("nobody", PASSWORD, AuthFailure::UnknownUser),
    ] {
        let credentials = Credentials::new(user, password).unwrap();
        let start = Instant::now();
        let refused =
            Client::connect_to(rig.bmc.addr(), &credentials, &Options::default()).await.err().unwrap();
        assert!(matches!(refused, Error::Auth(found) if found == expected), "{refused}");
        assert!(!refused.is_transient());
        assert!(!format!("{refused} {refused:?}").contains(password));
        assert!(start.elapsed() < Duration::from_secs(2), "told after {:?}", start.elapsed());
    }
    let operator = account().with_privilege(Privilege::Operator);
    let rig = Rig::start_with(Kind::Ipmi, operator, Behaviour::default()).await;
    let refused = connect(&rig, &Options::default()).await.err().unwrap();
    assert!(matches!(refused, Error::Auth(AuthFailure::Privilege)), "{refused}");
}

#[tokio::test]
async fn tells_a_bmc_that_is_not_there() {
    let rig = Rig::start(Kind::Ipmi).await;
    let addr = rig.bmc.addr();
    rig.bmc.stop().await;
    let options = Options { first_timeout: Duration::from_millis(20), attempts: 3, ..Options::default() };
    let gone = Client::connect_to(addr, &credentials(), &options).await.err().unwrap();
    assert!(
        matches!(gone, Error::Unreachable { step: "capabilities", attempts: 3, source: Some(_) }),
        "{gone:?}"
    );
    assert!(gone.is_transient());
}

#[tokio::test]
async fn sessions_are_given_back() {
    let rig = Rig::start(Kind::Ipmi).await;
    // Far more than the BMC has room for, closed and dropped in turn.
    for round in 0..20 {
        let client = connect(&rig, &Options::default()).await.unwrap();
        if round % 2 == 0 {
            client.close().await;
        }
    }
    let mut held = Vec::new();
    for _ in 0..lab::bmc::ipmi::engine::MAX_ACTIVE {
        held.push(connect(&rig, &Options::default()).await.unwrap());
    }
    let refused = connect(&rig, &Options::default()).await.err().unwrap();
    assert!(matches!(refused, Error::Busy(_)) && refused.is_transient(), "{refused}");
    for client in &mut held {
        client.chassis_status().await.unwrap();
    }
}

#[tokio::test]
async fn a_given_up_question_does_not_disturb_the_next_one() {
    let behaviour = Behaviour { latency: Duration::from_millis(40), ..Behaviour::default() };
    let rig = Rig::start_with(Kind::Ipmi, account(), behaviour).await;
    let mut client = connect(&rig, &Options::default()).await.unwrap();
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(5), client.boot_flags()).await;
        assert!(given_up.is_err());
        assert!(!client.chassis_status().await.unwrap().power_on);
    }
}

#[tokio::test]
async fn a_bmc_may_report_power_late() {
    let behaviour = Behaviour { power_lag: Duration::from_millis(300), ..Behaviour::default() };
    let rig = Rig::start_with(Kind::Ipmi, account(), behaviour).await;
    let mut client = connect(&rig, &Options::default()).await.unwrap();
    client.chassis_control(ChassisControl::PowerUp).await.unwrap();
    rig.wait_for_power(PowerState::On).await;
    assert!(!client.chassis_status().await.unwrap().power_on, "still as it was");
    let start = Instant::now();
    while !client.chassis_status().await.unwrap().power_on {
        assert!(start.elapsed() < crate::DEADLINE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn boot_flags_of_our_client_outlive_the_sixty_seconds() {
    // The BMC drops one-time flags after 60 s without a chassis control unless parameter 3 forbids it.
    let rig = Rig::start(Kind::Ipmi).await;
    let mut client = connect(&rig, &Options::default()).await.unwrap();
    client.set_boot_flags(BootFlags::once(BootDevice::Pxe, false)).await.unwrap();
    let mask = client.command(Command::GET_BOOT_OPTIONS, &[3, 0, 0]).await.unwrap();
    assert_eq!(mask, [0x01, 3, 0x08]);
    let progress = client.command(Command::GET_BOOT_OPTIONS, &[0, 0, 0]).await.unwrap();
    assert_eq!(progress, [0x01, 0, 0], "set in progress is given back");
    assert_eq!(rig.chassis.boot_override().mode, BootMode::Once);
}
