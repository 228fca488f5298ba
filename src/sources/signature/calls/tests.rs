use super::super::{Keyring, SignedWith, verify};
use super::*;
use crate::sources::Kind;

/// Made with Node's `crypto`, as Segment's webhooks are.
const SECRET: &str = "abc123";
const BODY: &str = r#"{"type":"identify","userId":"u-1","traits":{"email":"ada@example.com"}}"#;
const SIGNATURE: &str = "2ab28cc4a54e25c645213ec48e2a3efdd0c4412a";

type Headers<'h> = &'h [(&'h str, String)];

fn keyring(current: SigningSecret) -> Keyring {
    let previous = SigningSecret::from_random([9; 32]);
    Keyring { current, previous, previous_until: None, allow_untimestamped: false }
}

fn bytes(headers: Headers<'_>) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (*name, value.as_bytes()))
}

fn check_at(headers: Headers<'_>, body: &str, keyring: &Keyring, now: i64) -> Result<SignedWith, VerifyError> {
    let signature = Kind::Segment.read_signature(bytes(headers))?;
    let verified = verify(&signature, body.as_bytes(), keyring, now)?;
    assert_eq!((verified.bytes(), verified.id()), (body.as_bytes(), None));
    Ok(verified.signed_with())
}

fn check(headers: Headers<'_>, body: &str, keyring: &Keyring) -> Result<SignedWith, VerifyError> {
    check_at(headers, body, keyring, 0)
}

fn signature(value: &str) -> (&'static str, String) {
    ("X-Signature", value.to_owned())
}

fn sign(secret: &SigningSecret, content: &str) -> (&'static str, String) {
    signature(&hex::encode(secret.sha1_tag(content.as_bytes())))
}

fn basic_of(credentials: &str) -> (&'static str, String) {
    ("Authorization", format!("Basic {}", STANDARD.encode(credentials)))
}

fn basic(secret: &SigningSecret) -> (&'static str, String) {
    basic_of(&format!("{}:", secret.ingest_key()))
}

#[test]
fn a_signature_made_elsewhere_verifies_until_anything_changes() {
    assert_eq!(BODY.len(), 71);
    let keyring = keyring(SigningSecret::of_any_text(SECRET));
    assert_eq!(check(&[signature(SIGNATURE)], BODY, &keyring), Ok(SignedWith::Current));
    assert_eq!(
        check(&[("x-signature", format!(" {} ", SIGNATURE.to_uppercase()))], BODY, &keyring),
        Ok(SignedWith::Current)
    );
    for at in 0..BODY.len() {
        let mut altered = BODY.as_bytes().to_vec();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).expect("ASCII");
        assert_eq!(check(&[signature(SIGNATURE)], &altered, &keyring), Err(VerifyError::Mismatch), "{altered}");
    }
    for body in ["", &format!("{BODY}\n"), &format!(" {BODY}"), &format!(r#"{{"batch":[{BODY}]}}"#)] {
        assert_eq!(check(&[signature(SIGNATURE)], body, &keyring), Err(VerifyError::Mismatch), "{body}");
    }
    let unreadable = [
        vec![],
        vec![signature(SIGNATURE), signature(SIGNATURE)],
        vec![signature(SIGNATURE), ("x-signature", SIGNATURE.to_owned())],
        vec![signature(&format!("sha1={SIGNATURE}"))],
        vec![signature("")],
        vec![signature(&SIGNATURE[1..])],
        vec![signature(&format!("{SIGNATURE}00"))],
        vec![signature(&SIGNATURE.replace('2', "g"))],
        vec![signature(&format!("{SIGNATURE},{SIGNATURE}"))],
        vec![("X-Nudgespot-Signature", SIGNATURE.to_owned())],
    ];
    for headers in unreadable {
        assert_eq!(check(&headers, BODY, &keyring), Err(VerifyError::Unreadable), "{headers:?}");
    }
}

#[test]
fn of_an_array_the_first_call_or_the_whole_is_signed() {
    let secret = SigningSecret::from_random([1; 32]);
    let keyring = keyring(secret.clone());
    let second = r#"{"type":"page","a":"]}"}"#;
    let first = BODY;
    for array in [
        format!("[{first},{second}]"),
        format!("[{first}]"),
        format!(" [\n {first} , {second} ]\n"),
        format!("\u{feff}[{first}]"),
        format!("[{first},1,[],\"x\"]"),
    ] {
        assert_eq!(check(&[sign(&secret, first)], &array, &keyring), Ok(SignedWith::Current), "{array}");
        assert_eq!(check(&[sign(&secret, &array)], &array, &keyring), Ok(SignedWith::Current), "{array}");
        assert_eq!(check(&[sign(&secret, second)], &array, &keyring), Err(VerifyError::Mismatch), "{array}");
    }
    for array in [
        format!("[{second},{first}]"),
        format!("[[{first}]]"),
        format!("[1,{first}]"),
        format!("[{}]", first.replace(':', ": ")),
        format!("[{first}x").replace("}}x", "}"),
        "[]".to_owned(),
        "[".to_owned(),
    ] {
        assert_eq!(check(&[sign(&secret, first)], &array, &keyring), Err(VerifyError::Mismatch), "{array}");
    }
}

#[test]
fn an_ingest_key_stands_in_for_a_signature() {
    let secret = SigningSecret::from_random([1; 32]);
    let keyring = keyring(secret.clone());
    let key = secret.ingest_key();
    let encoded = STANDARD.encode(format!("{key}:"));
    for value in [format!("Basic {encoded}"), format!("basic {encoded}"), format!(" BASIC   {encoded} ")] {
        assert_eq!(check(&[("authorization", value.clone())], BODY, &keyring), Ok(SignedWith::Current), "{value}");
    }
    let wrong = [
        basic(&SigningSecret::from_random([2; 32])),
        basic_of(&format!("{}:", key.to_uppercase())),
        basic_of(&format!("{}:", &key[1..])),
        basic_of(&format!("{}:", secret.expose())),
    ];
    for header in wrong {
        assert_eq!(check(std::slice::from_ref(&header), BODY, &keyring), Err(VerifyError::Mismatch), "{header:?}");
    }
    let unreadable = [
        vec![basic(&secret), basic(&secret)],
        vec![basic_of(&key)],
        vec![basic_of(&format!("{key}:x"))],
        vec![basic_of(&format!("{key}::"))],
        vec![basic_of(":")],
        vec![basic_of("")],
        vec![("Authorization", format!("Basic {key}:"))],
        vec![("Authorization", "Basic".to_owned())],
        vec![("Authorization", String::new())],
        vec![("Authorization", format!("Bearer {encoded}"))],
        vec![("Authorization", format!("Bearer {key}"))],
        vec![("Authorization", encoded)],
    ];
    for headers in unreadable {
        assert_eq!(check(&headers, BODY, &keyring), Err(VerifyError::Unreadable), "{headers:?}");
    }
}

#[test]
fn a_signature_that_is_there_must_hold_whatever_else_is_there() {
    let [secret, other] = [1, 2].map(|byte| SigningSecret::from_random([byte; 32]));
    let keyring = keyring(secret.clone());
    let wrong = sign(&other, BODY);
    assert_eq!(check(&[wrong, basic(&secret)], BODY, &keyring), Err(VerifyError::Mismatch));
    assert_eq!(check(&[signature("x"), basic(&secret)], BODY, &keyring), Err(VerifyError::Unreadable));
    assert_eq!(check(&[sign(&secret, BODY), basic(&secret)], BODY, &keyring), Ok(SignedWith::Current));
    // What the sender's client sends along by itself does no harm.
    for also in [basic(&other), ("Authorization", "Bearer x".to_owned())] {
        assert_eq!(check(&[sign(&secret, BODY), also], BODY, &keyring), Ok(SignedWith::Current));
    }
}

#[test]
fn the_previous_secret_and_its_ingest_key_hold_until_their_time_is_up() {
    let [secret, previous] = [1, 2].map(|byte| SigningSecret::from_random([byte; 32]));
    let mut keyring = keyring(secret);
    keyring.previous = previous.clone();
    for header in [sign(&previous, BODY), basic(&previous)] {
        keyring.previous_until = None;
        assert_eq!(
            check_at(std::slice::from_ref(&header), BODY, &keyring, 10),
            Err(VerifyError::Mismatch),
            "a decoy never verifies"
        );
        keyring.previous_until = Some(11);
        assert_eq!(check_at(std::slice::from_ref(&header), BODY, &keyring, 10), Ok(SignedWith::Previous));
        assert_eq!(check_at(&[header], BODY, &keyring, 11), Err(VerifyError::Mismatch));
    }
}

#[test]
fn other_kinds_take_neither() {
    let secret = SigningSecret::from_random([1; 32]);
    for kind in [Kind::Nudgespot, Kind::Resend] {
        for headers in [[sign(&secret, BODY)], [basic(&secret)]] {
            assert_eq!(kind.read_signature(bytes(&headers)), Err(VerifyError::Unreadable));
        }
    }
}

#[test]
fn a_library_says_its_ingest_key_in_a_header_or_in_the_body() {
    let [secret, other] = [1, 2].map(|byte| SigningSecret::from_random([byte; 32]));
    let keyring = keyring(secret.clone());
    let (key, wrong) = (secret.ingest_key(), other.ingest_key());
    let check = |headers: Headers<'_>, body: &str| {
        let signature = read_sdk_signature(bytes(headers), body.as_bytes())?;
        let key = signature.ingest_key().expect("found by it").to_owned();
        verify(&signature, body.as_bytes(), &keyring, 0).map(|_| key)
    };
    let with_key = |key: &str| format!(r#"{{"batch":[{{"writeKey":"x"}}],"writeKey":"{key}","sentAt":1}}"#);
    assert_eq!(check(&[basic(&secret)], BODY), Ok(key.clone()));
    assert_eq!(check(&[], &with_key(&key)), Ok(key.clone()));
    assert_eq!(check(&[], &format!("\u{feff}\n{}", with_key(&key))), Ok(key.clone()));
    assert_eq!(check(&[("Authorization", "Bearer x".to_owned())], &with_key(&key)), Ok(key.clone()));
    assert_eq!(check(&[basic(&secret)], &with_key(&wrong)), Ok(key.clone()), "the header counts");
    assert_eq!(check(&[basic(&other)], &with_key(&key)), Err(VerifyError::Mismatch), "the header counts");
    assert_eq!(check(&[], &with_key(&wrong)), Err(VerifyError::Mismatch));
    let body = with_key(&key);
    assert_eq!(check(&[sign(&secret, &body)], &body), Ok(key));
    assert_eq!(check(&[sign(&other, &body)], &body), Err(VerifyError::Mismatch), "a signature must hold");
    assert_eq!(check(&[sign(&secret, BODY)], BODY), Err(VerifyError::Unreadable), "whose is it?");
    for body in [
        "",
        "[",
        "{}",
        "[1]",
        r#"[{"writeKey":"k"}]"#,
        r#"{"batch":[{"writeKey":"k"}]}"#,
        r#"{"writeKey":7}"#,
        r#"{"writeKey":""}"#,
        r#"{"writeKey":null}"#,
        r#"{"writeKey":"a","writeKey":"a"}"#,
        r#"{"writeKey":"\ud800"}"#,
        r#"{"writeKey":"k"} x"#,
    ] {
        assert_eq!(check(&[], body), Err(VerifyError::Unreadable), "{body}");
    }
    assert_eq!(check(&[basic_of("k")], &with_key("k")), Err(VerifyError::Unreadable));
    assert_eq!(check(&[basic(&secret), basic(&secret)], &body), Err(VerifyError::Unreadable));
}
