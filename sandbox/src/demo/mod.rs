//! `cargo run -- demo`: a class from plan to download link, against a running sandbox, each step shown
//! with what was seen. Ends in success, or with the step that failed.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use sandbox::system::System;

mod breaking;
mod client;
mod running;
mod story;

use breaking::Breaking;
pub use client::Client;
pub use running::read_env;

use crate::{place::Place, say};

/// Several times what the story takes, with everything broken that `--break` breaks.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs the story against the sandbox of `dir`; where none runs, starts one for the time of the story.
///
/// # Errors
/// The step that failed and what was seen instead.
pub async fn run(dir: &Path, break_things: bool) -> anyhow::Result<()> {
    let told = match running::environment(dir).await? {
        Some(env) => {
            say(format_args!("Using the sandbox that runs in {}.", dir.display()));
            running::ensure_worker(&env).await?;
            let breaking = break_things.then(|| Breaking::new(dir, &env));
            tell(Client::new(env), breaking).await
        }
        None => {
            say(format_args!("No sandbox runs in {}: starting one for this demo …", dir.display()));
            let _place = Place::take(dir)?;
            let mut options = crate::options(dir)?;
            options.on_line = Arc::new(|_, _| {});
            // From here on Ctrl-C ends the sandbox in order, too.
            let stopped = shared::shutdown::on_signal();
            let system = tokio::select! {
                system = System::start(options) => system?,
                () = stopped.cancelled() => bail!("stopped before the sandbox was ready"),
            };
            let breaking = break_things.then(|| Breaking::new(dir, &system.env));
            let told = tokio::select! {
                told = tell(Client::new(system.env.clone()), breaking) => told,
                error = system.keep_running(&|line| say(format_args!("     {line}"))) => Err(error),
                () = stopped.cancelled() => Err(anyhow::anyhow!("it was stopped")),
            };
            say("\nEnding the sandbox of this demo …");
            system.stop().await;
            told
        }
    };
    match told {
        Ok(()) => {
            say("\n✔ The demo ended in success.");
            Ok(())
        }
        Err(error) => bail!("✘ the demo failed at: {error:#}"),
    }
}

async fn tell(client: Client, breaking: Option<Breaking>) -> anyhow::Result<()> {
    let story = story::tell(&client, breaking.as_ref());
    tokio::time::timeout(LIMIT, story).await.with_context(|| format!("the whole took longer than {LIMIT:?}"))?
}
