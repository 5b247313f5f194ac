use clap::Args;

/// The default meeting provider of tenants that have configured none.
#[derive(Clone, Args)]
pub struct ProvidersConfig {
    /// Host of the Jitsi web page, e.g. meet.example.org (with :port if not 443).
    #[arg(long, env = "JITSI_DOMAIN", default_value = "")]
    pub jitsi_domain: String,

    /// `app_id` of Prosody's token authentication; the tokens' `iss`.
    #[arg(long, env = "JITSI_APP_ID", default_value = "")]
    pub jitsi_app_id: String,

    /// `app_secret` of Prosody's token authentication (HS256), at least 32 bytes.
    #[arg(long, env = "JITSI_JWT_SECRET", hide_env_values = true, default_value = "")]
    pub jitsi_jwt_secret: String,

    /// RSA private key (PEM; `\n` may stand for its line ends) that signs the tokens (RS256) instead of JITSI_JWT_SECRET. Prosody
    /// gets its public half with `asap_key_server = "<the API's address>/asap"`.
    #[arg(long, env = "JITSI_PRIVATE_KEY", hide_env_values = true, allow_hyphen_values = true, default_value = "")]
    pub jitsi_private_key: String,

    /// Audience of the tokens (`asap_accepted_audiences`).
    #[arg(long, env = "JITSI_AUDIENCE", default_value = "jitsi")]
    pub jitsi_audience: String,

    /// `sub` of the tokens: the XMPP domain where Prosody verifies domains; `*` fits all.
    #[arg(long, env = "JITSI_XMPP_DOMAIN", default_value = "*")]
    pub jitsi_xmpp_domain: String,

    /// Secret with which our Prosody module signs (`webhook_secret`), or which event_sync sends in its
    /// `Authorization: Bearer` header (`api_headers`). Webhooks of Jitsi are refused while it is empty.
    #[arg(long, env = "JITSI_WEBHOOK_SECRET", hide_env_values = true, default_value = "")]
    pub jitsi_webhook_secret: String,

    /// Address of our Prosody module that ends rooms and removes people, e.g. https://meet.example.org/webhook-control.
    /// Without it meetings of Jitsi end when the last one leaves.
    #[arg(long, env = "JITSI_CONTROL_URL", default_value = "")]
    pub jitsi_control_url: String,

    /// Secret with which that module is asked (`webhook_control_secret`).
    #[arg(long, env = "JITSI_CONTROL_SECRET", hide_env_values = true, default_value = "")]
    pub jitsi_control_secret: String,

    /// Secret of the JaaS webhook endpoint, with its `whsec_` prefix. JaaS webhooks are refused
    /// while it is empty.
    #[arg(long, env = "JAAS_WEBHOOK_SECRET", hide_env_values = true, default_value = "")]
    pub jaas_webhook_secret: String,

    /// Address of a BigBlueButton server, or of a Scalelite, as `bbb-conf --secret` shows it.
    #[arg(long, env = "BBB_SERVER_URL", default_value = "")]
    pub bbb_server_url: String,

    /// Shared secret of the server of BBB_SERVER_URL.
    #[arg(long, env = "BBB_SHARED_SECRET", hide_env_values = true, default_value = "")]
    pub bbb_shared_secret: String,

    /// What has to be signed of the webhooks of BBB_SERVER_URL: body, or address. The latter takes also those of bbb-webhooks
    /// 3.0.0 to 3.3.1, which sign the address alone: whoever has seen one of them can make others.
    #[arg(long, env = "BBB_WEBHOOK_CHECKSUM", default_value = "body", value_parser = ["body", "address"])]
    pub bbb_webhook_checksum: String,

    /// Hosts (host or host:port, comma separated) that recordings may be fetched from.
    #[arg(long, env = "RECORDING_HOSTS", value_delimiter = ',')]
    pub recording_hosts: Vec<String>,

    /// Allow recording hosts with private, loopback or link-local addresses.
    #[arg(long, env = "RECORDING_ALLOW_PRIVATE", default_value_t = false)]
    pub recording_allow_private: bool,
}

impl ProvidersConfig {
    /// What is wrong with the settings, each with its remedy; for `--check`.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let key = match self.jitsi_private_key.trim().is_empty() {
            true => ("JITSI_JWT_SECRET", &self.jitsi_jwt_secret),
            false => ("JITSI_PRIVATE_KEY", &self.jitsi_private_key),
        };
        let jitsi = [("JITSI_DOMAIN", &self.jitsi_domain), ("JITSI_APP_ID", &self.jitsi_app_id), key];
        let bbb = [("BBB_SERVER_URL", &self.bbb_server_url), ("BBB_SHARED_SECRET", &self.bbb_shared_secret)];
        let some = |of: &[(&str, &String)]| of.iter().any(|(_, value)| !value.trim().is_empty());
        // One provider is enough.
        if some(&jitsi) || !some(&bbb) {
            for (name, _) in jitsi.iter().filter(|(_, value)| value.trim().is_empty()) {
                faults.push(format!("{name} is not set: no session can be joined"));
            }
        }
        if some(&bbb) {
            for (name, _) in bbb.iter().filter(|(_, value)| value.trim().is_empty()) {
                faults.push(format!("{name} is not set: no session on BigBlueButton can be joined"));
            }
        }
        if (1..32).contains(&self.jitsi_jwt_secret.trim().len()) {
            faults.push("JITSI_JWT_SECRET is shorter than 32 bytes: it can be guessed".to_owned());
        }
        if self.jitsi_control_url.trim().is_empty() != self.jitsi_control_secret.trim().is_empty() {
            faults.push("JITSI_CONTROL_URL and JITSI_CONTROL_SECRET are only of use together".to_owned());
        }
        if !self.jaas_webhook_secret.is_empty() && !self.jaas_webhook_secret.starts_with("whsec_") {
            faults
                .push("JAAS_WEBHOOK_SECRET does not begin with whsec_: take it whole from the JaaS console".to_owned());
        }
        faults
    }
}

impl std::fmt::Debug for ProvidersConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvidersConfig")
            .field("jitsi_domain", &self.jitsi_domain)
            .field("jitsi_app_id", &self.jitsi_app_id)
            .field("bbb_server_url", &self.bbb_server_url)
            .field("recording_hosts", &self.recording_hosts)
            .finish_non_exhaustive()
    }
}
