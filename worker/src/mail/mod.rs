//! Sending mail: one pooled SMTP transport per process. The words are `render`'s; who gets which mail, and whether it
//! still makes sense, is decided by the handlers.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::PoolConfig,
};
use tracing::Instrument;

use crate::config::MailConfig;

mod delivery;
mod render;

pub use delivery::deliver;
pub use render::{Lang, MailContext, MailKind, Rendered, render};

/// For each step of the conversation with the mail server.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTIONS: u32 = 8;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// One mail to one person.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to_name: String,
    pub to_address: String,
    /// The part of the Message-ID before the `@`: the same for every attempt, so that a double can be recognised.
    pub id: String,
    pub date: DateTime<Utc>,
    pub lang: Lang,
    pub words: Rendered,
    /// iCalendar text and its METHOD, where the mail is about when something takes place.
    pub calendar: Option<(String, &'static str)>,
}

/// What the sender does next.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// This mail will never be taken: the address or the mail itself is refused.
    #[error("refused for good: {0}")]
    Permanent(String),
    /// Worth another attempt; also when the server does not know us (a setting that can be put right).
    #[error("not taken now: {0}")]
    Transient(String),
}

impl Mailer {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// Settings that are wrong, with an example of right ones.
    pub fn new(config: &MailConfig) -> anyhow::Result<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&config.smtp_url)
            .context("SMTP_URL; example of a right value: smtp://user:password@mail.example.org:587?tls=required")?
            .timeout(Some(TIMEOUT))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS).idle_timeout(Duration::from_secs(30)))
            .build();
        let from = config
            .mail_from
            .parse()
            .context("MAIL_FROM; example of a right value: Live sessions <live@example.org>")?;
        Ok(Self { transport, from })
    }

    /// Whether the mail server answers and lets us in.
    pub async fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.transport.test_connection().await?, "the mail server does not answer NOOP");
        Ok(())
    }

    /// Sends one mail: text, HTML and the calendar entry as alternatives, the entry as a file as well, since mail
    /// programs differ in which of the two they show. Once the mail server has taken it, `sent` runs; its outcome is
    /// the answer.
    ///
    /// Both go on when the caller is dropped half-way. lettre 0.11 puts the connection of a dropped `send` back into its
    /// pool in the middle of the conversation, where the next mail takes this one's replies for its own: it would
    /// count as sent when it was not (`worker/tests/it/mailer.rs`).
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send<T: Send + 'static>(
        &self,
        mail: &Mail,
        sent: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, SendError> {
        let message = self.compose(mail).map_err(|e| SendError::Permanent(format!("{e:#}")))?;
        let transport = self.transport.clone();
        let sending = async move {
            match transport.send(message).await {
                Ok(_) => Ok(sent.await),
                Err(error) if is_about_the_mail(error.status().map(u16::from)) => {
                    Err(SendError::Permanent(error.to_string()))
                }
                // lettre's own words name the cause already.
                Err(error) => Err(SendError::Transient(error.to_string())),
            }
        };
        let sending = tokio::spawn(sending.in_current_span());
        sending.await.unwrap_or_else(|error| Err(SendError::Transient(error.to_string())))
    }

    fn compose(&self, mail: &Mail) -> anyhow::Result<Message> {
        let address = mail.to_address.trim().parse().context("the person's address")?;
        // A line break would begin a header; lettre panics at it.
        let name = mail.to_name.replace(char::is_control, " ");
        let name = Some(name.trim()).filter(|name| !name.is_empty()).map(str::to_owned);
        let mut alternatives = MultiPart::alternative()
            .singlepart(SinglePart::plain(mail.words.text.clone()))
            .singlepart(SinglePart::html(mail.words.html.clone()));
        let mut file = None;
        if let Some((calendar, method)) = &mail.calendar {
            let calendar_type = ContentType::parse(&format!("text/calendar; charset=utf-8; method={method}"))?;
            // Base64 keeps the octets, line ends included, as RFC 5545 wants them.
            let encoded = Body::new_with_encoding(calendar.clone(), ContentTransferEncoding::Base64)
                .map_err(|_| anyhow::anyhow!("text can always be written in base64"))?;
            alternatives = alternatives.singlepart(SinglePart::builder().header(calendar_type).body(encoded.clone()));
            let name = Attachment::new("invite.ics".to_owned());
            file = Some(name.body(encoded, ContentType::parse("application/ics")?));
        }
        let parts = match file {
            Some(file) => MultiPart::mixed().multipart(alternatives).singlepart(file),
            None => alternatives,
        };
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(name, address))
            .subject(mail.words.subject.clone())
            .date(mail.date.into())
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            // RFC 3834 §5: no out-of-office answers to these.
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Content-Language"),
                mail.lang.as_str().to_owned(),
            ))
            .multipart(parts)?;
        Ok(message)
    }
}

/// Whether a reply says that this very mail is refused (RFC 5321 §4.2.3). Other permanent replies are about us: not let
/// in (530, 534, 535, 538), no mail here (521), a command that the server does not know (500 to 504).
fn is_about_the_mail(code: Option<u16>) -> bool {
    matches!(code, Some(501 | 510..=515 | 550..=559))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The pool needs a runtime, even to be dropped.

    fn mailer(from: &str) -> anyhow::Result<Mailer> {
        Mailer::new(&MailConfig {
            smtp_url: "smtp://127.0.0.1:1".into(),
            mail_from: from.into(),
            session_url: String::new(),
        })
    }

    fn words() -> Rendered {
        Rendered { subject: "Davet: Çağdaş şiir".into(), text: "Merhaba\n".into(), html: "<p>Merhaba</p>".into() }
    }

    fn formatted(to_name: &str, to_address: &str) -> anyhow::Result<String> {
        let mail = Mail {
            to_name: to_name.into(),
            to_address: to_address.into(),
            id: "0190".into(),
            date: "2026-11-27T06:00:00Z".parse()?,
            lang: Lang::Tr,
            words: words(),
            calendar: Some(("BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n".into(), "REQUEST")),
        };
        Ok(String::from_utf8(mailer("Live <live@example.org>")?.compose(&mail)?.formatted())?)
    }

    #[tokio::test]
    async fn a_mail_has_a_stable_id_and_the_entry_twice() {
        let mail = formatted("Ayşe", "ayse@example.org").unwrap();
        assert!(mail.contains("Message-ID: <0190@example.org>\r\n"), "{mail}");
        assert!(mail.contains("Date: Fri, 27 Nov 2026 06:00:00 +0000\r\n"), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated\r\n"));
        assert!(mail.contains("method=REQUEST"), "{mail}");
        assert!(mail.contains("filename=\"invite.ics\""));
        assert_eq!(mail.matches("QkVHSU46VkNBTEVOREFSDQpF").count(), 2, "{mail}");
    }

    #[tokio::test]
    async fn names_cannot_add_headers_or_recipients() {
        let mail = formatted("Ali\r\nBcc: x@evil.test", "ali@example.org").unwrap();
        assert!(!mail.contains("\r\nBcc:"), "{mail}");
        assert!(formatted("Ali", "ali@example.org, x@evil.test").is_err());
        assert!(formatted("Ali", "ali@example.org>\r\nBcc: <x@evil.test").is_err());
        assert!(formatted("Ali", "").is_err());
    }

    #[tokio::test]
    async fn no_character_in_a_name_breaks_a_mail() {
        let special = ['\u{200b}', '\u{2028}', '\u{202e}', '\u{feff}', '\u{fffd}', '\u{1f600}', '\u{10ffff}'];
        for character in ('\0'..'\u{250}').chain(special) {
            let mail = formatted(&format!("{character}A{character}"), "a@example.org").unwrap();
            let header = mail.split("\r\n").find(|line| line.starts_with("To: ")).unwrap();
            assert!(header.is_ascii() && header.ends_with("a@example.org>"), "{character:?}: {header}");
        }
    }

    #[tokio::test]
    async fn wrong_settings_are_named() {
        let error = format!("{:#}", mailer("nobody").unwrap_err());
        assert!(error.starts_with("MAIL_FROM; example"), "{error}");
    }

    #[test]
    fn only_refusals_of_the_mail_itself_are_final() {
        for code in [550, 551, 552, 553, 554, 501, 556] {
            assert!(is_about_the_mail(Some(code)), "{code}");
        }
        for code in [421, 450, 451, 452, 500, 502, 503, 521, 530, 535] {
            assert!(!is_about_the_mail(Some(code)), "{code}");
        }
        assert!(!is_about_the_mail(None));
    }
}
