//! What a power cut leaves of what was never synced. Pure: what was durable and what was pending in, what survives out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::random::Random;

/// What a disk writes whole or not at all, usually.
const SECTOR_BYTES: usize = 512;

/// A change of a file that no sync has confirmed.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Length(usize),
}

/// A change of a folder that no sync has confirmed. Files are meant by their number, so each of them means something
/// without the others.
#[derive(Clone, Debug)]
pub(super) enum Naming {
    Link { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Unlink { path: PathBuf },
}

/// How a cut treats what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing had left the memory.
    Nothing,
    /// Everything had been written just before.
    Everything,
    /// In order, up to some point.
    Prefix,
    /// Each sector, length and name by itself, in any order.
    Sectors,
    /// As `Sectors`, and some sectors are cut inside.
    Torn,
}

impl Style {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(20) {
            0..=2 => Self::Nothing,
            3..=5 => Self::Everything,
            6..=8 => Self::Prefix,
            9..=14 => Self::Sectors,
            _ => Self::Torn,
        }
    }

    /// How many of `pending` changes, in order, one thing that stands by itself has seen.
    fn seen(self, pending: usize, prefix: usize, random: &mut Random) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => pending,
            Self::Prefix => prefix,
            Self::Sectors | Self::Torn => random.index(pending + 1),
        }
    }
}

/// The content of a file after a cut.
pub(super) fn file(durable: &Arc<Vec<u8>>, pending: &[Change], style: Style, random: &mut Random) -> Arc<Vec<u8>> {
    if pending.is_empty() || style == Style::Nothing {
        return Arc::clone(durable);
    }
    let prefix = random.index(pending.len() + 1);
    let length_seen = style.seen(pending.len(), prefix, random);
    let mut content = durable.to_vec();
    let mut length = content.len();
    let mut sectors: BTreeMap<usize, usize> = BTreeMap::new();
    let mut torn: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
    for (at, change) in pending.iter().enumerate() {
        let (offset, end) = match change {
            Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
            Change::Length(length) => (*length, content.len().max(*length)),
        };
        if content.len() < end {
            content.resize(end, 0);
        }
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let seen = *sectors.entry(sector).or_insert_with(|| style.seen(pending.len(), prefix, random));
            if at >= seen {
                continue;
            }
            let (mut first, mut last) = (offset.max(sector * SECTOR_BYTES), end.min((sector + 1) * SECTOR_BYTES));
            if style == Style::Torn && random.chance(1, 8) {
                let cut = (sector * SECTOR_BYTES + random.index(SECTOR_BYTES), random.chance(1, 2));
                torn.entry(sector).or_insert(cut);
            }
            if let Some((cut, front)) = torn.get(&sector) {
                if *front { last = last.min(*cut) } else { first = first.max(*cut) }
            }
            if first < last {
                match change {
                    Change::Write { bytes, .. } => {
                        content[first..last].copy_from_slice(&bytes[first - offset..last - offset]);
                    }
                    Change::Length(_) => content[first..last].fill(0),
                }
            }
        }
        if at < length_seen {
            length = lengthened(length, change);
        }
    }
    content.resize(length, 0);
    Arc::new(content)
}

/// The length of a file after a change.
fn lengthened(length: usize, change: &Change) -> usize {
    match change {
        Change::Write { offset, bytes } => length.max(offset + bytes.len()),
        Change::Length(length) => *length,
    }
}

/// Makes a change in full.
pub(super) fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        Change::Length(length) => content.resize(*length, 0),
    }
}

/// The names of one folder after a cut.
pub(super) fn names(
    durable: &BTreeMap<PathBuf, usize>,
    pending: &[Naming],
    style: Style,
    random: &mut Random,
) -> BTreeMap<PathBuf, usize> {
    let mut names = durable.clone();
    let prefix = random.index(pending.len() + 1);
    // A journaling file system keeps the order of names even when it does not keep that of data.
    let ordered = random.chance(1, 2);
    for (at, naming) in pending.iter().enumerate() {
        let kept = match style {
            Style::Nothing => false,
            Style::Everything => true,
            Style::Prefix => at < prefix,
            Style::Sectors | Style::Torn if ordered => at < prefix,
            Style::Sectors | Style::Torn => random.chance(1, 2),
        };
        if kept {
            apply_naming(&mut names, naming);
        }
    }
    names
}

/// Makes a change of names in full.
pub(super) fn apply_naming(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    match naming {
        Naming::Link { path, file } => {
            names.insert(path.clone(), *file);
        }
        Naming::Rename { from, to, file } => {
            if names.get(from) == Some(file) {
                names.remove(from);
            }
            names.insert(to.clone(), *file);
        }
        Naming::Unlink { path } => {
            names.remove(path);
        }
    }
}
