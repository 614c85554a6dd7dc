//! The agent's API is as described: every path and method of `docs/agent-api.openapi.json` is
//! called on the real agent with curl, every response, errors too, is validated against its schema,
//! and nothing else is served.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::der::{content_of, elements};
use crate::support::event_stream::EventStream;
use crate::support::shared_authority::TestUser;

mod caller;

use caller::{Caller, base64, bytes};

#[test]
fn every_response_matches_its_description() {
    let caller = Caller::new();
    let machine = &caller.user.machine;
    assert_eq!(caller.gets("/v1/openapi.json", "/v1/openapi.json", 200), *caller.description.document());

    assert_eq!(caller.gets("/v1/status", "/v1/status", 200)["locked"], false);
    let tokens = caller.gets("/v1/tokens", "/v1/tokens", 200);
    let serial = machine.listed_token("default").serial;
    assert!(tokens["tokens"].as_array().unwrap().iter().any(|token| token["serial"] == serial.as_str()), "{tokens}");
    let keysets = caller.gets("/v1/keysets", "/v1/keysets", 200);
    assert_eq!(keysets["keysets"].as_array().unwrap().len(), 2, "{keysets}");
    let one = "/v1/keysets/{name}";
    assert_eq!(caller.gets(one, "/v1/keysets/default", 200)["level"], "low");
    assert_eq!(caller.gets(one, &format!("/v1/keysets/strict?token={serial}"), 404)["error"]["kind"], "absent");
    assert_eq!(caller.gets(one, "/v1/keysets/nobody", 404)["error"]["kind"], "absent");
    assert_eq!(caller.gets(one, "/v1/keysets/%ff", 400)["error"]["kind"], "usage");
    let certificates = "/v1/keysets/{name}/certificates";
    let found = caller.gets(certificates, "/v1/keysets/default/certificates", 200);
    let uses: Vec<_> = found["certificates"].as_array().unwrap().iter().map(|one| one["use"].clone()).collect();
    assert_eq!(uses, ["signing", "encryption", "authority"]);
    caller.gets(certificates, "/v1/keysets/nobody/certificates", 404);
    let keys = caller.gets("/v1/public-keys", "/v1/public-keys", 200);
    assert_eq!(keys["public_keys"][0]["user"], caller.user.email.as_str());

    // OpenSSL verifies the signature and decrypts the message.
    let authority = bytes(&found["certificates"][2]["certificate"]);
    machine.write("ca.der", authority);
    machine.run("openssl", &["x509", "-inform", "der", "-in", "ca.der", "-out", "ca.pem"], b"").ok();
    for (detached, keyset) in [(false, "default"), (false, "default"), (true, "strict")] {
        let content = "Subject: an offer\r\n\r\nGrüße\r\n";
        let request = json!({ "content": base64(content.as_bytes()), "keyset": keyset, "detached": detached });
        let signed = caller.posts("/v1/sign", &request, 200);
        machine.write("signed.der", bytes(&signed["cms"]));
        machine.write("content", content);
        let mut verify = vec!["cms", "-verify", "-inform", "der", "-in", "signed.der", "-CAfile", "ca.pem", "-binary"];
        if detached {
            verify.extend(["-content", "content"]);
        }
        assert_eq!(machine.run("openssl", &verify, b"").ok().out(), content);
    }
    let asked = machine.read_text("questions");
    assert!(asked.contains("an offer") && asked.contains("strict"), "the prompt does not say what for:\n{asked}");

    caller.user.encrypt("mail\n", "mail.p7m");
    // The person's newest certificate is the one of `strict`.
    let message = base64(&machine.read("mail.p7m"));
    let opened = caller.posts("/v1/decrypt", &json!({ "message": message }), 200);
    assert_eq!((bytes(&opened["content"]), &opened["keyset"]), (b"mail\n".to_vec(), &json!("strict")));
    let refused = caller.posts("/v1/decrypt", &json!({ "message": message, "keyset": "default" }), 409);
    assert_eq!(refused["error"]["kind"], "refused");

    // Sessions.
    caller.posts("/v1/log-off", &json!({}), 200);
    assert_eq!(caller.call("POST", "/v1/log-off", "/v1/log-off", None, 200)["ended"], 0);
    assert_eq!(caller.posts("/v1/log-in", &json!({ "keyset": "default" }), 200)["token"]["serial"], serial.as_str());
    assert!(caller.gets("/v1/tokens", "/v1/tokens", 200)["tokens"].to_string().contains("\"logged_in\":true"));
    assert_eq!(caller.posts("/v1/log-off", &json!({ "token": "default" }), 200)["ended"], 1);
    caller.posts("/v1/log-off", &json!({ "token": "nowhere" }), 404);
    assert_eq!(caller.posts("/v1/log-in", &json!({ "keyset": "strict" }), 409)["error"]["kind"], "refused");
    caller.posts("/v1/log-in", &json!({ "keyset": "nobody" }), 404);

    // A locked agent reports nothing and runs nothing.
    let (right, wrong) =
        (json!({ "pass_phrase": base64(b"open sesame") }), json!({ "pass_phrase": base64(b"open barley") }));
    caller.posts("/v1/unlock", &right, 409);
    caller.posts("/v1/lock", &right, 204);
    caller.posts("/v1/lock", &right, 409);
    assert_eq!(caller.gets("/v1/public-keys", "/v1/public-keys", 200), json!({ "public_keys": [] }));
    assert_eq!(caller.gets("/v1/status", "/v1/status", 200)["locked"], true);
    caller.gets("/v1/tokens", "/v1/tokens", 409);
    caller.gets("/v1/keysets", "/v1/keysets", 409);
    caller.posts("/v1/sign", &json!({ "content": "YQ==", "keyset": "default" }), 409);
    assert_eq!(caller.posts("/v1/unlock", &wrong, 403)["error"]["kind"], "pin");
    caller.posts("/v1/unlock", &right, 204);

    events(&caller);
    let done = caller.called.borrow();
    let missing: Vec<_> = caller.description.operations().into_iter().filter(|one| !done.contains(one)).collect();
    assert!(missing.is_empty(), "not called: {missing:?}");
}

fn events(caller: &Caller) {
    let mut events = EventStream::events(&caller.user.machine, &caller.agent);
    caller.called.borrow_mut().insert("GET /v1/events".to_owned());
    caller.posts("/v1/log-in", &json!({ "keyset": "default" }), 200);
    caller.posts("/v1/log-off", &json!({}), 200);
    let pass_phrase = json!({ "pass_phrase": base64(b"x") });
    caller.posts("/v1/lock", &pass_phrase, 204);
    caller.posts("/v1/unlock", &pass_phrase, 204);
    for expected in ["logged-in", "logged-off", "locked", "unlocked"] {
        events.event(expected);
    }
    events.kill();
}

#[test]
fn a_faulty_request_is_explained_and_costs_no_try() {
    let caller = Caller::new();
    let machine = &caller.user.machine;
    machine.write_secret("given.pin", TestUser::WRONG_PIN);

    // Malformed bodies, and every attempt to sign anything but content as data.
    for body in [
        json!({}),
        json!({ "content": "no base64!" }),
        json!({ "content": "YQ==", "keyset": 7 }),
        json!({ "content": "YQ==", "content_type": "1.2.3" }),
        json!({ "digest": "YQ==", "keyset": "default" }),
        json!({ "content": "YQ==", "digest": "YQ==" }),
        json!(["YQ=="]),
    ] {
        assert_eq!(caller.posts("/v1/sign", &body, 400)["error"]["kind"], "usage", "{body}");
    }
    for body in [
        json!({}),
        json!({ "message": "YQ==", "recipient_info": "YQ==", "key_length": 32 }),
        json!({ "recipient_info": "YQ==" }),
        json!({ "message": "YQ==", "key_length": 32 }),
    ] {
        caller.posts("/v1/decrypt", &body, 400);
    }
    caller.posts("/v1/decrypt", &json!({ "message": base64(b"no message"), "keyset": "default" }), 422);
    caller.posts(
        "/v1/decrypt",
        &json!({ "recipient_info": base64(b"\x30\x00"), "key_length": 32, "keyset": "default" }),
        422,
    );
    caller.posts(
        "/v1/decrypt",
        &json!({ "recipient_info": base64(b"\x30\x00"), "key_length": 31, "keyset": "default" }),
        422,
    );
    caller.expect_error("/v1/sign", &json!({ "content": "YQ==", "keyset": "nobody" }), 404);

    // Requests that no tokenkeep program sends.
    let sign = ["-d", r#"{"content":"YQ==","keyset":"default"}"#];
    let refused = |more: &[&str], status: u16| {
        let brought = caller.curl("/v1/sign", &[&sign[..], more].concat());
        caller.validate("POST", "/v1/sign", &brought, status);
    };
    refused(&["-H", "Origin: http://example.org"], 403);
    refused(&["-H", "Transfer-Encoding: chunked"], 411);
    refused(&["-H", &format!("X-Long: {}", "x".repeat(20_000))], 431);
    machine.write("large", vec![b'a'; 70 * 1024]);
    let brought = caller.curl("/v1/log-in", &["--data-binary", "@large"]);
    caller.validate("POST", "/v1/log-in", &brought, 413);

    let tokens = machine.listed_tokens();
    assert!(tokens.iter().all(|token| !token.count_is_low()), "a PIN was tried");
    assert!(!machine.file("questions").exists(), "a prompt appeared");

    // A correct request with a wrong PIN: the error says so, and it costs one try.
    let message = caller.expect_error("/v1/sign", &json!({ "content": "YQ==", "keyset": "strict" }), 403);
    assert!(message.contains("wrong") && message.contains("strict"), "{message}");
    assert!(machine.listed_token("strict").count_is_low());
    let message = caller.expect_error("/v1/log-in", &json!({ "keyset": "default" }), 403);
    assert!(message.contains("wrong"), "{message}");
}

#[test]
fn api_errors_name_request_members_not_command_options() {
    let mut caller = Caller::new();
    caller.user.encrypt("to two\n", "both.p7m");
    let message = base64(&caller.user.machine.read("both.p7m"));
    let sign = |caller: &Caller, more: Value, status: u16| {
        let mut body = json!({ "content": "YQ==" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        caller.expect_error("/v1/sign", &body, status)
    };
    // Among one person's keysets the newest is used, so another person's must be present.
    let letter = caller.user.machine.file("another.letter").display().to_string();
    let issue = ["issue", "another-client@example.org", "--name", "Another", "--letter-out", &letter];
    caller.user.authority.admin(&issue).ok();
    caller.user.enroll_new("another.letter", "another").ok();
    // `fits` checks that no response contains such a word.
    let error = sign(&caller, json!({}), 409);
    assert!(
        error.contains("which keyset is meant") && error.contains("(`keyset`)") && error.contains("(`token`)"),
        "{error}"
    );
    let error = sign(&caller, json!({ "keyset": "default", "token": "pkcs11:token=default?pin-value=1" }), 400);
    assert!(error.contains("pin-value") && error.contains("leave it out"), "{error}");
    sign(&caller, json!({ "keyset": "default", "token": "nowhere" }), 404);
    caller.expect_error("/v1/log-in", &json!({}), 409);
    caller.expect_error("/v1/log-off", &json!({ "token": "nowhere" }), 404);
    // Encrypted to the newer keyset's key, which the older keyset does not have.
    let error = caller.expect_error("/v1/decrypt", &json!({ "message": message, "keyset": "default" }), 409);
    assert!(error.contains("omit `keyset` and `token`"), "{error}");

    // Two tokens with one label, and a prompter without a person: the error must not propose a PIN
    // source.
    caller.agent.signal(Signal::TERM);
    caller.agent.wait();
    let machine = &caller.user.machine;
    let module = machine.module().display().to_string();
    let pins = ["--so-pin", "so-pin-4711", "--pin", TestUser::PIN];
    let line = ["--init-token", "--free", "--label", "default", "--module", &module];
    machine.run("softhsm2-util", &[&line[..], &pins].concat(), b"").ok();
    Agent::configure(machine, "prompter = \"terminal:/no/such/terminal\"");
    caller.agent = Agent::start(machine, &[]);
    let error = sign(&caller, json!({ "token": "default" }), 409);
    assert!(error.contains("which token is meant") && error.contains("serial number"), "{error}");
    let error = sign(&caller, json!({ "keyset": "strict" }), 403);
    assert!(error.contains("/no/such/terminal") && error.contains("`prompter` in agent.toml"), "{error}");
}

#[test]
fn no_undescribed_path_is_served() {
    let caller = Caller::new();
    for template in caller.description.paths() {
        let actual = template.replace("{name}", "default");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            if !caller.description.has(method, &template) {
                let brought = caller.curl(&actual, &["-X", method]);
                assert_eq!(brought.status, 405, "{method} {template}");
            }
        }
        for beyond in
            [format!("{actual}/more"), format!("{actual}/"), format!("/{actual}"), actual.replace("/v1", "/v2")]
        {
            // Without the option curl would normalize the path.
            assert_eq!(caller.curl(&beyond, &["--path-as-is"]).status, 404, "{beyond}");
        }
    }
    for path in ["/", "/v1", "/v1/", "/v1/sign-digest", "/v1/statements", "/v1/operations", "/v1/keysets/default/keys"]
    {
        assert_eq!(caller.curl(path, &[]).status, 404, "{path}");
    }
}

#[test]
fn a_content_key_that_fails_to_decrypt_is_no_oracle() {
    let caller = Caller::new();
    let machine = &caller.user.machine;
    // Encrypted to the keyset `default` only.
    let certificates = caller.gets("/v1/keysets/{name}/certificates", "/v1/keysets/default/certificates", 200);
    machine.write("default.der", bytes(&certificates["certificates"][1]["certificate"]));
    machine.write("text", "what nobody else should read\n");
    machine.run("openssl", &["x509", "-inform", "der", "-in", "default.der", "-out", "default.pem"], b"").ok();
    let encrypt = ["cms", "-encrypt", "-aes-256-cbc", "-outform", "der", "-in", "text", "-binary", "-out", "mail.der"];
    machine.run("openssl", &[&encrypt[..], &["default.pem"]].concat(), b"").ok();

    // ContentInfo → [0] → EnvelopedData → recipientInfos, encryptedContentInfo.
    let message = machine.read("mail.der");
    let enveloped = content_of(elements(content_of(elements(content_of(&message))[1]))[0]);
    let [_, recipients, encrypted] = elements(enveloped)[..] else { panic!("an unusual message") };
    let recipient_info = elements(content_of(recipients))[0];
    let [_, cipher, ciphertext] = elements(content_of(encrypted))[..] else { panic!("an unusual content") };
    let vector = hex::encode(content_of(elements(content_of(cipher))[1]));

    let open = |recipient_info: &[u8]| {
        let request = json!({ "recipient_info": base64(recipient_info), "key_length": 32 });
        let opened = caller.posts("/v1/decrypt", &request, 200);
        assert_eq!(opened["keyset"], "default");
        bytes(&opened["content_encryption_key"])
    };
    let key = open(recipient_info);
    machine.write("ciphertext", content_of(ciphertext));
    let decrypt = ["enc", "-d", "-aes-256-cbc", "-K", &hex::encode(&key), "-iv", &vector, "-in", "ciphertext"];
    assert_eq!(machine.run("openssl", &decrypt, b"").ok().out(), "what nobody else should read\n");

    // The encrypted key is the last element.
    let mut tampered = recipient_info.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let (one, other) = (open(&tampered), open(&tampered));
    assert_eq!((one.len(), other.len()), (32, 32));
    assert_ne!(one, key);
    assert_eq!(one, other, "two equal requests got different keys");
}
