//! Functions on the table `provider_secrets`: what `secrets::Keyring` has sealed. All take the tenant, except those by which
//! the operator's command seals everything anew.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgExecutor};

use crate::{
    domain::ids::{ProviderConfigId, TenantId},
    secrets::Sealed,
};

/// The secrets of some configurations of a tenant, by configuration and field.
pub async fn list<'e>(
    executor: impl PgExecutor<'e>,
    tenant: TenantId,
    configs: &[ProviderConfigId],
) -> sqlx::Result<BTreeMap<ProviderConfigId, BTreeMap<String, Sealed>>> {
    let ids: Vec<_> = configs.iter().map(|id| id.0).collect();
    let rows: Vec<(ProviderConfigId, String, String, Vec<u8>)> = sqlx::query_as(
        "select config_id, field, key_id, ciphertext from provider_secrets where tenant_id = $1 and config_id = any($2)",
    )
    .bind(tenant)
    .bind(ids)
    .fetch_all(executor)
    .await?;
    let mut secrets = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (config, field, key_id, ciphertext) in rows {
        secrets.entry(config).or_default().insert(field, Sealed { key_id, ciphertext });
    }
    Ok(secrets)
}

/// Keeps a secret, instead of the one that the field had.
pub async fn put<'e>(
    executor: impl PgExecutor<'e>,
    (tenant, config): (TenantId, ProviderConfigId),
    field: &str,
    sealed: &Sealed,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into provider_secrets (config_id, tenant_id, field, key_id, ciphertext) values ($1, $2, $3, $4, $5) \
         on conflict (config_id, field) do update \
             set key_id = excluded.key_id, ciphertext = excluded.ciphertext, updated_at = now()",
    )
    .bind(config)
    .bind(tenant)
    .bind(field)
    .bind(&sealed.key_id)
    .bind(&sealed.ciphertext)
    .execute(executor)
    .await?;
    Ok(())
}

pub async fn delete<'e>(
    executor: impl PgExecutor<'e>,
    (tenant, config): (TenantId, ProviderConfigId),
    field: &str,
) -> sqlx::Result<()> {
    sqlx::query("delete from provider_secrets where config_id = $1 and tenant_id = $2 and field = $3")
        .bind(config)
        .bind(tenant)
        .bind(field)
        .execute(executor)
        .await?;
    Ok(())
}

/// A secret and where it belongs.
#[derive(Debug, Clone, FromRow)]
pub struct StoredSecret {
    pub config_id: ProviderConfigId,
    pub tenant_id: TenantId,
    pub field: String,
    pub key_id: String,
    pub ciphertext: Vec<u8>,
}

/// Secrets of all tenants that another key than this one sealed, behind `after` in the order of configuration and field.
pub async fn list_of_other_keys<'e>(
    executor: impl PgExecutor<'e>,
    key_id: &str,
    after: (ProviderConfigId, &str),
    limit: i64,
) -> sqlx::Result<Vec<StoredSecret>> {
    sqlx::query_as(
        "select config_id, tenant_id, field, key_id, ciphertext from provider_secrets \
         where key_id <> $1 and (config_id, field) > ($2, $3) order by config_id, field limit $4",
    )
    .bind(key_id)
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .fetch_all(executor)
    .await
}

/// Keeps what was sealed anew, if the secret is still the one that was opened for it. False when it is not.
pub async fn replace_sealed<'e>(
    executor: impl PgExecutor<'e>,
    stored: &StoredSecret,
    anew: &Sealed,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update provider_secrets set key_id = $5, ciphertext = $6, updated_at = now() \
         where config_id = $1 and tenant_id = $2 and field = $3 and ciphertext = $4",
    )
    .bind(stored.config_id)
    .bind(stored.tenant_id)
    .bind(&stored.field)
    .bind(&stored.ciphertext)
    .bind(&anew.key_id)
    .bind(&anew.ciphertext)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many secrets of all tenants each key has sealed.
pub async fn count_by_key<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select key_id, count(*) from provider_secrets group by key_id").fetch_all(executor).await?;
    Ok(rows.into_iter().collect())
}
