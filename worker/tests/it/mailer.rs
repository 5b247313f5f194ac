//! Mails that are given up half-way: a worker that loses its lease drops what it is doing at any `.await`.

use std::{future::Future, time::Duration};

use chrono::DateTime;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, transport::smtp::PoolConfig};
use sandbox::smtp::SmtpSink;
use worker::mail::{Lang, Mail, Mailer, Rendered};

use crate::support::{TestWorker, eventually};

const ROUNDS: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(20);

fn mailer(worker: &TestWorker) -> Mailer {
    Mailer::new(&worker.state().config.mail).unwrap()
}

fn mail(address: &str) -> Mail {
    // Long enough not to fit into one segment.
    let text = format!("For {address}\n").repeat(2_000);
    Mail {
        to_name: String::new(),
        to_address: address.to_owned(),
        id: address.replace('@', "."),
        date: DateTime::UNIX_EPOCH,
        lang: Lang::En,
        words: Rendered { subject: format!("For {address}"), html: text.clone(), text },
        calendar: None,
    }
}

/// Gives a mail up, a little later in each round, and sends another one after it, until one of those is refused, or
/// counts as sent without having come to its reader, whole and alone. Returns its address.
async fn first_disturbed<F>(sink: &SmtpSink, unique: &str, send: impl Fn(String) -> F) -> Option<String>
where
    F: Future<Output = bool> + Send + 'static,
{
    for round in 0..ROUNDS {
        let given_up = tokio::spawn(send(format!("a{round}-{unique}@students.test")));
        tokio::time::sleep(Duration::from_micros(round * 20)).await;
        given_up.abort();
        let _ = given_up.await;
        let address = format!("b{round}-{unique}@students.test");
        let sent = tokio::time::timeout(PATIENCE, send(address.clone())).await.unwrap_or(false);
        let came = sink.messages_to(&address);
        let subject = format!("For {address}");
        if !sent || came.len() != 1 || came[0].subject() != subject || came[0].to().len() != 1 {
            return Some(address);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_given_up_disturbs_no_other() {
    let worker = TestWorker::new().await;
    let mailer = mailer(&worker);
    let disturbed = first_disturbed(&worker.servers.smtp, &worker.unique, |address| {
        let mailer = mailer.clone();
        async move { mailer.send(&mail(&address), async {}).await.is_ok() }
    });
    assert_eq!(disturbed.await, None);
}

#[tokio::test]
async fn a_mail_is_marked_although_its_sender_was_given_up() {
    let worker = TestWorker::new().await;
    let address = worker.address("ali");
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    let (marked, is_marked) = tokio::sync::oneshot::channel();
    let mark = async move {
        let _ = may_go_on.await;
        marked.send(()).unwrap();
    };
    let (mailer, mail) = (mailer(&worker), mail(&address));
    let sending = tokio::spawn(async move { mailer.send(&mail, mark).await });
    eventually("the mail to come", async || worker.servers.smtp.messages_to(&address).len() == 1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    is_marked.await.unwrap();
}

/// When this fails, lettre has learnt to drop such connections, and `Mailer::send` needs no task of its own for it.
#[tokio::test(flavor = "multi_thread")]
async fn lettre_reuses_connections_of_mails_that_were_given_up() {
    let worker = TestWorker::new().await;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&worker.servers.smtp.url())
        .unwrap()
        .timeout(Some(Duration::from_secs(1)))
        .pool_config(PoolConfig::new().max_size(1))
        .build();
    let disturbed = first_disturbed(&worker.servers.smtp, &worker.unique, |address| {
        let transport = transport.clone();
        async move {
            let message = Message::builder()
                .from("live@school.test".parse().unwrap())
                .to(address.parse().unwrap())
                .subject(format!("For {address}"))
                .body(format!("For {address}\n").repeat(4_000))
                .unwrap();
            transport.send(message).await.is_ok()
        }
    });
    assert!(disturbed.await.is_some());
}
