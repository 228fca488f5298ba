//! What the operator watches: the backlog, and whether the database is fit to be trusted.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// How much waits in all.
#[derive(Debug)]
pub struct Backlog {
    /// Events that wait.
    pub events: i64,
    /// The age of the oldest of them, in seconds.
    pub oldest_seconds: f64,
    /// Sources that are paused, by an admin or by Segment's answer.
    pub paused_sources: i64,
    /// All sources.
    pub sources: i64,
}

/// A source whose events wait.
#[derive(Debug)]
pub struct SourceBacklog {
    /// The source.
    pub source_id: Uuid,
    /// Its events that wait.
    pub events: i64,
    /// The age of the oldest of them, in seconds.
    pub oldest_seconds: f64,
}

/// The database that a session is with.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Its name.
    pub name: String,
    /// The server's address and port; `None`: a local socket.
    pub address: Option<String>,
    /// The version of PostgreSQL.
    pub version: String,
}

/// What the database is.
///
/// # Errors
/// The database did not answer; try again.
pub async fn server_identity(db: impl PgExecutor<'_>) -> sqlx::Result<ServerIdentity> {
    sqlx::query_as!(
        ServerIdentity,
        r#"select current_database()::text as "name!",
            case when family(inet_server_addr()) = 6 then '[' || host(inet_server_addr()) || ']'
                else host(inet_server_addr()) end || ':' || inet_server_port() as address,
            split_part(current_setting('server_version'), ' ', 1) as "version!""#
    )
    .fetch_one(db)
    .await
}

/// The backlog of all sources together.
///
/// # Errors
/// The database did not answer; try again.
pub async fn backlog(db: impl PgExecutor<'_>) -> sqlx::Result<Backlog> {
    sqlx::query_as!(
        Backlog,
        r#"
        select coalesce(sum(head_seq - cursor_seq - cardinality(done_ahead)), 0)::bigint as "events!", count(*) as "sources!",
            coalesce(extract(epoch from now() - min(oldest.since)), 0)::float8 as "oldest_seconds!",
            count(paused_by) as "paused_sources!"
        from delivery join log_head using (source_id)
        left join lateral (
            select since from event_block
            where event_block.source_id = delivery.source_id and last_seq > cursor_seq and cursor_seq < head_seq
            order by last_seq limit 1
        ) as oldest on true
        "#
    )
    .fetch_one(db)
    .await
}

/// The sources with most events waiting.
///
/// # Errors
/// The database did not answer; try again.
pub async fn worst_sources(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<SourceBacklog>> {
    sqlx::query_as!(
        SourceBacklog,
        r#"
        with worst as (
            select source_id, head_seq - cursor_seq - cardinality(done_ahead) as events, cursor_seq
            from delivery join log_head using (source_id)
            where cursor_seq < head_seq order by head_seq - cursor_seq desc limit $1
        )
        select source_id, events as "events!",
            coalesce(extract(epoch from now() - oldest.since), 0)::float8 as "oldest_seconds!"
        from worst
        left join lateral (
            select since from event_block
            where event_block.source_id = worst.source_id and last_seq > cursor_seq order by last_seq limit 1
        ) as oldest on true
        "#,
        limit
    )
    .fetch_all(db)
    .await
}

/// Whether the database can be reached and has this program's schema, or a newer one.
///
/// # Errors
/// The database did not answer; try again.
pub async fn is_ready(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    let migrator = super::migrator();
    let Some(newest) = migrator.iter().max_by_key(|migration| migration.version) else { return Ok(true) };
    sqlx::query_scalar!(
        r#"select exists (select from _sqlx_migrations where version = $1 and checksum = $2 and success) as "ready!""#,
        newest.version,
        &*newest.checksum,
    )
    .fetch_one(db)
    .await
}

/// Whether the database has this program's schema, or a newer one. Unlike applying the migrations, that needs no right to
/// create anything.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn has_schema(db: &mut PgConnection) -> sqlx::Result<bool> {
    let exists = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#);
    Ok(exists.fetch_one(&mut *db).await? && is_ready(db).await?)
}

/// What must be known of a server before it is used.
#[derive(Debug)]
pub struct Server {
    /// Its version number: 150018 for 15.18.
    pub version: i32,
    /// Whether a crash of the machine may tear its pages.
    pub is_torn: bool,
    /// How the database encodes text. In another than UTF8 not every event can be stored.
    pub encoding: String,
}

/// Asks a server what must be known of it.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn check_server(db: impl PgExecutor<'_>) -> sqlx::Result<Server> {
    sqlx::query_as!(
        Server,
        r#"select current_setting('server_version_num')::int as "version!",
            current_setting('full_page_writes') = 'off' as "is_torn!", current_setting('server_encoding') as "encoding!""#
    )
    .fetch_one(db)
    .await
}
