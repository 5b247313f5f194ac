//! The kinds of meeting software.

use serde::{Deserialize, Serialize};

/// Stored per session and per provider configuration; its words are also those of the webhooks' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ProviderKind {
    /// A Jitsi server of one's own.
    Jitsi,
    /// Jitsi as a service (8x8).
    Jaas,
    /// BigBlueButton, or Scalelite in front of several.
    Bbb,
    Zoom,
}

impl ProviderKind {
    pub const ALL: [Self; 4] = [Self::Jitsi, Self::Jaas, Self::Bbb, Self::Zoom];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jitsi => "jitsi",
            Self::Jaas => "jaas",
            Self::Bbb => "bbb",
            Self::Zoom => "zoom",
        }
    }

    /// Whether each wish for a meeting makes another one there: it is to be made once, and kept until it is over. Elsewhere a
    /// repeat finds the one that is there.
    pub fn makes_meetings_once(self) -> bool {
        self == Self::Zoom
    }

    /// Whether it can be asked, after the end of a meeting, who was there.
    pub fn reports(self) -> bool {
        self == Self::Zoom
    }

    /// Whether a meeting has to be made at the server before anybody can join, and ended there: it does not come and go with
    /// the people in it.
    pub fn makes_meetings(self) -> bool {
        match self {
            Self::Jitsi | Self::Jaas => false,
            Self::Bbb | Self::Zoom => true,
        }
    }

    /// Whether meetings can be ended at the server: of a Jitsi, where our Prosody module takes commands.
    pub fn ends_meetings(self, jitsi_takes_commands: bool) -> bool {
        match self {
            Self::Jitsi => jitsi_takes_commands,
            Self::Bbb | Self::Zoom => true,
            Self::Jaas => false,
        }
    }
}
