//! Recognizes the form of an input and finds the only message in it. The outermost structure
//! decides, never one further inside: a mail remains a mail, whatever its text quotes.

use std::io::{Read, Seek};

use super::MessageFormat;
use crate::pki::cms::stream::fill;
use crate::pki::tlv::{OBJECT_IDENTIFIER, SEQUENCE, header};
use crate::smime::SmimeError;
use crate::smime::entity::{Entity, LONGEST_HEADER};
use crate::smime::header::{Header, split_field, take_line};
use crate::smime::multipart::Multipart;
use crate::smime::source::{EncodedSpan, MessageSource, Span};
use crate::smime::transfer_encoding::TransferEncoding;

/// The PEM labels of messages: those of CMS, and those of `gpgsm`.
const LABELS: [&str; 5] = ["CMS", "PKCS7", "PKCS #7 SIGNED DATA", "SIGNED MESSAGE", "ENCRYPTED MESSAGE"];

/// The maximum number of header fields of one part that are named.
const MOST_FIELDS_NAMED: usize = 8;

/// The maximum nesting of multiparts around a signed or encrypted part.
const MAX_DEPTH: usize = 8;

/// The length of the beginning of a structure that shows its type, in octets.
pub(super) const STRUCTURE_BEGINNING: usize = 1 << 12;

/// The error text for an input in none of the forms.
const IN_NO_FORM: &str = "it is neither DER, nor PEM, nor S/MIME";

/// An entity in the input.
type Part = Entity<Span>;

/// The form of an input, and the place of the structure in it. The structure has not been read.
pub(super) struct Recognized {
    pub(super) format: MessageFormat,
    pub(super) structure: EncodedSpan,
    pub(super) detached_content: Option<Span>,
    pub(super) header: Header,
    pub(super) header_within: Option<Header>,
    pub(super) outside: Vec<String>,
}

/// Finds the message in an input.
pub(super) fn recognize<R: Read + Seek>(source: &mut MessageSource<R>, whole: Span) -> Result<Recognized, SmimeError> {
    if is_content_info(&source.beginning(whole, STRUCTURE_BEGINNING)?) {
        let span = without_line_end(source, whole)?;
        let found = Found::attached(EncodedSpan { span, encoding: TransferEncoding::Identity, damage: "" });
        return Ok(found.recognized(MessageFormat::Der, Header::default(), Vec::new()));
    }
    let byte_order_mark = b"\xef\xbb\xbf";
    let has_mark = source.beginning(whole, byte_order_mark.len())? == byte_order_mark;
    let text = source.without_blank_lines(whole.without(if has_mark { byte_order_mark.len() } else { 0 }))?;
    let entity = Part::read(source, text)?;
    if let Ok(entity) = &entity
        && entity.header.has("Content-Type")
    {
        return read_mail(source, entity);
    }
    let beginning = source.beginning(text, LONGEST_HEADER)?;
    if beginning.starts_with(b"-----BEGIN ") {
        return read_pem(source, text);
    }
    let reason = entity.err().filter(|_| begins_like_a_header(&beginning));
    let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
    Err(no_message(format!("{IN_NO_FORM}{reason}{}", about_pem_inside(&beginning))))
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
fn without_line_end<R: Read + Seek>(source: &mut MessageSource<R>, structure: Span) -> Result<Span, SmimeError> {
    let beginning = source.beginning(structure, STRUCTURE_BEGINNING)?;
    let length = header(&beginning).and_then(|(header, value)| header.checked_add(value?)).map(|length| length as u64);
    let is_followed = |length: &u64| (1..=2).contains(&structure.length().saturating_sub(*length));
    let Some(length) = length.filter(is_followed) else { return Ok(structure) };
    let whole = Span { end: structure.start + length, ..structure };
    let after = source.load(Span { start: whole.end, ..structure })?;
    Ok(if matches!(after.as_slice(), b"\n" | b"\r\n") { whole } else { structure })
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
fn read_pem<R: Read + Seek>(source: &mut MessageSource<R>, text: Span) -> Result<Recognized, SmimeError> {
    let mut lines = source.lines(text)?;
    let first = lines.next()?.and_then(|line| line.text).unwrap_or_default();
    let label = first.trim_ascii().strip_prefix(b"-----BEGIN ").and_then(|label| label.strip_suffix(b"-----"));
    let Some(label) = label.and_then(|label| LABELS.into_iter().find(|known| known.as_bytes() == label)) else {
        let first: String = String::from_utf8_lossy(first).trim_end().chars().take(60).collect();
        return Err(no_message(format!("its first PEM block is not a CMS message: {first:?}")));
    };
    let end = format!("-----END {label}-----");
    // RFC 1421 §4.4: header lines end at a blank line. Base64 has no colon.
    let (mut begin, mut has_header, mut is_in_header) = (None, false, false);
    let (body, rest) = loop {
        let line = lines.next()?.ok_or_else(|| unreadable("its PEM text has no end"))?;
        if begin.is_none() && !is_in_header && line.text.is_some_and(|text| text.contains(&b':')) {
            (has_header, is_in_header) = (true, true);
        }
        if is_in_header && !line.is_blank() {
            continue;
        }
        is_in_header = false;
        let begin = *begin.get_or_insert(line.start);
        if line.text.is_some_and(|text| text.trim_ascii() == end.as_bytes()) {
            break (Span { start: begin, end: line.start }, Span { start: line.next, ..text });
        }
    };
    let follows = source.without_blank_lines(rest)?;
    let mut outside = Vec::new();
    if has_header {
        outside.push("header lines in the PEM block".to_owned());
    }
    if source.beginning(follows, 11)? == b"-----BEGIN " {
        outside.push("another PEM block after the first".to_owned());
    } else if follows.length() > 0 {
        outside.push("text after the PEM block".to_owned());
    }
    let structure = EncodedSpan { span: body, encoding: TransferEncoding::Base64, damage: "its PEM text is damaged" };
    Ok(Found::attached(structure).recognized(MessageFormat::Pem, Header::default(), outside))
}

/// A signed or encrypted structure in the input.
struct Found {
    structure: EncodedSpan,
    /// The content of a `multipart/signed`.
    content: Option<Span>,
    /// The header of the message that a list embedded as a whole, if the structure was in it.
    header_within: Option<Header>,
}

impl Found {
    fn attached(structure: EncodedSpan) -> Self {
        Self { structure, content: None, header_within: None }
    }

    fn recognized(self, format: MessageFormat, header: Header, outside: Vec<String>) -> Recognized {
        let Self { structure, content, header_within } = self;
        Recognized { format, structure, detached_content: content, header, header_within, outside }
    }
}

fn read_mail<R: Read + Seek>(source: &mut MessageSource<R>, entity: &Part) -> Result<Recognized, SmimeError> {
    let mut outside = Vec::new();
    let mut found = find(source, entity, Place { depth: 0, is_lists: false }, &mut outside)?;
    // Embedded messages are searched only if the mail itself has no signed or encrypted part.
    if found.is_none() && ["List-Id", "List-Post"].iter().any(|field| entity.header.has(field)) {
        outside.clear();
        found = find(source, entity, Place { depth: 0, is_lists: true }, &mut outside)?;
    }
    if let Some(found) = found {
        return Ok(found.recognized(MessageFormat::Smime, entity.header.clone(), outside));
    }
    let (kind, pem) = (kind(entity)?, about_pem_inside(&source.beginning(entity.body, LONGEST_HEADER)?));
    Err(no_message(format!("it is a message of type {kind:?}, not signed or encrypted{pem}")))
}

/// The type of an entity, in lower case and limited in length.
fn kind(entity: &Part) -> Result<String, SmimeError> {
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
fn find<R: Read + Seek>(
    source: &mut MessageSource<R>,
    entity: &Part,
    place: Place,
    outside: &mut Vec<String>,
) -> Result<Option<Found>, SmimeError> {
    let Some(media) = entity.content_type().map_err(unreadable)? else { return Ok(None) };
    let depth = place.depth;
    match media.kind.as_str() {
        "application/pkcs7-mime" | "application/x-pkcs7-mime" | "application/cms" => bare(source, entity),
        "application/pkcs7-signature" | "application/x-pkcs7-signature" if depth == 0 => bare(source, entity),
        "application/octet-stream" if is_named(entity, ".p7m") || depth == 0 && is_named(entity, ".p7s") => {
            bare(source, entity)
        }
        "multipart/signed" => signed_in_two_parts(source, entity, outside).map(Some),
        "message/rfc822" if depth == 0 && place.is_lists => in_lists_message(source, entity, place, outside),
        "multipart/mixed" | "multipart/related"
            if depth < MAX_DEPTH && (depth > 0 || media.kind == "multipart/mixed") =>
        {
            let Some(boundary) = media.parameter("boundary").filter(|_| entity.is_unencoded()) else { return Ok(None) };
            let multipart = Multipart::split(source, entity.body, boundary)?;
            among_parts(source, &multipart, place, outside)
        }
        _ => Ok(None),
    }
}

/// Finds the only signed or encrypted part. All other parts are named, whether a mail program would
/// show them or not.
fn among_parts<R: Read + Seek>(
    source: &mut MessageSource<R>,
    multipart: &Multipart,
    place: Place,
    outside: &mut Vec<String>,
) -> Result<Option<Found>, SmimeError> {
    let mut found = None;
    let mut messages = Vec::new();
    name_preamble(source, multipart, outside)?;
    for part in &multipart.parts {
        let Ok(part) = Part::read(source, *part)? else {
            outside.push("a part whose header cannot be read".to_owned());
            continue;
        };
        match find(source, &part, place.inside(), outside)? {
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
        found = in_lists_message(source, part, place.inside(), &mut within)?;
        if found.is_some() {
            within.extend(told_fields(&part.header, "the part"));
            outside.splice(*at..=*at, within);
        }
    }
    name_end(source, multipart, "text after the last part", outside)?;
    Ok(found)
}

/// Searches a message that a list embedded. Some lists embed each mail as a whole in one of their
/// own, as its only message. Neither header is signed, and both are checked: the list's, which
/// people see, and the message's. A message that its writer forwarded, beside a list's footer,
/// looks the same: therefore both headers must name a signer. A message within this one is not the
/// mail's own.
fn in_lists_message<R: Read + Seek>(
    source: &mut MessageSource<R>,
    part: &Part,
    place: Place,
    outside: &mut Vec<String>,
) -> Result<Option<Found>, SmimeError> {
    if !part.is_unencoded() {
        return Ok(None);
    }
    let Ok(message) = Part::read(source, part.body)? else { return Ok(None) };
    outside.push("the header of the message within".to_owned());
    let found = find(source, &message, Place { is_lists: false, ..place.inside() }, outside)?;
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

fn name_preamble<R: Read + Seek>(
    source: &mut MessageSource<R>,
    multipart: &Multipart,
    outside: &mut Vec<String>,
) -> Result<(), SmimeError> {
    let text = source.beginning(multipart.preamble, LONGEST_HEADER)?;
    let is_usual = |usual: &str| text.trim_ascii() == usual.as_bytes();
    let is_whole = text.len() as u64 == multipart.preamble.length();
    if !source.is_blank(multipart.preamble)? && (!is_whole || !USUAL_PREAMBLES.into_iter().any(is_usual)) {
        outside.push("text before the first part".to_owned());
    }
    Ok(())
}

fn name_end<R: Read + Seek>(
    source: &mut MessageSource<R>,
    multipart: &Multipart,
    epilogue: &str,
    outside: &mut Vec<String>,
) -> Result<(), SmimeError> {
    if !source.is_blank(multipart.unended)? {
        outside.push("a part that has no end".to_owned());
    }
    if !source.is_blank(multipart.epilogue)? {
        outside.push(epilogue.to_owned());
    }
    Ok(())
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

fn bare<R: Read + Seek>(source: &mut MessageSource<R>, entity: &Part) -> Result<Option<Found>, SmimeError> {
    structure(source, entity, "its transfer encoding is damaged").map(|structure| Some(Found::attached(structure)))
}

/// The structure that is an entity's body; `damage` describes an invalid transfer encoding. Some
/// programs omit the header field for base64.
fn structure<R: Read + Seek>(
    source: &mut MessageSource<R>,
    entity: &Part,
    damage: &'static str,
) -> Result<EncodedSpan, SmimeError> {
    let encoding = entity.transfer_encoding().ok_or_else(|| unreadable(damage))?;
    let stated = EncodedSpan { span: entity.body, encoding, damage };
    if entity.header.has("Content-Transfer-Encoding") || begins_as_content_info(source, &stated)? {
        return Ok(stated);
    }
    Ok(EncodedSpan { encoding: TransferEncoding::Base64, damage: IN_NO_FORM, ..stated })
}

fn begins_as_content_info<R: Read + Seek>(
    source: &mut MessageSource<R>,
    structure: &EncodedSpan,
) -> Result<bool, SmimeError> {
    let mut beginning = [0; 16];
    let beginning = fill(&mut source.decoder(structure)?, &mut beginning);
    Ok(beginning.is_ok_and(|beginning| is_content_info(beginning)))
}

/// Whether the entity has a file name with this ending. Gateways may change the type to
/// `application/octet-stream` and keep the file's name (RFC 8551 §3.9).
fn is_named(entity: &Part, ending: &str) -> bool {
    entity.file_names().iter().any(|name| name.trim().to_ascii_lowercase().ends_with(ending))
}

/// The signed content and its signature in a `multipart/signed` (RFC 8551 §3.5.3).
fn signed_in_two_parts<R: Read + Seek>(
    source: &mut MessageSource<R>,
    entity: &Part,
    outside: &mut Vec<String>,
) -> Result<Found, SmimeError> {
    if !entity.is_unencoded() {
        return Err(unreadable("the parts of a signed message must not be encoded together"));
    }
    let media = entity.content_type().map_err(unreadable)?;
    let boundary = media.as_ref().and_then(|media| media.parameter("boundary"));
    let boundary = boundary.ok_or_else(|| unreadable("it has no boundary parameter"))?;
    let multipart = Multipart::split(source, entity.body, boundary)?;
    let [content, signature] = multipart.parts.as_slice() else {
        return Err(unreadable("a signed message must have two parts"));
    };
    let signature = Part::read(source, *signature)?.map_err(unreadable)?;
    let media = signature.content_type().map_err(unreadable)?;
    let kind = media.ok_or_else(|| unreadable("its signature has no headers"))?.kind;
    let structure = structure(source, &signature, "its signature's transfer encoding is damaged");
    let is_signature = match kind.as_str() {
        "application/pkcs7-signature" | "application/x-pkcs7-signature" => true,
        "application/octet-stream" if is_named(&signature, ".p7s") => true,
        // Gateways remove the name too. Then the structure itself shows its kind.
        "application/octet-stream" | "application/pkcs7-mime" | "application/x-pkcs7-mime" => {
            structure.as_ref().is_ok_and(|structure| begins_as_content_info(source, structure).unwrap_or(false))
        }
        _ => false,
    };
    if !is_signature {
        return Err(unreadable("its second part is not an S/MIME signature"));
    }
    name_preamble(source, &multipart, outside)?;
    outside.extend(told_fields(&signature.header, "the signature"));
    name_end(source, &multipart, "text after the signature", outside)?;
    Ok(Found { content: Some(*content), ..Found::attached(structure?) })
}
