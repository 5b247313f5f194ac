//! The stand-in for BigBlueButton.

use super::*;
use sandbox::bigbluebutton::{BigBlueButton, Faults, Format, NewRecording, WebhookFaults};

pub struct Bbb {
    server: BigBlueButton,
    config: Value,
}

impl Bbb {
    fn faults(&self, webhooks: WebhookFaults) {
        self.server.set_faults(Faults { end_ms: Some(0), webhooks, ..Faults::default() });
    }
}

impl Counterpart for Bbb {
    const KIND: &'static str = "bbb";

    async fn set_up(system: &System) -> Self {
        let server = BigBlueButton::start(None, "the-secret-of-this-server").await.unwrap();
        let body = json!({
            "name": "BigBlueButton", "provider": "bbb", "settings": {"server_url": server.url()},
            "secrets": {"shared_secret": server.secret()},
        });
        let config = post(system, &ADMIN, "provider-configs/", &body).await;
        let mut there = Self { server, config };
        there.speak().await;
        eventually("the server to be told where webhooks go", async || {
            call(system, &OPERATOR, Method::POST, "schedules/register-webhooks/run/", None).await;
            !there.server.hooks().is_empty()
        })
        .await;
        there
    }

    fn config(&self) -> &Value {
        &self.config
    }

    async fn enter(&mut self, _: &Class, _: &Person, joined: &Value) {
        let page = reqwest::get(joined["join_url"].as_str().unwrap()).await.unwrap();
        assert_eq!((page.status().as_u16(), page.url().path()), (200, "/html5client/join"));
    }

    async fn leave(&mut self, class: &Class, person: &Person) {
        self.server.leave(&class.room, person.id);
    }

    async fn fall_silent(&mut self) {
        self.faults(WebhookFaults { lost: vec!["*".into()], ..WebhookFaults::default() });
    }

    async fn speak(&mut self) {
        self.faults(WebhookFaults { double: true, late_ms: 50, ..WebhookFaults::default() });
    }

    async fn goes_on(&mut self, class: &Class) -> bool {
        self.server.meetings().iter().any(|meeting| meeting.meeting_id == class.room)
    }

    async fn end(&mut self, class: &Class) {
        self.server.end(&class.room);
    }

    async fn record(&mut self, _: &System, class: &Class) {
        let url = format!("{}playback/presentation/2.3/x", self.server.url());
        let formats = vec![Format { kind: "presentation".into(), url, length: 1 }];
        let new = NewRecording { meeting_id: class.room.clone(), record_id: None, formats, ready_url: None };
        self.server.record(new).await;
    }

    fn forged(&self, _: &Class) -> reqwest::RequestBuilder {
        let url = format!("{}?checksum={}", self.config["webhook_url"].as_str().unwrap(), "0".repeat(64));
        let body = "event=%5B%7B%22data%22%3A%7B%22id%22%3A%22forged%22%7D%7D%5D&timestamp=1&domain=x";
        reqwest::Client::new().post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    fn die(&mut self) {
        self.server.set_faults(Faults { dead: true, ..Faults::default() });
    }
}
