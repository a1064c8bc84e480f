//! Multi-head attention.

use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value, as_i64};
use crate::layers::{Matrix, layer_norm, linear, linear_layer};
use crate::schema::AttributeProto;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub width: usize,
    pub heads: usize,
}

/// The sizes of an attention pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSizes {
    pub queries: usize,
    /// Of queries and outputs.
    pub heads: Heads,
    /// Of the tokens.
    pub context_width: usize,
    pub eps: f64,
}

impl Heads {
    fn head_width(self) -> usize {
        self.width / self.heads
    }

    /// - x: `[batch, tokens, width]`; returns `[batch, heads, tokens, head_width]`.
    pub fn split(self, graph: &mut Graph<'_>, x: &Value) -> Value {
        let shape = [0, 0, as_i64(self.heads), as_i64(self.head_width())];
        let x = graph.reshape(x, &shape);
        graph.transpose(&x, &[0, 2, 1, 3])
    }

    /// - q: `[batch or 1, heads, queries, head_width]`; k, v: `[batch, heads, tokens, head_width]`.
    /// - mask: added to the scores, in f32.
    /// - returns `[batch, queries, width]`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "widths of heads are far below 2^24"
    )]
    pub fn attend(
        self,
        graph: &mut Graph<'_>,
        [q, k, v]: [&Value; 3],
        mask: Option<&Value>,
    ) -> Value {
        let scale = (self.head_width() as f32).sqrt().recip();
        // Before the product, which may be in f16.
        let q = graph.with_scalar("Mul", q, scale);
        let k = graph.transpose(k, &[0, 1, 3, 2]);
        let scores = graph.binary("MatMul", &q, &k);
        let mut scores = graph.widen(&scores);
        if let Some(mask) = mask {
            scores = graph.binary("Add", &scores, mask);
        }
        let axis = AttributeProto::int("axis", -1);
        let shares = graph.add("Softmax", &[&scores], vec![axis], Element::F32);
        let shares = graph.cast(&shares, v.element);
        let attended = graph.binary("MatMul", &shares, v);
        let attended = graph.transpose(&attended, &[0, 2, 1, 3]);
        graph.reshape(&attended, &[0, 0, as_i64(self.width)])
    }
}

/// Self-attention with PyTorch's packed input projection.
/// - x: `[batch, tokens, width]`; returns the same shape.
pub(crate) fn self_attention(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    heads: Heads,
    mask: Option<&Value>,
) -> Result<Value, OnnxError> {
    let width = heads.width;
    let packed = Matrix::by_output(graph, &format!("{name}.in_proj_weight"), width, 3 * width)?;
    let bias_name = format!("{name}.in_proj_bias");
    let bias = graph.weights.get(&bias_name, &[3 * width])?;
    let qkv = linear(graph, x, &packed, (bias_name.as_str(), bias))?;
    let [q, k, v] = graph
        .split(&qkv, [width; 3])
        .map(|part| heads.split(graph, &part));
    let attended = heads.attend(graph, [&q, &k, &v], mask);
    linear_layer(
        graph,
        &format!("{name}.out_proj"),
        &attended,
        [width, width],
    )
}

/// The attention of queries that are the same for all sequences, with PyTorch's packed input projection.
/// - query: `[1, queries, width]`; x: `[batch, tokens, width]`; returns `[batch, queries, width]`.
pub(crate) fn query_attention(
    graph: &mut Graph<'_>,
    name: &str,
    query: &Value,
    x: &Value,
    heads: Heads,
) -> Result<Value, OnnxError> {
    let w = heads.width;
    let packed = Matrix::by_output(graph, &format!("{name}.in_proj_weight"), w, 3 * w)?;
    let parts = ["q", "k", "v"];
    let matrices = std::array::from_fn(|at| {
        let part = format!("{name}.in_proj_weight.{}", parts[at]);
        packed.outputs(&part, at * w, w)
    });
    attend_to(graph, name, query, x, &matrices, heads)
}

/// - matrices: of queries, keys and values.
fn attend_to<'a>(
    graph: &mut Graph<'a>,
    name: &str,
    query: &Value,
    x: &Value,
    matrices: &[Matrix<'a>; 3],
    heads: Heads,
) -> Result<Value, OnnxError> {
    let w = heads.width;
    let bias = graph
        .weights
        .get(&format!("{name}.in_proj_bias"), &[3 * w])?;
    let mut parts = Vec::with_capacity(3);
    for ((matrix, source), bias) in matrices.iter().zip([query, x, x]).zip(bias.chunks_exact(w)) {
        let bias_name = format!("{}.bias", matrix.name);
        let part = linear(graph, source, matrix, (bias_name.as_str(), bias))?;
        parts.push(heads.split(graph, &part));
    }
    let attended = heads.attend(graph, [&parts[0], &parts[1], &parts[2]], None);
    linear_layer(graph, &format!("{name}.out_proj"), &attended, [w, w])
}

/// Learned queries over normalised tokens. Source: open_clip `AttentionalPooler`.
/// - x: `[batch, tokens, context_width]`; returns `[batch, queries, width]`, in f32.
pub(crate) fn attention_pool(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    sizes: PoolSizes,
) -> Result<Value, OnnxError> {
    let PoolSizes {
        queries,
        heads,
        context_width,
        eps,
    } = sizes;
    let w = heads.width;
    let query = graph.weight(&format!("{name}.query"), &[queries, w])?;
    let query = layer_norm(graph, &format!("{name}.ln_q"), &query, w, eps)?;
    let query = graph.reshape(&query, &[1, as_i64(queries), as_i64(w)]);
    let x = layer_norm(graph, &format!("{name}.ln_k"), x, context_width, eps)?;
    let attn = format!("{name}.attn");
    let attended = if w == context_width {
        query_attention(graph, &attn, &query, &x, heads)?
    } else {
        let matrix = |part: &str, inputs: usize| {
            Matrix::by_output(graph, &format!("{attn}.{part}_proj_weight"), inputs, w)
        };
        let matrices = [
            matrix("q", w)?,
            matrix("k", context_width)?,
            matrix("v", context_width)?,
        ];
        attend_to(graph, &attn, &query, &x, &matrices, heads)?
    };
    Ok(graph.widen(&attended))
}
