//! `worker tenants …`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use shared::{
    db::tenants::{self, Tenant},
    domain::ids::TenantId,
    queue::{Cause, Tx},
};

use super::{Context, Shared, table, times};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worker tenants list\n  worker tenants add okul --name \"Atatürk Lisesi\"\n\nWhat \
                        a tenant decides for itself, its administrators change over the API (PATCH tenant/)."
)]
pub struct TenantsArguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All of them.
    List,
    /// Make one. From then on tokens of the LMS may name it.
    Add {
        /// What tokens carry as `tenant`: small letters, digits and hyphens, 63 at most.
        slug: String,
        /// As people know it.
        #[arg(long)]
        name: String,
        /// Language of people who have set none.
        #[arg(long, default_value = "tr", value_parser = ["tr", "en"])]
        locale: String,
        /// Time zone of people and sessions that have set none.
        #[arg(long, default_value = "Europe/Istanbul")]
        timezone: chrono_tz::Tz,
    },
}

pub async fn run(arguments: TenantsArguments) -> anyhow::Result<()> {
    let context = arguments.shared.connect().await?;
    match arguments.action {
        Action::List => {
            let tenants = tenants::list(&context.db).await?;
            let rows: Vec<Value> = tenants.iter().map(shown).collect();
            context.print(&rows, |_| {
                let heads = ["SLUG", "NAME", "LANGUAGE", "ZONE", "MADE", "ID"];
                let nothing = "There is none yet: worker tenants add <slug> --name <name>";
                table::columns(&heads, tenants.iter().map(row).collect(), nothing)
            })
        }
        Action::Add { slug, name, locale, timezone } => {
            anyhow::ensure!(
                is_slug(&slug),
                "{slug:?} is no slug: small letters, digits and hyphens, 63 at most, such as ataturk-lisesi"
            );
            anyhow::ensure!(!name.trim().is_empty() && name.chars().count() <= 200, "--name is empty or too long");
            let actor = format!("operator:{}", context.by);
            let cause = Cause { actor: &actor, request_id: "" };
            let mut tx = Tx::begin_for(&context.db, &Context::dispatcher(), None, cause).await?;
            let made = tenants::add(&mut *tx, (&slug, &name), (&locale, timezone.name())).await?;
            let made =
                made.with_context(|| format!("there is a tenant {slug:?} already; see `worker tenants list`"))?;
            tx.commit().await?;
            let next = "Its LMS signs tokens with this tenant; the first provider configuration is made by a person with the role admin.";
            context.print(&shown(&made), |_| format!("{} is made, with the id {}\n{next}", made.slug, made.id))
        }
    }
}

fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn shown(tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id, "slug": tenant.slug, "name": tenant.name, "locale": tenant.locale, "timezone": tenant.timezone,
        "created_at": tenant.created_at,
    })
}

fn row(tenant: &Tenant) -> Vec<String> {
    let Tenant { slug, name, locale, timezone, created_at, id: TenantId(id), .. } = tenant;
    vec![slug.clone(), name.clone(), locale.clone(), timezone.clone(), times::show(*created_at), id.to_string()]
}
