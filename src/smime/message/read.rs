//! Recognizes the form of an input and finds the only message in it. The outermost structure
//! decides, never one further inside: a mail remains a mail, whatever its text quotes.

use super::{Message, MessageFormat, MessageKind};
use crate::pki::cms::tlv::{OBJECT_IDENTIFIER, SEQUENCE, header};
use crate::smime::SmimeError;
use crate::smime::entity::{Entity, Multipart, decode_base64, split_multipart, to_canonical_lines};
use crate::smime::header::{Header, split_field, take_line};

/// The PEM labels of messages: those of CMS, and those of `gpgsm`.
const LABELS: [&str; 5] = ["CMS", "PKCS7", "PKCS #7 SIGNED DATA", "SIGNED MESSAGE", "ENCRYPTED MESSAGE"];

/// The maximum number of header fields of one part that are named.
const MOST_FIELDS_NAMED: usize = 8;

/// The maximum nesting of multiparts around a signed or encrypted part.
const MAX_DEPTH: usize = 8;

pub(super) fn read(bytes: &[u8]) -> Result<Message, SmimeError> {
    if is_content_info(bytes) {
        let found = Found::attached(without_line_end(bytes).to_vec());
        return message(MessageFormat::Der, found, Header::default(), Vec::new());
    }
    let text = without_blank_lines(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let entity = Entity::parse(text);
    match &entity {
        Ok(entity) if entity.header.has("Content-Type") => read_mail(entity),
        _ if text.starts_with(b"-----BEGIN ") => read_pem(text),
        other => {
            let reason = other.as_ref().err().filter(|_| begins_like_a_header(text));
            let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
            Err(no_message(format!("it is neither DER, nor PEM, nor S/MIME{reason}{}", about_pem_inside(text))))
        }
    }
}

fn message(format: MessageFormat, found: Found, header: Header, outside: Vec<String>) -> Result<Message, SmimeError> {
    let Found { cms, content, header_within } = found;
    Ok(Message { format, kind: MessageKind::of(&cms)?, cms, detached_content: content, header, header_within, outside })
}

fn unreadable(reason: impl Into<String>) -> SmimeError {
    SmimeError::Unreadable(reason.into())
}

fn no_message(reason: impl Into<String>) -> SmimeError {
    SmimeError::NoMessage(reason.into())
}

/// Whether the bytes begin with a SEQUENCE and an object identifier in it. No text begins so.
fn is_content_info(bytes: &[u8]) -> bool {
    let inside = header(bytes).and_then(|(length, _)| bytes.get(length));
    bytes.first() == Some(&SEQUENCE) && inside == Some(&OBJECT_IDENTIFIER)
}

/// Removes the line end that an editor or a mail program added after a structure of definite
/// length.
fn without_line_end(structure: &[u8]) -> &[u8] {
    let whole = header(structure).and_then(|(header, value)| structure.split_at_checked(header.checked_add(value?)?));
    match whole {
        Some((whole, b"\n" | b"\r\n")) => whole,
        _ => structure,
    }
}

fn without_blank_lines(mut text: &[u8]) -> &[u8] {
    while let (line, rest) = take_line(text)
        && !text.is_empty()
        && line.trim_ascii().is_empty()
    {
        text = rest;
    }
    text
}

fn begins_like_a_header(text: &[u8]) -> bool {
    split_field(take_line(text).0).is_some()
}

/// An explanation for a PEM block that is ignored.
fn about_pem_inside(text: &[u8]) -> &'static str {
    let begins = |line: &[u8]| LABELS.iter().any(|label| line == format!("-----BEGIN {label}-----").as_bytes());
    if text.split(|byte| *byte == b'\n').any(|line| begins(line.trim_ascii())) {
        "; the PEM block in it is ignored, because there is text before it: save the block as a separate file"
    } else {
        ""
    }
}

/// Reads the PEM block at the beginning of the text. Its header lines and the text after its end
/// are ignored.
fn read_pem(text: &[u8]) -> Result<Message, SmimeError> {
    let (first, mut rest) = take_line(text);
    let label = first.trim_ascii().strip_prefix(b"-----BEGIN ").and_then(|label| label.strip_suffix(b"-----"));
    let Some(label) = label.and_then(|label| LABELS.into_iter().find(|known| known.as_bytes() == label)) else {
        let first: String = String::from_utf8_lossy(first).trim_end().chars().take(60).collect();
        return Err(no_message(format!("its first PEM block is not a CMS message: {first:?}")));
    };
    let end = format!("-----END {label}-----");
    let mut body = Vec::with_capacity(rest.len());
    // RFC 1421 §4.4: header lines end at a blank line. Base64 has no colon.
    let (first, _) = take_line(rest);
    let has_header = first.contains(&b':');
    if has_header {
        while let (line, after) = take_line(rest)
            && !line.trim_ascii().is_empty()
        {
            rest = after;
        }
    }
    loop {
        if rest.is_empty() {
            return Err(unreadable("its PEM text has no end"));
        }
        let (line, after) = take_line(rest);
        rest = after;
        if line.trim_ascii() == end.as_bytes() {
            break;
        }
        body.extend_from_slice(line);
    }
    let cms = decode_base64(&body).ok_or_else(|| unreadable("its PEM text is damaged"))?;
    let follows = without_blank_lines(rest);
    let mut outside = Vec::new();
    if has_header {
        outside.push("header lines in the PEM block".to_owned());
    }
    if follows.starts_with(b"-----BEGIN ") {
        outside.push("another PEM block after the first".to_owned());
    } else if !follows.is_empty() {
        outside.push("text after the PEM block".to_owned());
    }
    message(MessageFormat::Pem, Found::attached(cms), Header::default(), outside)
}

/// A signed or encrypted structure in the input.
struct Found {
    cms: Vec<u8>,
    /// The content of a `multipart/signed`.
    content: Option<Vec<u8>>,
    /// The header of the message that a list embedded as a whole, if the structure was in it.
    header_within: Option<Header>,
}

impl Found {
    fn attached(cms: Vec<u8>) -> Self {
        Self { cms, content: None, header_within: None }
    }
}

fn read_mail(entity: &Entity<'_>) -> Result<Message, SmimeError> {
    let mut outside = Vec::new();
    let mut found = find(entity, Place { depth: 0, is_lists: false }, &mut outside)?;
    // Embedded messages are searched only if the mail itself has no signed or encrypted part.
    if found.is_none() && ["List-Id", "List-Post"].iter().any(|field| entity.header.has(field)) {
        outside.clear();
        found = find(entity, Place { depth: 0, is_lists: true }, &mut outside)?;
    }
    if let Some(found) = found {
        let message = message(MessageFormat::Smime, found, entity.header.clone(), outside);
        // The mail claims to be a message of this kind.
        return message.map_err(|error| match error {
            SmimeError::NoMessage(reason) => unreadable(reason),
            other => other,
        });
    }
    let (kind, pem) = (kind(entity)?, about_pem_inside(entity.body));
    Err(no_message(format!("it is a message of type {kind:?}, not signed or encrypted{pem}")))
}

/// The type of an entity, in lower case and limited in length.
fn kind(entity: &Entity<'_>) -> Result<String, SmimeError> {
    let media = entity.content_type().map_err(unreadable)?;
    Ok(media.map_or_else(|| "text/plain".to_owned(), |media| media.kind.chars().take(80).collect()))
}

/// The position of an entity in a mail.
#[derive(Clone, Copy)]
struct Place {
    /// The number of multiparts and messages around it.
    depth: usize,
    /// Whether a mailing list sent the mail and no embedded message has been entered yet.
    is_lists: bool,
}

impl Place {
    fn inside(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// Finds the only signed or encrypted part: the entity itself, or one of the parts of a
/// `multipart/mixed`, which mailing lists make around a message, or of a `multipart/related` that
/// is in a `multipart/mixed` or at the top of the message that a list embedded. That message may be
/// the only content of the list's mail. Everything beside the part is named in `outside`.
fn find(entity: &Entity<'_>, place: Place, outside: &mut Vec<String>) -> Result<Option<Found>, SmimeError> {
    let Some(media) = entity.content_type().map_err(unreadable)? else { return Ok(None) };
    let depth = place.depth;
    match media.kind.as_str() {
        "application/pkcs7-mime" | "application/x-pkcs7-mime" | "application/cms" => bare(entity),
        "application/pkcs7-signature" | "application/x-pkcs7-signature" if depth == 0 => bare(entity),
        "application/octet-stream" if is_named(entity, ".p7m") || depth == 0 && is_named(entity, ".p7s") => {
            bare(entity)
        }
        "multipart/signed" => signed_in_two_parts(entity, outside).map(Some),
        "message/rfc822" if depth == 0 && place.is_lists => in_lists_message(entity, place, outside),
        "multipart/mixed" | "multipart/related"
            if depth < MAX_DEPTH && (depth > 0 || media.kind == "multipart/mixed") =>
        {
            let Some(boundary) = media.parameter("boundary").filter(|_| entity.is_unencoded()) else { return Ok(None) };
            among_parts(&split_multipart(entity.body, boundary), place, outside)
        }
        _ => Ok(None),
    }
}

/// Finds the only signed or encrypted part. All other parts are named, whether a mail program would
/// show them or not.
fn among_parts(
    multipart: &Multipart<'_>,
    place: Place,
    outside: &mut Vec<String>,
) -> Result<Option<Found>, SmimeError> {
    let mut found = None;
    let mut messages = Vec::new();
    name_preamble(multipart, outside);
    for part in &multipart.parts {
        let Ok(part) = Entity::parse(part) else {
            outside.push("a part whose header cannot be read".to_owned());
            continue;
        };
        match find(&part, place.inside(), outside)? {
            None => {
                let kind = kind(&part)?;
                if kind == "message/rfc822" {
                    messages.push((outside.len(), part));
                }
                let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                outside.push(format!("{article} {kind} part"));
            }
            Some(_) if found.is_some() => {
                return Err(unreadable(
                    "it has several signed or encrypted parts: save the right one as a separate file",
                ));
            }
            Some(part_found) => {
                outside.extend(told_fields(&part.header, "the part"));
                found = Some(part_found);
            }
        }
    }
    if let (None, true, [(at, part)]) = (&found, place.is_lists, messages.as_slice()) {
        let mut within = Vec::new();
        found = in_lists_message(part, place.inside(), &mut within)?;
        if found.is_some() {
            within.extend(told_fields(&part.header, "the part"));
            outside.splice(*at..=*at, within);
        }
    }
    name_end(multipart, "text after the last part", outside);
    Ok(found)
}

/// Searches a message that a list embedded. Some lists embed each mail as a whole in one of their
/// own, as its only message. Neither header is signed, and both are checked: the list's, which
/// people see, and the message's. A message that its writer forwarded, beside a list's footer,
/// looks the same: therefore both headers must name a signer. A message within this one is not the
/// mail's own.
fn in_lists_message(part: &Entity<'_>, place: Place, outside: &mut Vec<String>) -> Result<Option<Found>, SmimeError> {
    if !part.is_unencoded() {
        return Ok(None);
    }
    let Ok(message) = Entity::parse(part.body) else { return Ok(None) };
    outside.push("the header of the message within".to_owned());
    let found = find(&message, Place { is_lists: false, ..place.inside() }, outside)?;
    Ok(found.map(|found| Found { header_within: Some(message.header), ..found }))
}

/// Sentences that programs write for readers without MIME support. They carry no information.
const USUAL_PREAMBLES: [&str; 6] = [
    "This is a signed message.",
    "This is an S/MIME signed message",
    "This is a cryptographically signed message in MIME format.",
    "This is a multi-part message in MIME format.",
    "This is a multipart message in MIME format.",
    "This is a MIME-formatted message.",
];

fn name_preamble(multipart: &Multipart<'_>, outside: &mut Vec<String>) {
    let is_usual = |usual: &str| multipart.preamble.trim_ascii() == usual.as_bytes();
    if !multipart.preamble.trim_ascii().is_empty() && !USUAL_PREAMBLES.into_iter().any(is_usual) {
        outside.push("text before the first part".to_owned());
    }
}

fn name_end(multipart: &Multipart<'_>, epilogue: &str, outside: &mut Vec<String>) {
    if !multipart.unended.trim_ascii().is_empty() {
        outside.push("a part that has no end".to_owned());
    }
    if !multipart.epilogue.trim_ascii().is_empty() {
        outside.push(epilogue.to_owned());
    }
}

/// The descriptions that mail programs give to a signature and to an encrypted part.
const USUAL_DESCRIPTIONS: [&str; 2] = ["S/MIME Cryptographic Signature", "S/MIME Encrypted Message"];

/// Names the header fields of a part that are not about its MIME structure, because they are not
/// signed.
pub(super) fn told_fields(header: &Header, what: &str) -> Option<String> {
    const STRUCTURE: [&str; 5] =
        ["MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID"];
    const DESCRIPTION: &str = "Content-Description";
    let is_usual = header.values(DESCRIPTION).all(|value| USUAL_DESCRIPTIONS.contains(&value.trim()));
    let is_passed_over = |name: &&str| {
        STRUCTURE.iter().any(|known| known.eq_ignore_ascii_case(name))
            || is_usual && DESCRIPTION.eq_ignore_ascii_case(name)
    };
    let mut names: Vec<String> =
        header.names().filter(|name| !is_passed_over(name)).map(|name| name.chars().take(40).collect()).collect();
    names.dedup();
    let more = if names.len() > MOST_FIELDS_NAMED { " and others" } else { "" };
    names.truncate(MOST_FIELDS_NAMED);
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("the header field {only} of {what}")),
        several => Some(format!("the header fields {}{more} of {what}", several.join(", "))),
    }
}

fn bare(entity: &Entity<'_>) -> Result<Option<Found>, SmimeError> {
    let cms = decoded(entity).ok_or_else(|| unreadable("its transfer encoding is damaged"))?;
    Ok(Some(Found::attached(cms)))
}

/// The bytes of a structure. Some programs omit the header field for base64.
fn decoded(entity: &Entity<'_>) -> Option<Vec<u8>> {
    let body = entity.decoded_body()?;
    if entity.header.has("Content-Transfer-Encoding") || is_content_info(&body) {
        return Some(body);
    }
    Some(decode_base64(&body).unwrap_or(body))
}

/// Whether the entity has a file name with this ending. Gateways may change the type to
/// `application/octet-stream` and keep the file's name (RFC 8551 §3.9).
fn is_named(entity: &Entity<'_>, ending: &str) -> bool {
    entity.file_names().iter().any(|name| name.trim().to_ascii_lowercase().ends_with(ending))
}

/// The signed content and its signature in a `multipart/signed` (RFC 8551 §3.5.3).
fn signed_in_two_parts(entity: &Entity<'_>, outside: &mut Vec<String>) -> Result<Found, SmimeError> {
    if !entity.is_unencoded() {
        return Err(unreadable("the parts of a signed message must not be encoded together"));
    }
    let media = entity.content_type().map_err(unreadable)?;
    let boundary = media.as_ref().and_then(|media| media.parameter("boundary"));
    let multipart = split_multipart(entity.body, boundary.ok_or_else(|| unreadable("it has no boundary parameter"))?);
    let [content, signature] = multipart.parts.as_slice() else {
        return Err(unreadable("a signed message must have two parts"));
    };
    let signature = Entity::parse(signature).map_err(unreadable)?;
    let media = signature.content_type().map_err(unreadable)?;
    match media.ok_or_else(|| unreadable("its signature has no headers"))?.kind.as_str() {
        "application/pkcs7-signature" | "application/x-pkcs7-signature" => {}
        "application/octet-stream" if is_named(&signature, ".p7s") => {}
        // Gateways remove the name too. Then the structure itself shows its kind.
        "application/octet-stream" | "application/pkcs7-mime" | "application/x-pkcs7-mime"
            if decoded(&signature).is_some_and(|cms| is_content_info(&cms)) => {}
        _ => return Err(unreadable("its second part is not an S/MIME signature")),
    }
    name_preamble(&multipart, outside);
    outside.extend(told_fields(&signature.header, "the signature"));
    name_end(&multipart, "text after the signature", outside);
    let cms = decoded(&signature).ok_or_else(|| unreadable("its signature's transfer encoding is damaged"))?;
    Ok(Found { content: Some(to_canonical_lines(content)), ..Found::attached(cms) })
}
