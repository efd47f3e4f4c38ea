//! After warm-up a row allocates nothing but what the engine allocates inside.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written so; it hands everything to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use vedette_scoring::{Decision, EngineKind, Sample, Session, StreamScorer};

use crate::made::{Shared, server};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that ends has no counter any more, and is none that we look at.
    COUNT.try_with(|c| c.set(c.get() + 1)).unwrap_or_default();
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

const ROWS: usize = 640;

#[test]
fn the_baseline_and_the_features_allocate_nothing_per_row() {
    let (schema, rows) = server();
    let samples: Vec<Sample> = rows.into_iter().take(2000).map(|r| r.sample).collect();
    let mut scorer = StreamScorer::new(schema);
    for (row, sample) in (0..).zip(&samples[..1000]) {
        scorer.score(row, sample);
    }
    let alarmed = |d: &Decision| d.alarm;
    let mut alarms = 0;
    let baseline = allocations(|| {
        for (row, sample) in (1000..).zip(&samples[1000..]) {
            alarms += u32::from(alarmed(scorer.score(row, sample)));
        }
    });
    assert_eq!(baseline, 0);
    assert!(alarms > 0, "an alarm with its digest is among these rows");
}

#[test]
fn around_the_engine_nothing_allocates() {
    let (schema, rows) = server();
    let samples: Vec<Sample> = rows.into_iter().map(|r| r.sample).collect();
    for name in ["pca", "dense_ae", "conv_ae", "lstm_pred", "iforest_dense"] {
        let model = Shared::read(name).load();
        let window = vec![0.5; model.window_numbers()];
        let mut session = Session::new(model.clone());
        for _ in 0..100 {
            session.run(&window);
        }
        let engine = allocations(|| (0..ROWS).for_each(|_| assert!(session.run(&window)[0].is_finite())));

        let mut scorer = StreamScorer::new(schema.clone());
        scorer.swap(Some(model.clone())).unwrap();
        for (row, sample) in (0..).zip(&samples[..ROWS]) {
            scorer.score(row, sample);
        }
        let path = allocations(|| {
            for (row, sample) in (ROWS as u64..).zip(&samples[ROWS..2 * ROWS]) {
                assert!(scorer.score(row, sample).by_model());
            }
        });

        let mut decisions = Vec::with_capacity(3 * ROWS);
        scorer.score_batch(0, &samples[..ROWS], &mut decisions);
        let batch = allocations(|| scorer.score_batch(0, &samples[ROWS..2 * ROWS], &mut decisions));
        let per_row = |n: u64| n as f64 / ROWS as f64;
        println!(
            "{name}: {} a row in the engine, {} on the whole path, {} in batches",
            per_row(engine),
            per_row(path),
            per_row(batch)
        );
        assert_eq!(engine, path, "{name}");
        assert!(model.engine() != EngineKind::Native || engine == 0, "{name}: the native engine allocates");
        assert!(batch <= path, "{name}");
    }
}
