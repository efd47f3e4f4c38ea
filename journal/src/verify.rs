//! Verifying a journal that nobody need be running: a folder, also a copied one, read once from its first record to its
//! last in constant memory. Nothing is changed, and nothing the folder says about itself is taken for granted.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::check::{Against, BadSignature, Check, Earlier, Fork, Mismatch};
use crate::disk::{self, Disk};
use crate::error::ReadError;
use crate::folder::{self, Folder};
use crate::header::DATA_AT;
use crate::merkle::Frontier;
use crate::note::PublicKey;
use crate::parity::Parity;
use crate::reader::Entry;
use crate::scan::{Event, Scan, Spot};
use crate::segment::Front;

/// Foreign files and strange segments named one by one.
const NAMED_MAX: usize = 64;

/// What is true of a journal, or of a bundle of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Epoch, or `None` when no header can be read.
    pub epoch: Option<u64>,
    /// First record that is still there, as record or as leaf.
    pub first_sequence: u64,
    /// Sequence behind the last record.
    pub next_sequence: u64,
    /// Records that are whole.
    pub records: u64,
    /// Records of which the leaf alone was kept.
    pub thinned: u64,
    /// Records that are missing, the first 64 stretches.
    pub gaps: Vec<Range<u64>>,
    /// Stretches beyond those.
    pub gaps_unnamed: u64,
    /// Records in all of them.
    pub lost: u64,
    /// Bytes of an unfinished write at the end.
    pub torn_bytes: u64,
    /// Damaged bytes that cost no record.
    pub damaged_bytes: u64,
    /// Bytes of pages that rotted and were made again from the parity beside their segment: nothing of them is lost, and
    /// `journal repair` writes them back.
    pub healed_bytes: u64,
    /// Parity files that are not as they were written; the segments themselves may be sound.
    pub parity_damage: u64,
    /// Segments whose front is not as it was written; where a record was lost by that, it is among the gaps.
    pub header_damage: u64,
    /// Where all these are, the first 64.
    pub spots: Vec<Spot>,
    /// Segments of another epoch, which do not belong here, each with its epoch; the first 64.
    pub strangers: Vec<(u32, u64)>,
    /// Files that do not belong here; the first 64.
    pub foreign: Vec<String>,
    /// Who the signed checkpoints in the log say it is of.
    pub origin: Option<String>,
    /// Signed checkpoints in the log that agree with it.
    pub checkpoints_checked: u64,
    /// Those of which it can't be told, because the records they are about are pruned or lost.
    pub checkpoints_unchecked: u64,
    /// Records below this are under a checkpoint that agrees: nobody but the key's owner can have altered them. Without a
    /// key it only says that the log agrees with itself.
    pub covered: u64,
    /// What is not what its hash says; the first.
    pub mismatch: Option<Mismatch>,
    /// A checkpoint that the key did not sign; the first.
    pub bad_signature: Option<BadSignature>,
    /// Two histories under one name; the first.
    pub fork: Option<Fork>,
    /// What became of the checkpoint from elsewhere, if one was given.
    pub earlier: Option<Earlier>,
    /// What a bundle lacks of what it says it holds.
    pub incomplete: Option<Incomplete>,
    /// The tree over all records, if it is known.
    pub tree: Option<Frontier>,
}

/// Kinds of findings, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Something is not what its hash or its checksum says.
    Mismatch,
    /// Two histories under one name, or a checkpoint of another log.
    Fork,
    /// A checkpoint that the key did not sign.
    BadSignature,
    /// A bundle lacks something, or the checkpoint from elsewhere can't be compared any more.
    Incomplete,
    /// Records are missing.
    Gap,
    /// An unfinished write at the end.
    Torn,
}

/// What a bundle lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// Records are not where they should be, and nowhere else.
    #[error("the bundle is incomplete at record {}: records {} to {} were removed", .0.start, .0.start, .0.end)]
    Removed(Range<u64>),
    /// It ends early.
    #[error("the bundle is incomplete at record {at}: it ends there, and not as an export ends")]
    Ends {
        /// First record that is not there.
        at: u64,
    },
}

impl Report {
    /// Nothing is wrong with it: no damage, no gap, nothing altered, nothing contradicted. An unfinished write at its
    /// end is damage in this sense; files that do not belong there are not.
    pub fn is_sound(&self) -> bool {
        self.worst().is_none()
    }

    /// The worst of what was found: what a program should tell its caller. `None` when the report is sound.
    pub fn worst(&self) -> Option<Finding> {
        let rotten = self.damaged_bytes + self.healed_bytes + self.header_damage + self.parity_damage;
        let damaged = rotten > 0 || !self.strangers.is_empty();
        let stranger = matches!(self.earlier, Some(Earlier::Stranger { .. }));
        let unproven = matches!(self.earlier, Some(Earlier::Unknown { .. }));
        [
            (self.mismatch.is_some(), Finding::Mismatch),
            (self.fork.is_some() || stranger, Finding::Fork),
            (self.bad_signature.is_some(), Finding::BadSignature),
            (self.incomplete.is_some() || unproven, Finding::Incomplete),
            (self.lost > 0, Finding::Gap),
            (damaged, Finding::Mismatch),
            (self.torn_bytes > 0, Finding::Torn),
        ]
        .into_iter()
        .find_map(|(found, finding)| found.then_some(finding))
    }

    /// Takes over what the check found.
    pub(crate) fn conclude(&mut self, check: Check<'_>) {
        self.next_sequence = check.next();
        self.tree = check.tree().cloned();
        let findings = check.findings;
        (self.gaps, self.gaps_unnamed, self.lost) = (findings.gaps, findings.gaps_unnamed, findings.lost);
        self.origin = findings.origin;
        self.checkpoints_checked = findings.checkpoints_checked;
        self.checkpoints_unchecked = findings.checkpoints_unchecked;
        self.covered = findings.covered;
        self.mismatch = findings.mismatch;
        self.bad_signature = findings.bad_signature;
        self.fork = findings.fork;
        self.earlier = findings.earlier;
    }
}

/// Verifies the journal in `folder` and shows every whole record to `visit`, in order. With a `key`, the checkpoints in
/// the log must be signed by it.
///
/// # Errors
/// When the folder can't be read, or a segment is of a newer format. Whatever else is wrong is in the report.
pub fn verify(folder: &Path, key: Option<&PublicKey>, visit: &mut dyn FnMut(&Entry)) -> Result<Report, ReadError> {
    verify_on(disk::real(), folder, &Against { key, earlier: None }, visit)
}

/// As [`verify`], against more than a key, and on any disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(
    disk: Arc<dyn Disk>,
    folder: &Path,
    against: &Against<'_>,
    visit: &mut dyn FnMut(&Entry),
) -> Result<Report, ReadError> {
    let foreign = foreign(&Folder::new(Arc::clone(&disk), folder))?;
    let mut scan = Scan::new(disk, folder, 0)?;
    let mut pass = Pass {
        report: Report { epoch: scan.epoch(), foreign, ..Report::default() },
        against: against.clone(),
        check: None,
        bad: None,
    };
    while let Some(event) = scan.next()? {
        pass.take(event, &scan, visit);
    }
    if scan.epoch().is_none() {
        // Without a single readable header nothing tells whose records these are.
        for segment in scan.folder().segments().map_err(ReadError::at(folder))? {
            pass.report.header_damage += 1;
            pass.name(Spot { segment, offset: 0, bytes: DATA_AT });
        }
    }
    let Pass { mut report, against, check, .. } = pass;
    let mut check = check.unwrap_or_else(|| Check::new(against, 0, None));
    check.end();
    report.conclude(check);
    Ok(report)
}

/// Names of files that are not the journal's.
fn foreign(folder: &Folder) -> Result<Vec<String>, ReadError> {
    let mut names = folder.disk.list(folder.path()).map_err(ReadError::at(folder.path()))?;
    names.retain(|name: &std::ffi::OsString| !folder::is_own(name));
    names.sort_unstable();
    Ok(names.iter().take(NAMED_MAX).map(|name| OsStr::to_string_lossy(name).into_owned()).collect())
}

/// One pass over a folder.
struct Pass<'a> {
    report: Report,
    against: Against<'a>,
    /// Begun with the first segment, which says where.
    check: Option<Check<'a>>,
    bad: Option<Bad>,
}

/// Bad bytes, of which the next thing shows what they cost.
struct Bad {
    bytes: u64,
    lost_before: u64,
}

impl Bad {
    /// The bytes, if no record was lost by them.
    fn cost_nothing(&self, check: &Check<'_>) -> u64 {
        if check.findings.lost == self.lost_before { self.bytes } else { 0 }
    }
}

impl Pass<'_> {
    fn take(&mut self, event: Event, scan: &Scan, visit: &mut dyn FnMut(&Entry)) {
        let bad = self.bad.take();
        match event {
            Event::Segment { index, front } => self.enter(index, &front),
            Event::Stranger { segment, epoch } => {
                if self.report.strangers.len() < NAMED_MAX {
                    self.report.strangers.push((segment, epoch));
                }
            }
            Event::Bad(spot) => self.bad_bytes(spot),
            Event::End { torn, lost, newest, healed } => {
                self.parity(torn.segment, healed, scan);
                if torn.bytes > 0 {
                    self.bad_bytes(torn);
                }
                if newest {
                    let bytes = if lost { &mut self.report.damaged_bytes } else { &mut self.report.torn_bytes };
                    *bytes += torn.bytes;
                }
            }
            Event::Record { .. } | Event::Stubs { .. } | Event::Anchor(_) | Event::Note => {
                self.content(event, scan, visit);
            }
        }
        if let (Some(bad), Some(check)) = (bad, &self.check) {
            self.report.damaged_bytes += bad.cost_nothing(check);
        }
    }

    /// What rotted and could be made again, in the segment and in its parity.
    fn parity(&mut self, segment: u32, healed: Vec<Spot>, scan: &Scan) {
        self.report.healed_bytes += healed.iter().map(|spot| spot.bytes).sum::<u64>();
        healed.into_iter().for_each(|spot| self.name(spot));
        self.report.parity_damage += u64::from(Parity::is_rotten(scan.folder(), segment));
    }

    fn bad_bytes(&mut self, spot: Spot) {
        self.name(spot);
        let lost_before = self.check.as_ref().map_or(0, |check| check.findings.lost);
        self.bad = Some(Bad { bytes: spot.bytes, lost_before });
    }

    fn name(&mut self, spot: Spot) {
        if self.report.spots.len() < NAMED_MAX {
            self.report.spots.push(spot);
        }
    }

    fn enter(&mut self, segment: u32, front: &Front) {
        if !front.sound || front.header.is_some() && front.tree.is_none() {
            self.report.header_damage += 1;
            self.name(Spot { segment, offset: 0, bytes: DATA_AT });
        }
        let first = front.header.map(|header| header.first_sequence);
        match (&mut self.check, first) {
            (Some(check), Some(first)) => match &front.tree {
                Some(tree) => check.noted(tree.clone()),
                None => check.lose_below(first),
            },
            (None, Some(first)) => {
                self.report.first_sequence = first;
                self.check = Some(Check::new(self.against.clone(), first, front.base()));
            }
            (Some(_) | None, None) => {}
        }
    }

    fn content(&mut self, event: Event, scan: &Scan, visit: &mut dyn FnMut(&Entry)) {
        let first = match &event {
            Event::Record { sequence, .. } | Event::Stubs { sequence, .. } => *sequence,
            Event::Anchor(tree) => tree.size(),
            Event::Note | Event::Segment { .. } | Event::Bad(_) | Event::End { .. } | Event::Stranger { .. } => 0,
        };
        // Without a header, the first record says where the log begins.
        if self.check.is_none() {
            self.report.first_sequence = first;
        }
        let check = self.check.get_or_insert_with(|| Check::new(self.against.clone(), first, None));
        match event {
            Event::Record { sequence, kind } => {
                if check.leaf(sequence, crate::merkle::leaf(scan.payload())) {
                    self.report.records += 1;
                    let epoch = self.report.epoch.unwrap_or(0);
                    visit(&Entry { epoch, sequence, kind, payload: scan.payload().to_vec() });
                }
            }
            Event::Stubs { sequence, leaves } => {
                for (sequence, leaf) in (sequence..).zip(leaves) {
                    self.report.thinned += u64::from(check.leaf(sequence, leaf));
                }
            }
            Event::Anchor(tree) => check.noted(tree),
            Event::Note => check.note(scan.payload()),
            Event::Segment { .. } | Event::Bad(_) | Event::End { .. } | Event::Stranger { .. } => {}
        }
    }
}
