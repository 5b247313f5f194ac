//! Who somebody is: what the LMS's token says of them.

use serde::{Deserialize, Serialize};

/// What a token's `roles` claim may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Student,
    Instructor,
    /// Administrator of one tenant.
    Admin,
    /// The LMS back end itself, for its tenant.
    Service,
    /// Runs the service; sees jobs and queues of all tenants.
    Operator,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Student, Self::Instructor, Self::Admin, Self::Service, Self::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Instructor => "instructor",
            Self::Admin => "admin",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }
}

/// What a person is in one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Part {
    Host,
    CoHost,
    Participant,
}

impl Part {
    /// Hosts and co-hosts moderate at the provider.
    pub fn moderates(self) -> bool {
        !matches!(self, Self::Participant)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::CoHost => "co_host",
            Self::Participant => "participant",
        }
    }
}
