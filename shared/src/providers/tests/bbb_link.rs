//! What is said to a BigBlueButton: the calls that make and end a meeting, and the links into it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::*;

const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

static MEETING: Meeting =
    Meeting::Bbb(bbb::BbbMeeting { created_ms: 1_795_766_400_123, internal_id: String::new(), server: String::new() });

fn environment() -> ProvidersConfig {
    ProvidersConfig {
        bbb_server_url: "https://bbb.example.org/bigbluebutton/".into(),
        bbb_shared_secret: SECRET.into(),
        ..config()
    }
}

fn request(part: Part, name: &'static str) -> JoinRequest<'static> {
    JoinRequest {
        kind: ProviderKind::Bbb,
        room: "algebra-1f2e3d",
        person: JoinPerson { id: "u/7&role=MODERATOR", name, email: None },
        part,
        not_before: at(1_800_000_000),
        expires_at: at(1_800_007_200),
        now: at(1_800_000_600),
        recording: false,
        subject: "",
        meeting: Some(&MEETING),
        link: None,
    }
}

/// The parameters of a signed address, whose checksum is judged as the server judges it: over the bytes as they are.
fn judged(url: &str, call: &str) -> BTreeMap<String, String> {
    let start = format!("https://bbb.example.org/bigbluebutton/api/{call}?");
    let query = url.strip_prefix(&start).unwrap_or_else(|| panic!("{url}"));
    let (query, checksum) = query.rsplit_once("&checksum=").unwrap();
    assert_eq!(checksum, hex::encode(Sha256::digest(format!("{call}{query}{SECRET}"))), "{url}");
    // No client changes these bytes: a browser sends what it is given.
    assert_eq!(Url::parse(url).unwrap().as_str(), url);
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_link_says_who_comes_as_what_into_which_meeting() {
    let providers = Providers::new(&environment());
    let name = "Çağla Öz & Söhne ~*'+%=#?/\\";
    for (part, role) in [(Part::Host, "MODERATOR"), (Part::CoHost, "MODERATOR"), (Part::Participant, "VIEWER")] {
        let join = providers.join(&request(part, name)).unwrap();
        let expected = [
            ("meetingID", "algebra-1f2e3d"),
            ("fullName", name),
            ("userID", "u/7&role=MODERATOR"),
            ("role", role),
            ("createTime", "1795766400123"),
            ("redirect", "true"),
        ];
        assert_eq!(judged(&join.url, "join"), pairs(&expected));
        assert_eq!(join.token, "");
    }
    // The server wants a name.
    let join = providers.join(&request(Part::Participant, " ")).unwrap();
    assert_eq!(judged(&join.url, "join")["fullName"], "u/7&role=MODERATOR");
}

#[test]
fn there_is_no_link_without_a_meeting_or_a_server() {
    let unmade = JoinRequest { meeting: None, ..request(Part::Host, "A") };
    assert!(matches!(Providers::new(&environment()).join(&unmade), Err(ProviderError::Rejected(_))));
    for incomplete in [
        ProvidersConfig { bbb_server_url: String::new(), ..environment() },
        ProvidersConfig { bbb_server_url: "bbb.example.org".into(), ..environment() },
        ProvidersConfig { bbb_shared_secret: " ".into(), ..environment() },
    ] {
        let providers = Providers::new(&incomplete);
        let refused = providers.join(&request(Part::Host, "A"));
        assert_eq!(refused, Err(ProviderError::NotConfigured(ProviderKind::Bbb)));
        assert!(!providers.configured(ProviderKind::Bbb));
    }
}

#[test]
fn a_repeated_create_is_the_same_to_the_byte() {
    let providers = Providers::new(&environment());
    let bbb = providers.bbb().unwrap();
    let create = |title: &str, recording, callbacks: Option<&bbb::Callbacks>| {
        let new = bbb::Create { room: "r-1", title, recording, session: "019abc", callbacks };
        String::from(bbb.servers()[0].create(&new).unwrap())
    };
    let plain = |title: &str, recording| create(title, recording, None);
    assert_eq!(plain("Cebir II", true), plain("Cebir II", true));
    let least = [("meetingID", "r-1"), ("name", "Cebir II"), ("record", "true"), ("meta_live-session-id", "019abc")];
    assert_eq!(judged(&plain("Cebir II", true), "create"), pairs(&least));
    assert_eq!(judged(&plain("Cebir II", false), "create")["record"], "false");
    // The server refuses names of less than 2 or more than 64 characters.
    assert_eq!(judged(&plain("X", false), "create")["name"], "r-1");
    assert_eq!(judged(&plain(&"ğ".repeat(200), false), "create")["name"], "ğ".repeat(64));

    let base = "https://live.example.org/webhooks/bbb/callbacks/019abc/";
    let callbacks = bbb.callbacks(base, "019abc");
    let told = judged(&create("Cebir II", true, Some(&callbacks)), "create");
    let token = told["meta_endCallbackUrl"].strip_prefix(&format!("{base}end/")).unwrap().trim_end_matches('/');
    assert_eq!(bbb.verify_end("019abc", token), Ok(()));
    for (session, token) in [("019abd", token), ("019abc", &token[1..]), ("019abc", "")] {
        assert_eq!(bbb.verify_end(session, token), Err(WebhookError::BadSignature));
    }
    assert_eq!(told["meta_bbb-recording-ready-url"], format!("{base}recording-ready/"));
    assert_eq!(told["meta_analytics-callback-url"], format!("{base}analytics/"));
    assert_eq!(told["meetingKeepEvents"], "true");
}

#[test]
fn sessions_are_held_at_jitsi_unless_there_is_bigbluebutton_alone() {
    let kind = |config: &ProvidersConfig| Providers::new(config).default_kind();
    assert_eq!(kind(&config()), ProviderKind::Jitsi);
    assert_eq!(kind(&environment()), ProviderKind::Jitsi);
    let alone = |bbb: &ProvidersConfig| ProvidersConfig {
        jitsi_domain: String::new(),
        jitsi_app_id: String::new(),
        jitsi_jwt_secret: String::new(),
        ..bbb.clone()
    };
    assert_eq!(kind(&alone(&environment())), ProviderKind::Bbb);
    assert_eq!(kind(&alone(&config())), ProviderKind::Jitsi);
    assert!(alone(&environment()).faults().is_empty());
    assert_eq!(alone(&config()).faults().len(), 3);
    let half = ProvidersConfig { bbb_shared_secret: String::new(), ..environment() };
    assert_eq!(half.faults(), ["BBB_SHARED_SECRET is not set: no session on BigBlueButton can be joined"]);
}

proptest! {
    #[test]
    fn whoever_comes_gets_a_link_that_says_just_that(id in "\\PC{1,40}", name in "\\PC{0,80}") {
        let providers = Providers::new(&environment());
        let request = JoinRequest {
            person: JoinPerson { id: &id, name: &name, email: None },
            ..request(Part::Participant, "")
        };
        let said = judged(&providers.join(&request).unwrap().url, "join");
        prop_assert_eq!((&said["userID"], said["role"].as_str(), said.len()), (&id, "VIEWER", 6));
    }

    #[test]
    fn no_bytes_make_the_reader_of_answers_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        tail in "(<[a-zA-Z/!?]{0,12}>?|&[a-z#0-9]{0,6};?|<!\\[CDATA\\[|\\]\\]>|[ a-z0-9]{0,6}){0,20}",
    ) {
        let _ = bbb::Answer::read(&bytes);
        let answer = bbb::Answer::read(format!("<response><returncode>SUCCESS</returncode>{tail}").as_bytes());
        let _ = answer.map(|answer| answer.meeting());
    }
}
