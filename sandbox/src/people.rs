//! The demo tenant, its people, and tokens as an LMS would sign them.

use chrono::{DateTime, Utc};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

/// The tenant's slug: what its tokens carry as `tenant`.
pub const TENANT: &str = "demo";

/// Somebody of the demo school.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    pub id: &'static str,
    pub name: &'static str,
    pub email: &'static str,
    pub role: &'static str,
    pub locale: &'static str,
    pub timezone: &'static str,
}

const fn person(
    id: &'static str,
    name: &'static str,
    email: &'static str,
    role: &'static str,
    locale: &'static str,
    timezone: &'static str,
) -> Person {
    Person { id, name, email, role, locale, timezone }
}

pub const ADMIN: Person = person("admin-1", "Deniz Kaya", "deniz@demo.example", "admin", "tr", "Europe/Istanbul");
pub const INSTRUCTOR: Person =
    person("teacher-1", "Zeynep Arslan", "zeynep@demo.example", "instructor", "tr", "Europe/Istanbul");
pub const OPERATOR: Person = person("operator-1", "Operator", "operator@demo.example", "operator", "en", "UTC");
pub const STUDENTS: [Person; 4] = [
    person("student-1", "Ayşe Yılmaz", "ayse@demo.example", "student", "tr", "Europe/Istanbul"),
    person("student-2", "Mehmet Demir", "mehmet@demo.example", "student", "tr", "Europe/Istanbul"),
    person("student-3", "Emily Clark", "emily@demo.example", "student", "en", "Europe/London"),
    person("student-4", "Can Öztürk", "can@demo.example", "student", "tr", "Europe/Istanbul"),
];

/// A token of the demo school's LMS for `person`, good for thirty days.
///
/// # Errors
/// When it cannot be signed.
pub fn token(person: &Person, secret: &str, now: DateTime<Utc>) -> anyhow::Result<String> {
    let claims = json!({
        "sub": person.id,
        "tenant": TENANT,
        "roles": [person.role],
        "name": person.name,
        "email": person.email,
        "locale": person.locale,
        "zoneinfo": person.timezone,
        "iat": now.timestamp(),
        "exp": (now + chrono::Duration::days(30)).timestamp(),
    });
    sign(&claims, secret)
}

/// A token with any claims, signed with HS256.
///
/// # Errors
/// When it cannot be signed.
pub fn sign(claims: &serde_json::Value, secret: &str) -> anyhow::Result<String> {
    Ok(jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// Makes the demo tenant, when it is not there. Its heartbeats come often, so that a story of a
/// minute shows what a real class shows in an hour.
///
/// # Errors
/// When the database refuses.
pub async fn seed(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query(
        "insert into tenants (id, slug, name, heartbeat_interval_s, heartbeat_timeout_s) \
         values ($1, $2, 'Demo Okulu', 5, 15) on conflict (slug) do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(TENANT)
    .execute(pool)
    .await?;
    Ok(())
}
