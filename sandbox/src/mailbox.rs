//! The mail sink's mailbox over HTTP: a page for people, JSON for tests, and the faults.
//!
//! `GET /` · `GET /api/messages?to=` · `GET /api/messages/{id}` · `GET /api/messages/{id}/raw` ·
//! `DELETE /api/messages` · `GET|PUT|DELETE /api/faults` (a list of [`Scripted`]).

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::mail::{Attachment, Mail};
use crate::smtp::{Inbox, Scripted};

#[derive(Debug, Default, Deserialize)]
struct Filter {
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    id: Uuid,
    from: String,
    to: Vec<String>,
    subject: String,
    message_id: Option<String>,
    received_at: chrono::DateTime<chrono::Utc>,
    /// In bytes.
    size: usize,
}

#[derive(Debug, Serialize)]
struct Detail {
    #[serde(flatten)]
    summary: Summary,
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<AttachmentDetail>,
}

#[derive(Debug, Serialize)]
struct AttachmentDetail {
    name: String,
    content_type: String,
    /// As it is for text in UTF-8, else in Base64.
    content: String,
    /// `text` or `base64`.
    encoding: &'static str,
}

/// Serves the mailbox until `stop`.
pub(crate) async fn serve(listener: std::net::TcpListener, inbox: Arc<Inbox>, stop: CancellationToken) {
    let router = Router::new()
        .route("/", get(page))
        .route("/messages/{id}", get(message_page))
        .route("/api/messages", get(list).delete(clear))
        .route("/api/messages/{id}", get(show))
        .route("/api/messages/{id}/raw", get(raw))
        .route("/api/faults", get(list_faults).put(put_faults).delete(delete_faults))
        .with_state(inbox);
    let served = async {
        let listener = TcpListener::from_std(listener)?;
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    };
    if let Err(error) = served.await {
        tracing::error!(%error, "the mailbox has ended");
    }
}

fn summary(mail: &Mail) -> Summary {
    Summary {
        id: mail.id(),
        from: mail.from().to_owned(),
        to: mail.to().to_vec(),
        subject: mail.subject().to_owned(),
        message_id: mail.message_id().map(str::to_owned),
        received_at: mail.received_at(),
        size: mail.raw().len(),
    }
}

fn attachment_detail(attachment: &Attachment) -> AttachmentDetail {
    let is_text = attachment.content_type.starts_with("text/");
    let (content, encoding) = match std::str::from_utf8(&attachment.content) {
        Ok(text) if is_text => (text.to_owned(), "text"),
        _ => (STANDARD.encode(&attachment.content), "base64"),
    };
    AttachmentDetail { name: attachment.name.clone(), content_type: attachment.content_type.clone(), content, encoding }
}

async fn list(State(inbox): State<Arc<Inbox>>, Query(filter): Query<Filter>) -> Json<Vec<Summary>> {
    let mails = inbox.mails(filter.to.as_deref());
    Json(mails.iter().map(|mail| summary(mail)).collect())
}

async fn clear(State(inbox): State<Arc<Inbox>>) -> StatusCode {
    inbox.clear();
    StatusCode::NO_CONTENT
}

async fn show(State(inbox): State<Arc<Inbox>>, Path(id): Path<Uuid>) -> Response {
    let Some(mail) = inbox.find(id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    Json(Detail {
        summary: summary(&mail),
        text: mail.text().map(str::to_owned),
        html: mail.html().map(str::to_owned),
        attachments: mail.attachments().iter().map(attachment_detail).collect(),
    })
    .into_response()
}

async fn raw(State(inbox): State<Arc<Inbox>>, Path(id): Path<Uuid>) -> Response {
    match inbox.find(id) {
        Some(mail) => ([(header::CONTENT_TYPE, "message/rfc822")], mail.raw().clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn list_faults(State(inbox): State<Arc<Inbox>>) -> Json<Vec<Scripted>> {
    Json(inbox.faults())
}

async fn put_faults(State(inbox): State<Arc<Inbox>>, Json(faults): Json<Vec<Scripted>>) -> StatusCode {
    inbox.replace_faults(faults);
    StatusCode::NO_CONTENT
}

async fn delete_faults(State(inbox): State<Arc<Inbox>>) -> StatusCode {
    inbox.replace_faults(Vec::new());
    StatusCode::NO_CONTENT
}

/// How many mails the page lists.
const LISTED: usize = 500;

const STYLE: &str = "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ddd}\
pre{white-space:pre-wrap;background:#f6f6f6;padding:1rem}iframe{width:100%;height:32rem;border:1px solid #ddd}</style>";

async fn page(State(inbox): State<Arc<Inbox>>, Query(filter): Query<Filter>) -> Html<String> {
    let mails = inbox.mails(filter.to.as_deref());
    let rows: String = mails
        .iter()
        .rev()
        .take(LISTED)
        .map(|mail| {
            format!(
                "<tr><td>{}</td><td>{}</td><td><a href=\"/messages/{}\">{}</a></td></tr>",
                mail.received_at().format("%F %T UTC"),
                escape(&mail.to().join(", ")),
                mail.id(),
                escape(if mail.subject().is_empty() { "(no subject)" } else { mail.subject() }),
            )
        })
        .collect();
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Mailbox</title>{STYLE}<h1>Mailbox</h1>\
         <p>{} mails, newest first. <a href=\"/\">Reload</a></p>\
         <table><tr><th>Received</th><th>To</th><th>Subject</th></tr>{rows}</table></html>",
        mails.len()
    ))
}

async fn message_page(State(inbox): State<Arc<Inbox>>, Path(id): Path<Uuid>) -> Response {
    let Some(mail) = inbox.find(id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = mail.text().map(|text| format!("<h2>Text</h2><pre>{}</pre>", escape(text)));
    // Without any permission: no script runs, no form is sent.
    let html = mail.html().map(|html| format!("<h2>HTML</h2><iframe sandbox srcdoc=\"{}\"></iframe>", escape(html)));
    let attachments: String = mail.attachments().iter().map(attachment_html).collect();
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{subject}</title>{STYLE}<p><a href=\"/\">Mailbox</a></p>\
         <h1>{subject}</h1><p>From {from} to {to}, {at}. <a href=\"/api/messages/{id}/raw\">Raw</a></p>{}{}{attachments}</html>",
        text.unwrap_or_default(),
        html.unwrap_or_default(),
        subject = escape(mail.subject()),
        from = escape(mail.from()),
        to = escape(&mail.to().join(", ")),
        at = mail.received_at().format("%F %T UTC"),
    ))
    .into_response()
}

fn attachment_html(attachment: &Attachment) -> String {
    let shown = match std::str::from_utf8(&attachment.content) {
        Ok(text) if attachment.content_type.starts_with("text/") => format!("<pre>{}</pre>", escape(text)),
        _ => format!("<p>{} bytes</p>", attachment.content.len()),
    };
    format!("<h2>Attachment {}</h2><p>{}</p>{shown}", escape(&attachment.name), escape(&attachment.content_type))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
