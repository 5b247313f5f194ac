//! What the document says beside the routes themselves: its head, and the problems that every
//! operation of a kind can answer with, so that no handler has to repeat them.

use axum::http::StatusCode;
use utoipa::{
    Modify, OpenApi as _, PartialSchema as _, ToSchema as _,
    openapi::{
        Content, Info, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
        header::HeaderBuilder,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::{
    error::{Fault, ProblemBody},
    router::{WEBHOOKS, WITHOUT_KEY},
};

#[derive(utoipa::OpenApi)]
#[openapi(modifiers(&Schemes))]
struct Head;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "A token of the LMS (JWT by HS256, RS256, ES256 or EdDSA): sub, tenant, roles, exp; name, email. Or a \
                 machine's API key (lsk_…), made by an administrator of the tenant.",
            ))
            .build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let webhook = ApiKeyValue::with_description(
            "Authorization",
            "Jitsi's event_sync: `Bearer` and the agreed secret. Our Prosody module: `webhook-id`, `webhook-timestamp` and \
             `webhook-signature` instead (Standard Webhooks). JaaS: `X-Jaas-Signature`.",
        );
        components.add_security_scheme("webhook", SecurityScheme::ApiKey(ApiKey::Header(webhook)));
    }
}

/// The document without routes.
pub fn head() -> OpenApi {
    let mut document = Head::openapi();
    let mut info = Info::new("Live sessions", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Live classes: planning, joining, attendance, recordings. Addresses are the same with and without their \
         last slash. Every failure is a problem document (RFC 9457); `code` is stable. Every answer carries \
         `x-request-id`."
            .into(),
    );
    document.info = info;
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    document.tags = Some(
        [
            ("sessions", "Planning and life of sessions"),
            ("presence", "Joining, heartbeats, leaving, who is there"),
            ("invitees", "Who is invited"),
            ("attendance", "Who was there"),
            ("recordings", "Recordings and their files"),
            ("people", "What is held about a person, for administrators"),
            ("api-keys", "Keys with which a tenant's machines call"),
            ("tenant", "The school itself and its settings, for administrators"),
            ("provider-configs", "Servers and accounts at meeting providers, for administrators"),
            ("audit-log", "Who changed what, for administrators and operators"),
            ("webhooks", "For meeting providers; and what they told, for administrators and operators"),
            ("operations", "For those who run the service"),
        ]
        .into_iter()
        .map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())
        .collect(),
    );
    document
}

/// Adds the problems, and the schema they have.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".into(), ProblemBody::schema());
    components.schemas.insert(Fault::name().into(), Fault::schema());
    // OpenAPI has no word for "the rest of the path": the router's `{*name}` is `{name}` here.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for (path, item) in &mut document.paths.paths {
        if let Some(post) =
            item.post.as_mut().filter(|_| !path.starts_with(WEBHOOKS) && !WITHOUT_KEY.contains(&path.as_str()))
        {
            add_idempotency(post);
        }
        for operation in operations(item) {
            add_problems(path, operation);
            tell_forms(operation);
            leave_out_not_null(operation);
            describe(operation);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// What cursors and conditions look like, wherever they are parameters.
fn tell_forms(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let pattern = match parameter.name.as_str() {
            "cursor" => "^[A-Za-z0-9_-]+$",
            // Anything but an empty one: what is no tag of ours is not the present one.
            "if-match" => r"\S",
            _ => continue,
        };
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build();
        parameter.schema = Some(RefOr::T(Schema::Object(text)));
    }
}

/// Every POST of a caller takes a key ([`crate::idempotency`]).
fn add_idempotency(operation: &mut Operation) {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    let parameter = ParameterBuilder::new()
        .name("idempotency-key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A repeat with the same key gets the same answer for 24 hours, and has no second effect; only successes are \
             kept. 1 to 255 printable ASCII characters, a random UUID at best; as they are, or as a string in double quotes.",
        ))
        .schema(Some(key.pattern(Some("^[!#-~]([ -~]{0,253}[!-~])?$"))))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            add_header(response, "idempotent-replayed", "`true`: this answer was given before");
        }
    }
    let in_use = "`idempotency-key-in-use`: the first request with this key is still running";
    match responses.entry("409".to_owned()).or_insert_with(|| RefOr::T(problem("409", in_use))) {
        RefOr::T(response) if !response.description.contains("in-use") => {
            let own = std::mem::take(&mut response.description);
            response.description = if own.is_empty() { in_use.to_owned() } else { format!("{own}; {in_use}") };
            add_header(response, "retry-after", "Seconds, where coming again may help");
        }
        _ => {}
    }
    let reused = "`idempotency-key-reused`: the key came with another address or body";
    let reused = match operation.request_body {
        Some(_) => format!("`validation-failed`: the body is not valid, all faults are told; {reused}"),
        None => reused.to_owned(),
    };
    let responses = &mut operation.responses.responses;
    responses.entry("422".to_owned()).or_insert_with(|| RefOr::T(problem("422", &reused)));
    responses
        .entry("400".to_owned())
        .or_insert_with(|| RefOr::T(problem("400", "The request cannot be read; `invalid-idempotency-key`")));
    // A body is read even where none is expected: it makes the request another one.
    for (status, about) in [("408", SLOW_BODY), ("413", "The body is too large")] {
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(status, about)));
    }
}

const SLOW_BODY: &str = "The body did not arrive in time";

fn add_problems(path: &str, operation: &mut Operation) {
    let own = operation.security.as_ref().map(|s| serde_json::to_string(s).unwrap_or_default());
    let open = own.as_deref() == Some("[{}]");
    let webhook = own.as_deref().is_some_and(|s| s.contains("webhook"));
    let limited = !open && !webhook;
    let takes_body = operation.request_body.is_some();
    let has_query = operation
        .parameters
        .iter()
        .flatten()
        .any(|p| matches!(p, RefOr::T(p) if matches!(p.parameter_in, ParameterIn::Query)));
    let is_conditional =
        operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if p.name == "if-match"));
    let mut add = |status: &str, about: &str| {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(status, about)));
    };
    if takes_body || has_query || is_conditional {
        add("400", "The request cannot be read");
    }
    if !open {
        add("401", "The token, the API key or the signature is missing or wrong");
    }
    if !open && !webhook && own.is_none() {
        add("403", "The caller may see the thing, but not do this");
    }
    if path.contains('{') {
        add("404", "There is none that the caller may see");
    }
    if takes_body {
        add("408", SLOW_BODY);
        add("413", "The body is too large");
    }
    if takes_body && !webhook {
        add("415", "The body is not declared as JSON");
        add("422", "The body is not valid; all faults are told");
    }
    if limited {
        add("429", "Too many requests of this person or tenant; come again after Retry-After");
    }
    if !matches!(path, "/livez" | "/readyz") {
        add("500", "A defect of ours");
        add("503", "Not available at the moment; try again after Retry-After");
    }
    let answers = operation.responses.responses.iter_mut().filter(|(status, _)| limited && tells_rate(status));
    for (_, response) in answers {
        if let RefOr::T(response) = response {
            add_header(response, "ratelimit", "`r`: requests left now; `t`: seconds until it is a whole burst again");
            add_header(response, "ratelimit-policy", "`q`: requests at once; `w`: seconds in which so many come again");
        }
    }
}

/// Whoever is known is told of the limit, also with a refusal; it is documented where programs look for it.
fn tells_rate(status: &str) -> bool {
    status.starts_with('2') || status == "429"
}

fn add_header(response: &mut Response, name: &str, about: &str) {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let header = HeaderBuilder::new().schema(Some(text)).description(Some(about)).build();
    response.headers.entry(name.to_owned()).or_insert(header.into());
}

/// A body that may be left out may not be `null`: for utoipa an `Option` is both.
fn leave_out_not_null(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        if let Some(RefOr::T(Schema::OneOf(forms))) = &mut content.schema
            && let [RefOr::Ref(form), RefOr::T(_)] | [RefOr::T(_), RefOr::Ref(form)] = forms.items.as_slice()
        {
            content.schema = Some(RefOr::Ref(form.clone()));
            body.required = Some(Required::False);
        }
    }
}

/// OpenAPI wants a description of every response; where a route has none, the status says it.
fn describe(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let reason = status.parse().ok().and_then(|code: StatusCode| code.canonical_reason());
            response.description = reason.unwrap_or("Answer").to_owned();
        }
    }
}

fn problem(status: &str, about: &str) -> Response {
    let mut response = ResponseBuilder::new()
        .description(about)
        .content("application/problem+json", Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))))
        .build();
    match status {
        "401" => add_header(&mut response, "www-authenticate", "Scheme that is wanted"),
        "409" | "429" | "503" => add_header(&mut response, "retry-after", "Seconds"),
        _ => {}
    }
    response
}
