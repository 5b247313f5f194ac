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
        assert!(!fields(kind).is_empty() && secret_fields(kind).iter().any(|field| field.required), "{kind:?}");
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
