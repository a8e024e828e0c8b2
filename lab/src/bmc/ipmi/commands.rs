// SPDX-License-Identifier: Apache-2.0
//! What each IPMI command answers, what it demands and what it does. Pure: effects are handed to the caller.
//!
//! Called by [`super::engine::Engine`] with a request whose session was verified. Commands that touch the session itself
//! (privilege, close) are the engine's. Section numbers are those of the IPMI specification 2.0.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ::ipmi::chassis::{
    KEEP_AFTER_TIMEOUT, PARAM_BOOT_FLAGS, PARAM_BOOT_INFO_ACK, PARAM_SET_IN_PROGRESS,
    PARAM_VALID_BIT_CLEARING, PARAM_VERSION, SET_COMMIT, SET_COMPLETE, SET_IN_PROGRESS,
};
use ::ipmi::{
    BootDevice, BootFlags, ChassisControl, ChassisStatus, CipherSuite, Command, CompletionCode, Privilege,
};

use crate::chassis::{BootMode, BootOverride, BootTarget, Identity, PowerAction};

/// How long boot flags stay valid without a chassis control (section 28.13, parameter 3).
const VALID_WITHOUT_CONTROL: Duration = Duration::from_secs(60);
/// Value of the first nibble of "get" requests: give the revision only.
const REVISION_ONLY: u8 = 0x80;
/// Channel number of the LAN.
const LAN_CHANNEL: u8 = 1;
/// Bit of a boot options request: mark the parameter as invalid.
const PARAM_INVALID: u8 = 0x80;
/// Bytes of cipher suite records in one answer (section 22.15.1).
const SUITE_CHUNK: usize = 16;

/// What the engine may see of the machine when it answers.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The power state as this BMC reports it.
    pub power_on: bool,
    /// The boot override as it stands.
    pub boot_override: BootOverride,
}

/// What a command does to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A power action.
    Power(PowerAction),
    /// A new boot override.
    Boot(BootOverride),
    /// One-time boot flags were not used in time.
    ExpireBoot,
}

/// Carries out an effect and says what the command answers.
pub type Perform<'a> = &'a mut dyn FnMut(Effect) -> CompletionCode;

/// Response data after the completion code, or the code of a failure.
pub type Answer = Result<Vec<u8>, CompletionCode>;

/// The state that commands share: boot option parameters, and who the BMC is.
#[derive(Debug)]
pub struct Commands {
    guid: [u8; 16],
    mac: [u8; 6],
    addr: SocketAddr,
    set_in_progress: u8,
    valid_bit_clearing: u8,
    boot_info_ack: [u8; 2],
    boot_flags_due: Option<Instant>,
}

impl Commands {
    /// The commands of a BMC that listens on `addr`.
    #[must_use]
    pub fn new(identity: &Identity, addr: SocketAddr) -> Self {
        let mut guid = [0; 16];
        let mut mac = [0; 6];
        hex_into(&identity.uuid, &mut guid);
        // Section 20.8: least significant byte first.
        guid.reverse();
        hex_into(&identity.mac, &mut mac);
        // The BMC's own port: the machine's address, locally administered and with the last bit turned.
        let [first, .., last] = &mut mac;
        *first |= 0x02;
        *last ^= 0x80;
        Self {
            guid,
            mac,
            addr,
            set_in_progress: SET_COMPLETE,
            valid_bit_clearing: 0,
            boot_info_ack: [0; 2],
            boot_flags_due: None,
        }
    }

    /// The BMC's GUID as it is sent.
    #[must_use]
    pub const fn guid(&self) -> [u8; 16] {
        self.guid
    }

    /// When [`Self::tick`] has to be called.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.boot_flags_due
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Effect> {
        self.boot_flags_due.take_if(|due| now >= *due).map(|_| Effect::ExpireBoot)
    }

    /// The privilege that a command demands (appendix G); `None` for a command that does not exist here.
    #[must_use]
    pub const fn required_privilege(command: Command) -> Option<Privilege> {
        match command {
            Command::GET_DEVICE_ID
            | Command::GET_SYSTEM_GUID
            | Command::GET_AUTH_CAPABILITIES
            | Command::GET_CHANNEL_INFO
            | Command::GET_CIPHER_SUITES
            | Command::GET_CHASSIS_CAPABILITIES
            | Command::GET_CHASSIS_STATUS => Some(Privilege::User),
            Command::CHASSIS_CONTROL
            | Command::SET_BOOT_OPTIONS
            | Command::GET_BOOT_OPTIONS
            | Command::GET_LAN_CONFIG => Some(Privilege::Operator),
            _ => None,
        }
    }

    /// Whether a command is answered outside a session (appendix G).
    #[must_use]
    pub const fn needs_no_session(command: Command) -> bool {
        matches!(
            command,
            Command::GET_AUTH_CAPABILITIES | Command::GET_SYSTEM_GUID | Command::GET_CIPHER_SUITES
        )
    }

    /// Answers a command.
    pub fn answer(
        &mut self,
        command: Command,
        data: &[u8],
        view: View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Answer {
        match command {
            Command::GET_DEVICE_ID => Ok(device_id()),
            Command::GET_SYSTEM_GUID => Ok(self.guid.to_vec()),
            Command::GET_AUTH_CAPABILITIES => auth_capabilities(data),
            Command::GET_CHANNEL_INFO => channel_info(data),
            Command::GET_CIPHER_SUITES => cipher_suites(data),
            Command::GET_CHASSIS_CAPABILITIES => Ok(vec![0x00, 0x20, 0x20, 0x20, 0x20]),
            Command::GET_CHASSIS_STATUS => {
                let status =
                    ChassisStatus { power_on: view.power_on, power_fault: false, control_fault: false };
                Ok(status.encode().to_vec())
            }
            Command::CHASSIS_CONTROL => self.chassis_control(data, perform),
            Command::SET_BOOT_OPTIONS => self.set_boot_option(data, now, perform),
            Command::GET_BOOT_OPTIONS => self.boot_option(data, view),
            Command::GET_LAN_CONFIG => self.lan_config(data),
            _ => Err(CompletionCode::INVALID_COMMAND),
        }
    }

    fn chassis_control(&mut self, data: &[u8], perform: Perform<'_>) -> Answer {
        let [number] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
        let action = match ChassisControl::from_number(number) {
            Some(ChassisControl::PowerDown) => PowerAction::ForceOff,
            Some(ChassisControl::PowerUp) => PowerAction::On,
            Some(ChassisControl::PowerCycle) => PowerAction::Cycle,
            Some(ChassisControl::HardReset) => PowerAction::Reset,
            Some(ChassisControl::SoftShutdown) => PowerAction::GracefulShutdown,
            Some(ChassisControl::DiagnosticInterrupt) | None => return Err(CompletionCode::INVALID_FIELD),
        };
        match perform(Effect::Power(action)) {
            CompletionCode::OK => {
                self.boot_flags_due = None;
                Ok(Vec::new())
            }
            code => Err(code),
        }
    }

    fn set_boot_option(&mut self, data: &[u8], now: Instant, perform: Perform<'_>) -> Answer {
        let [selector, value @ ..] = data else { return Err(CompletionCode::DATA_TRUNCATED) };
        match (selector & !PARAM_INVALID, value) {
            // Only the valid mark of the parameter is to be changed.
            (PARAM_SET_IN_PROGRESS | PARAM_VALID_BIT_CLEARING..=PARAM_BOOT_FLAGS, []) => Ok(Vec::new()),
            (PARAM_SET_IN_PROGRESS, [SET_IN_PROGRESS]) if self.set_in_progress == SET_IN_PROGRESS => {
                Err(CompletionCode::SET_IN_PROGRESS)
            }
            (PARAM_SET_IN_PROGRESS, [state @ (SET_COMPLETE | SET_IN_PROGRESS)]) => {
                self.set_in_progress = *state;
                Ok(Vec::new())
            }
            (PARAM_SET_IN_PROGRESS, [SET_COMMIT]) => Ok(Vec::new()),
            (PARAM_VALID_BIT_CLEARING, [mask]) => {
                self.valid_bit_clearing = mask & 0x1f;
                Ok(Vec::new())
            }
            (PARAM_BOOT_INFO_ACK, [mask, ack]) => {
                let [_, current] = self.boot_info_ack;
                self.boot_info_ack = [0, (current & !mask) | (ack & mask)];
                Ok(Vec::new())
            }
            (PARAM_BOOT_FLAGS, [_, _, _, _, _]) => self.set_boot_flags(value, now, perform),
            (PARAM_SET_IN_PROGRESS | PARAM_VALID_BIT_CLEARING..=PARAM_BOOT_FLAGS, _) => {
                Err(CompletionCode::INVALID_FIELD)
            }
            _ => Err(CompletionCode::PARAMETER_UNSUPPORTED),
        }
    }

    fn set_boot_flags(&mut self, value: &[u8], now: Instant, perform: Perform<'_>) -> Answer {
        let flags = BootFlags::decode(value).map_err(|_| CompletionCode::DATA_TRUNCATED)?;
        let target = match flags.device {
            BootDevice::None => BootTarget::None,
            BootDevice::Pxe => BootTarget::Pxe,
            BootDevice::Disk => BootTarget::Hdd,
            BootDevice::Cdrom => BootTarget::Cd,
            BootDevice::BiosSetup => BootTarget::BiosSetup,
            BootDevice::SafeMode | BootDevice::Diagnostic | BootDevice::Other(_) => {
                return Err(CompletionCode::INVALID_FIELD);
            }
        };
        let mode = match (flags.valid && target != BootTarget::None, flags.persistent) {
            (false, _) => BootMode::Disabled,
            (true, false) => BootMode::Once,
            (true, true) => BootMode::Continuous,
        };
        let target = if mode == BootMode::Disabled { BootTarget::None } else { target };
        let keeps = self.valid_bit_clearing & KEEP_AFTER_TIMEOUT != 0;
        self.boot_flags_due = (mode == BootMode::Once && !keeps).then(|| now + VALID_WITHOUT_CONTROL);
        match perform(Effect::Boot(BootOverride { target, mode, uefi: flags.efi })) {
            CompletionCode::OK => Ok(Vec::new()),
            code => Err(code),
        }
    }

    fn boot_option(&self, data: &[u8], view: View) -> Answer {
        let [selector, _set, _block] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
        let selector = selector & 0x7f;
        let value = match selector {
            PARAM_SET_IN_PROGRESS => vec![self.set_in_progress],
            PARAM_VALID_BIT_CLEARING => vec![self.valid_bit_clearing],
            PARAM_BOOT_INFO_ACK => self.boot_info_ack.to_vec(),
            PARAM_BOOT_FLAGS => boot_flags(view.boot_override).encode().to_vec(),
            _ => return Err(CompletionCode::PARAMETER_UNSUPPORTED),
        };
        Ok([&[PARAM_VERSION, selector], value.as_slice()].concat())
    }

    /// Get LAN Configuration Parameters (section 23.2, table 23-4): what `ipmitool lan print` needs.
    fn lan_config(&self, data: &[u8]) -> Answer {
        let [channel, selector, _set, _block] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
        let v4 = match self.addr.ip() {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        if !matches!(channel & 0x0f, LAN_CHANNEL | 0x0e) {
            return Err(CompletionCode::INVALID_FIELD);
        }
        let value: &[u8] = match selector {
            _ if channel & REVISION_ONLY != 0 => &[],
            // Set complete; no IPMI 1.5 authentication types, supported or enabled.
            0 | 1 => &[0],
            2 => &[0; 5],
            3 => &v4,
            // Address source: static.
            4 => &[1],
            5 => &self.mac,
            6 => &[255, 255, 255, 0],
            7 => &[0x40, 0x40, 0x10],
            8 | 9 => &self.addr.port().to_le_bytes(),
            12 | 14 => &[0; 4],
            13 | 15 => &[0; 6],
            // No VLAN.
            20 => &[0; 2],
            21 => &[0],
            // Two cipher suites, both up to administrator.
            22 => &[2],
            23 => &[0, 3, 17],
            24 => &[0, 0x44, 0, 0, 0, 0, 0, 0, 0],
            _ => return Err(CompletionCode::PARAMETER_UNSUPPORTED),
        };
        Ok([&[0x11], value].concat())
    }
}

/// Boot flags as the chassis holds them.
fn boot_flags(boot_override: BootOverride) -> BootFlags {
    let device = match boot_override.effective() {
        BootTarget::None => BootDevice::None,
        BootTarget::Pxe => BootDevice::Pxe,
        BootTarget::Hdd => BootDevice::Disk,
        BootTarget::Cd => BootDevice::Cdrom,
        BootTarget::BiosSetup => BootDevice::BiosSetup,
    };
    BootFlags {
        valid: boot_override.mode != BootMode::Disabled,
        persistent: boot_override.mode == BootMode::Continuous,
        efi: boot_override.uefi,
        device,
    }
}

/// Section 20.1: device 32, firmware 1.00, IPMI 2.0, chassis device, no manufacturer.
fn device_id() -> Vec<u8> {
    vec![0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0x01, 0, 0, 0, 0, 0]
}

/// Section 22.13: IPMI 2.0 only, named users, no BMC key.
fn auth_capabilities(data: &[u8]) -> Answer {
    let [channel, level] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
    if !matches!(channel & 0x0f, LAN_CHANNEL | 0x0e) || !(1..=5).contains(&(level & 0x0f)) {
        return Err(CompletionCode::INVALID_FIELD);
    }
    let (types, extended) = if channel & 0x80 == 0 { (0x00, 0x00) } else { (0x80, 0x02) };
    Ok(vec![LAN_CHANNEL, types, 0x04, extended, 0, 0, 0, 0])
}

/// Section 22.24: one Ethernet channel with many sessions, IPMB protocol; enterprise number 7154 is IPMI's own.
fn channel_info(data: &[u8]) -> Answer {
    let [channel] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
    if !matches!(channel & 0x0f, LAN_CHANNEL | 0x0e) {
        return Err(CompletionCode::INVALID_FIELD);
    }
    Ok(vec![LAN_CHANNEL, 0x04, 0x01, 0x80, 0xf2, 0x1b, 0x00, 0, 0])
}

/// Section 22.15: one record of five bytes per suite, 16 bytes per answer.
fn cipher_suites(data: &[u8]) -> Answer {
    let [channel, _payload, index] = *data else { return Err(CompletionCode::INVALID_LENGTH) };
    if !matches!(channel & 0x0f, LAN_CHANNEL | 0x0e) {
        return Err(CompletionCode::INVALID_FIELD);
    }
    let records = [CipherSuite::Suite3, CipherSuite::Suite17].into_iter().flat_map(|suite| {
        let [authentication, integrity, confidentiality] = suite.algorithms();
        [0xc0, suite.id(), authentication, 0x40 | integrity, 0x80 | confidentiality]
    });
    let skip = usize::from(index & 0x3f) * SUITE_CHUNK;
    Ok(std::iter::once(LAN_CHANNEL).chain(records.skip(skip).take(SUITE_CHUNK)).collect())
}

/// Reads hexadecimal digits, whatever stands between them.
fn hex_into(text: &str, out: &mut [u8]) {
    let mut digits = text.chars().filter_map(|c| c.to_digit(16)).filter_map(|digit| u8::try_from(digit).ok());
    for byte in out {
        let (high, low) = (digits.next().unwrap_or(0), digits.next().unwrap_or(0));
        *byte = high << 4 | low;
    }
}
