//! The object store: recordings go in by multipart uploads that a new process can go on with, and are read back for
//! verification. It knows keys and bytes, not what they mean.

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::config::StorageConfig;

/// Sending one part may take this long; 8 MiB at 70 kB/s.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    client: Client,
    bucket: String,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// From 1.
    pub number: i32,
    pub etag: String,
    pub bytes: u64,
}

/// An upload that was neither completed nor aborted.
#[derive(Debug, Clone)]
pub struct Upload {
    pub key: String,
    pub upload_id: String,
    pub started_at: DateTime<Utc>,
}

/// What an object is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub bytes: u64,
    /// Of the whole, lower-case hex.
    pub sha256: String,
    /// Of each block, in order, lower-case hex; the last one may be shorter.
    pub blocks: Vec<String>,
}

/// The variants are what callers do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object or upload.
    #[error("{0}: not there")]
    NotFound(&'static str),
    /// Will be answered the same next time: wrong credentials, no such bucket, a faulty request.
    #[error("{0}: the object store refuses: {1}")]
    Refused(&'static str, String),
    /// Worth another attempt.
    #[error("{0}: the object store does not do it now: {1}")]
    Unavailable(&'static str, String),
}

impl Storage {
    /// Connects nothing yet. With an endpoint the bucket is named in the path, which every S3-compatible server
    /// understands, and checksums that only Amazon's knows are left out.
    pub async fn new(config: &StorageConfig) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(READ_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(config.s3_region.clone()))
            .retry_config(RetryConfig::standard().with_max_attempts(4))
            .timeout_config(timeouts);
        if !config.aws_access_key_id.is_empty() {
            loader = loader.credentials_provider(Credentials::new(
                &config.aws_access_key_id,
                &config.aws_secret_access_key,
                None,
                None,
                "settings",
            ));
        }
        let shared = loader.load().await;
        let mut settings = aws_sdk_s3::config::Builder::from(&shared);
        if !config.s3_endpoint.is_empty() {
            settings = settings
                .endpoint_url(&config.s3_endpoint)
                .force_path_style(true)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Self { client: Client::from_conf(settings.build()), bucket: config.s3_bucket.clone() }
    }

    /// Whether the bucket is there and the credentials are right.
    pub async fn check(&self) -> anyhow::Result<()> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send().await;
        match asked.map_err(|e| classify("bucket", e)) {
            Ok(_) => Ok(()),
            Err(StorageError::NotFound(_)) => anyhow::bail!("S3_BUCKET: there is no bucket {:?}", self.bucket),
            Err(error @ StorageError::Refused(..)) => {
                anyhow::bail!("{error}: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and S3_REGION")
            }
            Err(error) => anyhow::bail!("{error}: look at S3_ENDPOINT"),
        }
    }

    /// Writes a whole object.
    pub async fn put(&self, key: &str, content_type: &str, bytes: Bytes) -> Result<(), StorageError> {
        let request = self.client.put_object().bucket(&self.bucket).key(key).content_type(content_type);
        request.body(ByteStream::from(bytes)).send().await.map_err(|e| classify("put", e))?;
        Ok(())
    }

    /// Begins a multipart upload; nothing is visible until [`Storage::complete`]. Returns its id.
    pub async fn start_upload(&self, key: &str, content_type: &str) -> Result<String, StorageError> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key).content_type(content_type);
        let started = request.send().await.map_err(|e| classify("start upload", e))?;
        started.upload_id.ok_or_else(|| StorageError::Unavailable("start upload", "no upload id was answered".into()))
    }

    /// Sends one part; a part of the same number is replaced. All but the last have to have 5 MiB (S3's limit).
    pub async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: i32,
        bytes: Bytes,
    ) -> Result<StoredPart, StorageError> {
        let size = bytes.len() as u64;
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(upload_id);
        let sent = request.part_number(number).body(ByteStream::from(bytes)).send().await;
        let sent = sent.map_err(|e| classify("upload part", e))?;
        Ok(StoredPart { number, etag: sent.e_tag.unwrap_or_default(), bytes: size })
    }

    /// The parts that an upload has, by number; [`StorageError::NotFound`] when there is no such upload (any more).
    pub async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<StoredPart>, StorageError> {
        let request = self.client.list_parts().bucket(&self.bucket).key(key).upload_id(upload_id);
        let mut pages = request.into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            for part in page.map_err(|e| classify("list parts", e))?.parts.unwrap_or_default() {
                parts.push(StoredPart {
                    number: part.part_number.unwrap_or_default(),
                    etag: part.e_tag.unwrap_or_default(),
                    bytes: part.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                });
            }
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Makes the object visible, all at once.
    pub async fn complete(&self, key: &str, upload_id: &str, parts: &[(i32, String)]) -> Result<(), StorageError> {
        let parts =
            parts.iter().map(|(number, etag)| CompletedPart::builder().part_number(*number).e_tag(etag).build());
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload_id);
        request.multipart_upload(upload).send().await.map_err(|e| classify("complete upload", e))?;
        Ok(())
    }

    /// Forgets an upload and its parts. One that is gone already is no error.
    pub async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StorageError> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload_id);
        gone_is_fine(request.send().await.map(drop).map_err(|e| classify("abort upload", e)))
    }

    /// Uploads in the whole bucket that are neither completed nor aborted.
    pub async fn list_uploads(&self) -> Result<Vec<Upload>, StorageError> {
        let mut found = Vec::new();
        let (mut key, mut upload) = (None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket);
            let page = request.set_key_marker(key).set_upload_id_marker(upload).send().await;
            let page = page.map_err(|e| classify("list uploads", e))?;
            found.extend(page.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
                let started = upload.initiated?;
                Some(Upload {
                    key: upload.key?,
                    upload_id: upload.upload_id?,
                    started_at: DateTime::from_timestamp(started.secs(), started.subsec_nanos())?,
                })
            }));
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(found);
            }
            (key, upload) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    /// The size of an object in bytes; `None` when it is not there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let asked = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        match asked.map_err(|e| classify("head", e)) {
            Ok(head) => Ok(head.content_length.and_then(|size| u64::try_from(size).ok())),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an object through, in constant memory, and hashes it as a whole and in blocks of `block` bytes.
    pub async fn digest(&self, key: &str, block: u64) -> Result<Digest, StorageError> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let mut body = request.send().await.map_err(|e| classify("get", e))?.body;
        let mut hashing = BlockHash::new(block);
        while let Some(piece) = body.next().await {
            hashing.update(&piece.map_err(|e| StorageError::Unavailable("get", e.to_string()))?);
        }
        Ok(hashing.finish())
    }

    /// Deletes an object. One that is gone already is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        gone_is_fine(request.send().await.map(drop).map_err(|e| classify("delete", e)))
    }
}

/// SHA-256 of a stream as a whole and block by block.
struct BlockHash {
    block: u64,
    left: u64,
    bytes: u64,
    whole: Sha256,
    current: Sha256,
    blocks: Vec<String>,
}

impl BlockHash {
    fn new(block: u64) -> Self {
        let block = block.max(1);
        Self { block, left: block, bytes: 0, whole: Sha256::new(), current: Sha256::new(), blocks: Vec::new() }
    }

    fn update(&mut self, mut piece: &[u8]) {
        self.whole.update(piece);
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let length = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (now, later) = piece.split_at(length);
            self.current.update(now);
            self.left -= length as u64;
            if self.left == 0 {
                self.blocks.push(hex::encode(std::mem::take(&mut self.current).finalize()));
                self.left = self.block;
            }
            piece = later;
        }
    }

    fn finish(mut self) -> Digest {
        if self.left < self.block {
            self.blocks.push(hex::encode(self.current.finalize()));
        }
        Digest { bytes: self.bytes, sha256: hex::encode(self.whole.finalize()), blocks: self.blocks }
    }
}

fn gone_is_fine(result: Result<(), StorageError>) -> Result<(), StorageError> {
    match result {
        Err(StorageError::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// An error with what caused it, each said once.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

fn classify<E>(what: &'static str, error: SdkError<E>) -> StorageError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    let mut reason = match status {
        Some(status) => format!("status {status} {code} {}", error.message().unwrap_or_default()),
        None => with_sources(&error),
    };
    reason.truncate(reason.floor_char_boundary(500));
    match (status, code.as_str()) {
        (_, "NoSuchBucket") => StorageError::Refused(what, reason),
        (Some(404), _) => StorageError::NotFound(what),
        // A stream that broke, a clock that is being set, a store that asks for patience.
        (Some(408 | 409 | 429), _) | (_, "RequestTimeout" | "RequestTimeTooSkewed" | "SlowDown") => {
            StorageError::Unavailable(what, reason)
        }
        (Some(400..500), _) => StorageError::Refused(what, reason),
        _ => StorageError::Unavailable(what, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_hashed_alike_however_the_stream_is_cut() {
        let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let of = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        for cut in [1, 7, 256, 400, 1000] {
            let mut hashing = BlockHash::new(400);
            data.chunks(cut).for_each(|piece| hashing.update(piece));
            let digest = hashing.finish();
            assert_eq!((digest.bytes, &digest.sha256), (1000, &of(&data)));
            assert_eq!(digest.blocks, [of(&data[..400]), of(&data[400..800]), of(&data[800..])], "{cut}");
        }
        let mut even = BlockHash::new(500);
        even.update(&data);
        assert_eq!(even.finish().blocks.len(), 2);
        assert!(BlockHash::new(8).finish().blocks.is_empty());
    }
}
