//! The model, and what hangs on it: tokenizer, loss, frozen parts, parameters by name.

use std::path::PathBuf;
use std::sync::Arc;

use couplet_data::loader::TokenOptions;
use couplet_data::{Clean, Tokenizer, with_causes};
use couplet_eval::{find_model, open_tokenizer, token_options};
use couplet_loss::{CustomLoss, Loss, PairLoss};
use couplet_model::{Freeze, ModelSource, PreprocessSpec, inspect_as};

use super::super::tables::{ModelConfig, RunConfig};
use super::context::Check;
use crate::adapt::Adaptation;

/// Keys of `[model]` that make its spec.
const SPEC: [&str; 6] = [
    "model.embed_dim",
    "model.activation",
    "model.init_logit_scale",
    "model.init_logit_bias",
    "model.image",
    "model.text",
];

/// The other fields that a problem with one field of a spec depends on.
fn others(field: &str) -> &'static [&'static str] {
    match field {
        "image.image_size" => &["image.kind"],
        "image.patch_size" => &["image.kind", "image.image_size"],
        "image.heads" | "image.mlp_ratio" | "image.positions" => &["image.kind", "image.width"],
        "image.attention_pool.heads" => &["image.kind", "embed_dim"],
        "image.activation" | "text.activation" => &["activation"],
        "text.heads" | "text.mlp_ratio" | "text.pool.heads" => &["text.width"],
        "text.pad_id" | "text.pool.id" => &["text.vocab_size"],
        "text.projection" => &["text.width", "embed_dim"],
        _ => &[],
    }
}

impl Check<'_> {
    /// The config's own, or that of the weights it starts from.
    pub(in super::super) fn preprocess(
        model: &ModelConfig,
        weights: Option<&ModelSource>,
    ) -> PreprocessSpec {
        (model.preprocess.clone())
            .or_else(|| {
                let source = weights?;
                let from = source.spec.image.image_size();
                Some((source.preprocess.clone()).scaled(from, model.image.image_size()))
            })
            .unwrap_or_default()
    }

    pub(super) fn ema_and_freeze(&mut self, config: &RunConfig) {
        if let Some(ema) = config.ema
            && !(ema.decay > 0.0 && ema.decay < 1.0)
        {
            self.fail("ema.decay", "must lie between 0 and 1");
        }
        let both = config.freeze.image == Freeze::All && config.freeze.text == Freeze::All;
        for (key, message) in config.freeze.problems(&config.model.spec()) {
            let blocks = [format!("model.{key}.layers"), format!("model.{key}.kind")];
            if both || !blocks.iter().any(|key| self.is_broken(key)) {
                self.fail(&format!("freeze.{key}"), message);
            }
        }
    }

    /// Checks the model; what it starts from, if from given weights.
    /// - checkpoint: of the run itself, which then needs no other weights.
    pub(in super::super) fn model(
        &mut self,
        model: &ModelConfig,
        checkpoint: Option<ModelSource>,
    ) -> Option<ModelSource> {
        let spec = model.spec();
        for problem in spec.problems() {
            let mut others = others(&problem.field).iter();
            if !others.any(|other| self.is_doubtful(&format!("model.{other}"))) {
                self.fail(&format!("model.{}", problem.field), problem.message);
            }
        }
        if let Some(preprocess) = &model.preprocess {
            for (key, message) in preprocess.problems(spec.image.image_size()) {
                let depends = key == "resize_size" && self.is_broken("model.image.image_size");
                if !depends {
                    self.fail(&format!("model.preprocess.{key}"), message);
                }
            }
        }
        if checkpoint.is_some() {
            return checkpoint;
        }
        let weights = model.weights.as_ref()?;
        let path = find_model(weights)
            .map_err(|error| self.fail("model.weights", with_causes(&error)))
            .ok()?;
        if self.any_broken(&SPEC) {
            return None;
        }
        let source = inspect_as(&path, &spec);
        source
            .map_err(|error| self.fail("model.weights", with_causes(&error)))
            .ok()
    }

    /// How captions become ids.
    /// - weights: what the run starts from.
    /// - resumes: whether that is its own checkpoint, which has the tokenizer too.
    pub(in super::super) fn tokens(
        &mut self,
        model: &ModelConfig,
        weights: Option<&ModelSource>,
        resumes: bool,
    ) -> Option<TokenOptions> {
        let is_gone = |path: &&PathBuf| resumes && weights.is_some() && !path.exists();
        let own = model.tokenizer.as_ref().filter(|path| !is_gone(path));
        let opened = match (own, weights) {
            (Some(path), _) => Tokenizer::from_file(path, Clean::Whitespace)
                .map(|tokenizer| Ok(Arc::new(tokenizer))),
            (None, Some(source)) => open_tokenizer(&source.tokenizer),
            (None, None) => Ok(Ok(Tokenizer::clip())),
        };
        let tokenizer = match opened {
            Ok(Ok(tokenizer)) => tokenizer,
            Ok(Err(missing)) => {
                self.fail("model.tokenizer", missing);
                return None;
            }
            Err(error) => {
                self.fail("model.tokenizer", with_causes(&error));
                return None;
            }
        };
        if self.any_broken(&["model.tokenizer", "model.weights", "model.text"]) {
            return None;
        }
        match token_options(&model.spec(), tokenizer) {
            Ok(options) => Some(options),
            Err(error) => {
                self.fail("model.text.vocab_size", with_causes(&error));
                None
            }
        }
    }

    /// The loss over pairs.
    pub(super) fn loss(&mut self, config: &RunConfig) -> Option<Arc<dyn PairLoss>> {
        for (key, message) in config.loss.problems() {
            self.fail(&format!("loss.{key}"), message);
        }
        let is_known = !self.any_broken(&["loss.kind", "model.init_logit_bias"]);
        if is_known && config.loss.needs_bias() && config.model.init_logit_bias.is_none() {
            self.fail(
                "loss.kind",
                "the sigmoid loss needs a bias: set model.init_logit_bias (SigLIP's is -10)",
            );
        }
        let Loss::Custom(CustomLoss { name }) = &config.loss else {
            return config.loss.built_in();
        };
        if self.given.loss.is_none() {
            let message = format!(
                "`custom`: a program gives the loss `{name}` by value (`RunBuilder::loss`); train with that \
                 program, or choose another loss"
            );
            self.fail("loss.kind", message);
        }
        self.given.loss.clone()
    }

    pub(super) fn optimizer(&mut self, config: &RunConfig, adaptation: Option<&Adaptation>) {
        let table = &config.optimizer;
        let has_kind = !self.is_broken("optimizer.kind");
        for (key, message) in table.problems() {
            // Not every kind has it.
            if has_kind || !key.ends_with("eps") {
                self.fail(&format!("optimizer.{key}"), message);
            }
        }
        let spec = config.model.spec();
        if self.any_broken(&SPEC) || self.any_broken(&["classify", "adapt"]) {
            return;
        }
        let names = || {
            let mut names = spec.parameter_names();
            names.extend(adaptation.into_iter().flat_map(Adaptation::names));
            if config.classify.is_some() {
                names.extend(["head.weight".to_string(), "head.bias".to_string()]);
            }
            names
        };
        for (key, message) in table.idle_globs(names) {
            self.fail(&format!("optimizer.{key}"), message);
        }
    }
}
