//! A mail server that keeps what it gets instead of delivering it: ESMTP (RFC 5321) with pipelining, 8-bit and
//! UTF-8 addresses, many mails per connection, and faults on demand. Its mailbox over HTTP is in `mailbox`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::mail::Mail;
use crate::ports::listen;
use crate::process::lock;
use crate::smtp_session;

/// The largest mail that is taken, in bytes.
pub const MAX_MAIL_BYTES: usize = 32 * 1024 * 1024;

/// Where the sink listens and what it keeps.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Port of the mail server on 127.0.0.1; a free one, when absent.
    pub port: Option<u16>,
    /// Port of the mailbox on 127.0.0.1; a free one, when absent.
    pub http_port: Option<u16>,
    /// Where each mail is written as `<id>.eml`, besides being kept in memory.
    pub dir: Option<PathBuf>,
    /// How many mails are kept in memory; the oldest go first.
    pub max_mails: usize,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self { port: None, http_port: None, dir: None, max_mails: 100_000 }
    }
}

/// When a scripted refusal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Instead of the greeting; the connection is closed.
    Connect,
    /// In answer to `MAIL FROM`.
    Mail,
    /// In answer to `RCPT TO`.
    Rcpt,
    /// In answer to the end of the data; the mail is not kept.
    Data,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// A refusal: 4xx "try again", 5xx "never".
    Reply {
        /// When.
        stage: Stage,
        /// The reply code, 400 to 599.
        code: u16,
        /// The text behind it.
        text: String,
    },
    /// Takes the data and never answers.
    HangAfterData {
        /// Whether the mail is kept all the same: the sender cannot know.
        #[serde(default)]
        keep: bool,
    },
    /// Takes the data and closes the connection before the answer.
    DropBeforeReply {
        /// Whether the mail is kept all the same: the sender cannot know.
        #[serde(default)]
        keep: bool,
    },
    /// Keeps the mail, answers 250 and closes the connection.
    DropAfterReply,
}

impl Fault {
    fn stage(&self) -> Stage {
        match self {
            Self::Reply { stage, .. } => *stage,
            _ => Stage::Data,
        }
    }
}

/// A fault and how often it happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// What.
    pub fault: Fault,
    /// How many times more.
    #[serde(default = "once")]
    pub times: u32,
    /// Only where this address is the sender or a recipient. At `MAIL FROM` only the sender is known, at
    /// connect nobody.
    #[serde(default)]
    pub only_for: Option<String>,
}

fn once() -> u32 {
    1
}

/// A running mail sink with its mailbox. Dropping it ends both.
#[derive(Debug)]
pub struct SmtpSink {
    port: u16,
    http_port: u16,
    inbox: Arc<Inbox>,
    _stop: DropGuard,
}

/// What the sink has got, shared by the mail server and the mailbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    mails: Mutex<VecDeque<Arc<Mail>>>,
    faults: Mutex<Vec<Scripted>>,
    accepted: AtomicU64,
    changed: watch::Sender<u64>,
    dir: Option<PathBuf>,
    max_mails: usize,
}

impl SmtpSink {
    /// Starts the mail server and the mailbox.
    ///
    /// # Errors
    /// When a port is taken or the directory cannot be made.
    pub async fn start(settings: SmtpSettings) -> anyhow::Result<Self> {
        if let Some(dir) = &settings.dir {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let inbox = Arc::new(Inbox {
            mails: Mutex::new(VecDeque::new()),
            faults: Mutex::new(Vec::new()),
            accepted: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            dir: settings.dir,
            max_mails: settings.max_mails.max(1),
        });
        let (listener, address) = listen("the mail sink", settings.port)?;
        let (http_listener, http_address) = listen("the mailbox", settings.http_port)?;
        let stop = CancellationToken::new();
        let runtime = crate::runtime::servers();
        runtime.spawn(smtp_session::serve(listener, Arc::clone(&inbox), stop.clone()));
        runtime.spawn(crate::mailbox::serve(http_listener, Arc::clone(&inbox), stop.clone()));
        Ok(Self { port: address.port(), http_port: http_address.port(), inbox, _stop: stop.drop_guard() })
    }

    /// The port of the mail server on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `smtp://127.0.0.1:<port>`: no encryption, no password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:<port>`: the mailbox.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Every mail that is kept, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<Mail>> {
        self.inbox.mails(None)
    }

    /// Every mail to `address`, oldest first.
    #[must_use]
    pub fn messages_to(&self, address: &str) -> Vec<Arc<Mail>> {
        self.inbox.mails(Some(address))
    }

    /// Waits until at least `count` mails to `address` are here.
    ///
    /// # Errors
    /// When that takes longer than `limit`; the message says how many there are.
    pub async fn wait_for(&self, address: &str, count: usize, limit: Duration) -> anyhow::Result<Vec<Arc<Mail>>> {
        let mut changed = self.inbox.changed.subscribe();
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            changed.mark_unchanged();
            let mails = self.messages_to(address);
            if mails.len() >= count {
                return Ok(mails);
            }
            if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                bail!("{} of {count} mails to {address} came in {limit:?}", mails.len());
            }
        }
    }

    /// How many mails were taken since the start, those no longer kept included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.inbox.accepted.load(Ordering::Relaxed)
    }

    /// Forgets all mails; their files stay.
    pub fn clear(&self) {
        self.inbox.clear();
    }

    /// Lets `fault` happen to the next `times` occasions, after the faults that were scripted before.
    pub fn fail_next(&self, fault: Fault, times: u32) {
        self.inbox.script(Scripted { fault, times, only_for: None });
    }

    /// As [`SmtpSink::fail_next`], only where `address` is the sender or a recipient: other tests that share the
    /// sink notice nothing.
    pub fn fail_next_for(&self, address: &str, fault: Fault, times: u32) {
        self.inbox.script(Scripted { fault, times, only_for: Some(address.to_owned()) });
    }
}

impl Inbox {
    /// Mails that are kept, oldest first, all or those to one address.
    pub(crate) fn mails(&self, to: Option<&str>) -> Vec<Arc<Mail>> {
        let mails = lock(&self.mails);
        mails.iter().filter(|mail| to.is_none_or(|to| mail.is_to(to))).cloned().collect()
    }

    /// One mail.
    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<Mail>> {
        lock(&self.mails).iter().find(|mail| mail.id() == id).cloned()
    }

    pub(crate) fn clear(&self) {
        lock(&self.mails).clear();
    }

    pub(crate) fn script(&self, scripted: Scripted) {
        lock(&self.faults).push(scripted);
    }

    /// What is still to happen.
    pub(crate) fn faults(&self) -> Vec<Scripted> {
        lock(&self.faults).clone()
    }

    pub(crate) fn replace_faults(&self, faults: Vec<Scripted>) {
        *lock(&self.faults) = faults;
    }

    /// Keeps a mail; it is in its file when this returns.
    pub(crate) async fn keep(&self, from: String, to: Vec<String>, raw: Bytes) -> std::io::Result<()> {
        let mail = Arc::new(Mail::new(from, to, raw));
        if let Some(dir) = &self.dir {
            let file = dir.join(format!("{}.eml", mail.id()));
            tokio::fs::write(file, mail.raw()).await?;
        }
        let mut mails = lock(&self.mails);
        if mails.len() >= self.max_mails {
            mails.pop_front();
        }
        mails.push_back(mail);
        drop(mails);
        let accepted = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        self.changed.send_replace(accepted);
        Ok(())
    }

    /// Takes the next fault for this stage, if one is scripted for one of `addresses` or for all.
    pub(crate) fn take_fault(&self, stage: Stage, addresses: &[&str]) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let index = faults.iter().position(|scripted| {
            scripted.times > 0
                && scripted.fault.stage() == stage
                && scripted
                    .only_for
                    .as_deref()
                    .is_none_or(|wanted| addresses.iter().any(|address| address.eq_ignore_ascii_case(wanted)))
        })?;
        let fault = faults[index].fault.clone();
        faults[index].times -= 1;
        if faults[index].times == 0 {
            faults.remove(index);
        }
        Some(fault)
    }
}
