//! `worker rotate-secrets`

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use shared::{
    config::SecretsConfig,
    db::provider_secrets::{self, StoredSecret},
    domain::ids::ProviderConfigId,
    secrets::{Keyring, Place, Sealed},
};

use super::{Context, Shared, table};

/// Secrets read at a time.
const STEP: i64 = 100;

#[derive(Debug, Args)]
#[command(
    long_about = "Seal the secrets of all provider configurations anew, with the first of SECRETS_KEYS, and tell how many each \
                  key has sealed then. Services run on meanwhile. It may be ended at any time and run again: what is done \
                  stays done. A key may go when it has sealed none any more.",
    after_help = "Example:\n  SECRETS_KEYS=new:…,old:… worker rotate-secrets"
)]
pub struct RotateSecretsArguments {
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    secrets: SecretsConfig,
    /// Only tell how many secrets each key has sealed.
    #[arg(long)]
    dry_run: bool,
}

/// How many secrets a key has sealed.
#[derive(Debug, Serialize)]
struct KeyCount {
    key: String,
    secrets: i64,
    /// What becomes of the key.
    state: &'static str,
}

pub async fn run(arguments: RotateSecretsArguments) -> anyhow::Result<()> {
    let keys = Keyring::load(&arguments.secrets)?;
    let first = keys.first().ok_or_else(|| anyhow::anyhow!("set SECRETS_KEYS or SECRETS_KEYS_FILE"))?.to_owned();
    let context = arguments.shared.connect().await?;
    let failed = if arguments.dry_run { 0 } else { rotate(&context, &keys, &first).await? };
    let counts = provider_secrets::count_by_key(&context.db).await?;
    let counts: Vec<KeyCount> = counts
        .into_iter()
        .map(|(key, secrets)| KeyCount { state: if key == first { "seals" } else { "still needed" }, key, secrets })
        .collect();
    context.print(&counts, |counts| {
        let row = |count: &KeyCount| vec![count.key.clone(), count.secrets.to_string(), count.state.to_owned()];
        table::columns(&["KEY", "SECRETS", "STATE"], counts.iter().map(row).collect(), "There are no secrets.")
    })?;
    ensure!(failed == 0, "{failed} secrets stay as they were, see above");
    Ok(())
}

/// Goes through all that other keys have sealed, in steps. How many could not be opened.
async fn rotate(context: &Context, keys: &Keyring, first: &str) -> anyhow::Result<u64> {
    let (mut done, mut failed) = (0_u64, 0_u64);
    let mut after = (ProviderConfigId(uuid::Uuid::nil()), String::new());
    loop {
        let step = provider_secrets::list_of_other_keys(&context.db, first, (after.0, &after.1), STEP).await?;
        let Some(last) = step.last() else { break };
        after = (last.config_id, last.field.clone());
        for stored in &step {
            match seal_anew(keys, stored) {
                // Changed meanwhile by its administrator: that is newer.
                Ok(anew) => done += u64::from(provider_secrets::replace_sealed(&context.db, stored, &anew).await?),
                Err(error) => {
                    failed += 1;
                    eprintln!("{} of the configuration {}: {error}", stored.field, stored.config_id);
                }
            }
        }
        eprintln!("sealed anew: {done}, not opened: {failed}");
    }
    Ok(failed)
}

fn seal_anew(keys: &Keyring, stored: &StoredSecret) -> Result<Sealed, shared::secrets::SecretsError> {
    let place = Place { tenant: stored.tenant_id, config: stored.config_id, field: &stored.field };
    let sealed = Sealed { key_id: stored.key_id.clone(), ciphertext: stored.ciphertext.clone() };
    keys.seal(&keys.open(&sealed, place)?, place)
}
