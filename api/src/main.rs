//! The API process: settings, logs, signals; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    shared::shutdown::exit_code(run())
}

fn run() -> anyhow::Result<()> {
    let config = api::config::Config::parse();
    shared::telemetry::init_logs(config.telemetry.log_format, &config.telemetry.log_filter)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        if config.check {
            return api::check(&config).await;
        }
        let shutdown = shared::shutdown::on_signal();
        api::run(config, shutdown).await
    })
}
