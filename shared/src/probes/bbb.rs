//! BigBlueButton: the API tells its version to anybody, and takes signed calls from those who know the secret.

use futures::future::join_all;

use super::{CheckName, Prober, Report};
use crate::providers::{
    bbb::{Answer, Bbb, Server},
    settings::BbbSettings,
};

const NAMES: [CheckName; 4] = [CheckName::Address, CheckName::Tls, CheckName::Version, CheckName::Secret];

/// What we know of the API was read in this line and newer ones.
const OLDEST: (u32, u32) = (2, 7);

/// Asks each server for its version, then makes a signed call that changes nothing. What is wrong with one that is not the first
/// is told with its name.
pub async fn probe(prober: &Prober, settings: &BbbSettings, secret: &str, server_secrets: &str) -> Report {
    let Some(bbb) = Bbb::new(settings, secret, server_secrets) else {
        let mut report = Report::of(&NAMES, None);
        report.fail(CheckName::Address, "server_url is no address");
        return report;
    };
    let mut found = join_all(bbb.all().map(|server| one(prober, server))).await.into_iter();
    let mut report = found.next().unwrap_or_else(|| Report::of(&NAMES, None));
    for (server, other) in bbb.all().skip(1).zip(found) {
        report.add(&server.name, other);
    }
    report
}

async fn one(prober: &Prober, server: &Server) -> Report {
    let base = server.api();
    let mut report = Report::of(&NAMES, Some(base));
    let Some(signed) = server.meetings() else {
        report.fail(CheckName::Address, "its address cannot be signed");
        return report;
    };
    let ask = async |report: &mut Report, url| {
        let answer = prober.ask(report, url, prober.outbound.client().get(url.clone())).await?;
        let response = Answer::read(&answer.body).filter(|_| answer.status.is_success());
        if response.is_none() {
            report.fail(CheckName::Address, "a web server is there, but not the API of a BigBlueButton");
        }
        response
    };
    let Some(about) = ask(&mut report, base).await else { return report };
    report.pass(CheckName::Address, "the API of a BigBlueButton is there");
    version(&mut report, &about);
    let Some(answer) = ask(&mut report, &signed).await else { return report };
    match (answer.returncode.as_str(), answer.key.as_str()) {
        ("SUCCESS", _) => report.pass(CheckName::Secret, "a signed call is taken"),
        (_, "checksumError") => {
            report.fail(CheckName::Secret, "the shared secret is wrong, or the server does not take this checksum");
        }
        _ => report.set(CheckName::Secret, None, "the server refuses the call for another reason than its checksum"),
    }
    report
}

/// `version` is that of the API, 2.0 for years; `bbbVersion` is the program's, which a balancer or an administrator
/// may keep to themselves.
fn version(report: &mut Report, about: &Answer) {
    let numbers = |text: &str| {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
    };
    let (api, program) = (numbers(&about.version), numbers(&about.program));
    match (api, program) {
        (Some(api), _) if api < (2, 0) => {
            report.fail(CheckName::Version, format!("API {}.{} is too old", api.0, api.1))
        }
        (_, Some(program)) if program < OLDEST => {
            let detail =
                format!("{}.{} is too old; {}.{} or newer is needed", program.0, program.1, OLDEST.0, OLDEST.1);
            report.fail(CheckName::Version, detail);
        }
        (_, Some(program)) => report.pass(CheckName::Version, format!("BigBlueButton {}.{}", program.0, program.1)),
        (Some(api), None) => {
            report
                .pass(CheckName::Version, format!("API {}.{}; the server does not tell its own version", api.0, api.1));
        }
        (None, None) => report.set(CheckName::Version, None, "the server does not tell its version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_too_old_is_told() {
        for (api, program, ok) in [
            ("2.0", "3.0.4", Some(true)),
            ("2.0", "2.7.0-beta.1", Some(true)),
            ("2.0", "2.6.9", Some(false)),
            ("2.0", "", Some(true)),
            ("1.1", "", Some(false)),
            ("", "", None),
            ("x", "y", None),
        ] {
            let mut report = Report::of(&[CheckName::Version], None);
            let about = Answer { version: api.into(), program: program.into(), ..Answer::default() };
            version(&mut report, &about);
            assert_eq!(report.0[0].ok, ok, "{api} {program}");
        }
    }
}
