//! Opening a journal takes the memory of one record and of a list of segments, however large the journal is.
//!
//! A binary of its own with one test, because it counts what the whole process allocates.
#![allow(clippy::unwrap_used)]
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written so; it hands everything to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use vedette_journal::{Journal, Options, Reader, stat};

/// Bytes alive now, and the most since the last look.
static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn add(bytes: usize) {
        let alive = ALIVE.fetch_add(bytes, Ordering::SeqCst) + bytes;
        MOST.fetch_max(alive, Ordering::SeqCst);
    }
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// Old and new are counted both, as if each growth had to move.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::add(size);
        ALIVE.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes alive at once while `work` runs, beyond those before.
fn most_during<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALIVE.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    drop(work());
    MOST.load(Ordering::SeqCst) - before
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, ..Options::new(1) }
}

/// A journal of `records` with 1000 bytes each.
fn fill(folder: &Path, segment_bytes: u64, records: u32) {
    let (mut journal, _) = Journal::open(folder, options(segment_bytes)).unwrap();
    for n in 0..records {
        journal.append(1, &[n as u8; 1000]).unwrap();
        if n % 256 == 255 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
}

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

#[test]
fn opening_takes_the_same_memory_whatever_the_size_and_the_damage() {
    // (bytes of a segment, records): one small segment; one of 32 MiB; 256 segments.
    for (segment_bytes, records) in [(1 << 20, 200), (32 << 20, 30_000), (64 << 10, 14_000)] {
        let folder = scratch();
        fill(folder.path(), segment_bytes, records);
        for damaged in [false, true] {
            if damaged {
                let mut paths: Vec<_> =
                    std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
                paths.retain(|path| path.extension().is_some());
                paths.sort();
                let newest = paths.last().unwrap();
                let mut bytes = std::fs::read(newest).unwrap();
                bytes[128..4096].fill(7);
                // In each third record a bit, so that stretches, lost leaves and an unknown tree come together.
                bytes.iter_mut().skip(4224 + 500).step_by(3072).for_each(|byte| *byte ^= 1);
                std::fs::write(newest, bytes).unwrap();
            }
            let open = most_during(|| Journal::open(folder.path(), options(segment_bytes)).unwrap());
            let segments = stat(folder.path()).unwrap().segments;
            // Blocks of 64 KiB for searching and for writing the last group again, one record, one front, one list of
            // names (the only part that grows, by less than 300 bytes a segment while it is sorted).
            let allowed = (160 << 10) + 300 * segments;
            assert!(
                open <= allowed,
                "{segments} segments of {segment_bytes} bytes, damaged: {damaged}: {open} > {allowed}"
            );
            println!("{records} records in {segments} segments, damaged: {damaged}: {} KiB", open >> 10);
            let read = most_during(|| {
                let mut reader = Reader::open(folder.path(), 0).unwrap();
                while reader.next().unwrap().is_some() {}
            });
            assert!(read <= allowed, "reading: {read} > {allowed}");
        }
    }
}
