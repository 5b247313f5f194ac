//! Keys of an LMS, and a server that publishes them as one does: well, badly, slowly, or not at all.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A new RSA key of 2048 bits, in PEM form.
pub fn rsa_pem() -> String {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let lines = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n")
}

/// A private key with its name.
pub struct Signer {
    pub kid: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
}

impl Signer {
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(rsa_pem().as_bytes()).unwrap(),
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
                EncodingKey::from_ec_der(pair.as_ref())
            }
            Algorithm::EdDSA => EncodingKey::from_ed_der(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref()),
            other => panic!("{other:?} is not used"),
        };
        Self { kid: kid.to_owned(), algorithm, key }
    }

    pub fn header(&self) -> Header {
        Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) }
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    pub fn token_with(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.key).unwrap()
    }

    /// The public key, as it is published.
    pub fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

pub fn set(keys: &[&Signer]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() })
}

/// What the server answers.
#[derive(Clone)]
pub enum Serves {
    Set(Value),
    Status(u16),
    Bytes(Vec<u8>),
    /// To another place, where a set is.
    Redirect(String),
    /// Nothing, for longer than anybody waits.
    Silence,
}

pub struct KeyServer {
    pub address: SocketAddr,
    serves: Arc<Mutex<Serves>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyServer {
    pub async fn start(serves: Serves) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serves, asked) = (Arc::new(Mutex::new(serves)), Arc::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&serves), Arc::clone(&asked)));
        Self { address, serves, asked, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub fn serve(&self, what: Serves) {
        *self.serves.lock().unwrap() = what;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// From now on nobody listens at its address.
    pub async fn die(&mut self) {
        self.task.abort();
        _ = (&mut self.task).await;
    }

    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = tokio::spawn(serve(listener, self.serves.clone(), self.asked.clone()));
    }
}

type Shared = (Arc<Mutex<Serves>>, Arc<AtomicUsize>);

async fn serve(listener: TcpListener, serves: Arc<Mutex<Serves>>, asked: Arc<AtomicUsize>) {
    let router = Router::new().fallback(respond).with_state((serves, asked));
    axum::serve(listener, router).await.unwrap();
}

async fn respond(State((serves, asked)): State<Shared>, uri: Uri) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let what = serves.lock().unwrap().clone();
    let mut response = match what {
        Serves::Set(set) => axum::Json(set).into_response(),
        Serves::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Serves::Bytes(bytes) => bytes.into_response(),
        Serves::Redirect(to) if uri.path() == "/jwks.json" => {
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        Serves::Redirect(_) => panic!("the redirect was followed"),
        Serves::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
    };
    // So that death of the server is death of its connections.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
