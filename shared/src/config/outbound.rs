use clap::Args;

/// Which of the servers that tenants configure this process may ask.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutboundConfig {
    /// Allow servers with private, loopback or link-local addresses in the provider configurations of tenants. Whoever
    /// administers a tenant can then have this network asked.
    #[arg(long, env = "PROVIDER_CONFIGS_ALLOW_PRIVATE", default_value_t = false)]
    pub provider_configs_allow_private: bool,
}
