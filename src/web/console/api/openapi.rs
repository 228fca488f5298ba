//! The document of the API, and what all operations have in common.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::{accounts, audit, dead_letters, erasures, events, overview, people, problems, sources, tokens, webhooks};

/// Why a request was not done (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    r#type: String,
    /// What happened, in few words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A word for programs, which stays as it is.
    code: String,
    /// What it means, and what to do.
    detail: String,
}

/// What any operation may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described, never made")]
pub enum Problems {
    /// It cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// No token, or none that counts.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The token may not do this.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// It is not there, or of another account.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// Called by another name than `CONSOLE_URL`.
    #[response(status = 421, content_type = "application/problem+json")]
    WrongHost(Problem),
    /// Too many at a time.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// The database does not answer, or is busy. Nothing is lost.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// What an operation that changes something may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described, never made")]
pub enum ChangeProblems {
    /// It does not fit what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// It cannot be.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Nudgespot Source", description = "Everything that the console does."),
    paths(
        accounts::list,
        accounts::create,
        accounts::show,
        accounts::rename,
        accounts::delete,
        people::list,
        people::invite,
        people::change_role,
        people::remove,
        people::list_operators,
        people::invite_operator,
        people::remove_operator,
        tokens::list,
        tokens::create,
        tokens::revoke,
        tokens::list_for_all,
        tokens::create_for_all,
        tokens::revoke_for_all,
        audit::list,
        audit::list_all,
        sources::list,
        sources::add,
        sources::show,
        sources::edit,
        sources::delete,
        sources::pause,
        sources::resume,
        sources::rotate_secret,
        sources::end_previous_secret,
        sources::rotate_url,
        sources::send_test_events,
        overview::show,
        overview::traffic,
        overview::acknowledge_quiet,
        overview::rotate_status_address,
        events::list,
        events::show,
        events::export,
        dead_letters::list,
        dead_letters::replay,
        dead_letters::replays,
        dead_letters::show_replay,
        dead_letters::cancel_replay,
        problems::show,
        problems::last_key_check,
        problems::check_key,
        webhooks::refused,
        webhooks::judge,
        erasures::erase,
        erasures::list,
        erasures::show,
    ),
    security(("token" = [])),
    modifiers(&BearerToken)
)]
struct Document;

/// How requests prove who they are.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("`nss_…`, from the console's page \"API tokens\" or `token create`"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// `GET /api/v1/openapi.json`
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().json(Document::openapi())
}
