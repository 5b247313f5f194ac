use std::process::ExitCode;

use clap::Parser;
use scheduler::Config;

#[tokio::main]
async fn main() -> ExitCode {
    shared::shutdown::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::parse();
    shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
    if config.check {
        return scheduler::check(config).await;
    }
    scheduler::run(config, shared::shutdown::on_signal()).await
}
