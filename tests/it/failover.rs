//! A database of two servers: whichever takes writes is used, and nothing acknowledged is lost on the way from one to
//! the other.

use std::time::{Duration, Instant};

use crate::harness::replication::{self, Replication};
use crate::harness::{
    Context, Load, Proxy, REFUSED, Service, Source, address_of, assert_delivered, events, n_repeated, until,
};

/// All recovers within this time once there is a server that takes writes.
const RECOVERED: Duration = Duration::from_secs(15);

/// A pair of servers, and a service that stores on whichever takes writes.
struct Pair {
    servers: Replication,
    context: Context,
    database: String,
}

impl Pair {
    async fn start() -> Self {
        let servers = Replication::start().await;
        let mut context = Context::waiting_on(servers.primary()).await;
        let database = context.options.get_database().expect("one of the test's own").to_owned();
        let url = replication::url(&[servers.primary(), servers.standby()], &database);
        context.set("DATABASE_URL", &url);
        Self { servers, context, database }
    }

    async fn loaded(&self) -> (Source, Service, Load) {
        let source = self.context.source("acme").await;
        let service = self.context.serve().await;
        let load = Load::start(&service, &source, 0);
        load.reach(300).await;
        (source, service, load)
    }

    /// Waits until webhooks are taken again and what was acknowledged is delivered, and says what it cost.
    async fn recovers(&self, what: &str, lost_at: Instant, promoted_at: Instant, service: &Service, load: Load) {
        load.advance().await;
        let (since_loss, since_promotion) = (lost_at.elapsed(), promoted_at.elapsed());
        load.advance().await;
        let sent = load.end().await;
        assert_delivered(&self.context, &sent.acknowledged).await;
        self.context.source_is("acme", |shown| shown["waiting"] == 0).await;
        eprintln!(
            "{what}: 0 of {} acknowledged lost, {} sent again, {} webhooks refused; webhooks taken again {since_loss:?} \
             after the loss, {since_promotion:?} after the promotion; slowest answer {:?}",
            sent.acknowledged.len(),
            n_repeated(&self.context),
            sent.n_refused,
            sent.slowest,
        );
        assert!(since_promotion < RECOVERED, "{since_promotion:?}");
        assert!(sent.slowest < REFUSED, "{:?}", sent.slowest);
        assert_eq!(service.get("/readyz").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_killed_under_load_and_the_promoted_standby_has_all_that_was_acknowledged() {
    let pair = Pair::start().await;
    let (source, service, load) = pair.loaded().await;
    let lost_at = Instant::now();
    pair.servers.kill_primary().await;
    pair.servers.promote_standby().await;
    pair.recovers("primary killed", lost_at, Instant::now(), &service, load).await;
    source.accept(&service, &events(5_000_000..5_000_100)).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primarys_machine_falls_silent_under_load_and_the_standby_is_promoted() {
    let mut pair = Pair::start().await;
    let proxy = Proxy::before_database(pair.servers.primary()).await;
    let behind_proxy = proxy.options(pair.servers.primary());
    pair.context.set("DATABASE_URL", &replication::url(&[&behind_proxy, pair.servers.standby()], &pair.database));
    let (_, service, load) = pair.loaded().await;
    let lost_at = Instant::now();
    proxy.freeze();
    pair.servers.promote_standby().await;
    pair.recovers("primary silent", lost_at, Instant::now(), &service, load).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_address_moves_to_the_promoted_standby() {
    let mut pair = Pair::start().await;
    let proxy = Proxy::before_database(pair.servers.primary()).await;
    let one_address = replication::url(&[&proxy.options(pair.servers.primary())], &pair.database);
    pair.context.set("DATABASE_URL", &one_address);
    let (_, service, load) = pair.loaded().await;
    let lost_at = Instant::now();
    // Nobody says goodbye: the connections lead to a machine that is no more.
    proxy.black_hole_open();
    pair.servers.kill_primary().await;
    pair.servers.promote_standby().await;
    proxy.redirect(address_of(pair.servers.standby()));
    pair.recovers("address moved", lost_at, Instant::now(), &service, load).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_primary_stays_up_read_only_and_the_promoted_standby_is_found() {
    let pair = Pair::start().await;
    let (source, service, load) = pair.loaded().await;
    let lost_at = Instant::now();
    pair.servers.make_primary_read_only().await;
    pair.servers.promote_standby().await;
    pair.recovers("primary read-only", lost_at, Instant::now(), &service, load).await;
    // And it stays with the new one.
    source.accept(&service, &events(5_000_000..5_000_100)).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_change_places_and_the_one_that_takes_writes_is_found_wherever_it_stands_in_the_url() {
    let mut pair = Pair::start().await;
    // The standby first: it answers, and takes no writes.
    let url = replication::url(&[pair.servers.standby(), pair.servers.primary()], &pair.database);
    pair.context.set("DATABASE_URL", &url);
    let (source, service, load) = pair.loaded().await;
    let lost_at = Instant::now();
    pair.servers.switch_over().await;
    pair.recovers("servers changed places", lost_at, Instant::now(), &service, load).await;
    // Commands, too, and a service that starts with a standby before the primary.
    let url = replication::url(&[pair.servers.primary(), pair.servers.standby()], &pair.database);
    pair.context.set("DATABASE_URL", &url);
    let second = pair.context.serve().await;
    source.accept(&second, &events(5_000_000..5_000_100)).await;
    assert_eq!(pair.context.run(&["source", "pause", "acme"]).await["paused_reason"], "paused by an admin");
    assert!(service.terminate().await.success() && second.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_none_that_takes_writes_it_says_so_and_waits_until_there_is_one() {
    let pair = Pair::start().await;
    let (source, service, load) = pair.loaded().await;
    pair.servers.make_primary_read_only().await;
    // The server tells each of its processes, and they heed it before their next statement, but for one that has begun.
    until(async || source.post(&service, &events(5_000_000..5_000_001)).await.status == 503).await;
    until(async || service.get("/readyz").await == 503).await;
    let Err(log) = Service::try_start(&pair.context.env).await else { panic!("it cannot write") };
    assert!(log.lines().any(|line| line.starts_with("error: DATABASE_URL: ")), "{log}");
    let lost_at = Instant::now();
    pair.servers.promote_standby().await;
    pair.recovers("none for a while", lost_at, Instant::now(), &service, load).await;
}
