//! Presigned links to stored recordings. The API reads no objects itself, so it carries a signer, not
//! an SDK.

use std::time::Duration;

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions::GetObject};
use url::Url;

use crate::config::StorageConfig;

/// How long a download link is good for.
pub const LINK_LIFE: Duration = Duration::from_secs(300);

/// Knows the bucket and its credentials.
#[derive(Clone)]
pub struct Storage {
    bucket: Bucket,
    credentials: Credentials,
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
        let bucket = Bucket::new(url, style, config.s3_bucket.clone(), config.s3_region.clone())
            .map_err(|e| wrong(&format!("{e:?}")))?;
        let credentials = Credentials::new(config.aws_access_key_id.clone(), config.aws_secret_access_key.clone());
        Ok(Self { bucket, credentials })
    }

    /// A link that lets anybody who has it download the object as `file_name`, for [`LINK_LIFE`].
    pub fn download_link(&self, object_key: &str, file_name: &str, content_type: &str) -> Url {
        let mut action = GetObject::new(&self.bucket, Some(&self.credentials), object_key);
        action.query_mut().insert("response-content-disposition", content_disposition(file_name));
        action.query_mut().insert("response-content-type", content_type.to_owned());
        action.sign(LINK_LIFE)
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
