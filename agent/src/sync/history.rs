//! What has been journalled, read for the registry: a reader for each lane, because they stand far apart.

use std::path::Path;

use vedette_protocol::id::DeviceId;
use vedette_protocol::message::JournalBatch;

use super::batch::{Asked, Batch, Batches};
use super::outbox::Lane;

/// What the journal gave.
#[derive(Debug)]
pub(super) enum Read {
    Batch(Box<Batch>),
    /// Nothing now; later perhaps.
    Nothing,
}

/// The journal's readers. They are away while they read.
#[derive(Debug)]
pub(super) struct History {
    live: Option<Batches>,
    backlog: Option<Batches>,
    ahead: Option<Batches>,
    /// Why the journal could not be read when it was tried last.
    trouble: Option<String>,
}

impl History {
    pub(super) fn new(journal: &Path, device: &DeviceId, epoch: u64) -> Self {
        let batches = || Some(Batches::new(journal.to_owned(), device.clone(), epoch));
        Self { live: batches(), backlog: batches(), ahead: batches(), trouble: None }
    }

    /// Why the journal cannot be read, as a sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// The asked records, read on a thread that may block.
    pub(super) async fn read(&mut self, lane: Lane, asked: Asked) -> Read {
        let place = match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        };
        let Some(mut batches) = place.take() else { return Read::Nothing };
        let reading = tokio::task::spawn_blocking(move || {
            let batch = batches.read(asked);
            (batches, batch)
        });
        let (batches, batch) = match reading.await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "reading the journal ended badly");
                return Read::Nothing;
            }
        };
        *place = Some(batches);
        match batch {
            Ok(batch) => {
                if batch.is_some() {
                    self.trouble = None;
                }
                batch.map_or(Read::Nothing, |batch| Read::Batch(Box::new(batch)))
            }
            Err(error) => {
                let why = format!("couldn't read the journal: {error}; it is tried again, nothing is given up");
                if self.trouble.is_none() {
                    tracing::error!(from = asked.from, %error, "couldn't read the journal; trying again");
                }
                self.trouble = Some(why);
                Read::Nothing
            }
        }
    }

    /// The control records among the asked ones, and the first sequence that was not looked at.
    pub(super) async fn control(&mut self, asked: Asked) -> Option<(JournalBatch, u64)> {
        let mut batches = self.ahead.take()?;
        let reading = tokio::task::spawn_blocking(move || {
            let found = batches.control(asked);
            (batches, found)
        });
        let (batches, found) = reading.await.ok()?;
        self.ahead = Some(batches);
        // What cannot be read now is told by the batch that comes to it.
        found.ok()
    }
}
