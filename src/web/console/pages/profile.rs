//! A person's own page: password, sessions, looks.

use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::super::{Console, cookies};
use super::{client, sign_in, utc};
use crate::admin::audit::Action;
use crate::admin::sessions::{Membership, SessionView, SignInError, SignedIn};
use crate::domain::password::Password;

#[derive(Template)]
#[template(path = "profile.html")]
struct Profile {
    frame: Frame,
    email: String,
    is_operator: bool,
    memberships: Vec<Membership>,
    sessions: Vec<Row>,
    themes: [(&'static str, &'static str); 3],
    error: Option<String>,
}

/// A session in the list.
struct Row {
    session: SessionView,
    is_this: bool,
    browser: String,
    began: String,
    last_seen: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct PasswordForm {
    current: SecretString,
    new: SecretString,
}

/// `GET /profile`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    page(&profile(&console, &visit, None).await?)
}

/// `POST /profile/password`
pub async fn change_password(
    console: Data<Console>,
    visit: Visit,
    request: HttpRequest,
    form: Form<PasswordForm>,
) -> Result<HttpResponse, Failure> {
    let person = person(&visit)?;
    let new = match Password::parse(form.new.expose_secret()) {
        Ok(new) => new,
        Err(error) => return page_again(&profile(&console, &visit, Some(format!("{error}."))).await?),
    };
    match console.admin.change_password(person, &form.current, &new, client(&visit, &request)).await {
        Err(SignInError::Wrong) => {
            let error = "This is not your current password. Nothing was changed.".to_owned();
            return page_again(&profile(&console, &visit, Some(error)).await?);
        }
        changed => changed?,
    }
    console.record(&visit, Action::PasswordChanged, "").await?;
    Ok(see_other("/profile?notice=password-set"))
}

/// `POST /profile/sessions/{session}`
pub async fn end_session(console: Data<Console>, visit: Visit, path: Path<Uuid>) -> Result<HttpResponse, Failure> {
    let person = person(&visit)?;
    if console.admin.sign_out(person.person_id, *path).await? {
        console.record(&visit, Action::SignedOut, "another session").await?;
    }
    Ok(see_other("/profile?notice=session-ended"))
}

/// `POST /profile/sign-out-everywhere`
pub async fn sign_out_everywhere(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let n_ended = console.admin.sign_out_everywhere(person(&visit)?.person_id).await?;
    let detail = format!("{n_ended} sessions");
    console.record(&visit, Action::SignedOutEverywhere, &detail).await?;
    let mut response = see_other("/sign-in?notice=signed-out-everywhere");
    sign_in::set(&mut response, &cookies::no_session(&console.origin))?;
    Ok(response)
}

fn person(visit: &Visit) -> Result<&SignedIn, Failure> {
    visit.person().ok_or(Failure::SignedOut)
}

async fn profile(console: &Console, visit: &Visit, error: Option<String>) -> Result<Profile, Failure> {
    let person = person(visit)?;
    let sessions = console.admin.list_sessions(person.person_id).await?;
    Ok(Profile {
        frame: Frame::new(visit, ""),
        email: person.email.clone(),
        is_operator: person.is_operator,
        memberships: person.memberships.clone(),
        sessions: sessions.into_iter().map(|session| row(person, session)).collect(),
        themes: [("", "As the system has it"), ("light", "Light"), ("dark", "Dark")],
        error,
    })
}

fn row(person: &SignedIn, session: SessionView) -> Row {
    Row {
        is_this: session.session_id == person.session_id,
        browser: session.user_agent.as_deref().map_or_else(|| "An unknown browser".to_owned(), browser),
        began: utc(&session.created_at),
        last_seen: utc(&session.last_seen_at),
        session,
    }
}

/// What a browser calls itself, so that a person knows it again. Nothing is decided by it.
fn browser(user_agent: &str) -> String {
    let first = |names: &[(&str, &'static str)]| {
        names.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    // Most of them claim to be others as well: the more special before the more general.
    let name = first(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(name), None) => name.to_owned(),
        _ => user_agent.chars().take(60).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        for (user_agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
                "Edge on Windows",
            ),
            ("curl/8.5.0", "curl"),
            ("something else", "something else"),
        ] {
            assert_eq!(browser(user_agent), expected);
        }
    }
}
