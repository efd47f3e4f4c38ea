//! `journal …`: the device's log read from its files, also beside a running agent, on a copied folder, or as a bundle
//! that was exported. Only `repair` writes, and only while nobody else does.

mod export;
mod place;
mod repair;
mod stat;
mod told;
mod verify;
mod witness;

use clap::{Args, Subcommand};
use vedette_protocol::exit::Exit;

use super::access::Trouble;
use super::print::Out;
use place::Folder;
pub(super) use place::Place;

/// `journal …`
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Size, epoch, and how many records of each kind.
    Stat(Stat),
    /// Is the log whole, unaltered, and signed by this device? A folder or a bundle is read from end to end.
    #[command(after_help = verify::EXIT_CODES)]
    Verify(verify::Verify),
    /// Write records into a file that proves itself, or as JSON lines for reading.
    Export(export::Export),
    /// Cut an unfinished write and mend damaged fronts of segments, after copying them; only while the agent is down.
    Repair(Stat),
}

/// Which journal.
#[derive(Debug, Args)]
pub struct Stat {
    #[command(flatten)]
    folder: Folder,
}

impl Journal {
    /// What the arguments name instead of this device's own journal.
    pub(super) fn place_apart(&self) -> Option<Place> {
        match self {
            Self::Stat(stat) | Self::Repair(stat) => stat.folder.place(),
            Self::Verify(verify) => verify.place(),
            Self::Export(export) => export.place(),
        }
    }
}

pub(super) fn run(verb: &Journal, place: &Place, out: &Out) -> Result<Exit, Trouble> {
    match verb {
        Journal::Stat(_) => stat::run(place, out),
        Journal::Verify(verify) => verify.run(place, out),
        Journal::Export(export) => export.run(place, out),
        Journal::Repair(_) => repair::run(place, out),
    }
}
