//! What `s3s-fs` 0.14 lacks of Amazon's behaviour and our services depend on, added around it:
//!
//! - listing unfinished multipart uploads (it has none), so that what a crashed upload left can be aborted;
//! - `NoSuchUpload` for an upload that was completed or aborted (it says `AccessDenied`), and `NoSuchBucket`;
//! - `response-content-disposition` and `response-content-type` of a presigned download (it ignores them);
//! - the entity tags of the parts of an upload, and that these are all (it lists them without);
//! - no checksum of a former object on one that a multipart upload has put in its place (clients would refuse
//!   to read it).
//!
//! Still different: part numbers of an upload must be 1, 2, 3 …; the entity tags and checksums of parts are not
//! compared; a key of more than about 110 bytes does not fit into a file name of its bookkeeping.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// The objects below one directory.
#[derive(Debug)]
pub(crate) struct Store {
    inner: FileSystem,
    root: PathBuf,
}

impl Store {
    /// Opens the store in the directory `root`, which must be there. Each directory in it is a bucket.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let inner = FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("cannot keep objects in {}: {error:?}", root.display()))?;
        Ok(Self { inner, root: root.canonicalize()? })
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// An upload belongs to the object that it was started for.
    fn check_upload(&self, bucket: &str, key: &str, upload_id: &str) -> S3Result<()> {
        // The number becomes part of a file name.
        let is_id = uuid::Uuid::parse_str(upload_id).is_ok();
        if is_id && self.upload_file(bucket, key, upload_id).is_file() { Ok(()) } else { Err(s3_error!(NoSuchUpload)) }
    }

    fn upload_file(&self, bucket: &str, key: &str, upload_id: &str) -> PathBuf {
        let prefix = object_prefix(bucket, key);
        self.root.join(format!("{prefix}.upload-{upload_id}{METADATA}"))
    }

    /// Every unfinished upload of a bucket, by key and then by start.
    fn uploads(&self, bucket: &str) -> S3Result<Vec<MultipartUpload>> {
        let start = format!(".bucket-{}.object-", URL_SAFE_NO_PAD.encode(bucket));
        let mut uploads = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(s3s::S3Error::internal_error)?.flatten() {
            let name = entry.file_name();
            let parts = name
                .to_str()
                .and_then(|name| name.strip_prefix(&start)?.strip_suffix(METADATA))
                .and_then(|rest| rest.split_once(".upload-"));
            let Some((encoded_key, upload_id)) = parts else { continue };
            let key = URL_SAFE_NO_PAD.decode(encoded_key).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let initiated = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            uploads.push(MultipartUpload {
                key,
                upload_id: Some(upload_id.to_owned()),
                initiated: initiated.map(Timestamp::from),
                ..MultipartUpload::default()
            });
        }
        uploads.sort_by(|a, b| (&a.key, &a.initiated, &a.upload_id).cmp(&(&b.key, &b.initiated, &b.upload_id)));
        Ok(uploads)
    }
}

/// In hexadecimal.
fn md5_of(mut file: fs::File) -> S3Result<String> {
    let (mut hash, mut buffer) = (Md5::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer).map_err(s3s::S3Error::internal_error)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

const METADATA: &str = ".metadata.json";

/// How `s3s-fs` begins the names of its files about one object.
fn object_prefix(bucket: &str, key: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(".bucket-{}.object-{}", encode(bucket), encode(key))
}

#[async_trait]
impl S3 for Store {
    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = usize::try_from(input.max_uploads.unwrap_or(1000)).unwrap_or(0).min(1000);
        let key_marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.upload_id_marker.clone().unwrap_or_default();
        let mut uploads = self.uploads(&input.bucket)?;
        uploads.retain(|upload| upload.key.as_ref().is_some_and(|key| key.starts_with(&prefix)));
        if !key_marker.is_empty() {
            let last_seen = uploads.iter().position(|upload| {
                upload.key.as_ref() == Some(&key_marker) && upload.upload_id.as_ref() == Some(&id_marker)
            });
            match last_seen {
                Some(index) => drop(uploads.drain(..=index)),
                // That upload has ended meanwhile, or no id was given: go on behind its key.
                None => uploads.retain(|upload| upload.key.as_ref() > Some(&key_marker)),
            }
        }
        let truncated = uploads.len() > limit;
        uploads.truncate(limit);
        let last = uploads.last().filter(|_| truncated);
        let output = ListMultipartUploadsOutput {
            next_key_marker: last.and_then(|upload| upload.key.clone()),
            next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: input.max_uploads,
            is_truncated: Some(truncated),
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.inner.create_multipart_upload(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.check_upload(&bucket, &key, &req.input.upload_id)?;
        // It would keep the checksums of the object that was there before.
        let former = self.root.join(format!("{}.internal.json", object_prefix(&bucket, &key)));
        match fs::remove_file(former) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(s3s::S3Error::internal_error(error));
            }
            _ => {}
        }
        self.inner.complete_multipart_upload(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let disposition = req.input.response_content_disposition.clone();
        let content_type = req.input.response_content_type.clone();
        let cache_control = req.input.response_cache_control.clone();
        let mut response = self.inner.get_object(req).await?;
        let output = &mut response.output;
        output.content_disposition = disposition.or(output.content_disposition.take());
        output.content_type = content_type.or(output.content_type.take());
        output.cache_control = cache_control.or(output.cache_control.take());
        Ok(response)
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.inner.put_object(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.check_upload(&req.input.bucket, &req.input.key, &req.input.upload_id)?;
        self.inner.upload_part(req).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.check_upload(&req.input.bucket, &req.input.key, &req.input.upload_id)?;
        self.inner.upload_part_copy(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.check_upload(&req.input.bucket, &req.input.key, &req.input.upload_id)?;
        let upload_id = req.input.upload_id.clone();
        let mut answer = self.inner.list_parts(req).await?;
        for part in answer.output.parts.iter_mut().flatten().filter(|part| part.e_tag.is_none()) {
            let number = part.part_number.unwrap_or_default();
            let file = fs::File::open(self.root.join(format!(".upload_id-{upload_id}.part-{number}")));
            part.e_tag = Some(ETag::Strong(md5_of(file.map_err(s3s::S3Error::internal_error)?)?));
        }
        // All of them, at once.
        answer.output.is_truncated = Some(false);
        answer.output.max_parts = Some(10_000);
        Ok(answer)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.check_upload(&req.input.bucket, &req.input.key, &req.input.upload_id)?;
        self.inner.abort_multipart_upload(req).await
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.inner.create_bucket(req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.inner.delete_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.inner.head_bucket(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.inner.list_buckets(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.inner.get_bucket_location(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.inner.head_object(req).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        self.inner.copy_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.inner.delete_object(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.inner.delete_objects(req).await
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.inner.list_objects(req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.inner.list_objects_v2(req).await
    }
}
