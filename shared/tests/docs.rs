//! What the documents name exists: paths, jobs, schedules.

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn documents() -> Vec<(String, String)> {
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("migrations/README.md")];
    for folder in ["docs", "docs/adr"] {
        files.extend(fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path()));
    }
    files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "md"))
        .map(|file| (file.display().to_string(), fs::read_to_string(&file).expect("a document")))
        .collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let tops =
        ["api/", "worker/", "scheduler/", "shared/", "sandbox/", "migrations/", "deploy/", "docs/", "bench/", ".ci/"];
    let mut missing = Vec::new();
    for (document, text) in documents() {
        // Odd pieces between backticks are code.
        for code in text.split('`').skip(1).step_by(2) {
            let path = code.trim_end_matches('/');
            let is_path = tops.iter().any(|top| code.starts_with(top))
                && !code.contains(['<', '*', '{', '…', ' '])
                && !code.starts_with("api/v1");
            if is_path && !root().join(path).exists() {
                missing.push(format!("{document} names {code}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_relative_link_in_the_documents_leads_somewhere() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let folder = Path::new(&document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !link.contains("://") && !folder.join(target).exists() {
                missing.push(format!("{document} links to {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_job_has_a_row_in_the_documents() {
    let text = fs::read_to_string(root().join("docs/JOBS.md")).unwrap();
    for kind in shared::jobs::ALL {
        let row = format!("| `{}` | {} |", kind.name, kind.queue);
        assert!(text.contains(&row), "docs/JOBS.md has no row that begins with {row}");
    }
}

#[test]
fn every_test_that_the_documents_name_exists() {
    fn sources(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                sources(&entry, text);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                text.push_str(&fs::read_to_string(&entry).expect("a source"));
            }
        }
    }
    let mut tests = String::new();
    for krate in ["api", "sandbox", "scheduler", "shared", "worker"] {
        sources(&root().join(krate).join("tests"), &mut tests);
    }
    let text = fs::read_to_string(root().join("docs/RELIABILITY.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2);
    // A test's name is a sentence.
    let missing: Vec<_> = named
        .map(|name| name.trim_end_matches('…'))
        .filter(|name| name.matches('_').count() >= 4 && !name.contains(['/', ' ']))
        .filter(|name| !tests.contains(*name))
        .collect();
    assert!(missing.is_empty(), "docs/RELIABILITY.md names tests that do not exist: {missing:#?}");
}
