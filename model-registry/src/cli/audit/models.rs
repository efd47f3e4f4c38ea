//! Which models a log names, and whether they were ever published.

use std::collections::BTreeSet;

use vedette_journal::Entry;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::Digest;
use vedette_protocol::record::{Body, ScoredBy, Stage};

use crate::audit::harm::Finding;
use crate::audit::{self, Change, DeviceStep};
use crate::registry::read_record;

/// Which models an audit journal has published, and the first one that it names without.
#[derive(Default)]
pub(super) struct Models {
    published: BTreeSet<Digest>,
    unknown: Option<String>,
    /// There are entries that are none of an audit journal.
    others: bool,
}

impl Models {
    pub(super) fn note(&mut self, entry: &Entry) {
        let decoded = match audit::decode(entry) {
            Ok(decoded) => decoded,
            // A bundle of a device holds other records.
            Err(_) => {
                self.others = true;
                return;
            }
        };
        match &decoded.change {
            Change::Published(published) => drop(self.published.insert(published.manifest)),
            Change::Assigned(assigned) => {
                for slot in &assigned.slots {
                    self.named(entry.sequence, "assigns", &slot.model.to_string(), &slot.manifest);
                }
            }
            Change::Committed(DeviceStep { model, manifest, .. }) => {
                self.named(entry.sequence, "says that a device runs", &model.to_string(), manifest);
            }
            Change::AliasSet { .. }
            | Change::AliasRemoved { .. }
            | Change::Refused(_)
            | Change::KeyPinned { .. }
            | Change::Quarantined(_)
            | Change::Released { .. }
            | Change::RecordsAbsent { .. }
            | Change::TokenCreated { .. }
            | Change::TokenRevoked { .. } => {}
        }
    }

    fn named(&mut self, sequence: u64, what: &str, model: &str, manifest: &Digest) {
        if !self.published.contains(manifest) {
            self.unknown.get_or_insert_with(|| {
                format!("entry {sequence} {what} {model} with manifest {manifest}, which no entry before it published")
            });
        }
    }

    /// Of a part of a log nobody can say what was published before it.
    pub(super) fn findings(self, first_sequence: u64) -> Option<Finding> {
        let unknown = self.unknown.filter(|_| first_sequence == 0 && !self.others);
        unknown.map(|text| Finding::new(Exit::UnknownModel, text))
    }
}

/// The model that a device's record says it ran.
pub(super) fn manifest_of(entry: &Entry) -> Option<Digest> {
    let by = match read_record(&entry.payload).ok()?.body {
        Body::Anomaly(anomaly) => anomaly.by,
        Body::Swap(swap) => swap.by,
        Body::Deploy(step) => return (step.stage == Stage::Live).then_some(step.manifest),
        Body::Boot { .. }
        | Body::Gap { .. }
        | Body::Clock { .. }
        | Body::Config { .. }
        | Body::Drop(_)
        | Body::Verdict { .. }
        | Body::Ack { .. } => return None,
    };
    match by {
        ScoredBy::Model { manifest, .. } => Some(manifest),
        ScoredBy::Baseline { version: _ } => None,
    }
}
