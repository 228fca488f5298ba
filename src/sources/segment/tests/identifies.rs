use super::*;

/// The subscriber that an `identify` of `u1` with these traits becomes.
fn subscriber(traits: &Json) -> Json {
    fate(&with(an_identify(), json!({"traits": traits}))).subscriber()
}

fn email_contact(value: &str) -> Json {
    json!({"contact_type": "email", "contact_value": value})
}

#[test]
fn an_identify_becomes_a_subscriber() {
    let fate = fates(
        r#"{"type":"identify","userId":"u1","traits":{"email":"ada@example.com","firstName":"Ada","lastName":"Lovelace","phone":"+15550100","createdAt":"2015-01-01T00:00:00Z","plan":"pro"}}"#,
    )
    .expect("well-formed")
    .remove(0);
    insta::assert_snapshot!(fate.body(), @r#"{"subscriber":{"uid":"u1","first_name":"Ada","last_name":"Lovelace","signed_up_at":"2015-01-01T00:00:00.000Z","properties":{"plan":"pro"},"contacts":[{"contact_type":"email","contact_value":"ada@example.com"},{"contact_type":"phone","contact_value":"+15550100"}]}}"#);
    assert!(matches!(fate, Fate::Identify(_, _, _, Some(email)) if email == "ada@example.com"));
}

#[test]
fn an_identify_without_a_user_id_is_ignored() {
    let call = r#"{"type":"identify","anonymousId":"a1","traits":{"email":"x@example.com"}}"#;
    let expected = Fate::Ignored("identify".to_owned(), "no_user_id".to_owned(), call.to_owned());
    assert_eq!(fates(call), Ok(vec![expected]));
    for user_id in [json!(null), json!(""), json!("\t "), json!({}), json!(true), json!([1])] {
        assert_eq!(fate(&with(an_identify(), json!({"userId": user_id}))).words(), "ignored identify: no_user_id");
    }
}

#[test]
fn a_user_id_is_text_in_either_spelling() {
    for (call, expected) in [
        (json!({"userId": 17}), "17"),
        (json!({"userId": 12_345_678_901_234_567_890_u64}), "12345678901234567890"),
        (json!({"userId": null, "user_id": "u2"}), "u2"),
        (json!({"userId": "", "user_id": 7}), "7"),
        (json!({"userId": "u1", "user_id": "u2"}), "u1"),
        (json!({"userId": " a \"b\" \u{e4}"}), " a \"b\" \u{e4}"),
    ] {
        let call = with(an_identify(), call);
        assert_eq!(fate(&call).subscriber()["uid"], expected, "{call}");
    }
}

#[test]
fn names_are_those_given_else_parts_of_the_whole() {
    for (traits, expected) in [
        (json!({"firstName": "A", "lastName": "B"}), json!({"first_name": "A", "last_name": "B"})),
        (json!({"first_name": "A", "last_name": "B"}), json!({"first_name": "A", "last_name": "B"})),
        (
            json!({"name": "Ada Augusta  Lovelace"}),
            json!({"name": "Ada Augusta  Lovelace", "first_name": "Ada", "last_name": "Augusta  Lovelace"}),
        ),
        (json!({"name": " Ada\u{a0} L "}), json!({"name": " Ada\u{a0} L ", "first_name": "Ada", "last_name": "L"})),
        (json!({"name": "Ada"}), json!({"name": "Ada", "first_name": "Ada"})),
        (
            json!({"name": "Ada King", "firstName": "A"}),
            json!({"name": "Ada King", "first_name": "A", "last_name": "King"}),
        ),
        (
            json!({"name": "Ada King", "last_name": "K"}),
            json!({"name": "Ada King", "first_name": "Ada", "last_name": "K"}),
        ),
    ] {
        assert_eq!(subscriber(&traits), with(expected, json!({"uid": "u1", "properties": {}})), "{traits}");
    }
}

#[test]
fn the_time_of_signing_up_is_read_in_all_its_spellings() {
    for (traits, expected) in [
        (json!({"createdAt": "2015-01-01T02:00:00+02:00"}), "2015-01-01T00:00:00.000Z"),
        (json!({"created_at": "2015-01-01T00:00:00.5Z"}), "2015-01-01T00:00:00.500Z"),
        (json!({"created": 1_420_070_400}), "2015-01-01T00:00:00.000Z"),
        (json!({"created": 1_420_070_400_125_i64}), "2015-01-01T00:00:00.125Z"),
        (json!({"createdAt": "1420070400"}), "2015-01-01T00:00:00.000Z"),
    ] {
        let expected = json!({"uid": "u1", "signed_up_at": expected, "properties": {}});
        assert_eq!(subscriber(&traits), expected, "{traits}");
    }
    for unreadable in [json!("soon"), json!("2015-01-01"), json!(null), json!(true), json!({"at": 1})] {
        let traits = json!({"createdAt": unreadable});
        assert_eq!(subscriber(&traits), json!({"uid": "u1", "properties": traits}));
    }
    let both = subscriber(&json!({"createdAt": "soon", "created_at": 1_420_070_400, "created": 1}));
    let expected = json!({
        "uid": "u1", "signed_up_at": "2015-01-01T00:00:00.000Z", "properties": {"createdAt": "soon", "created": 1},
    });
    assert_eq!(both, expected);
}

#[test]
fn contacts_are_the_traits_else_a_user_id_that_is_an_address() {
    let phone = |value: &str| json!({"contact_type": "phone", "contact_value": value});
    for (user_id, traits, contacts, left, email) in [
        (
            "u1",
            json!({"email": " Ada@Example.com "}),
            json!([email_contact(" Ada@Example.com ")]),
            json!({}),
            Some(" Ada@Example.com "),
        ),
        ("a@b.c", json!({}), json!([email_contact("a@b.c")]), json!({}), Some("a@b.c")),
        ("a@b.c", json!({"email": "x@y.z"}), json!([email_contact("x@y.z")]), json!({}), Some("x@y.z")),
        ("a@b.c", json!({"email": null}), json!([email_contact("a@b.c")]), json!({"email": null}), Some("a@b.c")),
        ("u1", json!({"email": "unknown"}), json!(null), json!({"email": "unknown"}), None),
        ("u1", json!({"email": ""}), json!(null), json!({"email": ""}), None),
        ("u1", json!({"email": ["a@b.c"]}), json!(null), json!({"email": ["a@b.c"]}), None),
        ("u1", json!({"phone": 15_550_100}), json!([phone("15550100")]), json!({}), None),
        ("u1", json!({"phone": null}), json!(null), json!({"phone": null}), None),
        ("u1", json!({"phone": 1.5}), json!(null), json!({"phone": 1.5}), None),
        ("a@b.c", json!({"phone": "1"}), json!([email_contact("a@b.c"), phone("1")]), json!({}), Some("a@b.c")),
    ] {
        let call = with(an_identify(), json!({"userId": user_id, "traits": traits}));
        let fate = fate(&call);
        let subscriber = fate.subscriber();
        assert_eq!(subscriber.get("contacts").unwrap_or(&Json::Null), &contacts, "{call}");
        assert_eq!(subscriber["properties"], left, "{call}");
        let Fate::Identify(_, _, _, found) = &fate else { panic!("an identify") };
        assert_eq!(found.as_deref(), email, "{call}");
    }
}

#[test]
fn a_subscription_has_a_status_only_where_a_trait_says_so() {
    let address = "a@b.c";
    for (traits, status, left) in [
        (json!({}), None, json!({})),
        (json!({"unsubscribed": true}), Some("inactive"), json!({})),
        (json!({"unsubscribed": false}), Some("active"), json!({})),
        (json!({"subscribed": true}), Some("active"), json!({})),
        (json!({"subscribed": false}), Some("inactive"), json!({})),
        (json!({"unsubscribed": true, "subscribed": true}), Some("inactive"), json!({"subscribed": true})),
        (json!({"unsubscribed": "true"}), None, json!({"unsubscribed": "true"})),
        (json!({"subscribed": 1, "unsubscribed": null}), None, json!({"subscribed": 1, "unsubscribed": null})),
    ] {
        let subscriber = subscriber(&with(traits.clone(), json!({"email": address, "phone": "1"})));
        let email = match status {
            Some(status) => with(email_contact(address), json!({"subscription_status": status})),
            None => email_contact(address),
        };
        let phone = json!({"contact_type": "phone", "contact_value": "1"});
        assert_eq!(subscriber["contacts"], json!([email, phone]), "{traits}");
        assert_eq!(subscriber["properties"], left, "{traits}");
    }
    // Without an address there is nothing that could have a status.
    let traits = json!({"unsubscribed": true});
    assert_eq!(subscriber(&traits)["properties"], traits);
}

#[test]
fn all_other_traits_are_properties_as_they_came() {
    let fate = fates(
        r#"{"type":"identify","userId":"u1","traits":{"plan":"pro","n":12345678901234567890123, "x":1.10,"nothing":null,"empty":"",
            "company":{"name":"A","createdAt":"2015-01-01T00:00:00Z","list":[1.50, {"a":null}]},"uid":"other","firstName":7,"nick\u006eame":"\u0041"}}"#,
    )
    .expect("well-formed")
    .remove(0);
    insta::assert_snapshot!(fate.body(), @r#"{"subscriber":{"uid":"u1","properties":{"plan":"pro","n":12345678901234567890123,"x":1.10,"nothing":null,"empty":"","company":{"name":"A","createdAt":"2015-01-01T00:00:00Z","list":[1.50, {"a":null}]},"uid":"other","firstName":7,"nickname":"\u0041"}}}"#);
    for traits in [json!(null), json!([1]), json!("x"), json!(7)] {
        assert_eq!(subscriber(&traits), json!({"uid": "u1", "properties": {}}));
    }
}
