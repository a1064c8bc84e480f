//! The pre-norm transformer that both towers share. Source: open_clip `ResidualAttentionBlock`.

use couplet_model::Activation;

use crate::attention::{Heads, self_attention};
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::layers::{layer_norm, mlp};

/// What all blocks of a tower share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub layers: usize,
    pub heads: Heads,
    pub mlp_width: usize,
    pub activation: Activation,
    pub norm_eps: f64,
    pub has_layer_scale: bool,
}

/// - prefix: of the blocks' names, before their number.
/// - x: `[batch, tokens, width]`; returns the same shape, in f32.
pub(crate) fn transformer(
    graph: &mut Graph<'_>,
    prefix: &str,
    mut x: Value,
    blocks: &Blocks,
    mask: Option<&Value>,
) -> Result<Value, OnnxError> {
    for at in 0..blocks.layers {
        x = block(graph, &format!("{prefix}.resblocks.{at}"), &x, blocks, mask)?;
    }
    Ok(x)
}

fn block(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    blocks: &Blocks,
    mask: Option<&Value>,
) -> Result<Value, OnnxError> {
    let w = blocks.heads.width;
    graph.enter(&format!("{name}.attn"));
    let normed = layer_norm(graph, &format!("{name}.ln_1"), x, w, blocks.norm_eps)?;
    let attended = self_attention(graph, &format!("{name}.attn"), &normed, blocks.heads, mask)?;
    let x = add_branch(graph, x, &attended, &format!("{name}.ls_1"), blocks)?;
    graph.enter(&format!("{name}.mlp"));
    let normed = layer_norm(graph, &format!("{name}.ln_2"), &x, w, blocks.norm_eps)?;
    let hidden = mlp(
        graph,
        &format!("{name}.mlp"),
        &normed,
        [w, blocks.mlp_width],
        blocks.activation,
    )?;
    add_branch(graph, &x, &hidden, &format!("{name}.ls_2"), blocks)
}

/// Adds a residual branch in f32, scaled if the tower has layer scales.
fn add_branch(
    graph: &mut Graph<'_>,
    x: &Value,
    branch: &Value,
    scale: &str,
    blocks: &Blocks,
) -> Result<Value, OnnxError> {
    let mut branch = graph.widen(branch);
    if blocks.has_layer_scale {
        let gamma = graph.weight(&format!("{scale}.gamma"), &[blocks.heads.width])?;
        branch = graph.binary("Mul", &branch, &gamma);
    }
    Ok(graph.binary("Add", x, &branch))
}
