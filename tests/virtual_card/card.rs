//! The card: its connection to a reader or to a test, around the applets.

use std::time::Duration;

use super::apdu::{Command, CommandChain, PendingResponse, Status, chain, instruction};
use super::applet::PivApplet;
use super::attestation::{pem, self_signed};
use super::faults::{Effect, Faults};
use super::keys::{KeySlot, Origin, PinPolicy, TouchPolicy};
use super::management_key::ManagementKey;
use super::objects::{capability_container, certificate_content, certificate_tag, chuid, tag};
use super::private_key::{Algorithm, PrivateKey, random};
use super::profile::{ManagementAlgorithm, Profile};
use super::tlv::{elements, find};
use super::touch::Touch;
use super::transcript::Transcript;
use super::yubikey_applets::YubiKeyApplet;

/// What the reader gets for a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmission {
    /// A response APDU, after this delay.
    Response { bytes: Vec<u8>, delay: Duration },
    /// The card is no longer in the reader.
    Pulled,
}

/// The selected applet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Selected {
    Piv,
    YubiKey(YubiKeyApplet),
}

/// A card.
pub struct Card {
    piv: PivApplet,
    selected: Option<Selected>,
    chain: CommandChain,
    pending: PendingResponse,
    faults: Faults,
    transcript: Transcript,
}

impl Card {
    /// The common name in the certificate of [`Self::plain_with_key`], which OpenSC uses as the
    /// token's label.
    pub const LABEL: &str = "A Card";

    /// A card as it comes from the factory, with its own serial number.
    pub fn new(profile: Profile) -> Self {
        let serial = u32::from_be_bytes(random()) >> 5;
        Self {
            piv: PivApplet::new(profile, serial),
            selected: None,
            chain: CommandChain::default(),
            pending: PendingResponse::default(),
            faults: Faults::default(),
            transcript: Transcript::default(),
        }
    }

    /// A card that is no YubiKey, with a P-256 key and its certificate for PIV authentication, and
    /// with a UUID, from which OpenSC derives the token's serial number.
    pub fn plain_with_key(pin: &str) -> Self {
        let mut card = Self::new(Profile::Plain);
        card.set_pin(pin);
        card.put_object(tag::CHUID, &chuid(&random()));
        card.put_object(tag::CAPABILITY_CONTAINER, &capability_container());
        card.put_key_with_certificate(0x9a, Algorithm::P256, Self::LABEL);
        card
    }

    pub fn profile(&self) -> Profile {
        self.piv.profile
    }

    pub fn serial(&self) -> u32 {
        self.piv.serial
    }

    /// The answer to reset.
    pub fn atr(&self) -> &'static [u8] {
        self.piv.profile.atr()
    }

    /// Sets the PIN without a command.
    pub fn set_pin(&mut self, pin: &str) {
        self.piv.pin.set_text(pin);
    }

    /// Remaining tries of the PIN.
    pub fn pin_tries(&self) -> u8 {
        self.piv.pin.tries
    }

    /// Remaining tries of the PUK.
    pub fn puk_tries(&self) -> u8 {
        self.piv.puk.tries
    }

    /// Sets the management key without a command.
    pub fn set_management_key(&mut self, key: ManagementKey) {
        self.piv.management_key = key;
    }

    pub fn management_algorithm(&self) -> ManagementAlgorithm {
        self.piv.management_key.algorithm
    }

    /// Generates a key in a slot without a command, with the default policies, and writes a
    /// certificate that the key itself has signed.
    pub fn put_key_with_certificate(&mut self, slot: u8, algorithm: Algorithm, common_name: &str) {
        let key = PrivateKey::generate(algorithm);
        self.put_certificate(slot, &self_signed(&key, common_name));
        let (pin_policy, touch_policy) = (PinPolicy::default_of(slot), TouchPolicy::Never);
        self.put_key(slot, KeySlot { key, pin_policy, touch_policy, origin: Origin::Generated });
    }

    /// Sets a key without a command.
    pub fn put_key(&mut self, slot: u8, key: KeySlot) {
        self.piv.keys.insert(slot, key);
    }

    pub fn key(&self, slot: u8) -> Option<&KeySlot> {
        self.piv.keys.get(&slot)
    }

    /// Sets the certificate of a slot without a command.
    pub fn put_certificate(&mut self, slot: u8, certificate: &[u8]) {
        self.put_object(certificate_tag(slot), &certificate_content(certificate));
    }

    /// The certificate of a slot, in PEM.
    pub fn certificate_pem(&self, slot: u8) -> Option<String> {
        let object = elements(self.object(certificate_tag(slot))?).ok()?;
        let certificate = find(&elements(&find(&object, 0x53)?).ok()?, 0x70)?;
        Some(pem(&certificate))
    }

    /// Sets the content of an object without a command; an empty one deletes the object.
    pub fn put_object(&mut self, tag: u32, content: &[u8]) {
        self.piv.objects.set(tag, content);
    }

    /// Sets the whole response to GET DATA for an object, to present malformed ones.
    pub fn put_raw_object(&mut self, tag: u32, response: &[u8]) {
        self.piv.objects.set_raw(tag, response.to_vec());
    }

    /// An object with its outer tag.
    pub fn object(&self, tag: u32) -> Option<&[u8]> {
        self.piv.objects.get(tag)
    }

    /// The touch sensor.
    pub fn touch(&mut self) -> &mut Touch {
        &mut self.piv.touch
    }

    /// The planned faults.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    pub fn clear_transcript(&mut self) {
        self.transcript.clear();
    }

    /// Power on, power off and reset have the same effect: no applet is selected, and what the host
    /// has proved is forgotten.
    pub fn reset(&mut self) {
        self.selected = None;
        self.chain = CommandChain::default();
        self.pending.clear();
        self.piv.session = super::applet::Session::default();
    }

    /// The response to a command APDU.
    pub fn transmit(&mut self, bytes: &[u8]) -> Transmission {
        let command = match Command::parse(bytes) {
            Ok(command) => command,
            Err(status) => {
                return Transmission::Response { bytes: status.0.to_be_bytes().to_vec(), delay: Duration::ZERO };
            }
        };
        let effect = self.faults.count(command.instruction, command.is_chained());
        let touches_before = self.piv.touch.requests();
        let (data, status) = match effect {
            Some(Effect::PullBefore) => {
                self.reset();
                self.transcript.add(&command, &[], None, &[]);
                return Transmission::Pulled;
            }
            Some(Effect::Status(status)) => (Vec::new(), status),
            _ => self.answer(command.clone()),
        };
        let touches = self.piv.touch.requests_since(touches_before);
        if effect == Some(Effect::PullAfter) {
            self.transcript.add(&command, &[], None, touches);
            self.reset();
            return Transmission::Pulled;
        }
        self.transcript.add(&command, &data, Some(status), touches);
        let delay = if let Some(Effect::Delay(delay)) = effect { delay } else { Duration::ZERO };
        Transmission::Response { bytes: [&data[..], &status.0.to_be_bytes()].concat(), delay }
    }

    /// Sends a command as a host with short APDUs does, with command chaining and GET RESPONSE. It
    /// fails if a planned fault pulls the card.
    pub fn send(&mut self, instruction: u8, p1: u8, p2: u8, data: &[u8]) -> (Vec<u8>, Status) {
        let mut response = Vec::new();
        let mut status = Status::OK;
        for command in chain(instruction, p1, p2, data) {
            status = self.send_part(&command, &mut response);
        }
        while status.0 & 0xff00 == 0x6100 {
            let expected = status.0.to_be_bytes()[1];
            status = self.send_part(&[0, instruction::GET_RESPONSE, 0, 0, expected], &mut response);
        }
        (response, status)
    }

    /// Sends one APDU, and appends the data of its response.
    fn send_part(&mut self, command: &[u8], response: &mut Vec<u8>) -> Status {
        let Transmission::Response { bytes, .. } = self.transmit(command) else { panic!("the card was pulled") };
        let (data, status) = bytes.split_at(bytes.len() - 2);
        response.extend(data);
        Status(u16::from_be_bytes(status.try_into().unwrap()))
    }

    fn answer(&mut self, command: Command) -> (Vec<u8>, Status) {
        if command.class & !0x10 != 0 {
            return (Vec::new(), Status::NO_SUCH_CLASS);
        }
        // GET RESPONSE (SP 800-73-4 part 2 section 3.1.2; ISO/IEC 7816-4 section 7.6.1).
        if command.instruction == instruction::GET_RESPONSE {
            return self.pending.next(command.max_response);
        }
        self.pending.clear();
        let command = match self.chain.add(command) {
            Ok(Some(command)) => command,
            Ok(None) => return (Vec::new(), Status::OK),
            Err(status) => return (Vec::new(), status),
        };
        match self.run(&command) {
            Ok(response) => self.pending.cut(response, command.max_response),
            Err(status) => (Vec::new(), status),
        }
    }

    fn run(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if command.instruction == instruction::SELECT {
            return self.select(command);
        }
        match self.selected {
            Some(Selected::Piv) => self.piv.run(command),
            Some(Selected::YubiKey(applet)) => applet.run(command, self.piv.profile, self.piv.serial),
            None => Err(Status::NO_SUCH_INSTRUCTION),
        }
    }

    /// Selects an applet by its name. An unknown name leaves the selected one (SP 800-73-4 part 2
    /// section 3.1.1).
    fn select(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if (command.p1, command.p2) != (4, 0) {
            return Err(Status::WRONG_PARAMETERS);
        }
        if PivApplet::has_name(&command.data) {
            let was_selected = self.selected.replace(Selected::Piv) == Some(Selected::Piv);
            return Ok(self.piv.select(was_selected));
        }
        let applet = YubiKeyApplet::with_name(&command.data).filter(|_| self.piv.profile.is_yubikey());
        let applet = applet.ok_or(Status::NOT_FOUND)?;
        self.selected = Some(Selected::YubiKey(applet));
        Ok(applet.select(self.piv.profile))
    }
}
