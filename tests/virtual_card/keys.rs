//! Key slots: generation, import, use by their policies, metadata, and moving.

use super::apdu::{Command, Status};
use super::applet::PivApplet;
use super::management_key::MANAGEMENT_KEY;
use super::private_key::{Algorithm, PrivateKey};
use super::tlv::{element, elements, find, plain_elements};

/// The slot of the attestation key.
pub(super) const ATTESTATION_SLOT: u8 = 0xf9;

/// When a key needs the PIN (Yubico, "PIN and touch policies").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinPolicy {
    Never = 1,
    /// A verification counts until it ends.
    Once = 2,
    /// A verification counts for one use of a key.
    Always = 3,
}

/// When a key needs a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchPolicy {
    Never = 1,
    Always = 2,
    /// A touch counts for 15 seconds.
    Cached = 3,
}

/// How a key came into its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Generated = 1,
    Imported = 2,
}

/// A key in a slot.
#[derive(Clone)]
pub struct KeySlot {
    pub key: PrivateKey,
    pub pin_policy: PinPolicy,
    pub touch_policy: TouchPolicy,
    pub origin: Origin,
}

impl PinPolicy {
    /// The policy of a slot without an explicit one (SP 800-73-4 part 1 table 4b).
    pub fn default_of(slot: u8) -> Self {
        match slot {
            0x9c => Self::Always,
            0x9e => Self::Never,
            _ => Self::Once,
        }
    }
}

/// Whether the key reference is that of a slot for key pairs (SP 800-73-4 part 1 table 4b).
fn is_slot(reference: u8) -> bool {
    matches!(reference, 0x9a | 0x9c | 0x9d | 0x9e | 0x82..=0x95)
}

impl PivApplet {
    /// Whether a key can be made in the slot. That of the attestation key exists on YubiKeys only.
    fn check_slot(&self, slot: u8) -> Result<(), Status> {
        let is_known = is_slot(slot) || slot == ATTESTATION_SLOT && self.profile.is_yubikey();
        if is_known { Ok(()) } else { Err(Status::WRONG_PARAMETERS) }
    }

    /// The algorithm, if this card has it.
    fn algorithm(&self, byte: u8) -> Result<Algorithm, Status> {
        Algorithm::from_byte(byte).filter(|algorithm| self.profile.supports(*algorithm)).ok_or(Status::WRONG_DATA)
    }

    /// The policies in the elements AA and AB (Yubico, "Generate asymmetric"); 0 is the default.
    fn policies(&self, slot: u8, elements: &[(u8, &[u8])]) -> Result<(PinPolicy, TouchPolicy), Status> {
        let [pin, touch] = [0xaa, 0xab].map(|tag| find(elements, tag));
        if !self.profile.is_yubikey() && (pin.is_some() || touch.is_some()) {
            return Err(Status::WRONG_DATA);
        }
        let pin_policy = match pin.as_deref() {
            None | Some([0]) => PinPolicy::default_of(slot),
            Some([1]) => PinPolicy::Never,
            Some([2]) => PinPolicy::Once,
            Some([3]) => PinPolicy::Always,
            Some(_) => return Err(Status::WRONG_DATA),
        };
        let touch_policy = match touch.as_deref() {
            None | Some([0 | 1]) => TouchPolicy::Never,
            Some([2]) => TouchPolicy::Always,
            Some([3]) => TouchPolicy::Cached,
            Some(_) => return Err(Status::WRONG_DATA),
        };
        Ok((pin_policy, touch_policy))
    }

    /// GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4 part 2 section 3.3.2), with the policies of
    /// YubiKeys. Returns the public key in the element 7F49.
    pub(super) fn generate(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        self.require_management()?;
        self.check_slot(command.p2)?;
        if command.p1 != 0 {
            return Err(Status::WRONG_PARAMETERS);
        }
        let control = find(&elements(&command.data)?, 0xac).ok_or(Status::WRONG_DATA)?;
        let control = plain_elements(&control)?;
        let Some(&[algorithm]) = find(&control, 0x80).as_deref() else { return Err(Status::WRONG_DATA) };
        let algorithm = self.algorithm(algorithm)?;
        let (pin_policy, touch_policy) = self.policies(command.p2, &control)?;
        let key = PrivateKey::generate(algorithm);
        let public = element(0x7f49, &key.public_elements());
        self.keys.insert(command.p2, KeySlot { key, pin_policy, touch_policy, origin: Origin::Generated });
        Ok(public)
    }

    /// IMPORT ASYMMETRIC KEY (Yubico, "Import asymmetric"): the algorithm in P1, the slot in P2.
    pub(super) fn import(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        self.require_management()?;
        self.check_slot(command.p2)?;
        let algorithm = self.algorithm(command.p1).map_err(|_| Status::WRONG_PARAMETERS)?;
        let elements = plain_elements(&command.data)?;
        let (pin_policy, touch_policy) = self.policies(command.p2, &elements)?;
        let key = PrivateKey::import(algorithm, &elements)?;
        self.keys.insert(command.p2, KeySlot { key, pin_policy, touch_policy, origin: Origin::Imported });
        Ok(Vec::new())
    }

    /// GENERAL AUTHENTICATE (SP 800-73-4 part 2 section 3.2.4): the algorithm in P1, the key in P2.
    pub(super) fn general_authenticate(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        let template = find(&elements(&command.data)?, 0x7c).ok_or(Status::WRONG_DATA)?;
        let template = plain_elements(&template)?;
        if command.p2 == MANAGEMENT_KEY {
            return self.authenticate_management(command.p1, &template);
        }
        if !is_slot(command.p2) {
            return Err(Status::WRONG_PARAMETERS);
        }
        let slot = self.keys.get(&command.p2).ok_or(Status::NO_SUCH_KEY)?;
        if slot.key.algorithm() as u8 != command.p1 {
            return Err(Status::WRONG_PARAMETERS);
        }
        let is_permitted = match slot.pin_policy {
            PinPolicy::Never => true,
            PinPolicy::Once => self.session.pin_verified,
            PinPolicy::Always => self.session.pin_unused,
        };
        if !is_permitted {
            return Err(Status::NOT_PERMITTED);
        }
        self.session.pin_unused = false;
        self.touch.require(slot.touch_policy)?;
        let result = match (find(&template, 0x81), find(&template, 0x85)) {
            (Some(challenge), None) => slot.key.respond(&challenge)?,
            (None, Some(point)) => slot.key.agree(&point)?,
            _ => return Err(Status::WRONG_DATA),
        };
        Ok(element(0x7c, &element(0x82, &result)))
    }

    /// GET METADATA (Yubico, "Get metadata") of PIN, PUK, management key, or a key pair.
    pub(super) fn get_metadata(&self, command: &Command) -> Result<Vec<u8>, Status> {
        if command.p1 != 0 {
            return Err(Status::WRONG_PARAMETERS);
        }
        let secret = |pin: &super::pin::Pin| {
            let is_factory_value = element(5, &[u8::from(pin.is_factory_value())]);
            [element(1, &[0xff]), is_factory_value, element(6, &[pin.limit, pin.tries])].concat()
        };
        match command.p2 {
            0x80 => Ok(secret(&self.pin)),
            0x81 => Ok(secret(&self.puk)),
            MANAGEMENT_KEY => {
                let key = &self.management_key;
                let policy = element(2, &[0, key.touch_policy as u8]);
                let is_factory_value = element(5, &[u8::from(key.is_factory_value())]);
                Ok([element(1, &[key.algorithm as u8]), policy, is_factory_value].concat())
            }
            slot => {
                self.check_slot(slot)?;
                let slot = self.keys.get(&slot).ok_or(Status::NO_SUCH_KEY)?;
                let policy = element(2, &[slot.pin_policy as u8, slot.touch_policy as u8]);
                let origin = element(3, &[slot.origin as u8]);
                let algorithm = element(1, &[slot.key.algorithm() as u8]);
                Ok([algorithm, policy, origin, element(4, &slot.key.public_elements())].concat())
            }
        }
    }

    /// MOVE KEY (Yubico, "Move key"): the target in P1, the source in P2; the target FF deletes the
    /// key. Certificates stay where they are.
    pub(super) fn move_key(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        self.require_management()?;
        let (target, source) = (command.p1, command.p2);
        self.check_slot(source)?;
        let is_target = target == 0xff || is_slot(target) && target != source && source != ATTESTATION_SLOT;
        if !is_target {
            return Err(Status::WRONG_PARAMETERS);
        }
        let slot = self.keys.remove(&source).ok_or(Status::NO_SUCH_KEY)?;
        if target != 0xff {
            self.keys.insert(target, slot);
        }
        Ok(Vec::new())
    }
}
