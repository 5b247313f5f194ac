//! A real Prosody on 127.0.0.1 with our module, configured as an administrator would.

use std::{path::PathBuf, process::Command, time::Duration};

use rustix::process::Signal;
use sandbox::{
    ports::free_port,
    process::Process,
    provision::{self, Tool, find_prosody},
};

use crate::support::eventually;

/// The name in the customer's document.
pub const HOST: &str = "meet.yourdomain.com";

/// Where `mod_webhook` is loaded.
#[derive(Clone, Copy)]
pub enum On {
    /// As in the customer's document.
    VirtualHost,
    MucComponent,
}

pub struct Settings<'a> {
    pub on: On,
    pub webhook_url: &'a str,
    pub secret: &'a str,
    /// More lines of the module's options.
    pub more: &'a str,
}

pub struct Server {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

impl Server {
    pub async fn start(settings: &Settings<'_>) -> Self {
        Self::start_at(free_port().expect("a free port"), settings).await
    }

    /// Where somebody has to know its address before.
    pub async fn start_at(port: u16, settings: &Settings<'_>) -> Self {
        tokio::task::spawn_blocking(|| provision::ensure(&[Tool::Prosody])).await.expect("awaited").expect("Prosody");
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = Self { dir, port, process: None };
        server.configure(settings);
        server.launch().await;
        server
    }

    /// For the next start.
    pub fn configure(&self, settings: &Settings<'_>) {
        let Settings { on, webhook_url, secret, more } = settings;
        let module = format!("webhook_url = \"{webhook_url}\"\nwebhook_secret = \"{secret}\"\n{more}\n");
        let (of_host, of_muc) = match on {
            On::VirtualHost => {
                (format!("modules_enabled = {{ \"webhook\", \"test_jitsi\" }}\n{module}"), String::new())
            }
            On::MucComponent => (
                "modules_enabled = { \"test_jitsi\" }\n".to_owned(),
                format!("modules_enabled = {{ \"webhook\" }}\n{module}"),
            ),
        };
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let (ours, tests) = (here.join("../deploy/prosody"), here.join("tests/it/prosody"));
        let (dir, port) = (self.dir.path().display(), self.port);
        let config = format!(
            r#"
            run_as_root = true
            pidfile = "{dir}/prosody.pid"
            data_path = "{dir}"
            plugin_paths = {{ "{ours}", "{tests}" }}
            modules_enabled = {{ "saslauth", "bosh" }}
            modules_disabled = {{ "c2s", "s2s", "tls", "offline" }}
            log = {{ info = "*console" }}
            interfaces = {{ "127.0.0.1" }}
            http_ports = {{ {port} }}
            http_interfaces = {{ "127.0.0.1" }}
            https_ports = {{ }}
            http_default_host = "{HOST}"
            consider_bosh_secure = true
            muc_room_locking = false
            VirtualHost "{HOST}"
            authentication = "anonymous"
            {of_host}
            Component "conference.{HOST}" "muc"
            storage = "memory"
            {of_muc}
            Component "breakout.{HOST}" "muc"
            storage = "memory"
            "#,
            ours = ours.display(),
            tests = tests.display(),
        );
        std::fs::write(self.dir.path().join("prosody.cfg.lua"), config).expect("the configuration is written");
    }

    pub async fn launch(&mut self) {
        let program = find_prosody().expect("Prosody").path;
        let mut command = Command::new(program);
        command.arg("-F").arg("--config").arg(self.dir.path().join("prosody.cfg.lua"));
        let on_line = Box::new(|line: &str| {
            if std::env::var_os("SHOW_LOGS").is_some() {
                println!("prosody   | {line}");
            }
        });
        self.process = Some(Process::spawn("prosody", command, Signal::KILL, on_line).expect("Prosody starts"));
        let url = self.bosh_url();
        eventually("Prosody to answer", async || {
            let process = self.process.as_ref().expect("it was started");
            assert!(process.exit_status().is_none(), "Prosody ended:\n{}", process.last_lines());
            reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Where mod_webhook_control listens.
    pub fn control_url(&self) -> String {
        format!("http://127.0.0.1:{}/webhook-control", self.port)
    }

    pub fn bosh_url(&self) -> String {
        format!("http://127.0.0.1:{}/http-bind", self.port)
    }

    /// What it has logged of late.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::last_lines).unwrap_or_default()
    }

    /// Ends it in order, as `systemctl stop` does.
    pub async fn stop(&mut self) {
        let process = self.process.take().expect("it runs");
        let status = process.terminate(Signal::TERM, Duration::from_secs(20)).await;
        assert!(status.success(), "{status}:\n{}", process.last_lines());
    }

    /// Ends it as a crash would.
    pub async fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9().await;
    }
}
