//! PostgreSQL's own limit for the same bytes: COPY into a table without an index.

use std::fmt::Write;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::processes::Program;

/// Copies rows like those of the log for so long; returns rows a second.
pub async fn run(program: &Program, duration: Duration) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect_with(&program.database()?).await?;
    connection.execute("create table bench_copy (source_id uuid, seq bigint, message_id uuid, received_at timestamptz, kind smallint, event_id text, track text)").await?;
    let began = Instant::now();
    let mut n_rows = 0u64;
    while began.elapsed() < duration {
        let mut copy = connection.copy_in_raw("copy bench_copy from stdin").await?;
        let mut rows = String::new();
        for _ in 0..2_048 {
            n_rows += 1;
            writeln!(
                rows,
                "00000000-0000-4000-8000-000000000001\t{n_rows}\t{}\t2016-01-27 09:15:00+00\t3\tevt_{n_rows:016x}\t{}",
                uuid::Uuid::from_u128(u128::from(n_rows)),
                "x".repeat(430)
            )?;
        }
        copy.send(rows.as_bytes()).await?;
        copy.finish().await?;
    }
    let rate = n_rows as f64 / began.elapsed().as_secs_f64();
    connection.execute("drop table bench_copy").await?;
    connection.close().await?;
    Ok(rate)
}
