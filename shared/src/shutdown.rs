//! How a process ends. From signals to a [`CancellationToken`]: the first SIGTERM or Ctrl-C asks everything to
//! finish, a second one ends the process at once.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

/// What `main` returns: an error is one line that says what to do, without a backtrace.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A token that is cancelled by SIGTERM or SIGINT.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("stopping: finishing what runs; a second signal ends at once");
        cancel.cancel();
        signal().await;
        tracing::warn!("second signal: ending at once");
        std::process::exit(130);
    });
    token
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).expect("SIGTERM can be watched");
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
