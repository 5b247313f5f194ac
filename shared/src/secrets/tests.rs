use super::*;

const TEXT: &str = "a secret that nobody may see";

fn key(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; KEY_BYTES])
}

fn keyring(text: &str) -> Keyring {
    Keyring::parse(text).unwrap()
}

fn place(field: &str) -> Place<'_> {
    let id = |n| uuid::Uuid::from_u128(n);
    Place { tenant: TenantId(id(1)), config: ProviderConfigId(id(2)), field }
}

#[test]
fn what_is_sealed_opens_where_it_belongs_and_nowhere_else() {
    let keys = keyring(&format!("a:{}", key(1)));
    let sealed = keys.seal(&Secret::new(TEXT), place("jwt_secret")).unwrap();
    assert_eq!(keys.open(&sealed, place("jwt_secret")).unwrap().expose(), TEXT);
    assert!(!sealed.ciphertext.windows(6).any(|w| w == b"secret"));
    let elsewhere = [
        place("webhook_secret"),
        place("jwt_secre"),
        Place { tenant: TenantId(uuid::Uuid::from_u128(3)), ..place("jwt_secret") },
        Place { config: ProviderConfigId(uuid::Uuid::from_u128(3)), ..place("jwt_secret") },
    ];
    for moved in elsewhere {
        assert_eq!(keys.open(&sealed, moved), Err(SecretsError::Damaged("a".into())), "{moved:?}");
    }
}

#[test]
fn the_same_secret_is_never_sealed_to_the_same_bytes() {
    let keys = keyring(&format!("a:{}", key(1)));
    let seal = || keys.seal(&Secret::new(TEXT), place("x")).unwrap();
    assert_ne!(seal(), seal());
}

#[test]
fn the_first_key_seals_and_all_open() {
    let old = keyring(&format!("a:{}", key(1)));
    let both = keyring(&format!("b:{}, a:{}\n", key(2), key(1)));
    let sealed = old.seal(&Secret::new(TEXT), place("x")).unwrap();
    assert_eq!(both.open(&sealed, place("x")).unwrap().expose(), TEXT);
    let anew = both.seal(&Secret::new(TEXT), place("x")).unwrap();
    assert_eq!((sealed.key_id.as_str(), anew.key_id.as_str()), ("a", "b"));
    assert_eq!(old.open(&anew, place("x")), Err(SecretsError::UnknownKey("b".into())));
}

#[test]
fn a_wrong_key_and_a_damaged_ciphertext_are_errors_that_name_the_key_alone() {
    let keys = keyring(&format!("a:{}", key(1)));
    let sealed = keys.seal(&Secret::new(TEXT), place("x")).unwrap();
    let damaged = Err(SecretsError::Damaged("a".into()));
    assert_eq!(keyring(&format!("a:{}", key(9))).open(&sealed, place("x")), damaged);
    for length in 0..sealed.ciphertext.len() {
        let cut = Sealed { ciphertext: sealed.ciphertext[..length].to_vec(), ..sealed.clone() };
        assert_eq!(keys.open(&cut, place("x")), damaged, "{length}");
    }
    for at in 0..sealed.ciphertext.len() {
        let mut changed = sealed.clone();
        changed.ciphertext[at] ^= 1;
        assert_eq!(keys.open(&changed, place("x")), damaged, "{at}");
    }
}

#[test]
fn without_keys_nothing_is_sealed_or_opened() {
    let sealed = keyring(&format!("a:{}", key(1))).seal(&Secret::new(TEXT), place("x")).unwrap();
    let none = keyring(" \n,");
    assert!(none.is_empty());
    assert_eq!(none.seal(&Secret::new(TEXT), place("x")), Err(SecretsError::NoKeys));
    assert_eq!(none.open(&sealed, place("x")), Err(SecretsError::NoKeys));
}

#[test]
fn faulty_keys_are_explained_without_being_shown() {
    let short = BASE64_STANDARD.encode([7; 31]);
    let good = key(7);
    for (text, expected) in [
        (good.clone(), "key number 1 is not id:base64"),
        (format!("a:{short}"), "the key \"a\" has 31 bytes instead of 32"),
        (format!("a:{good},b:!!"), "the key \"b\" is not base64"),
        (format!("a:{good},a:{good}"), "the id \"a\" is there twice"),
        (format!("a b:{good}"), "the id of key number 1 is not 1 to 32 letters, digits, - or _"),
        (format!(":{good}"), "the id of key number 1 is not 1 to 32 letters, digits, - or _"),
    ] {
        let error = Keyring::parse(&text).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.contains(&good) && !error.contains(&short));
    }
}

#[test]
fn neither_secrets_nor_keys_are_shown_when_debugged() {
    let keys = keyring(&format!("a:{}", key(1)));
    let config = SecretsConfig { secrets_keys: format!("a:{}", key(1)), secrets_keys_file: None };
    let shown = format!("{:?} {:?} {config:?}", Secret::new(TEXT), keys);
    assert!(!shown.contains(TEXT) && !shown.contains(&key(1)), "{shown}");
    assert!(shown.contains("\"a\""), "the ids are no secret: {shown}");
}

#[test]
fn keys_come_from_one_place() {
    let both = SecretsConfig { secrets_keys: format!("a:{}", key(1)), secrets_keys_file: Some("/nowhere".into()) };
    assert!(Keyring::load(&both).unwrap_err().to_string().contains("both set"));
    let missing = SecretsConfig { secrets_keys: String::new(), secrets_keys_file: Some("/nowhere".into()) };
    assert!(Keyring::load(&missing).unwrap_err().to_string().starts_with("SECRETS_KEYS_FILE: cannot read /nowhere"));
}
