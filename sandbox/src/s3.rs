//! An S3 server inside this process, over a directory: s3s checks the signatures as Amazon does, s3s-fs keeps
//! the objects. What differs from Amazon is listed in `s3_store`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::listen;
use crate::s3_store::Store;

/// The region that clients name; the server takes any.
pub const REGION: &str = "us-east-1";

/// A running S3 server. Dropping it ends it; the objects stay in their directory.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    port: u16,
    keys: Keys,
    buckets: PathBuf,
    _stop: DropGuard,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Keys {
    access_key: String,
    secret_key: String,
}

impl S3 {
    /// Starts a server whose objects and key pair are in `dir`, made when it is not there, on `port` of
    /// 127.0.0.1 or on a free one. Clients use path style: `<endpoint>/<bucket>/<key>`.
    ///
    /// # Errors
    /// When the directory cannot be used or the port is taken.
    pub async fn start(dir: &Path, port: Option<u16>) -> anyhow::Result<Self> {
        let buckets = dir.join("buckets");
        fs::create_dir_all(&buckets).with_context(|| format!("cannot make {}", buckets.display()))?;
        let keys = load_or_make_keys(&dir.join("keys.json"))?;
        let store = Store::open(&buckets)?;
        let service = {
            let mut builder = S3ServiceBuilder::new(store);
            builder.set_auth(SimpleAuth::from_single(keys.access_key.clone(), keys.secret_key.clone()));
            builder.build()
        };
        let (listener, address) = listen("the S3 server", port)?;
        let stop = CancellationToken::new();
        crate::runtime::servers().spawn(serve(listener, service, stop.clone()));
        Ok(Self {
            endpoint: format!("http://{address}"),
            port: address.port(),
            keys,
            buckets,
            _stop: stop.drop_guard(),
        })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the one key pair that the server knows.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.keys.access_key
    }

    /// The secret of that key pair.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.keys.secret_key
    }

    /// How many parts of unfinished uploads there are.
    #[must_use]
    pub fn unfinished_parts(&self) -> usize {
        let entries = fs::read_dir(&self.buckets).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains(".part-")).count()
    }

    /// The keys of a bucket's objects, as they lie in the directory; unsorted.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let root = self.buckets.join(bucket);
        let mut folders = vec![root.clone()];
        let mut keys = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(key) = path.strip_prefix(&root) {
                    keys.push(key.to_string_lossy().into_owned());
                }
            }
        }
        keys
    }

    /// The bytes of an object, as they lie in the directory.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn read_object(&self, bucket: &str, key: &str) -> std::io::Result<Vec<u8>> {
        fs::read(self.buckets.join(bucket).join(key))
    }

    /// Makes a bucket, when it is not there yet.
    ///
    /// # Errors
    /// When the name is none that S3 takes, or the directory cannot be made.
    pub fn create_bucket(&self, name: &str) -> anyhow::Result<()> {
        ensure!(s3s::path::check_bucket_name(name), "{name:?} is no name for a bucket");
        fs::create_dir_all(self.buckets.join(name))?;
        Ok(())
    }
}

async fn serve(listener: std::net::TcpListener, service: S3Service, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the S3 server cannot listen");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Too many open files, say: without a pause this loop would spin.
                tracing::warn!(%error, "the S3 server cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let service = service.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            tokio::select! {
                () = stop.cancelled() => {}
                result = builder.serve_connection(TokioIo::new(stream), service) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection to the S3 server broke off");
                    }
                }
            }
        });
    }
}

fn load_or_make_keys(file: &Path) -> anyhow::Result<Keys> {
    if file.is_file() {
        let text = fs::read_to_string(file)?;
        return serde_json::from_str(&text).with_context(|| format!("{} is damaged: remove it", file.display()));
    }
    let keys = Keys {
        access_key: format!("SANDBOX{}", hex::encode_upper(rand::random::<[u8; 6]>())),
        secret_key: hex::encode(rand::random::<[u8; 20]>()),
    };
    crate::private::write(file, &serde_json::to_string(&keys)?)?;
    Ok(keys)
}
