use chrono::TimeDelta;
use sandbox::smtp::{Fault, Stage};
use shared::{
    db::reminders,
    domain::ids::{ReminderId, SessionId},
    jobs::{SendCancellation, SendInvitation, SendReminder, SendUpdate},
    queue::ledger,
};

use crate::support::TestWorker;

async fn planned(worker: &TestWorker, mail: &str, columns: &[(&str, &str)]) -> (SessionId, ReminderId, String) {
    let session = worker.session(TimeDelta::minutes(15)).await;
    let address = worker.address("ali");
    worker.invite(session, "ali", &[("email", &address)]).await;
    worker.invite_more(session, columns).await;
    let id = worker.mail(session, "ali", mail, if mail == "reminder" { 15 } else { 0 }).await;
    (session, id, address)
}

impl TestWorker {
    async fn invite_more(&self, session: SessionId, columns: &[(&str, &str)]) {
        for (column, value) in columns {
            let statement = format!("update invitees set {column} = '{value}' where session_id = $1");
            sqlx::query(sqlx::AssertSqlSafe(statement)).bind(session).execute(self.db()).await.unwrap();
        }
    }

    async fn mail_state(&self, id: ReminderId) -> (String, Option<String>) {
        sqlx::query_as("select state, note from reminders where id = $1").bind(id).fetch_one(self.db()).await.unwrap()
    }

    fn mails(&self, address: &str) -> Vec<std::sync::Arc<sandbox::mail::Mail>> {
        self.servers.smtp.messages_to(address)
    }
}

fn refusal(stage: Stage, code: u16) -> Fault {
    Fault::Reply { stage, code, text: "scripted".into() }
}

#[tokio::test]
async fn an_invitation_comes_once_in_the_person_s_language_with_a_calendar_entry() {
    let worker = TestWorker::new().await;
    let (session, id, address) =
        planned(&worker, "invitation", &[("locale", "en-GB"), ("timezone", "America/New_York")]).await;
    let job = worker.run(&SendInvitation { reminder_id: id }).await;
    assert_eq!(job.state, "done", "{}", job.error());
    assert_eq!(worker.mail_state(id).await.0, "sent");
    assert_eq!(worker.run(&SendInvitation { reminder_id: id }).await.state, "done");

    let mails = worker.mails(&address);
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(mail.from(), "live@school.test");
    assert!(mail.subject().starts_with("Invitation: Lineer Cebir, "), "{}", mail.subject());
    assert_eq!(mail.message_id(), Some(format!("{id}@school.test").as_str()));
    let text = mail.text().unwrap();
    assert!(
        text.contains("(America/New_York)") && text.contains(&format!("https://lms.test/live/{session}")),
        "{text}"
    );
    assert!(mail.html().unwrap().contains("Lineer Cebir"));
    let file = mail.attachments().iter().find(|file| file.name == "invite.ics").expect("a file");
    let ics = String::from_utf8(file.content.to_vec()).unwrap();
    for line in [
        "METHOD:REQUEST\r\n",
        &format!("UID:{session}@live-sessions\r\n"),
        "SEQUENCE:0\r\n",
        "SUMMARY:Lineer Cebir\r\n",
        "DTSTART;TZID=Europe/Istanbul:",
        "TRIGGER:-PT15M\r\n",
        // As in the calendar file that the API gives out.
        "ORGANIZER;CN=Ayşe Öğretmen:mailto:live@school.test\r\n",
    ] {
        assert!(ics.contains(line), "{line:?} is missing in {ics}");
    }
    assert!(String::from_utf8_lossy(mail.raw()).contains("text/calendar; charset=utf-8; method=REQUEST"));
}

#[tokio::test]
async fn the_tenant_s_language_serves_people_who_have_set_none() {
    let worker = TestWorker::new().await;
    let (_, id, address) = planned(&worker, "reminder", &[]).await;
    assert_eq!(worker.run(&SendReminder { reminder_id: id }).await.state, "done");
    let mails = worker.mails(&address);
    assert_eq!(mails[0].subject(), "Hatırlatma: Lineer Cebir 15 dakika sonra başlıyor");
    assert!(mails[0].text().unwrap().contains("(Europe/Istanbul)"));
}

#[tokio::test]
async fn a_cancelled_session_is_taken_out_of_the_calendar_and_nothing_else_is_sent() {
    let worker = TestWorker::new().await;
    let (session, cancellation, address) = planned(&worker, "cancellation", &[]).await;
    let reminder = worker.mail(session, "ali", "reminder", 15).await;
    let update = worker.mail(session, "ali", "update", 0).await;
    worker.set("sessions", session.0, "status = 'cancelled', sequence = 1, cancel_reason = 'Kar tatili'").await;
    worker.run(&SendReminder { reminder_id: reminder }).await;
    worker.run(&SendUpdate { reminder_id: update }).await;
    worker.run(&SendCancellation { reminder_id: cancellation }).await;
    for id in [reminder, update] {
        assert_eq!(worker.mail_state(id).await, ("dropped".into(), Some("the session was cancelled".into())));
    }
    let mails = worker.mails(&address);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].text().unwrap().contains("Neden: Kar tatili") && mails[0].html().unwrap().contains("Kar tatili"));
    let file = mails[0].attachments().iter().find(|file| file.name == "invite.ics").expect("a file");
    let ics = String::from_utf8_lossy(&file.content);
    assert!(
        ics.contains("METHOD:CANCEL\r\n") && ics.contains("SEQUENCE:1\r\n") && ics.contains("STATUS:CANCELLED"),
        "{ics}"
    );
}

#[tokio::test]
async fn who_is_taken_off_the_list_is_told_though_the_session_goes_on() {
    let worker = TestWorker::new().await;
    let (session, id, _) = planned(&worker, "cancellation", &[]).await;
    // Without an address of its own the row is about the session, which was not cancelled.
    worker.run(&SendCancellation { reminder_id: id }).await;
    assert_eq!(worker.mail_state(id).await, ("dropped".into(), Some("the session was not cancelled".into())));

    let veli = worker.address("veli");
    let id = worker.mail(session, "veli", "cancellation", 0).await;
    let whom = format!("name = 'Veli', email = '{veli}', locale = 'en', timezone = 'America/New_York'");
    worker.set("reminders", id.0, &whom).await;
    let job = worker.run(&SendCancellation { reminder_id: id }).await;
    assert_eq!((job.state.as_str(), worker.mail_state(id).await.0.as_str()), ("done", "sent"), "{}", job.error());
    let mails = worker.mails(&veli);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject().starts_with("No longer invited: Lineer Cebir, "), "{}", mails[0].subject());
    let text = mails[0].text().unwrap();
    assert!(text.contains("Hello Veli,") && text.contains("(America/New_York)"), "{text}");
    let file = mails[0].attachments().iter().find(|file| file.name == "invite.ics").expect("a file");
    let ics = String::from_utf8_lossy(&file.content);
    assert!(ics.contains("METHOD:CANCEL\r\n") && ics.contains(&format!("mailto:{veli}")), "{ics}");
}

#[tokio::test]
async fn a_session_that_was_started_before_its_time_is_reminded_of_all_the_same() {
    let worker = TestWorker::new().await;
    let (session, id, address) = planned(&worker, "reminder", &[]).await;
    worker.set("sessions", session.0, "status = 'live', started_at = now()").await;
    assert_eq!(worker.run(&SendReminder { reminder_id: id }).await.state, "done");
    assert_eq!((worker.mail_state(id).await.0.as_str(), worker.mails(&address).len()), ("sent", 1));
}

#[tokio::test]
async fn mails_that_no_longer_make_sense_are_dropped() {
    let worker = TestWorker::new().await;
    for (change, reason) in [
        ("starts_at = now() - interval '1 minute'", "too late, or the session was moved"),
        ("status = 'ended', started_at = now(), ended_at = now()", "the session is over"),
        ("starts_at = now() - interval '2 hours', ends_at = now() - interval '1 hour'", "the session is over"),
    ] {
        let (session, id, address) = planned(&worker, "reminder", &[]).await;
        worker.set("sessions", session.0, change).await;
        assert_eq!(worker.run(&SendReminder { reminder_id: id }).await.state, "done");
        assert_eq!(worker.mail_state(id).await, ("dropped".into(), Some(reason.into())));
        assert!(worker.mails(&address).is_empty());
    }
    let (session, day_before, address) = planned(&worker, "reminder", &[]).await;
    worker.set("reminders", day_before.0, "step = 1440").await;
    worker.mail(session, "ali", "reminder", 15).await;
    worker.run(&SendReminder { reminder_id: day_before }).await;
    assert_eq!(worker.mail_state(day_before).await.1.as_deref(), Some("a newer mail says it"));

    let (_, uninvited, _) = planned(&worker, "invitation", &[]).await;
    sqlx::query("delete from invitees").execute(worker.db()).await.unwrap();
    worker.run(&SendInvitation { reminder_id: uninvited }).await;
    assert_eq!(worker.mail_state(uninvited).await.0, "dropped");
    assert_eq!(worker.run(&SendInvitation { reminder_id: ReminderId::new() }).await.state, "done");
    assert!(worker.mails(&address).is_empty());
}

#[tokio::test]
async fn a_refused_address_is_a_dead_letter_at_once() {
    let worker = TestWorker::new().await;
    let (_, id, address) = planned(&worker, "invitation", &[]).await;
    worker.servers.smtp.fail_next_for(&address, refusal(Stage::Rcpt, 550), 1);
    let job = worker.run(&SendInvitation { reminder_id: id }).await;
    assert_eq!(job.state, "dead");
    let (state, note) = worker.mail_state(id).await;
    assert_eq!(state, "failed");
    assert!(note.unwrap().contains("550"));
    assert_eq!(worker.run(&SendInvitation { reminder_id: id }).await.state, "done");
    assert!(worker.mails(&address).is_empty());
}

#[tokio::test]
async fn a_busy_server_gets_the_mail_later_once() {
    let worker = TestWorker::new().await;
    let (_, id, address) = planned(&worker, "invitation", &[]).await;
    for stage in [Stage::Rcpt, Stage::Data] {
        worker.servers.smtp.fail_next_for(&address, refusal(stage, 450), 1);
    }
    let job = worker.run(&SendInvitation { reminder_id: id }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    assert!(job.error().contains("450"), "{}", job.error());
    assert_eq!(job.error().matches("scripted").count(), 1, "{}", job.error());
    assert_eq!(worker.run_id(job.id).await.state, "available");
    assert_eq!(worker.run_id(job.id).await.state, "done");
    assert_eq!(worker.mails(&address).len(), 1);
    assert_eq!(worker.mail_state(id).await.0, "sent");
}

#[tokio::test]
async fn an_answer_that_is_lost_can_double_a_mail_but_not_its_id() {
    let worker = TestWorker::new().await;
    let (_, id, address) = planned(&worker, "invitation", &[]).await;
    worker.servers.smtp.fail_next_for(&address, Fault::DropBeforeReply { keep: true }, 1);
    let job = worker.run(&SendInvitation { reminder_id: id }).await;
    assert_eq!(job.state, "available");
    assert_eq!(worker.run_id(job.id).await.state, "done");
    let mails = worker.mails(&address);
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].message_id(), mails[1].message_id());
}

#[tokio::test]
async fn without_a_mail_server_the_mail_is_tried_again_and_given_up_in_the_end() {
    let worker = TestWorker::with(|config| config.mail.smtp_url = "smtp://127.0.0.1:1".into()).await;
    let (_, id, _) = planned(&worker, "invitation", &[]).await;
    let job = worker.run(&SendInvitation { reminder_id: id }).await;
    assert_eq!((job.state.as_str(), job.attempt), ("available", 1));
    assert_eq!(worker.mail_state(id).await.0, "sending");
    worker.set("jobs", job.id.0, "attempt = max_attempts - 1").await;
    assert_eq!(worker.run_id(job.id).await.state, "dead");
    assert_eq!(worker.mail_state(id).await.0, "failed");
    assert!(worker.state().mailer.check().await.is_err());
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_sends_nothing() {
    let worker = TestWorker::new().await;
    let (_, id, address) = planned(&worker, "invitation", &[]).await;
    let job = worker.enqueue(&SendInvitation { reminder_id: id }).await;
    let stale = worker.claim(job).await;
    worker.set("jobs", job.0, "lease_until = now() - interval '1 second'").await;
    assert_eq!(ledger::rescue(worker.db()).await.unwrap().len(), 1);
    let fresh = worker.claim(job).await;
    worker.engine.run(stale).await;
    assert!(worker.mails(&address).is_empty());
    worker.engine.run(fresh).await;
    assert_eq!(worker.mails(&address).len(), 1);
}

#[tokio::test]
async fn the_host_is_reminded_at_the_session_s_address() {
    let worker = TestWorker::new().await;
    let session = worker.session(TimeDelta::minutes(15)).await;
    let address = worker.address("ayse");
    worker.set("sessions", session.0, &format!("host_email = '{address}'")).await;
    let id = worker.mail(session, "host", "reminder", 15).await;
    assert_eq!(worker.run(&SendReminder { reminder_id: id }).await.state, "done");
    assert!(worker.mails(&address)[0].text().unwrap().contains("Ayşe Öğretmen"));
}

#[tokio::test]
async fn nobody_is_reminded_before_they_are_invited() {
    let worker = TestWorker::new().await;
    let (session, invitation, address) = planned(&worker, "invitation", &[("locale", "en")]).await;
    let reminder = worker.mail(session, "ali", "reminder", 15).await;
    for id in [invitation, reminder] {
        worker.set("reminders", id.0, "state = 'pending'").await;
    }
    let enqueue_due = async || {
        let mut tx = worker.begin().await;
        let due = reminders::enqueue_due(&mut tx, 10).await.unwrap();
        tx.commit().await.unwrap();
        due
    };
    assert_eq!((enqueue_due().await, enqueue_due().await), (1, 0));
    let job = worker.waiting::<SendInvitation>().await[0];
    assert_eq!(worker.run_id(job).await.state, "done");
    assert_eq!(enqueue_due().await, 1);
    let job = worker.waiting::<SendReminder>().await[0];
    assert_eq!(worker.run_id(job).await.state, "done");
    let subjects: Vec<_> = worker.mails(&address).iter().map(|mail| mail.subject().to_owned()).collect();
    assert!(subjects[0].starts_with("Invitation: ") && subjects[1].starts_with("Reminder: "), "{subjects:?}");

    // An invitation that does not get through holds it up for some minutes only.
    for (due, enqueued) in [("4", 0), ("6", 1)] {
        worker
            .set("reminders", invitation.0, &format!("state = 'sending', due_at = now() - interval '{due} minutes'"))
            .await;
        worker.set("reminders", reminder.0, "state = 'pending'").await;
        assert_eq!(enqueue_due().await, enqueued, "after {due} minutes");
    }
}
