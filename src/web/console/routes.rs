//! Every page and API operation: its method, its path, who may ask for it, and what answers. There are no others, and
//! [`guard`](super::guard) knows a request's rights from here alone: a new route says whom it is for, or does not compile.

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use super::failure::Failure;
use super::{api, assets, pages};

/// Who may ask for a route. What a path begins with says of which account it is: `/accounts/{account}/…`,
/// `/sources/{source}/…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Whoever is signed in, or has a token.
    SignedIn,
    /// Those who may see the account.
    View,
    /// Those who may change it: its admins, and operators.
    Change,
    /// Operators.
    Operator,
}

/// A page's or an operation's place.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each says it by its name")]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
}

macro_rules! routes {
    ($($method:ident $path:literal $access:ident => $handler:path;)*) => {
        /// All routes.
        pub const ROUTES: &[Route] =
            &[$(Route { method: stringify!($method), path: $path, access: Access::$access }),*];

        /// Has the routes answered.
        pub(super) fn configure(config: &mut ServiceConfig) {
            $(config.route($path, web::$method().to($handler));)*
        }
    };
}

routes! {
    get "/static/{hash}/{name}" Public => assets::file;
    get "/" SignedIn => pages::home::show;
    get "/status/{token}" Public => pages::status::show;
    head "/status/{token}" Public => pages::status::show;

    get "/sign-in" Public => pages::sign_in::show;
    post "/sign-in" Public => pages::sign_in::submit;
    post "/sign-out" Public => pages::sign_in::sign_out;
    get "/links/{token}" Public => pages::link::show;
    post "/links/{token}" Public => pages::link::redeem;
    get "/confirm" SignedIn => pages::confirm::show;
    post "/confirm" SignedIn => pages::confirm::submit;
    get "/profile" SignedIn => pages::profile::show;
    post "/profile/looks" SignedIn => pages::looks::choose;
    post "/profile/password" SignedIn => pages::profile::change_password;
    post "/profile/sessions/{session}" SignedIn => pages::profile::end_session;
    post "/profile/sign-out-everywhere" SignedIn => pages::profile::sign_out_everywhere;
    get "/profile/leave/{membership}" SignedIn => pages::leave::ask;
    post "/profile/leave/{membership}" SignedIn => pages::leave::leave;

    get "/operator" Operator => pages::operator::show;
    get "/operator/new-account" Operator => pages::operator::new_account;
    post "/operator/new-account" Operator => pages::operator::create_account;
    post "/operator/invite" Operator => pages::operator::invite;
    get "/operator/people/{person}" Operator => pages::operators::show;
    post "/operator/people/{person}/link" Operator => pages::operators::make_link;
    post "/operator/people/{person}/remove" Operator => pages::operators::remove;
    get "/operator/tokens" Operator => pages::tokens::show;
    get "/operator/new-token" Operator => pages::tokens::ask_new;
    post "/operator/new-token" Operator => pages::tokens::create;
    get "/operator/tokens/{token}" Operator => pages::tokens::ask_revoke;
    post "/operator/tokens/{token}" Operator => pages::tokens::revoke;
    get "/operator/shown-once/{id}" Operator => pages::shown_once::show;
    get "/operator/audit" Operator => pages::audit::show;

    get "/accounts/{account}" View => pages::account::show;
    get "/accounts/{account}/new-source" Change => pages::account::new_source;
    post "/accounts/{account}/new-source" Change => pages::account::add_source;
    get "/accounts/{account}/rename" Change => pages::account_settings::ask_name;
    post "/accounts/{account}/rename" Change => pages::account_settings::rename;
    get "/accounts/{account}/delete" Operator => pages::account_settings::ask_delete;
    post "/accounts/{account}/delete" Operator => pages::account_settings::delete;
    get "/accounts/{account}/people" View => pages::people::show;
    get "/accounts/{account}/invite" Change => pages::people::ask_invite;
    post "/accounts/{account}/invite" Change => pages::people::invite;
    get "/accounts/{account}/people/{person}" Change => pages::people::person;
    post "/accounts/{account}/people/{person}/role" Change => pages::people::change_role;
    post "/accounts/{account}/people/{person}/link" Change => pages::people::make_link;
    post "/accounts/{account}/people/{person}/remove" Change => pages::people::remove;
    get "/accounts/{account}/tokens" View => pages::tokens::show;
    get "/accounts/{account}/new-token" Change => pages::tokens::ask_new;
    post "/accounts/{account}/new-token" Change => pages::tokens::create;
    get "/accounts/{account}/tokens/{token}" Change => pages::tokens::ask_revoke;
    post "/accounts/{account}/tokens/{token}" Change => pages::tokens::revoke;
    get "/accounts/{account}/shown-once/{id}" Change => pages::shown_once::show;
    get "/accounts/{account}/audit" View => pages::audit::show;

    get "/sources/{source}" View => pages::overview::show;
    post "/sources/{source}/acknowledge-quiet" Change => pages::overview::acknowledge_quiet;
    post "/sources/{source}/rotate-status-address" Change => pages::overview::rotate_status_address;
    get "/sources/{source}/events" View => pages::events::show;
    get "/sources/{source}/events/{event_id}" View => pages::journey::show;
    get "/sources/{source}/export" View => pages::events::export;
    get "/accounts/{account}/erase" View => pages::erase::show;
    post "/accounts/{account}/erase" Change => pages::erase::start;
    get "/accounts/{account}/erase/{erasure}" View => pages::erase::receipt;

    get "/sources/{source}/problems" View => pages::problems::show;
    post "/sources/{source}/replays" Change => pages::replays::start;
    get "/sources/{source}/replays/{replay}" View => pages::replays::show;
    post "/sources/{source}/replays/{replay}/cancel" Change => pages::replays::cancel;
    get "/sources/{source}/doctor" View => pages::doctor::show;
    post "/sources/{source}/doctor" View => pages::doctor::judge;
    get "/sources/{source}/set-up" View => pages::set_up::show;
    post "/sources/{source}/set-up/write-key" Change => pages::set_up::save_write_key;
    post "/sources/{source}/set-up/nudgespot-key" Change => pages::set_up_calls::save_key;
    post "/sources/{source}/set-up/check-key" Change => pages::set_up::check_key;
    post "/sources/{source}/set-up/signing-secret" Change => pages::set_up::save_signing_secret;
    post "/sources/{source}/set-up/test-events" Change => pages::set_up::send_test_events;
    get "/sources/{source}/settings" View => pages::settings::show;
    post "/sources/{source}/settings" Change => pages::settings::save;
    post "/sources/{source}/pause" Change => pages::settings::pause;
    post "/sources/{source}/resume" Change => pages::settings::resume;
    get "/sources/{source}/rotate-secret" Change => pages::rotation::ask_secret;
    post "/sources/{source}/rotate-secret" Change => pages::rotation::rotate_secret;
    get "/sources/{source}/end-previous-secret" Change => pages::rotation::ask_end_previous;
    post "/sources/{source}/end-previous-secret" Change => pages::rotation::end_previous;
    get "/sources/{source}/rotate-url" Change => pages::rotation::ask_url;
    post "/sources/{source}/rotate-url" Change => pages::rotation::rotate_url;
    get "/sources/{source}/shown-once/{id}" Change => pages::shown_once::show;
    get "/sources/{source}/delete" Change => pages::settings::ask_delete;
    post "/sources/{source}/delete" Change => pages::settings::delete;

    get "/api/v1/openapi.json" Public => api::openapi::document;
    get "/api/v1/accounts" SignedIn => api::accounts::list;
    post "/api/v1/accounts" Operator => api::accounts::create;
    get "/api/v1/accounts/{account}" View => api::accounts::show;
    patch "/api/v1/accounts/{account}" Change => api::accounts::rename;
    delete "/api/v1/accounts/{account}" Operator => api::accounts::delete;
    get "/api/v1/accounts/{account}/sources" View => api::sources::list;
    post "/api/v1/accounts/{account}/sources" Change => api::sources::add;
    get "/api/v1/accounts/{account}/people" View => api::people::list;
    post "/api/v1/accounts/{account}/people" Change => api::people::invite;
    patch "/api/v1/accounts/{account}/people/{person}" Change => api::people::change_role;
    delete "/api/v1/accounts/{account}/people/{person}" Change => api::people::remove;
    get "/api/v1/accounts/{account}/tokens" View => api::tokens::list;
    post "/api/v1/accounts/{account}/tokens" Change => api::tokens::create;
    delete "/api/v1/accounts/{account}/tokens/{token}" Change => api::tokens::revoke;
    get "/api/v1/accounts/{account}/audit" View => api::audit::list;
    get "/api/v1/operators" Operator => api::people::list_operators;
    post "/api/v1/operators" Operator => api::people::invite_operator;
    delete "/api/v1/operators/{person}" Operator => api::people::remove_operator;
    get "/api/v1/tokens" Operator => api::tokens::list_for_all;
    post "/api/v1/tokens" Operator => api::tokens::create_for_all;
    delete "/api/v1/tokens/{token}" Operator => api::tokens::revoke_for_all;
    get "/api/v1/audit" Operator => api::audit::list_all;
    get "/api/v1/sources/{source}" View => api::sources::show;
    patch "/api/v1/sources/{source}" Change => api::sources::edit;
    delete "/api/v1/sources/{source}" Change => api::sources::delete;
    get "/api/v1/sources/{source}/overview" View => api::overview::show;
    get "/api/v1/sources/{source}/traffic" View => api::overview::traffic;
    post "/api/v1/sources/{source}/acknowledge-quiet" Change => api::overview::acknowledge_quiet;
    post "/api/v1/sources/{source}/rotate-status-address" Change => api::overview::rotate_status_address;
    get "/api/v1/sources/{source}/events" View => api::events::list;
    get "/api/v1/sources/{source}/events/{event_id}" View => api::events::show;
    get "/api/v1/sources/{source}/export" View => api::events::export;
    post "/api/v1/sources/{source}/pause" Change => api::sources::pause;
    post "/api/v1/sources/{source}/resume" Change => api::sources::resume;
    post "/api/v1/sources/{source}/rotate-secret" Change => api::sources::rotate_secret;
    post "/api/v1/sources/{source}/end-previous-secret" Change => api::sources::end_previous_secret;
    post "/api/v1/sources/{source}/rotate-url" Change => api::sources::rotate_url;
    post "/api/v1/sources/{source}/test-events" Change => api::sources::send_test_events;
    get "/api/v1/sources/{source}/write-key-check" View => api::problems::last_key_check;
    post "/api/v1/sources/{source}/write-key-check" Change => api::problems::check_key;
    get "/api/v1/sources/{source}/problems" View => api::problems::show;
    get "/api/v1/sources/{source}/dead-letters" View => api::dead_letters::list;
    post "/api/v1/sources/{source}/dead-letters/replay" Change => api::dead_letters::replay;
    get "/api/v1/sources/{source}/replays" View => api::dead_letters::replays;
    get "/api/v1/sources/{source}/replays/{replay}" View => api::dead_letters::show_replay;
    post "/api/v1/sources/{source}/replays/{replay}/cancel" Change => api::dead_letters::cancel_replay;
    get "/api/v1/sources/{source}/refused-webhooks" View => api::webhooks::refused;
    post "/api/v1/sources/{source}/judge-signature" View => api::webhooks::judge;
    post "/api/v1/accounts/{account}/erase" Change => api::erasures::erase;
    get "/api/v1/accounts/{account}/erasures" View => api::erasures::list;
    get "/api/v1/accounts/{account}/erasures/{erasure}" View => api::erasures::show;
}

/// The route that a request is for, and what its path holds in the place of `{account}` or `{source}`.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Option<(Route, Place<'p>)> {
    let route = ROUTES.iter().find(|route| is_method(method, route) && matches(route.path, path))?;
    Some((*route, Place::of(route.path, path)))
}

/// What a path is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'p> {
    Nowhere,
    Account(&'p str),
    Source(&'p str),
}

impl<'p> Place<'p> {
    fn of(pattern: &str, path: &'p str) -> Self {
        pattern.split('/').zip(path.split('/')).fold(Self::Nowhere, |place, (pattern, part)| match pattern {
            "{account}" => Self::Account(part),
            "{source}" => Self::Source(part),
            _ => place,
        })
    }
}

/// What no route answers.
pub(super) async fn unrouted(request: HttpRequest) -> Result<HttpResponse, Failure> {
    let there = ROUTES.iter().filter(|route| matches(route.path, request.match_info().as_str()));
    let methods: Vec<String> = there.map(|route| route.method.to_uppercase()).collect();
    if methods.is_empty() {
        return Err(Failure::NotFound);
    }
    Err(Failure::MethodNotAllowed(methods.join(", ")))
}

fn is_method(method: &Method, route: &Route) -> bool {
    route.method.eq_ignore_ascii_case(method.as_str())
}

fn matches(pattern: &str, path: &str) -> bool {
    pattern.split('/').count() == path.split('/').count()
        && pattern
            .split('/')
            .zip(path.split('/'))
            .all(|(pattern, part)| if pattern.starts_with('{') { !part.is_empty() } else { pattern == part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_is_about_says_who_may_ask() {
        for route in ROUTES {
            let is_scoped = Place::of(route.path, route.path) != Place::Nowhere;
            let needs_scope = matches!(route.access, Access::View | Access::Change);
            assert!(is_scoped || !needs_scope, "{} is for people of an account, but names none", route.path);
            assert!(
                !is_scoped || route.access != Access::Public,
                "{} names an account, but is for anybody",
                route.path
            );
        }
    }

    #[test]
    fn no_route_hides_another() {
        for (n, route) in ROUTES.iter().enumerate() {
            let first = ROUTES.iter().position(|other| other.method == route.method && matches(other.path, route.path));
            assert_eq!(first, Some(n), "{}", route.path);
        }
    }
}
