//! What can be done where a session is held, so that a page shows no button that would not work. What cannot be done is
//! refused with [`ProviderError::Unsupported`](super::ProviderError::Unsupported).

use serde::{Deserialize, Serialize};

use super::{Providers, jitsi, zoom};
use crate::domain::provider::ProviderKind;

/// For one provider as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The first join makes the meeting. Else a room is there whenever somebody is in it.
    pub makes_meetings: bool,
    /// Ending a session ends the meeting for everybody in it.
    pub ends_meetings: bool,
    /// A person can be removed from a running meeting.
    pub removes_people: bool,
    /// A join gives a credential with which a page embeds the meeting, beside the link.
    pub embeds: bool,
    /// Participants wait until somebody who hosts lets them in, as it is configured.
    pub lobby: bool,
    /// Tells who comes and who leaves, as it happens.
    pub tells_people: bool,
    /// Can be asked who is there, so that a lost event does no harm.
    pub polls_people: bool,
    /// Tells once more, when a meeting is over, who was there and when.
    pub reports_at_end: bool,
    /// Recordings are fetched from it, or handed over by it.
    pub records: bool,
    /// Minutes after the end until a recording is usually there, from its documentation and experience; null where none is.
    pub recording_delay_minutes: Option<u32>,
}

impl Providers {
    /// What the provider of this kind can do as it is configured here; where it is not, what it could.
    pub fn capabilities(&self, kind: ProviderKind) -> Capabilities {
        let none = Capabilities {
            makes_meetings: kind.makes_meetings(),
            ends_meetings: false,
            removes_people: false,
            embeds: false,
            lobby: false,
            tells_people: true,
            polls_people: false,
            reports_at_end: false,
            records: true,
            recording_delay_minutes: None,
        };
        match kind {
            // event_sync and our own module tell the people of a room again when it closes; Jibri's file is ready at once.
            ProviderKind::Jitsi => {
                let takes_commands = self.jitsi_control().is_ok();
                Capabilities {
                    ends_meetings: takes_commands,
                    removes_people: takes_commands,
                    embeds: true,
                    lobby: self.adapters.jitsi.as_ref().is_some_and(jitsi::Jitsi::has_lobby),
                    reports_at_end: true,
                    recording_delay_minutes: Some(1),
                    ..none
                }
            }
            ProviderKind::Jaas => Capabilities { embeds: true, recording_delay_minutes: Some(10), ..none },
            // It is rendered after the end, about as long as the class took.
            ProviderKind::Bbb => Capabilities {
                ends_meetings: true,
                polls_people: true,
                // Learning analytics, where the operator has installed their script.
                reports_at_end: true,
                recording_delay_minutes: Some(60),
                ..none
            },
            // Its report is there some 15 minutes after the end. A page embeds it with an app for the Meeting SDK.
            ProviderKind::Zoom => Capabilities {
                ends_meetings: true,
                embeds: self.zoom().map_or(true, zoom::Zoom::embeds),
                reports_at_end: true,
                recording_delay_minutes: Some(60),
                ..none
            },
        }
    }
}
