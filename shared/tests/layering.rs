//! Holds the direction of dependencies that docs/ARCHITECTURE.md draws: inside `shared` by the
//! `use crate::…` lines, between crates by `cargo tree`.

use std::{fs, path::Path, process::Command};

/// Each module with those that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &["clock", "domain", "telemetry"]),
    ("domain", &[]),
    ("jobs", &["domain"]),
    ("db", &["clock", "config", "domain", "jobs", "providers", "queue", "secrets"]),
    ("queue", &["clock", "config", "domain", "jobs"]),
    ("secrets", &["config", "domain"]),
    ("providers", &["clock", "config", "domain", "secrets"]),
    ("outbound", &[]),
    ("probes", &["config", "domain", "outbound", "providers"]),
    ("meetings", &["clock", "config", "db", "domain", "outbound", "providers", "secrets"]),
    ("calendar", &["clock", "config", "domain"]),
    ("checks", &[]),
    ("telemetry", &[]),
    ("shutdown", &[]),
];

fn rust_files(path: &Path, found: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder can be read") {
            rust_files(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_owned());
    }
}

#[test]
fn modules_of_shared_use_only_what_stands_left_of_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let known: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    assert!(modules.iter().all(|m| known.contains(m)), "a module has no place in the order: {modules:?}");

    let mut faults = Vec::new();
    for (module, allowed) in MAY_USE {
        let mut files = Vec::new();
        rust_files(&src.join(module), &mut files);
        rust_files(&src.join(format!("{module}.rs")), &mut files);
        for file in files.into_iter().filter(|f| f.exists()) {
            let text = fs::read_to_string(&file).unwrap();
            for used in text.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if used != *module && modules.contains(&used.as_str()) && !allowed.contains(&used.as_str()) {
                    faults.push(format!("{} uses {used}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Whether `krate` is among the normal dependencies of `package`.
fn depends(package: &str, krate: &str) -> bool {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo tree runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    String::from_utf8_lossy(&tree.stdout).lines().any(|line| line.split(' ').next() == Some(krate))
}

#[test]
fn no_process_carries_what_only_another_one_uses() {
    for (package, krate) in [
        ("api", "aws-sdk-s3"),
        ("api", "lettre"),
        ("api", "apalis"),
        ("api", "worker"),
        ("api", "sandbox"),
        ("scheduler", "aws-sdk-s3"),
        ("scheduler", "lettre"),
        ("scheduler", "worker"),
        ("scheduler", "api"),
        ("worker", "api"),
        ("worker", "sandbox"),
        ("shared", "axum"),
        ("shared", "lettre"),
        ("shared", "aws-sdk-s3"),
        ("shared", "apalis"),
    ] {
        assert!(!depends(package, krate), "{package} must not depend on {krate}");
    }
    assert!(depends("worker", "lettre"), "the check itself must be able to see a dependency");
}
