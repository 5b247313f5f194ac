//! What `--check` prints: a line per part, `ok` or `FAULT` with what to do; all faults, not only the first.

use std::fmt::Display;

/// Collects and prints.
#[derive(Debug, Default)]
pub struct Checks {
    faults: usize,
}

impl Checks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Prints how a part is.
    pub fn add(&mut self, part: &str, result: Result<impl Sized, impl Display>) {
        match result {
            Ok(_) => println!("ok     {part}"),
            Err(fault) => {
                self.faults += 1;
                println!("FAULT  {part}: {fault:#}");
            }
        }
    }

    /// Prints faults of settings that need no connection.
    pub fn add_all(&mut self, part: &str, faults: &[String]) {
        if faults.is_empty() {
            self.add(part, Ok::<_, String>(()));
        }
        for fault in faults {
            self.add(part, Err::<(), _>(fault));
        }
    }

    /// An error when there was a fault.
    pub fn finish(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.faults == 0, "{} of the checks failed, see above", self.faults);
        Ok(())
    }
}

/// Whether something else listens where this process is to.
pub async fn can_listen(address: std::net::SocketAddr, variable: &str) -> anyhow::Result<()> {
    tokio::net::TcpListener::bind(address)
        .await
        .map(drop)
        .map_err(|e| anyhow::anyhow!("{variable}: cannot listen on {address}: {e}"))
}
