//! Providers as tenants configure them: settings, secrets, and the tokens that come of them.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::{
    settings::{MASK, fields, mask, secret_fault, secret_fields},
    *,
};
use crate::secrets::Secret;

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
const APP: &str = "vpaas-magic-cookie-96f0941768964ab380ed0fbada7a502f";

/// A private key in PEM form, and its public key.
fn rsa_key() -> (String, Vec<u8>) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let text = BASE64_STANDARD.encode(der.as_ref());
    (format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"), pair.public_key().as_ref().to_vec())
}

pub fn configuration(kind: ProviderKind, settings: Value, secrets: &[(&str, &str)]) -> Configuration {
    let secrets = secrets.iter().map(|(field, secret)| ((*field).to_owned(), Secret::new(*secret))).collect();
    Configuration { settings: Settings::read(kind, &settings).unwrap(), secrets }
}

fn request(kind: ProviderKind) -> JoinRequest<'static> {
    JoinRequest {
        kind,
        room: "algebra-1f2e3d",
        person: JoinPerson { id: "u-7", name: "Çağla Öz", email: None },
        part: Part::Host,
        not_before: at(1_800_000_000),
        expires_at: at(1_800_007_200),
        now: at(1_800_000_600),
        recording: true,
        subject: "",
        meeting: None,
        link: None,
    }
}

fn of_jitsi(settings: Value, secrets: &[(&str, &str)]) -> Providers {
    let mut whole = json!({"domain": "meet.example.org", "app_id": "lms"});
    whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Providers::of(&configuration(ProviderKind::Jitsi, whole, secrets))
}

#[test]
fn a_jitsi_with_a_key_of_its_own_gets_tokens_that_the_published_key_verifies() {
    let (pem, public) = rsa_key();
    let providers = of_jitsi(json!({"algorithm": "RS256"}), &[("private_key", &pem), ("jwt_secret", JWT_SECRET)]);
    let published = providers.jitsi_public_key().unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&["lms"]);
    rules.set_audience(&["jitsi"]);
    rules.validate_exp = false;
    let join = providers.join(&request(ProviderKind::Jitsi)).unwrap();
    for key in [DecodingKey::from_rsa_pem(published.pem.as_bytes()).unwrap(), DecodingKey::from_rsa_der(&public)] {
        let token = jsonwebtoken::decode::<Value>(&join.token, &key, &rules).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some(published.kid.as_str()));
        assert_eq!(token.header.typ.as_deref(), Some("JWT"));
    }
    assert!(of_jitsi(json!({}), &[("private_key", &pem), ("jwt_secret", JWT_SECRET)]).jitsi_public_key().is_none());
    assert!(!of_jitsi(json!({"algorithm": "RS256"}), &[("private_key", "none")]).configured(ProviderKind::Jitsi));
    // Another key is another name, so that Prosody does not take an old one from its cache.
    let another = of_jitsi(json!({"algorithm": "RS256"}), &[("private_key", &rsa_key().0)]);
    assert_ne!(another.jitsi_public_key().unwrap().file_name(), published.file_name());
}

#[test]
fn lobby_prejoin_and_the_recorder_are_as_the_configuration_wishes() {
    let wishes = json!({"lobby": true, "prejoin": true, "start_muted": true, "hide_participants_from_recorder": true});
    let providers = of_jitsi(wishes, &[("jwt_secret", JWT_SECRET)]);
    let claims = |join: &Join| {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&["jitsi"]);
        rules.validate_exp = false;
        let key = DecodingKey::from_secret(JWT_SECRET.as_bytes());
        jsonwebtoken::decode::<Value>(&join.token, &key, &rules).unwrap().claims["context"].clone()
    };
    let host = providers.join(&request(ProviderKind::Jitsi)).unwrap();
    assert!(host.url.ends_with("#config.prejoinConfig.enabled=true"), "{}", host.url);
    let context = claims(&host);
    assert_eq!(context["room"], json!({"lobby": true}));
    assert_eq!(context["user"]["lobby_bypass"], true);
    assert_eq!(context["user"].get("hidden-from-recorder"), None);

    let student = providers.join(&JoinRequest { part: Part::Participant, ..request(ProviderKind::Jitsi) }).unwrap();
    let wishes = "#config.prejoinConfig.enabled=true&config.lobby.autoKnock=true&config.startWithAudioMuted=true\
                  &config.startWithVideoMuted=true";
    assert!(student.url.ends_with(wishes), "{}", student.url);
    let context = claims(&student);
    assert_eq!(
        (&context["user"]["lobby_bypass"], &context["user"]["hidden-from-recorder"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn jaas_takes_tokens_that_its_key_signed_for_its_app() {
    let (pem, public) = rsa_key();
    let settings = json!({"app_id": APP, "key_id": format!("{APP}/4f4910")});
    let providers = Providers::of(&configuration(ProviderKind::Jaas, settings, &[("private_key", &pem)]));
    assert!(providers.configured(ProviderKind::Jaas) && !providers.configured(ProviderKind::Jitsi));
    let join = providers.join(&request(ProviderKind::Jaas)).unwrap();
    assert!(join.url.starts_with(&format!("https://8x8.vc/{APP}/algebra-1f2e3d?jwt=")), "{}", join.url);
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&["chat"]);
    rules.set_audience(&["jitsi"]);
    rules.validate_exp = false;
    let token = jsonwebtoken::decode::<Value>(&join.token, &DecodingKey::from_rsa_der(&public), &rules).unwrap();
    assert_eq!(token.header.kid.as_deref(), Some(format!("{APP}/4f4910").as_str()));
    assert_eq!(token.header.typ.as_deref(), Some("JWT"));
    assert_eq!((&token.claims["sub"], &token.claims["room"]), (&json!(APP), &json!("algebra-1f2e3d")));
    assert_eq!(token.claims["context"]["user"]["moderator"], true);
    assert_eq!(token.claims["context"]["features"]["recording"], true);
}

#[test]
fn a_configured_jitsi_has_its_own_server_and_secrets() {
    let settings = json!({"domain": "meet.school.test", "app_id": "school"});
    let secrets = [("jwt_secret", "another-secret-of-32-bytes-or-more"), ("webhook_secret", "the-school-s-own-secret")];
    let providers = Providers::of(&configuration(ProviderKind::Jitsi, settings, &secrets));
    let join = providers.join(&request(ProviderKind::Jitsi)).unwrap();
    assert!(join.url.starts_with("https://meet.school.test/algebra-1f2e3d?jwt="));
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&["school"]);
    rules.set_audience(&["jitsi"]);
    rules.validate_exp = false;
    let key = |secret: &str| DecodingKey::from_secret(secret.as_bytes());
    assert!(jsonwebtoken::decode::<Value>(&join.token, &key(secrets[0].1), &rules).is_ok());
    assert!(jsonwebtoken::decode::<Value>(&join.token, &key(&config().jitsi_jwt_secret), &rules).is_err());

    let headers = |secret: &str| vec![("authorization".to_owned(), format!("Bearer {secret}").into_bytes())];
    let body = br#"{"event_name": "muc-room-created", "room_name": "r", "created_at": 1}"#;
    let verify = |secret: &str| judge(&providers, WebhookSource::Jitsi, &headers(secret), body, at(5));
    assert!(verify(secrets[1].1).is_ok());
    assert_eq!(verify("event-sync-secret"), Err(WebhookError::BadSignature));
    let jaas = judge(&providers, WebhookSource::Jaas, &headers(secrets[1].1), body, at(5));
    assert_eq!(jaas, Err(WebhookError::NotConfigured));
}

#[test]
fn every_kind_is_configured_by_its_required_fields() {
    let settings = json!({"account_id": "a", "client_id": "c", "user_id": "u"});
    let zoom = |secret| configuration(ProviderKind::Zoom, settings.clone(), &[("client_secret", secret)]);
    assert!(Providers::of(&zoom("s")).configured(ProviderKind::Zoom));
    assert!(!Providers::of(&zoom("")).configured(ProviderKind::Zoom));
    for kind in ProviderKind::ALL {
        let needs_one = |settings| settings::missing_secret(kind, &settings, |_| false).is_some();
        let required = secret_fields(kind).iter().any(|field| field.required) || needs_one(json!({}));
        assert!(!fields(kind).is_empty() && required, "{kind:?}");
    }
}

#[test]
fn settings_that_mean_nothing_are_told_with_their_place() {
    let pointers = |kind, settings: Value| -> Vec<String> {
        settings::faults(kind, &settings).into_iter().map(|(pointer, _)| pointer).collect()
    };
    let hosts = json!(["media.test", "media.test:8443", "a/b", "u@h", "a b", "", 7]);
    let jitsi = json!({"domain": "a b", "app_id": "x", "recording_hosts": hosts});
    let expected = ["/domain", "/recording_hosts/2", "/recording_hosts/3", "/recording_hosts/4", "/recording_hosts/5"];
    assert_eq!(pointers(ProviderKind::Jitsi, jitsi), expected);
    assert_eq!(pointers(ProviderKind::Jaas, json!({"app_id": "x", "key_id": "y"})), ["/app_id", "/key_id"]);
    let other = format!("{APP}0/4f4910");
    assert_eq!(pointers(ProviderKind::Jaas, json!({"app_id": APP, "key_id": other})), ["/key_id"]);
    assert_eq!(pointers(ProviderKind::Bbb, json!({"server_url": "bbb.test"})), ["/server_url"]);
}

#[test]
fn secrets_that_cannot_be_right_are_refused_without_being_repeated() {
    let (pem, _) = rsa_key();
    let long = "x".repeat(8193);
    for (kind, field, wrong) in [
        (ProviderKind::Jitsi, "jwt_secret", "short-but-secret"),
        (ProviderKind::Jitsi, "jwt_secret", "••••abcd"),
        (ProviderKind::Jitsi, "webhook_secret", "guessable"),
        (ProviderKind::Jitsi, "jwt_secret", "0123456789abcdef0123456789abcdef\n"),
        (ProviderKind::Jaas, "private_key", "-----BEGIN PRIVATE KEY-----\nabcd\n-----END PRIVATE KEY-----"),
        (ProviderKind::Jaas, "webhook_secret", "0123456789abcdef0123456789abcdef"),
        (ProviderKind::Bbb, "shared_secret", ""),
        (ProviderKind::Bbb, "shared_secret", &long),
    ] {
        let fault = secret_fault(kind, field, wrong).unwrap_or_else(|| panic!("{field} {wrong}"));
        assert!(wrong.is_empty() || !fault.contains(wrong), "{fault}");
    }
    assert_eq!(secret_fault(ProviderKind::Jaas, "private_key", &pem), None);
    assert_eq!(secret_fault(ProviderKind::Bbb, "shared_secret", "639259d4-9dd8-4b25-bf01-95f9567eaf4b"), None);
}

#[test]
fn the_last_characters_are_shown_only_where_they_give_nothing_away() {
    let (pem, _) = rsa_key();
    let shown = |secret: &str| mask(&Secret::new(secret));
    assert_eq!(shown("0123456789abcdef"), "••••cdef");
    assert_eq!(shown("0123456789abcde"), MASK);
    assert_eq!(shown(&"ğ".repeat(20)), "••••ğğğğ");
    assert_eq!(shown(&pem), MASK);
    assert!(
        !format!("{:?}", configuration(ProviderKind::Bbb, json!({"server_url": "https://b"}), &[("s", &pem)]))
            .contains(&pem)
    );
}
