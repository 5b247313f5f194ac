//! A recording that somebody has put into the store, part by part (`api/src/uploads.rs`): it becomes one object, and is read
//! back before anybody sees it.

use super::{Fault, Import, PART_BYTES};
use crate::storage::{Digest, StorageError};

impl Import<'_> {
    pub(super) async fn take_over(&mut self) -> Result<Digest, Fault> {
        let upload_id = self.progress.upload_id.clone().unwrap_or_default();
        match self.state.storage.list_parts(&self.key, &upload_id).await {
            Ok(parts) => {
                let parts: Vec<_> = parts.into_iter().map(|part| (part.number, part.etag)).collect();
                self.state.storage.complete(&self.key, &upload_id, &parts).await?;
            }
            // The worker that completed it died before it could say so; or it is gone.
            Err(StorageError::NotFound(_)) if self.state.storage.size(&self.key).await?.is_some() => {}
            Err(StorageError::NotFound(_)) => {
                return Err(Fault::Wrong("what was uploaded is gone: upload it again".into()));
            }
            Err(error) => return Err(error.into()),
        }
        let digest = self.state.storage.digest(&self.key, PART_BYTES as u64).await?;
        let announced = (self.recording.announced_bytes, self.recording.announced_sha256.as_deref());
        if announced == (i64::try_from(digest.bytes).ok(), Some(&digest.sha256)) {
            return Ok(digest);
        }
        // Visible under its key, but not what was meant: nobody is to find it.
        self.state.storage.delete(&self.key).await?;
        Err(Fault::Wrong("other bytes were uploaded than were announced: upload it again".into()))
    }
}
