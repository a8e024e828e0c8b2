// SPDX-License-Identifier: Apache-2.0
//! Command numbers (appendix G) and completion codes (table 5-2) that this crate and the lab's BMC know by name.

use std::fmt;

/// Network function of chassis requests.
pub const NETFN_CHASSIS: u8 = 0x00;
/// Network function of sensor and event requests.
pub const NETFN_SENSOR: u8 = 0x04;
/// Network function of application requests.
pub const NETFN_APP: u8 = 0x06;
/// Network function of storage requests.
pub const NETFN_STORAGE: u8 = 0x0a;
/// Network function of transport requests.
pub const NETFN_TRANSPORT: u8 = 0x0c;

/// A network function and a command number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command {
    /// Network function of the request (even).
    pub netfn: u8,
    /// Command number.
    pub code: u8,
}

impl Command {
    /// Get Device ID.
    pub const GET_DEVICE_ID: Self = Self::new(NETFN_APP, 0x01);
    /// Get System GUID.
    pub const GET_SYSTEM_GUID: Self = Self::new(NETFN_APP, 0x37);
    /// Get Channel Authentication Capabilities.
    pub const GET_AUTH_CAPABILITIES: Self = Self::new(NETFN_APP, 0x38);
    /// Set Session Privilege Level.
    pub const SET_SESSION_PRIVILEGE: Self = Self::new(NETFN_APP, 0x3b);
    /// Close Session.
    pub const CLOSE_SESSION: Self = Self::new(NETFN_APP, 0x3c);
    /// Get Session Info.
    pub const GET_SESSION_INFO: Self = Self::new(NETFN_APP, 0x3d);
    /// Get Channel Info.
    pub const GET_CHANNEL_INFO: Self = Self::new(NETFN_APP, 0x42);
    /// Get Channel Cipher Suites.
    pub const GET_CIPHER_SUITES: Self = Self::new(NETFN_APP, 0x54);
    /// Get Chassis Capabilities.
    pub const GET_CHASSIS_CAPABILITIES: Self = Self::new(NETFN_CHASSIS, 0x00);
    /// Get Chassis Status.
    pub const GET_CHASSIS_STATUS: Self = Self::new(NETFN_CHASSIS, 0x01);
    /// Chassis Control.
    pub const CHASSIS_CONTROL: Self = Self::new(NETFN_CHASSIS, 0x02);
    /// Set System Boot Options.
    pub const SET_BOOT_OPTIONS: Self = Self::new(NETFN_CHASSIS, 0x08);
    /// Get System Boot Options.
    pub const GET_BOOT_OPTIONS: Self = Self::new(NETFN_CHASSIS, 0x09);
    /// Get LAN Configuration Parameters.
    pub const GET_LAN_CONFIG: Self = Self::new(NETFN_TRANSPORT, 0x02);

    /// A command by its numbers.
    #[must_use]
    pub const fn new(netfn: u8, code: u8) -> Self {
        Self { netfn, code }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::GET_DEVICE_ID => "Get Device ID",
            Self::GET_SYSTEM_GUID => "Get System GUID",
            Self::GET_AUTH_CAPABILITIES => "Get Channel Authentication Capabilities",
            Self::SET_SESSION_PRIVILEGE => "Set Session Privilege Level",
            Self::CLOSE_SESSION => "Close Session",
            Self::GET_SESSION_INFO => "Get Session Info",
            Self::GET_CHANNEL_INFO => "Get Channel Info",
            Self::GET_CIPHER_SUITES => "Get Channel Cipher Suites",
            Self::GET_CHASSIS_CAPABILITIES => "Get Chassis Capabilities",
            Self::GET_CHASSIS_STATUS => "Get Chassis Status",
            Self::CHASSIS_CONTROL => "Chassis Control",
            Self::SET_BOOT_OPTIONS => "Set System Boot Options",
            Self::GET_BOOT_OPTIONS => "Get System Boot Options",
            Self::GET_LAN_CONFIG => "Get LAN Configuration Parameters",
            Self { netfn, code } => return write!(f, "command {netfn:#04x}/{code:#04x}"),
        })
    }
}

/// What a BMC says about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompletionCode(pub u8);

impl CompletionCode {
    /// Completed normally.
    pub const OK: Self = Self(0x00);
    /// Boot options: this parameter is not supported (section 28.12).
    pub const PARAMETER_UNSUPPORTED: Self = Self(0x80);
    /// Boot options: somebody else is setting them right now (section 28.12).
    pub const SET_IN_PROGRESS: Self = Self(0x81);
    /// Set Session Privilege: above the limit of user or channel (section 22.18).
    pub const PRIVILEGE_LIMIT: Self = Self(0x81);
    /// Close Session: no such session (section 22.19).
    pub const INVALID_SESSION_ID: Self = Self(0x87);
    /// The BMC is busy; try again.
    pub const NODE_BUSY: Self = Self(0xc0);
    /// The command does not exist.
    pub const INVALID_COMMAND: Self = Self(0xc1);
    /// Request data too short.
    pub const DATA_TRUNCATED: Self = Self(0xc6);
    /// Request data has a wrong length.
    pub const INVALID_LENGTH: Self = Self(0xc7);
    /// A parameter is out of range.
    pub const OUT_OF_RANGE: Self = Self(0xc9);
    /// The thing asked for does not exist.
    pub const NOT_PRESENT: Self = Self(0xcb);
    /// A data field is invalid.
    pub const INVALID_FIELD: Self = Self(0xcc);
    /// The session's privilege is too low.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(0xd4);
    /// Not possible in the present state, for example while the machine is off.
    pub const WRONG_STATE: Self = Self(0xd5);
    /// Unspecified error.
    pub const UNSPECIFIED: Self = Self(0xff);
}

impl fmt::Display for CompletionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            0x00 => "completed",
            0x01..=0x7e => "device-specific error",
            0x80..=0xbe => "command-specific error",
            0xc0 => "BMC busy",
            0xc1 => "invalid command",
            0xc2 => "invalid command for this logical unit",
            0xc3 => "timeout inside the BMC",
            0xc4 => "BMC out of space",
            0xc5 => "reservation cancelled",
            0xc6 => "request data truncated",
            0xc7 => "wrong length of request data",
            0xc8 => "request data too long",
            0xc9 => "parameter out of range",
            0xca => "cannot return that many bytes",
            0xcb => "not present",
            0xcc => "invalid field in request",
            0xcd => "not possible for this sensor or record",
            0xce => "no response available",
            0xcf => "duplicate request",
            0xd0 => "sensor records are being updated",
            0xd1 => "firmware is being updated",
            0xd2 => "BMC is initialising",
            0xd3 => "destination unavailable",
            0xd4 => "insufficient privilege",
            0xd5 => "not possible in the present state",
            0xd6 => "function disabled",
            _ => "unspecified error",
        };
        write!(f, "{meaning} ({:#04x})", self.0)
    }
}
