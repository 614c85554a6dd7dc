//! Data objects: reading, writing, and those that a card has from the start.

use std::collections::BTreeMap;

use super::apdu::{Command, Status};
use super::applet::{APPLICATION_IDENTIFIER, PivApplet};
use super::tlv::{element, elements, find};

/// Tags of objects (SP 800-73-4 part 1 table 3), and those of YubiKeys.
pub mod tag {
    pub const DISCOVERY: u32 = 0x7e;
    pub const CHUID: u32 = 0x5f_c102;
    pub const CAPABILITY_CONTAINER: u32 = 0x5f_c107;
    pub const KEY_HISTORY: u32 = 0x5f_c10c;
    pub const PRINTED: u32 = 0x5f_c109;
    pub const FINGERPRINTS: u32 = 0x5f_c103;
    pub const FACE: u32 = 0x5f_c108;
    pub const IRIS: u32 = 0x5f_c121;
    pub const ADMIN_DATA: u32 = 0x5f_ff00;
    pub const ATTESTATION_CERTIFICATE: u32 = 0x5f_ff01;
}

/// Objects that can be read only after VERIFY (SP 800-73-4 part 1 table 2).
const READ_WITH_PIN: [u32; 4] = [tag::PRINTED, tag::FINGERPRINTS, tag::FACE, tag::IRIS];
/// Largest object, in bytes with its head: that of a YubiKey.
const MAX_OBJECT: usize = 3063;
/// Memory for all objects, in bytes: that of a YubiKey.
const MAX_MEMORY: usize = 51_200;

/// The objects, each as GET DATA returns it: with its outer tag.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    all: BTreeMap<u32, Vec<u8>>,
}

impl Objects {
    /// Only the discovery object, with the policy "application PIN only" (SP 800-73-4 part 1
    /// section 3.3.2).
    pub(super) fn new() -> Self {
        let content = [element(0x4f, &APPLICATION_IDENTIFIER), element(0x5f2f, &[0x40, 0x00])].concat();
        let mut objects = Self::default();
        objects.set_raw(tag::DISCOVERY, element(tag::DISCOVERY, &content));
        objects
    }

    /// Sets the content of an object; an empty one deletes it.
    pub(super) fn set(&mut self, tag: u32, content: &[u8]) {
        if content.is_empty() {
            self.all.remove(&tag);
        } else {
            self.all.insert(tag, element(0x53, content));
        }
    }

    /// Sets the bytes that GET DATA returns.
    pub(super) fn set_raw(&mut self, tag: u32, response: Vec<u8>) {
        self.all.insert(tag, response);
    }

    pub(super) fn get(&self, tag: u32) -> Option<&[u8]> {
        self.all.get(&tag).map(Vec::as_slice)
    }

    /// Removes all objects but the attestation certificate, as the reset of a YubiKey does.
    pub(super) fn reset(&mut self) {
        let attestation = self.all.remove(&tag::ATTESTATION_CERTIFICATE);
        *self = Self::new();
        self.all.extend(attestation.map(|object| (tag::ATTESTATION_CERTIFICATE, object)));
    }

    fn used_memory(&self) -> usize {
        self.all.values().map(Vec::len).sum()
    }
}

/// The content of an object with a certificate (SP 800-73-4 part 1 table 10): not compressed.
pub fn certificate_content(certificate: &[u8]) -> Vec<u8> {
    [element(0x70, certificate), element(0x71, &[0]), element(0xfe, &[])].concat()
}

/// The tag of the object with the certificate of a key slot (SP 800-73-4 part 1 table 3).
pub fn certificate_tag(slot: u8) -> u32 {
    match slot {
        0x9a => 0x5f_c105,
        0x9c => 0x5f_c10a,
        0x9d => 0x5f_c10b,
        0x9e => 0x5f_c101,
        0x82..=0x95 => 0x5f_c10d + u32::from(slot - 0x82),
        0xf9 => tag::ATTESTATION_CERTIFICATE,
        _ => panic!("{slot:02x} is no key slot"),
    }
}

/// The CHUID of a card without federal agency (9999…), so that its UUID identifies it (SP 800-73-4
/// part 1 table 9).
pub(super) fn chuid(uuid: &[u8; 16]) -> Vec<u8> {
    let mut agency = [0; 25];
    agency[..6].copy_from_slice(&[0xd4, 0xe7, 0x39, 0xda, 0x73, 0x9c]);
    let (uuid, end) = (element(0x34, uuid), element(0x35, b"20991231"));
    [element(0x30, &agency), uuid, end, element(0x3e, &[]), element(0xfe, &[])].concat()
}

/// The card capability container, reduced to its version (SP 800-73-4 part 1 table 8).
pub(super) fn capability_container() -> Vec<u8> {
    [element(0xf0, &[0; 21]), element(0xf1, &[0x21]), element(0xf2, &[0x21]), element(0xfe, &[])].concat()
}

/// The content of the key history object (SP 800-73-4 part 1 table 19), for this number of retired
/// keys with certificates on the card.
pub fn key_history(keys: u8) -> Vec<u8> {
    [element(0xc1, &[keys]), element(0xc2, &[0]), element(0xfe, &[])].concat()
}

/// The tag in an element 5C, with one to three bytes.
pub(super) fn object_tag(content: &[u8]) -> Result<u32, Status> {
    if content.is_empty() || content.len() > 3 {
        return Err(Status::WRONG_DATA);
    }
    Ok(content.iter().fold(0, |tag, byte| tag << 8 | u32::from(*byte)))
}

impl PivApplet {
    /// GET DATA (SP 800-73-4 part 2 section 3.1.2).
    pub(super) fn get_data(&self, command: &Command) -> Result<Vec<u8>, Status> {
        if (command.p1, command.p2) != (0x3f, 0xff) {
            return Err(Status::WRONG_PARAMETERS);
        }
        let tag = object_tag(&find(&elements(&command.data)?, 0x5c).ok_or(Status::WRONG_DATA)?)?;
        if READ_WITH_PIN.contains(&tag) && !self.session.pin_verified {
            return Err(Status::NOT_PERMITTED);
        }
        self.objects.get(tag).map(<[u8]>::to_vec).ok_or(Status::NOT_FOUND)
    }

    /// PUT DATA (SP 800-73-4 part 2 section 3.3.1). An empty content deletes the object.
    pub(super) fn put_data(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if (command.p1, command.p2) != (0x3f, 0xff) {
            return Err(Status::WRONG_PARAMETERS);
        }
        self.require_management()?;
        let elements = elements(&command.data)?;
        let (Some(tag), Some(content)) = (find(&elements, 0x5c), find(&elements, 0x53)) else {
            return Err(Status::WRONG_DATA);
        };
        let tag = object_tag(&tag)?;
        if tag >> 16 != 0x5f {
            return Err(Status::NOT_FOUND);
        }
        let others = self.objects.used_memory() - self.objects.get(tag).map_or(0, <[u8]>::len);
        if content.len() + 4 > MAX_OBJECT || others + content.len() > MAX_MEMORY {
            return Err(Status::NOT_ENOUGH_MEMORY);
        }
        self.objects.set(tag, &content);
        Ok(Vec::new())
    }
}
