//! The mail sink, with the mailer that the worker uses and over bare sockets.

use std::time::Duration;

use lettre::message::{Attachment, MultiPart, SinglePart, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sandbox::smtp::{Fault, SmtpSettings, SmtpSink, Stage};
use sandbox::testing::{servers, unique_prefix};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

fn mailer(sink: &SmtpSink) -> AsyncSmtpTransport<Tokio1Executor> {
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(sink.port())
        .timeout(Some(Duration::from_secs(2)))
        .build()
}

fn plain(to: &str, subject: &str) -> Message {
    Message::builder()
        .from("School <school@example.org>".parse().unwrap())
        .to(to.parse().unwrap())
        .subject(subject)
        .body("first\n.\n..dots\n.end\n".to_owned())
        .unwrap()
}

fn address() -> String {
    format!("{}@example.org", unique_prefix())
}

fn reply(stage: Stage, code: u16) -> Fault {
    Fault::Reply { stage, code, text: "4.0.0 scripted".to_owned() }
}

#[tokio::test]
async fn a_mail_with_all_its_parts_arrives() {
    let sink = &servers().await.smtp;
    let to = address();
    let invitation = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n";
    let mail = Message::builder()
        .from("Okul <okul@example.org>".parse().unwrap())
        .to(to.parse().unwrap())
        .subject("Ders başlıyor: Çarşamba")
        .message_id(Some("<lesson-1@example.org>".to_owned()))
        .multipart(
            MultiPart::mixed()
                .multipart(
                    MultiPart::alternative()
                        .singlepart(SinglePart::plain("Günaydın".to_owned()))
                        .singlepart(SinglePart::html("<p>Günaydın</p>".to_owned())),
                )
                .singlepart(
                    Attachment::new("lesson.ics".to_owned())
                        .body(invitation.to_owned(), "text/calendar; method=REQUEST".parse::<ContentType>().unwrap()),
                ),
        )
        .unwrap();
    mailer(sink).send(mail).await.unwrap();
    let mails = sink.wait_for(&to, 1, LIMIT).await.unwrap();
    let mail = &mails[0];
    assert_eq!(mail.subject(), "Ders başlıyor: Çarşamba");
    assert_eq!(mail.message_id(), Some("lesson-1@example.org"));
    assert_eq!(mail.from(), "okul@example.org");
    assert_eq!(mail.text().map(str::trim_end), Some("Günaydın"));
    assert_eq!(mail.html().map(str::trim_end), Some("<p>Günaydın</p>"));
    let attachments = mail.attachments();
    assert_eq!(attachments.len(), 1);
    assert_eq!(attachments[0].name, "lesson.ics");
    assert_eq!(attachments[0].content_type, "text/calendar; method=REQUEST");
    assert_eq!(attachments[0].content, invitation);
}

#[tokio::test]
async fn the_mailbox_shows_over_http_what_came() {
    let sink = &servers().await.smtp;
    let to = address();
    mailer(sink).send(plain(&to, "Hello <script>")).await.unwrap();
    sink.wait_for(&to, 1, LIMIT).await.unwrap();
    let base = sink.http_url();
    let list: serde_json::Value = json(&format!("{base}/api/messages?to={to}")).await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["subject"], "Hello <script>");
    assert_eq!(list[0]["to"], serde_json::json!([to]));
    let id = list[0]["id"].as_str().unwrap();
    let detail = json(&format!("{base}/api/messages/{id}")).await;
    let body = detail["text"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(body.trim_end(), "first\n.\n..dots\n.end");
    assert_eq!(detail["html"], serde_json::Value::Null);
    let raw = text(&format!("{base}/api/messages/{id}/raw")).await;
    assert!(raw.contains("Subject: Hello <script>"), "{raw}");
    assert_eq!(raw.len(), usize::try_from(list[0]["size"].as_u64().unwrap()).unwrap());
    for page in [text(&base).await, text(&format!("{base}/messages/{id}")).await] {
        assert!(page.contains("Hello &lt;script&gt;"), "{page}");
    }
    let unknown = reqwest::get(format!("{base}/api/messages/{}", uuid::Uuid::now_v7())).await.unwrap();
    assert_eq!(unknown.status(), reqwest::StatusCode::NOT_FOUND);
}

async fn json(url: &str) -> serde_json::Value {
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

async fn text(url: &str) -> String {
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn refusals_come_where_they_were_scripted() {
    let sink = SmtpSink::start(SmtpSettings::default()).await.unwrap();
    let to = address();
    for (stage, code, passing) in
        [(Stage::Connect, 421, true), (Stage::Mail, 450, true), (Stage::Rcpt, 550, false), (Stage::Data, 452, true)]
    {
        sink.fail_next(reply(stage, code), 1);
        let error = mailer(&sink).send(plain(&to, "refused")).await.unwrap_err();
        assert_eq!(error.is_transient(), passing, "{stage:?}: {error:?}");
        assert_eq!(error.is_permanent(), !passing, "{stage:?}: {error:?}");
        assert_eq!(sink.messages().len(), 0);
    }
    mailer(&sink).send(plain(&to, "taken")).await.unwrap();
    assert_eq!(sink.messages_to(&to).len(), 1);
}

#[tokio::test]
async fn a_refusal_for_one_address_leaves_the_others_alone() {
    let sink = &servers().await.smtp;
    let (refused, other) = (address(), address());
    sink.fail_next_for(&refused, reply(Stage::Rcpt, 550), 2);
    mailer(sink).send(plain(&other, "other")).await.unwrap();
    for _ in 0..2 {
        assert!(mailer(sink).send(plain(&refused, "no")).await.unwrap_err().is_permanent());
    }
    mailer(sink).send(plain(&refused, "yes")).await.unwrap();
    assert_eq!(sink.messages_to(&refused).len(), 1);
    assert_eq!(sink.messages_to(&other).len(), 1);
}

#[tokio::test]
async fn the_answer_to_a_mail_can_get_lost() {
    let sink = &servers().await.smtp;
    for (fault, kept) in [
        (Fault::DropBeforeReply { keep: false }, 0),
        (Fault::DropBeforeReply { keep: true }, 1),
        (Fault::HangAfterData { keep: false }, 0),
        (Fault::HangAfterData { keep: true }, 1),
    ] {
        let to = address();
        sink.fail_next_for(&to, fault.clone(), 1);
        // The mailer's own time-out ends with the connecting.
        let sent = tokio::time::timeout(Duration::from_secs(1), mailer(sink).send(plain(&to, "lost"))).await;
        assert!(!matches!(sent, Ok(Ok(_))), "{fault:?}");
        assert_eq!(sink.messages_to(&to).len(), kept, "{fault:?}");
    }
    let to = address();
    sink.fail_next_for(&to, Fault::DropAfterReply, 1);
    let pooled = mailer(sink);
    pooled.send(plain(&to, "one")).await.unwrap();
    pooled.send(plain(&to, "two")).await.unwrap();
    assert_eq!(sink.messages_to(&to).len(), 2);
}

#[tokio::test]
async fn faults_can_be_scripted_over_http() {
    let sink = SmtpSink::start(SmtpSettings::default()).await.unwrap();
    let to = address();
    let url = format!("{}/api/faults", sink.http_url());
    let faults = serde_json::json!([
        { "fault": { "kind": "reply", "stage": "data", "code": 450, "text": "4.2.0 later" }, "times": 1 },
        { "fault": { "kind": "drop-before-reply" }, "only_for": "nobody@example.org" },
    ]);
    let put = reqwest::Client::new().put(&url).json(&faults).send().await.unwrap();
    assert_eq!(put.status(), reqwest::StatusCode::NO_CONTENT);
    assert!(mailer(&sink).send(plain(&to, "no")).await.unwrap_err().is_transient());
    mailer(&sink).send(plain(&to, "yes")).await.unwrap();
    assert_eq!(json(&url).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn mails_are_written_as_files_and_the_oldest_leave_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SmtpSettings { dir: Some(dir.path().join("mails")), max_mails: 2, ..SmtpSettings::default() };
    let sink = SmtpSink::start(settings).await.unwrap();
    let pooled = mailer(&sink);
    for subject in ["one", "two", "three"] {
        pooled.send(plain("a@example.org", subject)).await.unwrap();
    }
    let subjects: Vec<String> = sink.messages().iter().map(|mail| mail.subject().to_owned()).collect();
    assert_eq!(subjects, ["two", "three"]);
    assert_eq!(sink.accepted(), 3);
    assert_eq!(std::fs::read_dir(dir.path().join("mails")).unwrap().count(), 3);
}

#[tokio::test]
async fn commands_may_come_all_at_once_or_byte_by_byte() {
    let sink = &servers().await.smtp;
    let to = address();
    let dialogue = format!(
        "EHLO client\r\nMAIL FROM:<a@example.org> BODY=8BITMIME SMTPUTF8 SIZE=100\r\nRCPT TO:<{to}>\r\nDATA\r\n\
         Subject: one\r\n\r\n..dot\r\n.\r\nRSET\r\nNOOP\r\nMAIL FROM:<>\r\nRCPT TO:<{to}>\r\nDATA\r\n.\r\n\
         DATA\r\nNONSENSE\r\nMAIL FROM:no address\r\nQUIT\r\n"
    );
    let expected = [220, 250, 250, 250, 354, 250, 250, 250, 250, 250, 354, 250, 503, 500, 501, 221];
    for piece in [dialogue.len(), 1, 7] {
        let mut stream = TcpStream::connect(("127.0.0.1", sink.port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reading, mut writing) = stream.split();
        let send = async {
            for chunk in dialogue.as_bytes().chunks(piece) {
                writing.write_all(chunk).await.unwrap();
            }
        };
        let receive = async {
            let mut codes = Vec::new();
            let mut lines = BufReader::new(reading).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.as_bytes()[3] == b' ' {
                    codes.push(line[..3].parse::<u16>().unwrap());
                }
            }
            codes
        };
        let ((), codes) = tokio::join!(send, receive);
        assert_eq!(codes, expected, "in pieces of {piece}");
    }
    let mails = sink.messages_to(&to);
    assert_eq!(mails.len(), 6);
    assert_eq!(mails[0].raw().as_ref(), b"Subject: one\r\n\r\n.dot\r\n");
    assert_eq!(mails[1].raw().as_ref(), b"");
    assert_eq!(mails[1].from(), "");
}
