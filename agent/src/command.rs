//! What people type at the device. Reading works while the agent runs (through its socket) and while it is down (from its
//! journal); what changes something needs the agent.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 offline; `journal verify` has more. With `--json` every line is one object.

mod access;
mod anomalies;
mod client;
mod doctor;
mod journal;
mod models;
mod print;
mod status;
mod who;

use std::path::PathBuf;

use clap::Subcommand;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::ModelRef;

use crate::api::answer::Asked;
use crate::config;
use access::{Access, Trouble};

/// The commands that ask or tell a device something.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the agent does and what each stream runs; exit code 5 when it is down.
    Status,
    /// Look for what keeps this device from working.
    Doctor,
    /// The anomalies of this device.
    #[command(subcommand)]
    Anomalies(anomalies::Anomalies),
    /// Which model scored a row or record.
    WhoScored {
        /// An anomaly's record (42, box-17/1/42) or a row (server#1742, box-17/1/server#1742).
        record: Asked,
    },
    /// The models of this device.
    #[command(subcommand)]
    Models(Models),
    /// The journal: this device's durable log. Also on a copied folder or an exported bundle, without a configuration.
    #[command(subcommand)]
    Journal(journal::Journal),
}

/// `models …`
#[derive(Debug, Subcommand)]
pub enum Models {
    /// Which model scored which rows: by stream, oldest first.
    List,
    /// A model's life on this device.
    Show {
        /// NAME@VERSION
        model: ModelRef,
    },
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// The agent's configuration file.
    pub config: PathBuf,
    /// Whether to print JSON, one object a line.
    pub json: bool,
}

/// Runs a command.
///
/// # Errors
/// When it could not be done; what has an exit code of its own is printed here and returned as that.
pub fn execute(command: &Command, context: &Context) -> anyhow::Result<Exit> {
    let out = print::Out::new(context.json);
    if let Command::Journal(verb) = command
        && let Some(place) = verb.place_apart()
    {
        return journal::run(verb, &place, &out).or_else(tell);
    }
    let config = match config::load(&context.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vedette-agent: {error}");
            return Ok(config::exit_of_refused(&context.config));
        }
    };
    let access = Access::new(&config)?;
    let done = match command {
        Command::Status => status::run(&access, &out),
        Command::Doctor => doctor::run(&config, &access, &out),
        Command::Anomalies(verb) => anomalies::run(verb, &access, &out),
        Command::WhoScored { record } => who::run(record, &access, &out),
        Command::Models(Models::List) => models::list(&access, &out),
        Command::Models(Models::Show { model }) => models::show(model, &access, &out),
        Command::Journal(verb) => journal::run(verb, &journal::Place::of_state(access.journal()), &out),
    };
    match done {
        Ok(exit) => Ok(exit),
        Err(trouble) => tell(trouble),
    }
}

/// The exit code of what went wrong, after saying it.
fn tell(trouble: Trouble) -> anyhow::Result<Exit> {
    let exit = match &trouble {
        Trouble::NotFound(_) => Exit::NotFound,
        Trouble::Refused(_) => Exit::Refused,
        Trouble::Down(_) => Exit::Offline,
        Trouble::Usage(_) => Exit::Usage,
        // Whoever read our output has seen enough.
        Trouble::Failed(error) if broken_pipe(error) => return Ok(Exit::Ok),
        Trouble::Failed(_) => Exit::Failed,
    };
    eprintln!("vedette-agent: {trouble:#}");
    Ok(exit)
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
