//! Who stands for 8x8: opens their tokens with the public key, and sends their webhooks.

use std::collections::HashMap;

use super::*;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

const APP: &str = "vpaas-magic-cookie-0123456789abcdef";
const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

pub struct Jaas {
    public_key: Vec<u8>,
    config: Value,
    /// By the person's id, as their tokens named them.
    inside: HashMap<String, Value>,
    silent: bool,
}

impl Jaas {
    fn request(
        &self,
        secret: &str,
        event_type: &str,
        class: &Class,
        key: &str,
        data: Value,
    ) -> reqwest::RequestBuilder {
        let now = Clock::System.now();
        let body = json!({
            "eventType": event_type, "sessionId": format!("meeting-of-{}", class.room), "timestamp": now.timestamp_millis(),
            "fqn": format!("{APP}/{}", class.room), "idempotencyKey": key, "appId": APP, "data": data,
        })
        .to_string();
        let time = now.timestamp();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{time}.{body}").as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        reqwest::Client::new()
            .post(self.config["webhook_url"].as_str().unwrap())
            .header("x-jaas-signature", format!("t={time},v1={signature}"))
            .header("content-type", "application/json")
            .body(body)
    }

    /// Each twice: 8x8 repeats what was not answered in time.
    async fn tell(&self, event_type: &str, class: &Class, data: Value) {
        if self.silent {
            return;
        }
        let request = self.request(SECRET, event_type, class, &uuid::Uuid::now_v7().to_string(), data);
        for _ in 0..2 {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        }
    }

    fn about(user: &Value) -> Value {
        let id = user["id"].as_str().unwrap();
        json!({"id": id, "name": user["name"], "moderator": user["moderator"], "participantJid": format!("{id}@8x8.vc/1")})
    }
}

impl Counterpart for Jaas {
    const KIND: &'static str = "jaas";

    async fn set_up(system: &System) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let encoded = BASE64_STANDARD.encode(private.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n");
        let body = json!({
            "name": "JaaS", "provider": "jaas", "settings": {"app_id": APP, "key_id": format!("{APP}/4f4910")},
            "secrets": {"private_key": pem, "webhook_secret": SECRET},
        });
        let config = post(system, &ADMIN, "provider-configs/", &body).await;
        let public_key = pair.public_key().as_ref().to_vec();
        Self { public_key, config, inside: HashMap::new(), silent: false }
    }

    fn config(&self) -> &Value {
        &self.config
    }

    async fn enter(&mut self, class: &Class, _: &Person, joined: &Value) {
        let token = joined["token"].as_str().unwrap();
        let link = url::Url::parse(joined["join_url"].as_str().unwrap()).unwrap();
        assert_eq!((link.host_str(), link.path()), (Some("8x8.vc"), &*format!("/{APP}/{}", class.room)));
        assert!(link.query_pairs().any(|(name, value)| name == "jwt" && value == token));
        assert_eq!(jsonwebtoken::decode_header(token).unwrap().kid, Some(format!("{APP}/4f4910")));
        let mut wanted = Validation::new(Algorithm::RS256);
        wanted.set_audience(&["jitsi"]);
        wanted.set_issuer(&["chat"]);
        let key = DecodingKey::from_rsa_der(&self.public_key);
        let claims = jsonwebtoken::decode::<Value>(token, &key, &wanted).unwrap().claims;
        assert_eq!((&claims["sub"], &claims["room"]), (&json!(APP), &json!(class.room)));
        let user = claims["context"]["user"].clone();
        self.tell("PARTICIPANT_JOINED", class, Self::about(&user)).await;
        self.inside.insert(user["id"].as_str().unwrap().to_owned(), user);
    }

    async fn leave(&mut self, class: &Class, person: &Person) {
        let user = self.inside.remove(person.id).expect("they are there under their id");
        self.tell("PARTICIPANT_LEFT", class, Self::about(&user)).await;
    }

    async fn fall_silent(&mut self) {
        self.silent = true;
    }

    async fn speak(&mut self) {
        self.silent = false;
    }

    async fn goes_on(&mut self, _: &Class) -> bool {
        !self.inside.is_empty()
    }

    async fn end(&mut self, class: &Class) {
        // The last one was never told of.
        for user in std::mem::take(&mut self.inside).into_values().filter(|user| user["id"] == INSTRUCTOR.id) {
            self.tell("PARTICIPANT_LEFT", class, Self::about(&user)).await;
        }
        self.tell("ROOM_DESTROYED", class, json!({"isBreakout": false})).await;
    }

    /// It cannot be fetched: nobody here is at 8x8.vc.
    async fn record(&mut self, _: &System, class: &Class) {
        let link = "https://recordings.8x8.vc/r.mp4?sig=x";
        self.tell("RECORDING_UPLOADED", class, json!({"preAuthenticatedLink": link, "recordingSessionId": "rec-1"}))
            .await;
    }

    fn forged(&self, class: &Class) -> reqwest::RequestBuilder {
        self.request("whsec_another", "ROOM_DESTROYED", class, "forged", json!({}))
    }

    fn die(&mut self) {}
}
