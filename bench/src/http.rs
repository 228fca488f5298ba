//! As little HTTP/1.1 as a benchmark needs: what the load generator and the sink spend is not the program's.

use anyhow::{Context, bail};
use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A message's head as text, and its body.
pub struct Message {
    pub head_end: usize,
    pub body_end: usize,
}

/// Reads one message into `buffer`, which may hold the beginning of it; `None` at the end of the connection.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Option<Message>> {
    loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            let head_end = end + 4;
            let body_end = head_end + content_length(&buffer[..end])?;
            buffer.reserve(body_end.saturating_sub(buffer.len()));
            while buffer.len() < body_end {
                if stream.read_buf(buffer).await? == 0 {
                    bail!("the connection ended within a body");
                }
            }
            return Ok(Some(Message { head_end, body_end }));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            return std::str::from_utf8(&line[15..])?.trim().parse().context("a length");
        }
    }
    bail!("a message without a length: {}", String::from_utf8_lossy(head))
}
