use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const AT: i64 = 1_614_265_330;
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const CLICK: &[u8] = include_bytes!("../../../tests/fixtures/full-click.json");

type Headers = Vec<(&'static str, String)>;

fn keyring(secret: &str) -> Keyring {
    Keyring {
        current: SigningSecret::parse(secret).expect("a secret"),
        previous: SigningSecret::from_random([9; 32]),
        previous_until: None,
        allow_untimestamped: false,
    }
}

fn check(headers: &Headers, body: &[u8], keyring: &Keyring, now: i64) -> Result<(), VerifyError> {
    let signature = Signature::from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())))?;
    verify(&signature, body, keyring, now).map(|verified| assert_eq!(verified.bytes(), body))
}

fn standard(signature: &str) -> Headers {
    vec![
        ("webhook-id", ID.to_owned()),
        ("webhook-timestamp", AT.to_string()),
        ("webhook-signature", signature.to_owned()),
    ]
}

fn own(signature: &str) -> Headers {
    vec![("X-Nudgespot-Signature", signature.to_owned())]
}

#[test]
fn the_vector_of_the_standard_webhooks_libraries_verifies() {
    let headers = standard("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(check(&headers, br#"{"test": 2432232314}"#, &keyring(SECRET), AT), Ok(()));
    assert_eq!(check(&headers, br#"{"test":2432232314}"#, &keyring(SECRET), AT), Err(VerifyError::Mismatch));
}

#[test]
fn signatures_made_by_other_implementations_verify() {
    #[derive(serde::Deserialize)]
    struct Signatures {
        secret: String,
        timestamp: i64,
        standard_webhooks: std::collections::BTreeMap<String, String>,
        timestamped: String,
        body_only: String,
    }
    let cases: Signatures =
        serde_json::from_str(include_str!("../../../tests/fixtures/signatures.json")).expect("JSON");
    let mut keyring = keyring(&cases.secret);
    let signature = &cases.standard_webhooks["webhook-signature"];
    assert_eq!(check(&standard(signature), CLICK, &keyring, cases.timestamp), Ok(()));
    assert_eq!(check(&own(&cases.timestamped), CLICK, &keyring, cases.timestamp), Ok(()));
    assert_eq!(check(&own(&cases.body_only), CLICK, &keyring, cases.timestamp), Err(VerifyError::Mismatch));
    keyring.allow_untimestamped = true;
    assert_eq!(check(&own(&cases.body_only), CLICK, &keyring, cases.timestamp), Ok(()));
}

#[test]
fn what_is_signed_verifies_until_a_byte_changes() {
    let mut keyring = keyring(SECRET);
    keyring.allow_untimestamped = true;
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped, SigningScheme::Body] {
        let headers = sign(&keyring.current, scheme, ID, AT, b"{}");
        assert_eq!(check(&headers, b"{}", &keyring, AT), Ok(()), "{scheme:?}");
        assert_eq!(check(&headers, b"{ }", &keyring, AT), Err(VerifyError::Mismatch), "{scheme:?}");
    }
}

#[test]
fn a_timestamp_may_be_five_minutes_off_either_way() {
    let keyring = keyring(SECRET);
    for scheme in [SigningScheme::Standard, SigningScheme::Timestamped] {
        let headers = sign(&keyring.current, scheme, ID, AT, b"[]");
        for (now, expected) in [
            (AT - 300, Ok(())),
            (AT + 300, Ok(())),
            (AT - 301, Err(VerifyError::Stale)),
            (AT + 301, Err(VerifyError::Stale)),
            (i64::MIN, Err(VerifyError::Stale)),
        ] {
            assert_eq!(check(&headers, b"[]", &keyring, now), expected, "{scheme:?} at {now}");
        }
    }
}

#[test]
fn the_previous_secret_verifies_until_its_time_is_up() {
    let old = SigningSecret::from_random([1; 32]);
    let mut keyring = keyring(SECRET);
    keyring.previous = old.clone();
    let headers = sign(&old, SigningScheme::Standard, ID, AT, b"[]");
    assert_eq!(check(&headers, b"[]", &keyring, AT), Err(VerifyError::Mismatch), "a decoy never verifies");
    keyring.previous_until = Some(AT + 1);
    assert_eq!(check(&headers, b"[]", &keyring, AT), Ok(()));
    assert_eq!(check(&headers, b"[]", &keyring, AT + 1), Err(VerifyError::Mismatch));
}

#[test]
fn one_of_several_signatures_is_enough_up_to_the_sixteenth() {
    let keyring = keyring(SECRET);
    let right = sign(&keyring.current, SigningScheme::Standard, ID, AT, b"[]").pop().expect("three headers").1;
    let wrong = format!("v1,{}", STANDARD.encode([0; 32]));
    let with = |other: &str, n: usize| standard(&[vec![other; n].join(" "), right.clone()].join(" "));
    assert_eq!(check(&with(&wrong, 15), b"[]", &keyring, AT), Ok(()));
    assert_eq!(check(&with(&wrong, 16), b"[]", &keyring, AT), Err(VerifyError::Mismatch));
    for unreadable in ["v1,", "v1,AAAA", "v1,?"] {
        assert_eq!(check(&with(unreadable, 15), b"[]", &keyring, AT), Ok(()));
        assert_eq!(check(&with(unreadable, 16), b"[]", &keyring, AT), Err(VerifyError::Unreadable), "none is left");
    }
    assert_eq!(check(&with("v1a,AAAA", 100), b"[]", &keyring, AT), Ok(()), "another version is not tried");

    let right = sign(&keyring.current, SigningScheme::Timestamped, ID, AT, b"[]").pop().expect("one header").1;
    let tag = right.split_once("v1=").expect("own format").1;
    let wrong = hex::encode([0; 32]);
    let rotating = format!("t={AT}, v1={wrong}, v0=x, v1={}", tag.to_uppercase());
    assert_eq!(check(&own(&rotating), b"[]", &keyring, AT), Ok(()));
    for (other, n, expected) in [
        (wrong.as_str(), 15, Ok(())),
        (wrong.as_str(), 16, Err(VerifyError::Mismatch)),
        ("zz", 15, Ok(())),
        ("zz", 16, Err(VerifyError::Unreadable)),
    ] {
        let many = format!("t={AT},{}v1={tag}", format!("v1={other},").repeat(n));
        assert_eq!(check(&own(&many), b"[]", &keyring, AT), expected, "{n} of {other}");
    }
}

#[test]
fn the_old_names_of_the_standard_headers_are_read_but_not_beside_the_new() {
    let keyring = keyring(SECRET);
    let good = sign(&keyring.current, SigningScheme::Standard, ID, AT, b"[]");
    let names = ["svix-id", "svix-timestamp", "svix-signature"];
    let old: Headers = names.into_iter().zip(&good).map(|(name, (_, value))| (name, value.clone())).collect();
    assert_eq!(check(&old, b"[]", &keyring, AT), Ok(()));
    assert_eq!(check(&old, b"{}", &keyring, AT), Err(VerifyError::Mismatch));
    assert_eq!(check(&old, b"[]", &keyring, AT + 301), Err(VerifyError::Stale));
    assert_eq!(check(&[old.clone(), own("t=1")].concat(), b"[]", &keyring, AT), Ok(()));
    for i in 0..3 {
        let mut missing = old.clone();
        missing.remove(i);
        for headers in [
            missing.clone(),
            [missing, vec![good[i].clone()]].concat(),
            [old.clone(), vec![old[i].clone()]].concat(),
            [old.clone(), vec![good[i].clone()]].concat(),
            [good.clone(), vec![good[i].clone()]].concat(),
            [good.clone(), vec![old[i].clone()]].concat(),
            [good.clone(), old.clone()].concat(),
        ] {
            assert_eq!(check(&headers, b"[]", &keyring, AT), Err(VerifyError::Unreadable), "{headers:?}");
        }
    }
}

#[test]
fn headers_that_cannot_be_read_are_refused() {
    let twice = |header: Headers| [header.clone(), header].concat();
    let good = sign(&keyring(SECRET).current, SigningScheme::Timestamped, ID, AT, b"[]");
    let standard_good = sign(&keyring(SECRET).current, SigningScheme::Standard, ID, AT, b"[]");
    let cases = [
        vec![],
        twice(good),
        twice(standard_good.clone()),
        standard_good[..2].to_vec(),
        standard_good[1..].to_vec(),
        standard("v1a,AAAA"),
        standard(""),
        own(""),
        own("t=1"),
        own("v1=00"),
        own("t=1,t=1,v1=9f3aea150b82b820a1d09c556bb17f7288eca373a3aa7a634ee0ed10b481b0a4"),
        own("sha256=zz"),
        own(&"v1=,".repeat(16 << 10)),
    ];
    for headers in cases {
        assert_eq!(check(&headers, b"[]", &keyring(SECRET), AT), Err(VerifyError::Unreadable), "{headers:?}");
    }
}
