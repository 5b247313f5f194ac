//! Zoom: the token of the server-to-server OAuth app ("Server-to-Server OAuth" of its documentation), and the users whose
//! meetings are to be held.

use reqwest::header;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{CheckName, Prober, Report};
use crate::providers::{
    settings::ZoomSettings,
    zoom::{in_path, users as users_of},
};

/// Asks for a token and for the users, and forgets all of it.
pub async fn probe(prober: &Prober, settings: &ZoomSettings, client_secret: &str) -> Report {
    let url = &prober.zoom.zoom_oauth_url;
    let names = [CheckName::Address, CheckName::Tls, CheckName::Secret, CheckName::User];
    let mut report = Report::of(&names, Some(url));
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
        None => {
            report.pass(CheckName::Secret, "Zoom gives a token");
            users(prober, &mut report, settings, body["access_token"].as_str().unwrap_or_default()).await;
        }
        Some("invalid_client") => report.fail(CheckName::Secret, "client_id or client_secret is wrong"),
        Some(_) => {
            let detail = "Zoom gives no token: check account_id, and that the app is activated and of the kind \
                          server-to-server OAuth";
            report.fail(CheckName::Secret, detail);
        }
    }
    report
}

/// Each of the users; the first that is not right is told.
async fn users(prober: &Prober, report: &mut Report, settings: &ZoomSettings, token: &str) {
    for name in users_of(settings) {
        if !user(prober, report, (&name, settings), token).await {
            return;
        }
    }
}

/// Whether the user is there.
async fn user(prober: &Prober, report: &mut Report, (name, settings): (&str, &ZoomSettings), token: &str) -> bool {
    let base = prober.zoom.zoom_api_url.as_str().trim_end_matches('/');
    let Ok(url) = Url::parse(&format!("{base}/users/{}", in_path(name))) else { return false };
    let request = prober.outbound.client().get(url.clone()).bearer_auth(token);
    let Some(answer) = prober.ask(report, &url, request).await else { return false };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    // Told as the administrator wrote it.
    match (answer.status.as_u16(), body["code"].as_i64().unwrap_or_default()) {
        (200, _) if body["type"] == 1 && settings.registration == "on" => {
            let detail = "has no licence: links for each person need one, or `registration` set to `off`";
            report.fail(CheckName::User, format!("the user {name} {detail}"));
        }
        (200, _) if body["id"].is_string() => {
            report.pass(CheckName::User, "every user is there");
            return true;
        }
        (404, _) | (_, 1001) => report.fail(CheckName::User, format!("Zoom knows no user {name} in this account")),
        (_, 4700 | 4711) => {
            let detail = "the app may not read users: it lacks the scope user:read:user:admin, or all of its scopes";
            report.fail(CheckName::User, detail);
        }
        (status, code) => {
            report.set(CheckName::User, None, format!("Zoom does not tell (status {status}, code {code})"));
        }
    }
    false
}
