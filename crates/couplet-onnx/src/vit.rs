//! The vision transformer. Source: open_clip `VisionTransformer`, timm `AttentionPoolLatent`.

use std::borrow::Cow;

use couplet_model::{Activation, ImagePool, ImageProjection, VitSpec};

use crate::attention::{Heads, PoolSizes, attention_pool, query_attention};
use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value, as_i64};
use crate::initializer::Data;
use crate::layers::{Matrix, layer_norm, linear, linear_layer, mlp, product};
use crate::options::Precision;
use crate::schema::AttributeProto;
use crate::transformer::{Blocks, transformer};

/// Of an attention pool's norms, whatever the tower's. Source: open_clip `AttentionalPooler`.
const POOL_NORM_EPS: f64 = 1e-5;

/// - pixels: `[batch, 3, image_size, image_size]`; returns `[batch, embed_dim]`, in f32.
pub(crate) fn vit(
    graph: &mut Graph<'_>,
    pixels: &Value,
    spec: &VitSpec,
    embed_dim: usize,
    activation: Activation,
) -> Result<Value, OnnxError> {
    let w = spec.width;
    let blocks = Blocks {
        layers: spec.layers,
        heads: Heads {
            width: w,
            heads: spec.heads,
        },
        mlp_width: spec.mlp_width(),
        activation,
        norm_eps: spec.norm_eps,
        has_layer_scale: spec.layer_scale.is_some(),
    };
    graph.enter("visual.embeddings");
    let mut x = patches(graph, pixels, spec)?;
    if spec.class_token {
        let class = class_token(graph, pixels, w)?;
        x = graph.concat(&[&class, &x], 1);
    }
    let positions = graph.weight("visual.positional_embedding", &[spec.tokens(), w])?;
    x = graph.binary("Add", &x, &positions);
    if spec.pre_norm {
        x = layer_norm(graph, "visual.ln_pre", &x, w, spec.norm_eps)?;
    }
    let x = transformer(graph, "visual.transformer", x, &blocks, None)?;
    graph.enter("visual.pool");
    let pooled = pool(graph, x, spec, embed_dim, &blocks)?;
    match spec.projection {
        ImageProjection::None => Ok(pooled),
        ImageProjection::Linear => {
            let inputs = if spec.attention_pool.is_some() {
                embed_dim
            } else {
                w
            };
            let matrix = Matrix::by_input(graph, "visual.proj", inputs, embed_dim)?;
            let features = product(graph, &pooled, &matrix)?;
            Ok(graph.widen(&features))
        }
    }
}

/// The learned token before each image's patches, `[batch, 1, width]`.
fn class_token(graph: &mut Graph<'_>, pixels: &Value, width: usize) -> Result<Value, OnnxError> {
    let class = graph.weight("visual.class_embedding", &[width])?;
    let batch = graph.size(pixels, 0);
    let rest = graph.list(&[1, as_i64(width)]);
    let shape = graph.concat(&[&batch, &rest], 0);
    Ok(graph.add("Expand", &[&class, &shape], Vec::new(), Element::F32))
}

/// - returns `[batch, patches, width]`, rows first, in f32.
fn patches(graph: &mut Graph<'_>, pixels: &Value, spec: &VitSpec) -> Result<Value, OnnxError> {
    const NAME: &str = "visual.conv1.weight";
    let (w, patch) = (spec.width, spec.patch_size);
    let shape = [w, 3, patch, patch];
    let values = graph.weights.get(NAME, &shape)?;
    let bias = if spec.patch_bias {
        Some(graph.weights.get("visual.conv1.bias", &[w])?)
    } else {
        None
    };
    if graph.precision == Precision::Int8 {
        let cut = cut(graph, pixels, spec);
        let matrix = Matrix::of_values(NAME, values, 3 * patch * patch, w);
        return match bias {
            Some(bias) => linear(graph, &cut, &matrix, ("visual.conv1.bias", bias)),
            None => product(graph, &cut, &matrix),
        };
    }
    let pixels = graph.narrow(pixels);
    let data = Data::Floats(Cow::Borrowed(values));
    let weight = graph.constant(NAME, &shape, data, pixels.element)?;
    let bias = match bias {
        Some(bias) => {
            let data = Data::Floats(Cow::Borrowed(bias));
            Some(graph.constant("visual.conv1.bias", &[w], data, pixels.element)?)
        }
        None => None,
    };
    let sides = [as_i64(patch); 2];
    let attributes = vec![
        AttributeProto::ints("kernel_shape", &sides),
        AttributeProto::ints("strides", &sides),
    ];
    let inputs: Vec<&Value> = [Some(&pixels), Some(&weight), bias.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let cells = graph.add("Conv", &inputs, attributes, pixels.element);
    let rows = graph.reshape(&cells, &[0, as_i64(w), as_i64(spec.patches())]);
    let rows = graph.transpose(&rows, &[0, 2, 1]);
    Ok(graph.widen(&rows))
}

/// The patches' pixels, `[batch, patches, 3 * patch_size * patch_size]`.
fn cut(graph: &mut Graph<'_>, pixels: &Value, spec: &VitSpec) -> Value {
    let (grid, patch) = (as_i64(spec.grid()), as_i64(spec.patch_size));
    let mut pixels = pixels.clone();
    if spec.grid() * spec.patch_size < spec.image_size {
        let end = graph.list(&[grid * patch]);
        for axis in [2, 3] {
            pixels = graph.slice(&pixels, axis, 0, &end);
        }
    }
    let cells = graph.reshape(&pixels, &[0, 3, grid, patch, grid, patch]);
    let cells = graph.transpose(&cells, &[0, 2, 4, 1, 3, 5]);
    graph.reshape(&cells, &[0, grid * grid, 3 * patch * patch])
}

/// - x: `[batch, tokens, width]`; returns `[batch, width or embed_dim]`.
fn pool(
    graph: &mut Graph<'_>,
    x: Value,
    spec: &VitSpec,
    embed_dim: usize,
    blocks: &Blocks,
) -> Result<Value, OnnxError> {
    const NORM: &str = "visual.ln_post";
    let (w, eps) = (spec.width, spec.norm_eps);
    if spec.pool == ImagePool::Map {
        let x = layer_norm(graph, NORM, &x, w, eps)?;
        return map_head(graph, &x, blocks);
    }
    let (mut x, mut width, mut before) = (x, w, spec.class_tokens());
    if let Some(pool) = spec.attention_pool {
        let sizes = PoolSizes {
            queries: pool.queries,
            heads: Heads {
                width: embed_dim,
                heads: pool.heads,
            },
            context_width: w,
            eps: POOL_NORM_EPS,
        };
        x = attention_pool(graph, "visual.attn_pool", &x, sizes)?;
        // The first output is left out of the mean, too, as in open_clip.
        (width, before) = (embed_dim, 1);
    }
    let is_after = spec.norm_after_pool && spec.attention_pool.is_none();
    let pooled = if is_after {
        let x = one_token(graph, &x, spec.pool, before);
        layer_norm(graph, NORM, &x, width, eps)?
    } else {
        let x = layer_norm(graph, NORM, &x, width, eps)?;
        one_token(graph, &x, spec.pool, before)
    };
    if !spec.pooler {
        return Ok(pooled);
    }
    let pooled = linear_layer(graph, "visual.pooler", &pooled, [width, width])?;
    let pooled = graph.widen(&pooled);
    Ok(graph.unary("Tanh", &pooled))
}

/// The first token, or the mean of those after the first `before`.
fn one_token(graph: &mut Graph<'_>, x: &Value, pool: ImagePool, before: usize) -> Value {
    if pool == ImagePool::Class {
        return graph.pick(x, 1, 0);
    }
    if before == 0 {
        return graph.mean(x, 1, false);
    }
    let end = graph.list(&[i64::MAX]);
    let rest = graph.slice(x, 1, as_i64(before), &end);
    graph.mean(&rest, 1, false)
}

/// A learned query over all tokens, `y = attn(probe, x)`, then `y + mlp(norm(y))`.
/// - x: `[batch, tokens, width]`; returns `[batch, width]`.
fn map_head(graph: &mut Graph<'_>, x: &Value, blocks: &Blocks) -> Result<Value, OnnxError> {
    const NAME: &str = "visual.map_head";
    let w = blocks.heads.width;
    let probe = graph.weight(&format!("{NAME}.probe"), &[1, 1, w])?;
    let attended = query_attention(graph, &format!("{NAME}.attn"), &probe, x, blocks.heads)?;
    let attended = graph.widen(&attended);
    let normed = layer_norm(
        graph,
        &format!("{NAME}.norm"),
        &attended,
        w,
        blocks.norm_eps,
    )?;
    let sizes = [w, blocks.mlp_width];
    let hidden = mlp(
        graph,
        &format!("{NAME}.mlp"),
        &normed,
        sizes,
        blocks.activation,
    )?;
    let hidden = graph.widen(&hidden);
    let sum = graph.binary("Add", &attended, &hidden);
    Ok(graph.pick(&sum, 1, 0))
}
