//! The operator's tool `vedette`: every command in one table and one `match`.
//!
//! A command asks, then prints; rendering is pure (values in, text out) and stands beside the command. Local verbs (`keys`,
//! `backtest`) need no registry.

pub mod anomalies;
pub mod audit;
pub mod backtest;
pub mod client;
pub mod devices;
pub mod fault;
pub mod keys;
pub mod models;
pub mod progress;
pub mod push;
pub mod screen;
pub mod tokens;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use vedette_protocol::exit::Exit;

use self::{
    client::Client,
    fault::Fault,
    screen::{Colour, Format},
};

/// Models, devices and anomalies of a Vedette registry, from the command line.
#[derive(Debug, Parser)]
#[command(
    name = "vedette",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 offline; `audit verify` has more."
)]
pub struct Cli {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object a line instead of text
    #[arg(long, global = true, display_order = 103)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Which registry, as whom.
#[derive(Debug, Args)]
struct Server {
    /// Where the registry answers
    #[arg(
        long,
        global = true,
        display_order = 100,
        env = "VEDETTE_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: String,
    /// The bearer token (visible to other users in the process list: better a file or the environment)
    #[arg(
        long,
        global = true,
        display_order = 101,
        env = "VEDETTE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// A file with the bearer token
    #[arg(long, global = true, display_order = 102, env = "VEDETTE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Signing keys: who says what is genuine (models) and who says what runs (fleet); local
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Sign a model version and send it to the registry
    Push(push::Push),
    /// Models, their versions and aliases
    #[command(subcommand)]
    Models(models::Models),
    /// Devices: what they run, and what they should run
    #[command(subcommand)]
    Devices(devices::Devices),
    /// Anomalies of the whole fleet
    #[command(subcommand)]
    Anomalies(anomalies::Anomalies),
    /// Which model scored a record (DEVICE/EPOCH/SEQUENCE) or row (DEVICE/EPOCH/STREAM#ROW)
    WhoScored(anomalies::WhoScoredArgs),
    /// The registry's audit journal
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Access tokens
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Run a model (or the built-in baseline) over a file exactly as a device would; local
    Backtest(Box<backtest::Backtest>),
    /// Try a model: `backtest` calls its own program with this
    #[command(hide = true)]
    Trial,
}

/// Where commands print and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Text or JSON.
    pub format: Format,
    /// Whether text is coloured.
    pub colour: Colour,
}

/// Runs a parsed command to its end and says how it ended; the fault's message goes to standard error.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // Before any thread: each would count against the limits of the trial.
    if matches!(cli.command, Command::Trial) {
        return vedette_scoring::trial::child_main();
    }
    let Err(fault) = dispatch(cli) else { return Exit::Ok.into() };
    if !fault.message.is_empty() {
        eprintln!("vedette: {fault}");
    }
    fault.exit.into()
}

fn dispatch(cli: Cli) -> Result<(), Fault> {
    let format = if cli.json { Format::Json } else { Format::Text };
    let screen = Screen { format, colour: Colour::detect() };
    match cli.command {
        Command::Trial => Ok(()),
        Command::Keys(verb) => keys::run(verb, screen),
        Command::Backtest(args) => backtest::run(&args, screen),
        Command::Push(args) => online(cli.server, async |client| push::run(args, &client, screen).await),
        Command::Models(verb) => online(cli.server, async |client| models::run(verb, &client, screen).await),
        Command::Devices(verb) => online(cli.server, async |client| devices::run(verb, &client, screen).await),
        Command::Anomalies(verb) => online(cli.server, async |client| anomalies::run(verb, &client, screen).await),
        Command::WhoScored(args) => {
            online(cli.server, async |client| anomalies::who_scored(args, &client, screen).await)
        }
        Command::Audit(verb) if verb.is_local() => audit::run_local(verb, screen),
        Command::Audit(verb) => online(cli.server, async |client| audit::run(verb, &client, screen).await),
        Command::Tokens(verb) => online(cli.server, async |client| tokens::run(verb, &client, screen).await),
    }
}

/// Runs a verb that needs the registry.
fn online(server: Server, verb: impl AsyncFnOnce(Client) -> Result<(), Fault>) -> Result<(), Fault> {
    let client = Client::new(&server.url, token(server.token, server.token_file)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("couldn't start: {error}")))?;
    runtime.block_on(verb(client))
}

fn token(text: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, Fault> {
    // An empty variable is one that is not set.
    let text = text.filter(|text| !text.is_empty());
    let (text, place) = match (text, file.filter(|file| !file.as_os_str().is_empty())) {
        (Some(text), _) => (text, "--token or VEDETTE_TOKEN".to_owned()),
        (None, Some(path)) => (
            std::fs::read_to_string(&path).map_err(|error| Fault::file("read the token file", &path, &error))?,
            path.display().to_string(),
        ),
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Fault::usage(format!(
            "couldn't use the token in {place}: it is empty or holds more than a token; `vedette tokens create` prints one"
        )));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    #[test]
    fn the_table_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_design_is_understood() {
        let lines = [
            "keys init --dir keys",
            "keys list --dir keys",
            "keys show models --dir keys",
            "push m.onnx --manifest m.toml --key keys/models.key",
            "models list",
            "models show pump",
            "models show pump@2 --json",
            "models diff pump 1 2",
            "models alias pump champion 2",
            "models alias pump champion --delete",
            "devices list",
            "devices show box-1",
            "devices at box-1 2026-01-01T00:00:00Z",
            "devices assign box-1 server=pump@2 host=cpu@champion",
            "anomalies list --device box-1 --stream server --model pump@2 --since 2026-01-01T00:00:00Z --limit 5",
            "anomalies show box-1/1/42",
            "who-scored box-1/1/server#1742",
            "audit list --after 3",
            "audit export",
            "audit list --folder state",
            "audit export --folder state/audit --bundle audit.bundle",
            "audit verify",
            "audit verify --checkpoint old.note --save new.note",
            "audit verify --folder state --key audit.key --checkpoint old.note --json",
            "audit verify audit.bundle --key K",
            "audit verify box.bundle --device box-1",
            "devices release box-1 --reason cloned",
            "tokens create --name ci --role publisher",
            "tokens list",
            "tokens revoke 0123456789abcdef",
            "backtest m.onnx --manifest m.toml --data d.csv.gz --label label --scores out.csv --json",
            "backtest --baseline --data d.csv --windows w.csv",
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(std::iter::once("vedette").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_usage() {
        for line in [
            "devices assign box-1",
            "devices release box-1",
            "audit export --bundle f",
            "audit verify b --folder f",
            "models diff pump 1",
            "devices assign BOX server=pump@2",
            "backtest --data d.csv",
        ] {
            let error = Cli::try_parse_from(std::iter::once("vedette").chain(line.split(' '))).unwrap_err();
            assert!(!matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_token_is_trimmed_and_an_empty_one_refused() {
        assert_eq!(token(Some(" abc\n".to_owned()), None).unwrap().as_deref(), Some("abc"));
        assert_eq!(token(Some(" \n".to_owned()), None).unwrap_err().exit, Exit::Usage);
        assert_eq!(token(Some(String::new()), None).unwrap(), None);
        assert_eq!(token(None, Some("/nowhere/token".into())).unwrap_err().exit, Exit::NotFound);
    }
}
