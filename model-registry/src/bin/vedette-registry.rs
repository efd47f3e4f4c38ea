//! `vedette-registry`: the service. Arguments, logging, signals, exit code; the program itself is
//! [`vedette_model_registry::run`].

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use vedette_model_registry::auth::Role;
use vedette_model_registry::clock::Clock;
use vedette_model_registry::config::{self, Config};
use vedette_model_registry::registry::state::State;
use vedette_model_registry::{Addresses, broker};
use vedette_protocol::exit::Exit;

/// The model registry of a fleet: versions, signs and audits models, and says which device runs which.
#[derive(Parser)]
#[command(
    name = "vedette-registry",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 offline."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM or Ctrl-C
    Serve(At),
    /// Make the state folder and the first token of an admin, printed once
    Init(At),
    /// Tokens, while the service is down (use `vedette tokens` while it is up)
    #[command(subcommand)]
    Token(Token),
    /// Try a model: the service calls itself with this
    #[command(hide = true)]
    Trial,
}

#[derive(Args)]
struct At {
    /// The configuration
    #[arg(
        long,
        display_order = 100,
        value_name = "FILE",
        env = "VEDETTE_CONFIG",
        default_value = "/etc/vedette/registry.toml"
    )]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Token {
    /// Make a token and print it, this once
    Create {
        #[command(flatten)]
        at: At,
        /// A name for the audit journal: 1 to 64 of a-z 0-9 . _ -
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long)]
        role: Role,
    },
}

/// The name of the token that `init` makes.
const FIRST_TOKEN: &str = "admin";
/// Who made it, in the audit journal.
const OFFLINE: &str = "offline";

fn main() -> ExitCode {
    match Cli::parse().command {
        // Before any thread: each would count against the limits of the trial.
        Command::Trial => vedette_scoring::trial::child_main(),
        Command::Serve(at) => end(serve(&at)),
        Command::Init(at) => end(create(&at, FIRST_TOKEN, Role::Admin)),
        Command::Token(Token::Create { at, name, role }) => end(create(&at, &name, role)),
    }
}

fn end(done: Result<(), (Exit, anyhow::Error)>) -> ExitCode {
    match done {
        Ok(()) => Exit::Ok.into(),
        Err((exit, error)) => {
            say(&format!("vedette-registry: {error:#}"));
            exit.into()
        }
    }
}

fn serve(at: &At) -> Result<(), (Exit, anyhow::Error)> {
    let config = load(at)?;
    start_log();
    let runtime = tokio::runtime::Runtime::new().context("couldn't start the runtime").map_err(failed)?;
    runtime.block_on(run(config)).map_err(failed)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("couldn't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("couldn't listen for Ctrl-C")?;
    let (ready, addresses) = oneshot::channel();
    let program = vedette_model_registry::run(config, shutdown.clone(), ready);
    let around = async {
        if let Ok(Addresses { http, broker }) = addresses.await {
            say(&format!("listening http://{http} {broker}"));
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        shutdown.cancel();
        // A second time means now.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        ended = program => ended,
        () = around => anyhow::bail!("ended before everything was finished"),
    }
}

fn create(at: &At, name: &str, role: Role) -> Result<(), (Exit, anyhow::Error)> {
    let config = load(at)?;
    let state = State::open(&config.state, Clock::System).map_err(failed)?;
    let made = state.create_token(name, role, OFFLINE).map_err(|error| failed(error.into()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", made.token).context("couldn't print the token; revoke it and make another").map_err(failed)?;
    say(&format!("token `{name}` ({role}), id {}: keep it, it is not shown again", made.view.id));
    Ok(())
}

fn load(at: &At) -> Result<Config, (Exit, anyhow::Error)> {
    config::load(&at.config).map_err(|error| {
        let missing =
            error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        (if missing { Exit::NotFound } else { Exit::Usage }, error)
    })
}

fn failed(error: anyhow::Error) -> (Exit, anyhow::Error) {
    (Exit::Failed, error)
}

/// A line on standard error. If nobody can read it, there is nobody to tell that.
fn say(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or_default();
}

fn start_log() {
    let filter = EnvFilter::try_from_env("VEDETTE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match broker::LOG_DIRECTIVE.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
