//! The management key: authentication by challenge and response, and its change.

use aes::{Aes128, Aes192, Aes256};
use des::TdesEde3;
use des::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use super::apdu::{Command, Status};
use super::applet::PivApplet;
use super::keys::TouchPolicy;
use super::private_key::random;
use super::profile::ManagementAlgorithm;
use super::tlv::{element, find};

/// The key reference in P2 (SP 800-73-4 part 1 table 4b).
pub(super) const MANAGEMENT_KEY: u8 = 0x9b;

/// The factory's value, for 3DES and AES-192.
pub const FACTORY_MANAGEMENT_KEY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// A management key.
#[derive(Clone, Debug)]
pub struct ManagementKey {
    pub algorithm: ManagementAlgorithm,
    value: Vec<u8>,
    pub(super) touch_policy: TouchPolicy,
}

/// What the card has sent and expects an answer to.
#[derive(Debug)]
pub(super) enum ManagementExchange {
    /// A challenge, in plain; the host returns it encrypted.
    Challenge(Vec<u8>),
    /// A witness, sent encrypted; the host returns it decrypted.
    Witness(Vec<u8>),
}

impl ManagementKey {
    /// A key without touch policy. Fails if the value does not have the algorithm's length.
    pub fn new(algorithm: ManagementAlgorithm, value: &[u8]) -> Self {
        assert_eq!(value.len(), algorithm.key_length());
        Self { algorithm, value: value.to_vec(), touch_policy: TouchPolicy::Never }
    }

    pub(super) fn is_factory_value(&self) -> bool {
        self.value == FACTORY_MANAGEMENT_KEY
    }

    /// Encrypts one block.
    pub fn encrypt(&self, block: &[u8]) -> Vec<u8> {
        match self.algorithm {
            ManagementAlgorithm::TripleDes => encrypt_with::<TdesEde3>(&self.value, block),
            ManagementAlgorithm::Aes128 => encrypt_with::<Aes128>(&self.value, block),
            ManagementAlgorithm::Aes192 => encrypt_with::<Aes192>(&self.value, block),
            ManagementAlgorithm::Aes256 => encrypt_with::<Aes256>(&self.value, block),
        }
    }

    /// Decrypts one block.
    pub fn decrypt(&self, block: &[u8]) -> Vec<u8> {
        match self.algorithm {
            ManagementAlgorithm::TripleDes => decrypt_with::<TdesEde3>(&self.value, block),
            ManagementAlgorithm::Aes128 => decrypt_with::<Aes128>(&self.value, block),
            ManagementAlgorithm::Aes192 => decrypt_with::<Aes192>(&self.value, block),
            ManagementAlgorithm::Aes256 => decrypt_with::<Aes256>(&self.value, block),
        }
    }
}

fn encrypt_with<C: BlockCipherEncrypt + KeyInit>(key: &[u8], block: &[u8]) -> Vec<u8> {
    let mut block = block.try_into().unwrap();
    C::new_from_slice(key).unwrap().encrypt_block(&mut block);
    block.to_vec()
}

fn decrypt_with<C: BlockCipherDecrypt + KeyInit>(key: &[u8], block: &[u8]) -> Vec<u8> {
    let mut block = block.try_into().unwrap();
    C::new_from_slice(key).unwrap().decrypt_block(&mut block);
    block.to_vec()
}

impl PivApplet {
    /// GENERAL AUTHENTICATE with the management key (SP 800-73-4 part 2 section 3.2.4 and appendix
    /// A.1): a request with an empty element, then the host's answer.
    pub(super) fn authenticate_management(
        &mut self,
        algorithm: u8,
        template: &[(u8, &[u8])],
    ) -> Result<Vec<u8>, Status> {
        let exchange = self.session.exchange.take();
        if algorithm != self.management_key.algorithm as u8 {
            return Err(Status::WRONG_PARAMETERS);
        }
        let mut block = random::<16>().to_vec();
        block.truncate(self.management_key.algorithm.block_length());
        let [witness, challenge, response] = [0x80, 0x81, 0x82].map(|tag| find(template, tag));
        match (exchange, witness.as_deref(), challenge.as_deref(), response.as_deref()) {
            // Single authentication: the card's challenge, and its encryption by the host.
            (_, None, Some([]), None) => {
                self.session.exchange = Some(ManagementExchange::Challenge(block.clone()));
                Ok(element(0x7c, &element(0x81, &block)))
            }
            (Some(ManagementExchange::Challenge(sent)), None, None, Some(response)) => {
                self.grant_management(self.management_key.encrypt(&sent) == response)?;
                Ok(Vec::new())
            }
            // Mutual authentication: the card's encrypted witness, its decryption by the host with
            // a challenge of the host, and the card's encryption of that.
            (_, Some([]), None, None) => {
                let encrypted = self.management_key.encrypt(&block);
                self.session.exchange = Some(ManagementExchange::Witness(block));
                Ok(element(0x7c, &element(0x80, &encrypted)))
            }
            (Some(ManagementExchange::Witness(sent)), Some(returned), Some(challenge), _)
                if challenge.len() == sent.len() =>
            {
                self.grant_management(sent == returned)?;
                Ok(element(0x7c, &element(0x82, &self.management_key.encrypt(challenge))))
            }
            _ => Err(Status::WRONG_DATA),
        }
    }

    /// Grants the administrator's rights to a host that knows the key, after a touch if its policy
    /// demands one.
    fn grant_management(&mut self, knows_key: bool) -> Result<(), Status> {
        self.session.management_authenticated = false;
        if !knows_key {
            return Err(Status::NOT_PERMITTED);
        }
        self.touch.require(self.management_key.touch_policy)?;
        self.session.management_authenticated = true;
        Ok(())
    }

    /// Whether the host may change keys and objects.
    pub(super) fn require_management(&self) -> Result<(), Status> {
        if self.session.management_authenticated { Ok(()) } else { Err(Status::NOT_PERMITTED) }
    }

    /// SET MANAGEMENT KEY (Yubico, "Set management key"): algorithm, key reference, length and
    /// value. P2 is FF without touch, FE with touch, FD with cached touch.
    pub(super) fn set_management_key(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        self.require_management()?;
        let touch_policy = match (command.p1, command.p2) {
            (0xff, 0xff) => TouchPolicy::Never,
            (0xff, 0xfe) => TouchPolicy::Always,
            (0xff, 0xfd) => TouchPolicy::Cached,
            _ => return Err(Status::WRONG_PARAMETERS),
        };
        let [algorithm, MANAGEMENT_KEY, length, value @ ..] = &command.data[..] else {
            return Err(Status::WRONG_DATA);
        };
        let algorithm = ManagementAlgorithm::from_byte(*algorithm).ok_or(Status::WRONG_DATA)?;
        let has_right_length = value.len() == usize::from(*length) && value.len() == algorithm.key_length();
        if !has_right_length || !self.profile.supports_management(algorithm) {
            return Err(Status::WRONG_DATA);
        }
        self.management_key = ManagementKey { algorithm, value: value.to_vec(), touch_policy };
        Ok(Vec::new())
    }
}
