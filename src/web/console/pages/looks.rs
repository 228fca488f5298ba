//! How a person wants the pages to look and to listen. Kept by the browser, so that it holds before anybody signs in.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::frame::{KEYS_COOKIE, THEME_COOKIE, see_other};
use super::super::{Console, cookies};
use super::sign_in::set;

/// What the profile's page sends.
#[derive(Deserialize)]
pub struct Looks {
    /// `light`, `dark`, or as the system.
    theme: String,
    /// There where the keys are wanted.
    keys: Option<String>,
}

/// `POST /profile/looks`
pub async fn choose(console: Data<Console>, looks: Form<Looks>) -> Result<HttpResponse, Failure> {
    let theme = ["light", "dark"].into_iter().find(|theme| *theme == looks.theme).unwrap_or_default();
    let keys = if looks.keys.is_some() { "" } else { "off" };
    let mut response = see_other("/profile?notice=saved");
    set(&mut response, &cookies::choice(&console.origin, THEME_COOKIE, theme))?;
    set(&mut response, &cookies::choice(&console.origin, KEYS_COOKIE, keys))?;
    Ok(response)
}
