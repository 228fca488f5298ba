use super::*;

fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
    let env: Environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::new(&env).map_err(|e| e.to_string())
}

#[test]
fn nothing_needs_to_be_set() {
    let config = config(&[]).expect("defaults");
    assert!(matches!(config.database, Database::Private { ref data_dir, .. } if data_dir.ends_with("data")));
    assert_eq!(config.max_delivery_age, Duration::from_hours(168));
    assert_eq!(config.keep_alive, Duration::from_secs(75), "longer than the 60 s of most load balancers");
    assert_eq!(config.endpoints.of(Region::Eu).as_str(), "https://events.eu1.segmentapis.com/");
    assert_eq!(config.endpoints.nudgespot.as_str(), "https://api.nudgespot.com/201507");
}

#[test]
fn a_wrong_setting_names_the_variable_and_the_remedy() {
    let key = Vault::encode_key([1; 32]);
    let errors: Vec<String> = [
        vec![("BIND", "8080")],
        vec![("PUBLIC_URL", "example.com")],
        vec![("SEGMENT_US_URL", "http://example.com")],
        vec![("MAX_BODY_BYTES", "0")],
        vec![("MAX_WAITING", "many")],
        vec![("MAX_DELIVERY_AGE", "7")],
        vec![("RETENTION", "99999999999d")],
        vec![("RETENTION", "7ü")],
        vec![("MASTER_KEY", "short")],
        vec![("DATABASE_URL", "postgres://localhost/db")],
        vec![("DATABASE_URL", "nonsense with a s3cret"), ("MASTER_KEY", &key)],
    ]
    .iter()
    .map(|variables| config(variables).expect_err("wrong"))
    .collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn plain_http_goes_to_loopback_only() {
    for url in ["http://127.0.0.1:1/x", "http://localhost:1", "http://[::1]:1", "https://example.com"] {
        assert!(config(&[("SEGMENT_EU_URL", url)]).is_ok(), "{url}");
    }
}

#[test]
fn debug_shows_no_master_key_and_no_password() {
    let key = Vault::encode_key([1; 32]);
    let config = config(&[("DATABASE_URL", "postgres://u:s3cret@localhost/db"), ("MASTER_KEY", &key)]);
    let debug = format!("{:?}", config.expect("good"));
    assert!(!debug.contains(&key) && !debug.contains("s3cret"), "{debug}");
}

#[test]
fn a_list_takes_blanks_after_its_commas() {
    let [new, old] = [[1; 32], [2; 32]].map(Vault::encode_key);
    let keys = format!(" {new} ,  {old} ");
    let config = config(&[("DATABASE_URL", "postgres://u:p@h1, h2/d"), ("MASTER_KEY", &keys)]).expect("good");
    assert!(matches!(config.database, Database::Server { ref hosts, .. } if hosts.len() == 2));
}

#[test]
fn no_error_repeats_a_key_or_a_password() {
    let key = Vault::encode_key([1; 32]);
    for (variable, value) in [
        ("MASTER_KEY", format!("s3cret,{key}")),
        ("MASTER_KEY", format!("{key} {key}")),
        ("DATABASE_URL", "postgres://u:s3cret/@h/d".to_owned()),
        ("PUBLIC_URL", "https://s3cret:x@example.com".to_owned()),
        ("PUBLIC_URL", "example.com?s3cret".to_owned()),
        ("SEGMENT_US_URL", "https://x:s3cret@example.com".to_owned()),
        ("SEGMENT_US_URL", "http://s3cret@example.com".to_owned()),
        ("SEGMENT_EU_URL", "s3cret".to_owned()),
        ("NUDGESPOT_URL", "https://api:s3cret@example.com".to_owned()),
        ("SEGMENT_EU_URL", "https://example.com/?token=s3cret".to_owned()),
    ] {
        let error = config(&[(variable, &value)]).expect_err("wrong");
        assert!(error.starts_with(&format!("{variable}: ")), "{error}");
        assert!(!error.contains("s3cret") && !error.contains(&key), "{error}");
    }
}

#[test]
fn an_empty_variable_is_not_taken_for_one_that_is_not_set() {
    for variable in [
        "DATABASE_URL",
        "DATA_DIR",
        "BIND",
        "INTERNAL_BIND",
        "PUBLIC_URL",
        "KEEP_ALIVE",
        "MASTER_KEY",
        "SEGMENT_US_URL",
        "SEGMENT_EU_URL",
        "NUDGESPOT_URL",
        "MAX_BODY_BYTES",
        "MAX_WAITING",
        "MAX_DELIVERY_AGE",
        "RETENTION",
    ] {
        for value in ["", " "] {
            let error = config(&[(variable, value)]).expect_err("empty");
            assert_eq!(error, format!("{variable}: is set, but empty; unset it, or give it a value"));
        }
    }
}

#[test]
fn a_retention_shorter_than_the_age_of_delivery_is_warned_of() {
    assert_eq!(config(&[]).expect("defaults").warnings(), [""; 0]);
    assert_eq!(config(&[("RETENTION", "7d")]).expect("good").warnings(), [""; 0]);
    let warnings = config(&[("RETENTION", "36h")]).expect("good").warnings();
    assert!(warnings[0].starts_with("RETENTION (36h) is shorter than MAX_DELIVERY_AGE (7d): "), "{warnings:?}");
}
