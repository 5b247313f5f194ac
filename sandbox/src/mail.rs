//! One mail as the sink has got it, and what a reader sees in it.

use std::sync::OnceLock;

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use mail_parser::{MessageParser, MimeHeaders as _};
use uuid::Uuid;

/// A mail with its envelope.
#[derive(Debug)]
pub struct Mail {
    id: Uuid,
    from: String,
    to: Vec<String>,
    received_at: DateTime<Utc>,
    raw: Bytes,
    /// Parsed when somebody looks: a benchmark sends thousands a second that nobody reads.
    parsed: OnceLock<Parsed>,
}

#[derive(Debug, Default)]
struct Parsed {
    subject: String,
    message_id: Option<String>,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<Attachment>,
}

/// A file in a mail, an invitation for instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The file's name; empty, when it has none.
    pub name: String,
    /// Such as `text/calendar; method=REQUEST`.
    pub content_type: String,
    /// Decoded.
    pub content: Bytes,
}

impl Mail {
    pub(crate) fn new(from: String, to: Vec<String>, raw: Bytes) -> Self {
        Self {
            id: Uuid::now_v7(),
            from,
            to,
            received_at: shared::clock::Clock::System.now(),
            raw,
            parsed: OnceLock::new(),
        }
    }

    /// The sink's own number of it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The sender in the envelope; empty for a bounce.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The recipients in the envelope.
    #[must_use]
    pub fn to(&self) -> &[String] {
        &self.to
    }

    /// Whether `address` is among the recipients.
    #[must_use]
    pub fn is_to(&self, address: &str) -> bool {
        self.to.iter().any(|to| to.eq_ignore_ascii_case(address))
    }

    /// When its last byte came.
    #[must_use]
    pub fn received_at(&self) -> DateTime<Utc> {
        self.received_at
    }

    /// The mail as it came (RFC 5322).
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The subject, decoded.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.parsed().subject
    }

    /// The `Message-ID`, without angle brackets.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.parsed().message_id.as_deref()
    }

    /// The plain text that the mail brings along.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.parsed().text.as_deref()
    }

    /// The HTML that the mail brings along.
    #[must_use]
    pub fn html(&self) -> Option<&str> {
        self.parsed().html.as_deref()
    }

    /// The parts that are neither of both; a `text/calendar` alternative is among them.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.parsed().attachments
    }

    fn parsed(&self) -> &Parsed {
        self.parsed.get_or_init(|| parse(&self.raw))
    }
}

fn parse(raw: &[u8]) -> Parsed {
    let Some(message) = MessageParser::default().parse(raw) else {
        return Parsed::default();
    };
    let mut parsed = Parsed {
        subject: message.subject().unwrap_or_default().to_owned(),
        message_id: message.message_id().map(str::to_owned),
        ..Parsed::default()
    };
    // Part by part: the library's own view turns text into HTML and back where a mail brings only one.
    for part in &message.parts {
        let content_type = part.content_type();
        let kind = content_type.map_or_else(
            || "text/plain".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")).to_lowercase(),
        );
        if kind.starts_with("multipart/") {
            continue;
        }
        let name = part.attachment_name();
        if name.is_none() && kind == "text/plain" && parsed.text.is_none() {
            parsed.text = part.text_contents().map(str::to_owned);
        } else if name.is_none() && kind == "text/html" && parsed.html.is_none() {
            parsed.html = part.text_contents().map(str::to_owned);
        } else {
            let method = content_type.and_then(|kind| kind.attribute("method"));
            parsed.attachments.push(Attachment {
                name: name.unwrap_or_default().to_owned(),
                content_type: method.map_or(kind.clone(), |method| format!("{kind}; method={method}")),
                content: Bytes::copy_from_slice(part.contents()),
            });
        }
    }
    parsed
}
