//! Named places where a test can kill the process: `FAILPOINTS=after_effect=send-reminder` ends it, as
//! `kill -9` would, the first time that a job of this kind comes there; `*` means each kind once, `noop!` every time,
//! `noop~` blocks the thread instead. What has fired is remembered as files in `FAILPOINTS_DIR`, so that the next process gets past it. Compiled in only
//! with the feature `failpoints`, which no production build has.

/// The places, in the order of a job's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The row is claimed, nothing has begun.
    AfterClaim,
    /// The handler is about to run.
    BeforeEffect,
    /// The handler has returned; its transaction is open.
    AfterEffect,
    /// The outcome is written, not yet committed.
    BeforeCommit,
    AfterCommit,
    /// Everything is done but freeing the slot.
    BeforeAck,
}

impl Place {
    pub const ALL: [Self; 6] = [
        Self::AfterClaim,
        Self::BeforeEffect,
        Self::AfterEffect,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeAck,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterClaim => "after_claim",
            Self::BeforeEffect => "before_effect",
            Self::AfterEffect => "after_effect",
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::BeforeAck => "before_ack",
        }
    }
}

/// Marks the place; nothing in production.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn here(_: Place, _: &str) {}

/// Kills the process where `FAILPOINTS` asks for it and it has not happened yet.
#[cfg(feature = "failpoints")]
pub fn here(place: Place, kind: &str) {
    use std::{env, fs::File, path::Path};

    let Ok(wanted) = env::var("FAILPOINTS") else { return };
    let mut points =
        wanted.split(',').filter_map(|point| point.split_once('=')).filter(|(name, _)| *name == place.as_str());
    let Some((_, for_kind)) =
        points.find(|(_, for_kind)| *for_kind == "*" || for_kind.trim_end_matches(['!', '~']) == kind)
    else {
        return;
    };
    let dir = env::var("FAILPOINTS_DIR").unwrap_or_else(|_| ".".to_owned());
    let fired = Path::new(&dir).join(format!("{}={kind}", place.as_str()));
    if for_kind.ends_with('~') {
        if File::create_new(fired).is_ok() {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
        return;
    }
    if for_kind.ends_with('!') || File::create_new(fired).is_ok() {
        eprintln!("failpoint {} of {kind}: killing this process", place.as_str());
        // No unwinding, no destructors, no goodbye to Postgres or Redis.
        std::process::abort();
    }
}
