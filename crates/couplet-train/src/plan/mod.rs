//! What a run will take, before it runs.

use couplet_loss::default_chunk;
use couplet_model::{
    BlockCount, Clip, Freeze, ImageTowerSpec, ModelCost, ModelSpec, PassMemory, Precision,
    TrainableParameters,
};

use crate::bench::{padded, step_seconds};
use crate::config::ResolvedRun;
use crate::step::lane_count;
use crate::{DeviceSetting, OptimizerConfig, StepBenchError, StepBenchSettings};

/// Sizes, arithmetic and memory of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    pub device: DeviceSetting,
    pub precision: Precision,
    pub model: ModelCost,
    /// Parameters that the run trains, the temperature and a classifier included.
    pub trained_parameters: u64,
    /// Tokens that the text tower runs on, which all below is for.
    pub tokens: usize,
    /// Floating-point operations of one forward pass over one pair.
    pub forward_flops: f64,
    /// Of a training step, for each of its pairs: its forward passes, and two more for the
    /// way back through what is trained, three where blocks are computed again. Without
    /// patches that training leaves out, captions with `tokens`, nothing else saved.
    pub step_flops: f64,
    pub batch: usize,
    pub micro_batch: usize,
    pub samples_per_epoch: usize,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    pub memory: Vec<MemoryPart>,
}

/// Memory of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPart {
    pub name: &'static str,
    pub bytes: f64,
    /// Whether it lies beside the processor, not on a GPU.
    pub on_host: bool,
}

const WIDE: f64 = 4.0;
const WEIGHTS: &str = "weights";
const MOMENTS: &str = "moments";
const AVERAGE: &str = "average of the weights";
/// Copies of features, and of a chunk of logits, that the loss and its way back hold.
const OF_LOSS: f64 = 6.0;

impl RunPlan {
    /// All samples of the run, repetitions included.
    pub fn samples(&self) -> u64 {
        self.total_steps * self.batch as u64
    }

    /// Bytes on the device, or beside it.
    pub fn bytes(&self, on_host: bool) -> f64 {
        let parts = self.memory.iter().filter(|part| part.on_host == on_host);
        parts.map(|part| part.bytes).sum()
    }
}

impl ResolvedRun {
    /// What the run will take.
    /// - tokens: of its longest captions, start and end included; by default the whole context.
    pub fn plan(&self, tokens: Option<usize>) -> RunPlan {
        let spec = self.config.model.spec();
        let mut trained = spec.trained_parameters(self.config.freeze);
        if let Some(classes) = &self.data.classes {
            trained.text = 0;
            trained.joint = ((spec.embed_dim + 1) * classes.class_names.len()) as u64;
        }
        self.plan_of(spec.cost(), trained, tokens)
    }

    fn plan_of(
        &self,
        model: ModelCost,
        trained: TrainableParameters,
        tokens: Option<usize>,
    ) -> RunPlan {
        let config = &self.config;
        let spec = config.model.spec();
        let context = spec.text.context_length;
        let batch = config.batch.global;
        let mut plan = RunPlan {
            device: config.device.resolved(),
            precision: config.precision,
            model,
            trained_parameters: trained.image + trained.text + trained.joint,
            tokens: padded(&spec, tokens.unwrap_or(context)),
            forward_flops: 0.0,
            step_flops: 0.0,
            batch,
            micro_batch: config.batch.micro.unwrap_or(batch),
            samples_per_epoch: self.data.epoch_len,
            steps_per_epoch: self.sizes.steps_per_epoch,
            total_steps: self.schedule.total_steps,
            memory: Vec::new(),
        };
        self.count_flops(&spec, trained, &mut plan);
        self.count_memory(&spec, &mut plan);
        plan
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn count_flops(&self, spec: &ModelSpec, trained: TrainableParameters, plan: &mut RunPlan) {
        let config = &self.config;
        let image = spec.image_flops();
        let text = if config.classify.is_some() {
            0.0
        } else {
            spec.forward_flops(plan.tokens) - image
        };
        // Where a batch is in parts, what is trained runs once for the features alone.
        let is_encoded_before = plan.micro_batch < plan.batch && config.classify.is_none();
        let passes = 1.0 + f64::from(u8::from(is_encoded_before));
        // The way back costs two passes through what it goes through.
        let way_back = 2.0 + f64::from(u8::from(config.batch.recompute_blocks));
        let blocks = BlockCount::new(spec);
        let of_tower = |forward: f64, trained: u64, freeze: Freeze, blocks: usize| {
            let share = match freeze {
                _ if trained == 0 => return forward,
                Freeze::AllButLast(last) => last as f64 / blocks as f64,
                Freeze::Nothing | Freeze::All => 1.0,
            };
            forward * (passes + way_back * share)
        };
        plan.forward_flops = image + text;
        let image = spec.image_train_flops();
        plan.step_flops = of_tower(image, trained.image, config.freeze.image, blocks.image())
            + of_tower(text, trained.text, config.freeze.text, blocks.text());
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn count_memory(&self, spec: &ModelSpec, plan: &mut RunPlan) {
        let config = &self.config;
        let parameters = (plan.model.image.parameters + plan.model.text.parameters) as f64;
        let trained = plan.trained_parameters as f64;
        let lanes = lane_count(config.device, spec, plan.micro_batch) as f64;
        // A pass's own gradients are whole before they are added to those of the passes before.
        let passes = if plan.micro_batch < plan.batch {
            2.0
        } else {
            1.0
        };
        let moments = match config.optimizer {
            OptimizerConfig::AdamW(_) | OptimizerConfig::Lamb(_) => 2.0,
            OptimizerConfig::Lion(_) => 1.0,
        };
        let pass = PassMemory {
            tokens: plan.tokens,
            precision: config.precision,
            has_kernels: plan.device == DeviceSetting::Flex,
            recompute_blocks: config.batch.recompute_blocks,
            freeze: config.freeze,
        };
        let [image, text] = spec.activation_bytes(&pass);
        let activations = if config.classify.is_some() {
            image
        } else if plan.micro_batch < plan.batch {
            // One tower's graph at a time.
            image.max(text)
        } else {
            image + text
        };
        let rows = (config.batch.logit_rows).unwrap_or_else(|| default_chunk(plan.batch));
        let (batch, side) = (plan.batch as f64, spec.image.image_size() as f64);
        let of_loss = match &self.data.classes {
            Some(classes) => plan.micro_batch * (spec.embed_dim + classes.class_names.len()),
            None => plan.batch * (2 * spec.embed_dim + rows.min(plan.batch)),
        };
        let average = if config.ema.is_some() {
            parameters
        } else {
            0.0
        };
        let narrow = match config.precision {
            Precision::F32 => 0.0,
            Precision::Bf16 | Precision::F16 => trained / 2.0,
        };
        let part = |name, values: f64| MemoryPart {
            name,
            bytes: WIDE * values,
            on_host: false,
        };
        let mut memory = vec![
            part(WEIGHTS, parameters),
            part("weights in half precision", narrow),
            part("gradients", trained * lanes * passes),
            part(MOMENTS, trained * moments),
            part(AVERAGE, average),
            part("activations", plan.micro_batch as f64 * activations / WIDE),
            part("features and logits", OF_LOSS * of_loss as f64),
        ];
        memory.push(MemoryPart {
            name: "pixels of a batch",
            bytes: batch * 3.0 * side * side,
            on_host: true,
        });
        memory.retain(|part| part.bytes > 0.0);
        plan.memory = memory;
    }

    /// That the run may not fit into memory, and what helps; on the CPU, where the system ends
    /// a process that takes too much without a word.
    /// - model: the run's, in memory already, with its moments and average if it is `resumed`.
    pub(crate) fn memory_warning(&self, model: &Clip, resumed: bool) -> Option<String> {
        if self.config.device.resolved() != DeviceSetting::Flex {
            return None;
        }
        let spec = self.config.model.spec();
        let plan = self.plan_of(spec.cost_of(model), spec.trained_of(model), None);
        let is_there = |part: &&MemoryPart| {
            part.name == WEIGHTS || resumed && [MOMENTS, AVERAGE].contains(&part.name)
        };
        let there: f64 = plan
            .memory
            .iter()
            .filter(is_there)
            .map(|part| part.bytes)
            .sum();
        let needed = plan.bytes(false) + plan.bytes(true) - there;
        let help = match spec.image {
            ImageTowerSpec::Vit(_) => "lower batch.micro or set batch.recompute_blocks = true",
            ImageTowerSpec::ResNet(_) => "lower batch.global",
        };
        memory_warning(needed, crate::memory::free()?, plan.tokens, help)
    }

    /// Takes some of the run's steps on random data, of two micro-batches at most.
    /// - returns samples a second.
    ///
    /// # Errors
    /// With the config's key, if the device is not on this machine or does not compute in
    /// the run's precision.
    ///
    /// # Panics
    /// If the device fails.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn measure_speed(&self, plan: &RunPlan) -> Result<f64, StepBenchError> {
        let batch = plan.batch.min(2 * plan.micro_batch);
        let config = &self.config;
        let seconds = step_seconds(&StepBenchSettings {
            device: plan.device,
            micro: Some(plan.micro_batch),
            precision: plan.precision,
            freeze: config.freeze,
            recompute_blocks: config.batch.recompute_blocks,
            optimizer: config.optimizer.clone(),
            loss: config.loss,
            classes: self.data.classes.as_ref().map(|c| c.class_names.len()),
            logit_rows: config.batch.logit_rows,
            caption_tokens: Some(plan.tokens),
            ..StepBenchSettings::new(config.model.spec(), batch)
        })
        .map_err(|error| StepBenchError {
            argument: match error.argument {
                "--device" => "device",
                "--precision" => "precision",
                other => other,
            },
            ..error
        })?;
        Ok(batch as f64 / seconds)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn memory_warning(needed: f64, free: u64, tokens: usize, help: &str) -> Option<String> {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    (needed > free as f64).then(|| {
        format!(
            "with captions of {tokens} tokens the run needs about {:.0} MiB more, and {:.0} are free: \
             if it is ended for that, {help}; \
             `couplet plan` tells what each part takes",
            mib(needed),
            mib(free as f64)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigError, DeviceCheck, RunConfig};
    use burn::tensor::Device;

    fn read(set: &[&str], machine: DeviceCheck) -> Result<ResolvedRun, ConfigError> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/shapes.toml");
        // Datasets are found from the workspace's folder.
        let own = ["device=flex", "eval=[]", "checkpoint.best="];
        let set: Vec<String> = own.iter().chain(set).map(ToString::to_string).collect();
        RunConfig::read_for(path.as_ref(), &set, machine)
    }

    fn checked(set: &[&str]) -> ResolvedRun {
        read(set, DeviceCheck::Local).unwrap()
    }

    fn plan(set: &[&str]) -> RunPlan {
        checked(set).plan(Some(10))
    }

    #[expect(clippy::cast_precision_loss, reason = "a small model")]
    fn values(count: u64) -> f64 {
        count as f64
    }

    fn bytes(plan: &RunPlan, name: &str) -> f64 {
        let part = plan.memory.iter().find(|part| part.name == name);
        part.map_or(0.0, |part| part.bytes)
    }

    #[test]
    fn everything_is_trained_three_passes_long_by_default() {
        let plan = plan(&[]);
        let all = plan.model.image.parameters + plan.model.text.parameters;
        assert_eq!(plan.trained_parameters, all + 1);
        assert!((plan.step_flops / plan.forward_flops - 3.0).abs() < 1e-9);
        assert_eq!(plan.samples(), plan.total_steps * 64);
        assert_eq!(
            bytes(&plan, "moments"),
            8.0 * values(plan.trained_parameters)
        );
        assert_eq!(bytes(&plan, "average of the weights"), 0.0);
    }

    #[test]
    fn parts_of_a_batch_run_once_more_and_hold_less() {
        let (whole, parts) = (
            plan(&["batch.global=256"]),
            plan(&["batch.global=256", "batch.micro=64"]),
        );
        assert!((parts.step_flops / parts.forward_flops - 4.0).abs() < 1e-9);
        assert!(bytes(&parts, "activations") < bytes(&whole, "activations") / 3.0);
        assert_eq!(bytes(&parts, "gradients"), 2.0 * bytes(&whole, "gradients"));
        let again = plan(&["batch.recompute_blocks=true"]);
        assert!((again.step_flops / again.forward_flops - 4.0).abs() < 1e-9);
        assert!(bytes(&again, "activations") < bytes(&plan(&[]), "activations") / 2.0);
        // Frozen blocks are not: of four, one is.
        let last = "freeze.image=all but last 1 block";
        let frozen = plan(&["batch.recompute_blocks=true", last]);
        let image = frozen.model.image.flops;
        let text = frozen.forward_flops - image;
        let expected = image * (1.0 + 3.0 / 4.0) + 4.0 * text;
        assert!((frozen.step_flops / expected - 1.0).abs() < 1e-9);
        assert!(bytes(&frozen, "activations") < bytes(&again, "activations"));
    }

    #[test]
    fn patches_that_are_left_out_cost_nothing() {
        let all = plan(&[]);
        let half = plan(&["model.image.patch_dropout=0.5"]);
        let text = all.forward_flops - all.model.image.flops;
        let spec = checked(&["model.image.patch_dropout=0.5"])
            .config
            .model
            .spec();
        let expected = 3.0 * (spec.image_train_flops() + text);
        assert!((half.step_flops / expected - 1.0).abs() < 1e-9);
        assert_eq!(half.forward_flops, all.forward_flops);
        // Of 1 + 16 tokens 1 + 8 are left, of all of which the embedding is computed still.
        let ratio = spec.image_train_flops() / spec.image_flops();
        assert!((9.0 / 17.0..0.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_run_elsewhere_is_planned_here() {
        let set = ["device=cuda:999", "precision=bf16"];
        assert!(read(&set, DeviceCheck::Local).is_err());
        let checked = read(&set, DeviceCheck::Skip).unwrap();
        let plan = checked.plan(None);
        assert_eq!(plan.device, DeviceSetting::Cuda(999));
        assert_eq!(checked.measure_speed(&plan).unwrap_err().argument, "device");
    }

    #[test]
    fn what_is_frozen_costs_its_forward_pass_alone() {
        let frozen = plan(&[
            "freeze.image=all",
            "ema.decay=0.99",
            "optimizer.kind=lion",
            "optimizer.eps=",
        ]);
        let image = plan(&[]).model.image;
        let text = frozen.forward_flops - image.flops;
        assert!((frozen.step_flops - image.flops - 3.0 * text).abs() < 1e-6 * text);
        assert_eq!(frozen.trained_parameters, frozen.model.text.parameters + 1);
        assert_eq!(
            bytes(&frozen, "moments"),
            4.0 * values(frozen.trained_parameters)
        );
        assert!(bytes(&frozen, "average of the weights") > 0.0);
    }

    #[test]
    fn too_little_memory_is_told_before_the_run() {
        assert_eq!(memory_warning(1e9, 1_000_000_001, 77, ""), None);
        let told = memory_warning(2.0 * 1024.0 * 1024.0, 1 << 20, 77, "lower batch.micro").unwrap();
        assert!(told.contains("about 2 MiB more, and 1 are free") && told.contains("batch.micro"));
        let model = Clip::init(
            &checked(&[]).config.model.spec(),
            0,
            &Device::flex().autodiff(),
        );
        assert_eq!(checked(&[]).memory_warning(&model, false), None);
        let huge = checked(&[
            "data.train.samples=100000000",
            "batch.global=50000000",
            "schedule.warmup=1 step",
        ]);
        assert!(huge.memory_warning(&model, false).is_some());
    }

    #[test]
    fn speed_is_measured_by_steps() {
        let checked = checked(&["batch.global=16"]);
        assert!(checked.measure_speed(&checked.plan(None)).unwrap() > 1.0);
    }
}
