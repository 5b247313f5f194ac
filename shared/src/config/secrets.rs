use std::path::PathBuf;

use clap::Args;

/// The keys that seal the secrets of provider configurations.
#[derive(Clone, Args)]
pub struct SecretsConfig {
    /// Keys that seal the secrets of provider configurations, as id:base64,id2:base64 with 32 bytes each; the first one
    /// seals, all open. Make one with: echo "k1:$(openssl rand -base64 32)".
    #[arg(long, env = "SECRETS_KEYS", hide_env_values = true, default_value = "")]
    pub secrets_keys: String,

    /// File with these keys instead, one a line or comma separated.
    #[arg(long, env = "SECRETS_KEYS_FILE")]
    pub secrets_keys_file: Option<PathBuf>,
}

impl std::fmt::Debug for SecretsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsConfig").field("secrets_keys_file", &self.secrets_keys_file).finish_non_exhaustive()
    }
}
