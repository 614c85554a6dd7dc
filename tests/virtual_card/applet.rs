//! The PIV applet: its state, and the dispatch of its commands.

use std::collections::BTreeMap;

use super::apdu::{Command, Status, instruction};
use super::attestation;
use super::keys::{ATTESTATION_SLOT, KeySlot, Origin, PinPolicy, TouchPolicy};
use super::management_key::{FACTORY_MANAGEMENT_KEY, ManagementExchange, ManagementKey};
use super::objects::{Objects, certificate_content, tag};
use super::pin::{FACTORY_PIN, FACTORY_PUK, Pin};
use super::private_key::PrivateKey;
use super::profile::Profile;
use super::tlv::element;
use super::touch::Touch;

/// The application identifier (SP 800-73-4 part 1 section 2.2): registered part and version.
pub(super) const APPLICATION_IDENTIFIER: [u8; 11] = [0xa0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00];
/// The length of the registered application provider in it, in bytes.
const PROVIDER_LENGTH: usize = 5;

/// What the host has proved. It ends with a reset of the card.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) pin_verified: bool,
    /// No key has been used since the verification.
    pub(super) pin_unused: bool,
    pub(super) management_authenticated: bool,
    pub(super) exchange: Option<ManagementExchange>,
}

impl Session {
    pub(super) fn end_verification(&mut self) {
        self.pin_verified = false;
        self.pin_unused = false;
    }
}

/// The applet of one card.
pub(super) struct PivApplet {
    pub(super) profile: Profile,
    pub(super) serial: u32,
    pub(super) pin: Pin,
    pub(super) puk: Pin,
    pub(super) management_key: ManagementKey,
    pub(super) keys: BTreeMap<u8, KeySlot>,
    pub(super) objects: Objects,
    pub(super) touch: Touch,
    pub(super) session: Session,
}

impl PivApplet {
    /// As it comes from the factory. YubiKeys have an attestation key.
    pub(super) fn new(profile: Profile, serial: u32) -> Self {
        let mut applet = Self {
            profile,
            serial,
            pin: Pin::new(FACTORY_PIN),
            puk: Pin::new(FACTORY_PUK),
            management_key: ManagementKey::new(profile.default_management(), &FACTORY_MANAGEMENT_KEY),
            keys: BTreeMap::new(),
            objects: Objects::new(),
            touch: Touch::default(),
            session: Session::default(),
        };
        if let Some(version) = profile.version() {
            let key = PrivateKey::shared_rsa();
            let certificate = attestation::card_certificate(&key, version);
            applet.objects.set(tag::ATTESTATION_CERTIFICATE, &certificate_content(&certificate));
            let slot = KeySlot {
                key,
                pin_policy: PinPolicy::Once,
                touch_policy: TouchPolicy::Never,
                origin: Origin::Imported,
            };
            applet.keys.insert(ATTESTATION_SLOT, slot);
        }
        applet
    }

    /// Whether a command SELECT with this name means this applet: the full identifier, one without
    /// the version, or a shorter beginning of it (SP 800-73-4 part 2 section 3.1.1).
    pub(super) fn has_name(name: &[u8]) -> bool {
        name.len() >= PROVIDER_LENGTH && APPLICATION_IDENTIFIER.starts_with(name)
    }

    /// SELECT (SP 800-73-4 part 2 section 3.1.1). On a YubiKey it ends verification and
    /// authentication; the standard leaves them if the applet was selected already.
    pub(super) fn select(&mut self, was_selected: bool) -> Vec<u8> {
        if self.profile.is_yubikey() || !was_selected {
            self.session = Session::default();
        }
        let (provider, rest) = APPLICATION_IDENTIFIER.split_at(PROVIDER_LENGTH);
        let authority = element(0x79, &element(0x4f, provider));
        element(0x61, &[element(0x4f, rest), authority].concat())
    }

    /// Runs a complete command.
    pub(super) fn run(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if !self.has_instruction(command.instruction) {
            return Err(Status::NO_SUCH_INSTRUCTION);
        }
        match command.instruction {
            instruction::GET_DATA => self.get_data(command),
            instruction::PUT_DATA => self.put_data(command),
            instruction::VERIFY => self.verify(command),
            instruction::CHANGE_REFERENCE_DATA => self.change_reference_data(command),
            instruction::RESET_RETRY_COUNTER => self.reset_retry_counter(command),
            instruction::GENERAL_AUTHENTICATE => self.general_authenticate(command),
            instruction::GENERATE => self.generate(command),
            instruction::GET_VERSION => Ok(self.profile.version().unwrap().to_vec()),
            instruction::GET_SERIAL => Ok(self.serial.to_be_bytes().to_vec()),
            instruction::SET_MANAGEMENT_KEY => self.set_management_key(command),
            instruction::IMPORT_KEY => self.import(command),
            instruction::RESET => self.reset(),
            instruction::SET_PIN_RETRIES => self.set_pin_retries(command),
            instruction::ATTEST => self.attest(command),
            instruction::GET_METADATA => self.get_metadata(command),
            instruction::MOVE_KEY => self.move_key(command),
            _ => Err(Status::NO_SUCH_INSTRUCTION),
        }
    }

    /// Whether this card knows the instruction. The versions are those in Yubico's list of PIV
    /// commands.
    fn has_instruction(&self, instruction: u8) -> bool {
        let since = |major, minor| self.profile.is_yubikey_since(major, minor);
        match instruction {
            instruction::GET_VERSION
            | instruction::SET_MANAGEMENT_KEY
            | instruction::IMPORT_KEY
            | instruction::RESET
            | instruction::SET_PIN_RETRIES => self.profile.is_yubikey(),
            instruction::ATTEST => since(4, 3),
            instruction::GET_SERIAL => since(5, 0),
            instruction::GET_METADATA => since(5, 3),
            instruction::MOVE_KEY => since(5, 7),
            _ => true,
        }
    }

    /// RESET (Yubico, "Reset the PIV application"): only while PIN and PUK are both blocked. The
    /// attestation key and its certificate stay.
    fn reset(&mut self) -> Result<Vec<u8>, Status> {
        if self.pin.tries > 0 || self.puk.tries > 0 {
            return Err(Status::CONDITIONS_NOT_SATISFIED);
        }
        self.pin = Pin::new(FACTORY_PIN);
        self.puk = Pin::new(FACTORY_PUK);
        self.management_key = ManagementKey::new(self.profile.default_management(), &FACTORY_MANAGEMENT_KEY);
        self.keys.retain(|slot, _| *slot == ATTESTATION_SLOT);
        self.objects.reset();
        self.session = Session::default();
        Ok(Vec::new())
    }
}
