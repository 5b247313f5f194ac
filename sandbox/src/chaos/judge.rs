//! Counts what the outside saw, once everything has settled.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use anyhow::Context;
use sandbox::{process::lock, recording_host::sha256_of, system::System};
use sha2::{Digest as _, Sha256};

use super::{Accepted, Ledger, load::RECORDING_BYTES};

/// Without any new effect for this long, everything that is to come has come: longer than a lease, a rescue and the
/// first back-offs of a retry.
const QUIET: Duration = Duration::from_secs(90);
/// So many of what is missing are named.
const NAMED: usize = 20;
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Verdict {
    pub accepted_mails: usize,
    pub accepted_recordings: usize,
    pub effects: usize,
    pub lost: usize,
    /// With the same Message-ID: a kill between the mail server's "250" and our mark.
    pub doubled_with_same_id: usize,
    pub doubled_with_other_id: usize,
    pub doubled_objects: usize,
    pub unanswered: usize,
    /// What is missing, by name.
    pub missing: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "accepted  {} mails, {} recordings", self.accepted_mails, self.accepted_recordings)?;
        writeln!(f, "effects   {} mails and objects for these", self.effects)?;
        writeln!(f, "lost      {}", self.lost)?;
        writeln!(
            f,
            "doubled   {} mails with the same Message-ID (killed between the server's answer and our mark), \
             {} mails with another one, {} objects",
            self.doubled_with_same_id, self.doubled_with_other_id, self.doubled_objects
        )?;
        write!(f, "({} requests had no good answer; their effects are not judged)", self.unanswered)?;
        self.missing.iter().take(NAMED).try_for_each(|name| write!(f, "\nmissing   {name}"))
    }
}

/// Waits until nothing new happens, then counts.
pub async fn judge(system: &System, accepted: &Ledger) -> anyhow::Result<Verdict> {
    settle(system, accepted).await;
    let accepted = lock(accepted);
    Ok(count(system, &accepted))
}

/// Until everything accepted is there, or nothing has come for a while.
async fn settle(system: &System, accepted: &Ledger) {
    let started = tokio::time::Instant::now();
    let (mut last, mut since) = (0, started);
    loop {
        let verdict = {
            let accepted = lock(accepted);
            count(system, &accepted)
        };
        if verdict.effects != last {
            (last, since) = (verdict.effects, tokio::time::Instant::now());
        }
        if verdict.lost == 0 || since.elapsed() > QUIET || started.elapsed() > PATIENCE {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn count(system: &System, accepted: &Accepted) -> Verdict {
    // Per address: how often each Message-ID came.
    let mut mails: HashMap<String, BTreeMap<String, usize>> = HashMap::new();
    for mail in system.smtp.messages() {
        let id = mail.message_id().unwrap_or_default().to_owned();
        for address in mail.to() {
            *mails.entry(address.clone()).or_default().entry(id.clone()).or_default() += 1;
        }
    }
    let mut verdict = Verdict {
        accepted_mails: 0,
        accepted_recordings: accepted.recordings.len(),
        effects: 0,
        lost: 0,
        doubled_with_same_id: 0,
        doubled_with_other_id: 0,
        doubled_objects: 0,
        unanswered: accepted.unanswered,
        missing: Vec::new(),
    };
    for (planned, address) in accepted.sessions.iter().flat_map(|one| one.addresses.iter().map(move |to| (one, to))) {
        let got = mails.get(address);
        let different = got.map_or(0, BTreeMap::len);
        verdict.accepted_mails += planned.mails;
        verdict.effects += different.min(planned.mails);
        if different < planned.mails {
            verdict.lost += planned.mails - different;
            verdict.missing.push(format!("a mail to {address} about session {}", planned.id));
        }
        verdict.doubled_with_other_id += different.saturating_sub(planned.at_most);
        verdict.doubled_with_same_id += got.map_or(0, |ids| ids.values().map(|n| n - 1).sum());
    }
    let objects = object_hashes(system);
    let expected: BTreeMap<u64, &String> = accepted.recordings.iter().map(|(name, seed)| (*seed, name)).collect();
    for (seed, name) in expected {
        let copies = objects.iter().filter(|hash| **hash == expected_hash(seed)).count();
        verdict.effects += copies.min(1);
        if copies == 0 {
            verdict.lost += 1;
            verdict.missing.push(format!("recording {name}"));
        }
        verdict.doubled_objects += copies.saturating_sub(1);
    }
    verdict
}

/// Of a source; computed once each, because settling asks again and again.
fn expected_hash(seed: u64) -> String {
    static KNOWN: std::sync::Mutex<BTreeMap<u64, String>> = std::sync::Mutex::new(BTreeMap::new());
    lock(&KNOWN).entry(seed).or_insert_with(|| sha256_of(RECORDING_BYTES, seed)).clone()
}

/// Of every object, as it lies in the store's directory.
fn object_hashes(system: &System) -> Vec<String> {
    static KNOWN: std::sync::Mutex<BTreeMap<String, String>> = std::sync::Mutex::new(BTreeMap::new());
    let mut known = lock(&KNOWN);
    let keys = system.s3.objects("recordings");
    keys.into_iter()
        .filter_map(|key| {
            if let Some(hash) = known.get(&key) {
                return Some(hash.clone());
            }
            let bytes = system.s3.read_object("recordings", &key).context("an object").ok()?;
            let hash = hex::encode(Sha256::digest(bytes));
            known.insert(key, hash.clone());
            Some(hash)
        })
        .collect()
}
