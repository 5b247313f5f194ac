//! BigBlueButton: where its API is, and calls that it accepts as signed ("API", `docs/development/api.md`). The adapter
//! for sessions is not there yet.

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use url::Url;

/// Hashes for checksums; servers tell them by their length. SHA-1 is not offered: every server that is still kept
/// up knows SHA-256.
pub const ALGORITHMS: &[&str] = &["sha256", "sha512", "sha384"];

/// `https://host/bigbluebutton/api/`, out of what people have at hand: the host, what `bbb-conf --secret` shows, or the
/// API's own address. `None` when it is no address.
pub fn api_base(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let sane = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let path = match url.path().trim_end_matches('/') {
        "" => "/bigbluebutton/api/".to_owned(),
        path if path.ends_with("/bigbluebutton") => format!("{path}/api/"),
        path if path.ends_with("/api") => format!("{path}/"),
        _ => return None,
    };
    url.set_path(&path);
    sane.then_some(url)
}

/// The address of a call. `query` goes out as it is: the server hashes the very bytes that it gets.
pub fn signed(base: &Url, call: &str, query: &str, (algorithm, secret): (&str, &str)) -> Option<Url> {
    let checksum = checksum(call, query, (algorithm, secret));
    let joint = if query.is_empty() { "" } else { "&" };
    base.join(&format!("{call}?{query}{joint}checksum={checksum}")).ok()
}

/// Lower-case hex of hash(call + query + secret).
fn checksum(call: &str, query: &str, (algorithm, secret): (&str, &str)) -> String {
    let text = format!("{call}{query}{secret}");
    match algorithm {
        "sha384" => hex::encode(Sha384::digest(text)),
        "sha512" => hex::encode(Sha512::digest(text)),
        _ => hex::encode(Sha256::digest(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_found_from_what_people_have_at_hand() {
        for text in [
            "https://bbb.example.org",
            "https://bbb.example.org/",
            "https://bbb.example.org/bigbluebutton",
            "https://bbb.example.org/bigbluebutton/",
            "https://bbb.example.org/bigbluebutton/api",
            "https://bbb.example.org/bigbluebutton/api/",
        ] {
            assert_eq!(api_base(text).unwrap().as_str(), "https://bbb.example.org/bigbluebutton/api/", "{text}");
        }
        for wrong in
            ["bbb.example.org", "ftp://a/", "https://a/b", "https://a/?x", "https://u:p@a/", "https://a/#f", ""]
        {
            assert!(api_base(wrong).is_none(), "{wrong}");
        }
    }

    /// The example of the documentation.
    #[test]
    fn checksums_are_those_of_the_documentation() {
        let query = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
        let secret = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";
        for (algorithm, expected) in [
            ("sha256", "da9185f7f333cfdfcd6eeac32dca3777510c4c436020d8b887ba5515bd1d189e"),
            (
                "sha384",
                "891ac633df39d0a1b4f8d597f3e190833216c4b29c4fb51ea3ca72757eeb958d6e7b49a845cf29f5c6019c7d29d029d1",
            ),
            (
                "sha512",
                "de73ad61d11a5c801b68d4bd6ec5248546085cefb0b25c85f3c46249ea93a3a4\
                 b120f92c0a8a58d7512cb77821884951a3b01245f3435dbbef49fff3cc3988b4",
            ),
        ] {
            assert_eq!(checksum("create", query, (algorithm, secret)), expected, "{algorithm}");
        }
        let base = api_base("https://bbb.example.org").unwrap();
        let url = signed(&base, "getMeetings", "", ("sha256", "s3cret")).unwrap();
        assert!(url.as_str().starts_with("https://bbb.example.org/bigbluebutton/api/getMeetings?checksum="), "{url}");
    }
}
