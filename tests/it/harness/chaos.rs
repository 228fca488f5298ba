//! A TCP proxy that misbehaves on demand: what networks, firewalls and dying machines do to connections.

use std::net::SocketAddr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Stands before a server. Passes everything on until told otherwise; ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    conduct: watch::Sender<Conduct>,
    acceptor: JoinHandle<()>,
}

/// How the proxy treats its connections. They are numbered as they come.
#[derive(Clone, Copy)]
struct Conduct {
    mode: Mode,
    /// Where new connections lead.
    target: SocketAddr,
    n_accepted: u64,
    /// Connections below this number pass no byte ever again, and are never closed.
    black_holes_below: u64,
    /// Connections below this number are closed.
    closed_below: u64,
}

#[derive(Clone, Copy)]
enum Mode {
    Pass,
    Freeze,
    Refuse,
    Delay(Duration),
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1, before the server at `target`.
    pub async fn before(target: SocketAddr) -> Self {
        Self::bind(([127, 0, 0, 1], 0).into(), target).await
    }

    /// A proxy that listens at `address`, before the server at `target`.
    pub async fn bind(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let conduct = Conduct { mode: Mode::Pass, target, n_accepted: 0, black_holes_below: 0, closed_below: 0 };
        let conduct = watch::Sender::new(conduct);
        let acceptor = tokio::spawn(accept(listener, conduct.clone()));
        Self { address, conduct, acceptor }
    }

    /// A proxy before a PostgreSQL server.
    pub async fn before_database(server: &PgConnectOptions) -> Self {
        Self::before(address_of(server)).await
    }

    /// How to connect to the server through the proxy.
    pub fn options(&self, server: &PgConnectOptions) -> PgConnectOptions {
        server.clone().host(&self.address.ip().to_string()).port(self.address.port())
    }

    /// Everything is passed on, also what was held back, but for what is lost in black holes.
    pub fn pass(&self) {
        self.conduct.send_modify(|conduct| conduct.mode = Mode::Pass);
    }

    /// No byte passes, either way, on old connections or new ones. They stay open, and what comes is held back.
    pub fn freeze(&self) {
        self.conduct.send_modify(|conduct| conduct.mode = Mode::Freeze);
    }

    /// The connections that are open now pass no byte ever again and are never closed, as when the other end has moved
    /// to another machine under the same address. New ones work.
    pub fn black_hole_open(&self) {
        self.conduct.send_modify(|conduct| conduct.black_holes_below = conduct.n_accepted);
    }

    /// New connections lead to the server at `target`, as when an address moves to another machine.
    pub fn redirect(&self, target: SocketAddr) {
        self.conduct.send_modify(|conduct| conduct.target = target);
    }

    /// Closes all connections. New ones work.
    pub fn cut(&self) {
        self.conduct.send_modify(|conduct| conduct.closed_below = conduct.n_accepted);
    }

    /// New connections are closed at once. Old ones work.
    pub fn refuse(&self) {
        self.conduct.send_modify(|conduct| conduct.mode = Mode::Refuse);
    }

    /// Whatever passes takes so long, either way.
    pub fn delay(&self, delay: Duration) {
        self.conduct.send_modify(|conduct| conduct.mode = Mode::Delay(delay));
    }

    /// How many connections there have been.
    pub fn n_accepted(&self) -> u64 {
        self.conduct.borrow().n_accepted
    }
}

/// Where a PostgreSQL server listens.
pub fn address_of(server: &PgConnectOptions) -> SocketAddr {
    SocketAddr::new(server.get_host().parse().expect("an address"), server.get_port())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, conduct: watch::Sender<Conduct>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if matches!(conduct.borrow().mode, Mode::Refuse) {
            continue;
        }
        let mut number = 0;
        conduct.send_modify(|conduct| {
            number = conduct.n_accepted;
            conduct.n_accepted += 1;
        });
        tokio::spawn(connect(client, Gate { number, conduct: conduct.subscribe() }));
    }
}

async fn connect(client: TcpStream, mut gate: Gate) {
    let Some(()) = gate.open().await else { return };
    let target = gate.conduct.borrow().target;
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Delays are for the test to choose.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(pump(from_client, to_server, gate.clone()), pump(from_server, to_client, gate));
}

/// Passes bytes on, one way, until the connection ends or is closed.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: Gate) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = gate.closed() => return,
        };
        // An end is held back as bytes are.
        let Some(()) = gate.open().await else { return };
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        tokio::select! {
            written = to.write_all(&buffer[..read]) => if written.is_err() { return },
            () = gate.closed() => return,
        }
    }
}

/// What stops a connection's bytes, or lets them through.
#[derive(Clone)]
struct Gate {
    number: u64,
    conduct: watch::Receiver<Conduct>,
}

impl Gate {
    /// Waits until a byte may pass. `None`: the connection is to be closed.
    async fn open(&mut self) -> Option<()> {
        let number = self.number;
        let decided = |conduct: &Conduct| {
            let is_held = matches!(conduct.mode, Mode::Freeze) || number < conduct.black_holes_below;
            number < conduct.closed_below || !is_held
        };
        let conduct = *self.conduct.wait_for(decided).await.ok()?;
        if let Mode::Delay(delay) = conduct.mode {
            tokio::time::sleep(delay).await;
        }
        (number >= conduct.closed_below).then_some(())
    }

    /// Waits until the connection is to be closed.
    async fn closed(&mut self) {
        let number = self.number;
        // The proxy is gone: that is an end as well.
        let _ = self.conduct.wait_for(|conduct| number < conduct.closed_below).await;
    }
}
