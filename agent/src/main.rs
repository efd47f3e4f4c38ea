//! `vedette-agent`: arguments, logging, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use vedette_agent::command::{self, Command};
use vedette_agent::{config, run};
use vedette_protocol::exit::Exit;
use vedette_protocol::settings::SettingsError;

/// Scoring happens on its sources' threads; these carry what waits for the network and the local interface.
const WORKERS: usize = 2;

/// Threads for files and trials: each costs a stack when used.
const BLOCKING_THREADS: usize = 8;

/// A thread's stack: the deepest of ours is a manifest being read.
const STACK_BYTES: usize = 512 * 1024;

/// What a blocked thread (a trial) may delay the end.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Scores telemetry on this device and lets new models in.
#[derive(Parser)]
#[command(
    name = "vedette-agent",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 offline."
)]
struct Arguments {
    /// The configuration.
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "FILE",
        env = "VEDETTE_CONFIG",
        default_value = "/etc/vedette/agent.toml"
    )]
    config: PathBuf,
    /// Print JSON, one object a line for lists.
    #[arg(long, global = true, display_order = 101)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run until SIGTERM or Ctrl-C.
    Run,
    /// Check the configuration and say what it means.
    CheckConfig,
    /// Try a model: only for `run` to call.
    #[command(hide = true)]
    Trial,
    #[command(flatten)]
    Command(Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A trial limits its own memory, and every thread would take from it: nothing may start before.
    if matches!(arguments.verb, Verb::Trial) {
        return vedette_scoring::trial::child_main();
    }
    log_to_stderr();
    match execute(arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("vedette-agent: {error:#}");
            Exit::Failed.into()
        }
    }
}

/// `VEDETTE_LOG` holds levels by room, as `info,vedette_agent::sync=debug`. (No spans or fields to filter by: that would
/// bring a regular expression engine onto the device.)
fn log_to_stderr() {
    let wanted = std::env::var("VEDETTE_LOG").ok();
    let parsed = wanted.as_deref().map(str::parse::<Targets>);
    let (levels, refused) = match parsed {
        None => (default_levels(), None),
        Some(Ok(levels)) => (levels, None),
        Some(Err(error)) => (default_levels(), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour());
    tracing_subscriber::registry().with(lines).with(levels).init();
    if let Some(error) = refused {
        tracing::warn!(%error, "VEDETTE_LOG is not understood; write levels as info,vedette_agent::sync=debug");
    }
}

fn default_levels() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

fn colour() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

fn execute(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { config: file, json, verb } = arguments;
    match verb {
        Verb::Run => match config::load(&file) {
            Ok(config) => start(config).map(|()| Exit::Ok),
            Err(error) => Ok(refuse(&error, &file)),
        },
        Verb::CheckConfig => match config::load(&file) {
            Ok(config) if json => {
                println!("{}", serde_json::to_string(&config.summary())?);
                Ok(Exit::Ok)
            }
            Ok(config) => {
                println!("{}", config.summary());
                Ok(Exit::Ok)
            }
            Err(error) => Ok(refuse(&error, &file)),
        },
        Verb::Command(command) => command::execute(&command, &command::Context { config: file, json }),
        Verb::Trial => Ok(Exit::Usage),
    }
}

/// Says why the configuration is refused.
fn refuse(error: &SettingsError, file: &Path) -> Exit {
    eprintln!("vedette-agent: {error}");
    config::exit_of_refused(file)
}

/// Runs the agent until a signal asks it to stop.
fn start(config: config::Config) -> anyhow::Result<()> {
    // Whoever installed one before us (nobody does) has installed the same.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("couldn't start the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let asked = shutdown.clone();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            asked.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = run(config, shutdown) => ended,
            () = signals => Ok(()),
        }
    });
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}
