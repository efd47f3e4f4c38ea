//! A disk in memory on which the power can be cut, for the journal and whatever else writes through
//! [`vedette_journal::Disk`].
//!
//! What is written shows at once to who reads, and survives a cut only when it was synced: bytes and lengths with their
//! file, names with their folder. What was pending at the cut is kept, dropped or torn, sector by sector of 512 bytes and
//! name by name, in any order, as a seed decides. After an error of a sync the bytes it was for still read as written, and
//! no later sync makes them durable: that is what the kernel does.
//!
//! [`SimDisk::still`] takes a picture of the disk at an instant; [`Still::after_cut`] makes a disk of what such a cut
//! leaves. A disk takes pictures by itself before every `k`-th operation ([`SimDisk::photograph_every`]), so that one run of
//! a script gives as many cuts as it has operations.

mod fate;
mod file;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vedette_journal::{Disk, DiskFile, Lock};

use crate::random::Random;
use fate::{Change, Naming, Style};
use file::{SimFile, SimLock};

/// A fault that a disk (or a program) could have and that a test must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Syncs of files say "done" and do nothing.
    SkipFileSync,
    /// Syncs of folders say "done" and do nothing.
    SkipFolderSync,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    files: Vec<Content>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    names_durable: BTreeMap<PathBuf, usize>,
    names_pending: BTreeMap<PathBuf, Vec<Naming>>,
    folders: Vec<PathBuf>,
    locked: Vec<PathBuf>,
    random: Random,
    bug: Option<Bug>,
    /// Bytes that fit.
    capacity: Option<u64>,
    /// Of 1,000 operations, how many fail.
    errors: u64,
    operations: u64,
    cut_at: Option<u64>,
    photograph_every: Option<u64>,
    photographs: Vec<(u64, Still)>,
}

/// A file without its name.
#[derive(Clone, Debug, Default)]
struct Content {
    /// What is read.
    shown: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Change>,
    changed: u64,
}

/// The disk at an instant.
#[derive(Clone, Debug)]
pub struct Still {
    files: Vec<(Arc<Vec<u8>>, Vec<Change>)>,
    names_durable: BTreeMap<PathBuf, usize>,
    names_pending: BTreeMap<PathBuf, Vec<Naming>>,
    folders: Vec<PathBuf>,
}

impl Still {
    /// A disk with what a power cut at this instant leaves, as the seed decides.
    #[must_use]
    pub fn after_cut(&self, seed: u64) -> SimDisk {
        let mut random = Random::new(seed);
        let style = Style::draw(&mut random);
        let mut names = self.names_durable.clone();
        for pending in self.names_pending.values() {
            names = fate::names(&names, pending, style, &mut random);
        }
        let files = self.files.iter().map(|(durable, pending)| {
            let content = fate::file(durable, pending, style, &mut random);
            Content { shown: Arc::clone(&content), durable: content, pending: Vec::new(), changed: 0 }
        });
        SimDisk::with(files.collect(), names, self.folders.clone(), random.number())
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Vec::new(), BTreeMap::new(), Vec::new(), seed)
    }

    fn with(files: Vec<Content>, names: BTreeMap<PathBuf, usize>, folders: Vec<PathBuf>, seed: u64) -> Self {
        let state = State {
            files,
            names_durable: names.clone(),
            names,
            names_pending: BTreeMap::new(),
            folders,
            locked: Vec::new(),
            random: Random::new(seed),
            bug: None,
            capacity: None,
            errors: 0,
            operations: 0,
            cut_at: None,
            photograph_every: None,
            photographs: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the disk a fault.
    pub fn set_bug(&self, bug: Option<Bug>) {
        self.state().bug = bug;
    }

    /// Bytes that fit from now on; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How many of 1,000 operations fail with an I/O error from now on.
    pub fn set_errors(&self, per_thousand: u64) {
        self.state().errors = per_thousand;
    }

    /// Operations that changed something, or were to, so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From this operation on nothing works any more: the power is off.
    pub fn cut_power_at(&self, operation: Option<u64>) {
        self.state().cut_at = operation;
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().is_off()
    }

    /// Takes a picture before every `every`-th operation.
    pub fn photograph_every(&self, every: Option<u64>) {
        self.state().photograph_every = every;
    }

    /// The pictures taken since last asked, each with the operation that it was taken before.
    #[must_use]
    pub fn photographs(&self) -> Vec<(u64, Still)> {
        std::mem::take(&mut self.state().photographs)
    }

    /// A picture of the disk now.
    #[must_use]
    pub fn still(&self) -> Still {
        self.state().still()
    }

    /// Paths and contents of all files, as programs see them.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Arc<Vec<u8>>)> {
        let state = self.state();
        state.names.iter().map(|(path, file)| (path.clone(), Arc::clone(&state.files[*file].shown))).collect()
    }

    /// Another disk with the same files, all of them durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let files = state.files.iter().map(|file| {
            let shown = Arc::clone(&file.shown);
            Content { durable: Arc::clone(&shown), shown, pending: Vec::new(), changed: file.changed }
        });
        Self::with(files.collect(), state.names.clone(), state.folders.clone(), 0)
    }

    /// Changes a file's bytes behind everybody's back, durably.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        if let Some(file) = state.names.get(path).copied() {
            let content = &mut state.files[file];
            change(Arc::make_mut(&mut content.shown));
            content.durable = Arc::clone(&content.shown);
            content.pending.clear();
        }
    }
}

impl State {
    fn is_off(&self) -> bool {
        self.cut_at.is_some_and(|at| self.operations >= at)
    }

    fn still(&self) -> Still {
        Still {
            files: self.files.iter().map(|file| (Arc::clone(&file.durable), file.pending.clone())).collect(),
            names_durable: self.names_durable.clone(),
            names_pending: self.names_pending.clone(),
            folders: self.folders.clone(),
        }
    }

    /// An operation that changes something begins; whether it fails.
    fn begin(&mut self) -> io::Result<Outcome> {
        self.check_power()?;
        if self.photograph_every.is_some_and(|every| self.operations.is_multiple_of(every)) {
            let still = self.still();
            self.photographs.push((self.operations, still));
        }
        self.operations += 1;
        let errors = self.errors;
        Ok(if self.random.chance(errors, 1000) { Outcome::Fail } else { Outcome::Work })
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off() { Err(io::Error::new(ErrorKind::NotConnected, "the power is off")) } else { Ok(()) }
    }

    /// As [`State::begin`], for operations that do nothing at all when they fail.
    fn begin_whole(&mut self) -> io::Result<()> {
        match self.begin()? {
            Outcome::Work => Ok(()),
            Outcome::Fail => Err(eio()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn name(&mut self, naming: Naming) {
        let path = match &naming {
            Naming::Link { path, .. } | Naming::Unlink { path } | Naming::Rename { to: path, .. } => path,
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        fate::apply_naming(&mut self.names, &naming);
        self.names_pending.entry(folder).or_default().push(naming);
    }

    /// Bytes that may still be taken.
    fn room(&self) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let used: usize = self.names.values().map(|file| self.files[*file].shown.len()).sum();
        usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(used)
    }

    fn change(&mut self, file: usize, change: Change) {
        let operations = self.operations;
        let content = &mut self.files[file];
        fate::apply(Arc::make_mut(&mut content.shown), &change);
        content.pending.push(change);
        content.changed = operations;
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        let outcome = self.begin()?;
        if self.bug == Some(Bug::SkipFileSync) {
            return Ok(());
        }
        let content = &mut self.files[file];
        match outcome {
            Outcome::Work => {
                let durable = Arc::make_mut(&mut content.durable);
                content.pending.drain(..).for_each(|change| fate::apply(durable, &change));
                Ok(())
            }
            Outcome::Fail => {
                content.durable = fate::file(&content.durable, &content.pending, Style::Sectors, &mut self.random);
                content.pending.clear();
                Err(eio())
            }
        }
    }
}

/// What becomes of an operation.
enum Outcome {
    Work,
    Fail,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for SimDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        state.check_power()?;
        if !state.folders.iter().any(|there| there == folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.folders.iter().any(|there| there == folder) {
            state.begin_whole()?;
            state.folders.push(folder.to_path_buf());
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.begin_whole()?;
        let file = match state.names.get(path).copied() {
            Some(file) => {
                state.change(file, Change::Length(0));
                file
            }
            None => {
                let file = state.files.len();
                state.files.push(Content::default());
                state.name(Naming::Link { path: path.to_path_buf(), file });
                file
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), file, writable: true }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        Ok(Box::new(SimFile { disk: self.clone(), file: state.file(path)?, writable: false }))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        Ok(Box::new(SimFile { disk: self.clone(), file: state.file(path)?, writable: true }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_whole()?;
        let file = state.file(from)?;
        state.name(Naming::Rename { from: from.to_path_buf(), to: to.to_path_buf(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_whole()?;
        state.file(path)?;
        state.name(Naming::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_whole()?;
        if state.bug != Some(Bug::SkipFolderSync) {
            let pending = state.names_pending.remove(folder).unwrap_or_default();
            pending.iter().for_each(|naming| fate::apply_naming(&mut state.names_durable, naming));
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut state = self.state();
        state.check_power()?;
        if state.locked.iter().any(|locked| locked == path) {
            return Ok(Lock::Taken("1".to_owned()));
        }
        state.locked.push(path.to_path_buf());
        Ok(Lock::Held(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf() })))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    const CUTS: u64 = 300;

    fn shows(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        disk.files().into_iter().find(|(there, _)| there == Path::new(path)).map(|(_, content)| content.to_vec())
    }

    fn disk_with_a_synced_file() -> (SimDisk, Box<dyn DiskFile>) {
        let disk = SimDisk::new(1);
        disk.make_folder(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.write_at(&[1; 2000], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_comes_in_every_mixture() {
        let (disk, file) = disk_with_a_synced_file();
        file.write_at(&[2; 1024], 512).unwrap();
        let still = disk.still();
        let mut seen = BTreeSet::new();
        for seed in 0..CUTS {
            let content = shows(&still.after_cut(seed), "/d/f").unwrap();
            assert_eq!((content.len(), &content[..512], &content[1536..]), (2000, &[1; 512][..], &[1; 464][..]));
            seen.insert([content[512], content[1023], content[1024], content[1535]]);
        }
        for mixture in [[1, 1, 1, 1], [1, 1, 2, 2], [2, 2, 1, 1], [2, 2, 2, 2], [2, 1, 2, 2], [1, 2, 1, 1]] {
            assert!(seen.contains(&mixture), "{mixture:?} never came in {CUTS} cuts");
        }
    }

    #[test]
    fn a_name_lasts_when_its_folder_was_synced_and_not_before() {
        let (disk, _) = disk_with_a_synced_file();
        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        let names = |still: &Still| {
            let cuts = (0..CUTS).map(|seed| still.after_cut(seed).files().into_iter().map(|(path, _)| path).collect());
            cuts.collect::<BTreeSet<Vec<_>>>()
        };
        assert_eq!(names(&disk.still()), BTreeSet::from([vec!["/d/f".into()], vec!["/d/g".into()]]));
        disk.sync_folder(Path::new("/d")).unwrap();
        assert_eq!(names(&disk.still()), BTreeSet::from([vec!["/d/g".into()]]));
    }

    #[test]
    fn bytes_whose_sync_failed_still_read_as_written_and_no_later_sync_makes_them_durable() {
        let (disk, file) = disk_with_a_synced_file();
        let lost = (0..CUTS).any(|round| {
            file.write_at(&[3; 2000], 0).unwrap();
            disk.set_errors(1000);
            file.sync_data().unwrap_err();
            disk.set_errors(0);
            file.sync_data().unwrap();
            assert_eq!(shows(&disk, "/d/f"), Some(vec![3; 2000]));
            shows(&disk.still().after_cut(round), "/d/f") != Some(vec![3; 2000])
        });
        assert!(lost, "the second sync always did what the first one had not");
    }

    #[test]
    fn a_full_disk_refuses_what_would_make_a_file_longer() {
        let (disk, file) = disk_with_a_synced_file();
        disk.set_capacity(Some(2100));
        assert_eq!(file.allocate(3000).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(file.write_at(&[4; 200], 2000).unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_at(&[4; 200], 100).unwrap();
        disk.set_capacity(None);
        file.write_at(&[4; 200], 2000).unwrap();
    }

    #[test]
    fn nothing_works_without_power_and_the_pictures_show_each_step() {
        let disk = SimDisk::new(1);
        disk.photograph_every(Some(1));
        disk.cut_power_at(Some(3));
        disk.make_folder(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap_err();
        disk.list(Path::new("/d")).unwrap_err();
        assert_eq!(disk.photographs().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_disk_that_skips_syncs_loses_what_it_called_durable() {
        for bug in [Bug::SkipFileSync, Bug::SkipFolderSync] {
            let disk = SimDisk::new(1);
            disk.set_bug(Some(bug));
            disk.make_folder(Path::new("/d")).unwrap();
            let file = disk.create(Path::new("/d/f")).unwrap();
            file.write_at(&[1; 10], 0).unwrap();
            file.sync_all().unwrap();
            disk.sync_folder(Path::new("/d")).unwrap();
            let still = disk.still();
            assert!((0..CUTS).any(|seed| shows(&still.after_cut(seed), "/d/f") != Some(vec![1; 10])), "{bug:?}");
        }
    }
}
