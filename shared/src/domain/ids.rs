//! Ids as types, so that a session's id is never taken for a recording's. All are UUIDv7
//! (RFC 9562 §5.7): they sort by time of creation and keep index inserts local.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids made later sort later.
            #[expect(clippy::new_without_default, reason = "a default id would be a new one each time")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id!(/// One school or company.
    TenantId);
id!(/// One class.
    SessionId);
id!(/// One connection of one person to one class.
    ParticipantId);
id!(/// One recording of a class.
    RecordingId);
id!(/// One server or account at a meeting provider.
    ProviderConfigId);
id!(/// One meeting that was made at a provider.
    MeetingId);
id!(/// One stored webhook.
    WebhookEventId);
id!(/// One mail that is due or was sent.
    ReminderId);
id!(/// One row of the jobs ledger.
    JobId);
id!(/// One key of a tenant's machine.
    ApiKeyId);
id!(/// One request to erase a person.
    ErasureId);
