//! Files and directories for nobody but this user: secrets, the environment that holds them, personal data.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context;
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Secrets that stay the same over restarts, so that tokens that were handed out stay good.
pub(crate) struct Secrets {
    pub auth: String,
    pub jitsi: String,
    pub jitsi_webhook: String,
    pub jaas_webhook: String,
    /// Of the stand-in for BigBlueButton.
    pub bbb: String,
    /// Of the stand-in for Zoom: the app's, and that of its webhooks.
    pub zoom: String,
    pub zoom_webhook: String,
    /// `SECRETS_KEYS`.
    pub keys: String,
}

impl Secrets {
    pub(crate) fn load_or_make(dir: &Path) -> anyhow::Result<Self> {
        let secret = |name: &str, prefix: &str| -> anyhow::Result<String> {
            let path = dir.join(name);
            if path.exists() {
                // An older sandbox let everybody read it.
                restrict(&path, 0o600)?;
                let known = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                // Empty, when the start that made it was cut off.
                if !known.is_empty() {
                    return Ok(known);
                }
            }
            let random = rand::random::<[u8; 32]>();
            // Keys have a form of their own.
            let secret = match name {
                "keys" => format!("{prefix}{}", BASE64_STANDARD.encode(random)),
                _ => format!("{prefix}{}", hex::encode(random)),
            };
            write(&path, &secret)?;
            Ok(secret)
        };
        Ok(Self {
            auth: secret("auth", "")?,
            jitsi: secret("jitsi", "")?,
            jitsi_webhook: secret("jitsi-webhook", "")?,
            jaas_webhook: secret("jaas-webhook", "whsec_")?,
            bbb: secret("bbb", "")?,
            zoom: secret("zoom", "")?,
            zoom_webhook: secret("zoom-webhook", "")?,
            keys: secret("keys", "sandbox:")?,
        })
    }
}

/// In dotenv syntax; values in single quotes, which a shell reads as they are.
pub(crate) fn write_env(path: &Path, env: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let lines: String = env.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
    // At once, so that nobody reads half of it.
    let partial = path.with_extension("partial");
    write(&partial, &lines)?;
    restrict(&partial, 0o600)?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

/// For nobody but this user: mails, recordings and secrets are personal.
pub(crate) fn make_directory(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    restrict(path, 0o700)
}

fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).with_context(|| format!("cannot restrict {} to its owner", path.display()))
}

/// Writes a file that nobody else may read.
pub(crate) fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content.as_bytes())?;
    Ok(())
}
