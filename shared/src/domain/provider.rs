//! The kinds of meeting software.

use serde::{Deserialize, Serialize};

/// Stored per session; one exhaustive `match` in `providers::Providers` finds the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ProviderKind {
    Jitsi,
    BigBlueButton,
    Zoom,
}

impl ProviderKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jitsi => "jitsi",
            Self::BigBlueButton => "bigbluebutton",
            Self::Zoom => "zoom",
        }
    }
}
