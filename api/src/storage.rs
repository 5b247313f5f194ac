//! Presigned links to stored recordings, and to where they are put. The API carries no bytes of objects itself, so it has a
//! signer, not an SDK.

use std::time::Duration;

use reqwest::StatusCode;
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{CreateMultipartUpload, GetObject, ListParts, UploadPart},
};
use url::Url;

use crate::config::StorageConfig;

/// How long a download link is good for.
pub const LINK_LIFE: Duration = Duration::from_secs(300);

/// How long somebody has to begin to send a part.
pub const PART_LINK_LIFE: Duration = Duration::from_secs(3600);
/// For a question to the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// Knows the bucket and its credentials.
#[derive(Clone)]
pub struct Storage {
    /// As callers reach it …
    bucket: Bucket,
    /// … and as this process does.
    inside: Bucket,
    credentials: Credentials,
    http: reqwest::Client,
}

/// A part that the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPart {
    /// From 1.
    pub number: u16,
    pub bytes: u64,
}

impl Storage {
    pub fn new(config: &StorageConfig) -> anyhow::Result<Self> {
        // A link is signed for the host that the caller asks.
        let (name, endpoint, style) = match (config.s3_public_endpoint.as_str(), config.s3_endpoint.as_str()) {
            ("", "") => ("S3_REGION", format!("https://s3.{}.amazonaws.com", config.s3_region), UrlStyle::VirtualHost),
            ("", own) => ("S3_ENDPOINT", own.to_owned(), UrlStyle::Path),
            (public, _) => ("S3_PUBLIC_ENDPOINT", public.to_owned(), UrlStyle::Path),
        };
        let wrong = |e: &dyn std::fmt::Display| {
            anyhow::anyhow!("{name} {endpoint:?}: {e}; example of a right value: https://s3.example.org")
        };
        let url = Url::parse(&endpoint).map_err(|e| wrong(&e))?;
        let named = |url, style| Bucket::new(url, style, config.s3_bucket.clone(), config.s3_region.clone());
        let bucket = named(url, style).map_err(|e| wrong(&format!("{e:?}")))?;
        let inside = match Url::parse(&config.s3_endpoint) {
            Ok(own) => named(own, UrlStyle::Path).map_err(|e| wrong(&format!("{e:?}")))?,
            Err(_) => bucket.clone(),
        };
        let credentials = Credentials::new(config.aws_access_key_id.clone(), config.aws_secret_access_key.clone());
        let http = reqwest::Client::builder().connect_timeout(PATIENCE).timeout(PATIENCE).build()?;
        Ok(Self { bucket, inside, credentials, http })
    }

    /// A link that lets anybody who has it download the object as `file_name`, for [`LINK_LIFE`].
    pub fn download_link(&self, object_key: &str, file_name: &str, content_type: &str) -> Url {
        let mut action = GetObject::new(&self.bucket, Some(&self.credentials), object_key);
        action.query_mut().insert("response-content-disposition", content_disposition(file_name));
        action.query_mut().insert("response-content-type", content_type.to_owned());
        action.sign(LINK_LIFE)
    }

    /// A link by which whoever has it puts one part into an upload, for [`PART_LINK_LIFE`].
    pub fn part_link(&self, object_key: &str, upload_id: &str, number: u16) -> Url {
        UploadPart::new(&self.bucket, Some(&self.credentials), object_key, number, upload_id).sign(PART_LINK_LIFE)
    }

    /// Begins a multipart upload; returns its id.
    pub async fn start_upload(&self, object_key: &str, content_type: &str) -> anyhow::Result<String> {
        let mut action = CreateMultipartUpload::new(&self.inside, Some(&self.credentials), object_key);
        action.headers_mut().insert("content-type", content_type.to_owned());
        let request = self.http.post(action.sign(PATIENCE)).header("content-type", content_type);
        let answer = request.send().await?.error_for_status().map_err(reqwest::Error::without_url)?.text().await?;
        Ok(CreateMultipartUpload::parse_response(&answer)?.upload_id().to_owned())
    }

    /// The parts that an upload has so far, by number; `None` when there is no such upload (any more).
    pub async fn parts(&self, object_key: &str, upload_id: &str) -> anyhow::Result<Option<Vec<StoredPart>>> {
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let mut action = ListParts::new(&self.inside, Some(&self.credentials), object_key, upload_id);
            if let Some(after) = after {
                action.set_part_number_marker(after);
            }
            let answer = self.http.get(action.sign(PATIENCE)).send().await.map_err(reqwest::Error::without_url)?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let answer = answer.error_for_status().map_err(reqwest::Error::without_url)?.text().await?;
            let page = ListParts::parse_response(&answer)?;
            parts.extend(page.parts.into_iter().map(|part| StoredPart { number: part.number, bytes: part.size }));
            after = page.next_part_number_marker;
            if after.is_none() {
                parts.sort_unstable_by_key(|part| part.number);
                return Ok(Some(parts));
            }
        }
    }
}

/// RFC 6266: an ASCII name for old clients, the exact one in UTF-8 (RFC 8187) for all others.
fn content_disposition(file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' })
        .collect();
    let exact: String = file_name
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Storage, content_disposition};

    fn storage(arguments: &[&str]) -> anyhow::Result<Storage> {
        let needed = ["api", "--auth-jwt-secret", "x", "--database-url", "postgres://localhost/live"];
        let config = crate::Config::try_parse_from(needed.iter().chain(arguments)).expect("right arguments");
        Storage::new(&config.storage)
    }

    #[test]
    fn a_link_leads_to_where_callers_reach_the_store() {
        let link = |arguments: &[&str]| {
            let url = storage(arguments).expect("right settings").download_link("a/b", "b.mp4", "video/mp4");
            format!("{}{}", url.origin().ascii_serialization(), url.path())
        };
        let inside = ["--s3-endpoint", "http://minio:9000"];
        let outside = ["--s3-public-endpoint", "http://localhost:9000"];
        assert_eq!(link(&[]), "https://recordings.s3.us-east-1.amazonaws.com/a/b");
        assert_eq!(link(&inside), "http://minio:9000/recordings/a/b");
        assert_eq!(link(&[inside, outside].concat()), "http://localhost:9000/recordings/a/b");
        let error = storage(&["--s3-public-endpoint", "localhost"]).err().expect("refused").to_string();
        assert!(error.contains("S3_PUBLIC_ENDPOINT"), "{error}");
    }

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(
            content_disposition("Ders 1\r\nX: \"ğ\".mp4"),
            "attachment; filename=\"Ders 1__X_ ___.mp4\"; \
             filename*=UTF-8''Ders%201%0D%0AX%3A%20%22%C4%9F%22.mp4"
        );
    }
}
