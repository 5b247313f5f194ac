use clap::Args;

/// Who may call: tokens of the LMS.
#[derive(Clone, Default, Args)]
pub struct AuthConfig {
    /// Secret of the LMS's HS256 tokens, at least 32 bytes; none are taken when it is empty.
    #[arg(long, env = "AUTH_JWT_SECRET", hide_env_values = true, default_value = "")]
    pub auth_jwt_secret: String,

    /// The secret before this one, whose tokens are taken as well: while it is being replaced.
    #[arg(long, env = "AUTH_JWT_OLD_SECRET", hide_env_values = true, default_value = "")]
    pub auth_jwt_old_secret: String,

    /// Address of the LMS's public keys (JWK set, RFC 7517 §5) for RS256, ES256 and EdDSA tokens, e.g.
    /// https://lms.example.org/.well-known/jwks.json.
    #[arg(long, env = "AUTH_JWKS_URL", default_value = "")]
    pub auth_jwks_url: String,

    /// A file with these keys, instead of an address; it is read again like that.
    #[arg(long, env = "AUTH_JWKS_FILE", default_value = "")]
    pub auth_jwks_file: String,

    /// Seconds between two looks at the keys; a key that was taken out is trusted up to so long.
    #[arg(long, env = "AUTH_JWKS_REFRESH", default_value_t = 300, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub auth_jwks_refresh: u64,

    /// Seconds that the known keys are trusted while their server does not answer; twice AUTH_JWKS_REFRESH or more.
    #[arg(long, env = "AUTH_JWKS_MAX_AGE", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(5..=2_592_000))]
    pub auth_jwks_max_age: u64,

    /// Required `iss` of the tokens; any when empty.
    #[arg(long, env = "AUTH_JWT_ISSUER", default_value = "")]
    pub auth_jwt_issuer: String,

    /// Required `aud` of the tokens; any when empty.
    #[arg(long, env = "AUTH_JWT_AUDIENCE", default_value = "")]
    pub auth_jwt_audience: String,

    /// Seconds by which the LMS's clock may be off.
    #[arg(long, env = "AUTH_JWT_LEEWAY", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub auth_jwt_leeway: u64,

    /// Claim that names the tenant.
    #[arg(long, env = "AUTH_JWT_TENANT_CLAIM", default_value = "tenant")]
    pub auth_jwt_tenant_claim: String,

    /// Claim that lists the roles.
    #[arg(long, env = "AUTH_JWT_ROLES_CLAIM", default_value = "roles")]
    pub auth_jwt_roles_claim: String,
}

/// Claims that mean something else already.
const TAKEN: [&str; 9] = ["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "name", "email"];

impl AuthConfig {
    /// Whether there are public keys somewhere.
    pub fn has_jwks(&self) -> bool {
        !self.auth_jwks_url.is_empty() || !self.auth_jwks_file.is_empty()
    }

    /// Refuses what nobody could sign for, or anybody.
    ///
    /// # Errors
    /// The variable, what is wrong with it, and a right value.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.auth_jwt_secret.is_empty() || self.has_jwks(),
            "neither AUTH_JWT_SECRET nor AUTH_JWKS_URL nor AUTH_JWKS_FILE is set: no token could be checked; \
             make a secret with: openssl rand -hex 32"
        );
        for (variable, secret) in
            [("AUTH_JWT_SECRET", &self.auth_jwt_secret), ("AUTH_JWT_OLD_SECRET", &self.auth_jwt_old_secret)]
        {
            anyhow::ensure!(
                secret.is_empty() || secret.len() >= 32,
                "{variable} has {} bytes; at least 32 are needed (RFC 7518 §3.2); make one with: openssl rand -hex 32",
                secret.len()
            );
        }
        anyhow::ensure!(
            self.auth_jwt_old_secret.is_empty() || !self.auth_jwt_secret.is_empty(),
            "AUTH_JWT_OLD_SECRET is set without AUTH_JWT_SECRET, which takes its place"
        );
        anyhow::ensure!(
            self.auth_jwks_url.is_empty() || self.auth_jwks_file.is_empty(),
            "AUTH_JWKS_URL and AUTH_JWKS_FILE are both set; the keys are in one place"
        );
        let is_address = |text: &str| {
            url::Url::parse(text).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        };
        anyhow::ensure!(
            self.auth_jwks_url.is_empty() || is_address(&self.auth_jwks_url),
            "AUTH_JWKS_URL is no address; example of a right value: https://lms.example.org/.well-known/jwks.json"
        );
        anyhow::ensure!(
            !self.has_jwks() || self.auth_jwks_max_age >= 2 * self.auth_jwks_refresh,
            "AUTH_JWKS_MAX_AGE is less than twice AUTH_JWKS_REFRESH: keys would be given up while their server is there"
        );
        let (tenant, roles) = (&self.auth_jwt_tenant_claim, &self.auth_jwt_roles_claim);
        for (variable, claim) in [("AUTH_JWT_TENANT_CLAIM", tenant), ("AUTH_JWT_ROLES_CLAIM", roles)] {
            anyhow::ensure!(
                !claim.is_empty() && !TAKEN.contains(&claim.as_str()),
                "{variable}: {claim:?} is not free; example of a right value: school"
            );
        }
        anyhow::ensure!(tenant != roles, "AUTH_JWT_TENANT_CLAIM and AUTH_JWT_ROLES_CLAIM are the same: {tenant:?}");
        Ok(())
    }
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("auth_jwt_issuer", &self.auth_jwt_issuer)
            .field("auth_jwt_audience", &self.auth_jwt_audience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        auth: AuthConfig,
    }

    #[test]
    fn settings_that_let_nobody_or_anybody_in_are_refused_by_name() {
        const SECRET: &str = "0123456789abcdef0123456789abcdef";
        const URL: &str = "https://lms.example.org/jwks.json";
        let judged = |given: &[&str]| {
            let arguments = ["test", "--auth-jwt-secret="].iter().chain(given);
            Only::try_parse_from(arguments).map_err(anyhow::Error::from).and_then(|only| only.auth.validate())
        };
        let flag = |name: &str, value: &str| format!("--auth-{name}={value}");
        for good in [
            vec![flag("jwks-url", URL)],
            vec![flag("jwks-file", "/etc/keys.json")],
            vec![flag("jwks-url", URL), flag("jwt-tenant-claim", "school")],
        ] {
            judged(&good.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        }
        for (bad, told) in [
            (vec![], "neither AUTH_JWT_SECRET nor AUTH_JWKS_URL"),
            (vec![flag("jwks-url", "lms.example.org")], "AUTH_JWKS_URL is no address"),
            (vec![flag("jwks-url", "file:///etc/passwd")], "AUTH_JWKS_URL is no address"),
            (vec![flag("jwks-url", URL), flag("jwks-file", "x")], "both set"),
            (vec![flag("jwks-url", URL), flag("jwt-old-secret", SECRET)], "without AUTH_JWT_SECRET"),
            (vec![flag("jwks-url", URL), flag("jwt-old-secret", "short")], "AUTH_JWT_OLD_SECRET has 5 bytes"),
            (vec![flag("jwks-url", URL), flag("jwt-tenant-claim", "sub")], "AUTH_JWT_TENANT_CLAIM"),
            (vec![flag("jwks-url", URL), flag("jwt-roles-claim", "tenant")], "are the same"),
            (vec![flag("jwks-url", URL), flag("jwks-max-age", "500")], "less than twice"),
            (vec![flag("jwks-url", URL), flag("jwt-leeway", "601")], "601"),
        ] {
            let error = judged(&bad.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().to_string();
            assert!(error.contains(told), "{bad:?}: {error}");
        }
    }
}
