//! The console: pages for people, an API for programs, on a listener of their own.
//!
//! A request passes `guard` first, which decides from the route table (`routes.rs`) alone who may do it:
//! before a handler runs and before a body is read, it knows who asks, of which account or source, and whether that may
//! be. What a handler then does is a use case of [`admin`](crate::admin). Pages and API share use cases, checks and
//! failures; they differ in how they read what is asked and write what came of it.

mod api;
mod assets;
mod chart;
mod cookies;
mod event_query;
mod failure;
mod frame;
mod guard;
mod pages;
mod refusal;
mod routes;
mod terms;
mod visit;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use ipnet::IpNet;
use reqwest::Url;

use crate::admin::audit::Action;
use crate::admin::{Admin, SetUp};
use failure::Failure;
pub use routes::{Access, ROUTES, Route};
use visit::Visit;

/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection stays open: longer than a proxy in front keeps its own.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The largest form or JSON body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Pages are cheap; people are few. What makes a page wait, the database and the hashing of passwords, has its own limits.
const THREADS: usize = 1;

/// What the handlers share.
pub struct Console {
    admin: Arc<Admin>,
    set_up: Arc<SetUp>,
    /// Where people find it: scheme, host and port.
    origin: Url,
    trusted_proxies: Vec<IpNet>,
}

impl Console {
    /// The console under `origin` (scheme, host and port), which believes `X-Forwarded-For` of these proxies.
    #[must_use]
    pub fn new(admin: Arc<Admin>, set_up: Arc<SetUp>, origin: Url, trusted_proxies: Vec<IpNet>) -> Self {
        Self { admin, set_up, origin, trusted_proxies }
    }

    /// Serves it, once the server is run.
    ///
    /// # Errors
    /// Where the listener cannot be used.
    pub fn serve(self, listener: TcpListener) -> io::Result<Server> {
        let console = web::Data::new(self);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(console.clone())
                .configure(failure::read_bodies)
                .configure(routes::configure)
                .default_service(web::to(routes::unrouted))
                .wrap(from_fn(guard::guard))
        });
        let server = server.workers(THREADS).client_request_timeout(HEAD_TIMEOUT).keep_alive(KEEP_ALIVE);
        Ok(server.disable_signals().listen(listener)?.run())
    }

    /// Records what a visitor did: to the account that the request is about, where it is about one.
    ///
    /// # Errors
    /// [`Failure::Unavailable`]: it is done, but not recorded.
    async fn record(&self, visit: &Visit, action: Action, detail: &str) -> Result<(), Failure> {
        let account = visit.account.as_ref().map(|account| account.id);
        Ok(self.admin.record(&visit.actor(), account, action, detail).await?)
    }

    /// Whether its cookies travel over TLS only.
    fn is_secure(&self) -> bool {
        self.origin.scheme() == "https"
    }
}

/// Who came: the peer, or whom a trusted proxy says that it came for. Each proxy adds the address it saw at the right, so
/// the first from there that is no trusted proxy's is the one that nobody could make up.
fn client_address(trusted: &[IpNet], peer: SocketAddr, forwarded_for: &str) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.ip().to_canonical();
    let mut hops = forwarded_for.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>());
    // What is no address was not written by a proxy that can be trusted.
    while is_trusted(&address)
        && let Some(Ok(hop)) = hops.next()
    {
        address = hop.to_canonical();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_nobody_could_make_up() {
        let trusted = [[10, 0, 0, 0].into(), [127, 0, 0, 1].into()]
            .map(|address: IpAddr| IpNet::new(address, if address.is_loopback() { 32 } else { 8 }).expect("a network"));
        let address = |peer: &str, forwarded_for| {
            let peer: IpAddr = peer.parse().expect("an address");
            client_address(&trusted, SocketAddr::new(peer, 1), forwarded_for).to_string()
        };
        assert_eq!(address("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(address("127.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(address("127.0.0.1", "1.2.3.4, 198.51.100.7, 10.1.1.1"), "198.51.100.7");
        assert_eq!(address("127.0.0.1", "1.2.3.4, nonsense"), "127.0.0.1");
        assert_eq!(address("127.0.0.1", "nonsense, 198.51.100.7"), "198.51.100.7");
        assert_eq!(address("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(address("::ffff:127.0.0.1", "::ffff:198.51.100.7"), "198.51.100.7");
    }
}
