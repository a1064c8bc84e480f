//! The contents of a checkpoint, and writing them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use couplet_data::loader::TokenOptions;
use couplet_eval::{
    EMA_HEAD_FILE, EMA_WEIGHTS_FILE, EVAL_WEIGHTS_FILE, HEAD_FILE, TRAINER_STATE_FILE,
    tokenizer_cfg,
};
use couplet_model::weights;
use couplet_model::{
    ClassifierHead, Clip, FileDigest, Manifest, ModelSpec, PreprocessSpec, open_clip,
};

use super::error::{CheckpointError, io_at, sync_folder};
use super::names::{ADAPTER, OPTIMIZER_FILE, START_FILE, TRAINER, UPDATES_FILE};
use super::state::TrainerState;
use super::updates;
use crate::config::{Classes, EvalWeights};
use crate::optimizer::ModelOptimizer;

/// Everything that a checkpoint stores.
pub(crate) struct Contents<'a> {
    pub model: &'a Clip,
    pub spec: &'a ModelSpec,
    pub preprocess: &'a PreprocessSpec,
    pub tokens: &'a TokenOptions,
    pub optimizer: &'a ModelOptimizer,
    /// The model that the run began with, if it may be mixed with that.
    pub start: Option<&'a Clip>,
    /// What the model began with, if it has low-rank updates: a name on Hugging Face or a path.
    pub base: Option<&'a str>,
    /// The model with averaged weights.
    pub ema: Option<&'a Clip>,
    /// Which of the two models `--model` opens.
    pub eval_weights: EvalWeights,
    /// The classes of the model's head.
    pub classes: Option<&'a Classes>,
    pub state: TrainerState,
    /// The run's logs at this step, by file name.
    pub logs: BTreeMap<String, FileDigest>,
}

/// Writes all files, the manifest last, and syncs them to disk.
pub(super) fn write_checkpoint(
    folder: &Path,
    run: &str,
    contents: &Contents,
) -> Result<(), CheckpointError> {
    let trainer = folder.join(TRAINER);
    fs::create_dir_all(&trainer).map_err(io_at(&trainer))?;
    let tokens = contents.tokens;
    let tokenizer = tokenizer_cfg(&tokens.tokenizer);
    let mut digests = BTreeMap::new();
    let (model, head) = contents.model.clone().merged().split_head();
    save_head(folder, HEAD_FILE, head, contents.classes)?;
    let digest = open_clip::save(
        folder,
        &model,
        contents.spec,
        contents.preprocess,
        &tokenizer,
    )?;
    digests.insert(open_clip::WEIGHTS_FILE.to_string(), digest);
    if tokens.tokenizer.file().is_some() {
        tokens
            .tokenizer
            .save_hugging_face(folder, tokens.context_length)?;
    }
    if let Some(ema) = contents.ema {
        let (ema, head) = ema.clone().merged().split_head();
        save_head(folder, EMA_HEAD_FILE, head, contents.classes)?;
        let digest = weights::save(
            &folder.join(EMA_WEIGHTS_FILE),
            &open_clip::tensors(&ema, contents.spec),
        )?;
        digests.insert(EMA_WEIGHTS_FILE.to_string(), digest);
        let file = match contents.eval_weights {
            EvalWeights::Ema => EMA_WEIGHTS_FILE,
            EvalWeights::Raw => open_clip::WEIGHTS_FILE,
        };
        write(&folder.join(EVAL_WEIGHTS_FILE), file)?;
    }
    if contents.model.has_updates() {
        let models = (contents.model, contents.ema);
        let adapter = match (contents.ema, contents.eval_weights) {
            (Some(ema), EvalWeights::Ema) => ema,
            _ => contents.model,
        };
        let adapter = (adapter, contents.base);
        let digest = updates::save(folder, models, adapter, contents.spec)?;
        digests.insert(UPDATES_FILE.to_string(), digest);
    }
    if let Some(start) = contents.start {
        let digest = weights::save(&folder.join(START_FILE), &weights::parameters(start))?;
        digests.insert(START_FILE.to_string(), digest);
    }
    let (moments, optimizer_times) = contents.optimizer.save(contents.model);
    let digest = weights::save(&folder.join(OPTIMIZER_FILE), &moments)?;
    digests.insert(OPTIMIZER_FILE.to_string(), digest);
    let state = TrainerState {
        optimizer_times,
        ..contents.state.clone()
    };
    let text = serde_json::to_string_pretty(&state).expect("a trainer state serialises");
    write(&folder.join(TRAINER_STATE_FILE), &text)?;
    // Reads and syncs the small files.
    let step = (run, contents.state.step);
    let manifest = Manifest::of_folder(folder, step, digests, contents.logs.clone())?;
    manifest.write(folder)?;
    sync_folder(&trainer)?;
    if contents.model.has_updates() {
        sync_folder(&folder.join(ADAPTER))?;
    }
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

/// Writes a text and a newline; the manifest syncs the file.
fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, format!("{text}\n")).map_err(io_at(path))
}
