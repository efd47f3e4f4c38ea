//! From graph to plan: node after node, folding what is known, then dropping what nobody needs and sharing buffers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::BATCH_ROWS;
use crate::engine::graph::{Graph, Kind, Tensor, Values, volume};

use super::Unfit;
use super::attributes::At;
use super::forest::Forest;
use super::fuse::fuse;
use super::operators;
use super::places::Places;
use super::plan::{Buffer, Inputs, Kernel, Operand, Place, Plan, Result as Output, STEP_OUTPUTS, Step};
use super::values::Form;

/// Most numbers of one tensor for one row: 16 MB of f32.
const NUMBERS_MAX: usize = 1 << 22;
/// Most bytes of constants, those that folding makes included.
const CONSTANT_BYTES_MAX: usize = 256 << 20;
/// Most numbers that folding computes or multiplies: half a second.
const WORK_MAX: u64 = 1 << 30;
/// Bytes of buffers that rows which run together may take: half of a small core's L2 cache.
const CACHE_BYTES: usize = 256 << 10;

/// Where the numbers of a slot come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Input,
    Constant(usize),
    /// The builder's number for what a step computes.
    Made(usize),
}

/// A value of the graph while it is compiled: its numbers under a shape (several slots may share them).
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    pub(super) shape: Arc<[usize]>,
    pub(super) source: Source,
}

impl Slot {
    pub(super) fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn form(&self) -> Result<Form, Unfit> {
        Form::of(self.kind).ok_or_else(|| Unfit::Unsupported("texts are no numbers".into()))
    }

    /// The same numbers under another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Result<Slot, Unfit> {
        if volume(&shape) != Some(self.numbers()) {
            let (from, to) = (&self.shape, &shape);
            return Err(Unfit::Refused(format!("numbers of shape {from:?} can't take shape {to:?}")));
        }
        Ok(Slot { shape: shape.into(), ..self.clone() })
    }
}

/// A step whose buffers are not yet chosen.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<(Source, usize)>,
    pub(super) outputs: Vec<usize>,
}

/// What has been compiled so far.
#[derive(Debug, Default)]
pub(super) struct Builder {
    drafts: Vec<Draft>,
    constants: Vec<Values>,
    /// What the steps compute.
    made: Vec<Buffer>,
    /// Whole numbers that are also there as the f32 that they were before.
    floats_of: BTreeMap<usize, Slot>,
    /// The words that whole numbers are places of.
    words: BTreeMap<usize, Vec<String>>,
    constant_bytes: usize,
    work: u64,
}

impl Builder {
    /// A constant of the graph's own or one that a compilation needs.
    pub(super) fn constant(&mut self, kind: Kind, shape: &[usize], values: Values) -> Result<Slot, Unfit> {
        self.hold(Form::of(kind).map_or(1, Form::bytes).saturating_mul(values.len()))?;
        self.constants.push(values);
        Ok(Slot { kind, shape: shape.into(), source: Source::Constant(self.constants.len() - 1) })
    }

    /// Counts bytes that the plan will keep.
    fn hold(&mut self, bytes: usize) -> Result<(), Unfit> {
        self.constant_bytes = self.constant_bytes.saturating_add(bytes);
        if self.constant_bytes > CONSTANT_BYTES_MAX {
            return Err(Unfit::Refused(format!("the constants take more than {} MiB", CONSTANT_BYTES_MAX >> 20)));
        }
        Ok(())
    }

    pub(super) fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> Result<Slot, Unfit> {
        self.constant(Kind::F32, shape, Values::F32(values))
    }

    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<Slot, Unfit> {
        self.constant(tensor.kind, &tensor.shape, tensor.values.clone())
    }

    /// The numbers of a slot, if they depend on no input.
    pub(super) fn known(&self, slot: &Slot) -> Option<&Values> {
        match slot.source {
            Source::Constant(c) => self.constants.get(c),
            Source::Input | Source::Made(_) => None,
        }
    }

    pub(super) fn known_floats(&self, slot: &Slot) -> Option<&[f32]> {
        match self.known(slot)? {
            Values::F32(v) => Some(v),
            Values::F64(_) | Values::I64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_) => None,
        }
    }

    /// Whether so many numbers are allowed in one tensor.
    pub(super) fn room(shape: &[usize]) -> Result<usize, Unfit> {
        volume(shape).filter(|n| *n <= NUMBERS_MAX).ok_or_else(|| {
            Unfit::Refused(format!("a tensor of shape {shape:?} holds more than {NUMBERS_MAX} numbers for one row"))
        })
    }

    /// Adds a step, or computes it here and now when all that it reads is known.
    pub(super) fn emit(
        &mut self,
        kernel: Kernel,
        inputs: &[&Slot],
        outputs: &[(Kind, &[usize])],
    ) -> Result<Vec<Slot>, Unfit> {
        let mut empty = false;
        for (_, shape) in outputs {
            empty |= Self::room(shape)? == 0;
        }
        let nothing = |(kind, shape): &(Kind, &[usize])| -> Result<(Kind, Arc<[usize]>, Form), Unfit> {
            let form = Form::of(*kind).ok_or_else(|| Unfit::Unsupported("texts are no numbers".into()))?;
            Ok((*kind, (*shape).into(), form))
        };
        let outputs = outputs.iter().map(nothing).collect::<Result<Vec<_>, _>>()?;
        let sources: Vec<(Source, usize)> = inputs.iter().map(|s| (s.source, s.numbers())).collect();
        let all_known = sources.iter().all(|(s, _)| matches!(s, Source::Constant(_)));
        if empty || (all_known && !sources.is_empty()) {
            return self.fold(kernel, &sources, &outputs, empty);
        }
        self.hold(kernel.held())?;
        let mut slots = Vec::new();
        let mut made = Vec::new();
        for (kind, shape, form) in outputs {
            made.push(self.made.len());
            slots.push(Slot { kind, shape: Arc::clone(&shape), source: Source::Made(self.made.len()) });
            self.made.push(Buffer { form, numbers: shape.iter().product() });
        }
        self.drafts.push(Draft { kernel, inputs: sources, outputs: made });
        Ok(slots)
    }

    fn fold(
        &mut self,
        mut kernel: Kernel,
        sources: &[(Source, usize)],
        outputs: &[(Kind, Arc<[usize]>, Form)],
        empty: bool,
    ) -> Result<Vec<Slot>, Unfit> {
        let mut out: [Values; STEP_OUTPUTS] = Default::default();
        let mut numbers = 0;
        for (slot, (_, shape, form)) in out.iter_mut().zip(outputs) {
            let volume: usize = shape.iter().product();
            numbers += volume;
            *slot = form.zeros(volume);
        }
        if !empty {
            let read: usize = sources.iter().map(|(_, n)| *n).sum();
            self.work = self.work.saturating_add(kernel.work()).saturating_add((read + numbers) as u64);
            if self.work > WORK_MAX {
                let why = format!("what is computed while loading takes more than {WORK_MAX} operations");
                return Err(Unfit::Refused(why));
            }
            let operands: Vec<Operand> = sources
                .iter()
                .filter_map(|(source, numbers)| match source {
                    Source::Constant(c) => Some(Operand { place: Place::Constant(*c), numbers: *numbers }),
                    Source::Input | Source::Made(_) => None,
                })
                .collect();
            kernel.settle().map_err(|e| Unfit::Refused(e.to_string()))?;
            let mut scratch = vec![0.0; kernel.scratch(1)];
            let constants = &self.constants;
            let inputs = Inputs { rows: 1, operands: &operands, constants, buffers: &[], row: &[] };
            kernel.run(inputs, &mut out, &mut scratch);
        }
        let mut slots = Vec::new();
        for (values, (kind, shape, _)) in out.iter_mut().zip(outputs) {
            slots.push(self.constant(*kind, shape, std::mem::take(values))?);
        }
        Ok(slots)
    }

    /// Remembers that the whole numbers of `slot` are also there as `floats`.
    pub(super) fn also(&mut self, slot: &Slot, floats: Slot) {
        if let Source::Made(made) = slot.source {
            self.floats_of.insert(made, floats);
        }
    }

    /// Remembers which words the whole numbers of `slot` are places of.
    pub(super) fn spell(&mut self, slot: &Slot, words: Vec<String>) {
        if let Source::Made(made) = slot.source {
            self.words.insert(made, words);
        }
    }

    /// The words that the numbers of `slot` are places of.
    pub(super) fn words(&self, slot: &Slot) -> Option<&[String]> {
        match slot.source {
            Source::Made(made) => self.words.get(&made).map(Vec::as_slice),
            Source::Input | Source::Constant(_) => None,
        }
    }

    /// The same numbers as f32, if they are there.
    pub(super) fn as_floats(&self, slot: &Slot) -> Option<Slot> {
        let Source::Made(made) = slot.source else { return None };
        let floats = self.floats_of.get(&made)?;
        Some(Slot { shape: Arc::clone(&slot.shape), ..floats.clone() })
    }

    /// As [`emit`](Self::emit), for kernels with one output.
    pub(super) fn emit_one(
        &mut self,
        kernel: Kernel,
        inputs: &[&Slot],
        kind: Kind,
        shape: &[usize],
    ) -> Result<Slot, Unfit> {
        let mut slots = self.emit(kernel, inputs, &[(kind, shape)])?;
        slots.pop().ok_or_else(|| Unfit::Unsupported("a step without output".into()))
    }

    fn finish(mut self, row: usize, outputs: &[Slot]) -> Result<Plan, Unfit> {
        let kept: Vec<Source> = outputs.iter().map(|s| s.source).collect();
        fuse(&mut self.drafts, &mut self.constants, &self.made, &kept);
        let places = Places::assign(&self.drafts, &self.made, &kept)?;
        let mut constants = Vec::new();
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place = |source: Source| match source {
            Source::Input => Place::Input,
            Source::Made(m) => Place::Buffer(places.of[m]),
            Source::Constant(c) => Place::Constant(*moved.entry(c).or_insert_with(|| {
                constants.push(std::mem::take(&mut self.constants[c]));
                constants.len() - 1
            })),
        };
        let mut steps = Vec::new();
        for mut draft in self.drafts {
            draft.kernel.settle().map_err(|e| Unfit::Refused(e.to_string()))?;
            let inputs = draft.inputs.iter().map(|(s, numbers)| Operand { place: place(*s), numbers: *numbers });
            let inputs = inputs.collect();
            let outputs = draft
                .outputs
                .iter()
                .map(|m| Operand { place: Place::Buffer(places.of[*m]), numbers: self.made[*m].numbers });
            steps.push(Step { kernel: draft.kernel, inputs, outputs: outputs.collect() });
        }
        let mut results = Vec::new();
        for slot in outputs {
            let operand = Operand { place: place(slot.source), numbers: slot.numbers() };
            slot.form()?;
            results.push(Output { operand, kind: slot.kind, shape: slot.shape.to_vec() });
        }
        let bytes: usize = places.buffers.iter().map(|b| b.form.bytes() * b.numbers).sum();
        let rows_max = (CACHE_BYTES / bytes.max(1)).clamp(1, BATCH_ROWS);
        Ok(Plan { steps, constants, buffers: places.buffers, results, row, rows_max })
    }
}

/// The nodes in an order in which each finds its inputs made; those of the wanted outputs only. A forest needs no more than what its
/// trees look at.
fn ordered(graph: &Graph, wanted: &[&str], forests: &[Forest]) -> Result<Vec<usize>, Unfit> {
    let mut maker: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            if maker.insert(output, i).is_some() {
                return Err(Unfit::Refused(format!("two nodes make `{output}`")));
            }
        }
    }
    // 0 = not seen, 1 = its inputs are being made, 2 = done.
    let mut state = vec![0_u8; graph.nodes.len()];
    let mut order = Vec::new();
    let mut open: Vec<usize> = wanted.iter().rev().filter_map(|w| maker.get(w).copied()).collect();
    while let Some(at) = open.last().copied() {
        if state[at] != 0 {
            open.pop();
            if state[at] == 1 {
                state[at] = 2;
                order.push(at);
            }
            continue;
        }
        state[at] = 1;
        let forest = forests.iter().find(|f| f.sum == at);
        let inputs = forest.map_or(graph.nodes[at].inputs.as_slice(), |f| std::slice::from_ref(&f.input));
        for input in inputs {
            match maker.get(input.as_str()) {
                Some(other) if state[*other] == 0 => open.push(*other),
                Some(other) if state[*other] == 1 => {
                    return Err(Unfit::Refused(format!("`{input}` is made from itself: the graph has a cycle")));
                }
                Some(_) | None => {}
            }
        }
    }
    Ok(order)
}

pub(super) fn compile(graph: &Graph, shape: &[usize], outputs: &[usize]) -> Result<Plan, Unfit> {
    let unknown = operators::unknown(graph);
    if !unknown.is_empty() {
        return Err(Unfit::Unknown(unknown));
    }
    let row = Builder::room(shape)?;
    let [input] = graph.inputs.as_slice() else {
        return Err(Unfit::Refused("the graph must have one input".into()));
    };
    if row == 0 {
        return Err(Unfit::Refused(format!("input `{}` is empty", input.name)));
    }
    let batch: Arc<[usize]> = std::iter::once(1).chain(shape.iter().copied()).collect();
    let mut builder = Builder::default();
    let mut slots: BTreeMap<&str, Slot> = BTreeMap::new();
    slots.insert(&input.name, Slot { kind: Kind::F32, shape: batch, source: Source::Input });
    let wanted: Vec<&str> = outputs.iter().filter_map(|o| graph.outputs.get(*o)).map(String::as_str).collect();
    let forests = Forest::all(graph);
    for place in ordered(graph, &wanted, &forests)? {
        let node = &graph.nodes[place];
        let made = match forests.iter().find(|f| f.sum == place) {
            Some(forest) => operators::forest(&mut builder, forest, slots.get(forest.input.as_str()))?,
            None => {
                let at = At::find(graph, node, &mut builder, &mut slots)?;
                operators::compile(&mut builder, &at)?
            }
        };
        for (name, slot) in node.outputs.iter().zip(made) {
            slots.insert(name, slot);
        }
    }
    let mut results = Vec::new();
    for name in wanted {
        let slot = match (slots.get(name), graph.weights.get(name)) {
            (Some(slot), _) => slot.clone(),
            (None, Some(weight)) => builder.tensor(weight)?,
            (None, None) => return Err(Unfit::Refused(format!("output `{name}` comes from no node"))),
        };
        results.push(slot);
    }
    builder.finish(row, &results)
}
