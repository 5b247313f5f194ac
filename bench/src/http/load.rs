//! Requests over a number of connections, each of which waits for its answer and then sends the next one, as `wrk` does. The
//! requests are bytes that were made before, so that making them is not measured.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Connections at a time.
pub const CONNECTIONS: usize = 64;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Load {
    pub requests: usize,
    /// Answers that were no success.
    pub refused: usize,
    pub seconds: f64,
    /// Sorted, in milliseconds.
    pub latencies: Vec<f64>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Makes the bytes of a request: `method path`, the token, a body.
pub fn request(head: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    let (method, path) = head.split_once(' ').unwrap_or(("GET", head));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Each connection goes through `requests` from a place of its own, round and round, until the time is over.
pub async fn run(
    address: SocketAddr,
    requests: &Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Load> {
    ensure!(!requests.is_empty(), "there is nothing to be asked");
    let started = Instant::now();
    let end = started + time;
    let tasks: Vec<_> = (0..connections)
        .map(|n| {
            let requests = Arc::clone(requests);
            tokio::spawn(async move { one(address, &requests, n, connections, end).await })
        })
        .collect();
    let (mut latencies, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (own, bad) = task.await??;
        latencies.extend(own);
        refused += bad;
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { requests: latencies.len(), refused, seconds, latencies })
}

async fn one(
    address: SocketAddr,
    requests: &[Vec<u8>],
    first: usize,
    step: usize,
    end: Instant,
) -> anyhow::Result<(Vec<f64>, usize)> {
    let (mut latencies, mut refused) = (Vec::new(), 0);
    let mut connection = None;
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut place = first % requests.len();
    while Instant::now() < end {
        let asked = Instant::now();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(&requests[place]).await?;
        let answer = read(&mut stream, &mut buffer).await?;
        latencies.push(asked.elapsed().as_secs_f64() * 1e3);
        refused += usize::from(!answer.is_success);
        if answer.stays_open {
            connection = Some(stream);
        }
        place = (place + step) % requests.len();
    }
    Ok((latencies, refused))
}

struct Answer {
    is_success: bool,
    stays_open: bool,
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Answer> {
    buffer.clear();
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).context("the head is no text")?.to_ascii_lowercase();
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
    let is_success = text.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    let stays_open = value("connection").is_none_or(|value| value != "close");
    match value("content-length") {
        Some(length) => {
            let whole = head + length.parse::<usize>()?;
            while buffer.len() < whole {
                ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed in the middle of a body");
            }
        }
        None if value("transfer-encoding").is_some() => {
            while !buffer.ends_with(b"0\r\n\r\n") {
                ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed in the middle of a body");
            }
        }
        None => while !stays_open && stream.read_buf(buffer).await? > 0 {},
    }
    Ok(Answer { is_success, stays_open })
}
