//! CLIP's modified ResNet. Source: open_clip `ModifiedResNet`.

use std::borrow::Cow;

use couplet_model::ResNetSpec;

use crate::attention::Heads;
use crate::error::OnnxError;
use crate::graph::{Graph, Value, as_i64};
use crate::initializer::Data;
use crate::layers::linear_layer;
use crate::schema::AttributeProto;

/// PyTorch's.
const BATCH_NORM_EPS: f64 = 1e-5;
/// Channels of a bottleneck's output over those between its convolutions.
const EXPANSION: usize = 4;

/// A convolution without bias, and the batch norm after it.
#[derive(Clone, Copy)]
struct Layer<'s> {
    conv: &'s str,
    norm: &'s str,
    /// Of inputs and outputs.
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
}

/// - pixels: `[batch, 3, image_size, image_size]`; returns `[batch, embed_dim]`, in f32.
pub(crate) fn resnet(
    graph: &mut Graph<'_>,
    pixels: &Value,
    spec: &ResNetSpec,
    embed_dim: usize,
) -> Result<Value, OnnxError> {
    let w = spec.width;
    graph.enter("visual.stem");
    let mut x = graph.narrow(pixels);
    let channels = [[3, w / 2], [w / 2, w / 2], [w / 2, w]];
    for (at, channels) in (1..).zip(channels) {
        let layer = Layer {
            conv: &format!("visual.conv{at}"),
            norm: &format!("visual.bn{at}"),
            channels,
            kernel: 3,
            stride: if at == 1 { 2 } else { 1 },
        };
        x = convolution(graph, &x, layer)?;
        x = graph.unary("Relu", &x);
    }
    x = average_pool(graph, &x, 2);
    let mut inputs = w;
    for (stage, layers) in spec.layers.into_iter().enumerate() {
        let planes = w << stage;
        for block in 0..layers {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("visual.layer{}.{block}", stage + 1);
            x = bottleneck(graph, &name, &x, [inputs, planes], stride)?;
            inputs = planes * EXPANSION;
        }
    }
    attention_pool_2d(graph, &x, spec, embed_dim)
}

/// - x: `[batch, inputs, height, width]`; returns `[batch, planes * EXPANSION, height / stride, width / stride]`.
fn bottleneck(
    graph: &mut Graph<'_>,
    name: &str,
    x: &Value,
    [inputs, planes]: [usize; 2],
    stride: usize,
) -> Result<Value, OnnxError> {
    graph.enter(name);
    let outputs = planes * EXPANSION;
    let parts = [
        ([inputs, planes], 1),
        ([planes, planes], 3),
        ([planes, outputs], 1),
    ];
    let mut y = x.clone();
    for (at, (channels, kernel)) in (1..).zip(parts) {
        if at == 3 {
            y = average_pool(graph, &y, stride);
        }
        let layer = Layer {
            conv: &format!("{name}.conv{at}"),
            norm: &format!("{name}.bn{at}"),
            channels,
            kernel,
            stride: 1,
        };
        y = convolution(graph, &y, layer)?;
        if at < 3 {
            y = graph.unary("Relu", &y);
        }
    }
    let mut identity = x.clone();
    if stride > 1 || inputs != outputs {
        identity = average_pool(graph, &identity, stride);
        let layer = Layer {
            conv: &format!("{name}.downsample.0"),
            norm: &format!("{name}.downsample.1"),
            channels: [inputs, outputs],
            kernel: 1,
            stride: 1,
        };
        identity = convolution(graph, &identity, layer)?;
    }
    let sum = graph.binary("Add", &y, &identity);
    Ok(graph.unary("Relu", &sum))
}

/// A convolution that keeps the size (but for its stride), with the batch norm's running statistics folded into it.
fn convolution(graph: &mut Graph<'_>, x: &Value, layer: Layer) -> Result<Value, OnnxError> {
    let ([inputs, outputs], kernel) = (layer.channels, layer.kernel);
    let conv_name = format!("{}.weight", layer.conv);
    let shape = [outputs, inputs, kernel, kernel];
    let weight = graph.weights.get(&conv_name, &shape)?;
    let of_norm = |part: &str| {
        let name = format!("{}.{part}", layer.norm);
        graph.weights.get(&name, &[outputs])
    };
    let (gain, bias) = (of_norm("weight")?, of_norm("bias")?);
    let (mean, variance) = (of_norm("running_mean")?, of_norm("running_var")?);
    let (weight, bias) = folded(weight, [gain, bias, mean, variance]);
    let weight = Data::Floats(Cow::Owned(weight));
    let weight = graph.constant(&conv_name, &shape, weight, x.element)?;
    let bias_name = format!("{}.bias", layer.conv);
    let bias = Data::Floats(Cow::Owned(bias));
    let bias = graph.constant(&bias_name, &[outputs], bias, x.element)?;
    let attributes = vec![
        AttributeProto::ints("kernel_shape", &[as_i64(kernel); 2]),
        AttributeProto::ints("strides", &[as_i64(layer.stride); 2]),
        AttributeProto::ints("pads", &[as_i64(kernel / 2); 4]),
    ];
    Ok(graph.add("Conv", &[x, &weight, &bias], attributes, x.element))
}

/// The weights and biases of a convolution that normalises its outputs, too.
/// - norm: gain, bias, mean and variance of each output.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn folded(weight: &[f32], norm: [&[f32]; 4]) -> (Vec<f32>, Vec<f32>) {
    let [gain, bias, mean, variance] = norm;
    let outputs = gain.len();
    let factor = |at: usize| {
        let deviation = (f64::from(variance[at]) + BATCH_NORM_EPS).sqrt();
        f64::from(gain[at]) / deviation
    };
    let factors: Vec<f64> = (0..outputs).map(factor).collect();
    let each = weight.len() / outputs;
    let weights = weight.iter().enumerate();
    let weights = weights.map(|(at, value)| (f64::from(*value) * factors[at / each]) as f32);
    let biases = factors.iter().enumerate();
    let biases =
        biases.map(|(at, factor)| (f64::from(bias[at]) - f64::from(mean[at]) * factor) as f32);
    (weights.collect(), biases.collect())
}

/// The mean over squares of `side` pixels.
fn average_pool(graph: &mut Graph<'_>, x: &Value, side: usize) -> Value {
    if side == 1 {
        return x.clone();
    }
    let sides = [as_i64(side); 2];
    let attributes = vec![
        AttributeProto::ints("kernel_shape", &sides),
        AttributeProto::ints("strides", &sides),
    ];
    graph.add("AveragePool", &[x], attributes, x.element)
}

/// Attention of the cells' mean over itself and all cells. Source: open_clip `AttentionPool2d`.
/// - x: `[batch, channels, height, width]`; returns `[batch, embed_dim]`, in f32.
fn attention_pool_2d(
    graph: &mut Graph<'_>,
    x: &Value,
    spec: &ResNetSpec,
    embed_dim: usize,
) -> Result<Value, OnnxError> {
    graph.enter("visual.attnpool");
    let name = |part: &str| format!("visual.attnpool.{part}");
    let channels = spec.feature_width();
    let cells = spec.grid() * spec.grid();
    let x = graph.widen(x);
    let x = graph.reshape(&x, &[0, as_i64(channels), as_i64(cells)]);
    let x = graph.transpose(&x, &[0, 2, 1]);
    let mean = graph.mean(&x, 1, true);
    let x = graph.concat(&[&mean, &x], 1);
    let positions = graph.weight(&name("positional_embedding"), &[1 + cells, channels])?;
    let x = graph.binary("Add", &x, &positions);
    let end = graph.list(&[1]);
    let query = graph.slice(&x, 1, 0, &end);
    let heads = Heads {
        width: channels,
        heads: spec.heads,
    };
    let sizes = [channels, channels];
    let q = linear_layer(graph, &name("q_proj"), &query, sizes)?;
    let k = linear_layer(graph, &name("k_proj"), &x, sizes)?;
    let v = linear_layer(graph, &name("v_proj"), &x, sizes)?;
    let [q, k, v] = [q, k, v].map(|part| heads.split(graph, &part));
    let attended = heads.attend(graph, [&q, &k, &v], None);
    let pooled = linear_layer(graph, &name("c_proj"), &attended, [channels, embed_dim])?;
    let pooled = graph.widen(&pooled);
    Ok(graph.pick(&pooled, 1, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_norm_is_that_of_the_running_statistics() {
        let norm: [&[f32]; 4] = [&[2.0, 0.5], &[1.0, -1.0], &[3.0, 4.0], &[0.25, 4.0]];
        let (weight, bias) = folded(&[1.0, 2.0, 3.0, 4.0], norm);
        let x = [0.7f32, -0.3];
        for (at, row) in weight.chunks_exact(2).enumerate() {
            let own = [[1.0, 2.0], [3.0, 4.0]][at];
            let y: f32 = own.iter().zip(x).map(|(w, x)| w * x).sum();
            let expected = norm[0][at] * (y - norm[2][at]) / (norm[3][at] + 1e-5).sqrt();
            let expected = expected + norm[1][at];
            let folded: f32 = row.iter().zip(x).map(|(w, x)| w * x).sum();
            assert!((folded + bias[at] - expected).abs() < 1e-4, "{at}");
        }
    }
}
