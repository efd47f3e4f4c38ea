//! What a journal's folder holds, found by reading only the newest segment. Changes nothing, so that it works beside a
//! running writer. The rules are in the crate's documentation under *Recovery*.

use std::collections::BTreeMap;

use crate::error::ReadError;
use crate::folder::Folder;
use crate::header::DATA_AT;
use crate::merkle::{self, Frontier};
use crate::record::FOOTPRINT_MIN;
use crate::recovery::Damage;
use crate::segment::{self, Opened};
use crate::walk::{self, Regrowth, Step, Walk};

/// Damaged stretches named one by one; further ones are only in the log's sequences. A 1 MiB segment can't hold more
/// news than this for a person, and the list stays below 4 KiB.
const DAMAGE_NAMED_MAX: usize = 64;

/// The folder as it is found.
pub(crate) struct Survey {
    /// Ascending.
    pub(crate) segments: Vec<u32>,
    /// Files named as segments above the newest one in which nothing is ours.
    pub(crate) hopeless: Vec<u32>,
    pub(crate) epoch: Option<u64>,
    /// The newest segment and what the walk through it found, if an epoch is known.
    pub(crate) newest: Option<Newest>,
    pub(crate) damage: Vec<Damage>,
}

/// The newest segment.
pub(crate) struct Newest {
    pub(crate) index: u32,
    /// Where the last group begins, the only one that may not be durable.
    pub(crate) last_group: u64,
    /// Behind the last valid record.
    pub(crate) end: u64,
    pub(crate) next_sequence: u64,
    /// Bytes behind `end` that are not the zeros of the preallocation.
    pub(crate) torn_bytes: u64,
    /// Whole, so that it may be written on.
    pub(crate) sound: bool,
    /// The disk refused no part of it.
    pub(crate) readable: bool,
    /// Pages that rotted and were made again from the parity: where each begins, what it should be.
    pub(crate) healed: Vec<(u64, Vec<u8>)>,
    /// Bytes reserved for it, if its header can be read.
    pub(crate) capacity: Option<u64>,
    /// Over everything below `next_sequence`.
    pub(crate) tree: Frontier,
    /// Size of the tree that was last written down in it.
    pub(crate) anchored: u64,
}

/// Reads a folder and changes nothing.
pub(crate) fn survey(folder: &Folder) -> Result<Survey, ReadError> {
    let mut segments = folder.segments().map_err(ReadError::at(folder.path()))?;
    let mut damage = Vec::new();
    let epoch = epoch_of(folder, &segments)?;
    let mut hopeless = Vec::new();
    let mut newest = None;
    while let Some(epoch) = epoch {
        let Some(index) = segments.last().copied() else { break };
        let opened = segment::open(folder, index)?;
        if let Some(opened) = opened {
            newest = look_at(folder, opened, epoch, &segments, &mut damage)?;
            if newest.is_some() {
                break;
            }
            hopeless.push(index);
        }
        segments.pop();
    }
    Ok(Survey { segments, hopeless, epoch, newest, damage })
}

/// The epoch that the segments are of: the newest header's, unless the one before it disagrees. Then files of another
/// journal came in, and the more numerous epoch is ours.
pub(crate) fn epoch_of(folder: &Folder, segments: &[u32]) -> Result<Option<u64>, ReadError> {
    let epochs = || {
        segments.iter().rev().map(|index| segment::open(folder, *index)).filter_map(|opened| match opened {
            Ok(opened) => opened?.front.header.map(|header| Ok(header.epoch)),
            Err(error) => Some(Err(error)),
        })
    };
    let mut two = epochs().take(2);
    let newest = two.next().transpose()?;
    let before = two.next().transpose()?;
    if before.is_none() || newest == before {
        return Ok(newest);
    }
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for epoch in epochs() {
        *counts.entry(epoch?).or_default() += 1;
    }
    Ok(counts.into_iter().max_by_key(|(epoch, count)| (*count, Some(*epoch) == newest)).map(|(epoch, _)| epoch))
}

/// Walks a segment to its end. `None` when nothing in it is of this journal.
fn look_at(
    folder: &Folder,
    opened: Opened,
    epoch: u64,
    segments: &[u32],
    damage: &mut Vec<Damage>,
) -> Result<Option<Newest>, ReadError> {
    let index = opened.index;
    let front = opened.front.clone();
    if front.header.is_some_and(|header| header.epoch != epoch) {
        return Ok(None);
    }
    let first_sequence = front.header.map(|header| header.first_sequence);
    let walk = Walk::new(opened.into_segment(epoch), first_sequence);
    let Some(walked) = walk_newest(folder, walk, first_sequence, Regrowth::from(front.base()))? else {
        return Ok(None);
    };
    match front.header {
        None => damage.push(Damage::Header { segment: index }),
        Some(_) if !front.sound => damage.push(Damage::HeaderCopy { segment: index }),
        Some(_) => {}
    }
    if front.header.is_some() && front.tree.is_none() {
        damage.push(Damage::Frontier { segment: index });
    }
    damage.extend(walked.healed.iter().map(|(offset, _)| Damage::Page { segment: index, offset: *offset }));
    let Walked { last_group, end, next_sequence, torn_bytes, regrowth, stretches, healed, .. } = walked;
    let sound = front.sound && front.tree.is_some() && stretches.is_empty() && !walked.unreadable;
    damage.extend(stretches);
    let Regrowth { tree, anchored } = regrowth;
    let mut tree = match tree {
        Some(tree) => tree,
        None => {
            let (regrown, made_up) = regrow(folder, epoch, segments, next_sequence)?;
            if made_up {
                damage.push(Damage::Tree { segment: index });
            }
            regrown
        }
    };
    let known = tree.size();
    walk::lose(&mut tree, known..next_sequence);
    let capacity = front.header.map(|header| header.capacity);
    Ok(Some(Newest {
        index,
        last_group,
        end,
        next_sequence,
        torn_bytes,
        sound,
        readable: !walked.unreadable,
        healed,
        capacity,
        tree,
        anchored,
    }))
}

/// What a walk through the newest segment found.
struct Walked {
    last_group: u64,
    end: u64,
    next_sequence: u64,
    torn_bytes: u64,
    unreadable: bool,
    healed: Vec<(u64, Vec<u8>)>,
    regrowth: Regrowth,
    stretches: Vec<Damage>,
}

/// Walks to the end. `None` when neither header nor any record is there.
fn walk_newest(
    folder: &Folder,
    mut walk: Walk,
    first_sequence: Option<u64>,
    mut regrowth: Regrowth,
) -> Result<Option<Walked>, ReadError> {
    let index = walk.segment().index();
    let path = folder.segment(index);
    let at = || ReadError::at(&path);
    let mut buffer = Vec::new();
    let mut next = first_sequence;
    let mut stretches = Vec::new();
    let mut bad = None;
    let mut last_group = DATA_AT;
    let end = loop {
        match walk.step(&mut buffer).map_err(at())? {
            Step::Record { offset, head } => {
                if head.begins_group() {
                    last_group = offset;
                    stretches.iter_mut().for_each(mark_as_committed);
                }
                if let Some((offset, bytes)) = bad.take()
                    && stretches.len() < DAMAGE_NAMED_MAX
                {
                    let from = next.unwrap_or(head.sequence);
                    let last_group = !head.begins_group();
                    stretches.push(Damage::Records {
                        segment: index,
                        offset,
                        bytes,
                        from,
                        to: head.sequence,
                        last_group,
                    });
                }
                regrowth.take(&head, &buffer);
                next = Some(head.next_sequence());
            }
            Step::Bad { offset, bytes } => bad = Some((offset, bytes)),
            Step::End { offset } => break offset,
        }
    };
    let Some(mut next_sequence) = next else {
        return Ok(None);
    };
    let segment = walk.segment();
    let mut torn_bytes = segment.written_behind(end).map_err(at())?;
    if let Some(bytes) = segment.lost_end(end, torn_bytes).map_err(at())? {
        // What was there is not known, but how many records it can have been: their sequences are not given again.
        let (from, to) = (next_sequence, next_sequence + bytes / FOOTPRINT_MIN as u64);
        stretches.push(Damage::Records { segment: index, offset: end, bytes, from, to, last_group: false });
        (next_sequence, torn_bytes) = (to, 0);
    }
    let unreadable = segment.unreadable_below() > 0;
    let healed = segment.healed().map(|(at, page)| (at, page.to_vec())).collect();
    Ok(Some(Walked { last_group, end, next_sequence, torn_bytes, unreadable, healed, regrowth, stretches }))
}

/// A group begins behind this stretch, so the stretch belongs to one that was committed.
fn mark_as_committed(damage: &mut Damage) {
    if let Damage::Records { last_group, .. } = damage {
        *last_group = false;
    }
}

/// The tree below `next_sequence` from whatever frontier is left, the newest one first, and the records behind it. The
/// second value says that there was none, and the tree stands on made-up nodes.
fn regrow(folder: &Folder, epoch: u64, segments: &[u32], next_sequence: u64) -> Result<(Frontier, bool), ReadError> {
    let mut from = segments.len();
    let mut regrowth = Regrowth::default();
    while from > 0 && regrowth.tree.is_none() {
        from -= 1;
        regrowth = grow_through(folder, epoch, &segments[from..], next_sequence, Regrowth::default())?;
    }
    for behind in from + 1..segments.len() {
        regrowth = grow_through(folder, epoch, &segments[behind..], next_sequence, regrowth)?;
    }
    match regrowth.tree {
        Some(tree) => Ok((tree, false)),
        None => Ok((made_up(next_sequence), true)),
    }
}

/// Lets a tree grow through the first of these segments, up to where the second begins.
fn grow_through(
    folder: &Folder,
    epoch: u64,
    segments: &[u32],
    end: u64,
    mut regrowth: Regrowth,
) -> Result<Regrowth, ReadError> {
    let mut opened = Vec::new();
    for index in segments.iter().take(2) {
        opened.push(segment::open(folder, *index)?);
    }
    let header = |opened: &Opened| opened.front.header.filter(|header| header.epoch == epoch);
    let until = opened.get(1).and_then(Option::as_ref).and_then(header).map_or(end, |header| header.first_sequence);
    let Some(opened) = opened.into_iter().next().flatten() else {
        return Ok(regrowth);
    };
    if let Some(tree) = opened.front.base() {
        regrowth = Regrowth::from(Some(tree));
    }
    let path = folder.segment(opened.index);
    let first_sequence = header(&opened).map(|header| header.first_sequence);
    let mut walk = Walk::new(opened.into_segment(epoch), first_sequence);
    let mut buffer = Vec::new();
    loop {
        match walk.step(&mut buffer).map_err(ReadError::at(&path))? {
            Step::Record { head, .. } if head.next_sequence() <= until => regrowth.take(&head, &buffer),
            Step::Record { .. } | Step::Bad { .. } => {}
            Step::End { .. } => break,
        }
    }
    // A segment whose header is lost goes on where this one ends.
    if until != end {
        regrowth.lose_below(until);
    }
    Ok(regrowth)
}

/// A tree of this size of which nothing is known: each of its largest complete subtrees counts as one lost record.
fn made_up(size: u64) -> Frontier {
    let bits = (0..u64::BITS).rev().filter(|bit| size >> bit & 1 == 1);
    let nodes = bits.map(|bit| merkle::lost_leaf(size >> (bit + 1) << (bit + 1))).collect();
    Frontier::from_parts(size, nodes).unwrap_or_default()
}
