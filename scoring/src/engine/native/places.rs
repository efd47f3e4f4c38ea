//! Which buffer holds what while a plan runs.

use std::collections::BTreeMap;

use super::Unfit;
use super::build::{Draft, Source};
use super::plan::Buffer;

/// Most bytes of one row's buffers.
const ROW_BYTES_MAX: usize = 64 << 20;

/// Which buffer holds what: one that is not needed any more is given to the next of its form.
pub(super) struct Places {
    /// The buffer of each thing that a step makes.
    pub(super) of: Vec<usize>,
    pub(super) buffers: Vec<Buffer>,
}

impl Places {
    /// `kept` are the results, which must live to the end.
    pub(super) fn assign(drafts: &[Draft], made: &[Buffer], kept: &[Source]) -> Result<Places, Unfit> {
        let mut last = vec![0; made.len()];
        for (at, draft) in drafts.iter().enumerate() {
            draft.outputs.iter().for_each(|m| last[*m] = at);
            for (source, _) in &draft.inputs {
                if let Source::Made(m) = source {
                    last[*m] = at;
                }
            }
        }
        for source in kept {
            if let Source::Made(m) = source {
                last[*m] = usize::MAX;
            }
        }
        let mut places = Places { of: vec![usize::MAX; made.len()], buffers: Vec::new() };
        let mut free: Vec<usize> = Vec::new();
        let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, draft) in drafts.iter().enumerate() {
            for m in &draft.outputs {
                let buffer = places.take(&mut free, made[*m]);
                places.of[*m] = buffer;
                ends.entry(last[*m]).or_default().push(buffer);
            }
            // Only now: a step never writes what it reads.
            free.extend(ends.remove(&at).unwrap_or_default());
        }
        let bytes = places.buffers.iter().map(|b| b.form.bytes().saturating_mul(b.numbers));
        if bytes.fold(0, usize::saturating_add) > ROW_BYTES_MAX {
            return Err(Unfit::Refused(format!("the buffers of one row take more than {} MiB", ROW_BYTES_MAX >> 20)));
        }
        Ok(places)
    }

    /// The free buffer that fits best, or a new one.
    fn take(&mut self, free: &mut Vec<usize>, wanted: Buffer) -> usize {
        let fits = |b: &usize| self.buffers[*b].form == wanted.form;
        let gap = |b: &usize| self.buffers[*b].numbers.abs_diff(wanted.numbers);
        let best = (0..free.len()).filter(|i| fits(&free[*i])).min_by_key(|i| gap(&free[*i]));
        let Some(best) = best else {
            self.buffers.push(wanted);
            return self.buffers.len() - 1;
        };
        let buffer = free.swap_remove(best);
        self.buffers[buffer].numbers = self.buffers[buffer].numbers.max(wanted.numbers);
        buffer
    }
}
