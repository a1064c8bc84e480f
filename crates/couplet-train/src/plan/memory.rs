//! The memory of a run, by part.

use couplet_model::{Clip, ModelSpec, PassMemory, Precision};

use super::sizes::{MemoryPart, RunPlan};
use crate::config::{GuardConfig, MicroBatch, OnDrop, ResolvedRun};
use crate::device::{DeviceSetting, default_logit_rows};
use crate::feed::{is_fed, pixel_bytes};
use crate::optimizer::OptimizerConfig;
use crate::step::lane_count;

/// Bytes of an f32.
const F32_BYTES: f64 = 4.0;
const WEIGHTS: &str = "weights";
const MOMENTS: &str = "moments";
pub(super) const AVERAGE: &str = "average of the weights";
/// Copies of the features and of a chunk of logits that the loss and its backward pass hold.
const LOSS_COPIES: f64 = 6.0;

impl ResolvedRun {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn count_memory(&self, spec: &ModelSpec, ranks: usize, plan: &mut RunPlan) {
        let config = &self.config;
        let parameters = (plan.model.image.parameters + plan.model.text.parameters) as f64;
        let trained = plan.trained_parameters as f64;
        let lanes = lane_count(config.device, spec, plan.micro_batch) as f64;
        // A micro-batch's gradients are complete before they are added to the sum.
        let passes = if plan.micro_batch < plan.batch {
            2.0
        } else {
            1.0
        };
        let moments = match config.optimizer {
            OptimizerConfig::AdamW(_) | OptimizerConfig::Lamb(_) => 2.0,
            OptimizerConfig::Lion(_) => 1.0,
        };
        let all_pairs = plan.batch * ranks;
        let rows = (config.batch.logit_rows)
            .unwrap_or_else(|| default_logit_rows(config.device, all_pairs));
        let (batch, side) = (plan.batch as f64, spec.image.image_size() as f64);
        let loss_values = match &self.data.classes {
            Some(classes) => plan.micro_batch * (spec.embed_dim + classes.class_names.len()),
            None => 2 * spec.embed_dim * plan.batch + rows.min(plan.batch) * all_pairs,
        };
        // As they arrive, and as tensors.
        let gathered = match &self.data.classes {
            None if ranks > 1 => 2 * 2 * spec.embed_dim * all_pairs,
            _ => 0,
        };
        let average = if config.ema.is_some() {
            parameters
        } else {
            0.0
        };
        let on_gpu = plan.device != DeviceSetting::Flex;
        let narrow = match config.precision {
            Precision::F32 => 0.0,
            // The CPU rounds a weight for one product at a time.
            Precision::Bf16 if !on_gpu => 0.0,
            Precision::Bf16 | Precision::F16 => trained / 2.0,
        };
        let [activations, temporary] = self.activations(spec, plan);
        let micro = plan.micro_batch as f64;
        let part = |name, values: f64| MemoryPart {
            name,
            bytes: F32_BYTES * values,
            on_host: false,
        };
        let mut memory = vec![
            part(WEIGHTS, parameters),
            part("weights in half precision", narrow),
            part("gradients", trained * lanes * passes),
            part(MOMENTS, trained * moments),
            part(AVERAGE, average),
            part("activations", micro * activations / F32_BYTES),
            part("gradients of activations", micro * temporary / F32_BYTES),
            part("features and logits", LOSS_COPIES * loss_values as f64),
            part("features of all ranks", gathered as f64),
        ];
        let pixels = pixel_bytes(plan.device, plan.batch, spec.image.image_size());
        if is_fed(plan.device, pixels) {
            memory.push(MemoryPart {
                name: "pixels of two batches",
                bytes: 2.0 * pixels as f64,
                on_host: false,
            });
        }
        let mixes = |guard: &GuardConfig| guard.on_drop == OnDrop::Mix;
        memory.push(MemoryPart {
            name: "weights of the beginning",
            bytes: if config.guard.as_ref().is_some_and(mixes) {
                F32_BYTES * parameters
            } else {
                0.0
            },
            on_host: true,
        });
        memory.push(MemoryPart {
            name: "pixels of a batch",
            bytes: batch * 3.0 * side * side,
            on_host: true,
        });
        // Copies of what a GPU has; on a CPU they are the gradients themselves.
        let is_copied = ranks > 1 && on_gpu;
        memory.push(MemoryPart {
            name: "gradients on their way to other ranks",
            bytes: if is_copied { F32_BYTES * trained } else { 0.0 },
            on_host: true,
        });
        memory.retain(|part| part.bytes > 0.0);
        plan.memory = memory;
    }

    /// Bytes per pair of a micro-batch: of activations, and of a GPU's gradients of them.
    fn activations(&self, spec: &ModelSpec, plan: &RunPlan) -> [f64; 2] {
        let config = &self.config;
        let pass = PassMemory {
            tokens: plan.tokens,
            precision: config.precision,
            on_gpu: plan.device != DeviceSetting::Flex,
            recompute_blocks: config.batch.recompute_blocks,
            freeze: self.freezing(),
            is_adapted: self.adaptation.is_some(),
        };
        let [image, text] = spec.activation_bytes(&pass);
        let temporary = if pass.on_gpu {
            spec.gradient_bytes(&pass)
        } else {
            0.0
        };
        let activations = if config.classify.is_some() {
            image
        } else if plan.micro_batch < plan.batch {
            // One tower's graph at a time.
            image.max(text)
        } else {
            image + text
        };
        [activations, temporary]
    }

    /// Warns that the run may not fit into memory and says what helps. Where `batch.micro` is `"auto"`, it was tried.
    /// - model: the run's, already in memory, with its moments and average if it is `resumed`.
    pub(crate) fn memory_warning(&self, model: &Clip, resumed: bool) -> Option<String> {
        if self.config.batch.micro == Some(MicroBatch::Auto) {
            return None;
        }
        let device = self.config.device.resolved();
        let spec = self.config.model.spec();
        let plan = self.plan_of(spec.cost_of(model), spec.trained_of(model), None, 1);
        let is_loaded = |part: &&MemoryPart| {
            part.name == WEIGHTS || resumed && [MOMENTS, AVERAGE].contains(&part.name)
        };
        let loaded: f64 = plan
            .memory
            .iter()
            .filter(is_loaded)
            .map(|part| part.bytes)
            .sum();
        let needed = match device {
            DeviceSetting::Flex => plan.bytes(false) + plan.bytes(true) - loaded,
            _ => plan.bytes(false) - loaded,
        };
        let help = if spec.image.has_blocks() {
            "lower batch.micro (\"auto\" finds what fits) or set batch.recompute_blocks = true"
        } else {
            "lower batch.micro (a ResNet's batch norms then see fewer images)"
        };
        memory_warning(needed, device.free_memory()?, plan.tokens, help)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn memory_warning(needed: f64, free: u64, tokens: usize, help: &str) -> Option<String> {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    (needed > free as f64).then(|| {
        format!(
            "with captions of {tokens} tokens the run needs about {:.0} MiB more, but only {:.0} MiB are \
             free; if it ends for want of memory, {help}; `couplet plan` prints the memory of each part",
            mib(needed),
            mib(free as f64)
        )
    })
}
