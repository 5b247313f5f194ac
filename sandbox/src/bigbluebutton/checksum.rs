//! Judges checksums as the server's `GetChecksumValidator` does, with code of its own: over the bytes as they came.

use std::collections::HashMap;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use url::form_urlencoded;

/// The parameters of a call, if its checksum is right.
pub fn verified(call: &str, query: &str, secret: &str) -> Option<HashMap<String, String>> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("checksum="))?;
    // The hash is told by the length.
    let algorithm: &'static Algorithm = match given.len() {
        40 => &SHA1_FOR_LEGACY_USE_ONLY,
        64 => &SHA256,
        96 => &SHA384,
        128 => &SHA512,
        _ => return None,
    };
    let query = without(query);
    let expected = hex::encode(digest(algorithm, format!("{call}{query}{secret}").as_bytes()));
    (expected == given).then(|| form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// A query without its checksum and the `&` that joins it.
pub fn without(query: &str) -> String {
    query.split('&').filter(|pair| !pair.starts_with("checksum=")).collect::<Vec<_>>().join("&")
}

/// `internalMeetingID`: the SHA-1 of the id, and when it was made.
pub fn internal_id(meeting_id: &str, created_ms: i64) -> String {
    format!("{}-{created_ms}", hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, meeting_id.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of BigBlueButton's documentation.
    #[test]
    fn checksums_are_judged_over_the_bytes_as_they_came() {
        let query = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
        let secret = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";
        let sha256 = "da9185f7f333cfdfcd6eeac32dca3777510c4c436020d8b887ba5515bd1d189e";
        let judge = |query: String| verified("create", &query, secret).map(|parameters| parameters["name"].clone());
        for checksum in ["1fcbb0c4fc1f039f73aa6d697d2db9ba7f803f17", sha256] {
            assert_eq!(judge(format!("{query}&checksum={checksum}")).as_deref(), Some("Test Meeting"));
            assert_eq!(judge(format!("checksum={checksum}&{query}")).as_deref(), Some("Test Meeting"));
        }
        for wrong in [
            format!("{}&checksum={sha256}", query.replace('+', "%20")),
            format!("{query}&checksum={}", sha256.to_uppercase()),
            format!("{query}&checksum={}", &sha256[1..]),
            query.to_owned(),
        ] {
            assert_eq!(judge(wrong.clone()), None, "{wrong}");
        }
        assert!(verified("end", &format!("{query}&checksum={sha256}"), secret).is_none());
    }
}
