//! The main job, once through, on real input: `cargo run --release --bin demo`.
//!
//! Starts the real registry and a real agent in a scratch folder, lets the agent score a server's telemetry, replaces the
//! model that went stale, and asks both ends what happened. Everything it types is what people type.

mod outcome;
mod show;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Vedette's main job on real telemetry: a model is shipped, goes stale, is replaced, and the log answers for both.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Leave when the story is told, instead of staying up until Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// Write the closing table as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Work in this folder and leave it behind (default: a temporary one, removed at the end).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match story::tell(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
