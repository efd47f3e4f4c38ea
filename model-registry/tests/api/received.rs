//! How far a device's journal has come in, when parts of it come late, out of order, or never.

use serde_json::json;
use vedette_model_registry::registry::{Batch, Ingested, Registry};
use vedette_model_registry::view::{AnomalyQuery, AuditQuery, JournalView};

use crate::devices::{anomaly, baseline, boot, device};
use crate::kit::{START_MS, Scratch};

fn records(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    sequences.into_iter().map(|n| (n, anomaly(START_MS, "server", n, baseline()))).collect()
}

fn send(registry: &Registry, sequences: impl IntoIterator<Item = u64>, span: Option<(u64, u64)>) -> Ingested {
    let batch = Batch { span, ..Batch::new(device("box"), 1, records(sequences)) };
    registry.ingest_group(vec![batch]).unwrap().remove(0)
}

fn journal(registry: &Registry) -> JournalView {
    registry.device(&device("box")).unwrap().journals.remove(0)
}

fn audited(registry: &Registry) -> Vec<serde_json::Value> {
    registry.audit(&AuditQuery::default()).unwrap().items.into_iter().map(|entry| entry.change).collect()
}

#[test]
fn what_is_gone_for_good_is_passed_counted_and_audited() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let done = send(&registry, [0, 1, 5, 9], Some((0, 12)));
    assert_eq!((done.upto, done.absent, done.new), (12, 8, 4));
    assert_eq!(journal(&registry).absent, 8);
    let expected = json!({"kind": "records-absent", "device": "box", "epoch": 1, "from": 2, "below": 12, "count": 8});
    assert_eq!(audited(&registry), [expected]);
    let again = send(&registry, [0, 1, 5, 9], Some((0, 12)));
    assert_eq!((again.upto, again.absent, again.duplicate), (12, 0, 4));
    assert_eq!(audited(&registry).len(), 1, "no change, no entry");
}

#[test]
fn a_device_that_pruned_goes_on_with_a_registry_that_lost_its_store() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    assert_eq!(send(&registry, 0..100, Some((0, 100))).upto, 100);
    drop(registry);
    std::fs::remove_dir_all(scratch.config.state.join("store")).unwrap();
    let registry = scratch.registry();
    assert_eq!(registry.received(&device("box"), 1).unwrap(), 0);
    // The device kept 80.. only; the first thing it hears is that nothing is here.
    assert_eq!(send(&registry, 90..100, None).upto, 0);
    assert_eq!(send(&registry, 80..90, Some((0, 90))).upto, 100);
    assert_eq!(journal(&registry).absent, 80);
    assert_eq!(send(&registry, 100..110, Some((100, 110))).upto, 110);
}

#[test]
fn a_record_that_was_said_to_be_gone_is_taken_when_it_comes_after_all() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    send(&registry, [0, 9], Some((0, 10)));
    send(&registry, [20, 29], Some((20, 30)));
    let done = send(&registry, [3, 25], None);
    assert_eq!((done.new, done.upto), (2, 10));
    let view = journal(&registry);
    assert_eq!((view.absent, view.restored), (14, 2));
    assert_eq!(registry.anomaly(&"box/1/3".parse().unwrap()).unwrap().row, 3);
}

#[test]
fn what_is_held_beyond_a_hole_is_named_and_passed_once_the_hole_is_filled() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let done = send(&registry, (0..5).chain(10..15).chain([20]), None);
    assert_eq!((done.upto, done.held.as_slice()), (5, &[(10, 15), (20, 21)][..]));
    drop(registry);
    let registry = scratch.registry();
    let done = send(&registry, 5..10, None);
    assert_eq!((done.upto, done.held.as_slice()), (15, &[(20, 21)][..]));
    // Nothing of it may be called absent although the span begins far before it.
    let done = send(&registry, [], Some((0, 20)));
    assert_eq!((done.upto, done.absent, done.held.len()), (21, 5, 0));
}

#[test]
fn more_holes_than_are_remembered_cost_no_record() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let odd: Vec<u64> = (0..1000).map(|n| 2 * n + 1).collect();
    let done = send(&registry, odd, None);
    assert_eq!((done.upto, done.new, done.held.len()), (0, 1000, 16));
    let even: Vec<u64> = (0..1000).map(|n| 2 * n).collect();
    let done = send(&registry, even, None);
    assert_eq!((done.upto, done.new), (2000, 1000));
    let done = send(&registry, [], Some((0, 2001)));
    assert_eq!((done.upto, done.absent), (2001, 1));
}

#[test]
fn stored_records_that_no_list_names_are_not_called_absent() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let odd: Vec<u64> = (0..1000).map(|n| 2 * n + 1).collect();
    send(&registry, odd, None);
    let done = send(&registry, [], Some((0, 2000)));
    assert_eq!((done.upto, done.absent), (2000, 1000));
}

#[test]
fn a_span_that_nobody_can_mean_is_not_believed() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let done = send(&registry, [0, 1], Some((0, u64::MAX)));
    assert_eq!((done.upto, done.absent, done.new), (2, 0, 2));
    let last = Batch::new(device("box"), 1, vec![(u64::MAX, boot()), (u64::MAX - 1, boot())]);
    assert_eq!(registry.ingest_group(vec![last]).unwrap()[0].upto, 2);
}

#[test]
fn a_record_that_had_waited_says_so() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let late = Batch { late: true, ..Batch::new(device("box"), 1, records(0..3)) };
    registry.ingest_group(vec![late, Batch::new(device("box"), 1, records(3..5))]).unwrap();
    let page = registry.anomalies(&AnomalyQuery::default()).unwrap();
    let mut said: Vec<(u64, bool)> = page.items.iter().map(|anomaly| (anomaly.row, anomaly.late)).collect();
    said.sort_unstable();
    assert_eq!(said, [(0, true), (1, true), (2, true), (3, false), (4, false)]);
    assert!(page.items.iter().all(|anomaly| anomaly.received == page.items[0].received));
    assert_eq!(journal(&registry).late, 3);
}
