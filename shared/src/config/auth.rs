use clap::Args;

/// Who may call: tokens of the LMS.
#[derive(Clone, Args)]
pub struct AuthConfig {
    /// Secret of the LMS's HS256 tokens, at least 32 bytes.
    #[arg(long, env = "AUTH_JWT_SECRET", hide_env_values = true)]
    pub auth_jwt_secret: String,

    /// Required `iss` of the tokens; any when empty.
    #[arg(long, env = "AUTH_JWT_ISSUER", default_value = "")]
    pub auth_jwt_issuer: String,

    /// Required `aud` of the tokens; any when empty.
    #[arg(long, env = "AUTH_JWT_AUDIENCE", default_value = "")]
    pub auth_jwt_audience: String,

    /// Seconds by which the LMS's clock may be off.
    #[arg(long, env = "AUTH_JWT_LEEWAY", default_value_t = 30)]
    pub auth_jwt_leeway: u64,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("auth_jwt_issuer", &self.auth_jwt_issuer)
            .field("auth_jwt_audience", &self.auth_jwt_audience)
            .finish_non_exhaustive()
    }
}
