//! Brings one recording from the provider into the object store: streamed in constant memory, part by part, verified
//! against what the store holds in the end.
//!
//! After each part the row says how far the import has come, with the part's SHA-256. A new worker compares that with
//! the parts that the store really has and goes on behind the last one that agrees, if the provider still has the same
//! file (Range with If-Range); otherwise it begins anew. Nothing is visible before the last part is there, and nothing
//! is published before the object was read back and is, block for block, what was fetched.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode, header};
use sha2::{Digest as _, Sha256};
use shared::{
    db::{
        provider_configs,
        recordings::{self, Holder, Part, Progress},
        reminders, sessions,
    },
    domain::{provider::ProviderKind, recording::Recording},
    jobs::ImportRecording,
    providers::settings::Settings,
};

use crate::{
    fetch::{self, FetchError, Resume, Source},
    handler::{Ctx, Done, Handler, JobError},
    state::State,
    storage::{Digest, StorageError, StoredPart},
};

/// All parts but the last have this size; S3 allows no less than 5 MiB and no more than 10,000 parts.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Larger files are refused. Six hours in the best quality that providers record have a tenth of it.
const LARGEST: u64 = 64 * 1024 * 1024 * 1024;
/// How long a provider that does not have the file yet is left alone.
const NOT_THERE_WAIT: Duration = Duration::from_secs(60);

mod handed_over;

impl Handler for ImportRecording {
    async fn run(self, state: &State, ctx: &Ctx) -> Result<Done, JobError> {
        let started = std::time::Instant::now();
        let holder = (ctx.lease.id, ctx.lease.token);
        let mut tx = ctx.begin(state).await?;
        if !recordings::begin_import(&mut *tx, self.recording_id, holder).await? {
            return Ok(Done::nothing());
        }
        let Some(recording) = recordings::find(&mut *tx, self.recording_id).await? else {
            return Ok(Done::nothing());
        };
        tx.commit().await?;
        let mut import =
            Import { state, ctx, holder, key: recording.key_in_store(), progress: Progress::of(&recording), recording };
        let done = match import.recording.handed_over_at {
            Some(_) => import.take_over().await,
            None => import.run().await,
        };
        match done {
            Ok(digest) => {
                let mut tx = ctx.begin(state).await?;
                recordings::mark_published(&mut *tx, self.recording_id, &import.key, digest.bytes, &digest.sha256)
                    .await?;
                if let Some(session) = sessions::find(&mut *tx, import.recording.session_id).await? {
                    reminders::plan_recording_ready(&mut tx, &session, state.clock.now()).await?;
                }
                metrics::histogram!("live_recording_processing_seconds").record(started.elapsed());
                tracing::info!(recording.id = %self.recording_id, bytes = digest.bytes, "recording imported");
                Ok(Done::with(tx))
            }
            Err(fault) => Err(import.end(fault).await),
        }
    }
}

/// Why an import does not go on now.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Source(#[from] FetchError),
    #[error(transparent)]
    Store(#[from] StorageError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What was fetched is not the recording, and will not be.
    #[error("{0}")]
    Wrong(String),
    /// What was fetched or stored is incomplete or damaged; begin anew.
    #[error("{0}")]
    Broken(String),
    #[error("the import was asked to stop")]
    Stopped,
    #[error("another worker has taken the import over")]
    LeaseLost,
}

struct Import<'a> {
    state: &'a State,
    ctx: &'a Ctx,
    holder: Holder,
    key: String,
    progress: Progress,
    recording: Recording,
}

impl Import<'_> {
    async fn run(&mut self) -> Result<Digest, Fault> {
        if let Some(digest) = self.compare_with_store().await? {
            return Ok(digest);
        }
        let response = self.open_source().await?;
        let total = self.total_size(&response)?;
        self.copy(response, total).await?;
        let digest = self.verify(total).await;
        if let Err(Fault::Broken(_)) = &digest {
            // Visible under its key, but not what was fetched: nobody is to find it.
            self.state.storage.delete(&self.key).await?;
        }
        digest
    }

    /// Keeps of the progress what the store really has. A digest when it has all: the worker that completed the upload
    /// died before it could say so.
    async fn compare_with_store(&mut self) -> Result<Option<Digest>, Fault> {
        let Some(upload_id) = self.progress.upload_id.clone() else {
            self.progress = Progress::default();
            return Ok(None);
        };
        let stored = match self.state.storage.list_parts(&self.key, &upload_id).await {
            Ok(stored) => stored,
            Err(StorageError::NotFound(_)) => {
                let whole = match self.state.storage.size(&self.key).await? {
                    Some(_) => self.verify(None).await.ok(),
                    None => None,
                };
                self.progress = Progress::default();
                return Ok(whole);
            }
            Err(error) => return Err(error.into()),
        };
        let agrees = |n: usize, part: &Part| {
            let whole = part.bytes == PART_BYTES as u64 && usize::try_from(part.number) == Ok(n + 1);
            whole && stored.iter().any(|s| same(s, part))
        };
        let kept = self.progress.parts.iter().enumerate().take_while(|(n, part)| agrees(*n, part)).count();
        self.progress.parts.truncate(kept);
        Ok(None)
    }

    /// Asks for the rest of the file, or for all of it.
    async fn open_source(&mut self) -> Result<Response, Fault> {
        let url = self.recording.source_url.clone().unwrap_or_default();
        let now = self.state.clock.now();
        let source = self.source().await?;
        let mut resume = self.resume();
        let response = match source.get(&url, resume.as_ref(), now).await {
            // The parts in the store are the whole file: its last one is fetched again.
            Err(FetchError::Refused(416)) if resume.is_some() => {
                self.progress.parts.pop();
                resume = self.resume();
                source.get(&url, resume.as_ref(), now).await?
            }
            answer => answer?,
        };
        let etag = strong_etag(&response);
        let goes_on = resume.is_some_and(|resume| {
            response.status() == StatusCode::PARTIAL_CONTENT
                && content_range(&response).is_some_and(|range| range.start == resume.from)
                && etag.as_ref().is_none_or(|etag| *etag == resume.etag)
        });
        if goes_on {
            tracing::info!(recording.id = %self.recording.id, bytes_done = self.progress.bytes(), "the import goes on");
            return Ok(response);
        }
        if response.status() == StatusCode::PARTIAL_CONTENT {
            self.forget_progress().await?;
            return Err(Fault::Broken("the provider answered with a part that was not asked for".into()));
        }
        if self.progress.upload_id.is_some() {
            // The provider knows no ranges, or has another file now.
            self.forget_progress().await?;
        }
        self.progress.source_etag = etag;
        Ok(response)
    }

    /// Where the recording may come from, and as whom it is asked for there.
    async fn source(&self) -> Result<Source, Fault> {
        let (tenant, id) = (self.recording.tenant_id, self.recording.id);
        let config = provider_configs::find_for_recording(&self.state.db, tenant, id).await?;
        let settings = config.as_ref().map(|config| Settings::read(config.provider, &config.settings)).transpose();
        let settings = settings.map_err(|e| Fault::Wrong(format!("its provider configuration cannot be read: {e}")))?;
        let source = self.state.fetcher.source(settings.as_ref());
        match config.filter(|config| config.provider == ProviderKind::Zoom) {
            None => Ok(source),
            Some(config) => {
                let mut connection = self.state.db.acquire().await?;
                let providers = self.state.providers_of(&mut connection, config.id).await;
                let providers = providers.map_err(|e| FetchError::Failed(e.to_string()))?;
                let zoom = providers.as_ref().and_then(|providers| providers.zoom().ok().cloned());
                Ok(source.of_zoom(zoom))
            }
        }
    }

    fn resume(&self) -> Option<Resume> {
        let from = self.progress.bytes();
        self.progress.source_etag.clone().filter(|_| from > 0).map(|etag| Resume { from, etag })
    }

    /// The size of the whole file, where somebody says it; and whether this is a recording at all.
    fn total_size(&self, response: &Response) -> Result<Option<u64>, Fault> {
        if fetch::is_page(response.headers()) {
            return Err(Fault::Wrong("the provider answered with a web page instead of a file".into()));
        }
        let told = match content_range(response) {
            Some(range) if response.status() == StatusCode::PARTIAL_CONTENT => range.total,
            _ => response.content_length(),
        };
        let announced = self.recording.announced_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        if let (Some(told), Some(announced)) = (told, announced)
            && told != announced
        {
            return Err(Fault::Broken(format!("the provider announced {announced} bytes and sends {told}")));
        }
        match told.or(announced) {
            Some(total) if total > LARGEST => Err(Fault::Wrong(format!("{total} bytes are more than {LARGEST}"))),
            Some(0) => Err(Fault::Broken("the file is empty".into())),
            total => Ok(total),
        }
    }

    /// Streams the body into the store, one part at a time.
    async fn copy(&mut self, mut response: Response, total: Option<u64>) -> Result<(), Fault> {
        let mut buffer = BytesMut::with_capacity(PART_BYTES);
        loop {
            let piece = tokio::select! {
                () = self.ctx.stop.cancelled() => return Err(Fault::Stopped),
                piece = response.chunk() => piece.map_err(|e| fetch::failed(&e))?,
            };
            let Some(mut piece) = piece else { break };
            while !piece.is_empty() {
                let room = PART_BYTES - buffer.len();
                buffer.extend_from_slice(&piece.split_to(room.min(piece.len())));
                if buffer.len() == PART_BYTES {
                    self.send_part(buffer.split().freeze()).await?;
                    buffer.reserve(PART_BYTES);
                }
            }
        }
        let fetched = self.progress.bytes() + buffer.len() as u64;
        match total {
            Some(total) if total != fetched => {
                return Err(Fault::Broken(format!("{fetched} of {total} bytes came")));
            }
            _ if fetched == 0 => return Err(Fault::Broken("the file is empty".into())),
            _ => {}
        }
        if self.progress.upload_id.is_none() {
            return self.put_whole(buffer.freeze()).await;
        }
        if !buffer.is_empty() {
            self.send_part(buffer.freeze()).await?;
        }
        let upload_id = self.progress.upload_id.clone().unwrap_or_default();
        let parts: Vec<_> = self.progress.parts.iter().map(|part| (part.number, part.etag.clone())).collect();
        Ok(self.state.storage.complete(&self.key, &upload_id, &parts).await?)
    }

    /// A file that is smaller than one part.
    async fn put_whole(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let part = Part { number: 1, etag: String::new(), bytes: bytes.len() as u64, sha256: sha256(&bytes) };
        self.state.storage.put(&self.key, &self.recording.content_type, bytes).await?;
        self.progress.parts = vec![part];
        Ok(())
    }

    async fn send_part(&mut self, bytes: Bytes) -> Result<(), Fault> {
        if self.progress.bytes() + bytes.len() as u64 > LARGEST {
            return Err(Fault::Wrong(format!("more than {LARGEST} bytes")));
        }
        let upload_id = match self.progress.upload_id.clone() {
            Some(upload_id) => upload_id,
            None => {
                let upload_id = self.state.storage.start_upload(&self.key, &self.recording.content_type).await?;
                self.progress.upload_id = Some(upload_id.clone());
                // Written down before the first part, so that a crash leaves no upload that nobody knows.
                self.save().await?;
                upload_id
            }
        };
        let number = i32::try_from(self.progress.parts.len() + 1).unwrap_or(i32::MAX);
        let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
        let stored = self.state.storage.upload_part(&self.key, &upload_id, number, bytes).await?;
        self.progress.parts.push(Part { number, etag: stored.etag, bytes: size, sha256 });
        self.save().await
    }

    async fn save(&self) -> Result<(), Fault> {
        match recordings::save_progress(&self.state.db, self.recording.id, self.holder, &self.progress).await? {
            true => Ok(()),
            false => Err(Fault::LeaseLost),
        }
    }

    /// Reads the object back and compares it with what was fetched and announced.
    async fn verify(&self, total: Option<u64>) -> Result<Digest, Fault> {
        let digest = self.state.storage.digest(&self.key, PART_BYTES as u64).await?;
        let fetched: Vec<&str> = self.progress.parts.iter().map(|part| part.sha256.as_str()).collect();
        if total.is_some_and(|total| total != digest.bytes) || digest.blocks != fetched {
            return Err(Fault::Broken("the object store holds other bytes than were fetched".into()));
        }
        match &self.recording.announced_sha256 {
            Some(announced) if !announced.eq_ignore_ascii_case(&digest.sha256) => {
                Err(Fault::Broken("the file's SHA-256 is not the announced one".into()))
            }
            _ => Ok(digest),
        }
    }

    /// Begins anew: the parts in the store are of no use.
    async fn forget_progress(&mut self) -> Result<(), Fault> {
        let upload_id = self.progress.upload_id.take();
        self.progress = Progress::default();
        // First the row, then the store: an upload that no row knows is aborted by `sync-recordings`.
        self.save().await?;
        if let Some(upload_id) = upload_id {
            self.state.storage.abort(&self.key, &upload_id).await?;
        }
        Ok(())
    }

    /// Decides whether the import is tried again, later, or never, and says in the row what became of it.
    async fn end(&mut self, fault: Fault) -> JobError {
        let error = self.judge(fault).await;
        let reason = match &error {
            JobError::Retry(reason) => Some(format!("{reason:#}")),
            JobError::Snooze(wait, reason) => (!wait.is_zero()).then(|| reason.clone()),
            JobError::Fail(_) => return error,
        };
        // Of a recording that was given up, or that another worker has taken over, this changes nothing.
        let waits = recordings::wait_for_retry(&self.state.db, self.recording.id, self.holder, reason.as_deref());
        if let Err(error) = waits.await {
            tracing::warn!(error = %error, "the row of an import that waits for a retry could not be written");
        }
        error
    }

    async fn judge(&mut self, fault: Fault) -> JobError {
        let late = self.recording.deadline_at.is_some_and(|deadline| deadline <= self.state.clock.now());
        match &fault {
            Fault::LeaseLost => return JobError::Retry(fault.into()),
            Fault::Stopped => return JobError::Snooze(Duration::ZERO, fault.to_string()),
            Fault::Source(FetchError::NotThere) if !late => {
                return JobError::Snooze(NOT_THERE_WAIT, "the provider does not have the file yet".into());
            }
            Fault::Source(FetchError::Busy { wait, .. }) if !late => return JobError::Snooze(*wait, fault.to_string()),
            Fault::Broken(_) => {
                if let Err(error) = self.forget_progress().await {
                    tracing::warn!(error = %error, "the progress of a broken import could not be forgotten");
                }
            }
            _ => {}
        }
        let missing = matches!(fault, Fault::Source(FetchError::NotThere));
        let never = missing
            || matches!(
                fault,
                Fault::Wrong(_)
                    | Fault::Source(FetchError::NotAllowed(_) | FetchError::Refused(_))
                    | Fault::Store(StorageError::Refused(..))
            );
        if !never && !self.ctx.is_last_attempt() {
            return JobError::Retry(fault.into());
        }
        if let Err(error) = self.give_up(missing, &fault.to_string()).await {
            return JobError::Retry(error.into());
        }
        if never { JobError::Fail(fault.into()) } else { JobError::Retry(fault.into()) }
    }

    async fn give_up(&mut self, missing: bool, reason: &str) -> Result<(), Fault> {
        let upload_id = self.progress.upload_id.take();
        let mut tx = self.ctx.begin(self.state).await?;
        if recordings::give_up(&mut *tx, self.recording.id, self.holder, missing, reason).await?
            && let Some(session) = sessions::find(&mut *tx, self.recording.session_id).await?
        {
            reminders::plan_recording_missing(&mut tx, &session, self.state.clock.now()).await?;
        }
        tx.commit().await?;
        let state = if missing { "missing" } else { "failed" };
        metrics::counter!("recordings_given_up_total", "state" => state).increment(1);
        tracing::warn!(recording.id = %self.recording.id, session.id = %self.recording.session_id, reason, "the import is given up");
        if let Some(upload_id) = upload_id
            && let Err(error) = self.state.storage.abort(&self.key, &upload_id).await
        {
            // `sync-recordings` aborts it later.
            tracing::warn!(error = %error, "the upload of a failed import could not be aborted");
        }
        Ok(())
    }
}

/// Some stores list parts without their tags; what they are made of is checked in the end anyway.
fn same(stored: &StoredPart, part: &Part) -> bool {
    let same_tag = stored.etag.is_empty() || stored.etag == part.etag;
    stored.number == part.number && stored.bytes == part.bytes && same_tag
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Weak ones do not promise equal bytes (RFC 9110 §8.8.1).
fn strong_etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(header::ETAG)?.to_str().ok()?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

struct ContentRange {
    start: u64,
    total: Option<u64>,
}

/// `bytes <first>-<last>/<total or *>` (RFC 9110 §14.4).
fn content_range(response: &Response) -> Option<ContentRange> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some(ContentRange { start: start.trim().parse().ok()?, total: total.trim().parse().ok() })
}
