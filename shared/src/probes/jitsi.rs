//! Jitsi, self-hosted and as a service.

use chrono::{DateTime, TimeDelta};
use url::Url;

use super::{CheckName, Prober, Report};
use crate::{
    domain::person::Part,
    providers::{
        JoinPerson, JoinRequest, Providers,
        settings::{Configuration, HS256_BYTES, JitsiSettings},
    },
};

/// The page's script is there, and a token can be made. Whether Prosody takes the token, only a join tells.
pub async fn probe(prober: &Prober, settings: &JitsiSettings, configuration: &Configuration) -> Report {
    let address = crate::providers::jitsi_origin(&settings.domain).and_then(|origin| Url::parse(&origin).ok());
    let mut report = Report::of(&[CheckName::Address, CheckName::Tls, CheckName::Secret], address.as_ref());
    secret(&mut report, configuration);
    let bytes = configuration.secret("jwt_secret").len();
    if !settings.signs_with_own_key() && bytes < HS256_BYTES {
        report.fail(CheckName::Secret, format!("jwt_secret has {bytes} bytes; {HS256_BYTES} are needed"));
    }
    let Some(script) = address.and_then(|url| url.join("/external_api.js").ok()) else {
        report.fail(CheckName::Address, "the domain is no host");
        return report;
    };
    let request = prober.outbound.client().get(script.clone());
    let Some(answer) = prober.ask(&mut report, &script, request).await else { return report };
    if answer.status.is_success() && !answer.is_page {
        report.pass(CheckName::Address, "a Jitsi page is there");
    } else {
        report.fail(CheckName::Address, "a web server is there, but no Jitsi: it has no /external_api.js");
    }
    report
}

/// JaaS has no address of one's own: what can be wrong is the key.
pub fn probe_as_a_service(configuration: &Configuration) -> Report {
    let mut report = Report::of(&[CheckName::Secret], None);
    secret(&mut report, configuration);
    report
}

fn secret(report: &mut Report, configuration: &Configuration) {
    let now = DateTime::UNIX_EPOCH;
    let request = JoinRequest {
        kind: configuration.settings.kind(),
        room: "test",
        person: JoinPerson { id: "test", name: "test", email: None },
        part: Part::Participant,
        not_before: now,
        expires_at: now + TimeDelta::minutes(1),
        now,
        recording: false,
        subject: "",
        meeting: None,
        link: None,
    };
    match Providers::of(configuration).join(&request) {
        Ok(_) => report.pass(CheckName::Secret, "a token can be made; whether it is taken, the first join tells"),
        Err(_) => report.fail(CheckName::Secret, "no token can be made: check the key, and the form of its id"),
    }
}
