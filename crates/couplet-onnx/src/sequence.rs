//! What text towers compute of token ids alone: positions and masks.

use crate::element::Element;
use crate::graph::{Graph, Value};
use crate::schema::AttributeProto;

/// Added to the score of a token that is not looked at: finite, so that a query that sees no token has no NaN.
const HIDDEN: f32 = f32::MIN;

/// The inputs of a text tower.
#[derive(Debug, Clone)]
pub(crate) struct TextInputs {
    /// `[batch, tokens]`
    pub ids: Value,
    /// `[batch, tokens]`, 0 for tokens that are not looked at; with encoders of Hugging Face.
    pub attention_mask: Option<Value>,
}

/// The number of tokens, `[1]`.
pub(crate) fn length(graph: &mut Graph<'_>, ids: &Value) -> Value {
    graph.size(ids, 1)
}

/// Whether each id is a token, not padding: `[batch, tokens]`.
pub(crate) fn is_token(graph: &mut Graph<'_>, ids: &Value, pad_id: u32) -> Value {
    let pad = graph.index(i64::from(pad_id));
    let is_pad = graph.add("Equal", &[ids, &pad], Vec::new(), Element::Bool);
    graph.unary("Not", &is_pad)
}

/// The tokens that are looked at: those that are no padding, of which the attention mask may leave out some.
pub(crate) fn visible(graph: &mut Graph<'_>, inputs: &TextInputs, pad_id: u32) -> Value {
    let is_token = is_token(graph, &inputs.ids, pad_id);
    let Some(mask) = &inputs.attention_mask else {
        return is_token;
    };
    let mask = graph.cast(mask, Element::Bool);
    graph.binary("And", &is_token, &mask)
}

/// - visible: `[batch, tokens]`; returns `[batch, 1, 1, tokens]`.
pub(crate) fn for_scores(graph: &mut Graph<'_>, visible: &Value) -> Value {
    let axes = graph.list(&[1, 2]);
    graph.add("Unsqueeze", &[visible, &axes], Vec::new(), visible.element)
}

/// What is added to scores: nothing where a token is visible.
pub(crate) fn mask(graph: &mut Graph<'_>, visible: &Value) -> Value {
    let nothing = graph.scalar(0.0, Element::F32);
    let hidden = graph.scalar(HIDDEN, Element::F32);
    let inputs = [visible, &nothing, &hidden];
    graph.add("Where", &inputs, Vec::new(), Element::F32)
}

/// Each position as a column, `[tokens, 1]`, and as a row, `[1, tokens]`.
fn positions(graph: &mut Graph<'_>, length: &Value) -> [Value; 2] {
    let axis = graph.list(&[0]);
    let end = graph.add("Squeeze", &[length, &axis], Vec::new(), Element::I64);
    let (zero, one) = (graph.index(0), graph.index(1));
    let inputs = [&zero, &end, &one];
    let positions = graph.add("Range", &inputs, Vec::new(), Element::I64);
    [1, 0].map(|axis| {
        let axis = graph.list(&[axis]);
        let inputs = [&positions, &axis];
        graph.add("Unsqueeze", &inputs, Vec::new(), Element::I64)
    })
}

/// Hides the tokens after each token: what is added to scores, `[tokens, tokens]`.
pub(crate) fn causal_mask(graph: &mut Graph<'_>, length: &Value) -> Value {
    let [query, key] = positions(graph, length);
    let is_later = graph.add("Greater", &[&key, &query], Vec::new(), Element::Bool);
    let is_seen = graph.unary("Not", &is_later);
    mask(graph, &is_seen)
}

/// Whether tokens are at most `side` apart: `[tokens, tokens]`.
pub(crate) fn is_near(graph: &mut Graph<'_>, length: &Value, side: i64) -> Value {
    let [query, key] = positions(graph, length);
    let distance = graph.binary("Sub", &key, &query);
    let distance = graph.unary("Abs", &distance);
    let side = graph.index(side);
    let is_far = graph.add("Greater", &[&distance, &side], Vec::new(), Element::Bool);
    graph.unary("Not", &is_far)
}

/// Positions counted from `pad_id + 1`, padding left out; padding has `pad_id`. Source: transformers `RobertaEmbeddings`.
/// - returns `[batch, tokens]`.
pub(crate) fn counted_positions(graph: &mut Graph<'_>, ids: &Value, pad_id: u32) -> Value {
    let is_token = is_token(graph, ids, pad_id);
    let is_token = graph.cast(&is_token, Element::I64);
    let axis = graph.index(1);
    let counted = graph.add("CumSum", &[&is_token, &axis], Vec::new(), Element::I64);
    let counted = graph.binary("Mul", &counted, &is_token);
    let pad = graph.index(i64::from(pad_id));
    graph.binary("Add", &counted, &pad)
}

/// The mean of each text's visible tokens.
/// - x: `[batch, tokens, width]`; visible: `[batch, tokens]`; returns `[batch, width]`.
pub(crate) fn mean_of_tokens(graph: &mut Graph<'_>, x: &Value, visible: &Value) -> Value {
    let weights = graph.cast(visible, Element::F32);
    let axis = graph.list(&[2]);
    let weights = graph.add("Unsqueeze", &[&weights, &axis], Vec::new(), Element::F32);
    let weighted = graph.binary("Mul", x, &weights);
    let [sum, count] = [&weighted, &weights].map(|x| {
        let axis = graph.list(&[1]);
        let keep = AttributeProto::int("keepdims", 0);
        graph.add("ReduceSum", &[x, &axis], vec![keep], Element::F32)
    });
    let count = graph.with_scalar("Max", &count, 1.0);
    graph.binary("Div", &sum, &count)
}

/// The token of each text at its index.
/// - x: `[batch, tokens, width]`; at: `[batch]`; returns `[batch, width]`.
pub(crate) fn token_at(graph: &mut Graph<'_>, x: &Value, at: &Value) -> Value {
    let axis = graph.list(&[1]);
    let at = graph.add("Unsqueeze", &[at, &axis], Vec::new(), Element::I64);
    let batch = AttributeProto::int("batch_dims", 1);
    graph.add("GatherND", &[x, &at], vec![batch], x.element)
}

/// The first index of the largest value of each row.
/// - x: `[batch, tokens]`, whole numbers; returns `[batch]`.
pub(crate) fn largest_at(graph: &mut Graph<'_>, x: &Value) -> Value {
    // Runtimes have this operator for 32 bits.
    let x = graph.cast(x, Element::I32);
    let attributes = vec![
        AttributeProto::int("axis", 1),
        AttributeProto::int("keepdims", 0),
    ];
    graph.add("ArgMax", &[&x], attributes, Element::I64)
}
