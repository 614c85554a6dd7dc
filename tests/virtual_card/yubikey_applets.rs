//! The other applets of a YubiKey that hosts ask for its serial number and its abilities: OTP and
//! management.

use super::apdu::{Command, Status};
use super::attestation::USB_A;
use super::profile::Profile;
use super::tlv::element;

/// Application identifier of the OTP applet, without its version.
const OTP: [u8; 7] = [0xa0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01];
/// Application identifier of the management applet.
const MANAGEMENT: [u8; 8] = [0xa0, 0x00, 0x00, 0x05, 0x27, 0x47, 0x11, 0x17];

/// The applet of a YubiKey, PIV aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum YubiKeyApplet {
    Otp,
    Management,
}

impl YubiKeyApplet {
    pub(super) fn with_name(name: &[u8]) -> Option<Self> {
        if name.starts_with(&OTP) {
            Some(Self::Otp)
        } else if name == MANAGEMENT {
            Some(Self::Management)
        } else {
            None
        }
    }

    /// The response to SELECT: the status of the OTP applet begins with the firmware version; the
    /// management applet has it as text.
    pub(super) fn select(self, profile: Profile) -> Vec<u8> {
        let [major, minor, patch] = profile.version().unwrap();
        match self {
            Self::Otp => vec![major, minor, patch, 0, 0, 0, 0],
            Self::Management => format!("Virtual mgr - FW version {major}.{minor}.{patch}").into_bytes(),
        }
    }

    /// The serial number from the OTP applet (Yubico, "Get the serial number"), and the device
    /// information from the management applet (Yubico, "Get device information"), with PIV as the
    /// only ability.
    pub(super) fn run(self, command: &Command, profile: Profile, serial: u32) -> Result<Vec<u8>, Status> {
        match (self, command.instruction, command.p1) {
            (Self::Otp, 0x01, 0x10) => Ok(serial.to_be_bytes().to_vec()),
            (Self::Management, 0x1d, 0) => {
                let piv = [0x00, 0x10];
                let information = [
                    element(0x01, &piv),
                    element(0x02, &serial.to_be_bytes()),
                    element(0x03, &piv),
                    element(0x04, &[USB_A]),
                    element(0x05, &profile.version().unwrap()),
                ];
                let information = information.concat();
                Ok([&[u8::try_from(information.len()).unwrap()], &information[..]].concat())
            }
            _ => Err(Status::NO_SUCH_INSTRUCTION),
        }
    }
}
