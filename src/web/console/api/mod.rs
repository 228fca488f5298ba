//! The API, a file a resource. Its fields are those of the command line's `--json`; its document is made from this code.

pub mod accounts;
pub mod audit;
pub mod dead_letters;
pub mod erasures;
pub mod events;
pub mod openapi;
pub mod overview;
pub mod people;
pub mod problems;
pub mod source_requests;
pub mod sources;
pub mod tokens;
pub mod webhooks;

use std::str::FromStr;

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::failure::Failure;
use crate::admin::Listed;

/// How many things a page has, unless it is asked for fewer.
const PAGE: usize = 100;

/// A page of things.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The things.
    pub data: Vec<T>,
    /// What to ask the next page with; null: there is none.
    pub next_cursor: Option<String>,
}

/// How pages are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many, at most.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

impl Paging {
    /// How many, within bounds.
    ///
    /// # Errors
    /// [`Failure::Malformed`].
    fn limit(&self) -> Result<usize, Failure> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=PAGE => Ok(limit),
            _ => Err(Failure::Malformed(format!("`limit` is from 1 to {PAGE}."))),
        }
    }

    /// Where the page before ended.
    ///
    /// # Errors
    /// [`Failure::Malformed`].
    fn cursor<C: FromStr>(&self) -> Result<Option<C>, Failure> {
        let malformed = |_| Failure::Malformed("`cursor` is not one that this API gave.".to_owned());
        self.cursor.as_deref().map(|cursor| cursor.parse().map_err(malformed)).transpose()
    }

    /// The name that the page before ended with; empty: there was none.
    ///
    /// # Errors
    /// [`Failure::Malformed`].
    fn name(&self) -> Result<&str, Failure> {
        match self.cursor.as_deref() {
            Some("") => Err(Failure::Malformed("`cursor` is not one that this API gave.".to_owned())),
            cursor => Ok(cursor.unwrap_or_default()),
        }
    }
}

/// A part of a list, as a page.
fn page_of<T: Serialize, C: ToString>(listed: Listed<T, C>) -> HttpResponse {
    json(&Page { data: listed.data, next_cursor: listed.next.map(|next| next.to_string()) })
}

fn json(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().json(value)
}

fn created(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Created().json(value)
}

fn accepted(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Accepted().json(value)
}

fn done() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// What was sent does not fit the field of this name.
fn invalid(field: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Invalid(format!("`{field}`: {error}."))
}
