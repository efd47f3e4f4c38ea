//! `vedette`: the operator's tool.

use std::process::ExitCode;

use clap::Parser as _;
use vedette_model_registry::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
