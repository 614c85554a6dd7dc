//! A software PIV card (NIST SP 800-73), complete enough that OpenSC shows a token with a key, a
//! certificate and a PIN that locks. `openssl` generates the key and its certificate.

use p256::ecdsa::{Signature, SigningKey};
use signature::hazmat::PrehashSigner;

use super::machine::Machine;

/// Number of PIN tries; the third wrong PIN in a row locks it.
pub const TRIES: u8 = 3;

/// T=1, with the name of the PIV applet in the historical bytes.
pub const ATR: [u8; 15] = [0x3b, 0x8b, 0x01, 0x80, 0xf9, 0xa0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, TCK];
const TCK: u8 = 0x8b ^ 0x01 ^ 0x80 ^ 0xf9 ^ 0xa0 ^ 0x03 ^ 0x08 ^ 0x10;
/// The application identifier: registered part and version.
const NAME: [u8; 11] = [0xa0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00];

/// Status words (ISO/IEC 7816-4).
const OK: u16 = 0x9000;
const MORE: u16 = 0x6100;
const TRIES_LEFT: u16 = 0x63c0;
const WRONG_LENGTH: u16 = 0x6700;
const PIN_NEEDED: u16 = 0x6982;
const LOCKED: u16 = 0x6983;
const NOT_FOUND: u16 = 0x6a82;
const NO_SUCH_KEY: u16 = 0x6a88;
const NO_SUCH_COMMAND: u16 = 0x6d00;

/// The card; it answers the commands of a reader.
#[derive(Debug)]
pub struct PivCard {
    key: SigningKey,
    certificate: Vec<u8>,
    // The card's UUID, from which OpenSC derives the token's serial number.
    uuid: [u8; 16],
    pin: [u8; 8],
    tries: u8,
    verifications: usize,
    signatures: usize,
    verified: bool,
    // The data of a chained command so far, and the rest of a chained response.
    begun: Vec<u8>,
    left: Vec<u8>,
}

impl PivCard {
    /// The common name of its certificate, which OpenSC uses as the token's label.
    pub const LABEL: &str = "A Card";

    /// A new card with this PIN. Its certificate is in the machine's file `card.pem`.
    pub fn new(machine: &Machine, pin: &str) -> Self {
        let arguments = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-outform", "DER", "-out", "card.key"];
        machine.openssl(&arguments).ok();
        let subject = format!("/CN={}", Self::LABEL);
        let arguments = ["req", "-x509", "-key", "card.key", "-subj", &subject, "-days", "30"];
        machine.openssl(&[&arguments[..], &["-out", "card.pem"]].concat()).ok();
        machine.openssl(&["x509", "-in", "card.pem", "-outform", "DER", "-out", "card.der"]).ok();
        // RFC 5915: SEQUENCE, version, then the private key as an OCTET STRING of 32 bytes.
        let key = SigningKey::from_slice(&machine.read("card.key")[7..39]).unwrap();
        let mut padded = [0xff; 8];
        padded[..pin.len()].copy_from_slice(pin.as_bytes());
        let public = key.verifying_key().to_sec1_point(true);
        let uuid = public.as_bytes()[1..17].try_into().unwrap();
        let certificate = machine.read("card.der");
        let (begun, left) = (Vec::new(), Vec::new());
        Self {
            key,
            certificate,
            uuid,
            pin: padded,
            tries: TRIES,
            verifications: 0,
            signatures: 0,
            verified: false,
            begun,
            left,
        }
    }

    /// Number of remaining PIN tries.
    pub fn tries(&self) -> u8 {
        self.tries
    }

    /// Number of PIN verifications.
    pub fn verifications(&self) -> usize {
        self.verifications
    }

    /// Number of signatures.
    pub fn signatures(&self) -> usize {
        self.signatures
    }

    /// Power on, power off and reset have the same effect: the PIN is no longer verified.
    pub fn reset(&mut self) {
        self.verified = false;
        self.begun.clear();
        self.left.clear();
    }

    /// The response to a command APDU, with its status word.
    pub fn answer(&mut self, command: &[u8]) -> Vec<u8> {
        let (mut data, status) = self.respond(command);
        let mut status = status;
        if data.len() > 256 {
            self.left = data.split_off(256);
            status = MORE | u16::try_from(self.left.len()).map_or(0, |left| if left < 256 { left } else { 0 });
        }
        data.extend(status.to_be_bytes());
        data
    }

    fn respond(&mut self, command: &[u8]) -> (Vec<u8>, u16) {
        let [class, instruction, p1, p2, rest @ ..] = command else { return (Vec::new(), WRONG_LENGTH) };
        let data = match rest {
            [] | [_] | [0, _, _] => &[],
            [0, high, low, rest @ ..] => &rest[..usize::from(u16::from_be_bytes([*high, *low]))],
            [length, rest @ ..] => &rest[..usize::from(*length)],
        };
        self.begun.extend(data);
        if class & 0x10 != 0 {
            return (Vec::new(), OK);
        }
        let data = std::mem::take(&mut self.begun);
        match (instruction, p1, p2) {
            (0xa4, 0x04, 0x00) => self.select(&data),
            (0xc0, ..) => (std::mem::take(&mut self.left), OK),
            (0xcb, 0x3f, 0xff) => self.object(&data),
            (0x20, 0x00, 0x80) => (Vec::new(), self.verify(&data)),
            // GENERAL AUTHENTICATE with the PIV authentication key, P-256.
            (0x87, 0x11, 0x9a) => self.sign(&data),
            (0x87, ..) => (Vec::new(), NO_SUCH_KEY),
            _ => (Vec::new(), NO_SUCH_COMMAND),
        }
    }

    fn select(&mut self, name: &[u8]) -> (Vec<u8>, u16) {
        if !NAME.starts_with(name) && !name.starts_with(&NAME[..9]) {
            return (Vec::new(), NOT_FOUND);
        }
        self.verified = false;
        let authority = element(0x79, &element(0x4f, &NAME[..5]));
        (element(0x61, &[element(0x4f, &NAME[5..]), authority].concat()), OK)
    }

    fn object(&self, wanted: &[u8]) -> (Vec<u8>, u16) {
        let content = match wanted {
            // Discovery object: only the application PIN.
            [0x5c, 0x01, 0x7e] => {
                let inside = [element(0x4f, &NAME), vec![0x5f, 0x2f, 0x02, 0x40, 0x00]].concat();
                return (element(0x7e, &inside), OK);
            }
            // Card capability container, reduced to its version.
            [0x5c, 0x03, 0x5f, 0xc1, 0x07] => {
                [element(0xf0, &[0; 21]), element(0xf1, &[0x21]), element(0xf2, &[0x21]), element(0xfe, &[])].concat()
            }
            // CHUID without a federal agency (9999…), so the UUID identifies the card.
            [0x5c, 0x03, 0x5f, 0xc1, 0x02] => {
                let mut agency = [0; 25];
                agency[..6].copy_from_slice(&[0xd4, 0xe7, 0x39, 0xda, 0x73, 0x9c]);
                let uuid = element(0x34, &self.uuid);
                let end = element(0x35, b"20991231");
                [element(0x30, &agency), uuid, end, element(0x3e, &[]), element(0xfe, &[])].concat()
            }
            // The certificate of the PIV authentication key.
            [0x5c, 0x03, 0x5f, 0xc1, 0x05] => {
                [element(0x70, &self.certificate), element(0x71, &[0]), element(0xfe, &[])].concat()
            }
            _ => return (Vec::new(), NOT_FOUND),
        };
        (element(0x53, &content), OK)
    }

    /// Without data it only returns the remaining tries.
    fn verify(&mut self, pin: &[u8]) -> u16 {
        if pin.is_empty() {
            return if self.verified { OK } else { TRIES_LEFT | u16::from(self.tries) };
        }
        self.verifications += 1;
        if self.tries == 0 {
            return LOCKED;
        }
        self.verified = pin == self.pin;
        self.tries = if self.verified { TRIES } else { self.tries - 1 };
        if self.verified { OK } else { TRIES_LEFT | u16::from(self.tries) }
    }

    fn sign(&mut self, template: &[u8]) -> (Vec<u8>, u16) {
        if !self.verified {
            return (Vec::new(), PIN_NEEDED);
        }
        // Dynamic authentication template: an empty response, and the digest as the challenge.
        let Some(digest) = template.strip_prefix(&[0x7c, 0x24, 0x82, 0x00, 0x81, 0x20]) else {
            return (Vec::new(), WRONG_LENGTH);
        };
        let made: Signature = self.key.sign_prehash(digest).unwrap();
        self.signatures += 1;
        (element(0x7c, &element(0x82, made.to_der().as_bytes())), OK)
    }
}

/// A BER-TLV element: tag, length, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let mut element = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    element.extend(content);
    element
}
