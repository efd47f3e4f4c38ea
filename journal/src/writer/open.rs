//! A journal's beginning: the lock, what is in the folder, what becomes of it.

use std::path::Path;
use std::sync::Arc;

use super::Journal;
use crate::disk::{self, Disk, DiskFile, Lock};
use crate::error::OpenError;
use crate::folder::Folder;
use crate::group::Group;
use crate::options::{Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::recovery::{self, Recovery};
use crate::shrink::Known;
use crate::survey::{Survey, survey};
use crate::walk::Regrowth;

/// Segment numbers that are kept for a journal that goes on; a file with a number above is not worth their end.
const SPARE_NUMBERS: u32 = 1 << 16;

impl Journal {
    /// Opens the journal in `folder` for writing, or begins one there (the folder is made if need be). Says in
    /// [`Recovery`] what was found and cut.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when somebody else writes there; the other kinds as they say. Damage is no error.
    pub fn open(folder: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(disk::real(), folder, options)
    }

    /// As [`Journal::open`], on another disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(disk: Arc<dyn Disk>, folder: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        let folder = Folder::new(disk, folder);
        let options =
            Options { segment_bytes: options.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX), ..options };
        let lock = take_folder(&folder)?;
        let Survey { mut segments, mut hopeless, epoch, newest, mut damage } = survey(&folder)?;
        let numbers = segments.iter().chain(&hopeless).max().map_or(0, |last| last.saturating_add(1));
        // Without one proven epoch, or without a number for the next segment, nothing can go on from here.
        let newest = newest.filter(|_| segments.last().is_some_and(|last| *last < u32::MAX - SPARE_NUMBERS));
        if newest.is_none() {
            hopeless.append(&mut segments);
        }
        recovery::set_aside(&folder, &hopeless, &mut damage)?;
        let created = newest.is_none();
        let mut recovery = Recovery {
            epoch: epoch.filter(|_| !created).unwrap_or(options.new_epoch),
            next_sequence: 0,
            cut_bytes: 0,
            segments: segments.len(),
            created,
            damage,
        };
        let mut tail = None;
        let mut regrowth = Regrowth::default();
        if let Some(newest) = newest {
            recovery.next_sequence = newest.next_sequence;
            recovery.cut_bytes = newest.torn_bytes;
            tail = recovery::mend(&folder, &newest)?;
            regrowth = Regrowth { tree: Some(newest.tree), anchored: newest.anchored };
        }
        let next_segment =
            if numbers < u32::MAX - SPARE_NUMBERS { numbers } else { segments.last().map_or(0, |last| last + 1) };
        let segments: Vec<_> = segments.into_iter().map(Known::new).collect();
        let mut journal = Self {
            folder,
            epoch: recovery.epoch,
            tree: regrowth.tree.unwrap_or_default(),
            anchored: regrowth.anchored,
            lone_anchor: None,
            note: None,
            group: Group::default(),
            segments,
            next_segment,
            in_vain: None,
            uncut: Vec::new(),
            tail,
            scratch: Vec::new(),
            options,
            _lock: lock,
        };
        if recovery.created {
            journal.begin_segment(0).map_err(|error| OpenError::beginning(&journal.folder, error))?;
            recovery.segments = 1;
        }
        Ok((journal, recovery))
    }
}

/// Makes the folder if need be, takes its lock and clears what a cut left half made.
pub(crate) fn take_folder(folder: &Folder) -> Result<Box<dyn DiskFile>, OpenError> {
    let at = |source| OpenError::at(folder, folder.path(), source);
    folder.make().map_err(at)?;
    match folder.lock().map_err(at)? {
        Lock::Held(lock) => {
            folder.remove_temporaries().map_err(at)?;
            Ok(lock)
        }
        Lock::Taken(holder) => Err(OpenError::Locked {
            folder: folder.path().to_path_buf(),
            holder: if holder.is_empty() { holder } else { format!(" by process {holder}") },
        }),
    }
}
