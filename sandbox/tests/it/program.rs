//! The sandbox as its user starts it: `--fresh` among strangers' files, taken ports, private files, servers that die,
//! services that cannot start, a demo without a worker; and the lines that it tells people to try.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::PROGRAM;

const READY: &str = "Ctrl-C ends everything.";
const PATIENCE: Duration = Duration::from_secs(60);

fn sandbox(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

/// One that ends by itself, as the programs here do.
fn ended(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let faults = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, faults)
}

/// A program that runs, and what it has said so far; killed at the end of the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let faults = BufReader::new(child.stderr.take().unwrap());
        let out = BufReader::new(child.stdout.take().unwrap());
        let copy = sender.clone();
        thread::spawn(move || faults.lines().map_while(Result::ok).for_each(|line| drop(copy.send(line))));
        thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Self { child, lines, said: Vec::new() }
    }

    fn ready(command: &mut Command) -> Self {
        let mut running = Self::start(command);
        running.until(READY);
        running
    }

    /// Waits for a line that contains `text`.
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("no line with {text:?} ({error}):\n{}", self.said.join("\n")),
            }
        }
    }

    /// Waits for its end; whether it was a success.
    fn end(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said.join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
        self.said.extend(self.lines.iter());
        self.child.wait().unwrap().success()
    }

    fn interrupt(&mut self) -> bool {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.end()
    }

    /// The number of its child process that runs `program`; Linux only.
    fn child_of(&self, program: &str) -> Option<Pid> {
        let own = self.child.id();
        let children = std::fs::read_dir(format!("/proc/{own}/task")).unwrap().flatten().flat_map(|task| {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
        });
        let named =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == program);
        let found = children.collect::<Vec<_>>().into_iter().find(named);
        found.and_then(Pid::from_raw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_directory_with_strangers_files_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (place.path().join("dir"), place.path().join("elsewhere"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(dir.join("precious"), "x").unwrap();
    std::fs::write(elsewhere.join("photo"), "x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join("photos")).unwrap();
    for arguments in [&["--fresh"][..], &[]] {
        let (output, faults) = ended(sandbox(&dir).args(arguments));
        assert_eq!(output.status.code(), Some(1));
        assert!(faults.contains(dir.to_str().unwrap()) && faults.lines().count() == 1, "{faults}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2, "nothing came, nothing went");
    assert!(elsewhere.join("photo").exists());
}

#[test]
fn a_taken_port_is_told_in_one_line_before_anything_is_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("dir");
    let (output, faults) = ended(sandbox(&dir).args(["--port", &port]));
    assert_eq!(output.status.code(), Some(1));
    assert!(faults.contains(&port) && faults.lines().count() == 1, "{faults}");
    assert!(output.stdout.is_empty() && !dir.exists());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    for dir in [file.clone(), file.join("below")] {
        let (output, faults) = ended(&mut sandbox(&dir));
        assert_eq!(output.status.code(), Some(1));
        assert!(faults.contains(dir.to_str().unwrap()), "{faults}");
    }
}

#[test]
fn a_service_that_cannot_start_ends_the_sandbox_with_its_last_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (output, faults) = ended(sandbox(dir.path()).env("WORKER_CONCURRENCY", "many"));
    assert_eq!(output.status.code(), Some(1));
    assert!(faults.contains("worker failed 5 times") && faults.contains("invalid value 'many'"), "{faults}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_program_keeps_its_servers_running_and_its_files_private_and_forgets_only_its_own() {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let dir = place.path().join("it's my dir");
    let mut first = Running::ready(&mut sandbox(&dir));

    for (name, expected) in [("env", 0o600), ("secrets", 0o700), ("secrets/auth", 0o600), ("mails", 0o700)] {
        assert_eq!(mode(&dir.join(name)), expected, "{name}");
    }
    try_the_lines(&first.said);

    for (program, name) in [("redis-server", "Redis"), ("postgres", "Postgres")] {
        kill_process(first.child_of(program).unwrap(), Signal::KILL).unwrap();
        first.until(&format!("{name} ended (signal: 9 (SIGKILL)); starting it again"));
        first.until(&format!("{name} is ready again"));
    }
    // The API may still find out that its connections of before are gone.
    let deadline = Instant::now() + PATIENCE;
    while !is_ready(&dir) {
        assert!(Instant::now() < deadline, "the API does not get ready again");
        thread::sleep(Duration::from_millis(100));
    }
    try_the_lines(&first.said);
    assert!(first.interrupt(), "{}", first.said.join("\n"));

    let elsewhere = place.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("photo"), "x").unwrap();
    std::fs::write(dir.join("notes"), "x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join("photos")).unwrap();
    let secret = std::fs::read(dir.join("secrets/auth")).unwrap();
    let mut second = Running::ready(sandbox(&dir).arg("--fresh"));
    assert!(dir.join("notes").exists() && elsewhere.join("photo").exists());
    assert_ne!(std::fs::read(dir.join("secrets/auth")).unwrap(), secret, "everything of the sandbox is new");

    // It dies whenever it is there: at last the sandbox ends.
    let deadline = Instant::now() + PATIENCE;
    while second.child.try_wait().unwrap().is_none() {
        if let Some(redis) = second.child_of("redis-server") {
            // It may have gone meanwhile.
            let _ = kill_process(redis, Signal::KILL);
        }
        assert!(Instant::now() < deadline, "it goes on");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!second.end());
    let said = second.said.join("\n");
    assert!(said.contains("error: Redis ") && said.contains("for the 5th time in a row"), "{said}");
}

/// Whether the API says so, and writes.
fn is_ready(dir: &Path) -> bool {
    let env = std::fs::read_to_string(dir.join("env")).unwrap();
    let value = |name: &str| {
        let line =
            env.lines().find_map(|line| line.strip_prefix("export ").unwrap_or(line).strip_prefix(name)).unwrap();
        line.trim_start_matches('=').trim_matches('\'').trim_matches('"').to_owned()
    };
    let plan = r#"{"kind": "instant", "title": "Ready", "access": "tenant"}"#;
    let mut curl = Command::new("curl");
    curl.args(["-sf", "-o", "/dev/null", "-H", "Content-Type: application/json", "-d", plan, "-H"]);
    curl.arg(format!("Authorization: Bearer {}", value("DEMO_INSTRUCTOR_TOKEN")));
    curl.arg(format!("{}/api/v1/live-sessions/sessions/", value("API_URL")));
    curl.status().unwrap().success()
}

/// Types what the ready message tells to type, in each shell.
fn try_the_lines(said: &[String]) {
    let first = said.iter().position(|line| line.starts_with("  . ")).unwrap();
    let script: Vec<&str> = said[first..].iter().take_while(|line| !line.is_empty()).map(|line| line.trim()).collect();
    for shell in ["sh", "bash"] {
        let output = Command::new(shell).args(["-euc", &script.join("\n")]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        let id = told.lines().next().unwrap_or_default();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{shell}: {told}");
        assert!(told.contains("\"join_url\"") && told.contains("\"token\""), "{shell}: {told}");
    }
}

#[test]
fn a_demo_without_a_worker_says_so_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::ready(sandbox(dir.path()).args(["--workers", "0"]));
    let started = Instant::now();
    let (output, faults) = ended(sandbox(dir.path()).arg("demo"));
    assert_eq!(output.status.code(), Some(1));
    assert!(faults.contains("no worker") && faults.lines().count() == 1, "{faults}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());

    let (output, faults) = ended(&mut sandbox(dir.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(faults.contains("a sandbox runs in"), "{faults}");
    assert!(running.interrupt(), "{}", running.said.join("\n"));
}
