//! From a training checkpoint of open_clip, `epoch_K.pt`, to a run that goes on with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;
use couplet_data::loader::LoaderState;
use couplet_model::weights::{HostTensor, NamedTensors, WeightsError, read, read_numbers};
use couplet_model::{
    BlockCount, FolderError, Freeze, ParameterVisitor, is_buffer, load_as, open_clip,
    visit_parameters,
};

use crate::checkpoint::{CheckpointError, Contents, Counted, RunFolder, TrainerState};
use crate::config::ResolvedRun;
use crate::device::{DeviceError, DeviceSetting};
use crate::optimizer::{ModelOptimizer, OptimizerConfig};

/// Why a checkpoint of open_clip cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportCheckpointError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Model(#[from] FolderError),
    #[error(transparent)]
    Run(#[from] CheckpointError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "{}: not a checkpoint of open_clip's training, which has `epoch` and `state_dict`; to start from weights \
         alone, name the file in model.weights",
        _0.display()
    )]
    NoTraining(PathBuf),
    #[error(
        "{}: the optimizer's state does not belong to this model: {message}; check --model, --lock-image and \
         --lock-text",
        path.display()
    )]
    Moments { path: PathBuf, message: String },
    #[error("{}: only the state of open_clip's own AdamW can be continued", _0.display())]
    Optimizer(PathBuf),
}

/// What a run continues with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCheckpoint {
    pub step: u64,
    /// Epochs that are trained.
    pub epoch: u64,
    pub samples_seen: u64,
    /// Number of parameters whose moments were taken over; 0 if the file has none.
    pub moments: usize,
    /// Where the optimizer's own number of updates differs from `step`.
    pub updates: Option<u64>,
}

/// Makes a run's folder with a checkpoint that continues after the epochs of `file`.
/// - open: opens the folder, once the file is known to be right.
///
/// # Errors
/// If the file cannot be read, has another model, or its optimizer's state does not fit it; if the folder
/// cannot be opened or written.
pub fn import_checkpoint(
    run: &ResolvedRun,
    file: &Path,
    open: impl FnOnce() -> Result<RunFolder, CheckpointError>,
) -> Result<ImportedCheckpoint, ImportCheckpointError> {
    let numbers = read_numbers(file)?;
    let tensors = read(file)?.tensors;
    let no_training = || ImportCheckpointError::NoTraining(file.to_path_buf());
    let epoch = numbers
        .get("epoch")
        .copied()
        .and_then(count)
        .ok_or_else(no_training)?;
    let config = &run.config;
    let spec = config.model.spec();
    // Weights are only moved: any device will do.
    let device = DeviceSetting::Flex.open()?.autodiff();
    let (loaded, _) = load_as(file, &spec, &device)?;
    let model = loaded.model.freeze(config.freeze, &spec);
    let mut optimizer = ModelOptimizer::new(&config.optimizer, &spec);
    let state = optimizer_state(run, &tensors, &numbers).map_err(|message| {
        ImportCheckpointError::Moments {
            path: file.to_path_buf(),
            message,
        }
    })?;
    if !state.is_empty() && !matches!(config.optimizer, OptimizerConfig::AdamW(_)) {
        return Err(ImportCheckpointError::Optimizer(file.to_path_buf()));
    }
    let updates = state.values().map(|own| own.updates).max().unwrap_or(0);
    let moments = state.len();
    if moments > 0 {
        let mut complete = Complete {
            state,
            tensors: NamedTensors::new(),
            times: HashMap::new(),
        };
        visit_parameters(&model, &mut complete);
        (optimizer.load(&model, complete.tensors, &complete.times)).map_err(|message| {
            ImportCheckpointError::Moments {
                path: file.to_path_buf(),
                message,
            }
        })?;
    }
    let counted = epoch.saturating_mul(run.sizes.steps_per_epoch);
    let step = counted.max(updates);
    let samples_seen = step.saturating_mul(run.sizes.batch_size);
    let mut trainer = TrainerState {
        step,
        samples_seen,
        position: LoaderState {
            epoch,
            ..LoaderState::default()
        },
        counted: Some(Counted {
            batch_size: run.sizes.batch_size,
            samples_per_epoch: run.data.epoch_len,
            data: run.data.set.listing().digest(),
            shift: counted.cast_signed() - step.cast_signed(),
        }),
        ..TrainerState::default()
    };
    if let Some(scale) = numbers.get("scaler.scale").filter(|scale| **scale > 0.0) {
        trainer.loss_scale.scale = *scale;
        let steps = numbers
            .get("scaler._growth_tracker")
            .copied()
            .and_then(count);
        trainer.loss_scale.good_steps = steps.and_then(|steps| steps.try_into().ok()).unwrap_or(0);
    }
    let contents = Contents {
        base: None,
        start: None,
        model: &model,
        spec: &spec,
        preprocess: &run.data.preprocess,
        tokens: &run.data.tokens,
        optimizer: &optimizer,
        ema: None,
        eval_weights: run.eval_weights(),
        classes: None,
        state: trainer,
        logs: BTreeMap::new(),
    };
    let folder = open()?;
    folder.save(&contents, config.checkpoint.keep)?;
    folder.commit(run)?;
    Ok(ImportedCheckpoint {
        step,
        epoch,
        samples_seen,
        moments,
        updates: Some(updates).filter(|updates| moments > 0 && *updates != counted),
    })
}

/// A whole number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a count"
)]
fn count(number: f64) -> Option<u64> {
    let is_count = number >= 0.0 && number.fract() == 0.0 && number < 9e15;
    is_count.then_some(number as u64)
}

/// The state of one parameter.
struct ParameterState {
    exp_avg: HostTensor,
    exp_avg_sq: HostTensor,
    updates: u64,
}

/// The optimizer's state by our names of the parameters; empty if the file has none.
///
/// open_clip numbers the parameters that are trained: first gains, biases and scales, then all others, each
/// in the order of `named_parameters()`. Source: open_clip_train 3.3.0 `main.py`.
fn optimizer_state(
    run: &ResolvedRun,
    tensors: &NamedTensors,
    numbers: &BTreeMap<String, f64>,
) -> Result<BTreeMap<String, ParameterState>, String> {
    let mut shapes: BTreeMap<String, &[usize]> = BTreeMap::new();
    for (name, tensor) in tensors {
        let Some(name) = name.strip_prefix("state_dict.") else {
            continue;
        };
        let name = name.replace("_orig_mod.", "");
        let name = name.strip_prefix("module.").unwrap_or(&name);
        if !is_buffer(name) {
            shapes.insert(name.to_string(), &tensor.shape);
        }
    }
    let mut names: Vec<String> = shapes
        .keys()
        .filter(|name| is_trained(run, name))
        .cloned()
        .collect();
    if !tensors
        .keys()
        .any(|name| name.starts_with("optimizer.state."))
    {
        return Ok(BTreeMap::new());
    }
    open_clip::sort_parameters(&mut names)
        .map_err(|name| format!("{name} is no parameter of open_clip's CLIP"))?;
    let is_first = |name: &String| {
        let words = ["bn", "ln", "bias", "logit_scale"];
        shapes[name].len() < 2 || words.iter().any(|word| name.contains(word))
    };
    let (first, rest): (Vec<String>, Vec<String>) = names.into_iter().partition(is_first);
    for (group, own) in [&first, &rest].into_iter().enumerate() {
        let start = format!("optimizer.param_groups.{group}.params.");
        let stored = numbers.keys().filter(|key| key.starts_with(&start)).count();
        if stored != own.len() {
            return Err(format!(
                "its group {group} has {stored} parameters, and this model trains {}",
                own.len()
            ));
        }
    }
    let mut state = BTreeMap::new();
    for (index, name) in first.iter().chain(&rest).enumerate() {
        let find = |part: &str| tensors.get(&format!("optimizer.state.{index}.{part}"));
        // A parameter without a gradient has no state.
        let (Some(exp_avg), Some(exp_avg_sq)) = (find("exp_avg"), find("exp_avg_sq")) else {
            continue;
        };
        if exp_avg.shape != shapes[name] || exp_avg_sq.shape != shapes[name] {
            return Err(format!(
                "number {index} should be {name}, {:?}, and has the shape {:?}",
                shapes[name], exp_avg.shape
            ));
        }
        // A tensor since PyTorch 1.12.
        let updates = find("step")
            .and_then(|step| step.values.first().map(|step| f64::from(*step)))
            .or_else(|| {
                numbers
                    .get(&format!("optimizer.state.{index}.step"))
                    .copied()
            })
            .and_then(count)
            .ok_or_else(|| format!("number {index}, {name}, has no `step`"))?;
        let own = ParameterState {
            exp_avg: exp_avg.clone(),
            exp_avg_sq: exp_avg_sq.clone(),
            updates,
        };
        state.insert(own_name(name), own);
    }
    Ok(state)
}

/// Our name of a parameter: open_clip's without the module of a separate text tower.
fn own_name(name: &str) -> String {
    name.strip_prefix("text.").unwrap_or(name).to_string()
}

/// Whether open_clip trains a parameter. With a tower of which the last blocks are trained, `all but last 0
/// blocks` is its projection alone.
/// Source: open_clip 3.3.0 `VisionTransformer.lock`, `lock_text_tower`.
fn is_trained(run: &ResolvedRun, name: &str) -> bool {
    let spec = run.config.model.spec();
    let blocks = BlockCount::new(&spec);
    let name = own_name(name);
    if name.starts_with("logit_") {
        return true;
    }
    let visual = name.strip_prefix("visual.");
    let freeze = if visual.is_some() {
        run.config.freeze.image
    } else {
        run.config.freeze.text
    };
    let layers = if visual.is_some() {
        blocks.image()
    } else {
        blocks.text()
    };
    let Freeze::AllButLast(last) = freeze else {
        return freeze == Freeze::Nothing;
    };
    let name = visual.unwrap_or(&name);
    if name == "proj" || name.starts_with("text_projection") {
        return true;
    }
    if name.starts_with("ln_post") || name.starts_with("ln_final") {
        return last > 0;
    }
    let block = name.strip_prefix("transformer.resblocks.");
    let block = block.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    block.is_some_and(|block| block + last >= layers)
}

/// Gathers the state of every parameter that is trained here; one without any starts from zeros.
struct Complete {
    state: BTreeMap<String, ParameterState>,
    tensors: NamedTensors,
    times: HashMap<String, usize>,
}

impl ParameterVisitor for Complete {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let shape = param.dims().to_vec();
        let zeros = || HostTensor {
            values: vec![0.0; shape.iter().product()],
            shape: shape.clone(),
        };
        let own = self.state.remove(name).unwrap_or_else(|| ParameterState {
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            updates: 0,
        });
        for (part, mut tensor) in [("exp_avg", own.exp_avg), ("exp_avg_sq", own.exp_avg_sq)] {
            // Scalars are `[1]` here.
            if tensor.shape.is_empty() {
                tensor.shape = vec![1];
            }
            self.tensors.insert(format!("{name}.{part}"), tensor);
        }
        self.times.insert(
            name.to_string(),
            usize::try_from(own.updates).unwrap_or(usize::MAX),
        );
    }
}
