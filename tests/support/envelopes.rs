//! Other CMS messages around the same signed content, as somebody can make them without a key.

use super::der::{content_of, elements};

/// The order of P-256.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// All variants of the message with the same content and a valid signature, each with a description
/// of the change. `message` is a CMS `SignedData` by a P-256 key in the form that `tokenkeep`
/// writes.
pub fn signed_data_variants(message: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let envelope = Envelope::parse(message);
    let mut others = vec![("trailing bytes", [message, &[5, 0]].concat())];
    let mut add = |what, change: &dyn Fn(&mut Envelope)| {
        let mut changed = envelope.clone();
        change(&mut changed);
        others.push((what, changed.encode()));
    };
    add("negated s", &|envelope| {
        let signature = negate_s(content_of(&envelope.signer[5]));
        envelope.signer[5] = element(4, &signature);
    });
    let attribute = element(0x30, &[element(6, &[0x2a, 3, 4]), element(0x31, &[5, 0])].concat());
    add("an unsigned attribute", &|envelope| envelope.signer.push(element(0xa1, &attribute)));
    add("a longer length inside", &|envelope| envelope.signer[5] = with_long_length(&envelope.signer[5]));
    add("a second digest algorithm", &|envelope| {
        let sha384 = element(0x30, &element(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2]));
        envelope.digests.extend(sha384);
    });
    add("a second certificate", &|envelope| envelope.certificates = envelope.certificates.repeat(2));
    add("a revocation list", &|envelope| envelope.lists = element(0xa1, &element(0x30, &[])));
    add("a content in pieces", &|envelope| {
        let content: Vec<Vec<u8>> = elements(content_of(&envelope.content)).into_iter().map(<[u8]>::to_vec).collect();
        let pieces = element(0xa0, &element(0x24, content_of(&content[1])));
        envelope.content = element(0x30, &[content[0].clone(), pieces].concat());
    });
    add("attributes in another order", &|envelope| {
        let mut attributes = elements(content_of(&envelope.signer[3]));
        attributes.reverse();
        let attributes = attributes.concat();
        envelope.signer[3] = element(0xa0, &attributes);
    });
    others.push(("a longer length outside", with_long_length(message)));
    others.push(("an indefinite length", [&[0x30, 0x80], content_of(message), &[0, 0]].concat()));
    others
}

/// The parts of a message in their order.
#[derive(Clone)]
struct Envelope {
    kind: Vec<u8>,
    version: Vec<u8>,
    digests: Vec<u8>,
    content: Vec<u8>,
    certificates: Vec<u8>,
    lists: Vec<u8>,
    signer: Vec<Vec<u8>>,
}

impl Envelope {
    fn parse(message: &[u8]) -> Self {
        let outer = elements(content_of(message));
        let signed_data = elements(content_of(content_of(outer[1])));
        let signer = elements(content_of(content_of(signed_data[4]))).into_iter().map(<[u8]>::to_vec).collect();
        Self {
            kind: outer[0].to_vec(),
            version: signed_data[0].to_vec(),
            digests: content_of(signed_data[1]).to_vec(),
            content: signed_data[2].to_vec(),
            certificates: content_of(signed_data[3]).to_vec(),
            lists: Vec::new(),
            signer,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let signer = element(0x31, &element(0x30, &self.signer.concat()));
        let certificates = element(0xa0, &self.certificates);
        let digests = element(0x31, &self.digests);
        let signed_data = [&self.version, &digests, &self.content, &certificates, &self.lists, &signer];
        let signed_data = element(0x30, &signed_data.map(Vec::as_slice).concat());
        element(0x30, &[self.kind.clone(), element(0xa0, &signed_data)].concat())
    }
}

/// The ECDSA signature with n - s in place of s, which is valid too.
fn negate_s(signature: &[u8]) -> Vec<u8> {
    let numbers = elements(content_of(signature));
    let order = hex::decode(P256_ORDER).unwrap();
    let s = content_of(numbers[1]);
    let s = &s[s.iter().take_while(|octet| **octet == 0).count()..];
    let s = [vec![0; 32 - s.len()], s.to_vec()].concat();
    let mut difference = vec![0; 32];
    let mut borrow = 0_i16;
    for at in (0..32).rev() {
        let digit = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        difference[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    let first = difference.iter().position(|octet| *octet != 0).unwrap();
    let mut number = difference.split_off(first);
    if number[0] >= 0x80 {
        number.insert(0, 0);
    }
    element(0x30, &[numbers[0].to_vec(), element(2, &number)].concat())
}

/// The same element with a length of four bytes.
fn with_long_length(element: &[u8]) -> Vec<u8> {
    let value = content_of(element);
    [&element[..1], &[0x84], &u32::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let header = match length {
        0..=0x7f => vec![tag, u8::try_from(length).unwrap()],
        0x80..=0xff => vec![tag, 0x81, u8::try_from(length).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [&header, value].concat()
}
