//! A TCP proxy in front of a server, for faults of the network between two processes: silence, an answer that is lost
//! after the question arrived.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::process::lock;

/// What happens to bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// They go through.
    Open,
    /// They are kept back, in both directions, until the line is open again; nobody is told.
    Silent,
}

/// A running proxy. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    /// How many answers are still to be lost, and to which question.
    losing: AtomicUsize,
    question: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and leads to `server`, a port of it.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (line, watched) = watch::channel(Line::Open);
        let shared = Arc::new(Shared { losing: AtomicUsize::new(0), question: Mutex::default() });
        let stop = CancellationToken::new();
        let (accepting, for_all) = (shared.clone(), stop.clone());
        tokio::spawn(for_all.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = connect(client, server, watched.clone(), accepting.clone());
                tokio::spawn(for_all.clone().run_until_cancelled_owned(connection));
            }
        }));
        Ok(Self { port, line, shared, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything goes through from now on.
    pub fn open(&self) {
        self.line.send_replace(Line::Open);
    }

    /// Nothing goes through any more, and nobody is told.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// The next `times` that `question` goes to the server, the connection ends before the answer comes back.
    pub fn lose_answers(&self, question: &str, times: usize) {
        *lock(&self.shared.question) = question.as_bytes().to_vec();
        self.shared.losing.store(times, Ordering::SeqCst);
    }

    /// How many answers are still to be lost.
    #[must_use]
    pub fn still_losing(&self) -> usize {
        self.shared.losing.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn loses_the_answer_to(&self, bytes: &[u8]) -> bool {
        if self.losing.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let question = lock(&self.question);
        let asked = bytes.windows(question.len().max(1)).any(|part| part == question.as_slice());
        let lose = |left: usize| left.checked_sub(1);
        asked && self.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok()
    }
}

async fn connect(client: TcpStream, server: u16, line: watch::Receiver<Line>, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let lost = CancellationToken::new();
    let forward = pump(from_client, to_server, line.clone(), |bytes| {
        if shared.loses_the_answer_to(bytes) {
            lost.cancel();
        }
        true
    });
    // The answer has arrived here, so the server has done what it was asked for.
    let backward = pump(from_server, to_client, line, |_| !lost.is_cancelled());
    tokio::select! {
        _ = forward => {}
        _ = backward => {}
    }
}

/// Until either side ends, or `pass` says no.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    mut pass: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        // A proxy that is dropped lets go of the line; the connection ends with it.
        let _ = line.wait_for(|line| *line != Line::Silent).await;
        if length == 0 || !pass(&buffer[..length]) {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
