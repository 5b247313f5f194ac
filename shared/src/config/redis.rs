use clap::Args;

/// Redis.
#[derive(Debug, Clone, Args)]
pub struct RedisConfig {
    /// Redis 7.0 or newer, as redis://user:password@host:6379/0; redis+sentinel://host1:26379,host2:26379/mymaster/0 and
    /// redis+cluster://host1:6379,host2:6379 for more than one server; rediss… instead of redis… with TLS. User and
    /// password are the servers', not the Sentinels'.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, default_value = "redis://127.0.0.1:6379/0")]
    pub redis_url: String,

    /// First part of every key, so that several deployments can share a Redis.
    #[arg(long, env = "REDIS_PREFIX", default_value = "live-sessions")]
    pub redis_prefix: String,

    /// PEM file with the authority that signed Redis' certificate, where it is none that browsers know.
    #[arg(long, env = "REDIS_CA_FILE")]
    pub redis_ca_file: Option<std::path::PathBuf>,
}
