//! The stand-in for Zoom.

use super::*;
use sandbox::zoom::{Act, Faults, NewFile, Visitor, WebhookFaults, Zoom as Server};

pub struct Zoom {
    server: Server,
    config: Value,
    /// By the person's id.
    inside: std::collections::HashMap<&'static str, String>,
}

impl Zoom {
    fn meeting(&self, class: &Class) -> Option<sandbox::zoom::Meeting> {
        self.server.meetings().into_iter().find(|meeting| meeting.agenda.contains(&class.room))
    }

    async fn act(&self, act: Act) -> Value {
        self.server.act(act).await.unwrap()
    }
}

impl Counterpart for Zoom {
    const KIND: &'static str = "zoom";

    /// All accounts are at the same address, so this is the one that the system has.
    async fn set_up(system: &System) -> Self {
        let configs = call(system, &ADMIN, Method::GET, "provider-configs/", None).await;
        let config =
            configs["results"].as_array().unwrap().iter().find(|one| one["provider"] == "zoom").unwrap().clone();
        let mut there = Self { server: system.zoom.clone(), config, inside: std::collections::HashMap::new() };
        there.speak().await;
        there
    }

    fn config(&self) -> &Value {
        &self.config
    }

    async fn enter(&mut self, class: &Class, person: &Person, joined: &Value) {
        let meeting = self.meeting(class).expect("the join has made it");
        let url = joined["join_url"].as_str().unwrap();
        assert!(reqwest::get(url).await.unwrap().status().is_success(), "{url}");
        let visitor = if joined["role"] == "host" {
            self.act(Act::Start { meeting: meeting.id }).await;
            Visitor { user_name: person.name.into(), host: true, ..Visitor::default() }
        } else {
            let known = meeting.registrants.iter().find(|known| known.join_url == url).expect("a link of their own");
            let registrant_id = known.registrant_id.clone();
            Visitor { user_name: person.name.into(), registrant_id, ..Visitor::default() }
        };
        let came = self.act(Act::Join { meeting: meeting.id, visitor, through_waiting_room: false }).await;
        self.inside.insert(person.id, came["user_id"].as_str().unwrap().to_owned());
    }

    async fn leave(&mut self, class: &Class, person: &Person) {
        let meeting = self.meeting(class).unwrap().id;
        self.act(Act::Leave { meeting, user_id: self.inside[person.id].clone() }).await;
    }

    async fn fall_silent(&mut self) {
        let webhooks = WebhookFaults { lose: true, ..WebhookFaults::default() };
        self.server.set_faults(Faults { webhooks, ..Faults::default() });
    }

    async fn speak(&mut self) {
        let webhooks = WebhookFaults { copies: 2, ..WebhookFaults::default() };
        self.server.set_faults(Faults { webhooks, ..Faults::default() });
    }

    async fn goes_on(&mut self, class: &Class) -> bool {
        self.meeting(class).is_some_and(|meeting| meeting.status == "started")
    }

    async fn end(&mut self, class: &Class) {
        let meeting = self.meeting(class).unwrap().id;
        self.act(Act::End { meeting }).await;
    }

    async fn record(&mut self, _: &System, class: &Class) {
        let meeting = self.meeting(class).unwrap().id;
        let files = vec![NewFile::new("MP4", "shared_screen_with_speaker_view", 1_000)];
        self.act(Act::Record { meeting, files }).await;
    }

    fn forged(&self, _: &Class) -> reqwest::RequestBuilder {
        let now = Clock::System.now().timestamp();
        reqwest::Client::new()
            .post(self.config["webhook_url"].as_str().unwrap())
            .header("x-zm-request-timestamp", now)
            .header("x-zm-signature", format!("v0={}", "0".repeat(64)))
            .json(&json!({"event": "meeting.started", "event_ts": now * 1000, "payload": {"object": {"id": "forged"}}}))
    }

    fn die(&mut self) {
        self.server.set_faults(Faults { delay_ms: 60_000, ..Faults::default() });
    }
}
