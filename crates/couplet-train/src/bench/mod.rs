//! How fast a device takes training steps, on data that needs no disk.

use std::error::Error;
use std::ops::Range;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use couplet_data::batch;
use couplet_data::loader::{HostBatch, TOKEN_MULTIPLE};
use couplet_loss::{Loss, default_chunk};
use couplet_model::{
    ClassifierHead, Clip, ForwardContext, FreezeConfig, ModelSpec, Precision, PreprocessSpec,
};

use crate::comm::Solo;
use crate::memory;
use crate::optimizer::ModelOptimizer;
use crate::step::{Encoding, Objective, StepContext, lanes, step};
use crate::{DeviceSetting, OptimizerConfig, OptimizerSettings};

/// Sides of the square matrices whose product is the device's peak: the first that takes so
/// many seconds, or the last.
const MATMUL: Range<usize> = 2048..16_384;
const MATMUL_SECONDS: f64 = 0.005;
/// Seconds after which no further round is begun.
const MATMUL_PATIENCE: f64 = 5.0;
const MATMUL_ROUNDS: usize = 5;
const LEARNING_RATE: f64 = 1e-5;

/// What is measured.
#[derive(Debug, Clone)]
pub struct StepBenchSettings {
    pub spec: ModelSpec,
    /// Pairs in a step.
    pub batch: usize,
    /// Pairs in one pass; by default all.
    pub micro: Option<usize>,
    pub precision: Precision,
    pub device: DeviceSetting,
    pub freeze: FreezeConfig,
    pub recompute_blocks: bool,
    pub optimizer: OptimizerConfig,
    pub loss: Loss,
    /// So many classes are told by a head on the image tower, without captions.
    pub classes: Option<usize>,
    /// Rows of the logits matrix that exist at once; by default as many as a run takes.
    pub logit_rows: Option<usize>,
    /// Tokens of each caption, start and end included; by default the whole context.
    pub caption_tokens: Option<usize>,
    /// Steps that count, after `warm_up` that do not.
    pub steps: usize,
    pub warm_up: usize,
}

impl StepBenchSettings {
    /// A few steps on the CPU, in f32, as the paper trains a ViT.
    pub fn new(spec: ModelSpec, batch: usize) -> Self {
        Self {
            spec,
            batch,
            micro: None,
            precision: Precision::F32,
            device: DeviceSetting::Flex,
            freeze: FreezeConfig::default(),
            recompute_blocks: false,
            optimizer: OptimizerConfig::AdamW(OptimizerSettings::paper(LEARNING_RATE)),
            loss: Loss::default(),
            classes: None,
            logit_rows: None,
            caption_tokens: None,
            steps: 3,
            warm_up: 1,
        }
    }

    /// Of each caption.
    fn tokens(&self) -> usize {
        (self.caption_tokens).unwrap_or(self.spec.text.context_length)
    }
}

/// Why a bench cannot be run: the argument, and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{argument}: {message}")]
pub struct StepBenchError {
    pub argument: &'static str,
    pub message: String,
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// What was measured. Times are in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct StepBench {
    /// Of each step: forward, loss, backward, clipping and update.
    pub steps: Vec<f64>,
    /// Of the image tower's forward pass over the batch, as in evaluation.
    pub forward: Vec<f64>,
    /// Floating-point operations of a contrastive step that trains everything: three forward
    /// passes, nothing saved.
    pub step_flops: f64,
    /// Of the image tower's forward pass over the batch.
    pub forward_flops: f64,
    /// Floating-point operations a second of a large matrix product at this precision.
    pub matmul_flops: f64,
    /// The process's most bytes in memory, where the system tells; of the CPU alone.
    pub peak_memory: Option<u64>,
    pub tokens: usize,
}

/// Runs steps on random pictures.
///
/// # Errors
/// If the device is not there, the precision is none of its own, or a size is impossible.
///
/// # Panics
/// If the device fails, or classes are to be told by the sigmoid loss.
pub fn bench_step(settings: &StepBenchSettings) -> Result<StepBench, StepBenchError> {
    let device = check(settings)?;
    let StepBenchSettings { spec, batch, .. } = settings;
    let (model, steps) = steps(settings, &device)?;
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    let pairs = *batch as f64;
    let tokens = settings.tokens();
    Ok(StepBench {
        steps,
        forward: forward(&model.valid(), settings),
        step_flops: 3.0 * pairs * spec.forward_flops(tokens),
        forward_flops: pairs * spec.image_flops(),
        matmul_flops: matmul_flops(&device, settings.precision),
        peak_memory: memory::peak().filter(|_| settings.device.resolved() == DeviceSetting::Flex),
        tokens,
    })
}

/// The median of a step's seconds, and nothing else.
///
/// # Errors
/// As [`bench_step`].
pub(crate) fn step_seconds(settings: &StepBenchSettings) -> Result<f64, StepBenchError> {
    let (_, mut seconds) = steps(settings, &check(settings)?)?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// The model after the steps, and the seconds of those that count.
fn steps(settings: &StepBenchSettings, plain: &Device) -> Result<(Clip, Vec<f64>), StepBenchError> {
    let device = plain.clone().autodiff();
    let StepBenchSettings {
        spec,
        batch,
        precision,
        ..
    } = settings;
    let context = StepContext {
        encoding: Encoding {
            device: device.clone(),
            recompute_blocks: settings.recompute_blocks,
            freeze: settings.freeze,
            preprocess: PreprocessSpec::default(),
            image_size: spec.image.image_size(),
        },
        lanes: lanes(settings.device, spec, settings.micro.unwrap_or(*batch)).map_err(|error| {
            StepBenchError {
                argument: "--device",
                message: "cannot start its threads".to_string(),
                source: Some(error.into()),
            }
        })?,
        objective: Objective::new(settings.loss, settings.classes.is_some()),
        logit_rows: settings.logit_rows.unwrap_or_else(|| default_chunk(*batch)),
        micro_batch: settings.micro.unwrap_or(*batch),
        comm: Box::new(Solo),
    };
    let mut optimizer = ModelOptimizer::new(&settings.optimizer, spec);
    let mut model =
        (Clip::init(spec, 0, &device).freeze(settings.freeze, spec)).with_precision(*precision);
    if let Some(classes) = settings.classes {
        let head = ClassifierHead::new(Tensor::zeros([classes, spec.embed_dim], &device));
        model = model.with_head(head).freeze_all_but_classifier();
    }
    let (pixels, tokens) = (pixels(settings), captions(settings));
    let mut steps = Vec::new();
    for at in 0..settings.warm_up + settings.steps {
        let lengths = vec![settings.tokens(); *batch];
        let row = tokens.len() / batch;
        let mut host = HostBatch::from_host(&pixels, tokens.clone(), row, lengths);
        if settings.classes.is_some() {
            host.labels = vec![0; *batch];
        }
        let pass = ForwardContext {
            seed: 0,
            step: at as u64,
            first_row: 0,
        };
        let start = Instant::now();
        (model, _) = step(
            model,
            &mut optimizer,
            host,
            &pass,
            LEARNING_RATE,
            1.0,
            &context,
        );
        wait_for(plain);
        if at >= settings.warm_up {
            steps.push(start.elapsed().as_secs_f64());
        }
    }
    Ok((model, steps))
}

fn check(settings: &StepBenchSettings) -> Result<Device, StepBenchError> {
    let fail = |argument, message: String| {
        Err(StepBenchError {
            argument,
            message,
            source: None,
        })
    };
    let spec = &settings.spec;
    let device = match settings.device.open() {
        Ok(device) => device,
        Err(error) => {
            return Err(StepBenchError {
                argument: "--device",
                message: format!("cannot use {}", settings.device),
                source: Some(error.into()),
            });
        }
    };
    if let Some(dtype) = settings.precision.dtype()
        && !device.supports_dtype(dtype)
    {
        let name = settings.device.resolved();
        return fail(
            "--precision",
            format!("{name} does not compute in {dtype:?}"),
        );
    }
    if settings.batch < 2 && settings.classes.is_none() {
        return fail(
            "--batch",
            "a contrastive batch needs at least 2 pairs".into(),
        );
    }
    if let Some(micro) = settings.micro
        && (micro == 0 || !settings.batch.is_multiple_of(micro))
    {
        let batch = settings.batch;
        return fail(
            "--micro",
            format!("{micro} does not divide the batch of {batch}"),
        );
    }
    let context = spec.text.context_length;
    if let Some(tokens) = settings.caption_tokens
        && !(2..=context).contains(&tokens)
    {
        return fail(
            "--caption-tokens",
            format!("{tokens} is not between 2 and {context}"),
        );
    }
    Ok(device)
}

/// Pixels without a pattern.
fn pixels(settings: &StepBenchSettings) -> Vec<u8> {
    let side = settings.spec.image.image_size();
    let mut state = 0x9e37_79b9_u32;
    let pixels = (0..settings.batch * side * side * 3).map(|_| {
        // Source: Marsaglia 2003, "Xorshift RNGs".
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    pixels.collect()
}

/// Captions of so many tokens, padded as the loader pads them.
fn captions(settings: &StepBenchSettings) -> Vec<i32> {
    let spec = &settings.spec;
    let length = settings.tokens();
    let row = padded(spec, length);
    let last = i32::try_from(spec.text.vocab_size).unwrap_or(i32::MAX) - 1;
    let mut tokens = Vec::with_capacity(settings.batch * row);
    for pair in 0..settings.batch {
        let word = |at: usize| i32::try_from((pair * 31 + at * 7) % 500).unwrap_or(0) % last;
        // The last id of the vocabulary ends a caption; 0 pads it.
        tokens.extend((1..length).map(word));
        tokens.push(last);
        tokens.resize((pair + 1) * row, 0);
    }
    tokens
}

/// Tokens that the text tower runs on, as the loader pads captions.
/// - longest: of the batch, start and end included.
pub(crate) fn padded(spec: &ModelSpec, longest: usize) -> usize {
    let context = spec.text.context_length;
    if spec.text.reads_no_padding() {
        longest.next_multiple_of(TOKEN_MULTIPLE).min(context)
    } else {
        context
    }
}

/// Until all that was asked of the device is computed: reading a tensor whose values nobody
/// looks at does not wait.
fn wait_for(device: &Device) {
    device.sync().expect("the device computes");
}

fn forward(model: &Clip, settings: &StepBenchSettings) -> Vec<f64> {
    let (side, pixels) = (settings.spec.image.image_size(), pixels(settings));
    let PreprocessSpec { mean, std, .. } = PreprocessSpec::default();
    let mut seconds = Vec::new();
    for at in 0..settings.warm_up + settings.steps {
        let start = Instant::now();
        let images = batch::images(pixels.clone(), side, mean, std, &model.device());
        let features = model.encode_image(images);
        wait_for(&model.device());
        drop(features);
        if at >= settings.warm_up {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds
}

/// The rate of products of square matrices that are large enough to keep the device busy.
fn matmul_flops(device: &Device, precision: Precision) -> f64 {
    let mut side = MATMUL.start;
    loop {
        let seconds = matmul_seconds(device, precision, side);
        if seconds > MATMUL_SECONDS || side >= MATMUL.end {
            #[expect(clippy::cast_precision_loss, reason = "a matrix's side")]
            return 2.0 * (side as f64).powi(3) / seconds;
        }
        side *= 2;
    }
}

/// The best of several products. Their values are random: on equal ones a GPU draws less power
/// and runs faster than on any real ones.
fn matmul_seconds(device: &Device, precision: Precision, side: usize) -> f64 {
    let matrix = || {
        let values = Tensor::<2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        match precision.dtype() {
            Some(dtype) => values.cast(dtype),
            None => values,
        }
    };
    let (a, b) = (matrix(), matrix());
    wait_for(device);
    let (mut best, mut spent) = (f64::INFINITY, 0.0);
    for _ in 0..MATMUL_ROUNDS {
        let start = Instant::now();
        // As the towers multiply.
        let product = couplet_kernels::linear(a.clone(), b.clone(), None);
        wait_for(device);
        drop(product);
        let seconds = start.elapsed().as_secs_f64();
        best = best.min(seconds);
        spent += seconds;
        if spent > MATMUL_PATIENCE {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_model::{Freeze, presets};

    fn settings() -> StepBenchSettings {
        StepBenchSettings {
            micro: Some(2),
            caption_tokens: Some(10),
            steps: 2,
            ..StepBenchSettings::new(presets::find("ViT-Ti-8-32").unwrap(), 4)
        }
    }

    #[test]
    fn a_bench_has_as_many_times_as_steps() {
        let bench = bench_step(&settings()).unwrap();
        assert_eq!(
            (bench.steps.len(), bench.forward.len(), bench.tokens),
            (2, 2, 10)
        );
        assert!(bench.step_flops > 3.0 * bench.forward_flops && bench.matmul_flops > 1e8);
    }

    #[test]
    fn other_tasks_and_optimizers_take_steps_too() {
        let text = FreezeConfig {
            text: Freeze::All,
            ..FreezeConfig::default()
        };
        let lion = OptimizerConfig::Lion(OptimizerSettings::paper(1e-4));
        for settings in [
            StepBenchSettings {
                optimizer: lion,
                freeze: text,
                recompute_blocks: true,
                ..settings()
            },
            StepBenchSettings {
                classes: Some(3),
                ..settings()
            },
        ] {
            assert_eq!(bench_step(&settings).unwrap().steps.len(), 2);
        }
    }

    #[test]
    fn captions_end_with_the_last_id() {
        let (pixels, tokens) = (pixels(&settings()), captions(&settings()));
        let length = settings().tokens();
        assert_eq!(
            (pixels.len(), tokens.len(), length),
            (4 * 32 * 32 * 3, 4 * 16, 10)
        );
        let last = tokens.iter().max().unwrap();
        assert!(
            tokens
                .chunks(16)
                .all(|row| row[9] == *last && row[10..] == [0; 6])
        );
    }

    #[test]
    fn impossible_sizes_are_named() {
        let error = |change: &dyn Fn(&mut StepBenchSettings)| {
            let mut settings = settings();
            change(&mut settings);
            bench_step(&settings).unwrap_err().argument
        };
        assert_eq!(error(&|s| s.batch = 1), "--batch");
        assert_eq!(error(&|s| s.micro = Some(3)), "--micro");
        assert_eq!(error(&|s| s.caption_tokens = Some(78)), "--caption-tokens");
    }
}
