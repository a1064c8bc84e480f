//! Updates of layers that are one module in another layout.

use std::collections::BTreeMap;

use super::config::{IN_ATTENTION, TIMES_IN_ATTENTION};
use super::places::{Place, module_of};
use crate::lora::LowRankUpdate;
use crate::tensors::HostTensor;

/// The update of a layer, and where the layer is.
pub(super) struct Member<'a> {
    pub update: &'a LowRankUpdate,
    pub place: Place,
}

/// PyTorch's attention, whose output projection PEFT adapts with the same rank and alpha.
const OUT_PROJ: &str = "out_proj";

/// One update for each module.
/// - tensors: the updates in each tensor.
/// - attentions: all of PyTorch's in the layout, whose parts are adapted together.
pub(super) fn joined(
    tensors: BTreeMap<String, Vec<Member>>,
    attentions: &[String],
) -> BTreeMap<String, LowRankUpdate> {
    let mut modules: BTreeMap<String, LowRankUpdate> = tensors
        .into_iter()
        .map(|(tensor, members)| (module_of(&tensor), one(&members)))
        .collect();
    for attention in attentions {
        let out = format!("{attention}.{OUT_PROJ}");
        let nothing = |[inputs, outputs]: [usize; 2], scale: f64| LowRankUpdate {
            a: zeros(1, inputs),
            b: zeros(outputs, 1),
            scale,
        };
        let (own, output) = match (modules.remove(attention), modules.remove(&out)) {
            (None, None) => continue,
            (Some(own), None) => {
                let width = own.a.shape[1];
                let output = nothing([width, width], own.scale);
                (own, output)
            }
            (None, Some(output)) => {
                let width = output.a.shape[1];
                (nothing([width, 3 * width], output.scale), output)
            }
            (Some(own), Some(output)) => (own, output),
        };
        let rank = own.a.shape[0].max(output.a.shape[0]);
        let scale = own.scale;
        let output = LowRankUpdate {
            scale: output.scale / TIMES_IN_ATTENTION,
            ..output
        };
        modules.insert(
            format!("{attention}{IN_ATTENTION}{OUT_PROJ}"),
            widened(output, rank, scale),
        );
        modules.insert(attention.clone(), widened(own, rank, scale));
    }
    modules
}

/// The update of a tensor of which several layers have rows: A is theirs one below the other, B has blocks.
fn one(members: &[Member]) -> LowRankUpdate {
    let [first, ..] = members else {
        unreachable!("a tensor with no update is not listed");
    };
    if first.place.rows == first.place.of_rows {
        return first.update.clone();
    }
    let scale = first.update.scale;
    let ranks = members.iter().map(|member| member.update.a.shape[0]);
    let (rank, width) = (ranks.sum(), first.update.a.shape[1]);
    let mut a = HostTensor {
        shape: vec![rank, width],
        values: Vec::new(),
    };
    let mut b = zeros(first.place.of_rows, rank);
    let mut column = 0;
    for Member { update, place } in members {
        a.values.extend(&update.a.values);
        let own = update.a.shape[0];
        let factor = factor(update.scale, scale);
        for (row, values) in place.rows().zip(update.b.values.chunks(own)) {
            let start = row * rank + column;
            for (to, value) in b.values[start..start + own].iter_mut().zip(values) {
                *to = value * factor;
            }
        }
        column += own;
    }
    LowRankUpdate { a, b, scale }
}

/// The same update with a larger rank and another scale.
fn widened(update: LowRankUpdate, rank: usize, scale: f64) -> LowRankUpdate {
    let own = update.a.shape[0];
    let factor = factor(update.scale, scale);
    let mut a = update.a;
    a.values.resize(rank * a.shape[1], 0.0);
    a.shape[0] = rank;
    let rows = update.b.values.chunks(own).flat_map(|row| {
        let values = row.iter().map(move |value| value * factor);
        values.chain(std::iter::repeat_n(0.0, rank - own))
    });
    let b = HostTensor {
        values: rows.collect(),
        shape: vec![update.b.shape[0], rank],
    };
    LowRankUpdate { a, b, scale }
}

#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn factor(own: f64, wanted: f64) -> f32 {
    (own / wanted) as f32
}

fn zeros(rows: usize, columns: usize) -> HostTensor {
    HostTensor {
        shape: vec![rows, columns],
        values: vec![0.0; rows * columns],
    }
}
