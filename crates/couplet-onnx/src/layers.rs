//! Linear layers, norms, activations and embeddings.

use std::borrow::Cow;

use couplet_model::Activation;

use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::initializer::Data;
use crate::options::Precision;
use crate::schema::AttributeProto;

/// The weights of a linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Matrix<'a> {
    pub name: String,
    values: &'a [f32],
    inputs: usize,
    outputs: usize,
    kept: Kept,
}

/// How a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// `[outputs, inputs]`, as PyTorch's linear layers.
    ByOutput,
    /// `[inputs, outputs]`, as open_clip's projections.
    ByInput,
}

/// Largest magnitude of a weight in 8 bits: x86 without VNNI adds two products in 16 bits, and `2 * 255 * 64` fits.
const LARGEST_WEIGHT: f32 = 64.0;
/// The same of an embedding, which is not multiplied.
const LARGEST_EMBEDDING: f32 = 127.0;

impl<'a> Matrix<'a> {
    /// The weight `name` of a linear layer, `[outputs, inputs]`.
    pub fn by_output(
        graph: &Graph<'a>,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, OnnxError> {
        let values = graph.weights.get(name, &[outputs, inputs])?;
        Ok(Self::of_values(name, values, inputs, outputs))
    }

    /// - values: `[outputs, inputs]`.
    pub fn of_values(name: &str, values: &'a [f32], inputs: usize, outputs: usize) -> Self {
        Self {
            name: name.to_string(),
            values,
            inputs,
            outputs,
            kept: Kept::ByOutput,
        }
    }

    /// The projection `name`, `[inputs, outputs]`.
    pub fn by_input(
        graph: &Graph<'a>,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, OnnxError> {
        Ok(Self {
            name: name.to_string(),
            values: graph.weights.get(name, &[inputs, outputs])?,
            inputs,
            outputs,
            kept: Kept::ByInput,
        })
    }

    /// Some of the outputs of a matrix that is kept by output.
    pub fn outputs(&self, name: &str, from: usize, count: usize) -> Self {
        debug_assert_eq!(self.kept, Kept::ByOutput);
        let values = &self.values[from * self.inputs..(from + count) * self.inputs];
        Self::of_values(name, values, self.inputs, count)
    }

    /// As the right operand of a product.
    fn data(&self) -> Data<'a> {
        match self.kept {
            Kept::ByOutput => Data::Turned(self.values, self.inputs),
            Kept::ByInput => Data::Floats(Cow::Borrowed(self.values)),
        }
    }

    fn value(&self, input: usize, output: usize) -> f32 {
        match self.kept {
            Kept::ByOutput => self.values[output * self.inputs + input],
            Kept::ByInput => self.values[input * self.outputs + output],
        }
    }

    /// Whole numbers `[inputs, outputs]`, and what each output's are to be multiplied with.
    fn quantized(&self) -> (Vec<i8>, Vec<f32>) {
        let scale = |output| {
            let values = (0..self.inputs).map(|input| self.value(input, output));
            scale_of(values, LARGEST_WEIGHT)
        };
        let scales: Vec<f32> = (0..self.outputs).map(scale).collect();
        let mut whole = Vec::with_capacity(self.inputs * self.outputs);
        for input in 0..self.inputs {
            for (output, scale) in scales.iter().enumerate() {
                whole.push(rounded(self.value(input, output) / scale));
            }
        }
        (whole, scales)
    }
}

/// What whole numbers up to `largest` are to be multiplied with to reach all values.
fn scale_of(values: impl Iterator<Item = f32>, largest: f32) -> f32 {
    let most = values.fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = most / largest;
    // Zeros, and what is so small that dividing by its scale overflows.
    if scale > f32::MIN_POSITIVE {
        scale
    } else {
        1.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scales keep the values in range, and the cast saturates"
)]
fn rounded(value: f32) -> i8 {
    value.round_ties_even() as i8
}

/// `x matrix`.
/// - x: `[…, inputs]`; returns `[…, outputs]`, in f16 in files of half precision.
pub(crate) fn product<'a>(
    graph: &mut Graph<'a>,
    x: &Value,
    matrix: &Matrix<'a>,
) -> Result<Value, OnnxError> {
    if graph.precision == Precision::Int8 {
        return quantized_product(graph, x, matrix);
    }
    let x = graph.narrow(x);
    let dims = [matrix.inputs, matrix.outputs];
    let weight = graph.constant(&matrix.name, &dims, matrix.data(), x.element)?;
    Ok(graph.binary("MatMul", &x, &weight))
}

/// The same in whole numbers. Source: onnxruntime `quantize_dynamic`, with symmetric weights and a scale for each
/// output.
fn quantized_product<'a>(
    graph: &mut Graph<'a>,
    x: &Value,
    matrix: &Matrix<'a>,
) -> Result<Value, OnnxError> {
    let (whole, scales) = matrix.quantized();
    let name = &matrix.name;
    let weight = graph.constant(
        &format!("{name}_quantized"),
        &[matrix.inputs, matrix.outputs],
        Data::Bytes(whole),
        Element::I8,
    )?;
    let weight_scale = graph.constant(
        &format!("{name}_scale"),
        &[matrix.outputs],
        Data::Floats(Cow::Owned(scales)),
        Element::F32,
    )?;
    let kinds = [Element::U8, Element::F32, Element::U8];
    let [whole, scale, zero] = graph.add_many("DynamicQuantizeLinear", &[x], Vec::new(), kinds);
    let sums = graph.add(
        "MatMulInteger",
        &[&whole, &weight, &zero],
        Vec::new(),
        Element::I32,
    );
    let sums = graph.widen(&sums);
    let scale = graph.binary("Mul", &scale, &weight_scale);
    Ok(graph.binary("Mul", &sums, &scale))
}

/// `x matrix + bias`.
/// - bias: its name and values.
pub(crate) fn linear<'a>(
    graph: &mut Graph<'a>,
    x: &Value,
    matrix: &Matrix<'a>,
    bias: (&str, &'a [f32]),
) -> Result<Value, OnnxError> {
    let y = product(graph, x, matrix)?;
    let (name, values) = bias;
    let data = Data::Floats(Cow::Borrowed(values));
    let bias = graph.constant(name, &[values.len()], data, y.element)?;
    Ok(graph.binary("Add", &y, &bias))
}

/// The linear layer of `name.weight` and `name.bias`.
pub(crate) fn linear_layer(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    [inputs, outputs]: [usize; 2],
) -> Result<Value, OnnxError> {
    let matrix = Matrix::by_output(graph, &format!("{name}.weight"), inputs, outputs)?;
    let bias_name = format!("{name}.bias");
    let bias = graph.weights.get(&bias_name, &[outputs])?;
    linear(graph, x, &matrix, (bias_name.as_str(), bias))
}

/// A linear layer to `hidden`, an activation and a linear layer back: `name.c_fc` and `name.c_proj`.
pub(crate) fn mlp(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    [width, hidden]: [usize; 2],
    activation: Activation,
) -> Result<Value, OnnxError> {
    let inner = linear_layer(graph, &format!("{name}.c_fc"), x, [width, hidden])?;
    let active = activate(graph, &inner, activation);
    linear_layer(graph, &format!("{name}.c_proj"), &active, [hidden, width])
}

/// Layer normalisation over the last axis by `name.weight` and `name.bias`, in f32.
pub(crate) fn layer_norm(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    width: usize,
    eps: f64,
) -> Result<Value, OnnxError> {
    let bias = graph.weight(&format!("{name}.bias"), &[width])?;
    norm(graph, name, x, width, eps, Some(&bias))
}

/// The same without a bias.
pub(crate) fn gain_norm(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    width: usize,
    eps: f64,
) -> Result<Value, OnnxError> {
    norm(graph, name, x, width, eps, None)
}

fn norm(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    width: usize,
    eps: f64,
    bias: Option<&Value>,
) -> Result<Value, OnnxError> {
    let x = graph.widen(x);
    let gain = graph.weight(&format!("{name}.weight"), &[width])?;
    #[expect(clippy::cast_possible_truncation, reason = "ONNX's attributes are f32")]
    let eps = eps as f32;
    let attributes = vec![
        AttributeProto::int("axis", -1),
        AttributeProto::float("epsilon", eps),
    ];
    let inputs: Vec<&Value> = [Some(&x), Some(&gain), bias]
        .into_iter()
        .flatten()
        .collect();
    Ok(graph.add("LayerNormalization", &inputs, attributes, Element::F32))
}

pub(crate) fn activate(graph: &mut Graph<'_>, x: &Value, activation: Activation) -> Value {
    match activation {
        Activation::Gelu => {
            let inner = graph.with_scalar("Div", x, std::f32::consts::SQRT_2);
            let inner = graph.unary("Erf", &inner);
            half_gate(graph, x, &inner)
        }
        Activation::GeluTanh => {
            let square = graph.binary("Mul", x, x);
            let cube = graph.binary("Mul", &square, x);
            let cube = graph.with_scalar("Mul", &cube, 0.044_715);
            let sum = graph.binary("Add", x, &cube);
            // The root of 2 / π.
            let inner = graph.with_scalar("Mul", &sum, 0.797_884_6);
            let inner = graph.unary("Tanh", &inner);
            half_gate(graph, x, &inner)
        }
        Activation::QuickGelu => {
            let inner = graph.with_scalar("Mul", x, 1.702);
            let gate = graph.unary("Sigmoid", &inner);
            graph.binary("Mul", x, &gate)
        }
    }
}

/// `x (1 + inner) / 2`.
fn half_gate(graph: &mut Graph<'_>, x: &Value, inner: &Value) -> Value {
    let gate = graph.with_scalar("Add", inner, 1.0);
    // Halved first: twice x may be more than f16 holds.
    let half = graph.with_scalar("Mul", x, 0.5);
    graph.binary("Mul", &half, &gate)
}

/// The rows of the token embedding, in f32.
/// - ids: `[batch, tokens]`; returns `[batch, tokens, width]`.
pub(crate) fn token_embedding(
    graph: &mut Graph<'_>,
    ids: &Value,
    [vocabulary, width]: [usize; 2],
) -> Result<Value, OnnxError> {
    const NAME: &str = "token_embedding.weight";
    let dims = [vocabulary, width];
    let values = graph.weights.get(NAME, &dims)?;
    let element = match graph.precision {
        Precision::Fp32 => Element::F32,
        Precision::Fp16 => Element::F16,
        Precision::Int8 => {
            let rows = values.chunks_exact(width);
            let scale = |row: &[f32]| scale_of(row.iter().copied(), LARGEST_EMBEDDING);
            let scales: Vec<f32> = rows.clone().map(scale).collect();
            let whole = rows.zip(&scales);
            let whole =
                whole.flat_map(|(row, scale)| row.iter().map(move |value| rounded(value / scale)));
            let whole = Data::Bytes(whole.collect());
            let table = graph.constant(&format!("{NAME}_quantized"), &dims, whole, Element::I8)?;
            let scales = Data::Floats(Cow::Owned(scales));
            let name = format!("{NAME}_scale");
            let scales = graph.constant(&name, &[vocabulary, 1], scales, Element::F32)?;
            let (rows, scales) = (graph.gather(&table, ids), graph.gather(&scales, ids));
            let rows = graph.widen(&rows);
            return Ok(graph.binary("Mul", &rows, &scales));
        }
    };
    let data = Data::Floats(Cow::Borrowed(values));
    let table = graph.constant(NAME, &dims, data, element)?;
    let rows = graph.gather(&table, ids);
    Ok(graph.widen(&rows))
}

/// Rows divided by their Euclidean norm.
/// - x: `[batch, embed_dim]`.
pub(crate) fn l2_normalize(graph: &mut Graph<'_>, x: &Value) -> Value {
    let attributes = vec![
        AttributeProto::ints("axes", &[1]),
        AttributeProto::int("keepdims", 1),
    ];
    let norm = graph.add("ReduceL2", &[x], attributes, x.element);
    // Source: `torch.nn.functional.normalize`.
    let norm = graph.with_scalar("Max", &norm, 1e-12);
    graph.binary("Div", x, &norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_8_bits_are_within_half_a_step() {
        let values: Vec<f32> = (0..12u8).map(|at| f32::from(at * at) - 40.0).collect();
        for kept in [Kept::ByOutput, Kept::ByInput] {
            let matrix = Matrix {
                kept,
                ..Matrix::of_values("w", &values, 4, 3)
            };
            let (whole, scales) = matrix.quantized();
            for (at, whole) in whole.into_iter().enumerate() {
                let (input, output) = (at / 3, at % 3);
                let distance = f32::from(whole) * scales[output] - matrix.value(input, output);
                assert!(distance.abs() <= scales[output] * 0.501, "{kept:?} {at}");
                assert!(whole.unsigned_abs() <= 64);
            }
        }
        assert_eq!(scale_of([0.0, -0.0].into_iter(), LARGEST_WEIGHT), 1.0);
    }
}
