use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::fault::IngestKeyFault;
use super::*;
use crate::sources::signature::{SigningScheme, sign};

const NOW: i64 = 1_800_000_000;
const BODY: &[u8] = br#"{"id":"e1","event":"opened","subscriber":{"email":"a@example.com"}}"#;

fn secret(byte: u8) -> SigningSecret {
    SigningSecret::from_random([byte; 32])
}

fn signed(secret: &SigningSecret, scheme: SigningScheme, body: &[u8]) -> Vec<(String, String)> {
    let headers = sign(secret, scheme, "msg_1", NOW, body);
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What is wrong with it, at a source that has secret 1, had 2 until an hour ago, and has a neighbour with 3.
fn judge_with(headers: &[(String, String)], body: &[u8], change: impl FnOnce(&mut Evidence<'_>)) -> Vec<Fault> {
    let [current, previous, other] = [1, 2, 3].map(secret);
    let mut evidence = Evidence {
        kind: Kind::Nudgespot,
        headers,
        body,
        is_whole: true,
        received_at: NOW,
        secrets: Secrets {
            current: Some(&current),
            previous: Some((&previous, NOW - 3_600)),
            of_others: vec![("resend", &other)],
            allow_untimestamped: false,
        },
        is_verified_lately: false,
    };
    change(&mut evidence);
    diagnose(&evidence)
}

fn judge(headers: &[(String, String)], body: &[u8]) -> Vec<Fault> {
    judge_with(headers, body, |_| {})
}

/// The headers of Standard Webhooks with a tag made by hand.
fn standard(tag: &str) -> Vec<(String, String)> {
    [("webhook-id", "msg_1"), ("webhook-timestamp", "1800000000"), ("webhook-signature", tag)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn own(value: &str) -> Vec<(String, String)> {
    vec![("x-nudgespot-signature".to_owned(), value.to_owned())]
}

#[test]
fn what_verifies_has_no_fault() {
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped] {
        assert_eq!(judge(&signed(&secret(1), scheme, BODY), BODY), []);
        let previous = signed(&secret(2), scheme, BODY);
        assert_eq!(judge_with(&previous, BODY, |e| e.received_at = NOW - 200), [Fault::ExpiredSecret]);
        let is_valid = judge_with(&previous, BODY, |e| {
            e.secrets.previous = e.secrets.previous.map(|(secret, _)| (secret, NOW + 1));
        });
        assert_eq!(is_valid, [], "{scheme:?}");
    }
    let body_only = signed(&secret(1), SigningScheme::Body, BODY);
    assert_eq!(judge(&body_only, BODY), [Fault::Untimestamped]);
    assert_eq!(judge_with(&body_only, BODY, |e| e.secrets.allow_untimestamped = true), []);
}

#[test]
fn a_secret_of_this_account_is_named() {
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped] {
        assert_eq!(judge(&signed(&secret(2), scheme, BODY), BODY), [Fault::ExpiredSecret]);
        assert_eq!(judge(&signed(&secret(3), scheme, BODY), BODY), [Fault::SecretOfSource("resend".to_owned())]);
    }
}

#[test]
fn an_unknown_secret_and_an_altered_body_are_told_apart_by_what_else_is_known() {
    let headers = signed(&secret(9), SigningScheme::Standard, BODY);
    assert_eq!(judge(&headers, BODY), [Fault::UnknownSecret]);
    assert_eq!(judge_with(&headers, BODY, |e| e.is_verified_lately = true), [Fault::AlteredBody]);
    let headers = signed(&secret(1), SigningScheme::Standard, BODY);
    assert_eq!(judge(&headers, &BODY[..30]), [Fault::AlteredBody], "no JSON");
    let cut = judge_with(&headers, &BODY[..30], |e| (e.is_whole, e.is_verified_lately) = (false, true));
    assert_eq!(cut, [Fault::BodyNotKept]);
    let no_secret = judge_with(&headers, BODY, |e| e.secrets.current = None);
    assert_eq!(no_secret, [Fault::NoSecret]);
}

#[test]
fn white_space_and_line_ends_are_named() {
    let with = |before: &str, after: &str| [before.as_bytes(), BODY, after.as_bytes()].concat();
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped] {
        for (sent, signed_body) in [
            (with("", "\n"), with("", "")),
            (with("", ""), with("", "\n")),
            (with("", "\r\n"), with("", "\n")),
            (with("", "\n"), with("", "\r\n")),
            (with(" ", " "), with("", "")),
            (with("\u{feff}", ""), with("", "")),
            (b"{\r\n}".to_vec(), b"{\n}".to_vec()),
            (b"{\n}".to_vec(), b"{\r\n}".to_vec()),
        ] {
            let headers = signed(&secret(1), scheme, &signed_body);
            assert_eq!(judge(&headers, &sent), [Fault::BodyWhiteSpace], "{:?}", String::from_utf8_lossy(&sent));
        }
    }
}

#[test]
fn a_body_that_was_written_anew_is_named() {
    let python = br#"{"id": "e1", "event": "opened", "subscriber": {"email": "a@example.com"}}"#;
    let sorted = br#"{"event":"opened","id":"e1","subscriber":{"email":"a@example.com"}}"#;
    for signed_body in [&python[..], sorted] {
        let headers = signed(&secret(1), SigningScheme::Standard, signed_body);
        assert_eq!(judge(&headers, BODY), [Fault::Reserialized]);
    }
    let headers = signed(&secret(1), SigningScheme::Timestamped, BODY);
    assert_eq!(judge(&headers, python), [Fault::Reserialized]);
}

#[test]
fn a_key_that_was_made_wrongly_is_named() {
    let secret = secret(1);
    let (whole, stripped) = (secret.expose(), &secret.expose()[6..]);
    let content = [&b"msg_1.1800000000."[..], BODY].concat();
    let tag = |key: &[u8]| format!("v1,{}", STANDARD.encode(tag_under(key, &[&content])));
    for (key, fault) in [
        (whole.to_owned(), Fault::KeyNotDecoded),
        (stripped.to_owned(), Fault::KeyWithoutPrefix),
        (format!("{whole}\n"), Fault::KeyWithWhiteSpace),
    ] {
        assert_eq!(judge(&standard(&tag(key.as_bytes())), BODY), [fault]);
    }
    let content = [&b"1800000000."[..], BODY].concat();
    let tag = |key: &[u8]| format!("t=1800000000,v1={}", hex::encode(tag_under(key, &[&content])));
    for (key, fault) in [
        (decoded(&secret), Fault::KeyDecoded),
        (stripped.as_bytes().to_vec(), Fault::KeyWithoutPrefix),
        (format!("{whole}\r\n").into_bytes(), Fault::KeyWithWhiteSpace),
    ] {
        assert_eq!(judge(&own(&tag(&key)), BODY), [fault]);
    }
}

#[test]
fn a_signature_that_is_written_wrongly_is_named() {
    let content = [&b"msg_1.1800000000."[..], BODY].concat();
    let tag = tag_under(&decoded(&secret(1)), &[&content]);
    for (text, fault) in [
        (format!("v1,{}", hex::encode(tag)), Fault::HexForBase64),
        (hex::encode(tag), Fault::HexForBase64),
        (STANDARD.encode(tag), Fault::NoVersion),
        (format!("v1,{}", URL_SAFE_NO_PAD.encode(tag)), Fault::OtherBase64),
    ] {
        assert_eq!(judge(&standard(&text), BODY), [fault], "{text}");
    }
    let content = [&b"1800000000."[..], BODY].concat();
    let tag = tag_under(secret(1).expose().as_bytes(), &[&content]);
    assert_eq!(judge(&own(&format!("t=1800000000,v1={}", STANDARD.encode(tag))), BODY), [Fault::Base64ForHex]);
    assert_eq!(judge(&standard("v1,zz"), BODY), [Fault::Unreadable("webhook-signature".to_owned())]);
    assert_eq!(judge(&own("t=1,v1=zz"), BODY), [Fault::Unreadable(OWN_NAME.to_owned())]);
}

#[test]
fn a_clock_that_is_off_is_named_with_how_much() {
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped] {
        let headers = signed(&secret(1), scheme, BODY);
        assert_eq!(judge_with(&headers, BODY, |e| e.received_at = NOW + 301), [Fault::ClockOff(-301)]);
        assert_eq!(judge_with(&headers, BODY, |e| e.received_at = NOW - 4_000), [Fault::ClockOff(4_000)]);
        let both = judge_with(&signed(&secret(9), scheme, BODY), BODY, |e| e.received_at = NOW + 301);
        assert_eq!(both, [Fault::UnknownSecret, Fault::ClockOff(-301)]);
    }
    assert!(Fault::ClockOff(-301).to_string().contains("301 s behind"));
    let headers: Vec<_> = sign(&secret(1), SigningScheme::Standard, "msg_1", NOW * 1_000, BODY)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(judge(&headers, BODY), [Fault::Milliseconds]);
}

#[test]
fn missing_and_doubled_headers_are_named() {
    let headers = signed(&secret(1), SigningScheme::Standard, BODY);
    let missing =
        |names: Vec<&'static str>, found: Option<&str>| Fault::HeaderMissing { names, found: found.map(str::to_owned) };
    assert_eq!(judge(&[], BODY), [missing(vec![OWN_NAME, "webhook-signature"], None)]);
    assert_eq!(judge(&headers[..2], BODY), [missing(vec!["webhook-signature"], None)]);
    assert_eq!(judge(&headers[1..], BODY), [missing(vec!["webhook-id"], None)]);
    let github = [("X-Hub-Signature-256".to_owned(), "sha256=00".to_owned())];
    assert_eq!(judge(&github, BODY), [missing(vec![OWN_NAME], Some("X-Hub-Signature-256"))]);
    let twice = [&headers[..], &headers[2..]].concat();
    assert_eq!(judge(&twice, BODY), [Fault::HeaderTwice("webhook-signature".to_owned())]);
    let svix = headers.iter().map(|(name, value)| (name.replace("webhook", "svix"), value.clone()));
    assert_eq!(judge(&headers.iter().cloned().chain(svix).collect::<Vec<_>>(), BODY), [Fault::MixedNames]);
    let own = signed(&secret(1), SigningScheme::Timestamped, BODY);
    assert_eq!(judge_with(&own, BODY, |e| e.kind = Kind::Resend), [Fault::WrongScheme]);
}

#[test]
fn other_signed_content_is_named() {
    let tag = format!("v1,{}", STANDARD.encode(tag_under(&decoded(&secret(1)), &[BODY])));
    let faults = judge(&standard(&tag), BODY);
    assert!(matches!(faults[..], [Fault::SignedContent(what)] if what.starts_with("the body alone")), "{faults:?}");
}

#[test]
fn no_fault_shows_a_secret_or_a_signature() {
    let headers = signed(&secret(9), SigningScheme::Standard, BODY);
    let expected = signed(&secret(1), SigningScheme::Standard, BODY);
    for fault in judge(&headers, BODY) {
        let text = format!("{fault} {fault:?} {}", fault.code());
        assert!(!text.contains(&expected[2].1[3..]) && !text.contains(&secret(1).expose()[6..]));
    }
}

const CALLS: &str = r#"[{"type":"identify","userId":"u1"},{"type":"track","userId":"u1","event":"x"}]"#;
const FIRST_CALL: &str = r#"{"type":"identify","userId":"u1"}"#;

fn judge_calls(headers: &[(&str, String)], body: &str, is_verified_lately: bool) -> Vec<Fault> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    judge_with(&headers, body.as_bytes(), |e| (e.kind, e.is_verified_lately) = (Kind::Segment, is_verified_lately))
}

#[test]
fn what_is_wrong_with_a_signature_of_calls_is_named() {
    let tag = |key: &[u8], content: &str| sha1_tag_under(key, content.as_bytes());
    let of = |number: u8, content: &str| hex::encode(tag(secret(number).expose().as_bytes(), content));
    let whole = secret(1).expose().to_owned();
    let base64 = STANDARD.encode(tag(whole.as_bytes(), CALLS));
    let sha256 = hex::encode(tag_under(whole.as_bytes(), &[CALLS.as_bytes()]));
    for (signature, body, faults) in [
        (of(1, CALLS), CALLS, vec![]),
        (of(1, FIRST_CALL), CALLS, vec![]),
        (of(1, FIRST_CALL), FIRST_CALL, vec![]),
        (of(2, FIRST_CALL), CALLS, vec![Fault::ExpiredSecret]),
        (of(3, FIRST_CALL), CALLS, vec![Fault::SecretOfSource("resend".to_owned())]),
        (of(9, FIRST_CALL), CALLS, vec![Fault::UnknownSecret]),
        (of(1, &CALLS.replace("u1", "u2")), CALLS, vec![Fault::UnknownSecret]),
        (of(1, &format!("{CALLS}\n")), CALLS, vec![Fault::BodyWhiteSpace]),
        (of(1, &FIRST_CALL.replace(':', ": ").replace(',', ", ")), FIRST_CALL, vec![Fault::Reserialized]),
        (hex::encode(tag(&whole.as_bytes()[6..], CALLS)), CALLS, vec![Fault::KeyWithoutPrefix]),
        (hex::encode(tag(&decoded(&secret(1)), CALLS)), CALLS, vec![Fault::KeyDecoded]),
        (hex::encode(tag(format!("{whole}\n").as_bytes(), FIRST_CALL)), CALLS, vec![Fault::KeyWithWhiteSpace]),
        (format!("sha1={}", of(1, CALLS)), CALLS, vec![Fault::HashNamed]),
        (base64, CALLS, vec![Fault::Base64ForHex]),
        (sha256.clone(), CALLS, vec![Fault::OtherHash]),
        (format!("sha256={sha256}"), CALLS, vec![Fault::OtherHash]),
        ("?".to_owned(), CALLS, vec![Fault::Unreadable("X-Signature".to_owned())]),
        (String::new(), CALLS, vec![Fault::Unreadable("X-Signature".to_owned())]),
    ] {
        assert_eq!(judge_calls(&[("x-signature", signature.clone())], body, false), faults, "{signature}");
    }
    assert_eq!(judge_calls(&[("x-signature", of(9, CALLS))], CALLS, true), [Fault::AlteredBody]);
    let right = ("X-Signature", of(1, CALLS));
    assert_eq!(judge_calls(&[right.clone(), right], CALLS, false), [Fault::HeaderTwice("X-Signature".to_owned())]);
    for found in [None, Some("X-Nudgespot-Signature")] {
        let headers: Vec<_> = found.map(|name| (name, String::new())).into_iter().collect();
        let names = vec!["X-Signature", "Authorization"];
        let missing = Fault::HeaderMissing { names, found: found.map(str::to_owned) };
        assert_eq!(judge_calls(&headers, CALLS, false), [missing]);
    }
}

#[test]
fn what_is_wrong_with_an_ingest_key_is_named() {
    let header = |credentials: &str| ("authorization", format!("Basic {}", STANDARD.encode(credentials)));
    let of = |number: u8| header(&format!("{}:", secret(number).ingest_key()));
    let fault = |fault| vec![Fault::IngestKey(fault)];
    for (header, faults) in [
        (of(1), vec![]),
        (of(2), fault(IngestKeyFault::Expired)),
        (of(3), fault(IngestKeyFault::OfSource("resend".to_owned()))),
        (of(9), fault(IngestKeyFault::Unknown)),
        (header(&secret(1).ingest_key()), fault(IngestKeyFault::Unreadable)),
        (header("user:password"), fault(IngestKeyFault::Unreadable)),
        (("authorization", "Bearer x".to_owned()), fault(IngestKeyFault::Unreadable)),
    ] {
        assert_eq!(judge_calls(std::slice::from_ref(&header), CALLS, false), faults, "{header:?}");
    }
    // A signature that is there must hold.
    let wrong = ("X-Signature", "00".repeat(20));
    assert_eq!(judge_calls(&[of(1), wrong], CALLS, false), [Fault::UnknownSecret]);
    assert_eq!(judge_calls(&[of(1), of(1)], CALLS, false), [Fault::HeaderTwice("Authorization".to_owned())]);
}

#[test]
fn each_fault_of_calls_has_a_clause() {
    let [unreadable, unknown] = [IngestKeyFault::Unreadable, IngestKeyFault::Unknown].map(Fault::IngestKey);
    let expired = Fault::IngestKey(IngestKeyFault::Expired);
    let of_other = Fault::IngestKey(IngestKeyFault::OfSource("x".to_owned()));
    for fault in [unreadable, unknown, expired, of_other, Fault::HashNamed, Fault::OtherHash] {
        assert!(super::super::clause(fault.code()).is_some() && fault.to_string().ends_with('.'), "{fault:?}");
    }
}
