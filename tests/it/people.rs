//! People, their sessions and links, tokens, and the audit log.

use nudgespot_source::admin::audit::{Action, Actor, ActorKind};
use nudgespot_source::admin::people::{Inviter, Role};
use nudgespot_source::admin::principal::Principal;
use nudgespot_source::admin::sessions::{Client, NewSession, SignInError};
use nudgespot_source::admin::tokens::{TokenRequest, TokensOf};
use nudgespot_source::admin::{Admin, AdminError, NewSource, OpaqueToken};
use nudgespot_source::domain::email_address::EmailAddress;
use nudgespot_source::domain::name::Name;
use nudgespot_source::domain::password::Password;
use nudgespot_source::sources::Kind;
use nudgespot_source::store::retention;
use secrecy::SecretString;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::harness::Context;

const PASSWORD: &str = "correct horse battery";

/// The use cases, on the test's database.
async fn open(context: &Context) -> Admin {
    context.run(&["migrate"]).await;
    context.admin()
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

fn password(text: &str) -> Password {
    Password::parse(text).expect("a password")
}

fn secret(text: &str) -> SecretString {
    text.into()
}

fn from(address: &str) -> Client<'static> {
    Client { address: Some(address.parse().expect("an address")), user_agent: Some("a browser") }
}

async fn account(admin: &Admin, name: &str) -> Uuid {
    let first = NewSource::of(Kind::Nudgespot);
    admin.create_account(&Name::parse(name).expect("a name"), first).await.expect("created").account_id
}

/// Invites somebody, as the command line does, and uses the link.
async fn join(admin: &Admin, account: Uuid, address: &str, role: Role) -> NewSession {
    let invited = admin.invite(account, &email(address), role, Inviter::Operator).await.expect("invited");
    redeem(admin, &invited.link).await
}

async fn operator(admin: &Admin, address: &str) -> NewSession {
    let invited = admin.invite_operator(&email(address)).await.expect("invited");
    redeem(admin, &invited.link).await
}

async fn redeem(admin: &Admin, link: &OpaqueToken) -> NewSession {
    admin.redeem_link(link.expose(), None, &password(PASSWORD), Client::default()).await.expect("a session")
}

async fn counts(admin: &Admin, token: &OpaqueToken) -> bool {
    admin.session(token.expose()).await.expect("an answer").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operator_comes_by_a_link_that_counts_once() {
    let context = Context::new().await;
    let admin = open(&context).await;
    assert!(!admin.has_operator().await.expect("an answer"));
    let link = admin.first_operator_link().await.expect("an answer").expect("there is no operator");
    let other = admin.first_operator_link().await.expect("an answer").expect("there is no operator yet");
    for _ in 0..2 {
        let info = admin.find_link(link.expose()).await.expect("an answer").expect("looking does not use it");
        assert_eq!((info.email, info.has_password), (None, false));
    }
    let (jane, new) = (email("Jane@Example.com"), password(PASSWORD));
    let without = admin.redeem_link(link.expose(), None, &new, Client::default()).await;
    assert!(matches!(without, Err(SignInError::LinkIsVoid)), "{without:?}");
    let session = admin.redeem_link(link.expose(), Some(&jane), &new, Client::default()).await.expect("a session");
    let signed_in = admin.session(session.token.expose()).await.expect("an answer").expect("signed in");
    assert_eq!((signed_in.email.as_str(), signed_in.is_operator), ("jane@example.com", true));
    assert!(admin.has_operator().await.expect("an answer"));
    for void in [link.expose(), other.expose(), "", "nonsense", &"x".repeat(1000)] {
        assert!(admin.find_link(void).await.expect("an answer").is_none(), "{void}");
        let again = admin.redeem_link(void, Some(&jane), &new, Client::default()).await;
        assert!(matches!(again, Err(SignInError::LinkIsVoid)), "{again:?}");
    }
    assert!(admin.first_operator_link().await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_password_gets_a_new_session_and_nobody_else_does() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let acme = account(&admin, "acme").await;
    let first = join(&admin, acme, "jane@example.com", Role::Viewer).await;
    admin.invite(acme, &email("john@example.com"), Role::Admin, Inviter::Operator).await.expect("invited");
    let sign_in = async |email: &str, text: &str| admin.sign_in(email, &secret(text), from("192.0.2.1")).await;
    for (email, text) in [
        ("jane@example.com", "correct horse batterz"),
        ("jane@example.com", ""),
        ("nobody@example.com", PASSWORD),
        ("nonsense\0", PASSWORD),
        // Invited, without a password yet.
        ("john@example.com", PASSWORD),
        ("john@example.com", ""),
    ] {
        let refused = sign_in(email, text).await;
        assert!(matches!(refused, Err(SignInError::Wrong)), "{email}: {refused:?}");
    }
    let second = sign_in(" JANE@example.com", PASSWORD).await.expect("a session");
    assert_ne!(first.token.expose(), second.token.expose());
    assert_eq!(second.token.expose().len(), 22, "128 bits, URL-safe");
    let signed_in = admin.session(second.token.expose()).await.expect("an answer").expect("signed in");
    assert_eq!(signed_in.role_in(acme), Some(Role::Viewer));
    assert_eq!(signed_in.role_in(Uuid::nil()), None);
    assert_eq!(signed_in.memberships[0].account_name, "acme");
    let sessions = admin.list_sessions(signed_in.person_id).await.expect("an answer");
    assert_eq!((sessions.len(), sessions[0].address.as_deref()), (2, Some("192.0.2.1")));

    assert!(admin.sign_out(signed_in.person_id, signed_in.session_id).await.expect("an answer"));
    assert!(!counts(&admin, &second.token).await && counts(&admin, &first.token).await);
    let third = sign_in("jane@example.com", PASSWORD).await.expect("a session");
    assert_eq!(admin.sign_out_everywhere(signed_in.person_id).await.expect("an answer"), 2);
    assert!(!counts(&admin, &first.token).await && !counts(&admin, &third.token).await);
    // A session of somebody else is not there to be ended.
    let fourth = sign_in("jane@example.com", PASSWORD).await.expect("a session");
    let signed_in = admin.session(fourth.token.expose()).await.expect("an answer").expect("signed in");
    assert!(!admin.sign_out(Uuid::nil(), signed_in.session_id).await.expect("an answer"));
    assert!(counts(&admin, &fourth.token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_is_idle_or_a_week_old() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let session = operator(&admin, "jane@example.com").await;
    let age = async |column: &str, ago: &str| {
        context.execute(&format!("update session set {column} = now() - interval '{ago}'")).await;
    };
    age("last_seen_at", "11 hours 59 minutes").await;
    assert!(counts(&admin, &session.token).await);
    let seen: bool = sqlx::query_scalar("select last_seen_at > now() - interval '1 minute' from session")
        .fetch_one(&context.pool)
        .await
        .expect("an answer");
    assert!(seen, "its use was noted");
    // Within the minute it is not written again.
    age("last_seen_at", "50 seconds").await;
    assert!(counts(&admin, &session.token).await);
    let untouched: bool = sqlx::query_scalar("select last_seen_at < now() - interval '45 seconds' from session")
        .fetch_one(&context.pool)
        .await
        .expect("an answer");
    assert!(untouched);
    age("last_seen_at", "12 hours 1 second").await;
    assert!(!counts(&admin, &session.token).await);
    age("last_seen_at", "1 second").await;
    age("created_at", "6 days 23 hours").await;
    assert!(counts(&admin, &session.token).await);
    age("created_at", "7 days 1 second").await;
    assert!(!counts(&admin, &session.token).await);

    context
        .execute(
            "insert into audit_entry (at, actor_kind, actor_name, action, detail)
            values (now() - interval '401 days', 'system', 'x', 'y', 'old'), (now(), 'system', 'x', 'y', 'new')",
        )
        .await;
    admin.invite_operator(&email("john@example.com")).await.expect("invited");
    context.execute("update one_time_link set expires_at = now() - interval '1 second'").await;
    let (now, month) = (OffsetDateTime::now_utc(), std::time::Duration::from_hours(30 * 24));
    retention::forget(&mut context.connection(), now, month).await.expect("done");
    for (table, expected) in [("session", 0), ("one_time_link", 0), ("audit_entry", 1), ("person", 2)] {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        let n: i64 = sqlx::query_scalar(count).fetch_one(&context.pool).await.expect("counted");
        assert_eq!(n, expected, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced_by_a_link_that_ends_all_sessions() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let acme = account(&admin, "acme").await;
    let before = join(&admin, acme, "jane@example.com", Role::Viewer).await;
    let jane = email("jane@example.com");
    let stale = admin.invite(acme, &jane, Role::Admin, Inviter::AccountAdmin).await.expect("invited").link;
    let link = admin.invite(acme, &jane, Role::Admin, Inviter::AccountAdmin).await.expect("invited").link;
    assert!(admin.find_link(stale.expose()).await.expect("an answer").is_none(), "the newer link takes its place");
    let info = admin.find_link(link.expose()).await.expect("an answer").expect("it counts");
    assert_eq!((info.email.as_deref(), info.has_password), (Some("jane@example.com"), true));
    assert_eq!(info.account_name.as_deref(), Some("acme"));
    assert!(counts(&admin, &before.token).await, "until the link is used");
    let new = "another horse battery";
    let after = admin.redeem_link(link.expose(), None, &password(new), Client::default()).await.expect("a session");
    assert!(!counts(&admin, &before.token).await && counts(&admin, &after.token).await);
    let refused = admin.sign_in("jane@example.com", &secret(PASSWORD), Client::default()).await;
    assert!(matches!(refused, Err(SignInError::Wrong)), "{refused:?}");
    admin.sign_in("jane@example.com", &secret(new), Client::default()).await.expect("a session");
    let people = admin.list_people(acme).await.expect("people");
    assert_eq!(people[0].role, "viewer", "a new link changes no role");

    let expired = admin.invite(acme, &jane, Role::Admin, Inviter::Operator).await.expect("invited").link;
    context.execute("update one_time_link set expires_at = now() - interval '1 second'").await;
    assert!(admin.find_link(expired.expose()).await.expect("an answer").is_none());
    let refused = admin.redeem_link(expired.expose(), None, &password(new), Client::default()).await;
    assert!(matches!(refused, Err(SignInError::LinkIsVoid)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_one_account_gets_no_link_into_another() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let (acme, other) = (account(&admin, "acme").await, account(&admin, "other").await);
    let jane = join(&admin, other, "jane@example.com", Role::Admin).await;
    operator(&admin, "root@example.com").await;
    for address in ["jane@example.com", "root@example.com"] {
        let refused = admin.invite(acme, &email(address), Role::Admin, Inviter::AccountAdmin).await;
        assert!(matches!(refused, Err(AdminError::BelongsElsewhere(_))), "{refused:?}");
    }
    assert!(admin.list_people(acme).await.expect("people").is_empty());
    // An operator lets them in; then, too, the account's admin gets no link.
    admin.invite(acme, &email("jane@example.com"), Role::Admin, Inviter::Operator).await.expect("invited");
    let refused = admin.invite(acme, &email("jane@example.com"), Role::Admin, Inviter::AccountAdmin).await;
    assert!(matches!(refused, Err(AdminError::BelongsElsewhere(_))), "{refused:?}");
    let signed_in = admin.session(jane.token.expose()).await.expect("an answer").expect("signed in");
    assert_eq!((signed_in.role_in(acme), signed_in.role_in(other)), (Some(Role::Admin), Some(Role::Admin)));

    // A link that was made when the person belonged to nothing else does not count once that has changed.
    let john = email("john@example.com");
    let link = admin.invite(acme, &john, Role::Admin, Inviter::AccountAdmin).await.expect("invited").link;
    context
        .execute(&format!(
            "insert into membership select '{other}', id, 'admin' from person where email = 'john@example.com'"
        ))
        .await;
    assert!(admin.find_link(link.expose()).await.expect("an answer").is_none());
    let refused = admin.redeem_link(link.expose(), None, &password(PASSWORD), Client::default()).await;
    assert!(matches!(refused, Err(SignInError::LinkIsVoid)), "{refused:?}");
    // An operator's does.
    let link = admin.invite(acme, &john, Role::Admin, Inviter::Operator).await.expect("invited").link;
    redeem(&admin, &link).await;
    let nowhere = admin.invite(Uuid::nil(), &john, Role::Admin, Inviter::Operator).await;
    assert!(matches!(nowhere, Err(AdminError::NoSuchAccount(_))), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_and_the_last_operator_stay() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let acme = account(&admin, "acme").await;
    let jane = join(&admin, acme, "jane@example.com", Role::Admin).await;
    let john = join(&admin, acme, "john@example.com", Role::Viewer).await;
    let (jane_id, john_id) = (jane.person_id, john.person_id);
    let is_last = |done: Result<(), AdminError>| assert!(matches!(done, Err(AdminError::LastAdmin)), "{done:?}");
    is_last(admin.change_role(acme, jane_id, Role::Viewer).await);
    is_last(admin.remove_person(acme, jane_id).await);
    admin.change_role(acme, jane_id, Role::Admin).await.expect("it is so already");
    admin.change_role(acme, john_id, Role::Admin).await.expect("changed");
    // Both at once: one of them stays.
    let (one, two) =
        tokio::join!(admin.change_role(acme, jane_id, Role::Viewer), admin.change_role(acme, john_id, Role::Viewer));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let people = admin.list_people(acme).await.expect("people");
    let last = people.iter().find(|person| person.role == "admin").expect("one admin");
    let viewer = people.iter().find(|person| person.role == "viewer").expect("one viewer");
    is_last(admin.remove_person(acme, last.person_id).await);
    admin.remove_person(acme, viewer.person_id).await.expect("removed");
    let session = if viewer.person_id == jane_id { &jane } else { &john };
    assert!(!counts(&admin, &session.token).await, "who belongs nowhere is forgotten");
    let unknown = admin.remove_person(acme, viewer.person_id).await;
    assert!(matches!(unknown, Err(AdminError::NoSuchPerson(_))), "{unknown:?}");

    let root = operator(&admin, "root@example.com").await;
    let only = admin.remove_operator(root.person_id).await;
    assert!(matches!(only, Err(AdminError::LastOperator)), "{only:?}");
    let invited = admin.invite_operator(&email(&last.email)).await.expect("invited");
    let pending = admin.remove_operator(root.person_id).await;
    assert!(pending.is_ok(), "the other one has a password: {pending:?}");
    assert!(!counts(&admin, &root.token).await);
    assert_eq!(admin.list_operators().await.expect("operators")[0].person_id, invited.person_id);

    admin.delete_account("acme").await.expect("deleted");
    let left: Vec<String> =
        sqlx::query_scalar("select email from person").fetch_all(&context.pool).await.expect("people");
    assert_eq!(left, std::slice::from_ref(&last.email), "the operator, and nobody who belonged to the account alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed_by_who_knows_it_and_other_sessions_end() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let session = operator(&admin, "jane@example.com").await;
    let other = admin.sign_in("jane@example.com", &secret(PASSWORD), Client::default()).await.expect("a session");
    let signed_in = async || admin.session(session.token.expose()).await.expect("an answer").expect("signed in");
    let jane = signed_in().await;
    let now = OffsetDateTime::now_utc();
    assert!(jane.is_password_fresh(now) && !jane.is_password_fresh(now + Duration::minutes(31)));
    context.execute("update session set password_given_at = now() - interval '31 minutes'").await;
    assert!(!signed_in().await.is_password_fresh(now));
    let wrong = admin.confirm_password(&jane, &secret("wrong"), Client::default()).await;
    assert!(matches!(wrong, Err(SignInError::Wrong)), "{wrong:?}");
    assert!(!signed_in().await.is_password_fresh(now));
    admin.confirm_password(&jane, &secret(PASSWORD), Client::default()).await.expect("confirmed");
    assert!(signed_in().await.is_password_fresh(now));

    let new = password("another horse battery");
    let wrong = admin.change_password(&jane, &secret("wrong"), &new, Client::default()).await;
    assert!(matches!(wrong, Err(SignInError::Wrong)), "{wrong:?}");
    admin.change_password(&jane, &secret(PASSWORD), &new, Client::default()).await.expect("changed");
    assert!(counts(&admin, &session.token).await && !counts(&admin, &other.token).await);
    admin.sign_in("jane@example.com", &secret(new.expose()), Client::default()).await.expect("a session");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_try_passwords_wait_and_the_person_does_not() {
    let context = Context::new().await;
    let admin = open(&context).await;
    operator(&admin, "jane@example.com").await;
    admin.sign_in("jane@example.com", &secret(PASSWORD), from("192.0.2.1")).await.expect("a session");
    let mut throttled = None;
    for n in 0..20 {
        let stranger = from(&format!("198.51.100.{n}"));
        match admin.sign_in("jane@example.com", &secret("a guess"), stranger).await {
            Err(SignInError::Wrong) => {}
            Err(SignInError::Throttled(wait)) => throttled = Some(wait),
            other => panic!("{other:?}"),
        }
    }
    assert!(throttled.is_some_and(|wait| wait <= std::time::Duration::from_secs(6)), "{throttled:?}");
    admin.sign_in("jane@example.com", &secret(PASSWORD), from("192.0.2.1")).await.expect("not locked out");
    // An address that nobody has is treated alike.
    let mut is_throttled = false;
    for n in 0..20 {
        let stranger = from(&format!("203.0.113.{n}"));
        let refused = admin.sign_in("nobody@example.com", &secret("a guess"), stranger).await;
        is_throttled |= matches!(refused, Err(SignInError::Throttled(_)));
    }
    assert!(is_throttled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stands_for_its_account_until_it_is_revoked_or_over() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let (acme, other) = (account(&admin, "acme").await, account(&admin, "other").await);
    let create = async |name: &str, account, may_write, expires_at| {
        let request = TokenRequest { name: Name::parse(name).expect("a name"), account, may_write, expires_at };
        admin.create_token(&request, "jane@example.com").await
    };
    let role = async |token: &OpaqueToken, account| {
        let identity = admin.api_token(token.expose()).await.expect("an answer")?;
        Principal::Token(identity).role_in(account)
    };
    let read = create("read", Some(acme), false, None).await.expect("created");
    let write = create("write", Some(acme), true, None).await.expect("created");
    let all = create("all", None, true, None).await.expect("created");
    let soon = OffsetDateTime::now_utc() + Duration::hours(1);
    let timed = create("timed", Some(acme), true, Some(soon)).await.expect("created");
    assert!(read.token.expose().starts_with("nss_") && read.token.expose().len() == 4 + 43);
    for (token, at_acme, at_other) in [
        (&read, Some(Role::Viewer), None),
        (&write, Some(Role::Admin), None),
        (&timed, Some(Role::Admin), None),
        (&all, Some(Role::Admin), Some(Role::Admin)),
    ] {
        assert_eq!((role(&token.token, acme).await, role(&token.token, other).await), (at_acme, at_other));
    }
    context.execute("update api_token set expires_at = now() where name = 'timed'").await;
    assert_eq!(role(&timed.token, acme).await, None);
    assert!(admin.api_token("nss_nonsense").await.expect("an answer").is_none());

    let listed = admin.list_tokens(TokensOf::Account(acme)).await.expect("tokens");
    let named: Vec<_> = listed.iter().map(|token| (token.name.as_str(), token.access, token.is_expired)).collect();
    assert_eq!(named, [("timed", "write", true), ("write", "write", false), ("read", "read", false)]);
    assert!(listed.iter().all(|token| token.last_used_at.is_some() && token.created_by == "jane@example.com"));
    assert_eq!(admin.list_tokens(TokensOf::Everybody).await.expect("tokens").len(), 4);
    let for_all = admin.list_tokens(TokensOf::Operators).await.expect("tokens");
    assert_eq!(for_all.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["all"]);

    let foreign = admin.revoke_token(write.token_id, Some(other)).await;
    assert!(matches!(foreign, Err(AdminError::NoSuchToken(_))), "{foreign:?}");
    let revoked = admin.revoke_token(write.token_id, Some(acme)).await.expect("revoked");
    assert_eq!(revoked, ("write".to_owned(), Some(acme)));
    assert_eq!(role(&write.token, acme).await, None);
    let nowhere = create("lost", Some(Uuid::nil()), true, None).await;
    assert!(matches!(nowhere, Err(AdminError::NoSuchAccount(_))), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_read_page_by_page_and_outlives_what_it_names() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let (acme, other) = (account(&admin, "acme").await, account(&admin, "other").await);
    let address = Some("192.0.2.1".parse().expect("an address"));
    let jane = Actor { name: "jane@example.com".into(), kind: ActorKind::Person, id: Some(Uuid::nil()), address };
    for n in 0..5 {
        admin.record(&jane, Some(acme), Action::SourcePaused, &format!("n. {n}\0")).await.expect("recorded");
    }
    admin.record(&Actor::command_line(), Some(other), Action::AccountDeleted, "other").await.expect("recorded");
    let mut details = Vec::new();
    let mut before = None;
    loop {
        let page = admin.audit_log(Some(acme), before, 2).await.expect("a page");
        details.extend(page.entries.iter().map(|entry| entry.detail.clone()));
        let first = &page.entries[0];
        assert_eq!((first.actor.as_str(), first.address.as_deref()), ("jane@example.com", Some("192.0.2.1")));
        assert_eq!((first.action.as_str(), first.words.as_str()), ("source.pause", "Paused delivery"));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(details, (0..5).rev().map(|n| format!("n. {n}\u{fffd}")).collect::<Vec<_>>());
    assert_eq!(admin.audit_log(None, None, 100).await.expect("a page").entries.len(), 6);
    admin.delete_account("other").await.expect("deleted");
    assert_eq!(admin.audit_log(Some(other), None, 100).await.expect("a page").entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_proves_who_somebody_is_stands_in_the_database() {
    let context = Context::new().await;
    let admin = open(&context).await;
    let acme = account(&admin, "acme").await;
    let session = join(&admin, acme, "jane@example.com", Role::Admin).await;
    let link = admin.invite_operator(&email("john@example.com")).await.expect("invited").link;
    let name = Name::parse("script").expect("a name");
    let request = TokenRequest { name, account: None, may_write: true, expires_at: None };
    let token = admin.create_token(&request, "x").await.expect("created").token;
    let mut dump = String::new();
    for table in ["person", "session", "one_time_link", "api_token", "audit_entry"] {
        let rows = sqlx::AssertSqlSafe(format!("select row_to_json({table})::text from {table}"));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&context.pool).await.expect("rows");
        dump += &rows.join("\n");
    }
    assert!(dump.contains("jane@example.com") && dump.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{dump}");
    for proof in [session.token.expose(), link.expose(), token.expose(), PASSWORD] {
        assert!(!dump.contains(proof) && !dump.contains(&hex::encode(proof)), "{proof}");
    }
}
