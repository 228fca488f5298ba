//! The HTTP servers, and how they end without cutting off a webhook.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::health;
use super::problem::Problem;
use super::state::State;
use super::webhook;

/// How long browsers remember that they may send calls here: the longest that they do.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(24);
/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the webhooks in flight have to be answered when the service stops.
const DRAIN_SECS: u64 = 9;
/// How much longer the servers' threads may take to end.
const STOP: Duration = Duration::from_secs(2);

/// The servers, bound.
pub struct Servers {
    state: web::Data<State>,
    /// The address of webhooks and health.
    pub public: SocketAddr,
    /// The address of metrics.
    pub internal: SocketAddr,
    handle: ServerHandle,
    /// Of those that nobody loses anything by when they end.
    others: Vec<ServerHandle>,
    /// Until they are taken to be run.
    unstarted: Vec<(&'static str, Server)>,
}

impl Servers {
    /// Binds the addresses of webhooks and metrics. Idle connections for webhooks stay open for `keep_alive`.
    ///
    /// # Errors
    /// Where an address cannot be bound, with the variable that names it.
    pub fn bind(
        state: State,
        public: SocketAddr,
        internal: SocketAddr,
        keep_alive: Duration,
    ) -> Result<Self, (&'static str, io::Error)> {
        let state = web::Data::new(state);
        let shared = state.clone();
        let public = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                // A prefix: matching a pattern would cost a regular expression for each webhook.
                .service(web::scope("/webhooks").default_service(web::to(webhook::receive)))
                .service(web::scope("/v1").wrap(any_origin()).default_service(web::to(webhook::receive_sdk)))
                .route("/healthz", web::get().to(health::healthz))
                .route("/readyz", web::get().to(health::readyz))
                .default_service(web::to(async || Err::<&str, _>(Problem::NotFound)))
        })
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(keep_alive)
        .shutdown_timeout(DRAIN_SECS)
        .disable_signals()
        .bind(public)
        .map_err(|error| ("BIND", error))?;
        let shared = state.clone();
        let internal = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/metrics", web::get().to(health::metrics))
                .default_service(web::to(async || Err::<&str, _>(Problem::NotFound)))
        })
        .workers(1)
        .disable_signals()
        .bind(internal)
        .map_err(|error| ("INTERNAL_BIND", error))?;
        let no_address = || io::Error::other("bound to no address");
        let (public_address, internal_address) = (public.addrs(), internal.addrs());
        let (public, internal) = (public.run(), internal.run());
        Ok(Self {
            public: *public_address.first().ok_or_else(|| ("BIND", no_address()))?,
            internal: *internal_address.first().ok_or_else(|| ("INTERNAL_BIND", no_address()))?,
            state,
            handle: public.handle(),
            others: vec![internal.handle()],
            unstarted: vec![("the server of webhooks", public), ("the server of metrics", internal)],
        })
    }

    /// Adds a server that may be cut off when the service stops.
    pub fn add(&mut self, name: &'static str, server: Server) {
        self.others.push(server.handle());
        self.unstarted.push((name, server));
    }

    /// The servers, by name, to be run until they end.
    pub fn take(&mut self) -> Vec<(&'static str, Server)> {
        std::mem::take(&mut self.unstarted)
    }

    /// Takes no new connections, closes idle ones, answers the webhooks in flight, and ends the servers. What has not been
    /// answered in time is cut off: its sender was promised nothing, and will send again.
    pub async fn stop(self) {
        let Self { state, handle: public, others, .. } = self;
        state.stop();
        drop(state);
        let stop = async { tokio::join!(public.stop(true), join_all(others.iter().map(|other| other.stop(false)))) };
        if timeout(Duration::from_secs(DRAIN_SECS) + STOP, stop).await.is_err() {
            tracing::warn!("a server did not stop in time");
        }
    }
}

/// Pages of any origin may send calls: who they are for, their key says. Browsers send no credentials along.
fn any_origin() -> Cors {
    let max_age = usize::try_from(PREFLIGHT_MAX_AGE.as_secs()).ok();
    Cors::default().allow_any_origin().send_wildcard().allowed_methods(["POST"]).allow_any_header().max_age(max_age)
}
