use clap::Args;

/// Redis.
#[derive(Debug, Clone, Args)]
pub struct RedisConfig {
    /// Redis 7.0 or newer, as redis://host:6379/0, or rediss:// for TLS.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, default_value = "redis://127.0.0.1:6379/0")]
    pub redis_url: String,

    /// First part of every key, so that several deployments can share a Redis.
    #[arg(long, env = "REDIS_PREFIX", default_value = "live-sessions")]
    pub redis_prefix: String,
}
