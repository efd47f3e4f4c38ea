//! The policy against a journal of the simplest kind: lists of records. Every step is taken exactly as it says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use vedette_protocol::id::BootId;
use vedette_protocol::record::Class;

use super::{Account, Action, CLASSES, ClassLimit, Limits, Moment, Reason, Situation, Step, next, used};

const HEADER_BYTES: u64 = 100;
const HASH_BYTES: u64 = 32;

#[derive(Clone, Debug)]
struct Record {
    sequence: u64,
    class: Class,
    bytes: u64,
    thinned: bool,
}

#[derive(Clone, Debug)]
struct Segment {
    index: u32,
    first: u64,
    records: Vec<Record>,
    newest: Option<Moment>,
}

impl Segment {
    fn account(&self) -> Account {
        let mut account = Account::new(self.index, self.first);
        account.next = self.first + self.records.len() as u64;
        account.newest = self.newest;
        account.file_bytes = HEADER_BYTES;
        for record in &self.records {
            account.file_bytes += if record.thinned { HASH_BYTES } else { record.bytes };
            if !record.thinned {
                account.held[record.class as usize].add(record.sequence, record.bytes);
            }
        }
        account
    }
}

fn boot(byte: u8) -> BootId {
    format!("{byte:02x}").repeat(16).parse().unwrap()
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![2 => Just(Class::Control), 6 => Just(Class::Anomaly), 1 => Just(Class::Clip), 1 => Just(Class::Telemetry)]
}

fn journal() -> impl Strategy<Value = Vec<Segment>> {
    let segment = (prop::collection::vec((class(), 50_u64..2000), 0..12), prop::option::of((1_u8..4, 0_u64..1000)));
    prop::collection::vec(segment, 1..10).prop_map(|segments| {
        let mut sequence = 0;
        let mut journal = Vec::new();
        for (index, (records, newest)) in segments.into_iter().enumerate() {
            let first = sequence;
            let record = |(class, bytes)| {
                sequence += 1;
                Record { sequence: sequence - 1, class, bytes, thinned: false }
            };
            let records = records.into_iter().map(record).collect();
            let newest = newest.map(|(byte, monotonic_ns)| Moment { boot: boot(byte), monotonic_ns });
            journal.push(Segment { index: index as u32, first, records, newest });
        }
        journal
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = (0_u64..20_000, prop::option::of(0_u64..500));
    let limit = limit.prop_map(|(bytes, age)| ClassLimit { bytes, age: age.map(Duration::from_nanos) });
    (prop::array::uniform4(limit), prop_oneof![Just(0), Just(1_000_000)])
        .prop_map(|(classes, free_bytes)| Limits { classes, free_bytes })
}

/// Takes a step; gives the records that are gone.
fn take(journal: &mut Vec<Segment>, step: &Step) -> Vec<Record> {
    match step.action {
        Action::Remove { index } => {
            assert_eq!(journal[0].index, index, "whole segments go oldest first");
            journal.remove(0).records.into_iter().filter(|record| !record.thinned).collect()
        }
        Action::Thin { index, class, below } => {
            let segment = journal.iter_mut().find(|segment| segment.index == index).unwrap();
            let mut gone = Vec::new();
            for record in &mut segment.records {
                if !record.thinned && record.class == class && record.sequence < below {
                    record.thinned = true;
                    gone.push(record.clone());
                }
            }
            gone
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_right_and_there_is_an_end(
        mut journal in journal(), limits in limits(), acked_share in 0_u64..=100, proven_share in 0_u64..=100, free in 0_u64..1_000_000,
    ) {
        let everything: Vec<Record> = journal.iter().flat_map(|segment| segment.records.clone()).collect();
        let total = everything.len() as u64;
        let (acknowledged, proven) = (total * acked_share / 100, total * proven_share / 100);
        let newest = journal.last().unwrap().index;
        let now = Moment { boot: boot(3), monotonic_ns: 1000 };
        let mut gone: BTreeSet<u64> = BTreeSet::new();
        let mut steps = 0;
        loop {
            let accounts: Vec<Account> = journal.iter().map(Segment::account).collect();
            let situation =
                Situation { segments: &accounts, limits: &limits, acknowledged, proven, free_bytes: Some(free), now };
            let Some(step) = next(&situation) else { break };
            steps += 1;
            prop_assert!(steps <= total + 10 * CLASSES as u64, "no end: {step:?}");
            let before = journal.clone();
            let taken = take(&mut journal, &step);
            prop_assert!(journal.last().is_some_and(|segment| segment.index == newest), "the newest segment is gone");
            prop_assert!(!taken.is_empty() || journal.len() < before.len(), "a step without effect: {step:?}");
            let lost: Vec<&Record> = taken.iter().filter(|record| record.sequence >= acknowledged).collect();
            prop_assert_eq!(!lost.is_empty(), step.unacknowledged, "{:?}", step);
            for record in lost {
                prop_assert_eq!(step.reason, Reason::Bytes(record.class));
                let left = before[..before.len() - 1].iter().flat_map(|segment| &segment.records);
                let better = left.filter(|other| !other.thinned && other.sequence < acknowledged && other.class >= record.class);
                prop_assert_eq!(better.count(), 0, "acknowledged records remain");
            }
            for record in &taken {
                prop_assert!(gone.insert(record.sequence), "taken twice");
            }
        }
        // Nothing appears, nothing vanishes uncounted.
        let left = journal.iter().flat_map(|segment| &segment.records).filter(|record| !record.thinned).count();
        prop_assert_eq!(left + gone.len(), everything.len());
        // At the end each class is within its limit, but for what the newest segment holds.
        let accounts: Vec<Account> = journal.iter().map(Segment::account).collect();
        for class in Class::ALL {
            let newest = accounts.last().unwrap().of(class).bytes;
            let older = used(&accounts, class) - newest;
            let limit = limits.classes[class as usize].bytes;
            // A husk behind a segment with records stays until that one goes.
            let hashes = accounts[..accounts.len() - 1].iter().map(Account::overhead).sum::<u64>();
            let bearable = if class == Class::Control { limit.max(hashes) } else { limit };
            prop_assert!(older <= bearable, "{class:?}: {older} of {limit}");
        }
    }
}
