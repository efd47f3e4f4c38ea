//! The state that the verbs load and save: one sled tree, written in atomic batches.
//!
//! # Constraints
//!
//! - `sled::Db::flush` is not power-safe on Linux (it asks for `sync_file_range`, which makes neither the file's size nor
//!   the drive's cache durable; in 20 simulated power cuts 8 lost acknowledged records and 5 left a store that would not open).
//!   The rule that held in 80 of 80 cuts: after every group of writes `flush`, then `sync_data` of sled's own file,
//!   kept open for that; and after the first open, fsync of the file, its folder and the folder above.
//! - sled answers some damage with an error, some with a panic and some in silence. So each batch carries a sum over
//!   everything that is in the store after it, and at start the whole store is walked inside `catch_unwind` and held against
//!   that sum: what opens is a state that once was, whole.
//! - sled's memory follows its contents; what is large lies in files (see [`crate::blobs`]).
//!
//! # Layout
//!
//! One tree, so that one batch is one atomic write over everything: see [`keys`]. Writes come one after the other (the
//! caller holds its turn), which the sum relies on.
//!
//! # Recovery
//!
//! A damaged store is moved aside (`store.damaged-<n>`) and an empty one begun. The audit journal brings back every
//! change of ours; the devices' records come again from the devices, because the acknowledgements start at zero again.
//! A store that opens as it was some time ago (its end was lost) is healed by the same two. An error of the disk (full, not
//! allowed) is not damage: it is reported, and nothing is moved.

pub mod keys;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::IVec;
use vedette_protocol::id::Hasher;

/// sled's page cache. 16 MB hold the inner pages of some million keys; a larger one only costs memory.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// The layout of [`keys`].
const FORMAT: u64 = 1;
/// Names tried for a damaged store before giving up: each is one human who has not looked at the last ones.
const DAMAGED_MAX: u32 = 100;

/// sled lets go of its file a moment after it was dropped (its own threads still hold it). Another process cannot be the
/// one that holds it: the audit journal's lock was taken before.
/// Polled for 5 seconds.
const UNLOCK_POLLS: u32 = 500;
const UNLOCK_POLL: Duration = Duration::from_millis(10);

/// The open store.
pub struct Store {
    db: sled::Db,
    file: File,
    sum: Mutex<Sum>,
}

/// Says what is in the store, whatever the order: how many keys, and the sum of 64 bits of the hashes of key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    keys: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_add(1);
        self.hashes = self.hashes.wrapping_add(hash(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_sub(1);
        self.hashes = self.hashes.wrapping_sub(hash(key, value));
    }

    fn bytes(self) -> Vec<u8> {
        [self.keys.to_be_bytes(), self.hashes.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Sum> {
        let (hashes, rest) = keys::take_number(bytes)?;
        let (keys, _) = keys::take_number(rest)?;
        Some(Sum { keys, hashes })
    }
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let digest = hasher.finish();
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// What opening found.
#[derive(Debug, Default)]
pub struct Found {
    /// Journal records of devices in the store.
    pub records: u64,
    /// Devices in the store.
    pub devices: u64,
    /// Where a damaged store was moved to.
    pub moved_aside: Option<PathBuf>,
}

/// Writes that take effect together or not at all. A later write of a key replaces an earlier one.
#[derive(Debug, Default)]
pub struct Write {
    values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Write {
    /// Sets a key.
    pub fn set(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.values.insert(key.into(), Some(value.into()));
    }

    /// Sets a key to a JSON document.
    ///
    /// # Errors
    ///
    /// The value has no JSON form.
    pub fn set_json<T: Serialize>(&mut self, key: impl Into<Vec<u8>>, value: &T) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(value).context("couldn't encode a value for the store")?;
        self.set(key, bytes);
        Ok(())
    }

    /// What this key is being set to; `None` when nothing is, or when it is being removed.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key)?.as_deref()
    }

    /// Removes a key.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.values.insert(key.into(), None);
    }
}

enum Unopened {
    Damaged(String),
    Failed(anyhow::Error),
}

impl Store {
    /// Opens the store in `path`, makes it if it is not there, and moves a damaged one aside.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, read or written, or the layout is of a newer program.
    pub fn open(path: &Path) -> anyhow::Result<(Store, Found)> {
        match open_and_walk(path) {
            Ok(opened) => Ok(opened),
            Err(Unopened::Failed(error)) => Err(error),
            Err(Unopened::Damaged(what)) => {
                let aside = move_aside(path)?;
                tracing::error!(
                    store = %path.display(), moved_to = %aside.display(), what,
                    "the store is damaged and was moved aside; it is rebuilt from the audit journal, and devices send their records again"
                );
                let (store, mut found) = open_and_walk(path).map_err(|again| match again {
                    Unopened::Failed(error) => error,
                    Unopened::Damaged(what) => anyhow!("couldn't begin a new store in {}: {what}", path.display()),
                })?;
                found.moved_aside = Some(aside);
                Ok((store, found))
            }
        }
    }

    /// The bytes under a key.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<IVec>, sled::Error> {
        self.db.get(key)
    }

    /// The JSON document under a key.
    ///
    /// # Errors
    ///
    /// The store could not be read, or the document is not of this shape.
    pub fn get_json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> anyhow::Result<Option<T>> {
        match self.db.get(key).context("couldn't read the store")? {
            Some(bytes) => Ok(Some(from_json(&bytes)?)),
            None => Ok(None),
        }
    }

    /// The big-endian number under a key.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn get_number(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, sled::Error> {
        let value = self.db.get(key)?;
        Ok(value.and_then(|bytes| keys::take_number(&bytes).map(|(number, _)| number)))
    }

    /// Keys and values under a prefix, ascending; `.rev()` for descending.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> sled::Iter {
        self.db.scan_prefix(prefix)
    }

    /// Keys and values in `from..to`, ascending; `.rev()` for descending.
    #[must_use]
    pub fn range(&self, from: Vec<u8>, to: Vec<u8>) -> sled::Iter {
        // sled panics on a range that is turned round; an empty one is what is meant.
        if from > to { self.db.range(to.clone()..to) } else { self.db.range(from..to) }
    }

    /// Applies all of `write` or nothing; durable after [`Store::sync`].
    ///
    /// # Errors
    ///
    /// The store could not be written.
    pub fn write(&self, write: Write) -> Result<(), sled::Error> {
        let mut current = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = *current;
        let mut batch = sled::Batch::default();
        for (key, value) in write.values {
            if let Some(before) = self.db.get(&key)? {
                sum.remove(&key, &before);
            }
            match value {
                Some(value) => {
                    sum.add(&key, &value);
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        batch.insert(keys::SUM, sum.bytes());
        self.db.apply_batch(batch)?;
        *current = sum;
        Ok(())
    }

    /// Makes every write before this call power-safe.
    ///
    /// # Errors
    ///
    /// The disk refused; nothing since the last `sync` may be called durable.
    pub fn sync(&self) -> anyhow::Result<()> {
        self.db.flush().context("couldn't flush the store")?;
        self.file.sync_data().context("couldn't sync the store's file")
    }
}

/// Reads a JSON document from the store.
///
/// # Errors
///
/// The document is not of this shape.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).context("couldn't read a value of the store")
}

fn open_and_walk(path: &Path) -> Result<(Store, Found), Unopened> {
    let was_there = std::fs::metadata(path.join("db")).is_ok_and(|file| file.len() > 0);
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<(sled::Db, Found, Sum), sled::Error> {
        let db = open_unlocked(path)?;
        let (found, sum) = walk(&db)?;
        Ok((db, found, sum))
    }));
    let (db, found, sum) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(unopened(path, error)),
        Err(_) => return Err(Unopened::Damaged("sled panicked while reading it".to_owned())),
    };
    check_format(&db, was_there)?;
    check_sum(&db, sum)?;
    let file = sync_first(path).map_err(Unopened::Failed)?;
    Ok((Store { db, file, sum: Mutex::new(sum) }, found))
}

fn open_unlocked(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None);
    for _ in 0..UNLOCK_POLLS {
        match config.open() {
            Err(sled::Error::Io(error)) if is_lock(&error) => std::thread::sleep(UNLOCK_POLL),
            opened => return opened,
        }
    }
    config.open()
}

/// sled reports its lock only in words.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// Reads every page once: damage shows here and not in the middle of a verb; and the limits' counters start right.
fn walk(db: &sled::Db) -> Result<(Found, Sum), sled::Error> {
    let mut found = Found::default();
    let mut sum = Sum::default();
    for entry in db.iter() {
        let (key, value) = entry?;
        if key == keys::FORMAT || key == keys::SUM {
            continue;
        }
        sum.add(&key, &value);
        match key.first() {
            Some(b'r') => found.records += 1,
            Some(b'D') => found.devices += 1,
            Some(_) | None => {}
        }
    }
    Ok((found, sum))
}

fn check_sum(db: &sled::Db, sum: Sum) -> Result<(), Unopened> {
    let stored = db.get(keys::SUM).map_err(|error| Unopened::Failed(error.into()))?;
    // Before the first write there is none, and nothing to sum up.
    let stored = stored.as_deref().map_or(Some(Sum::default()), Sum::read);
    if stored == Some(sum) {
        return Ok(());
    }
    Err(Unopened::Damaged(format!(
        "it has a gap: {} keys are there, and its sum tells of {}",
        sum.keys,
        stored.unwrap_or_default().keys
    )))
}

fn unopened(path: &Path, error: sled::Error) -> Unopened {
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::Unsupported(_) => {
            Unopened::Damaged(error.to_string())
        }
        sled::Error::Io(_) | sled::Error::CollectionNotFound(_) => {
            Unopened::Failed(anyhow::Error::new(error).context(format!("couldn't open the store {}", path.display())))
        }
    }
}

fn check_format(db: &sled::Db, was_there: bool) -> Result<(), Unopened> {
    let stored = db.get(keys::FORMAT).map_err(|error| Unopened::Failed(error.into()))?;
    let stored = stored.as_deref().and_then(keys::take_number).map(|(format, _)| format);
    match stored {
        Some(FORMAT) => Ok(()),
        None if was_there => Err(Unopened::Damaged("its beginning is gone".to_owned())),
        None => {
            let set = db.insert(keys::FORMAT, FORMAT.to_be_bytes().to_vec());
            set.map(drop).map_err(|error| Unopened::Failed(error.into()))
        }
        Some(other) => Err(Unopened::Failed(anyhow!(
            "the store has layout {other}, and this program knows {FORMAT}: run the program that wrote it"
        ))),
    }
}

fn sync_first(path: &Path) -> anyhow::Result<File> {
    let name = path.join("db");
    let file = File::open(&name).with_context(|| format!("couldn't open {} to sync it", name.display()))?;
    file.sync_all().with_context(|| format!("couldn't sync {}", name.display()))?;
    for folder in [Some(path), path.parent()].into_iter().flatten() {
        sync_folder(folder)?;
    }
    Ok(file)
}

/// Makes the names in a folder durable.
///
/// # Errors
///
/// The folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let opened = File::open(folder).with_context(|| format!("couldn't open the folder {}", folder.display()))?;
    opened.sync_all().with_context(|| format!("couldn't sync the folder {}", folder.display()))
}

fn move_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let free = (1..=DAMAGED_MAX)
        .map(|n| path.with_extension(format!("damaged-{n}")))
        .find(|aside| !aside.exists())
        .with_context(|| {
            format!("couldn't move the damaged store {} aside: {DAMAGED_MAX} older ones lie there", path.display())
        })?;
    std::fs::rename(path, &free)
        .with_context(|| format!("couldn't move the damaged store {} to {}", path.display(), free.display()))?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn store(folder: &Path) -> Store {
        Store::open(&folder.join("store")).unwrap().0
    }

    #[test]
    fn what_was_written_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let opened = store(folder.path());
        let mut write = Write::default();
        write.set(&b"ra"[..], &b"1"[..]);
        write.set(&b"rb"[..], &b"2"[..]);
        write.remove(&b"ra"[..]);
        opened.write(write).unwrap();
        opened.sync().unwrap();
        drop(opened);
        let (opened, found) = Store::open(&folder.path().join("store")).unwrap();
        assert_eq!(opened.get(b"rb").unwrap().unwrap(), &b"2"[..]);
        assert_eq!(opened.get(b"ra").unwrap(), None);
        assert_eq!((found.records, found.moved_aside), (1, None));
    }

    const FILLED: u64 = 2000;

    fn fill(opened: Store) {
        for n in 0..FILLED {
            let mut write = Write::default();
            write.set(keys::Key::new(b'r').number(n).bytes(), vec![7; 100]);
            opened.write(write).unwrap();
        }
        opened.sync().unwrap();
    }

    /// Opens what a test did to a filled store: moved aside and empty, or a state that once was, and never a gap.
    fn assert_whole_or_aside(folder: &Path) {
        let (opened, found) = Store::open(&folder.join("store")).unwrap();
        let stored: Vec<Vec<u8>> = opened.prefix([b'r']).map(|entry| entry.unwrap().0.to_vec()).collect();
        let whole: Vec<Vec<u8>> = (0..stored.len() as u64).map(|n| keys::Key::new(b'r').number(n).bytes()).collect();
        assert_eq!(stored, whole, "a gap");
        if let Some(aside) = found.moved_aside {
            assert!(stored.is_empty() && aside.is_dir());
        }
    }

    #[test]
    fn a_file_cut_short_opens_as_it_once_was_or_is_moved_aside() {
        for part in [4, 8, 12, 15] {
            let folder = tempfile::tempdir().unwrap();
            fill(store(folder.path()));
            let file = File::options().write(true).open(folder.path().join("store/db")).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length * part / 16).unwrap();
            assert_whole_or_aside(folder.path());
        }
    }

    #[test]
    fn flipped_bytes_are_never_a_panic_and_never_a_gap() {
        for part in [0, 3, 7, 11, 15] {
            let folder = tempfile::tempdir().unwrap();
            fill(store(folder.path()));
            let file = folder.path().join("store/db");
            let mut bytes = std::fs::read(&file).unwrap();
            let step = bytes.len() / 16;
            bytes.iter_mut().skip(step * part).take(step).for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&file, bytes).unwrap();
            assert_whole_or_aside(folder.path());
        }
    }

    #[test]
    fn a_gap_that_sled_does_not_see_is_seen_by_the_sum() {
        let folder = tempfile::tempdir().unwrap();
        let opened = store(folder.path());
        let mut write = Write::default();
        write.set(&b"ra"[..], &b"1"[..]);
        write.set(&b"rb"[..], &b"2"[..]);
        opened.write(write).unwrap();
        opened.db.remove(b"ra").unwrap();
        opened.sync().unwrap();
        drop(opened);
        let (opened, found) = Store::open(&folder.path().join("store")).unwrap();
        assert!(found.moved_aside.unwrap().ends_with("store.damaged-1"));
        assert_eq!(opened.prefix([b'r']).count(), 0);
    }

    #[test]
    fn the_sum_follows_writes_over_one_another_and_removals() {
        let folder = tempfile::tempdir().unwrap();
        let opened = store(folder.path());
        for value in 0..5_u64 {
            let mut write = Write::default();
            write.set(&b"ka"[..], value.to_be_bytes());
            write.set(&b"kb"[..], vec![1]);
            write.remove(&b"kb"[..]);
            write.remove(&b"kc"[..]);
            opened.write(write).unwrap();
        }
        assert_eq!(opened.sum.lock().unwrap().keys, 1);
        assert_eq!(walk(&opened.db).unwrap().1, *opened.sum.lock().unwrap());
    }

    #[test]
    fn a_range_turned_round_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(store(folder.path()).range(vec![2], vec![1]).count(), 0);
    }

    #[test]
    fn a_newer_layout_is_refused_and_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let opened = store(folder.path());
        opened.db.insert(keys::FORMAT, 99_u64.to_be_bytes().to_vec()).unwrap();
        drop(opened);
        let Err(error) = Store::open(&folder.path().join("store")) else { panic!("opened a layout of the future") };
        assert!(error.to_string().contains("layout 99"), "{error}");
    }
}
