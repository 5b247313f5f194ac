//! The token and the link, judged by a decoder that is not ours.

use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};

use super::*;

fn request(part: Part) -> JoinRequest<'static> {
    JoinRequest {
        kind: ProviderKind::Jitsi,
        room: "algebra-1f2e3d-abcdefghijklmnop",
        person: JoinPerson { id: "u-7", name: "Çağla Öz", email: Some("cagla@example.org") },
        part,
        not_before: at(1_800_000_000),
        expires_at: at(1_800_007_200),
        now: at(1_800_000_600),
        recording: true,
        subject: "Cebir \"1\" & =?#/\\ ı",
        meeting: None,
        link: None,
    }
}

/// Everything that Prosody and the client look at, by another program's rules. The times are
/// compared by the caller, because these tests stand still in time.
fn decode(token: &str, secret: &str) -> jsonwebtoken::errors::Result<TokenData<Value>> {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&["lms"]);
    rules.set_audience(&["jitsi"]);
    rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    rules.validate_exp = false;
    jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.as_bytes()), &rules)
}

#[test]
fn a_host_gets_what_prosody_demands() {
    let join = Providers::new(&config()).join(&request(Part::Host)).unwrap();
    let token = decode(&join.token, "0123456789abcdef0123456789abcdef").unwrap();
    assert_eq!(token.header.typ.as_deref(), Some("JWT"));
    assert_eq!(
        token.claims,
        json!({
            "iss": "lms", "aud": "jitsi", "sub": "*", "room": "algebra-1f2e3d-abcdefghijklmnop",
            "iat": 1_800_000_600, "nbf": 1_799_999_990, "exp": 1_800_007_200,
            "context": {
                "user": {"id": "u-7", "name": "Çağla Öz", "email": "cagla@example.org",
                         "affiliation": "owner", "moderator": true},
                "features": {"recording": true, "livestreaming": true, "transcription": true,
                             "create-polls": true, "file-upload": true, "list-visitors": true, "lobby": true,
                             "moderation": true, "screen-sharing": true, "send-groupchat": true,
                             "inbound-call": false, "sip-inbound-call": false,
                             "outbound-call": false, "sip-outbound-call": false},
            },
        })
    );
    assert!(decode(&join.token, "another secret").is_err());
}

#[test]
fn a_participant_neither_moderates_nor_records() {
    let providers = Providers::new(&config());
    let mut request = request(Part::Participant);
    request.person.email = None;
    let join = providers.join(&request).unwrap();
    let context = &decode(&join.token, "0123456789abcdef0123456789abcdef").unwrap().claims["context"];
    assert_eq!(context["user"], json!({"id": "u-7", "name": "Çağla Öz", "affiliation": "member", "moderator": false}));
    assert_eq!(context["features"]["recording"], false);
    assert_eq!(context["features"]["moderation"], false);

    let co_host = JoinRequest { part: Part::CoHost, recording: false, ..request };
    let join = providers.join(&co_host).unwrap();
    let context = &decode(&join.token, "0123456789abcdef0123456789abcdef").unwrap().claims["context"];
    assert_eq!(context["user"]["moderator"], true);
    assert_eq!(context["features"]["recording"], false, "the session is not recorded");
}

#[test]
fn the_link_carries_token_and_subject() {
    let join = Providers::new(&config()).join(&request(Part::Host)).unwrap();
    let url = url::Url::parse(&join.url).unwrap();
    assert_eq!(url.origin().ascii_serialization(), "https://meet.example.org");
    assert_eq!(url.path(), "/algebra-1f2e3d-abcdefghijklmnop");
    assert_eq!(url.query_pairs().collect::<Vec<_>>(), [("jwt".into(), join.token.as_str().into())]);
    // The client splits the fragment at & and =, decodes the value, and reads it as JSON.
    let fragment = url.fragment().unwrap();
    let pairs: Vec<_> = fragment.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    assert_eq!(pairs[0], ("config.prejoinConfig.enabled", "false"));
    assert_eq!(pairs[1].0, "config.subject");
    let decoded: Vec<u8> = url::form_urlencoded::parse(format!("v={}", pairs[1].1).as_bytes())
        .next()
        .map(|(_, v)| v.into_owned().into_bytes())
        .unwrap();
    assert_eq!(serde_json::from_slice::<String>(&decoded).unwrap(), "Cebir \"1\" & =?#/\\ ı");
    assert_eq!(pairs.len(), 2);
}

#[test]
fn plain_http_only_where_written_out() {
    for (domain, expected) in [
        ("meet.example.org:8443", Some("https://meet.example.org:8443/")),
        ("http://127.0.0.1:4321", Some("http://127.0.0.1:4321/")),
        ("http://127.0.0.1:4321/", Some("http://127.0.0.1:4321/")),
        ("https://meet.example.org", Some("https://meet.example.org/")),
        ("ftp://meet.example.org", None),
        ("meet.example.org/path", None),
        ("user@meet.example.org", None),
        ("a b", None),
    ] {
        let providers = Providers::new(&ProvidersConfig { jitsi_domain: domain.into(), ..config() });
        assert_eq!(providers.configured(ProviderKind::Jitsi), expected.is_some(), "{domain}");
        if let Some(expected) = expected {
            assert!(providers.join(&request(Part::Host)).unwrap().url.starts_with(expected), "{domain}");
        }
    }
}

#[test]
fn what_is_not_configured_says_so() {
    for incomplete in [
        ProvidersConfig { jitsi_domain: String::new(), ..config() },
        ProvidersConfig { jitsi_app_id: String::new(), ..config() },
        ProvidersConfig { jitsi_jwt_secret: " ".into(), ..config() },
    ] {
        let providers = Providers::new(&incomplete);
        assert!(!providers.configured(ProviderKind::Jitsi));
        assert_eq!(providers.join(&request(Part::Host)), Err(ProviderError::NotConfigured(ProviderKind::Jitsi)));
    }
    let zoom = JoinRequest { kind: ProviderKind::Zoom, ..request(Part::Host) };
    assert!(matches!(Providers::new(&config()).join(&zoom), Err(ProviderError::Rejected(_))));
}

#[test]
fn no_token_for_an_odd_room_or_a_time_that_is_over() {
    let providers = Providers::new(&config());
    for room in ["", "*", "a b", "a/b", "sınıf", "a?jwt=b"] {
        let odd = JoinRequest { room, ..request(Part::Host) };
        assert!(matches!(providers.join(&odd), Err(ProviderError::Rejected(_))), "{room}");
    }
    let over = JoinRequest { expires_at: at(1_800_000_600), ..request(Part::Host) };
    assert!(matches!(providers.join(&over), Err(ProviderError::Rejected(_))));
    // Prosody compares with the lower-case node.
    let capital = JoinRequest { room: "Algebra", ..request(Part::Host) };
    assert!(providers.join(&capital).unwrap().url.starts_with("https://meet.example.org/algebra?"));
}
