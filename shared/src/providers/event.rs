//! What a meeting server told us, in one shape for all of them.

use chrono::{DateTime, Utc};

use crate::domain::provider::ProviderKind;

/// Who sends: the provider's part of the webhook's URL, and `provider` of the stored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookSource {
    /// Prosody of a self-hosted Jitsi, with our own `mod_webhook` or jitsi-contrib's event_sync.
    Jitsi,
    /// Jitsi as a service (8x8).
    Jaas,
    /// bbb-webhooks, at a BigBlueButton.
    Bbb,
    Zoom,
}

impl WebhookSource {
    pub const ALL: [Self; 4] = [Self::Jitsi, Self::Jaas, Self::Bbb, Self::Zoom];

    /// The kind of configuration whose webhooks they are.
    pub fn kind(self) -> ProviderKind {
        match self {
            Self::Jitsi => ProviderKind::Jitsi,
            Self::Jaas => ProviderKind::Jaas,
            Self::Bbb => ProviderKind::Bbb,
            Self::Zoom => ProviderKind::Zoom,
        }
    }

    /// Whether sessions of this kind may be what the webhooks are about. Whoever has a JaaS account in the environment holds
    /// sessions there as in any Jitsi.
    pub fn is_about(self, kind: ProviderKind) -> bool {
        let is_jitsi = |kind| matches!(kind, ProviderKind::Jitsi | ProviderKind::Jaas);
        kind == self.kind() || is_jitsi(kind) && is_jitsi(self.kind())
    }

    pub fn as_str(self) -> &'static str {
        self.kind().as_str()
    }
}

impl std::fmt::Display for WebhookSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for WebhookSource {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == s)
            .ok_or_else(|| format!("no webhooks come from {s:?}; they come from jitsi, jaas, bbb, zoom"))
    }
}

/// One event of one meeting.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderEvent {
    /// The same for each delivery of the same event: the provider's own id, else the SHA-256 (hex)
    /// of the body's content, whatever its field order and spacing.
    pub key: String,
    /// The provider's name of the event.
    pub event_type: String,
    /// By the provider's clock. Order is by this, not by arrival.
    pub occurred_at: DateTime<Utc>,
    /// The room in lower case, without tenant prefix and domain; of a breakout, its main room's.
    /// Empty where the provider named none (only for [`EventKind::Other`]).
    pub room: String,
    pub kind: EventKind,
}

/// What happened. `connection` is unique per connection; `person` is the id that our token carried,
/// `None` for people who came without one.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    RoomCreated {
        /// The provider's id of this life of the room.
        meeting_id: Option<String>,
    },
    RoomDestroyed {
        /// Everybody who was there during this life, where the provider tells; only people.
        occupants: Vec<Occupancy>,
    },
    /// One life of the room is over: a provider that tells them apart ends the connections of that one alone, whose names
    /// begin with `<meeting>/`.
    MeetingEnded {
        /// The provider's id of this life.
        meeting: String,
    },
    /// Somebody who cannot be told from others says that the meeting is over: the provider is to be asked.
    MeetingInDoubt,
    Joined {
        connection: String,
        person: Option<String>,
        name: String,
    },
    Left {
        connection: String,
        person: Option<String>,
        name: String,
    },
    /// Somebody has deleted the meeting at the provider: links into it lead nowhere.
    MeetingDeleted,
    RecordingStarted,
    RecordingEnded,
    /// Nobody recorded: nothing will come.
    NothingRecorded,
    /// Something about the recordings is another than it was: the provider is to be asked.
    RecordingsChanged,
    /// The provider's account, after the end, of who was there.
    EndReport {
        stays: Vec<Occupancy>,
    },
    RecordingUploaded {
        /// The provider's id of the recording.
        external_id: String,
        /// Where the file is; carries its own authorisation: never logged.
        url: String,
        duration_seconds: Option<i64>,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    },
    /// A file that the provider gives to those alone who show a token of its own.
    FileRecorded(RecordedFile),
    /// Nothing that changes a session: unknown, informational, about a machine (recorder,
    /// transcriber), or about the life of a breakout room.
    Other,
}

/// A file of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedFile {
    /// The same each time the provider tells of it.
    pub external_id: String,
    pub kind: FileKind,
    pub url: String,
    pub bytes: Option<i64>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
}

/// What a file of a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Film,
    Sound,
    Transcript,
}

impl FileKind {
    /// Under which name, and as which media type, it is kept.
    pub fn form(self) -> (&'static str, &'static str) {
        match self {
            Self::Film => ("recording.mp4", "video/mp4"),
            Self::Sound => ("recording.m4a", "audio/mp4"),
            Self::Transcript => ("transcript.vtt", "text/vtt"),
        }
    }
}

/// What a provider calls somebody whom it does not name by an id of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alias {
    /// Somebody who was registered for the meeting.
    Registrant(String),
    /// The account whose meeting it is.
    Host,
    /// In lower case.
    Email(String),
}

/// One person's last stay, as the end of a meeting tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Occupancy {
    pub connection: String,
    pub person: Option<String>,
    pub name: String,
    pub joined_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
}
