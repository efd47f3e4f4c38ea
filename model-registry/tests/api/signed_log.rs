//! A device with a real journal that signs what it holds, its clone, and what the registry makes of both.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use vedette_journal::{
    Checkpoint, Frontier, Hash, Journal, Options, Reader, SigningKey, consistency_ranges, leaf, lost_leaf,
    verify_inclusion,
};
use vedette_model_registry::registry::{Batch, Error, Ingested, Registry};
use vedette_model_registry::view::{AssignRequest, AuditQuery};
use vedette_protocol::cbor::Bytes;
use vedette_protocol::id::Digest;
use vedette_protocol::message::Claim;

use crate::devices::{anomaly, baseline, device, gap};
use crate::kit::{START_MS, Scratch};

/// A device: a journal in a folder of its own, a key, and what the registry has told it.
pub(crate) struct Signer {
    folder: TempDir,
    journal: Journal,
    key: SigningKey,
    /// Size of the registry's last accepted checkpoint, as the device believes.
    from: u64,
}

pub(crate) const EPOCH: u64 = 77;

fn open(folder: &Path) -> Journal {
    Journal::open(folder, Options { segment_bytes: 16 << 10, ..Options::new(EPOCH) }).unwrap().0
}

impl Signer {
    pub(crate) fn new() -> Signer {
        let folder = tempfile::tempdir().unwrap();
        Signer { journal: open(folder.path()), folder, key: SigningKey::from_seed(&[3; 32]), from: 0 }
    }

    /// The same device a second time: its folder copied as it is, its key, its memory.
    pub(crate) fn copied(&self) -> Signer {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Signer { journal: open(folder.path()), folder, key: SigningKey::from_seed(&[3; 32]), from: self.from }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn key(&self) -> String {
        self.key.public().to_string()
    }

    /// Finds so many anomalies of a stream.
    pub(crate) fn find(&mut self, stream: &str, count: u64) {
        for _ in 0..count {
            let row = self.journal.next_sequence();
            self.journal.append(3, &anomaly(START_MS, stream, row, baseline())).unwrap();
        }
        self.journal.commit().unwrap();
    }

    pub(crate) fn records(&self, from: u64, below: u64) -> Vec<(u64, Vec<u8>)> {
        let mut reader = Reader::open(self.folder.path(), from).unwrap();
        let mut records = Vec::new();
        while let Some(entry) = reader.next_below(below).unwrap() {
            records.push((entry.sequence, entry.payload));
        }
        records
    }

    fn frontier(&self, from: u64, below: u64) -> Frontier {
        let mut frontier = Frontier::default();
        let records: BTreeMap<u64, Vec<u8>> = self.records(from, below).into_iter().collect();
        for sequence in from..below {
            frontier.push(records.get(&sequence).map_or_else(|| lost_leaf(sequence), |record| leaf(record)));
        }
        frontier
    }

    /// What the device commits itself to at `size`.
    pub(crate) fn claim(&self, size: u64) -> Claim {
        let frontier = self.frontier(0, size);
        let checkpoint = Checkpoint { origin: format!("vedette/box/{EPOCH}"), size, root: frontier.root() };
        let digest = |hash: &Hash| Digest::from_bytes(hash.0);
        let ranges = consistency_ranges(self.from, size).into_iter();
        Claim {
            note: checkpoint.sign(&self.key),
            key: Bytes(self.key.public().0.to_vec()),
            from: self.from,
            proof: ranges.map(|range| digest(&self.frontier(range.start, range.end).root())).collect(),
            frontier: frontier.nodes().iter().map(digest).collect(),
        }
    }

    /// Sends the records from `from` on with a checkpoint of all that there is, and listens.
    pub(crate) fn send(&mut self, registry: &Registry, from: u64) -> Ingested {
        let size = self.journal.committed();
        let batch = Batch {
            span: Some((from, size)),
            claim: Some(self.claim(size)),
            ..Batch::new(device("box"), EPOCH, self.records(from, size))
        };
        let done = registry.ingest_group(vec![batch]).unwrap().remove(0);
        self.from = done.checkpoint;
        done
    }
}

fn audited(registry: &Registry, kind: &str) -> Vec<Value> {
    let page = registry.audit(&AuditQuery { limit: Some(1000), after: None }).unwrap();
    page.items.into_iter().map(|entry| entry.change).filter(|change| change["kind"] == kind).collect()
}

fn why(done: &Ingested) -> &str {
    done.refused.as_deref().unwrap_or("nothing")
}

#[test]
fn a_device_signs_what_it_sent_and_the_registrys_copies_make_the_same_root() {
    let scratch = Scratch::new();
    let mut signer = Signer::new();
    let mut registry = scratch.registry();
    for round in 0..5 {
        signer.find("server", 1 + 37 * round);
        let from = registry.received(&device("box"), EPOCH).unwrap();
        let done = signer.send(&registry, from);
        assert_eq!((done.upto, done.checkpoint, done.refused), (signer.journal.committed(), done.upto, None));
        drop(registry);
        registry = scratch.registry();
    }
    let view = registry.device(&device("box")).unwrap();
    assert_eq!((view.journals[0].checkpoint, view.journals[0].proven), (signer.from, signer.from));
    assert_eq!(view.key.unwrap(), signer.key());
    assert_eq!(audited(&registry, "key-pinned").len(), 1);
    let checkpoints = registry.checkpoints(&device("box")).unwrap();
    let opened = Checkpoint::open(&checkpoints[0].note, &signer.key.public()).unwrap();
    assert_eq!((opened.size, opened.root.to_string()), (signer.from, checkpoints[0].root.clone()));
    assert_eq!((checkpoints[0].own_from, checkpoints[0].own_below), (0, signer.from));
}

#[test]
fn a_clone_that_goes_on_by_itself_is_found_and_both_histories_are_in_the_audit_journal() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut first = Signer::new();
    first.find("server", 50);
    first.send(&registry, 0);
    let mut clone = first.copied();
    first.find("server", 10);
    clone.find("host", 10);
    assert_eq!(first.send(&registry, 50).upto, 60);
    let done = clone.send(&registry, 50);
    assert!(why(&done).contains("two different records as box/77/50"), "{}", why(&done));
    assert_eq!((done.upto, done.new), (60, 0));
    let found = audited(&registry, "quarantined").remove(0);
    assert_eq!((&found["device"], &found["fork"]["way"]), (&"box".into(), &"conflict".into()));
    let (held, offered) = (found["held"]["record"].as_str().unwrap(), found["offered"]["record"].as_str().unwrap());
    assert!(held != offered && held.len() > 100 && offered.len() > 100, "{found}");

    // Neither is taken any more, also not what would fit, also not after a restart; and it is said each time.
    first.find("server", 5);
    drop(registry);
    let registry = scratch.registry();
    let done = first.send(&registry, 60);
    assert!(why(&done).contains("in quarantine since 2026-11-20"), "{}", why(&done));
    assert_eq!((done.upto, done.new, registry.received(&device("box"), EPOCH).unwrap()), (60, 0, 60));
    assert_eq!(audited(&registry, "quarantined").len(), 1, "once is enough");
    assert!(registry.device(&device("box")).unwrap().quarantine.unwrap().reason.contains("two different records"));
}

#[test]
fn a_clone_that_is_ahead_is_found_by_its_first_checkpoint() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut first = Signer::new();
    first.find("server", 50);
    first.send(&registry, 0);
    let mut clone = first.copied();
    first.find("server", 10);
    first.send(&registry, 50);
    clone.find("host", 30);
    // It sends only what nobody has sent before it, and knows how far the other one came.
    clone.from = 60;
    let done = clone.send(&registry, 60);
    assert!(why(&done).contains("does not continue the 60"), "{}", why(&done));
    let found = audited(&registry, "quarantined").remove(0);
    assert_eq!(found["fork"]["way"], "no-continuation");
    let note = |side: &str| {
        let key = found[side]["key"].as_str().unwrap().parse().unwrap();
        Checkpoint::open(found[side]["note"].as_str().unwrap(), &key).unwrap()
    };
    assert_eq!((note("held").size, note("offered").size), (60, 80), "both are signed by the device's key");
    assert_eq!(registry.received(&device("box"), EPOCH).unwrap(), 60);
}

#[test]
fn records_that_are_not_those_of_the_signed_log_are_found() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 20);
    // Somebody between the device and us sends another record in its name first.
    registry.ingest(&device("box"), EPOCH, vec![(3, anomaly(START_MS, "host", 3, baseline()))]).unwrap();
    let batch = Batch {
        claim: Some(signer.claim(20)),
        ..Batch::new(device("box"), EPOCH, signer.records(0, 20).into_iter().filter(|(n, _)| *n != 3).collect())
    };
    let done = registry.ingest_group(vec![batch]).unwrap().remove(0);
    assert!(why(&done).contains("records below 20"), "{}", why(&done));
    let found = audited(&registry, "quarantined").remove(0);
    assert_eq!((&found["fork"]["way"], &found["held"]["size"]), (&"copies-differ".into(), &20.into()));
}

#[test]
fn a_checkpoint_before_its_records_is_held_against_them_when_they_come() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 30);
    let claim = |records: Vec<(u64, Vec<u8>)>, claim: Option<Claim>| {
        let batch = Batch { claim, ..Batch::new(device("box"), EPOCH, records) };
        registry.ingest_group(vec![batch]).unwrap().remove(0)
    };
    let done = claim(signer.records(20, 30), Some(signer.claim(30)));
    assert_eq!((done.upto, done.checkpoint, done.refused.clone()), (0, 30, None));
    assert_eq!(registry.device(&device("box")).unwrap().journals[0].proven, 0);
    let done = claim(signer.records(0, 20), None);
    assert_eq!((done.upto, done.refused), (30, None));
    assert_eq!(registry.device(&device("box")).unwrap().journals[0].proven, 30);
}

#[test]
fn a_released_device_goes_on_and_is_held_against_itself_again() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut first = Signer::new();
    first.find("server", 50);
    first.send(&registry, 0);
    let mut clone = first.copied();
    first.find("server", 10);
    clone.find("host", 30);
    first.send(&registry, 50);
    clone.send(&registry, 50);
    assert!(matches!(registry.release(&device("box"), "  ", "token:test"), Err(Error::BadRequest(_))));
    let view = registry.release(&device("box"), "the old card lies on my desk", "token:test").unwrap();
    assert_eq!((view.quarantine, view.key, view.journals[0].checkpoint), (None, None, 0));
    assert!(matches!(registry.release(&device("box"), "again", "token:test"), Err(Error::Conflict(_))));
    assert_eq!(audited(&registry, "released")[0]["reason"], "the old card lies on my desk");

    // The clone is the one that stays. What it says of 50..60 is not what is here, and that has been accepted.
    let done = clone.send(&registry, 50);
    assert_eq!((done.upto, done.refused.clone(), done.conflicting, done.new), (80, None, 10, 20));
    clone.send(&registry, 80);
    clone.find("host", 10);
    let done = clone.send(&registry, 80);
    assert_eq!((done.upto, done.checkpoint, done.refused), (90, 90, None));
    let view = registry.device(&device("box")).unwrap();
    assert_eq!((view.journals[0].proven, view.key.as_deref()), (90, Some(clone.key().as_str())));
    // And the other one is a clone again.
    first.find("server", 40);
    assert!(why(&first.send(&registry, 60)).contains("two different records as box/77/60"));
}

#[test]
fn a_quarantine_and_a_pinned_key_survive_a_lost_store() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut first = Signer::new();
    first.find("server", 50);
    first.send(&registry, 0);
    let mut clone = first.copied();
    clone.find("host", 10);
    first.find("server", 10);
    first.send(&registry, 50);
    clone.send(&registry, 50);
    drop(registry);
    std::fs::remove_dir_all(scratch.config.state.join("store")).unwrap();
    let registry = scratch.registry();
    assert!(why(&first.send(&registry, 0)).contains("in quarantine"));
    assert_eq!(registry.devices().unwrap().len(), 1);
    registry.release(&device("box"), "looked at it", "token:test").unwrap();
    let done = first.send(&registry, 0);
    assert_eq!((done.upto, done.checkpoint, done.refused), (60, 60, None));
    drop(registry);
    std::fs::remove_dir_all(scratch.config.state.join("store")).unwrap();
    let registry = scratch.registry();
    first.key = SigningKey::from_seed(&[4; 32]);
    first.from = 0;
    assert!(why(&first.send(&registry, 0)).contains("another key than the one pinned"));
}

#[test]
fn a_device_in_quarantine_is_sent_no_assignment_until_it_is_released() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let none: AssignRequest = serde_json::from_value(serde_json::json!({ "slots": {} })).unwrap();
    let mut signer = Signer::new();
    signer.find("server", 5);
    signer.send(&registry, 0);
    registry.ingest(&device("box"), EPOCH, vec![(2, anomaly(START_MS, "host", 3, baseline()))]).unwrap();
    let refused = registry.assign(&device("box"), &none, "token:test").unwrap_err();
    assert!(matches!(&refused, Error::Refused(why) if why.contains("vedette devices release box")), "{refused}");
    assert!(registry.desired_assignment(&device("box")).unwrap().is_none());
    let mut changed = registry.assignments_changed();
    registry.release(&device("box"), "looked at it", "token:test").unwrap();
    assert_eq!(changed.try_recv().unwrap(), device("box"), "what was held back is published");
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_left_aside_and_shown_and_the_records_are_taken() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 5);
    let mut claim = signer.claim(5);
    claim.note = claim.note.replace("vedette/box/77", "vedette/other/77");
    let batch = Batch { claim: Some(claim), ..Batch::new(device("box"), EPOCH, signer.records(0, 5)) };
    let done = registry.ingest_group(vec![batch]).unwrap().remove(0);
    assert_eq!((done.upto, done.checkpoint, done.refused), (5, 0, None));
    let left = registry.device(&device("box")).unwrap().checkpoint_left.unwrap();
    assert!(left.contains("`vedette/other/77`"), "{left}");
    signer.send(&registry, 5);
    assert_eq!(registry.device(&device("box")).unwrap().checkpoint_left, None);
}

#[test]
fn pruned_records_do_not_end_the_comparison_of_those_that_come_after() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 100);
    let batch = Batch {
        span: Some((0, 100)),
        claim: Some(signer.claim(100)),
        ..Batch::new(device("box"), EPOCH, signer.records(40, 100))
    };
    let done = registry.ingest_group(vec![batch]).unwrap().remove(0);
    signer.from = done.checkpoint;
    assert_eq!((done.upto, done.absent, done.checkpoint, done.refused), (100, 40, 100, None));
    assert_eq!(registry.device(&device("box")).unwrap().journals[0].proven, 0);
    signer.find("server", 20);
    assert_eq!(signer.send(&registry, 100).refused, None);
    let checkpoints = registry.checkpoints(&device("box")).unwrap();
    assert_eq!((checkpoints[0].own_from, checkpoints[0].own_below), (100, 120));
}

#[test]
fn a_device_whose_disk_lost_what_it_had_sent_goes_on_when_it_says_so() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 50);
    signer.send(&registry, 0);
    let mut after = signer.copied();
    signer.find("server", 10);
    assert_eq!(registry.ingest(&device("box"), EPOCH, signer.records(50, 60)).unwrap().upto, 60);
    // The disk said that the last ten were durable, and they were not.
    after.journal.skip_to(60).unwrap();
    let mut silent = after.copied();
    after.journal.append(4, &gap(50, 60)).unwrap();
    after.find("server", 5);
    let done = after.send(&registry, 60);
    assert_eq!((done.upto, done.checkpoint, done.refused), (66, 66, None));
    after.find("server", 5);
    assert_eq!(after.send(&registry, 66).refused, None);
    let checkpoints = registry.checkpoints(&device("box")).unwrap();
    assert_eq!((checkpoints[0].own_from, checkpoints[0].own_below), (66, 71));

    // One that says nothing of it is not believed.
    let scratch = Scratch::new();
    let registry = scratch.registry();
    silent.from = 0;
    silent.find("server", 6);
    registry.ingest(&device("box"), EPOCH, signer.records(0, 60)).unwrap();
    assert!(why(&silent.send(&registry, 60)).contains("records below 66"));
}

#[test]
fn a_record_is_proven_by_its_path_and_the_devices_signature() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    for count in [40, 30, 17] {
        let from = signer.journal.committed();
        signer.find("server", count);
        signer.send(&registry, from);
    }
    for sequence in [0, 1, 39, 40, 69, 86] {
        let proof = registry.proof(&format!("box/77/{sequence}").parse().unwrap()).unwrap();
        let checkpoint = Checkpoint::open(&proof.note, &proof.key.parse().unwrap()).unwrap();
        assert_eq!((checkpoint.size, proof.key), (87, signer.key()));
        let path: Vec<Hash> = proof.proof.iter().map(|hash| hash.parse().unwrap()).collect();
        let own = leaf(&signer.records(sequence, sequence + 1)[0].1);
        assert!(verify_inclusion(&own, sequence, 87, &checkpoint.root, &path), "{sequence}");
    }
    let said = registry.who_scored("box/77/86").unwrap().signed.unwrap();
    assert_eq!((said.covered, said.size), (true, 87));
    signer.find("server", 1);
    registry.ingest(&device("box"), EPOCH, signer.records(87, 88)).unwrap();
    assert!(!registry.who_scored("box/77/87").unwrap().signed.unwrap().covered);
    let early = registry.proof(&"box/77/87".parse().unwrap()).unwrap_err();
    assert!(early.to_string().contains("the last one accepted is of 87 records"), "{early}");
}

#[test]
fn a_record_behind_absent_ones_is_proven_too_and_one_before_them_says_what_is_missing() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 45);
    let batch = Batch {
        span: Some((0, 45)),
        claim: Some(signer.claim(45)),
        ..Batch::new(device("box"), EPOCH, signer.records(41, 45))
    };
    signer.from = registry.ingest_group(vec![batch]).unwrap()[0].checkpoint;
    signer.find("server", 33);
    signer.send(&registry, 45);
    for sequence in 45..78 {
        let proof = registry.proof(&format!("box/77/{sequence}").parse().unwrap()).unwrap();
        let path: Vec<Hash> = proof.proof.iter().map(|hash| hash.parse().unwrap()).collect();
        let (leaf, root) = (proof.leaf.parse().unwrap(), proof.root.parse().unwrap());
        assert!(verify_inclusion(&leaf, sequence, 78, &root, &path), "{sequence}");
    }
    let missing = registry.proof(&"box/77/41".parse().unwrap()).unwrap_err();
    assert!(missing.to_string().contains("needs record box/77/40"), "{missing}");
    assert!(registry.proof(&"box/77/44".parse().unwrap()).is_ok(), "all that it needs was signed");
}
