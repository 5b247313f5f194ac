//! api, worker and scheduler as child processes: the same program again with `service <name>`, so that
//! killing one is a real kill. One that dies by itself is started again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::process::{Process, lock};

/// How long a service has to finish what runs; then it is killed.
const GRACE: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A service that fails before it has run this long cannot do its work at all; a kill is no failure.
const FIRST_SECONDS: Duration = Duration::from_secs(5);
/// So many failures within the first seconds, one after the other, and there is no hope.
const FAILURES: u32 = 5;
/// How many of a failed service's lines are shown.
const SHOWN_LINES: usize = 15;

/// One process to be kept running.
#[derive(Debug, Clone)]
pub struct Service {
    /// Prefix of its log lines, and the name of its pid file.
    pub name: String,
    /// `api`, `worker` or `scheduler`.
    pub kind: &'static str,
    /// Says 200 when it is ready.
    pub ready_url: String,
    /// On top of the common environment.
    pub env: BTreeMap<String, String>,
}

/// Gets the name of a service and a line that it logged.
pub type OnServiceLine = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How services are started.
#[derive(Clone)]
pub struct Launcher {
    /// The sandbox's own program.
    pub program: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Where `<name>.pid` is written.
    pub pid_dir: PathBuf,
    /// Gets every line with the name of its service.
    pub on_line: OnServiceLine,
}

impl Launcher {
    fn spawn(&self, service: &Service) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(["service", service.kind]).envs(&self.env).envs(&service.env);
        let (name, on_line) = (service.name.clone(), self.on_line.clone());
        let process = Process::spawn(&service.name, command, Signal::TERM, Box::new(move |line| on_line(&name, line)))?;
        std::fs::write(self.pid_dir.join(format!("{}.pid", service.name)), process.pid().to_string())?;
        Ok(process)
    }
}

/// A service that is kept running until [`Supervised::stop`].
pub struct Supervised {
    service: Service,
    launcher: Launcher,
    current: Arc<Mutex<Arc<Process>>>,
    stop: CancellationToken,
    hopeless: watch::Receiver<Option<String>>,
}

impl Supervised {
    /// Starts it; does not wait until it is ready.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(launcher: &Launcher, service: Service) -> anyhow::Result<Self> {
        let first = Arc::new(launcher.spawn(&service)?);
        let (given_up, hopeless) = watch::channel(None);
        let supervised = Self {
            service,
            launcher: launcher.clone(),
            current: Arc::new(Mutex::new(first)),
            stop: CancellationToken::new(),
            hopeless,
        };
        let watcher = Watcher {
            launcher: supervised.launcher.clone(),
            service: supervised.service.clone(),
            current: supervised.current.clone(),
            stop: supervised.stop.clone(),
            given_up,
        };
        tokio::spawn(watcher.watch());
        Ok(supervised)
    }

    /// Resolves when it has failed again and again within its first seconds, with its last lines. It is tried again
    /// all the same, until it is stopped.
    pub async fn hopeless(&self) -> anyhow::Error {
        let mut hopeless = self.hopeless.clone();
        let reason = hopeless.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => anyhow::Error::msg(reason),
            // Stopped in good order: there will be none.
            None => std::future::pending().await,
        }
    }

    /// The process of this moment: after a kill there is another one.
    #[must_use]
    pub fn process(&self) -> Arc<Process> {
        lock(&self.current).clone()
    }

    /// Waits until it answers that it is ready.
    ///
    /// # Errors
    /// When it is not within a minute, or fails again and again; with its last log lines.
    pub async fn ready(&self) -> anyhow::Result<()> {
        tokio::select! {
            ready = self.answering() => ready,
            error = self.hopeless() => Err(error),
        }
    }

    async fn answering(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            let answer = client.get(&self.service.ready_url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "{} does not get ready; its last lines:\n{}",
                self.service.name,
                self.process().last_lines()
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Ends it in order, and for good.
    pub async fn stop(&self) {
        let process = {
            // With the lock, so that no new one is started after this one was looked up.
            let current = lock(&self.current);
            self.stop.cancel();
            current.clone()
        };
        process.terminate(Signal::TERM, GRACE).await;
        let _ = std::fs::remove_file(self.launcher.pid_dir.join(format!("{}.pid", self.service.name)));
    }
}

/// Starts a service again whenever it has ended.
struct Watcher {
    launcher: Launcher,
    service: Service,
    current: Arc<Mutex<Arc<Process>>>,
    stop: CancellationToken,
    given_up: watch::Sender<Option<String>>,
}

impl Watcher {
    async fn watch(self) {
        let mut failures = 0;
        loop {
            let process = lock(&self.current).clone();
            let started = tokio::time::Instant::now();
            let status = tokio::select! {
                () = self.stop.cancelled() => return,
                status = process.exited() => status,
            };
            if self.stop.is_cancelled() {
                return;
            }
            let lived = started.elapsed();
            let failed = status.code().is_some_and(|code| code != 0);
            failures = if failed && lived < FIRST_SECONDS { failures + 1 } else { 0 };
            if failures == FAILURES {
                process.ended().await;
                self.given_up.send_replace(Some(self.last_words(&process, status)));
            }
            self.tell(&format!("ended ({status}); starting it again"));
            // One that cannot even start does not keep the machine busy.
            if lived < Duration::from_secs(2) {
                self.pause().await;
            }
            while let Err(error) = self.start_again() {
                self.tell(&format!("{error:#}"));
                self.pause().await;
            }
        }
    }

    fn start_again(&self) -> anyhow::Result<()> {
        let mut current = lock(&self.current);
        // Stopped meanwhile: nobody would end the new one.
        if !self.stop.is_cancelled() {
            *current = Arc::new(self.launcher.spawn(&self.service).context("cannot start it again")?);
        }
        Ok(())
    }

    async fn pause(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stop.cancelled()).await;
    }

    fn tell(&self, line: &str) {
        (self.launcher.on_line)(&self.service.name, line);
    }

    fn last_words(&self, process: &Process, status: std::process::ExitStatus) -> String {
        let lines = process.last_lines();
        let lines: Vec<_> = lines.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        format!(
            "{} failed {FAILURES} times within its first seconds ({status}); its last lines:\n{shown}",
            self.service.name
        )
    }
}
