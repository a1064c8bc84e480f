//! BERT, RoBERTa and XLM-RoBERTa. Source: transformers `BertModel`, `RobertaModel`, open_clip `HFTextEncoder`.

use couplet_model::{Activation, TextEncoder, TextPool, TextTowerSpec};

use crate::attention::{Heads, self_attention};
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::layers::{layer_norm, linear_layer, mlp, token_embedding};
use crate::sequence::{
    TextInputs, counted_positions, for_scores, length, mask, mean_of_tokens, visible,
};

/// - token_types: the number of them.
/// - returns the pooled output, `[batch, width]`, in f32.
pub(crate) fn bert(
    graph: &mut Graph<'_>,
    inputs: &TextInputs,
    spec: &TextTowerSpec,
    token_types: usize,
    activation: Activation,
) -> Result<Value, OnnxError> {
    let w = spec.width;
    graph.enter("text.embeddings");
    let mut x = embeddings(graph, &inputs.ids, spec, token_types)?;
    let visible = visible(graph, inputs, spec.pad_id);
    let keys = for_scores(graph, &visible);
    let mask = mask(graph, &keys);
    let heads = Heads {
        width: w,
        heads: spec.heads,
    };
    for at in 0..spec.layers {
        let name = |part: &str| format!("transformer.resblocks.{at}.{part}");
        graph.enter(&name("attn"));
        let attended = self_attention(graph, &name("attn"), &x, heads, Some(&mask))?;
        x = norm_of_sum(graph, &name("ln_1"), &x, &attended, spec)?;
        graph.enter(&name("mlp"));
        let hidden = mlp(graph, &name("mlp"), &x, [w, spec.mlp_width()], activation)?;
        x = norm_of_sum(graph, &name("ln_2"), &x, &hidden, spec)?;
    }
    graph.enter("text.pool");
    if spec.pool == TextPool::Mean {
        return Ok(mean_of_tokens(graph, &x, &visible));
    }
    let first = graph.pick(&x, 1, 0);
    if spec.pool != TextPool::Pooler {
        return Ok(first);
    }
    let pooled = linear_layer(graph, "pooler", &first, [w, w])?;
    let pooled = graph.widen(&pooled);
    Ok(graph.unary("Tanh", &pooled))
}

/// The input of the first block, `[batch, tokens, width]`.
fn embeddings(
    graph: &mut Graph<'_>,
    ids: &Value,
    spec: &TextTowerSpec,
    token_types: usize,
) -> Result<Value, OnnxError> {
    let w = spec.width;
    let tokens = token_embedding(graph, ids, [spec.vocab_size, w])?;
    let shape = [spec.position_embeddings(), w];
    let table = graph.weight("positional_embedding", &shape)?;
    let positions = if matches!(spec.encoder, TextEncoder::Bert { .. }) {
        let length = length(graph, ids);
        graph.slice(&table, 0, 0, &length)
    } else {
        let counted = counted_positions(graph, ids, spec.pad_id);
        graph.gather(&table, &counted)
    };
    let types = graph.weight("token_type_embedding", &[token_types, w])?;
    // All tokens are of the first.
    let kind = graph.pick(&types, 0, 0);
    let sum = graph.binary("Add", &tokens, &positions);
    let sum = graph.binary("Add", &sum, &kind);
    layer_norm(graph, "ln_embed", &sum, w, spec.norm_eps)
}

fn norm_of_sum(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    branch: &Value,
    spec: &TextTowerSpec,
) -> Result<Value, OnnxError> {
    let branch = graph.widen(branch);
    let sum = graph.binary("Add", x, &branch);
    layer_norm(graph, name, &sum, spec.width, spec.norm_eps)
}
