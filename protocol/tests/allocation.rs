//! Reading `n` bytes allocates at most `ALLOCATION_FACTOR * n + ALLOCATION_BASE_BYTES`, whatever they say.
//!
//! A binary of its own with one test, because it counts what the whole process allocates.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written so; it hands everything to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use vedette_protocol::cbor::{self, ALLOCATION_BASE_BYTES, ALLOCATION_FACTOR, from_canonical};
use vedette_protocol::message::{ArtifactRequest, BatchAck, Birth, Chunk, JournalBatch, Message, Status};
use vedette_protocol::{Assignment, Lineage, Manifest, Record, SelfTest, envelope};

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

type Read = fn(&[u8]) -> bool;

const READERS: [(&str, Read); 13] = [
    ("birth", |bytes| Birth::decode(bytes).is_ok()),
    ("status", |bytes| Status::decode(bytes).is_ok()),
    ("journal batch", |bytes| JournalBatch::decode(bytes).is_ok()),
    ("batch ack", |bytes| BatchAck::decode(bytes).is_ok()),
    ("artifact request", |bytes| ArtifactRequest::decode(bytes).is_ok()),
    ("chunk", |bytes| Chunk::decode(bytes).is_ok()),
    ("assignment", |bytes| from_canonical::<Assignment>(bytes).is_ok()),
    ("manifest", |bytes| from_canonical::<Manifest>(bytes).is_ok()),
    ("selftest", |bytes| from_canonical::<SelfTest>(bytes).is_ok()),
    ("lineage", |bytes| from_canonical::<Lineage>(bytes).is_ok()),
    ("record", |bytes| from_canonical::<Record>(bytes).is_ok()),
    ("envelope", |bytes| envelope::peek::<Manifest>(bytes).is_ok()),
    ("anything", |bytes| cbor::decode::<cbor::Value>(bytes, bytes.len()).is_ok()),
];

/// `head` as often as fits, then what makes it whole: an array of as many items as there are.
fn array_of(item: &[u8], length: usize) -> Vec<u8> {
    let count = ((length.saturating_sub(5)) / item.len()) as u32;
    let mut bytes = vec![0x9a];
    bytes.extend(count.to_be_bytes());
    bytes.extend(item.repeat(count as usize));
    bytes
}

fn map_of(entry: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = array_of(entry, length);
    bytes[0] = 0xba;
    bytes
}

/// `{key: inner}` with a text key.
fn field(before: &[u8], key: &str, inner: &[u8]) -> Vec<u8> {
    let mut bytes = before.to_vec();
    bytes.push(0x60 + key.len() as u8);
    bytes.extend(key.as_bytes());
    bytes.extend(inner);
    bytes
}

fn hostile(length: usize) -> Vec<Vec<u8>> {
    let deep = [[0x81; 14].as_slice(), &[0x00]].concat();
    let deep_maps = [[0xa1, 0x00].repeat(14).as_slice(), &[0x00]].concat();
    let mut inputs = vec![
        array_of(&[0x00], length),
        array_of(&[0xf6], length),
        array_of(&[0x80], length),
        array_of(&[0x81, 0x80], length),
        array_of(&[0xa0], length),
        array_of(&[0x60], length),
        array_of(&[0x61, b'a'], length),
        array_of(&deep, length),
        array_of(&deep_maps, length),
        map_of(&[0x00, 0x00], length),
        map_of(&[0x60, 0x80], length),
        vec![0x81; length],
        vec![0xa1; length],
        [&[0x9b, 0, 0, 0, 0x10, 0, 0, 0, 0][..], &vec![0x00; length]].concat(),
        [&[0x5b, 0, 0, 0, 0x10, 0, 0, 0, 0][..], &vec![0x00; length]].concat(),
        [&[0x7a][..], &(length as u32).to_be_bytes(), &vec![b'a'; length]].concat(),
        [&[0x5a][..], &(length as u32).to_be_bytes(), &vec![0xff; length]].concat(),
    ];
    // The same where a reader looks for its own vectors, texts and bytes.
    for key in ["streams", "records", "bytes", "degraded", "agent_version", "unknown"] {
        inputs.push(field(&[0xa1], key, &array_of(&[0xf6], length)));
        inputs.push(field(&[0xa1], key, &array_of(&[0x82, 0x00, 0x40], length)));
        inputs.push(field(&[0xa1], key, &[&[0x7a][..], &(length as u32).to_be_bytes(), &vec![b'a'; length]].concat()));
    }
    for key in 0..12 {
        inputs.push([&[0xa1, key][..], &array_of(&[0x00], length)].concat());
        inputs.push([&[0xa2, 0x01, 0x00, key][..], &array_of(&[0xa0], length)].concat());
    }
    // A selftest that is what it should be: tolerance, one vector, its window as long as it gets.
    let window = array_of(&[0x00], length);
    inputs.push([&[0xa2, 0x01, 0x01, 0x02, 0x81, 0xa2, 0x01][..], &window, &[0x02, 0x00]].concat());
    inputs
}

/// Counts that the input does not hold, where a reader would reserve memory for them before it has seen one.
fn empty_promises() -> Vec<Vec<u8>> {
    let huge = [0x1a, 0x00, 0xff, 0xff, 0xff];
    let promise = |major: u8| [&[major << 5 | 0x1a][..], &huge[1..]].concat();
    let keys = ["streams", "records", "bytes", "device", "unknown"];
    let pairs = keys.into_iter().flat_map(|key| [2, 3, 4, 5].map(|major| field(&[0xa1], key, &promise(major))));
    pairs.collect()
}

/// The most that `read` has alive while it reads `bytes`.
fn most_alive(read: Read, bytes: &[u8]) -> usize {
    let before = ALIVE.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    read(bytes);
    MOST.load(Ordering::SeqCst) - before
}

#[test]
fn reading_allocates_no_more_than_the_stated_limit() {
    let mut worst = (0.0, String::new());
    for length in [0, 64, 1000, 4000, 16_000, 65_000, 260_000] {
        for (index, bytes) in hostile(length).iter().enumerate() {
            for (name, read) in READERS {
                let most = most_alive(read, bytes);
                let limit = ALLOCATION_FACTOR * bytes.len() + ALLOCATION_BASE_BYTES;
                assert!(
                    most <= limit,
                    "{name}, input {index} of {} bytes: {most} bytes, more than {limit}",
                    bytes.len()
                );
                let factor = most as f64 / bytes.len().max(1) as f64;
                if bytes.len() > 10_000 && factor > worst.0 {
                    worst = (factor, format!("{name}, input {index} of {} bytes: {most} bytes", bytes.len()));
                }
            }
        }
    }
    for (name, read) in READERS {
        for bytes in empty_promises() {
            let most = most_alive(read, &bytes);
            assert!(most < 8192, "{name}: {most} bytes for a promise of {bytes:02x?}");
        }
    }
    println!("most for a byte: {:.1} ({})", worst.0, worst.1);
    assert!(worst.0 > 20.0, "the count does not work: {worst:?}");
}
