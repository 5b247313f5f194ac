//! THE list of routes, in the order of their addresses. A route cannot be here without its document.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::Config,
    error::{self, Problem},
    idempotency::{self, IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED},
    middleware::{self, Limits, REQUEST_ID},
    openapi,
    rates::{RATE_LIMIT, RATE_LIMIT_POLICY},
    routes::*,
    state::AppState,
    unread_bodies,
};

/// All addresses of the API begin with it.
pub const BASE: &str = "/api/v1/live-sessions";
/// POSTs that change nothing and may take long: a transaction kept open for an answer to be kept with would hold up others.
pub const WITHOUT_KEY: &[&str] = &["/api/v1/live-sessions/provider-configs/{id}/test/"];
/// Addresses for providers begin with it.
pub const WEBHOOKS: &str = "/api/v1/live-sessions/webhooks/";

/// Metrics are left out where they have a port of their own.
fn list(with_metrics: bool) -> OpenApiRouter<AppState> {
    let list = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(documents::welcome))
        .routes(routes!(attendance_ranges::list_analytics_of_people))
        .routes(routes!(attendance_ranges::list_analytics_of_sessions))
        .routes(routes!(api_keys::list_api_keys, api_keys::create_api_key))
        .routes(routes!(api_keys::get_api_key, api_keys::revoke_api_key))
        .routes(routes!(attendance_ranges::list_attendance))
        .routes(routes!(audit_log::list_audit_log))
        .routes(routes!(people::get_erasure))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::retry_dead_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::cancel_job))
        .routes(routes!(jobs::discard_job))
        .routes(routes!(jobs::retry_job))
        .routes(routes!(ops::get_ops))
        .routes(routes!(people::export_person))
        .routes(routes!(people::erase_person))
        .routes(routes!(
            provider_configs::list::list_provider_configs,
            provider_configs::create::create_provider_config
        ))
        .routes(routes!(
            provider_configs::list::get_provider_config,
            provider_configs::update::patch_provider_config,
            provider_configs::remove::delete_provider_config
        ))
        .routes(routes!(provider_configs::health::get_provider_health))
        .routes(routes!(provider_configs::make_default::make_provider_config_default))
        .routes(routes!(provider_configs::test::test_provider_config))
        .routes(routes!(providers::list_providers))
        .routes(routes!(queues::list_queues))
        .routes(routes!(queues::pause_queue))
        .routes(routes!(queues::resume_queue))
        .routes(routes!(recordings::get_recording, recordings::patch_recording, recordings::delete_recording))
        .routes(routes!(recordings::download_recording))
        .routes(routes!(recordings::retry_recording))
        .routes(routes!(schedules::list_schedules))
        .routes(routes!(schedules::run_schedule))
        .routes(routes!(sessions::list::list_sessions, sessions::create::create_session))
        .routes(routes!(
            sessions::read::get_session,
            sessions::update::replace_session,
            sessions::update::patch_session,
            sessions::remove::delete_session
        ))
        .routes(routes!(analytics::get_session_analytics))
        .routes(routes!(attendance::get_attendance))
        .routes(routes!(attendance_corrections::correct_attendance))
        .routes(routes!(attendance_objections::list_attendance_objections, attendance_objections::object_to_attendance))
        .routes(routes!(attendance_objections::refuse_attendance_objection))
        .routes(routes!(calendar::get_calendar))
        .routes(routes!(sessions::lifecycle::cancel_session))
        .routes(routes!(sessions::lifecycle::end_session))
        .routes(routes!(presence::heartbeat))
        .routes(routes!(invitees::list_invitees, invitees::replace_invitees))
        .routes(routes!(presence::join_session))
        .routes(routes!(presence::leave_session))
        .routes(routes!(participants::list_participants))
        .routes(routes!(present::list_present))
        .routes(routes!(removals::remove_participant))
        .routes(routes!(recordings::list_recordings))
        .routes(routes!(sessions::lifecycle::start_session))
        .routes(routes!(recording_uploads::upload_recording))
        .routes(routes!(tenant::get_tenant, tenant::patch_tenant))
        .routes(routes!(webhook_events::list_webhook_events))
        .routes(routes!(webhook_events::get_webhook_event))
        .routes(routes!(webhook_events::replay_webhook_event))
        .routes(routes!(webhooks::callbacks::receive_bbb_analytics))
        .routes(routes!(webhooks::callbacks::receive_bbb_end))
        .routes(routes!(webhooks::callbacks::receive_bbb_recording_ready))
        .routes(routes!(webhooks::receive_webhook))
        .routes(routes!(webhooks::receive_webhook_of_config))
        .routes(routes!(recording_uploads::hand_over_recording))
        .routes(routes!(recording_uploads::hand_over_recording_of_config))
        .routes(routes!(webhooks::receive_jitsi_event))
        .routes(routes!(webhooks::receive_jitsi_event_of_config))
        .routes(routes!(reservations::reserve_room))
        .routes(routes!(reservations::get_reservation, reservations::delete_reservation))
        .routes(routes!(reservations::reserve_room_of_config))
        .routes(routes!(reservations::get_reservation_of_config, reservations::delete_reservation_of_config))
        .routes(routes!(asap::get_asap_key))
        .routes(routes!(asap::get_asap_key_of_config))
        .routes(routes!(documents::docs))
        .routes(routes!(documents::docs_page))
        .routes(routes!(documents::docs_file))
        .routes(routes!(health::livez))
        .routes(routes!(documents::openapi))
        .routes(routes!(health::readyz));
    if with_metrics { list.routes(routes!(health::metrics)) } else { list }
}

/// The OpenAPI document of all routes.
pub fn document() -> OpenApi {
    let mut document = list(true).into_openapi();
    openapi::complete(&mut document);
    document
}

/// The routes with everything around them, except [`middleware::one_spelling`], which has to come before.
pub fn router(state: AppState) -> Router {
    let limits = Limits::new(state.config.api_max_in_flight, state.config.timeout());
    let (router, _) = list(state.config.api_metrics_addr.is_none()).split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), idempotency::at_most_once))
        .layer(axum::middleware::from_fn_with_state(limits, middleware::limit))
        .layer(axum::middleware::from_fn(middleware::catch_panics))
        .layer(axum::middleware::from_fn(unread_bodies::announce_close))
        .layer(cors(&state.config))
        .layer(axum::middleware::from_fn(middleware::observe))
        .with_state(state)
}

/// What an operator's port serves, apart from callers.
pub fn operations(state: AppState) -> Router {
    let (router, _) = OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::metrics))
        .routes(routes!(health::readyz))
        .split_for_parts();
    router.fallback(unknown).with_state(state)
}

async fn unknown() -> Problem {
    error::not_found("address")
}

async fn wrong_method(State(_): State<AppState>, method: Method) -> Response {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Not with this method",
        format!("{method} is not possible here; see the Allow header."),
    )
    .into_response()
}

fn cors(config: &Config) -> CorsLayer {
    let origins: Vec<HeaderValue> = config.cors_origins.iter().filter_map(|o| o.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            IDEMPOTENCY_KEY,
            REQUEST_ID,
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            IDEMPOTENT_REPLAYED,
            RATE_LIMIT,
            RATE_LIMIT_POLICY,
            REQUEST_ID,
        ])
        .max_age(std::time::Duration::from_secs(3600))
}
