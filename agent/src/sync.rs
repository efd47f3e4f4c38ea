//! The talk with the registry over the broker: says what runs, sends the journal, brings assignments and pieces of files.
//!
//! # Constraints
//!
//! - The journal is the outbox: what is sent is read from it, below what is durable, and the cursor moves only when the
//!   registry has said that it has everything below. A PUBACK moves nothing.
//! - Nothing that arrives can keep the device away: garbage is counted and dropped, too large packets cost a subscription.
//! - Each connection is new (see [`crate::mqtt`]); what was under way is sent again, and the registry drops doubles by
//!   the records' ids.
//! - News goes before history: what is journalled while the connection stands overtakes what had waited for it.
//! - A failed read loses nothing: only what the journal itself shows to be rotten, thinned or pruned is given up.
//!
//! # Rooms
//!
//! `step` decides (pure) with `outbox` (which records) and `claims` (which checkpoints), `batch` reads the journal,
//! `report` says how we do, `driver` connects and does what was decided.
//!
//! # Recovery
//!
//! The cursor file may be behind, missing or rotten: then records are sent again. When the journal is a new one (another
//! epoch), it is sent from its beginning.

mod batch;
mod claims;
mod driver;
mod history;
mod outbox;
mod pace;
mod prover;
mod ranges;
mod report;
mod step;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::DeviceId;
use vedette_protocol::message::{ArtifactRequest, Chunk};

use crate::clock::Clock;
use crate::config::{self, Broker};
use crate::deploy;
use crate::recorder::Recorder;
use crate::scorer::Board;
use crate::state::State;

pub(crate) use report::resident_bytes;

/// How the talk stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether there is a connection now.
    pub connected: bool,
    /// The registry has every record of this journal below this sequence.
    pub acked: u64,
    /// Connections made since the start.
    pub connections: u64,
    /// Records that the registry does not have, as far as we know.
    pub waiting: u64,
    /// Batches sent once more because no acknowledgement came.
    pub resent: u64,
    /// Records sent as late since the start, because they had waited for the connection.
    pub late: u64,
    /// Ranges of records that the registry has beyond `acked`.
    pub held_ranges: u64,
    /// Tree size of the last checkpoint that the registry accepted, 0 for none known.
    pub checkpoint: u64,
    /// Why the registry takes nothing from this device.
    pub refused: Option<String>,
    /// Why the talk is not what it should be, `refused` included.
    pub degraded: Option<String>,
    /// Messages that were none of ours.
    pub garbage: u64,
    /// Connections ended by a packet that was too large.
    pub too_large: u64,
    /// Why the last connection ended, or could not be made.
    pub lost: Option<String>,
}

/// The ends of the channels to `deploy`.
#[derive(Debug)]
pub struct Link {
    /// Sealed assignments. When full, one is dropped: the registry repeats it.
    pub assignments: mpsc::Sender<Vec<u8>>,
    /// Pieces of files. When full, one is dropped: deploy asks again.
    pub chunks: mpsc::Sender<Chunk>,
    /// Questions for pieces.
    pub requests: mpsc::Receiver<ArtifactRequest>,
}

/// What sync works with.
#[derive(Debug)]
pub struct Parts {
    /// This device.
    pub device: DeviceId,
    /// Times and sizes.
    pub config: config::Sync,
    /// The broker.
    pub broker: Broker,
    /// Where the cursor is kept.
    pub state: State,
    /// What time it is.
    pub clock: Clock,
    /// Whose journal is sent.
    pub recorder: Recorder,
    /// What each stream runs.
    pub board: Arc<Board>,
    /// How the models' ways stand.
    pub deploy: watch::Receiver<deploy::View>,
}

/// Runs until asked to stop.
pub async fn run(parts: Parts, link: Link, view: watch::Sender<View>, stop: CancellationToken) {
    let mut driver = driver::Driver::new(parts, link, view);
    tokio::select! {
        () = stop.cancelled() => {}
        () = driver.run() => {}
    }
    driver.store_cursor().await;
}
