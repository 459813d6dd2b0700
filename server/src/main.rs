//! `mlplat-server`: reads the settings, opens the app, serves until it is told to stop.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use mlplat_server::{
    app::App,
    auth::LocalOwner,
    clock::SystemClock,
    config::{AuthMode, Config, Flags},
    serve::Server,
    telemetry::Telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

/// Experiment tracking, feature store, model catalogue and lineage on one port.
#[derive(Debug, Parser)]
#[command(name = "mlplat-server", version)]
struct Arguments {
    /// Settings file; default: mlplat.toml in the working directory, where there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the one port for gRPC, gRPC-web and HTTP [default: 127.0.0.1:5000].
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of everything that the server itself stores [default: mlplat-data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// postgres://… or sqlite:… [default: SQLite in the data folder].
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Where artifacts go [default: a folder in the data folder].
    #[arg(long, global = true, value_name = "PATH or s3://bucket/prefix")]
    artifact_root: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the effective settings as TOML, secrets masked.
    Config,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for people, whatever RUST_BACKTRACE says.
            eprintln!("mlplat-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let flags = Flags {
        listen: arguments.listen,
        data_dir: arguments.data_dir,
        database_url: arguments.database_url,
        artifact_root: arguments.artifact_root,
    };
    let config = Config::load(arguments.config.as_deref(), &flags)?;
    match arguments.command {
        Some(Command::Config) => {
            print!("{}", config.to_masked_toml()?);
            Ok(())
        }
        None => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(serve(config)),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(
        &config.telemetry,
        &format!("{}@{}", std::process::id(), config.listen),
    )?;
    let authenticator = match config.auth.mode {
        AuthMode::None => Arc::new(LocalOwner),
    };
    let app = Arc::new(App::open(config, Arc::new(SystemClock)).await?);
    let server = Server::bind(app, authenticator).await?;
    // Before the address is told: who knows it may already say stop.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    // Whoever does not want to read it (a closed pipe, a full disk) must not end the server.
    let _ = writeln!(
        std::io::stdout(),
        "mlplat-server listens on http://{}",
        server.address()?
    );
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: open requests may end");
    };
    let ended = server.run(stop).await;
    // Flushing the traces blocks.
    tokio::task::spawn_blocking(move || telemetry.stop()).await?;
    ended
}
