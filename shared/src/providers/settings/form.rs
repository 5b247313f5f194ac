//! The fields of settings and secrets, and what they must mean.

use serde_json::Value;

use super::super::{bbb, jaas, jitsi};
use crate::{domain::provider::ProviderKind, secrets::Secret};

/// Shortest secret of HS256 (RFC 7518 §3.2).
pub const HS256_BYTES: usize = 32;
/// A shared secret that nobody tries out.
const SHARED_SECRET_BYTES: usize = 16;
/// With which the tokens of a Jitsi can be signed; the first one where nothing else is said.
pub const ALGORITHMS: &[&str] = &["HS256", RS256];
pub const RS256: &str = "RS256";
/// What stands for a secret in answers begins with it.
pub const MASK: &str = "••••";
/// So long a secret is not guessed from its last four characters.
const MASK_SHOWS_FROM: usize = 16;

/// A field of the settings.
pub struct Field {
    pub name: &'static str,
    pub about: &'static str,
    pub required: bool,
    pub form: Form,
    pub example: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One line of text.
    Line,
    /// A host such as meet.example.org, with :port if not 443, and http:// where it has no TLS.
    Host,
    /// The address of a BigBlueButton server.
    BbbUrl,
    /// Addresses of some BigBlueButton servers.
    BbbUrls,
    /// An address of the web.
    Url,
    /// True or false.
    Flag,
    /// A JaaS AppID.
    JaasAppId,
    /// Some lines of text.
    Lines,
    /// Some hosts.
    Hosts,
    /// One of these.
    Word(&'static [&'static str]),
}

/// A field of the secrets. All are texts of at most [`LONGEST_SECRET`] bytes.
pub struct SecretField {
    pub name: &'static str,
    pub about: &'static str,
    pub required: bool,
}

pub const LONGEST_SECRET: usize = 8192;

const fn required(name: &'static str, form: Form, example: &'static str, about: &'static str) -> Field {
    Field { name, about, required: true, form, example }
}

const fn optional(name: &'static str, form: Form, example: &'static str, about: &'static str) -> Field {
    Field { name, about, required: false, form, example }
}

const RECORDING_HOSTS: Field = optional(
    "recording_hosts",
    Form::Hosts,
    "media.example.org",
    "Further hosts (host or host:port) that recordings may be fetched from.",
);

const JITSI: &[Field] = &[
    required("domain", Form::Host, "meet.example.org", "Host of the Jitsi web page, with :port if not 443."),
    required("app_id", Form::Line, "lms", "`app_id` of Prosody's token authentication; the tokens' `iss`."),
    optional("audience", Form::Line, "jitsi", "Audience of the tokens; `jitsi` when left out."),
    optional("xmpp_domain", Form::Line, "*", "`sub` of the tokens where Prosody verifies domains; `*` when left out."),
    optional(
        "algorithm",
        Form::Word(ALGORITHMS),
        "HS256",
        "How tokens are signed: `HS256` with `jwt_secret`, also when left out; `RS256` with `private_key`, whose public half \
         Prosody gets from `key_server_url`.",
    ),
    optional(
        "control_url",
        Form::Url,
        "https://meet.example.org/webhook-control",
        "Address of our Prosody module that ends rooms and removes people; signed with `control_secret`.",
    ),
    optional("prejoin", Form::Flag, "true", "Whether people see the page before the meeting; false when left out."),
    optional(
        "lobby",
        Form::Flag,
        "true",
        "Whether participants wait until a moderator lets them in; needs token_security_ondemand and token_lobby_bypass of \
         jitsi-contrib in Prosody. False when left out.",
    ),
    optional("start_muted", Form::Flag, "true", "Whether participants come in with microphone and camera off."),
    optional(
        "hide_participants_from_recorder",
        Form::Flag,
        "true",
        "Whether recordings show moderators alone; false when left out.",
    ),
    RECORDING_HOSTS,
];

const JAAS: &[Field] = &[
    required("app_id", Form::JaasAppId, "vpaas-magic-cookie-0123456789abcdef", "The AppID of the JaaS console."),
    required("key_id", Form::Line, "vpaas-magic-cookie-0123456789abcdef/4f4910", "The API key's id: `<AppID>/<key>`."),
];

const BBB: &[Field] = &[
    required("server_url", Form::BbbUrl, "https://bbb.example.org/bigbluebutton/", "As `bbb-conf --secret` shows it."),
    optional(
        "further_servers",
        Form::BbbUrls,
        "https://bbb2.example.org/bigbluebutton/",
        "Further servers: a new meeting is made where the fewest people are.",
    ),
    optional(
        "drained_servers",
        Form::Hosts,
        "bbb2.example.org",
        "Servers (host or host:port) that take no new meetings.",
    ),
    optional(
        "webhook_servers",
        Form::BbbUrls,
        "https://bbb3.example.org/bigbluebutton/",
        "Servers behind a Scalelite at `server_url`: they send webhooks, and no meetings are made at them by us.",
    ),
    optional("checksum", Form::Word(bbb::ALGORITHMS), "sha256", "Hash of the checksums; `sha256` when left out."),
    optional(
        "webhook_checksum",
        Form::Word(bbb::Covered::ALL),
        "body",
        "What has to be signed of webhooks: `body` when left out. `address` takes also those of bbb-webhooks 3.0.0 to 3.3.1, \
         which sign the address alone: whoever has seen one of them can make others.",
    ),
    RECORDING_HOSTS,
];

const ZOOM: &[Field] = &[
    required("account_id", Form::Line, "AbCdEfGhIjKlMnOpQrStUv", "Account of the server-to-server OAuth app."),
    required("client_id", Form::Line, "AbCdEfGhIjKlMnOpQrStUv", "Client id of that app."),
    required("user_id", Form::Line, "classes@example.org", "Id or mail address of the user whose meetings they are."),
    optional(
        "further_user_ids",
        Form::Lines,
        "classes-2@example.org",
        "Further users: each hosts one meeting at a time, and classes that overlap are shared out among all of them.",
    ),
    optional(
        "registration",
        Form::Word(&["on", "off"]),
        "on",
        "Whether people get links of their own, by which they are known in events and reports; needs a licensed user. `on` \
         when left out.",
    ),
    optional(
        "sdk_key",
        Form::Line,
        "AbCdEfGhIjKlMnOpQrStUv",
        "Client id of a Meeting SDK app, for pages that embed meetings.",
    ),
    RECORDING_HOSTS,
];

/// The fields of a provider's settings.
pub fn fields(kind: ProviderKind) -> &'static [Field] {
    match kind {
        ProviderKind::Jitsi => JITSI,
        ProviderKind::Jaas => JAAS,
        ProviderKind::Bbb => BBB,
        ProviderKind::Zoom => ZOOM,
    }
}

/// The fields of a provider's secrets.
pub fn secret_fields(kind: ProviderKind) -> &'static [SecretField] {
    const fn secret(name: &'static str, required: bool, about: &'static str) -> SecretField {
        SecretField { name, about, required }
    }
    const JITSI: &[SecretField] = &[
        secret(
            "jwt_secret",
            false,
            "`app_secret` of Prosody's token authentication, at least 32 bytes; required for HS256.",
        ),
        secret("private_key", false, "RSA private key (PEM) for RS256; one is made where it is left out."),
        secret("control_secret", false, "`webhook_control_secret` of the Prosody module at `control_url`."),
        secret(
            "webhook_secret",
            false,
            "What the Prosody module signs with, or event_sync sends as the bearer token; without it webhooks are refused.",
        ),
    ];
    const JAAS: &[SecretField] = &[
        secret("private_key", true, "The API key's private key (RSA, PEM)."),
        secret("webhook_secret", false, "Secret of the webhook endpoint, with its `whsec_`."),
    ];
    const BBB: &[SecretField] = &[
        secret("shared_secret", true, "As `bbb-conf --secret` shows it."),
        secret(
            "server_secrets",
            false,
            "Of servers that have another secret: `<host>=<secret>`, with commas between and :port if not 443.",
        ),
    ];
    const ZOOM: &[SecretField] = &[
        secret("client_secret", true, "Client secret of the server-to-server OAuth app."),
        secret(
            "webhook_secret",
            false,
            "Secret token of the app's event subscriptions; without it webhooks are refused.",
        ),
        secret("sdk_secret", false, "Client secret of the Meeting SDK app."),
    ];
    match kind {
        ProviderKind::Jitsi => JITSI,
        ProviderKind::Jaas => JAAS,
        ProviderKind::Bbb => BBB,
        ProviderKind::Zoom => ZOOM,
    }
}

/// What is wrong with the meaning of settings, each with its pointer below them; reads what it can of a wrong form.
pub fn faults(kind: ProviderKind, settings: &Value) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for field in fields(kind) {
        let pointer = format!("/{}", field.name);
        match (&settings[field.name], field.form) {
            (Value::String(text), form) => faults.extend(text_fault(form, text).map(|fault| (pointer, fault.into()))),
            (Value::Array(urls), Form::BbbUrls) => {
                let wrong =
                    urls.iter().enumerate().filter_map(|(n, url)| Some((n, text_fault(Form::BbbUrl, url.as_str()?)?)));
                faults.extend(wrong.map(|(n, fault)| (format!("{pointer}/{n}"), fault.to_owned())));
            }
            (Value::Array(hosts), Form::Hosts) => {
                let wrong = hosts.iter().enumerate().filter(|(_, h)| h.as_str().is_some_and(|h| !is_authority(h)));
                let fault = "is no host such as media.example.org or media.example.org:8443";
                faults.extend(wrong.map(|(n, _)| (format!("{pointer}/{n}"), fault.to_owned())));
            }
            _ => {}
        }
    }
    if kind == ProviderKind::Jaas
        && let (Some(app), Some(key)) = (settings["app_id"].as_str(), settings["key_id"].as_str())
        && !jaas::is_key_of(key, app)
    {
        faults.push(("/key_id".into(), "is not <AppID>/<key> with the AppID of app_id".into()));
    }
    if kind == ProviderKind::Bbb && faults.is_empty() {
        faults.extend(server_faults(settings));
    }
    faults
}

/// Servers are known by their hosts.
fn server_faults(settings: &Value) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let texts = |name: &str| settings[name].as_array().into_iter().flatten().filter_map(Value::as_str).enumerate();
    let host = |url: &str| bbb::api_base(url).map(|base| bbb::authority(&base));
    let mut known: Vec<String> = settings["server_url"].as_str().and_then(host).into_iter().collect();
    for name in ["further_servers", "webhook_servers"] {
        for (n, host) in texts(name).filter_map(|(n, url)| Some((n, host(url)?))) {
            if known.contains(&host) {
                faults.push((format!("/{name}/{n}"), "is on the same host as another one".to_owned()));
            }
            known.push(host);
        }
    }
    let unknown =
        texts("drained_servers").filter(|(_, host)| !known.iter().any(|known| known.eq_ignore_ascii_case(host)));
    faults.extend(
        unknown.map(|(n, _)| (format!("/drained_servers/{n}"), "is the host of none of the servers".to_owned())),
    );
    faults
}

/// The secret without which these settings are of no use, if it is not among those that are `there`: what makes one of
/// another is the caller's to do.
pub fn missing_secret(kind: ProviderKind, settings: &Value, there: impl Fn(&str) -> bool) -> Option<&'static str> {
    let needed = match kind {
        ProviderKind::Jitsi if settings["algorithm"] == RS256 => "private_key",
        ProviderKind::Jitsi => "jwt_secret",
        _ => return None,
    };
    (!there(needed)).then_some(needed)
}

fn text_fault(form: Form, text: &str) -> Option<&'static str> {
    let right = match form {
        Form::Host => jitsi::origin(text).is_some(),
        Form::BbbUrl => bbb::api_base(text).is_some(),
        Form::JaasAppId => jaas::is_app_id(text),
        Form::Url => jitsi::control::address(text).is_some(),
        Form::Line | Form::Lines | Form::Hosts | Form::BbbUrls | Form::Word(_) | Form::Flag => true,
    };
    (!right).then_some(match form {
        Form::BbbUrl => "is no address such as https://bbb.example.org/bigbluebutton/",
        Form::Url => "is no address such as https://meet.example.org/webhook-control",
        Form::JaasAppId => "is no AppID such as vpaas-magic-cookie-0123456789abcdef",
        _ => "is no host such as meet.example.org",
    })
}

fn is_authority(text: &str) -> bool {
    let Ok(url) = url::Url::parse(&format!("https://{text}")) else { return false };
    url.has_host()
        && url.path() == "/"
        && !text.contains(['/', '?', '#', '@', '\\'])
        && !text.chars().any(char::is_whitespace)
}

/// What is wrong with a secret. Never repeats it.
pub fn secret_fault(kind: ProviderKind, field: &str, secret: &str) -> Option<String> {
    let at_least = |bytes| (secret.len() < bytes).then(|| format!("is shorter than {bytes} bytes"));
    if secret.starts_with('•') {
        return Some("is what stands for the secret, not the secret: leave the field out to keep it".into());
    }
    if secret.len() > LONGEST_SECRET {
        return Some(format!("is longer than {LONGEST_SECRET} bytes"));
    }
    if field == "private_key" {
        let fault = "is no RSA private key in PEM form (-----BEGIN PRIVATE KEY-----)";
        return jaas::key(secret).is_none().then(|| fault.into());
    }
    if secret.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some("has white space or control characters in it".into());
    }
    match (kind, field) {
        (ProviderKind::Jitsi, "jwt_secret") => at_least(HS256_BYTES),
        (ProviderKind::Jaas, "webhook_secret") if !secret.starts_with("whsec_") => {
            Some("does not begin with whsec_: take it whole from the JaaS console".into())
        }
        (_, "server_secrets") => {
            let is_pair = |pair: &str| {
                pair.split_once('=').is_some_and(|(host, secret)| is_authority(host) && !secret.is_empty())
            };
            let right = secret.split(',').all(is_pair);
            (!right).then(|| "is not <host>=<secret>, with commas between".into())
        }
        (_, "webhook_secret" | "control_secret") => at_least(SHARED_SECRET_BYTES),
        _ => secret.is_empty().then(|| "must not be empty".into()),
    }
}

/// What stands for a secret in answers: its last four characters where they give nothing away.
pub fn mask(secret: &Secret) -> String {
    let text = secret.expose();
    let characters = text.chars().count();
    // The last line of a PEM file is the same for all.
    if characters < MASK_SHOWS_FROM || text.contains("-----") {
        return MASK.to_owned();
    }
    MASK.chars().chain(text.chars().skip(characters - 4)).collect()
}
