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

/// Whether this is the key of somebody whom the provider does not name: a guest without an id in the LMS.
pub fn is_guest(person: &str) -> bool {
    person.starts_with("guest:")
}

/// Whether mail could be sent there. Quoted local parts (RFC 5322 §3.2.4) are refused: nobody has one, and they could forge
/// headers.
pub fn is_mail_address(text: &str) -> bool {
    text.len() <= 254
        && text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | '"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_could_forge_mail_headers_are_not_taken() {
        assert!(is_mail_address("ayşe@okul.example"));
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\r\nBcc: c@d", "<a@b>", "a@b,c@d", "\"a b\"@c"] {
            assert!(!is_mail_address(bad), "{bad:?}");
        }
    }
}
