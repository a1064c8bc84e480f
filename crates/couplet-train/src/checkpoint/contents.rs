//! The contents of a checkpoint, and writing them.

use std::fs::{self, File};
use std::path::Path;

use couplet_data::loader::TokenOptions;
use couplet_eval::{EMA_HEAD_FILE, EMA_WEIGHTS_FILE, EVAL_WEIGHTS_FILE, HEAD_FILE, tokenizer_cfg};
use couplet_model::weights;
use couplet_model::{ClassifierHead, Clip, ModelSpec, PreprocessSpec, open_clip};

use super::error::{CheckpointError, io_at, sync_folder};
use super::state::TrainerState;
use crate::config::{Classes, EvalWeights};
use crate::optimizer::ModelOptimizer;

pub(super) const TRAINER: &str = "trainer";
pub(super) const STATE: &str = "state.json";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";

/// Everything that a checkpoint stores.
pub(crate) struct Contents<'a> {
    pub model: &'a Clip,
    pub spec: &'a ModelSpec,
    pub preprocess: &'a PreprocessSpec,
    pub tokens: &'a TokenOptions,
    pub optimizer: &'a ModelOptimizer,
    /// The model with averaged weights.
    pub ema: Option<&'a Clip>,
    /// Which of the two models `--model` opens.
    pub eval_weights: EvalWeights,
    /// The classes of the model's head.
    pub classes: Option<&'a Classes>,
    pub state: TrainerState,
}

pub(super) fn write_checkpoint(folder: &Path, contents: &Contents) -> Result<(), CheckpointError> {
    let trainer = folder.join(TRAINER);
    fs::create_dir_all(&trainer).map_err(io_at(&trainer))?;
    let tokens = contents.tokens;
    let tokenizer = tokenizer_cfg(&tokens.tokenizer);
    let (model, head) = contents.model.clone().split_head();
    save_head(folder, HEAD_FILE, head, contents.classes)?;
    open_clip::save(
        folder,
        &model,
        contents.spec,
        contents.preprocess,
        &tokenizer,
    )?;
    if tokens.tokenizer.file().is_some() {
        tokens
            .tokenizer
            .save_hugging_face(folder, tokens.context_length)?;
    }
    if let Some(ema) = contents.ema {
        let (ema, head) = ema.clone().split_head();
        save_head(folder, EMA_HEAD_FILE, head, contents.classes)?;
        weights::save(&folder.join(EMA_WEIGHTS_FILE), &weights::parameters(&ema))?;
        let file = match contents.eval_weights {
            EvalWeights::Ema => EMA_WEIGHTS_FILE,
            EvalWeights::Raw => open_clip::WEIGHTS_FILE,
        };
        write_synced(&folder.join(EVAL_WEIGHTS_FILE), file)?;
    }
    let (moments, optimizer_times) = contents.optimizer.save(contents.model);
    weights::save(&trainer.join(OPTIMIZER), &moments)?;
    let state = TrainerState {
        optimizer_times,
        ..contents.state.clone()
    };
    let text = serde_json::to_string_pretty(&state).expect("a trainer state serialises");
    write_synced(&trainer.join(STATE), &text)?;
    sync_folder(&trainer)?;
    sync_folder(folder)
}

fn save_head(
    folder: &Path,
    name: &str,
    head: Option<ClassifierHead>,
    classes: Option<&Classes>,
) -> Result<(), CheckpointError> {
    if let (Some(head), Some(classes)) = (head, classes) {
        head.save(&folder.join(name), &classes.class_names)?;
    }
    Ok(())
}

/// Writes a text and a newline, and syncs the file to disk.
fn write_synced(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, format!("{text}\n"))
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(io_at(path))
}
