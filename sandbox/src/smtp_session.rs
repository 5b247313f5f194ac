//! One connection to the mail sink: commands in, replies out. What is kept and what goes wrong is decided in
//! `smtp`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use smtp_proto::request::receiver::{DataReceiver, RequestReceiver};
use smtp_proto::{Error, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::smtp::{Fault, Inbox, MAX_MAIL_BYTES, Stage};

/// A client that says nothing for so long is sent away (RFC 5321 §4.5.3.2.7).
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// More recipients than this are refused one by one (RFC 5321 §4.5.3.1.8 wants at least 100).
const MAX_RECIPIENTS: usize = 1000;

/// Accepts connections until `stop`.
pub(crate) async fn serve(listener: std::net::TcpListener, inbox: Arc<Inbox>, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the mail sink cannot listen");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, say: without a pause this loop would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let session = Session { stream, inbox: Arc::clone(&inbox), replies: Vec::new(), from: None, to: Vec::new() };
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                result = session.run() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection to the mail sink broke off");
                    }
                }
            }
        });
    }
}

struct Session {
    stream: TcpStream,
    inbox: Arc<Inbox>,
    /// Replies that wait until the client's commands at hand are read: pipelining (RFC 2920).
    replies: Vec<u8>,
    from: Option<String>,
    to: Vec<String>,
}

enum Next {
    Command,
    Data,
    Close,
}

/// The mail that is just coming in.
struct Incoming {
    receiver: DataReceiver,
    raw: Vec<u8>,
    too_large: bool,
}

impl Incoming {
    /// The receiver recognises a dot at the start of a line by the line end before it; the one behind `DATA`
    /// is such a line end and was read as part of the command.
    const LINE_END: &'static [u8] = b"\r\n";

    fn new() -> Self {
        let mut incoming = Self { receiver: DataReceiver::new(), raw: Vec::new(), too_large: false };
        incoming.ingest(&mut Self::LINE_END.iter());
        incoming
    }

    /// True when the mail is complete.
    fn ingest(&mut self, bytes: &mut std::slice::Iter<'_, u8>) -> bool {
        let complete = self.receiver.ingest(bytes, &mut self.raw);
        if self.raw.len() > MAX_MAIL_BYTES {
            self.too_large = true;
            self.raw.clear();
        }
        complete
    }

    fn into_mail(self) -> Option<Bytes> {
        if self.too_large {
            return None;
        }
        let mail = Bytes::from(self.raw);
        Some(mail.slice(Self::LINE_END.len().min(mail.len())..))
    }
}

impl Session {
    async fn run(mut self) -> std::io::Result<()> {
        self.stream.set_nodelay(true)?;
        if let Some(Fault::Reply { code, text, .. }) = self.inbox.take_fault(Stage::Connect, &[]) {
            self.reply(code, &text);
            return self.flush().await;
        }
        self.reply(220, "localhost ESMTP sandbox");
        self.flush().await?;
        let mut requests = RequestReceiver::default();
        let mut incoming: Option<Incoming> = None;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read) = tokio::time::timeout(IDLE_LIMIT, self.stream.read(&mut buffer)).await else {
                self.reply(421, "4.4.2 localhost says nothing for too long");
                return self.flush().await;
            };
            let read = read?;
            if read == 0 {
                return Ok(());
            }
            let mut bytes = buffer[..read].iter();
            while !bytes.as_slice().is_empty() {
                let next = if let Some(mut mail) = incoming.take() {
                    if mail.ingest(&mut bytes) {
                        self.data_ended(mail).await?
                    } else {
                        incoming = Some(mail);
                        Next::Command
                    }
                } else {
                    match requests.ingest(&mut bytes) {
                        Ok(request) => self.command(request),
                        Err(Error::NeedsMoreData { .. }) => break,
                        Err(error) => self.refuse(&error),
                    }
                };
                match next {
                    Next::Command => {}
                    Next::Data => incoming = Some(Incoming::new()),
                    Next::Close => return self.flush().await,
                }
            }
            self.flush().await?;
        }
    }

    fn command(&mut self, request: Request<std::borrow::Cow<'_, str>>) -> Next {
        match request {
            Request::Ehlo { .. } => {
                self.reset();
                let greeting = format!(
                    "250-localhost\r\n250-PIPELINING\r\n250-SIZE {MAX_MAIL_BYTES}\r\n250-8BITMIME\r\n\
                     250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8\r\n"
                );
                self.replies.extend_from_slice(greeting.as_bytes());
            }
            Request::Helo { .. } => {
                self.reset();
                self.reply(250, "localhost");
            }
            Request::Mail { from } => return self.mail(&from.address, from.size),
            Request::Rcpt { to } => return self.recipient(&to.address),
            Request::Data if self.to.is_empty() => self.reply(503, "5.5.1 RCPT first"),
            Request::Data => {
                self.reply(354, "End with a line that holds a dot alone");
                return Next::Data;
            }
            Request::Rset => {
                self.reset();
                self.reply(250, "2.0.0 Reset");
            }
            Request::Noop { .. } => self.reply(250, "2.0.0 Still here"),
            Request::Vrfy { .. } => self.reply(252, "2.1.5 Send it and see"),
            Request::Quit => {
                self.reply(221, "2.0.0 Goodbye");
                return Next::Close;
            }
            other => self.reply(502, &format!("5.5.1 {} is not offered", other.name())),
        }
        Next::Command
    }

    fn mail(&mut self, address: &str, size: usize) -> Next {
        if self.from.is_some() {
            self.reply(503, "5.5.1 One mail after the other");
        } else if size > MAX_MAIL_BYTES {
            self.reply(552, "5.3.4 Too large");
        } else if let Some(fault) = self.inbox.take_fault(Stage::Mail, &[address]) {
            return self.scripted_refusal(&fault);
        } else {
            self.from = Some(address.to_owned());
            self.reply(250, "2.1.0 Sender ok");
        }
        Next::Command
    }

    fn recipient(&mut self, address: &str) -> Next {
        let Some(from) = &self.from else {
            self.reply(503, "5.5.1 MAIL first");
            return Next::Command;
        };
        if let Some(fault) = self.inbox.take_fault(Stage::Rcpt, &[from.as_str(), address]) {
            return self.scripted_refusal(&fault);
        }
        if self.to.len() >= MAX_RECIPIENTS {
            self.reply(452, "4.5.3 Too many recipients");
        } else {
            self.to.push(address.to_owned());
            self.reply(250, "2.1.5 Recipient ok");
        }
        Next::Command
    }

    async fn data_ended(&mut self, incoming: Incoming) -> std::io::Result<Next> {
        let from = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        let Some(raw) = incoming.into_mail() else {
            self.reply(552, "5.3.4 Too large");
            return Ok(Next::Command);
        };
        let addresses: Vec<&str> = to.iter().map(String::as_str).chain([from.as_str()]).collect();
        let fault = self.inbox.take_fault(Stage::Data, &addresses);
        match fault {
            None => {
                self.keep(from, to, raw).await;
                Ok(Next::Command)
            }
            Some(Fault::DropAfterReply) => {
                self.keep(from, to, raw).await;
                Ok(Next::Close)
            }
            Some(Fault::HangAfterData { keep }) => {
                if keep {
                    self.inbox.keep(from, to, raw).await?;
                }
                self.wait_until_client_leaves().await;
                Ok(Next::Close)
            }
            Some(Fault::DropBeforeReply { keep }) => {
                if keep {
                    self.inbox.keep(from, to, raw).await?;
                }
                // No reply of this mail is among those that wait.
                Ok(Next::Close)
            }
            Some(fault @ Fault::Reply { .. }) => Ok(self.scripted_refusal(&fault)),
        }
    }

    async fn keep(&mut self, from: String, to: Vec<String>, raw: Bytes) {
        match self.inbox.keep(from, to, raw).await {
            Ok(()) => self.reply(250, "2.0.0 Kept"),
            Err(error) => {
                tracing::error!(%error, "a mail cannot be written");
                self.reply(452, "4.3.1 The mail cannot be written");
            }
        }
    }

    async fn wait_until_client_leaves(&mut self) {
        let mut ignored = [0; 512];
        while matches!(self.stream.read(&mut ignored).await, Ok(read) if read > 0) {}
    }

    fn scripted_refusal(&mut self, fault: &Fault) -> Next {
        let Fault::Reply { code, text, .. } = fault else {
            return Next::Command;
        };
        self.reply(*code, text);
        // 421 announces that the connection ends (RFC 5321 §3.8).
        if *code == 421 { Next::Close } else { Next::Command }
    }

    fn refuse(&mut self, error: &Error) -> Next {
        match error {
            Error::InvalidSenderAddress => self.reply(501, "5.1.7 No such form of address"),
            Error::InvalidRecipientAddress => self.reply(501, "5.1.3 No such form of address"),
            Error::SyntaxError { syntax } => self.reply(501, &format!("5.5.4 It is written {syntax}")),
            Error::InvalidParameter { param } => self.reply(501, &format!("5.5.4 Wrong parameter {param}")),
            Error::UnsupportedParameter { param } => {
                self.reply(555, &format!("5.5.4 Parameter {param} is not offered"));
            }
            Error::ResponseTooLong => {
                self.reply(500, "5.5.2 Line too long");
                return Next::Close;
            }
            _ => self.reply(500, "5.5.1 No such command"),
        }
        Next::Command
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn reply(&mut self, code: u16, text: &str) {
        // A scripted text must not be able to forge a second reply.
        let line = text.replace(['\r', '\n'], " ");
        self.replies.extend_from_slice(format!("{code} {line}\r\n").as_bytes());
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.replies).await?;
        self.replies.clear();
        Ok(())
    }
}
