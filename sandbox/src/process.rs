//! Child processes that never outlive the program that started them, not even when it is killed with
//! signal 9. Not for short commands whose end is awaited at once (`initdb`, `apt-get`).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// How many of the last log lines of a child are kept for an error message.
const KEPT_LINES: usize = 60;

/// Called with every line that a child writes, from a thread of its own.
pub type OnLine = Box<dyn Fn(&str) + Send + Sync>;

/// A running child process. Dropping it kills the child and what the child started.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Closed when both outputs have been read to their end.
    output: watch::Receiver<()>,
}

/// How a process ended that should have gone on.
#[derive(Debug, Clone)]
pub struct Death {
    pub status: ExitStatus,
    pub last_lines: String,
}

#[derive(Debug)]
struct Shared {
    /// False as soon as the child is reaped: from then on its number may belong to a stranger.
    alive: Mutex<bool>,
    last_lines: Mutex<VecDeque<String>>,
}

impl Process {
    /// Starts `command` in a process group of its own (Ctrl-C of the terminal reaches only us), without
    /// standard input, its output handed line by line to `on_line`. `on_parent_death` is the signal that the
    /// kernel sends the child when this program is gone (Linux; elsewhere the child stays).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, on_parent_death: Signal, on_line: OnLine) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        die_with_parent(&mut command, on_parent_death);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = spawn_on_long_lived_thread(command).with_context(|| format!("cannot start {program}"))?;
        let pid = Pid::from_child(&child);
        let shared = Arc::new(Shared { alive: Mutex::new(true), last_lines: Mutex::new(VecDeque::new()) });
        let on_line: Arc<OnLine> = Arc::new(on_line);
        let (reading, output) = watch::channel(());
        if let Some(out) = child.stdout.take() {
            read_lines(out, Arc::clone(&shared), Arc::clone(&on_line), reading.clone());
        }
        if let Some(err) = child.stderr.take() {
            read_lines(err, Arc::clone(&shared), on_line, reading);
        }
        let (sender, exit) = watch::channel(None);
        let for_reaper = Arc::clone(&shared);
        thread::spawn(move || reap(child, pid, &for_reaper, &sender));
        Ok(Self { name: name.to_owned(), pid, shared, exit, output })
    }

    /// The process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, or none while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Resolves when the process has ended.
    pub async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let seen = exit.wait_for(Option::is_some).await.map(|status| *status);
        match seen {
            Ok(Some(status)) => status,
            // The reaper sends before it ends, so a closed channel has a value.
            _ => (*self.exit.borrow()).unwrap_or_default(),
        }
    }

    /// As [`Process::exited`], and what it wrote has been read: [`Process::last_lines`] then has its last words.
    /// A child of its own that lives on with the same output is not waited for.
    pub async fn ended(&self) -> ExitStatus {
        let status = self.exited().await;
        let mut output = self.output.clone();
        let _ = tokio::time::timeout(Duration::from_secs(1), async { while output.changed().await.is_ok() {} }).await;
        status
    }

    /// The last lines that it wrote, for an error message.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let lines = lock(&self.shared.last_lines);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Sends `signal` to the process alone; nothing when it has ended.
    pub fn signal(&self, signal: Signal) {
        let alive = lock(&self.shared.alive);
        if *alive {
            // Fails only when the process is gone, which is no news to the caller.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Kills it with signal 9, as a crash of the machine's part would, and waits until it is gone.
    /// Children of its own are left to notice for themselves.
    pub async fn kill9(&self) {
        self.signal(Signal::KILL);
        self.exited().await;
    }

    /// Asks it to end with `signal`, and kills it after `grace`. Returns how it ended.
    pub async fn terminate(&self, signal: Signal, grace: Duration) -> ExitStatus {
        self.signal(signal);
        if let Ok(status) = tokio::time::timeout(grace, self.exited()).await {
            return status;
        }
        self.signal_group(Signal::KILL);
        self.exited().await
    }

    /// As [`Process::terminate`], for `Drop` and other places without a runtime.
    pub fn terminate_blocking(&self, signal: Signal, grace: Duration) {
        self.signal(signal);
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while self.exit_status().is_none() && waited < grace {
            thread::sleep(step);
            waited += step;
        }
        self.signal_group(Signal::KILL);
    }

    fn signal_group(&self, signal: Signal) {
        let alive = lock(&self.shared.alive);
        if *alive {
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
    }
}

/// Locks; a panic elsewhere must not keep us from ending a child.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type SpawnRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The kernel sends the parent-death signal when the *thread* that forked ends (prctl(2),
/// `PR_SET_PDEATHSIG`), and test threads end early. So one thread that never ends does all forks.
static SPAWNER: LazyLock<mpsc::Sender<SpawnRequest>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<SpawnRequest>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in requests {
                // A caller that has gone takes no child: dropping the reply would leave it running.
                if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                    let _ = orphan.kill();
                }
            }
        })
        .expect("the first thread of the program can be started");
    sender
});

fn spawn_on_long_lived_thread(command: Command) -> std::io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    SPAWNER.send((command, reply)).map_err(|_| std::io::Error::other("the spawner thread has ended"))?;
    answer.recv().map_err(|_| std::io::Error::other("the spawner thread has ended"))?
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "only code between fork and exec can ask for the parent-death signal")]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // The parent may have died before the request was made: nobody would send the signal then.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(std::io::Error::other("the parent process has ended"))
        }
    };
    // SAFETY: the closure makes two system calls and takes no lock; std runs it after it has changed the
    // user, which would clear the request (prctl(2)).
    unsafe {
        command.pre_exec(ask);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command, _signal: Signal) {}

fn read_lines(from: impl Read + Send + 'static, shared: Arc<Shared>, on_line: Arc<OnLine>, reading: watch::Sender<()>) {
    thread::spawn(move || {
        let _until_the_end = reading;
        let mut reader = BufReader::new(from);
        let mut buffer = Vec::new();
        while matches!(reader.read_until(b'\n', &mut buffer), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&buffer);
            let line = text.trim_end();
            on_line(line);
            let mut kept = lock(&shared.last_lines);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line.to_owned());
            drop(kept);
            buffer.clear();
        }
    });
}

/// Waits without reaping, so that the number cannot be given away while somebody sends a signal to it.
fn reap(mut child: Child, pid: Pid, shared: &Shared, exit: &watch::Sender<Option<ExitStatus>>) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), ended) {}
    let mut alive = lock(&shared.alive);
    let status = child.wait().unwrap_or_default();
    *alive = false;
    drop(alive);
    exit.send_replace(Some(status));
}
