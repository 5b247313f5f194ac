use std::process::ExitCode;

use worker::cli::{self, Invocation};

#[tokio::main]
async fn main() -> ExitCode {
    shared::shutdown::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = match cli::parse(std::env::args_os()) {
        Invocation::Serve(config) => *config,
        Invocation::Control(command) => return cli::run(*command).await,
    };
    shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
    if config.check {
        return worker::check(config).await;
    }
    worker::run(config, shared::shutdown::on_signal()).await
}
