//! CLIP's text tower. Source: open_clip `TextTransformer` and `CLIP.encode_text`.

use couplet_model::{Activation, TextPool, TextTowerSpec};

use crate::attention::{Heads, PoolSizes, attention_pool};
use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::layers::{layer_norm, token_embedding};
use crate::sequence::{causal_mask, largest_at, length, token_at};
use crate::transformer::{Blocks, transformer};

/// - ids: `[batch, tokens]`; returns the pooled output, `[batch, width]`, in f32.
pub(crate) fn clip_text(
    graph: &mut Graph<'_>,
    ids: &Value,
    spec: &TextTowerSpec,
    activation: Activation,
) -> Result<Value, OnnxError> {
    let (w, eps) = (spec.width, spec.norm_eps);
    let blocks = Blocks {
        layers: spec.layers,
        heads: Heads {
            width: w,
            heads: spec.heads,
        },
        mlp_width: spec.mlp_width(),
        activation,
        norm_eps: eps,
        has_layer_scale: spec.layer_scale.is_some(),
    };
    graph.enter("text.embeddings");
    let tokens = token_embedding(graph, ids, [spec.vocab_size, w])?;
    let table = graph.weight("positional_embedding", &[spec.context_length, w])?;
    let length = length(graph, ids);
    let positions = graph.slice(&table, 0, 0, &length);
    let x = graph.binary("Add", &tokens, &positions);
    let mask = spec.causal.then(|| causal_mask(graph, &length));
    let x = transformer(graph, "transformer", x, &blocks, mask.as_ref())?;
    graph.enter("text.pool");
    let pooled = match spec.pool {
        TextPool::Argmax => {
            let at = largest_at(graph, ids);
            token_at(graph, &x, &at)
        }
        TextPool::Eos { id } => {
            let id = graph.index(i64::from(id));
            let is_end = graph.add("Equal", &[ids, &id], Vec::new(), Element::Bool);
            let at = largest_at(graph, &is_end);
            token_at(graph, &x, &at)
        }
        // The others are of Hugging Face's encoders.
        TextPool::First | TextPool::Mean | TextPool::Pooler => graph.pick(&x, 1, 0),
        TextPool::Last => graph.pick(&x, 1, -1),
        TextPool::Map { heads } => {
            let sizes = PoolSizes {
                queries: 1,
                heads: Heads { width: w, heads },
                context_width: w,
                eps,
            };
            let pooled = attention_pool(graph, "attn_pool", &x, sizes)?;
            graph.pick(&pooled, 1, 0)
        }
    };
    layer_norm(graph, "ln_final", &pooled, w, eps)
}
