//! An XMPP client over BOSH (XEP-0124, XEP-0206), as far as a meeting room needs one.

use super::server::{HOST, Server};

pub struct Client {
    http: reqwest::Client,
    url: String,
    sid: String,
    rid: u64,
    /// `user@host/resource`: the connection, as webhooks name it.
    pub jid: String,
}

impl Client {
    /// Connects with the id and name that a token of ours would carry, or without one.
    pub async fn connect(server: &Server, user: Option<(&str, &str)>) -> Self {
        let mut url = url::Url::parse(&server.bosh_url()).expect("an address");
        if let Some((id, name)) = user {
            url.query_pairs_mut().append_pair("user", id).append_pair("name", name);
        }
        let mut client =
            Self { http: reqwest::Client::new(), url: url.into(), sid: String::new(), rid: 1, jid: String::new() };
        let hello = format!(
            "to='{HOST}' ver='1.6' wait='1' hold='1' xml:lang='en' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'"
        );
        let welcome = client.exchange(&hello, "").await;
        client.sid = between(&welcome, "sid='", "'").to_owned();
        client.until("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>", "<success").await;
        client.exchange(&format!("to='{HOST}' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'"), "").await;
        let bind =
            "<iq type='set' id='bind' xmlns='jabber:client'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        let bound = client.until(bind, "<jid>").await;
        client.jid = between(&bound, "<jid>", "</jid>").to_owned();
        client
    }

    /// Comes into a room (`room@conference.…`) under `nick`; returns when it is in.
    pub async fn join(&mut self, room: &str, nick: &str) {
        let presence = format!(
            "<presence to='{room}/{nick}' xmlns='jabber:client'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        );
        // Its own presence comes last of all occupants'.
        self.until(&presence, "code='110'").await;
    }

    pub async fn leave(&mut self, room: &str, nick: &str) {
        let presence = format!("<presence to='{room}/{nick}' type='unavailable' xmlns='jabber:client'/>");
        self.until(&presence, "code='110'").await;
    }

    /// Kicks somebody, as a moderator.
    pub async fn kick(&mut self, room: &str, nick: &str) {
        let query = format!("muc#admin'><item nick='{nick}' role='none'/></query>");
        self.command(room, &query).await;
    }

    /// Ends the meeting for all, as its owner.
    pub async fn destroy(&mut self, room: &str) {
        self.command(room, "muc#owner'><destroy><reason>over</reason></destroy></query>").await;
    }

    /// Tries to come into a room; returns the condition of the refusal.
    pub async fn refused(&mut self, room: &str, nick: &str) -> String {
        let presence = format!(
            "<presence to='{room}/{nick}' xmlns='jabber:client'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        );
        let mut answer = self.exchange("", &presence).await;
        for _ in 0..10 {
            if answer.contains("type='error'") {
                let error = answer.split_once("<error").expect("an error").1;
                return between(error, "<", " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'").to_owned();
            }
            assert!(!answer.contains("code='110'"), "{answer}");
            answer = self.exchange("", "").await;
        }
        panic!("nothing came but {answer}");
    }

    /// Waits until something says so.
    pub async fn hears(&mut self, sign: &str) -> String {
        for _ in 0..10 {
            let answer = self.exchange("", "").await;
            if answer.contains(sign) {
                return answer;
            }
        }
        panic!("nobody says {sign}");
    }

    /// Whether something new says so.
    pub async fn has_heard(&mut self, sign: &str) -> bool {
        self.exchange("", "").await.contains(sign)
    }

    async fn command(&mut self, room: &str, query: &str) {
        let iq = format!(
            "<iq to='{room}' type='set' id='cmd{}' xmlns='jabber:client'>\
             <query xmlns='http://jabber.org/protocol/{query}</iq>",
            self.rid
        );
        self.until(&iq, "type='result'").await;
    }

    /// Sends `stanza`, and asks on until an answer holds `sign`.
    async fn until(&mut self, stanza: &str, sign: &str) -> String {
        let mut answer = self.exchange("", stanza).await;
        for _ in 0..10 {
            if answer.contains(sign) {
                return answer;
            }
            assert!(!answer.contains("type='error'") && !answer.contains("<failure"), "{stanza}: {answer}");
            answer = self.exchange("", "").await;
        }
        panic!("no {sign} came after {stanza}, but {answer}");
    }

    /// One request; its answer comes when there is something to tell, or after a second.
    async fn exchange(&mut self, attributes: &str, stanza: &str) -> String {
        self.rid += 1;
        let sid = if self.sid.is_empty() { String::new() } else { format!("sid='{}'", self.sid) };
        let body = format!(
            "<body rid='{}' {sid} {attributes} xmlns='http://jabber.org/protocol/httpbind'>{stanza}</body>",
            self.rid
        );
        let request = self.http.post(&self.url).header("content-type", "text/xml; charset=utf-8").body(body);
        let answer = request.send().await.expect("Prosody answers").text().await.expect("a text");
        assert!(!answer.contains("type='terminate'"), "{answer}");
        answer
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start} in {text}")).1;
    rest.split_once(end).expect("an end").0
}
