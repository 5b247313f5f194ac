//! Zoom: the token of the server-to-server OAuth app ("Server-to-Server OAuth" of its documentation).

use reqwest::header;
use serde_json::Value;
use url::form_urlencoded;

use super::{CheckName, Prober, Report};
use crate::providers::settings::ZoomSettings;

/// Asks for a token, and forgets it.
pub async fn probe(prober: &Prober, settings: &ZoomSettings, client_secret: &str) -> Report {
    let url = &prober.zoom_oauth;
    let mut report = Report::of(&[CheckName::Address, CheckName::Tls, CheckName::Secret], Some(url));
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "account_credentials")
        .append_pair("account_id", &settings.account_id)
        .finish();
    let request = prober
        .outbound
        .client()
        .post(url.clone())
        .basic_auth(&settings.client_id, Some(client_secret))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form);
    let Some(answer) = prober.ask(&mut report, url, request).await else { return report };
    let status = answer.status.as_u16();
    if status == 429 || answer.status.is_server_error() {
        report.pass(CheckName::Address, "Zoom answers");
        report.set(CheckName::Secret, None, format!("Zoom is busy (status {status}): try again later"));
        return report;
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if !body["access_token"].is_string() && !body["error"].is_string() {
        report.fail(CheckName::Address, "something else than Zoom answers there");
        return report;
    }
    report.pass(CheckName::Address, "Zoom answers");
    match body["error"].as_str() {
        None => report.pass(CheckName::Secret, "Zoom gives a token"),
        Some("invalid_client") => report.fail(CheckName::Secret, "client_id or client_secret is wrong"),
        Some(_) => {
            let detail = "Zoom gives no token: check account_id, and that the app is activated and of the kind \
                          server-to-server OAuth";
            report.fail(CheckName::Secret, detail);
        }
    }
    report
}
