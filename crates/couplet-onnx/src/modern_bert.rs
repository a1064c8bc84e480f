//! ModernBERT. Source: transformers `ModernBertModel`.

use std::borrow::Cow;

use couplet_model::{Activation, TextEncoder, TextPool, TextTowerSpec, rotary_angles};

use crate::attention::Heads;
use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value, as_i64};
use crate::initializer::Data;
use crate::layers::{Matrix, activate, gain_norm, product, token_embedding};
use crate::sequence::{TextInputs, for_scores, is_near, length, mask, mean_of_tokens, visible};

/// What a block reads but its input.
struct Surroundings {
    /// Added to scores, in f32.
    mask: Value,
    /// Of the positions' angles, `[tokens, head_width]`, in f32.
    cos: Value,
    sin: Value,
}

/// - returns the pooled output, `[batch, width]`, in f32.
pub(crate) fn modern_bert(
    graph: &mut Graph<'_>,
    inputs: &TextInputs,
    spec: &TextTowerSpec,
    activation: Activation,
) -> Result<Value, OnnxError> {
    let TextEncoder::ModernBert {
        global_every,
        local_window,
        global_theta,
        local_theta,
        ..
    } = spec.encoder
    else {
        unreachable!("this tower is built for its own encoder");
    };
    let (w, eps) = (spec.width, spec.norm_eps);
    graph.enter("text.embeddings");
    let tokens = token_embedding(graph, &inputs.ids, [spec.vocab_size, w])?;
    let mut x = gain_norm(graph, "ln_embed", &tokens, w, eps)?;
    let visible = visible(graph, inputs, spec.pad_id);
    let keys = for_scores(graph, &visible);
    let length = length(graph, &inputs.ids);
    let global = surroundings(graph, spec, &length, &keys, ("global", global_theta))?;
    let local = if spec.layers > 1 && global_every > 1 {
        let near = is_near(graph, &length, as_i64(local_window / 2));
        let near = graph.binary("And", &keys, &near);
        let local = surroundings(graph, spec, &length, &near, ("local", local_theta))?;
        Some(local)
    } else {
        None
    };
    for at in 0..spec.layers {
        let is_global = at.is_multiple_of(global_every);
        let around = local.as_ref().filter(|_| !is_global).unwrap_or(&global);
        x = block(graph, at, &x, spec, around, activation)?;
    }
    graph.enter("text.pool");
    let x = gain_norm(graph, "ln_final", &x, w, eps)?;
    Ok(match spec.pool {
        TextPool::Mean => mean_of_tokens(graph, &x, &visible),
        _ => graph.pick(&x, 1, 0),
    })
}

/// - visible: what each token looks at.
/// - kind: the name of such blocks and the base of their frequencies.
fn surroundings(
    graph: &mut Graph<'_>,
    spec: &TextTowerSpec,
    length: &Value,
    visible: &Value,
    (kind, theta): (&str, f64),
) -> Result<Surroundings, OnnxError> {
    let head_width = spec.width / spec.heads;
    let dims = [spec.context_length, head_width];
    let [cos, sin] = rotary_angles(spec.context_length, head_width, theta);
    let mut part = |name: &str, values: Vec<f32>| -> Result<Value, OnnxError> {
        let data = Data::Floats(Cow::Owned(values));
        let table = graph.constant(&format!("rotary.{kind}.{name}"), &dims, data, Element::F32)?;
        Ok(graph.slice(&table, 0, 0, length))
    };
    let (cos, sin) = (part("cos", cos)?, part("sin", sin)?);
    let mask = mask(graph, visible);
    Ok(Surroundings { mask, cos, sin })
}

/// `y = x + attn(ln_1(x))`, then `y + mlp(ln_2(y))`; the first block has no `ln_1`.
fn block(
    graph: &mut Graph<'_>,
    at: usize,
    x: &Value,
    spec: &TextTowerSpec,
    around: &Surroundings,
    activation: Activation,
) -> Result<Value, OnnxError> {
    let name = |part: &str| format!("transformer.resblocks.{at}.{part}");
    let (width, eps, hidden) = (spec.width, spec.norm_eps, spec.mlp_width());
    graph.enter(&name("attn"));
    let normed = if at == 0 {
        x.clone()
    } else {
        gain_norm(graph, &name("ln_1"), x, width, eps)?
    };
    let packed = Matrix::by_output(graph, &name("attn.in_proj_weight"), width, 3 * width)?;
    let qkv = product(graph, &normed, &packed)?;
    let heads = Heads {
        width,
        heads: spec.heads,
    };
    let [q, k, v] = graph
        .split(&qkv, [width; 3])
        .map(|part| heads.split(graph, &part));
    let [q, k] = [q, k].map(|part| rotate(graph, &part, around, width / spec.heads));
    let attended = heads.attend(graph, [&q, &k, &v], Some(&around.mask));
    let out = Matrix::by_output(graph, &name("attn.out_proj_weight"), width, width)?;
    let attended = product(graph, &attended, &out)?;
    let attended = graph.widen(&attended);
    let x = graph.binary("Add", x, &attended);

    graph.enter(&name("mlp"));
    let normed = gain_norm(graph, &name("ln_2"), &x, width, eps)?;
    let wide = Matrix::by_output(graph, &name("mlp.c_fc_weight"), width, 2 * hidden)?;
    let both = product(graph, &normed, &wide)?;
    let [input, gate] = graph.split(&both, [hidden; 2]);
    let active = activate(graph, &input, activation);
    let gated = graph.binary("Mul", &active, &gate);
    let back = Matrix::by_output(graph, &name("mlp.c_proj_weight"), hidden, width)?;
    let output = product(graph, &gated, &back)?;
    let output = graph.widen(&output);
    Ok(graph.binary("Add", &x, &output))
}

/// - x: queries or keys, `[batch, heads, tokens, head_width]`; returns the same shape and type.
fn rotate(graph: &mut Graph<'_>, x: &Value, around: &Surroundings, head_width: usize) -> Value {
    let wide = graph.widen(x);
    let [first, second] = graph.split(&wide, [head_width / 2; 2]);
    let second = graph.unary("Neg", &second);
    let turned = graph.concat(&[&second, &first], -1);
    let along = graph.binary("Mul", &wide, &around.cos);
    let across = graph.binary("Mul", &turned, &around.sin);
    let rotated = graph.binary("Add", &along, &across);
    graph.cast(&rotated, x.element)
}
