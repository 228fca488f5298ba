use proptest::prelude::*;

use super::*;

/// `user:password@host:port/database` of each host, as sqlx has it.
fn read(url: &str) -> Vec<String> {
    let all = connect_options(url).unwrap_or_else(|e| panic!("{url}: {e}"));
    all.iter()
        .map(|options| {
            let debug = format!("{options:?}");
            let password = debug
                .split_once("password: Some(\"")
                .map_or("", |(_, after)| after.split_once("\"), database").expect("the next field").0);
            let socket = options.get_socket().map(|path| path.display().to_string());
            format!(
                "{}:{password}@{}:{}/{}",
                options.get_username(),
                socket.unwrap_or_else(|| options.get_host().to_owned()),
                options.get_port(),
                options.get_database().unwrap_or_default()
            )
        })
        .collect()
}

fn one(url: &str) -> PgConnectOptions {
    connect_options(url).unwrap_or_else(|e| panic!("{url}: {e}")).remove(0)
}

fn refusal(url: &str) -> String {
    connect_options(url).map(|all| all.len()).expect_err(url).to_string()
}

#[test]
fn urls_are_read_as_psql_reads_them() {
    for (url, expected) in [
        ("postgres://u:p@h:1/d", "u:p@h:1/d"),
        ("postgresql://u:p@h/d", "u:p@h:5432/d"),
        (" postgres://u:p@h/d\n", "u:p@h:5432/d"),
        ("postgres://u@h", "u:@h:5432/"),
        ("postgres://u@h/", "u:@h:5432/"),
        ("postgres://u:@h:/d", "u:@h:5432/d"),
        ("postgres://u:p@[::1]:1/d", "u:p@::1:1/d"),
        ("postgres://u@[2001:db8::1234]/d", "u:@2001:db8::1234:5432/d"),
        ("postgres://u@[fe80::1%25eth0]/d", "u:@fe80::1%eth0:5432/d"),
        ("postgres://u:p@%2Fvar%2Frun/d", "u:p@/var/run:5432/d"),
        ("postgres://u:p@%2fvar%2frun:1/d", "u:p@/var/run:1/d"),
        ("postgres://u:p@/d?host=/var/run&port=1", "u:p@/var/run:1/d"),
        ("postgres:///d?host=h&user=u&password=p", "u:p@h:5432/d"),
        ("postgres://?host=h&user=u&dbname=d", "u:@h:5432/d"),
        ("postgres://h?user=u", "u:@h:5432/"),
        ("postgres://x:y@g:7/c?host=h&port=1&user=u&password=p&dbname=d", "u:p@h:1/d"),
        ("postgres:///d?host=::1&user=u", "u:@::1:5432/d"),
        ("postgres:///d?hostaddr=10.0.0.1&user=u", "u:@10.0.0.1:5432/d"),
        ("postgres://u@h/d?hostaddr=10.0.0.1", "u:@10.0.0.1:5432/d"),
        // A password, and what stands in it as it is.
        ("postgres://u:p?w@h/d", "u:p?w@h:5432/d"),
        ("postgres://u:p?s=w&x@h/d", "u:p?s=w&x@h:5432/d"),
        ("postgres://u:p:w@h/d", "u:p:w@h:5432/d"),
        ("postgres://u:p[w]@h/d", "u:p[w]@h:5432/d"),
        ("postgres://u:p#w@h/d", "u:p#w@h:5432/d"),
        ("postgres://u:p,w@h/d", "u:p,w@h:5432/d"),
        ("postgres://u:p+w@h/d", "u:p+w@h:5432/d"),
        ("postgres://u:p w@h/d", "u:p w@h:5432/d"),
        ("postgres://u:p@w@h/d", "u:p@w@h:5432/d"),
        ("postgres://u:pü@h/d", "u:pü@h:5432/d"),
        ("postgres://u%40x:%2F%3A%40%25%3F%C3%BC@h/d", "u@x:/:@%?ü@h:5432/d"),
        ("postgres:///d?host=h&user=u&password=p+%26%3D", "u:p+&=@h:5432/d"),
        // An `@` behind the first `/` is no end of a password.
        ("postgres://h/d@e?user=u", "u:@h:5432/d@e"),
        ("postgres://u@h/a/b%2Fc%3F", "u:@h:5432/a/b/c?"),
        ("postgres://u@h/d#e", "u:@h:5432/d#e"),
    ] {
        assert_eq!(read(url), [expected], "{url}");
    }
}

#[test]
fn several_hosts_keep_their_order_and_have_their_own_ports() {
    for (url, expected) in [
        ("postgres://u:p@h1:5432,h2:5433/d", vec!["u:p@h1:5432/d", "u:p@h2:5433/d"]),
        ("postgres://u:p@h1,h2:5433/d", vec!["u:p@h1:5432/d", "u:p@h2:5433/d"]),
        ("postgres://u:p@h1:5433,h2/d", vec!["u:p@h1:5433/d", "u:p@h2:5432/d"]),
        ("postgres://u:p@h1,h2/d?port=7", vec!["u:p@h1:7/d", "u:p@h2:7/d"]),
        ("postgres://u:p@h1, h2/d?port=7,%208", vec!["u:p@h1:7/d", "u:p@h2:8/d"]),
        ("postgres://u:p@/d?host=h1,h2&port=1,2", vec!["u:p@h1:1/d", "u:p@h2:2/d"]),
        ("postgres://u:p@h1%2Ch2/d", vec!["u:p@h1:5432/d", "u:p@h2:5432/d"]),
        (
            "postgres://u:p@[::1]:1,[::2],h,%2Frun:2/d",
            vec!["u:p@::1:1/d", "u:p@::2:5432/d", "u:p@h:5432/d", "u:p@/run:2/d"],
        ),
        ("postgres://u:p@h1,h2/d?hostaddr=10.0.0.1,", vec!["u:p@10.0.0.1:5432/d", "u:p@h2:5432/d"]),
    ] {
        assert_eq!(read(url), expected, "{url}");
    }
    assert_eq!(connect_options("postgres://").expect("all by default").len(), 1);
}

#[test]
fn parameters_are_honoured() {
    let options = one("postgres://u@h/d?application_name=mine&fallback_application_name=other&options=-c%20geqo%3Doff");
    assert_eq!(options.get_application_name(), Some("mine"));
    assert_eq!(options.get_options(), Some("-c geqo=off"));
    let options = one("postgres://u@h/d?fallback_application_name=other&options[search_path]=a&options[geqo]=off");
    assert_eq!(options.get_application_name(), Some("other"));
    assert_eq!(options.get_options(), Some("-c search_path=a -c geqo=off"));
    assert_eq!(one("postgres://u@h/d").get_application_name(), Some("nudgespot-source"));

    for (query, mode) in [
        ("", PgSslMode::Prefer),
        ("sslmode=disable", PgSslMode::Disable),
        ("sslmode=allow", PgSslMode::Prefer),
        ("sslmode=require", PgSslMode::Require),
        ("ssl=true", PgSslMode::Require),
        ("ssl-mode=verify-ca", PgSslMode::VerifyCa),
        ("sslmode=verify-full", PgSslMode::VerifyFull),
        ("sslmode=disable&sslmode=require", PgSslMode::Require),
        ("sslmode=require&sslrootcert=/a.crt", PgSslMode::VerifyCa),
        ("sslrootcert=system", PgSslMode::VerifyFull),
        ("sslmode=require&host=/var/run", PgSslMode::Disable),
    ] {
        let is = one(&format!("postgres://u@h/d?{query}")).get_ssl_mode();
        assert!(std::mem::discriminant(&is) == std::mem::discriminant(&mode), "{query}: {is:?}");
    }
    let debug = format!("{:?}", one("postgres://u@h/d?sslrootcert=/r&sslcert=/c&sslkey=/k&statement-cache-capacity=7"));
    for part in ["File(\"/r\")", "File(\"/c\")", "File(\"/k\")", "statement_cache_capacity: 7"] {
        assert!(debug.contains(part), "{part}: {debug}");
    }
    assert!(!format!("{:?}", one("postgres://u@h/d?sslrootcert=system")).contains("File"));
}

#[test]
fn what_changes_nothing_is_accepted() {
    for query in [
        "connect_timeout=10",
        "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=1000",
        "gssencmode=disable&channel_binding=prefer&client_encoding=UTF8",
        "target_session_attrs=read-write&load_balance_hosts=disable",
        "target_session_attrs=primary&ssl_min_protocol_version=TLSv1.2&sslsni=1&",
    ] {
        assert_eq!(read(&format!("postgres://u:p@h/d?{query}")), ["u:p@h:5432/d"], "{query}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_and_nothing_but_the_parameters_name_is_repeated() {
    for (url, says) in [
        ("", "not of the form postgres://"),
        ("s3cret", "not of the form postgres://"),
        ("host=h password=s3cret", "not of the form postgres://"),
        ("mysql://u:s3cret@h/d", "not of the form postgres://"),
        ("postgres:/u:s3cret@h/d", "not of the form postgres://"),
        ("postgres://u:p@::1:5432/d", "a port is a number"),
        ("postgres://u:p@[::1/d", "stands in brackets"),
        ("postgres://u:p@[]/d", "stands in brackets"),
        ("postgres://u:p@[::1]s3cret/d", "stands in brackets"),
        ("postgres://u:p@h:0/d", "a port is a number"),
        ("postgres://u:p@h:65536/d", "a port is a number"),
        ("postgres://u:s3cret/x@h/d", "a port is a number"),
        ("postgres://u:p@h1,h2/d?port=1,2,3", "the number of ports"),
        ("postgres://u:p@h1,h2/d?hostaddr=1.2.3.4", "the number of addresses"),
        ("postgres://u:p@h/d?hostaddr=s3cret", "`hostaddr` takes IP addresses"),
        ("postgres://u:p@h/d?hostaddr=1.2.3.4&sslmode=verify-full", "`hostaddr` cannot be used"),
        ("postgres://u:s3cret%@h/d", "the password has a `%`"),
        ("postgres://u:s3cret%zz@h/d", "the password has a `%`"),
        ("postgres://u:s3cret%00@h/d", "the password has a `%`"),
        ("postgres://u:s3cret%ff@h/d", "the password has a `%`"),
        ("postgres://u:p@%40abstract/d", "a host cannot begin with `@`"),
        ("postgres://u:p@h/d?s3cret", "parameters like sslmode=require"),
        ("postgres://u:p@h/d?sslmod=s3cret", "the parameter `sslmod` is not known"),
        ("postgres://u:p@h/d?sslmode=s3cret", "the parameter `sslmode` is disable, allow"),
        ("postgres://u:p@h/d?sslmode=", "the parameter `sslmode` is disable, allow"),
        ("postgres://u:p@h/d?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("postgres://u:p@h/d?sslpassword=s3cret", "the parameter `sslpassword` is not supported"),
        (
            "postgres://u:p@h/d?passfile=/s3cret",
            "`passfile` is not supported: name the file in the variable PGPASSFILE",
        ),
        ("postgres://u:p@h/d?service=s3cret", "the parameter `service` is not supported"),
        ("postgres://u:p@h/d?target_session_attrs=standby", "`target_session_attrs` can have no other value"),
        (
            "postgres://u:p@h/d?channel_binding=require",
            "`channel_binding` can have no other value here than: disable, prefer",
        ),
        ("postgres://u:p@h/d?gssencmode=require", "`gssencmode` can have no other value"),
        ("postgres://u:p@h/d?client_encoding=LATIN1", "`client_encoding` can have no other value"),
        ("postgres://u:p@h/d?load_balance_hosts=random", "`load_balance_hosts` can have no other value"),
        ("postgres://u:p@h/d?replication=database", "`replication` can have no other value"),
        // Here the parameter's name is a part of the password.
        ("postgres://u:1/x?s3cret=y@h/d", "a parameter behind the `?` is not known"),
        ("postgres://u:?s3cret=y", "a parameter behind the `?` is not known"),
        ("postgres://u:1?s3cret=y", "a parameter behind the `?` is not known"),
        ("postgres://u@h/d?password=x&s3cret=y", "a parameter behind the `?` is not known"),
    ] {
        let is = refusal(url);
        assert!(is.contains(says), "{url}: {is}");
        assert!(!is.contains("s3cret"), "{url}: {is}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(url in "(postgres://)?[a-z0-9:/?#@%&=,\\[\\] +ü]{0,60}") {
        let _ = connect_options(&url);
    }

    #[test]
    fn no_refusal_repeats_a_password(
        password in "[ZX1:/?#@%&=,+ \\[\\]-]{1,24}",
        url in prop::sample::select(vec![
            "postgres://u:PW@h/d", "postgres://u:PW@h:5432/d?sslmode=require", "postgres://PW@h/d", "postgres://h/d?password=PW",
            "postgres://u@h/d?password=PW&connect_timeout=1", "postgres:///d?user=u&password=PW&sslmode=PW", "PW",
            "postgres://u:PW", "postgres://u@h?host=PW&sslpassword=PW", "postgres://u@h:PW/d?password=1",
        ]),
    ) {
        if let Err(error) = connect_options(&url.replace("PW", &password)) {
            prop_assert!(!error.to_string().contains(['Z', 'X']), "{}", error);
        }
    }

    #[test]
    fn an_encoded_password_is_what_it_is(password in "[^\0]{1,40}") {
        let encoded = password.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let url = DatabaseUrl::parse(&format!("postgres://u:{encoded}@h/d")).expect("good");
        prop_assert_eq!(url.password, Some(password));
    }
}
