//! A modified, truncated, swapped or forged reply leaves the token unchanged: no partial keyset, no
//! orphaned object, and the letter is still valid.
//!
//! The strongest attacker here has the letter's temporary key, so that only the content of the
//! reply can reveal the attack.

use std::sync::{Arc, Mutex};

use der::asn1::OctetString;
use tokenkeep::cmp::{
    CertOrEncCert, CertRepMessage, CertificateDer, CertifiedKeyPair, Draft, EncryptedKey, EnrollmentRequestBuilder,
    ErrorMsgContent, PkiBody, PkiFailureInfo, PkiHeader, PkiMessage, PkiStatusInfo, verify_mac,
};
use tokenkeep::letter::{Letter, TemporaryKey};

use crate::support::inventory::Inventory;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::shared_authority::TestUser;

type Tamper = Box<dyn FnMut(&PkiMessage) -> ProxyAction + Send>;

/// A proxy that can replace each reply to an enrollment request.
struct TamperingProxy {
    proxy: Proxy,
    tamper: Arc<Mutex<Option<Tamper>>>,
    /// The authority's own replies, in order.
    replies: Arc<Mutex<Vec<PkiMessage>>>,
}

impl TamperingProxy {
    fn start(user: &TestUser) -> Self {
        let (tamper, replies) = (Arc::new(Mutex::new(None::<Tamper>)), Arc::new(Mutex::new(Vec::new())));
        let (tamper_of_replies, recorded_replies) = (Arc::clone(&tamper), Arc::clone(&replies));
        let proxy = Proxy::tampering(user.authority.http_address(), move |direction, _, body| {
            let message = PkiMessage::from_der(body).ok().filter(|_| direction == Direction::ToClient);
            let reply = message.filter(|message| matches!(message.body(), PkiBody::Ip(_) | PkiBody::Krp(_)));
            let Some(reply) = reply else { return ProxyAction::Pass };
            let action = tamper_of_replies.lock().unwrap().as_mut().map_or(ProxyAction::Pass, |tamper| tamper(&reply));
            recorded_replies.lock().unwrap().push(reply);
            action
        });
        Self { proxy, tamper, replies }
    }

    fn set_tamper(&self, tamper: impl FnMut(&PkiMessage) -> ProxyAction + Send + 'static) {
        *self.tamper.lock().unwrap() = Some(Box::new(tamper));
    }

    fn replies(&self) -> usize {
        self.replies.lock().unwrap().len()
    }

    fn last_reply(&self) -> PkiMessage {
        self.replies.lock().unwrap().last().unwrap().clone()
    }
}

/// A user with a keyset, who re-enrolls it with one letter again and again.
struct Attempt {
    user: TestUser,
    letter: Letter,
    wire: TamperingProxy,
    before: (Inventory, serde_json::Value),
}

impl Attempt {
    fn new() -> Self {
        let user = TestUser::enrolled();
        user.issue("again.letter");
        let letter = Letter::read_file(&user.machine.file("again.letter")).unwrap();
        let wire = TamperingProxy::start(&user);
        let before = Self::snapshot(&user);
        Self { user, letter, wire, before }
    }

    fn snapshot(user: &TestUser) -> (Inventory, serde_json::Value) {
        (inventory(&user.machine), user.keyset_info("default"))
    }

    fn re_enroll(&self) -> Output {
        self.user.re_enroll("again.letter", "pin", &["--authority", &self.wire.proxy.url()])
    }

    /// The client detects this manipulation, and nothing changes.
    #[track_caller]
    fn expect_refused(&self, why: &str, tamper: impl FnMut(&PkiMessage) -> ProxyAction + Send + 'static) {
        let replies = self.wire.replies();
        self.wire.set_tamper(tamper);
        let output = self.re_enroll();
        assert_eq!(self.wire.replies(), replies + 1, "{why}: the authority has not replied\n{output}");
        output.fails_with(5).says("not re-enrolled").says(why);
        let after = Self::snapshot(&self.user);
        assert!(after == self.before, "{why}: before {:#?}, after {after:#?}", self.before);
    }

    /// As above, for a reply rewritten by an attacker who has the temporary key.
    #[track_caller]
    fn expect_rewritten_refused(
        &self,
        why: &str,
        mut change: impl FnMut(&mut PkiHeader, &mut PkiBody) + Send + 'static,
    ) {
        let letter = self.letter.clone();
        self.expect_refused(why, move |reply| {
            ProxyAction::Replace(rewrite_reply(reply, &letter.temporary_key, &mut change))
        });
    }

    /// Afterwards the letter and the keyset still work, so rewriting alone was not what the client
    /// detected.
    #[track_caller]
    fn assert_unchanged(self) {
        self.user.signs_with("default", "pin");
        let letter = self.letter.clone();
        self.wire.set_tamper(move |reply| ProxyAction::Replace(rewrite_reply(reply, &letter.temporary_key, |_, _| ())));
        self.re_enroll().ok();
        self.user.machine.assert_one_keyset("default", TestUser::PIN, 2);
        self.user.signs_with("default", "pin");
    }
}

/// The content of the tokens, without the number of index updates that `app_id` counts.
fn inventory(machine: &Machine) -> Inventory {
    let mut inventory = machine.inventory(&[("default", TestUser::PIN)]);
    for objects in inventory.values_mut() {
        for object in objects.iter_mut().filter(|object| object.starts_with("Data object")) {
            let lines = object.lines().filter(|line| !line.contains("app_id:"));
            *object = lines.collect::<Vec<_>>().join("\n");
        }
        objects.sort();
    }
    inventory
}

/// A reply with changes, under a new MAC.
fn rewrite_reply(reply: &PkiMessage, key: &TemporaryKey, change: impl FnOnce(&mut PkiHeader, &mut PkiBody)) -> Vec<u8> {
    let (mut header, mut body) = (reply.header().clone(), reply.body().clone());
    change(&mut header, &mut body);
    let how = verify_mac(reply, key.cmp_secret()).unwrap();
    Draft::new(header, body).protect_with_mac(key.cmp_secret(), &how).unwrap()
}

fn cert_rep(body: &mut PkiBody) -> &mut CertRepMessage {
    let PkiBody::Ip(ip) = body else { panic!("not an ip") };
    ip
}

/// The part of an `ip` that answers one request.
fn certified_key_pair(body: &mut PkiBody, request: i64) -> &mut CertifiedKeyPair {
    let response = cert_rep(body).response.iter_mut().find(|response| response.cert_req_id == request).unwrap();
    response.certified_key_pair.as_mut().unwrap()
}

fn certificate_of(reply: &PkiMessage, request: i64) -> CertificateDer {
    certified_key_pair(&mut reply.body().clone(), request).plain_certificate().unwrap().clone()
}

#[test]
fn a_changed_or_truncated_reply_leaves_the_token_unchanged() {
    let attempt = Attempt::new();
    // One bit in the header, the certificates, the wrapped key and the MAC.
    for part in [0.03, 0.3, 0.55, 0.9, 0.999] {
        attempt.expect_refused("the reply", move |reply| {
            let mut changed = reply.der().to_vec();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let at = (changed.len() as f64 * part) as usize;
            changed[at] ^= 0x01;
            ProxyAction::Replace(changed)
        });
    }
    attempt.expect_refused("it is truncated", |reply| ProxyAction::CutAfter(reply.der().len() / 2));
    attempt
        .expect_refused("is unreadable", |reply| ProxyAction::Replace(reply.der()[..reply.der().len() - 1].to_vec()));
    attempt.expect_refused("the reply", |_| ProxyAction::Replace(Vec::new()));
    attempt.expect_refused("is unreadable", |reply| ProxyAction::Replace([reply.der(), b"\0"].concat()));
    // More bytes than any reply has.
    attempt.expect_refused("the reply", |_| ProxyAction::Replace(vec![0x30; 9 << 20]));
    attempt.assert_unchanged();
}

#[test]
fn a_reply_of_another_transaction_leaves_the_token_unchanged() {
    let attempt = Attempt::new();
    attempt.expect_rewritten_refused("another transaction", |header, _| {
        header.transaction_id = Some(OctetString::new([7; 16]).unwrap());
    });
    // The authority's own reply to the attempt before, under the same temporary key.
    let earlier = attempt.wire.last_reply().der().to_vec();
    attempt.expect_refused("another transaction", move |_| ProxyAction::Replace(earlier.clone()));
    attempt.expect_rewritten_refused("recipNonce", |header, _| {
        header.recip_nonce = Some(OctetString::new([7; 16]).unwrap());
    });
    attempt.expect_rewritten_refused("pkiconf", |_, body| *body = PkiBody::pki_conf());
    attempt.assert_unchanged();
}

#[test]
fn a_reply_of_another_authority_leaves_the_token_unchanged() {
    let attempt = Attempt::new();
    let other = TemporaryKey::from_mac(&[9; 32]);
    let letter = attempt.letter.clone();
    attempt.expect_refused("not authenticated", move |reply| {
        let how = verify_mac(reply, letter.temporary_key.cmp_secret()).unwrap();
        let draft = Draft::new(reply.header().clone(), reply.body().clone());
        ProxyAction::Replace(draft.protect_with_mac(other.cmp_secret(), &how).unwrap())
    });
    attempt.expect_refused("not authenticated", |reply| {
        ProxyAction::Replace(Draft::new(reply.header().clone(), reply.body().clone()).unprotected().unwrap())
    });
    attempt.expect_refused("unauthenticated error", |reply| {
        let status = PkiStatusInfo::rejection(PkiFailureInfo::SYSTEM_FAILURE, "go away");
        let body = PkiBody::Error(ErrorMsgContent { status, error_code: None, error_details: None });
        ProxyAction::Replace(Draft::new(reply.header().clone(), body).unprotected().unwrap())
    });

    // An attacker with the letter's key and a CA of the same name.
    let foreign_ca = ForeignCa::new(&attempt);
    let ca = foreign_ca.ca.clone();
    attempt.expect_rewritten_refused("fingerprint", move |_, body| cert_rep(body).ca_pubs = Some(vec![ca.clone()]));
    attempt.expect_rewritten_refused("fingerprint", |_, body| cert_rep(body).ca_pubs = None);
    attempt.expect_rewritten_refused("not signed by the authority", move |_, body| {
        let signing = certified_key_pair(body, EnrollmentRequestBuilder::SIGNING);
        let forged = foreign_ca.certify(signing.plain_certificate().unwrap());
        signing.cert_or_enc_cert = CertOrEncCert::Certificate(forged);
    });
    attempt.assert_unchanged();
}

/// Another CA with the authority's name, made with `OpenSSL`.
struct ForeignCa {
    machine: Machine,
    ca: CertificateDer,
}

impl ForeignCa {
    fn new(attempt: &Attempt) -> Self {
        let machine = Machine::new();
        let subject = format!("/CN={}", attempt.letter.authority_name);
        let line =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key"];
        machine.openssl(&[&line[..], &["-subj", &subject, "-days", "30", "-out", "ca.pem"]].concat()).ok();
        let der = machine.openssl(&["x509", "-in", "ca.pem", "-outform", "DER"]).ok().stdout;
        Self { machine, ca: CertificateDer::new(&der).unwrap() }
    }

    /// A certificate for the same key and the same uses.
    fn certify(&self, real: &CertificateDer) -> CertificateDer {
        let machine = &self.machine;
        machine.write("real.der", real.to_vec().unwrap());
        let key = machine.openssl(&["x509", "-inform", "DER", "-in", "real.der", "-pubkey", "-noout"]).ok();
        machine.write("key.pem", &key.stdout);
        machine.write("uses.txt", "keyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection,clientAuth\n");
        machine.openssl(&["req", "-new", "-key", "ca.key", "-subj", "/CN=Example", "-out", "request.pem"]).ok();
        let line = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        let rest = ["-force_pubkey", "key.pem", "-extfile", "uses.txt", "-days", "30", "-outform", "DER"];
        CertificateDer::new(&machine.openssl(&[&line[..], &rest].concat()).ok().stdout).unwrap()
    }
}

#[test]
fn a_key_that_does_not_match_its_certificate_changes_nothing() {
    let attempt = Attempt::new();
    attempt.expect_rewritten_refused("without its key", |_, body| {
        certified_key_pair(body, EnrollmentRequestBuilder::ENCRYPTION).private_key = None;
    });
    // The certificates of the attempt before are the authority's and this person's, but for other
    // keys.
    let earlier = attempt.wire.last_reply();
    let swapped = move |request: i64| {
        let certificate = CertOrEncCert::Certificate(certificate_of(&earlier, request));
        move |_: &mut PkiHeader, body: &mut PkiBody| {
            certified_key_pair(body, request).cert_or_enc_cert = certificate.clone();
        }
    };
    attempt.expect_rewritten_refused("not the key of its certificate", swapped(EnrollmentRequestBuilder::ENCRYPTION));
    attempt.expect_rewritten_refused("not for the requested key", swapped(EnrollmentRequestBuilder::SIGNING));
    attempt.expect_rewritten_refused("does not permit encryption", |_, body| {
        let signing = certified_key_pair(body, EnrollmentRequestBuilder::SIGNING).cert_or_enc_cert.clone();
        certified_key_pair(body, EnrollmentRequestBuilder::ENCRYPTION).cert_or_enc_cert = signing;
    });
    // A key that the token cannot unwrap.
    attempt.expect_rewritten_refused("reply was refused", |_, body| {
        let Some(EncryptedKey::EncryptedValue(value)) =
            &mut certified_key_pair(body, EnrollmentRequestBuilder::ENCRYPTION).private_key
        else {
            panic!("no EncryptedValue")
        };
        let mut wrapped = value.enc_value.raw_bytes().to_vec();
        wrapped[40] ^= 1;
        value.enc_value = der::asn1::BitString::from_bytes(&wrapped).unwrap();
    });
    attempt.expect_rewritten_refused("missing", |_, body| {
        cert_rep(body).response.retain(|response| response.cert_req_id == EnrollmentRequestBuilder::SIGNING);
    });
    attempt.assert_unchanged();
}

#[test]
fn a_bad_reply_for_a_new_token_leaves_no_object_and_no_keyset() {
    let user = TestUser::enrolled();
    user.encrypt("old mail\n", "old.p7m");
    user.issue("again.letter");
    user.re_enroll("again.letter", "pin", &[]).ok();
    user.recover("recovery.letter");
    let letter = Letter::read_file(&user.machine.file("recovery.letter")).unwrap();
    let wire = TamperingProxy::start(&user);
    let enroll = || user.enroll_new_with("recovery.letter", "second", &["--authority", &wire.proxy.url()]);
    let machine = &user.machine;
    let (before, files) = (inventory(machine), machine.object_files());

    // Two old keys with swapped certificates: both belong to the user, and are for this token.
    let key = letter.temporary_key.clone();
    wire.set_tamper(move |reply| {
        ProxyAction::Replace(rewrite_reply(reply, &key, |_, body| {
            let PkiBody::Krp(krp) = body else { panic!("not a krp") };
            let history = krp.key_pair_hist.as_mut().unwrap();
            assert_eq!(history.len(), 2);
            let first = history[0].private_key.take();
            history[0].private_key = history[1].private_key.take();
            history[1].private_key = first;
        }))
    });
    let swapped = enroll();
    wire.set_tamper(|reply| ProxyAction::CutAfter(reply.der().len() - 1));
    let cut = enroll();
    assert_eq!(wire.replies(), 2);
    for (output, why) in [(swapped, "not the key of its certificate"), (cut, "it is truncated")] {
        output.fails_with(5).says("not enrolled").says(why);
    }

    // PKCS#11 cannot delete a token: an empty one remains and is used next.
    let empty: Vec<_> = machine.listed_tokens().into_iter().filter(|token| token.label != "default").collect();
    assert!(matches!(&empty[..], [token] if token.label == "tokenkeep empty"), "{empty:?}");
    assert_eq!(machine.object_files(), [&[0], &files[..]].concat());
    let mut after = inventory(machine);
    after.retain(|(label, _), _| label == "default");
    assert_eq!(after, before);
    assert!(!user.tokenkeep(&["keysets", "--json"]).ok().out().contains("second"));

    wire.set_tamper(|_| ProxyAction::Pass);
    enroll().ok();
    assert_eq!(machine.listed_tokens().len(), 2, "the empty token was not taken");
    machine.assert_one_keyset("second", TestUser::PIN, 2);
    assert_eq!(user.decrypt("second", "pin", "old.p7m"), "old mail\n");
}

#[test]
fn a_changed_response_to_the_confirmation_undoes_nothing() {
    // The authority has already confirmed, so the new keyset must be kept.
    let user = TestUser::enrolled();
    user.issue("again.letter");
    let changed = Proxy::tampering(user.authority.http_address(), |direction, _, body| {
        let message = PkiMessage::from_der(body).ok().filter(|_| direction == Direction::ToClient);
        if !message.is_some_and(|message| matches!(message.body(), PkiBody::PkiConf(_))) {
            return ProxyAction::Pass;
        }
        let mut changed = body.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        ProxyAction::Replace(changed)
    });
    let output = user.re_enroll("again.letter", "pin", &["--authority", &changed.url()]);
    output.fails_with(6).says("not re-enrolled").says("same letter again");
    user.re_enroll("again.letter", "pin", &[]).ok();
    user.machine.assert_one_keyset("default", TestUser::PIN, 2);
    user.signs_with("default", "pin");
}
