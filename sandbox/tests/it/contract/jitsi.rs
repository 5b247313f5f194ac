//! A real Prosody with our modules.

use std::collections::HashMap;

use super::*;
use crate::{
    jibri,
    prosody::{Client, HOST, On, Server, Settings},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sandbox::{ports::free_port, proxy::Proxy};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
const WEBHOOK_SECRET: &str = "the-webhook-secret-of-this-prosody";
const CONTROL_SECRET: &str = "the-control-secret-of-this-prosody";

pub struct Jitsi {
    prosody: Server,
    /// Between Prosody and the API.
    line: Proxy,
    config: Value,
    inside: HashMap<&'static str, Client>,
}

fn address(class: &Class) -> String {
    format!("{}@conference.{HOST}", class.room)
}

impl Counterpart for Jitsi {
    const KIND: &'static str = "jitsi";

    async fn set_up(system: &System) -> Self {
        let port = free_port().unwrap();
        let body = json!({
            "name": "Jitsi", "provider": "jitsi",
            "settings": {
                "domain": HOST, "app_id": "lms", "lobby": true, "control_url": format!("http://127.0.0.1:{port}/webhook-control"),
            },
            "secrets": {
                "jwt_secret": JWT_SECRET, "webhook_secret": WEBHOOK_SECRET, "control_secret": CONTROL_SECRET,
            },
        });
        let config = post(system, &ADMIN, "provider-configs/", &body).await;
        let mut webhook_url = url::Url::parse(config["webhook_url"].as_str().unwrap()).unwrap();
        let line = Proxy::start(webhook_url.port().unwrap()).await.unwrap();
        webhook_url.set_port(Some(line.port())).unwrap();
        let more = format!("webhook_control_secret = \"{CONTROL_SECRET}\"\nwebhook_timeout = 2");
        let url = webhook_url.as_str();
        let settings = Settings { on: On::VirtualHost, webhook_url: url, secret: WEBHOOK_SECRET, more: &more };
        let prosody = Server::start_at(port, &settings).await;
        Self { prosody, line, config, inside: HashMap::new() }
    }

    fn config(&self) -> &Value {
        &self.config
    }

    async fn enter(&mut self, class: &Class, person: &Person, joined: &Value) {
        let link = url::Url::parse(joined["join_url"].as_str().unwrap()).unwrap();
        assert_eq!((link.host_str(), link.path()), (Some(HOST), &*format!("/{}", class.room)));
        let mut wanted = Validation::new(Algorithm::HS256);
        wanted.set_audience(&["jitsi"]);
        wanted.set_issuer(&["lms"]);
        let key = DecodingKey::from_secret(JWT_SECRET.as_bytes());
        let claims = jsonwebtoken::decode::<Value>(joined["token"].as_str().unwrap(), &key, &wanted).unwrap().claims;
        assert_eq!(claims["room"], json!(class.room));
        let user = &claims["context"]["user"];
        assert_eq!(user["moderator"], json!(joined["role"] == "host"));
        assert_eq!(claims.pointer("/context/room/lobby"), Some(&self.config["capabilities"]["lobby"]));
        let user = (user["id"].as_str().unwrap(), user["name"].as_str().unwrap());
        let mut client = Client::connect(&self.prosody, Some(user)).await;
        client.join(&address(class), person.id).await;
        self.inside.insert(person.id, client);
    }

    async fn leave(&mut self, class: &Class, person: &Person) {
        self.inside.get_mut(person.id).unwrap().leave(&address(class), person.id).await;
    }

    async fn fall_silent(&mut self) {
        self.line.silence();
    }

    async fn speak(&mut self) {
        self.line.open();
    }

    async fn goes_on(&mut self, _: &Class) -> bool {
        // Who is thrown out hears of it.
        !self.inside.get_mut(INSTRUCTOR.id).unwrap().has_heard("<destroy").await
    }

    async fn end(&mut self, class: &Class) {
        self.inside.get_mut(INSTRUCTOR.id).unwrap().destroy(&address(class)).await;
    }

    async fn record(&mut self, system: &System, class: &Class) {
        let dir = tempfile::tempdir().unwrap();
        let film = jibri::recorded(dir.path(), &class.room, 1_000, 1);
        let url = self.config["webhook_url"].as_str().unwrap();
        let settings = [("LIVE_SESSIONS_URL", url), ("LIVE_SESSIONS_SECRET", WEBHOOK_SECRET)];
        let done = jibri::run(jibri::script(system, &[film.to_str().unwrap()], &settings)).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn forged(&self, class: &Class) -> reqwest::RequestBuilder {
        let now = Clock::System.now().timestamp();
        reqwest::Client::new()
            .post(self.config["webhook_url"].as_str().unwrap())
            .header("webhook-id", "forged-1")
            .header("webhook-timestamp", now)
            .header("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
            .json(&json!({"id": "forged-1", "event_name": "muc-room-destroyed", "room_name": class.room}))
    }

    fn die(&mut self) {}
}
