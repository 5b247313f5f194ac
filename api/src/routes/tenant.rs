//! The caller's own tenant: its settings, for its administrators.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    db::tenants::{self, Tenant},
    domain::attendance::Rules,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    body::Json,
    error::{Fault, Result},
    extract::Etag,
    permissions::Admin,
    routes::sessions::meaning,
    schema,
    state::AppState,
};

/// A school or company.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub struct TenantBody {
    pub id: Uuid,
    /// What tokens name it by; the operator's to choose.
    #[schema(example = "demo")]
    pub slug: String,
    #[serde(flatten)]
    pub settings: TenantSettings,
    pub created_at: DateTime<Utc>,
    /// The ETag without its quotes.
    pub version: i64,
}

/// What its administrators decide.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantSettings {
    /// As people know it.
    pub name: String,
    /// Language of people who have set none.
    #[schema(schema_with = schema::locale)]
    pub locale: String,
    /// IANA name; for people and sessions that have set none.
    #[schema(example = "Europe/Istanbul")]
    pub timezone: String,
    /// So long before the planned start participants may come in.
    pub join_opens_before_seconds: i32,
    /// When reminders are sent, in minutes before the start.
    #[schema(example = json!([1440, 15]))]
    pub reminder_minutes: Vec<i32>,
    /// How often pages send a heartbeat.
    pub heartbeat_interval_seconds: i32,
    /// Who is silent for longer is taken to have left at their last sign of life.
    pub heartbeat_timeout_seconds: i32,
    /// So long after its planned end a session in which nobody is stays open.
    pub end_grace_seconds: i32,
    pub attendance_rules: AttendanceRules,
    /// Recordings are deleted after these days; null keeps them.
    pub recording_retention_days: Option<i32>,
    /// The people of a session are forgotten so many days after its end; null keeps them.
    pub personal_data_retention_days: Option<i32>,
}

/// What makes somebody late, or present in part. Each session keeps those that held when it started.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttendanceRules {
    /// Who first comes later than this after the start is late.
    #[schema(example = 600)]
    pub late_after_seconds: i64,
    /// Who last leaves earlier than this before the end has left early.
    #[schema(example = 600)]
    pub left_early_before_seconds: i64,
    /// The share of the time that makes somebody present.
    #[schema(example = 0.75)]
    pub present_ratio: f64,
    /// Who was there for a smaller share is partial, whatever the times.
    #[schema(example = 0.5)]
    pub partial_below: f64,
}

impl From<Rules> for AttendanceRules {
    fn from(rules: Rules) -> Self {
        Self {
            late_after_seconds: rules.late_after.num_seconds(),
            left_early_before_seconds: rules.left_early_before.num_seconds(),
            present_ratio: rules.present_ratio,
            partial_below: rules.partial_below,
        }
    }
}

/// A change of some of them; null: the usual one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttendanceRulesPatch {
    #[schema(minimum = 0, maximum = 86_400, example = 600)]
    pub late_after_seconds: Option<i64>,
    #[schema(minimum = 0, maximum = 86_400, example = 600)]
    pub left_early_before_seconds: Option<i64>,
    #[schema(minimum = 0, maximum = 1, example = 0.75)]
    pub present_ratio: Option<f64>,
    #[schema(minimum = 0, maximum = 1, example = 0.5)]
    pub partial_below: Option<f64>,
}

/// A change of some fields (JSON merge patch, RFC 7396), also within `attendance_rules`: what is left out stays, `null` clears.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantPatch {
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        nullable = false,
        example = "Atatürk Lisesi"
    )]
    pub name: Option<String>,
    #[schema(schema_with = schema::locale)]
    pub locale: Option<String>,
    #[schema(nullable = false, max_length = 64, example = "Europe/Istanbul")]
    pub timezone: Option<String>,
    #[schema(minimum = 0, maximum = 86_400, nullable = false, example = 900)]
    pub join_opens_before_seconds: Option<i32>,
    /// Of sessions that are planned, moved or get new invitees from now on.
    #[schema(schema_with = schema::reminder_minutes, example = json!([1440, 15]))]
    pub reminder_minutes: Option<Vec<i32>>,
    #[schema(minimum = 5, maximum = 300, nullable = false, example = 30)]
    pub heartbeat_interval_seconds: Option<i32>,
    /// At least twice the interval, so that one lost heartbeat does no harm.
    #[schema(minimum = 15, maximum = 3_600, nullable = false, example = 90)]
    pub heartbeat_timeout_seconds: Option<i32>,
    #[schema(minimum = 0, maximum = 86_400, nullable = false, example = 900)]
    pub end_grace_seconds: Option<i32>,
    /// Null: the usual ones.
    pub attendance_rules: Option<AttendanceRulesPatch>,
    #[schema(minimum = 1, maximum = 36_500, example = 365)]
    pub recording_retention_days: Option<i32>,
    #[schema(minimum = 1, maximum = 36_500, example = 730)]
    pub personal_data_retention_days: Option<i32>,
}

crate::input!(TenantPatch);

/// The tenant that the token or key belongs to.
#[utoipa::path(
    get, path = "/api/v1/live-sessions/tenant/", tag = "tenant",
    responses((status = 200, body = TenantBody, headers(("etag" = String, description = "Version, for If-Match")))),
)]
pub async fn get_tenant(State(state): State<AppState>, Admin(caller): Admin) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let tenant = tenants::find(&mut *tx, caller.tenant.id).await?.ok_or(sqlx::Error::RowNotFound)?;
    respond(tenant)
}

/// Change its settings (JSON merge patch). They hold within ten seconds, for sessions that run already too, but for attendance
/// rules, which each session keeps from its start.
#[utoipa::path(
    patch, path = "/api/v1/live-sessions/tenant/", tag = "tenant",
    params(("if-match" = Option<String>, Header, description = "Only if the tenant still has this ETag")),
    request_body(content((TenantPatch = "application/json"), (TenantPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, body = TenantBody, headers(("etag" = String, description = "New version"))),
        (status = 412, body = crate::error::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn patch_tenant(
    State(state): State<AppState>,
    Admin(caller): Admin,
    headers: HeaderMap,
    body: Json<TenantPatch>,
) -> Result<Response> {
    let mut tx = state.begin_for(&caller).await?;
    let tenant = tenants::lock(&mut *tx, caller.tenant.id).await?;
    Etag::of(tenant.version).allows_write(&headers)?;
    let now = settings(&tenant)?;
    let patch = body.value.clone();
    let mut whole = serde_json::to_value(&now).map_err(anyhow::Error::from)?;
    merge(&mut whole, patch)?;
    body.check(|patch| faults(patch, &whole))?;
    let wanted: TenantSettings = serde_json::from_value(whole).map_err(anyhow::Error::from)?;
    if wanted == now {
        return respond(tenant);
    }
    let changed = tenants::update(&mut *tx, &apply(tenant, wanted)?).await?;
    tx.commit().await?;
    state.tenants.forget(changed.id);
    respond(changed)
}

fn respond(tenant: Tenant) -> Result<Response> {
    let etag = HeaderValue::from_str(Etag::of(tenant.version).as_str()).map_err(anyhow::Error::from)?;
    let settings = settings(&tenant)?;
    let body = TenantBody {
        id: tenant.id.0,
        slug: tenant.slug,
        settings,
        created_at: tenant.created_at,
        version: tenant.version,
    };
    Ok((StatusCode::OK, [(header::ETAG, etag)], Answer(body)).into_response())
}

fn settings(tenant: &Tenant) -> Result<TenantSettings> {
    let rules: Rules = serde_json::from_value(tenant.attendance_rules.clone()).map_err(anyhow::Error::from)?;
    Ok(TenantSettings {
        name: tenant.name.clone(),
        locale: tenant.locale.clone(),
        timezone: tenant.timezone.clone(),
        join_opens_before_seconds: tenant.join_opens_before_s,
        reminder_minutes: tenant.reminder_minutes.clone(),
        heartbeat_interval_seconds: tenant.heartbeat_interval_s,
        heartbeat_timeout_seconds: tenant.heartbeat_timeout_s,
        end_grace_seconds: tenant.end_grace_s,
        attendance_rules: rules.into(),
        recording_retention_days: tenant.recording_retention_days,
        personal_data_retention_days: tenant.personal_data_retention_days,
    })
}

fn apply(tenant: Tenant, wanted: TenantSettings) -> Result<Tenant> {
    let mut steps = wanted.reminder_minutes;
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Tenant {
        name: wanted.name,
        locale: wanted.locale,
        timezone: wanted.timezone,
        join_opens_before_s: wanted.join_opens_before_seconds,
        reminder_minutes: steps,
        heartbeat_interval_s: wanted.heartbeat_interval_seconds,
        heartbeat_timeout_s: wanted.heartbeat_timeout_seconds,
        end_grace_s: wanted.end_grace_seconds,
        attendance_rules: serde_json::to_value(wanted.attendance_rules).map_err(anyhow::Error::from)?,
        recording_retention_days: wanted.recording_retention_days,
        personal_data_retention_days: wanted.personal_data_retention_days,
        ..tenant
    })
}

/// RFC 7396; where the usual value takes the place of what is cleared. What has a wrong form is refused by that.
fn merge(whole: &mut Value, patch: Value) -> Result<()> {
    let usual = serde_json::to_value(AttendanceRules::from(Rules::default())).map_err(anyhow::Error::from)?;
    let (Value::Object(whole), Value::Object(mut patch)) = (whole, patch) else { return Ok(()) };
    match patch.remove("attendance_rules") {
        None => {}
        Some(Value::Object(change)) => {
            for (name, value) in change {
                whole["attendance_rules"][&name] = if value.is_null() { usual[&name].clone() } else { value };
            }
        }
        Some(_) => _ = whole.insert("attendance_rules".to_owned(), usual),
    }
    whole.extend(patch);
    Ok(())
}

/// What is wrong with the meaning of the changed settings, told where the patch says it.
fn faults(patch: &Value, whole: &Value) -> Vec<Fault> {
    let mut faults: Vec<Fault> = meaning::zone(patch).into_iter().collect();
    let number = |field: &str| whole[field].as_i64();
    if let (Some(interval), Some(timeout)) = (number("heartbeat_interval_seconds"), number("heartbeat_timeout_seconds"))
        && timeout < 2 * interval
    {
        faults.push(Fault::at(
            "/heartbeat_timeout_seconds",
            format!("is {timeout}: must be at least twice heartbeat_interval_seconds, which is {interval}"),
        ));
    }
    faults
}
