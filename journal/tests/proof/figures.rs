//! How fast it goes; run by hand: `cargo test --release --test proof figures -- --ignored --nocapture`.

use std::time::Instant;

use vedette_journal::{Journal, Options, Proofs, export_bundle, verify, verify_bundle};

use crate::sample::{EPOCH, ORIGIN, key};

const RECORDS: u64 = 200_000;

#[test]
#[ignore = "a measurement, not a promise"]
fn figures_of_verifying_exporting_and_proving() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path(), Options::new(EPOCH)).unwrap();
    for sequence in 0..RECORDS {
        let mut payload = vec![sequence as u8; 300];
        payload[..8].copy_from_slice(&sequence.to_le_bytes());
        journal.append(3, &payload).unwrap();
        if sequence % 4096 == 0 {
            journal.checkpoint(ORIGIN, &key()).unwrap();
        }
    }
    journal.checkpoint(ORIGIN, &key()).unwrap();
    journal.close().unwrap();
    let timed = |what: &str, count: u64, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        let seconds = begin.elapsed().as_secs_f64();
        println!("{what}: {count} in {seconds:.3} s, {:.0}/s", count as f64 / seconds);
    };
    let public = key().public();
    timed("verify a folder, records", RECORDS, &mut || {
        let report = verify(folder.path(), Some(&public), &mut |_| {}).unwrap();
        assert!(report.is_sound() && report.records == RECORDS);
    });
    let mut bundle = Vec::new();
    timed("export a bundle, records", RECORDS, &mut || {
        export_bundle(folder.path(), 0..RECORDS, &mut bundle).unwrap();
    });
    timed("verify a bundle, records", RECORDS, &mut || {
        assert!(verify_bundle(&mut &*bundle, Some(&public), &mut |_| {}).unwrap().is_sound());
    });
    let proofs = Proofs::open(folder.path()).unwrap();
    timed("inclusion proofs", 20, &mut || {
        (0..20).for_each(|i| assert!(!proofs.inclusion(i * 9_973, RECORDS).unwrap().is_empty()));
    });
    timed("consistency proofs of the newest 5000", 20, &mut || {
        (0..20).for_each(|i| assert!(!proofs.consistency(RECORDS - 5000 + i, RECORDS).unwrap().is_empty()));
    });
}
