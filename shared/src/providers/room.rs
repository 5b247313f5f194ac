//! Names of meeting rooms.

use crate::domain::ids::SessionId;

const SLUG_CHARS: usize = 34;
/// 16 characters of 5 bits: nobody guesses a room from a class's title.
const SECRET_CHARS: usize = 16;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A new room for a class: readable, then the end of the session's id (to find the class when only
/// the meeting server's log is at hand), then an unguessable part. At most 60 characters of
/// `[a-z0-9-]`, because Jitsi lower-cases and percent-encodes anything else, and the token's `room`
/// would have to follow it there.
pub fn room_name(title: &str, id: SessionId) -> String {
    let slug = slug(title);
    let id = id.0.simple().to_string();
    let secret: String =
        rand::random::<[u8; SECRET_CHARS]>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    format!("{slug}-{}-{secret}", &id[id.len() - 6..])
}

fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().flat_map(char::to_lowercase) {
        let plain = plain(c);
        if !plain.is_empty() {
            slug.push_str(plain);
        } else if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !is_combining(c) && !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG_CHARS {
            break;
        }
    }
    slug.truncate(SLUG_CHARS);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "class".to_owned() } else { slug.to_owned() }
}

/// Letters of Turkish and its neighbours in ASCII; empty for others.
fn plain(c: char) -> &'static str {
    match c {
        'ç' | 'ć' | 'č' => "c",
        'ğ' => "g",
        'ı' | 'î' | 'í' | 'ì' | 'ï' => "i",
        'ö' | 'ó' | 'ò' | 'ô' | 'õ' | 'ø' => "o",
        'ş' | 'ș' | 'š' | 'ś' => "s",
        'ü' | 'ú' | 'ù' | 'û' => "u",
        'â' | 'á' | 'à' | 'ä' | 'ã' | 'å' | 'ą' | 'ă' => "a",
        'é' | 'è' | 'ê' | 'ë' | 'ę' | 'ě' => "e",
        'ñ' | 'ń' | 'ň' => "n",
        'ý' | 'ÿ' => "y",
        'ž' | 'ź' | 'ż' => "z",
        'ł' => "l",
        'ř' => "r",
        'ť' | 'ț' => "t",
        'đ' | 'ď' => "d",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        _ => "",
    }
}

/// Accents that follow their letter; `İ` in lower case is `i` and one of them.
fn is_combining(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn turkish_titles_stay_readable() {
        for (title, expected) in [
            ("İleri Düzey Çağdaş Ölçüm: IŞIK & GÖLGE", "ileri-duzey-cagdas-olcum-isik-golg"),
            ("Matematik 9/A", "matematik-9-a"),
            ("I\u{307}stanbul", "istanbul"),
            ("İngilizce", "ingilizce"),
            ("  —  ", "class"),
            ("数学", "class"),
            ("", "class"),
        ] {
            assert_eq!(slug(title), expected, "{title}");
        }
    }

    #[test]
    fn two_rooms_of_one_session_differ() {
        let id = SessionId::new();
        assert_ne!(room_name("Algebra", id), room_name("Algebra", id));
    }

    proptest! {
        #[test]
        fn any_title_gives_a_room_that_jitsi_leaves_alone(title in any::<String>()) {
            let room = room_name(&title, SessionId::new());
            prop_assert!(room.len() <= 60);
            prop_assert!(room.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!room.starts_with('-') && !room.contains("--"));
        }
    }
}
