//! The speed of training steps on a device, on random data.

mod batch;
mod matmul;
mod ranks;
mod ranks_report;
mod settings;
#[cfg(test)]
mod tests;
mod wait;

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use couplet_kernels::held;
use couplet_model::{ClassifierHead, Clip, ForwardContext, PreprocessSpec};

pub(crate) use self::batch::padded;
use self::batch::{Batches, pixels};
use self::matmul::matmul_flops;
pub use self::ranks::{RanksBenchError, bench_ranks};
pub use self::ranks_report::{LinkMeasurement, RankMeasurement, RanksReport, StepSeconds};
use self::settings::{LEARNING_RATE, check};
pub use self::settings::{StepBenchError, StepBenchSettings};
use self::wait::wait_for;
use crate::comm::Comm;
use crate::device::DeviceSetting;
use crate::device_memory::settle;
use crate::memory;
use crate::optimizer::ModelOptimizer;
use crate::step::{Objective, StepContext, StepNumbers, StepOptions, StepSettings, step};

/// The measurements. Times are in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct StepBench {
    /// Seconds of each step: forward, loss, backward, clipping and update.
    pub steps: Vec<f64>,
    /// Seconds of the image tower's forward pass over the batch, as in evaluation.
    pub forward: Vec<f64>,
    /// Floating-point operations of a contrastive step that trains everything, counted as three
    /// forward passes.
    pub step_flops: f64,
    /// Floating-point operations of the image tower's forward pass over the batch.
    pub forward_flops: f64,
    /// Floating-point operations per second of a large matrix product at this precision.
    pub matmul_flops: f64,
    /// The process's peak memory in bytes, where the system reports it; on the CPU only.
    pub peak_memory: Option<u64>,
    /// Tokens per caption, start and end tokens included.
    pub tokens: usize,
}

/// Times training steps and the image tower's forward pass on random data.
///
/// # Errors
/// If the device is not available or does not support the precision, or a size is invalid.
///
/// # Panics
/// If the device fails, or a classification head is combined with the sigmoid loss.
pub fn bench_step(settings: &StepBenchSettings) -> Result<StepBench, StepBenchError> {
    let device = check(settings)?;
    let StepBenchSettings { spec, batch, .. } = settings;
    let (model, steps) = timed_steps(settings, &device, &Comm::alone(), true)?;
    let steps = seconds(&steps);
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

/// The median duration of a step, in seconds.
///
/// # Errors
/// As [`bench_step`].
pub(crate) fn step_seconds(settings: &StepBenchSettings) -> Result<f64, StepBenchError> {
    let (_, steps) = timed_steps(settings, &check(settings)?, &Comm::alone(), true)?;
    Ok(median(seconds(&steps)))
}

/// Whether the device can take the steps, beside `reserve` bytes of other things; returns what it said if it cannot.
///
/// # Errors
/// As [`bench_step`].
pub(crate) fn fits(
    settings: &StepBenchSettings,
    reserve: f64,
) -> Result<Option<String>, StepBenchError> {
    /// Values of a piece, for which devices have limits.
    const PIECE: usize = 16 << 20;
    let device = check(settings)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of a memory"
    )]
    let pieces = (reserve as usize).div_ceil(PIECE * size_of::<f32>());
    let held: Vec<_> = (0..pieces).map(|_| held(PIECE, &device)).collect();
    let tried = timed_steps(settings, &device, &Comm::alone(), true);
    let tried = tried.map(|_| ());
    drop(held);
    // The run needs the room that was taken.
    device.memory_cleanup();
    match tried {
        Ok(()) => Ok(None),
        Err(error) if error.argument == MEMORY => Ok(Some(
            error
                .source
                .map_or(error.message, |cause| cause.to_string()),
        )),
        Err(error) => Err(error),
    }
}

/// When a step began and ended.
type Timed = (Instant, Instant);

fn seconds(steps: &[Timed]) -> Vec<f64> {
    let seconds = steps.iter().map(|(begun, ended)| *ended - *begun);
    seconds.map(|duration| duration.as_secs_f64()).collect()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Runs the steps.
/// - comm: ranks that share the loss and sum their gradients; each has a batch of the settings' size.
/// - may_run_ahead: whether a GPU is given the next step before it has ended one; each is then as long as the mean.
/// - returns the model after them, and the times of each timed step.
fn timed_steps(
    settings: &StepBenchSettings,
    plain: &Device,
    comm: &Comm,
    may_run_ahead: bool,
) -> Result<(Clip, Vec<Timed>), StepBenchError> {
    let device = plain.clone().autodiff();
    let StepBenchSettings {
        spec,
        batch,
        precision,
        ..
    } = settings;
    let context = StepContext::new(StepOptions {
        spec,
        preprocess: PreprocessSpec::default(),
        device: settings.device,
        autodiff: device.clone(),
        freeze: match &settings.adaptation {
            Some(adaptation) => adaptation.freezing(spec),
            None => settings.freeze,
        },
        recompute_blocks: settings.recompute_blocks,
        objective: match settings.classes {
            Some(_) => Objective::Classify {
                label_smoothing: 0.0,
            },
            None => Objective::Contrast(settings.loss.clone()),
        },
        batch: batch * comm.ranks(),
        micro_batch: settings.micro,
        logit_rows: settings.logit_rows,
        comm: comm.clone(),
    });
    let context = context.map_err(no_threads)?;
    let mut optimizer = ModelOptimizer::new(&settings.optimizer, spec);
    let model = Clip::init(spec, 0, &device);
    let model = match &settings.adaptation {
        Some(adaptation) => adaptation.apply(model),
        None => model.freeze(settings.freeze, spec),
    };
    let mut model = model.with_precision(*precision);
    if let Some(classes) = settings.classes {
        let head = ClassifierHead::new(Tensor::zeros([classes, spec.embed_dim], &device));
        model = model.with_head(head).freeze_all_but_classifier();
    }
    model = settle(model);
    let first_pair = (comm.rank() * batch) as u64;
    let batches = Batches::start(settings, plain, first_pair).map_err(no_threads)?;
    let step_settings = StepSettings {
        lr: LEARNING_RATE,
        loss_scale: 1.0,
        may_run_ahead,
    };
    let mut steps = Vec::new();
    let (mut begun, mut runs_ahead, mut last) = (Instant::now(), false, None);
    for at in 0..settings.warm_up + settings.steps {
        let host = batches.next_batch();
        let pass = ForwardContext {
            seed: 0,
            step: at as u64,
            first_row: first_pair,
        };
        let start = Instant::now();
        let numbers;
        (model, numbers) = step(model, &mut optimizer, host, &pass, step_settings, &context);
        let numbers = numbers.map_err(|lost| StepBenchError {
            argument: "mpirun",
            message: "the ranks cannot go on".to_string(),
            source: Some(lost.into()),
        })?;
        // The first step compiles a GPU's kernels.
        if at + 1 == settings.warm_up.max(1) {
            wait_for(plain);
            begun = Instant::now();
        }
        // As in training, a GPU is given the next step before it has ended this one.
        runs_ahead = !matches!(numbers, StepNumbers::Known(_));
        last = Some(numbers);
        if !runs_ahead {
            wait_for(plain);
        }
        if at >= settings.warm_up {
            steps.push((start, Instant::now()));
        }
    }
    if let Some(StepNumbers::OnDevice(numbers)) = last {
        // Here a GPU tells what has failed since the beginning.
        numbers.try_into_data().map_err(|error| StepBenchError {
            argument: MEMORY,
            message: "the device failed, which is mostly for want of memory".to_string(),
            source: Some(error.to_string().into()),
        })?;
    }
    wait_for(plain);
    if runs_ahead {
        let timed = settings.steps + settings.warm_up.min(1) - 1;
        let each = begun.elapsed() / u32::try_from(timed).unwrap_or(u32::MAX).max(1);
        steps = (0..settings.steps).map(|_| (begun, begun + each)).collect();
    }
    Ok((model, steps))
}

/// The argument that decides how much memory a step needs.
const MEMORY: &str = "--micro";

fn no_threads(error: std::io::Error) -> StepBenchError {
    StepBenchError {
        argument: "--device",
        message: "cannot start its threads".to_string(),
        source: Some(error.into()),
    }
}

/// Seconds of each timed forward pass of the image tower.
fn forward(model: &Clip, settings: &StepBenchSettings) -> Vec<f64> {
    let (side, pixels) = (settings.spec.image.image_size(), pixels(settings));
    let PreprocessSpec { mean, std, .. } = PreprocessSpec::default();
    let mut seconds = Vec::new();
    for at in 0..settings.warm_up + settings.steps {
        let start = Instant::now();
        let images = couplet_data::batch::images(pixels.clone(), side, mean, std, &model.device());
        let features = model.encode_image(images);
        wait_for(&model.device());
        drop(features);
        if at >= settings.warm_up {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds
}
