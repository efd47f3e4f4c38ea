//! A node about to be compiled: its inputs, and its attributes in the types that the operator wants.

use std::collections::BTreeMap;

use crate::engine::graph::{Attribute, Graph, Node, Tensor, Values};

use super::Unfit;
use super::build::{Builder, Slot};

/// A node with its inputs found.
#[derive(Debug)]
pub(super) struct At<'g> {
    pub(super) node: &'g Node,
    /// Version of the operator set of its domain.
    pub(super) opset: i64,
    inputs: Vec<Option<Slot>>,
}

impl<'g> At<'g> {
    /// Finds the inputs among what has been made and the graph's weights.
    pub(super) fn find(
        graph: &'g Graph,
        node: &'g Node,
        builder: &mut Builder,
        slots: &mut BTreeMap<&'g str, Slot>,
    ) -> Result<At<'g>, Unfit> {
        let mut inputs = Vec::new();
        for name in &node.inputs {
            if name.is_empty() {
                inputs.push(None);
                continue;
            }
            if let Some(slot) = slots.get(name.as_str()) {
                inputs.push(Some(slot.clone()));
                continue;
            }
            let weight = graph.weights.get(name).ok_or_else(|| {
                Unfit::Refused(format!("{} `{}` takes `{name}`, which nothing makes", node.title(), node.name))
            })?;
            let slot = builder.tensor(weight)?;
            slots.insert(name, slot.clone());
            inputs.push(Some(slot));
        }
        Ok(At { inputs, ..At::bare(graph, node) })
    }

    /// The node without its inputs, for its attributes alone.
    pub(super) fn bare(graph: &Graph, node: &'g Node) -> At<'g> {
        // A domain that is not imported at all has its first version.
        let opset = graph.opsets.get(&node.domain).copied().unwrap_or(1);
        At { node, opset, inputs: Vec::new() }
    }

    /// Input number `i`, if it is given.
    pub(super) fn optional(&self, i: usize) -> Option<&Slot> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Input number `i`.
    pub(super) fn input(&self, i: usize) -> Result<&Slot, Unfit> {
        self.optional(i).ok_or_else(|| self.refused(&format!("lacks input {i}")))
    }

    /// All inputs that are given.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Slot> {
        self.inputs.iter().flatten()
    }

    /// Whether somebody wants output number `i`.
    pub(super) fn wants(&self, i: usize) -> bool {
        self.node.outputs.get(i).is_some_and(|name| !name.is_empty())
    }

    /// The node makes no sense.
    pub(super) fn refused(&self, why: &str) -> Unfit {
        Unfit::Refused(format!("{} `{}` {why}", self.node.title(), self.node.name))
    }

    /// The node may make sense, but not to this engine.
    pub(super) fn unsupported(&self, why: &str) -> Unfit {
        Unfit::Unsupported(format!("{} `{}` {why}", self.node.title(), self.node.name))
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.node.attributes.get(name)
    }

    fn wrong(&self, name: &str) -> Unfit {
        self.refused(&format!("has an attribute `{name}` of the wrong type"))
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Unfit> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(n)) => Ok(Some(*n)),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn int_or(&self, name: &str, default: i64) -> Result<i64, Unfit> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>, Unfit> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(n)) => Ok(Some(*n)),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn float_or(&self, name: &str, default: f32) -> Result<f32, Unfit> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(super) fn text_or(&self, name: &str, default: &'g str) -> Result<&str, Unfit> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Text(text)) => Ok(text),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&[i64]>, Unfit> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(list)) => Ok(Some(list)),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn floats(&self, name: &str) -> Result<&[f32], Unfit> {
        match self.attribute(name) {
            None => Ok(&[]),
            Some(Attribute::Floats(list)) => Ok(list),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<&[String], Unfit> {
        match self.attribute(name) {
            None => Ok(&[]),
            Some(Attribute::Texts(list)) => Ok(list),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&Tensor>, Unfit> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_other) => Err(self.wrong(name)),
        }
    }

    /// The whole numbers of input `i`, which must be known when the graph is loaded; `None` = it is not given.
    pub(super) fn known_ints(&self, builder: &Builder, i: usize) -> Result<Option<Vec<i64>>, Unfit> {
        let Some(slot) = self.optional(i) else { return Ok(None) };
        match builder.known(slot) {
            Some(Values::I64(list)) => Ok(Some(list.clone())),
            Some(Values::F32(_) | Values::F64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_)) => {
                Err(self.refused(&format!("wants whole numbers as input {i}")))
            }
            None => Err(self.unsupported(&format!("computes its input {i} from the data"))),
        }
    }

    /// A list that older operator sets keep in an attribute and newer ones in input `i`.
    pub(super) fn listed(&self, builder: &Builder, name: &str, i: usize) -> Result<Option<Vec<i64>>, Unfit> {
        match self.ints(name)? {
            Some(list) => Ok(Some(list.to_vec())),
            None => self.known_ints(builder, i),
        }
    }

    /// An axis of a tensor of `rank` axes; negative ones count from the end.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Unfit> {
        let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        counted
            .and_then(|a| usize::try_from(a).ok())
            .filter(|a| *a < rank)
            .ok_or_else(|| self.refused(&format!("names axis {axis} of {rank} axes")))
    }
}
