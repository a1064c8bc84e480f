//! `params.txt`, the settings of a training run of open_clip, one folder above its checkpoints.
//! Source: open_clip_train `main.py` and `params.py`, open_clip `create_model_and_transforms`.

use std::path::Path;

use serde_json::Value;

use super::preprocess::{channels, interpolation};
use super::{Config, TokenizerCfg};
use crate::files::{FolderError, read_text};
use crate::presets;
use crate::spec::{Activation, ModelSpec, PreprocessSpec, ResizeMode};

const PARAMS_FILE: &str = "params.txt";
/// A setting that open_clip has since 2.29, the version since which `--pretrained openai` keeps the
/// activation that the model's name says.
const SINCE_2_29: &str = "cache_dir";
/// Pretrained weights of our presets that open_clip preprocesses in another way than OpenAI's.
/// Source: open_clip 3.3.0 `pretrained.py`.
const HALF_MEAN: [(&str, &str); 1] = [("ViT-L-14", "laion2b_s32b_b82k")];
const SQUASHED: [(&str, &str); 2] = [("ViT-H-14", "dfn5b"), ("ViT-H-14-quickgelu", "dfn5b")];

/// The model of the training run that wrote these checkpoints; none if there is no run, or its model
/// is not a preset.
///
/// # Errors
/// If a setting of its model or its preprocessing is not supported.
pub(crate) fn read_training_params(checkpoints: &Path) -> Result<Option<Config>, FolderError> {
    let path = checkpoints.join("..").join(PARAMS_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_text(&path)?;
    let mut params = Params {
        text: &text,
        problems: Vec::new(),
    };
    let Some((name, spec)) = params
        .given("model")
        .and_then(|name| Some((name, presets::find(name)?)))
    else {
        return Ok(None);
    };
    let spec = params.spec(spec);
    let preprocess = params.preprocess(name);
    if params.problems.is_empty() {
        Ok(Some(Config {
            spec,
            preprocess,
            tokenizer: TokenizerCfg::default(),
        }))
    } else {
        Err(FolderError::unsound(&path, &params.problems))
    }
}

struct Params<'a> {
    text: &'a str,
    problems: Vec<String>,
}

impl<'a> Params<'a> {
    /// A line's value, as Python prints it.
    fn line(&self, key: &str) -> Option<&'a str> {
        let mut lines = self.text.lines();
        lines
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    }

    /// A value that is set.
    fn given(&self, key: &str) -> Option<&'a str> {
        self.line(key)
            .filter(|value| !matches!(*value, "" | "None" | "False"))
    }

    /// A value that is set, converted.
    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.given(key)?;
        let converted = convert(value);
        if converted.is_none() {
            self.problems
                .push(format!("{key} = {value}: expected {expected}"));
        }
        converted
    }

    fn spec(&mut self, mut spec: ModelSpec) -> ModelSpec {
        let was_openais = self.given("pretrained") == Some("openai");
        if self.given("force_quick_gelu") == Some("True")
            || (was_openais && self.line(SINCE_2_29).is_none())
        {
            spec.activation = Activation::QuickGelu;
        }
        if let Some(side) = self.read("force_image_size", "one number of pixels", square) {
            spec.image.set_image_size(side);
        }
        let length = self.read("force_context_length", "a number of tokens", |value| {
            value.parse().ok()
        });
        if let Some(length) = length {
            spec.text.context_length = length;
        }
        if self.given("siglip") == Some("True") {
            spec.init_logit_scale = 10f32.ln();
            spec.init_logit_bias = Some(-10.0);
        }
        spec
    }

    fn preprocess(&mut self, model: &str) -> PreprocessSpec {
        let mut preprocess = PreprocessSpec::default();
        let pretrained = (model, self.given("pretrained").unwrap_or_default());
        if HALF_MEAN.contains(&pretrained) {
            (preprocess.mean, preprocess.std) = ([0.5; 3], [0.5; 3]);
        }
        if SQUASHED.contains(&pretrained) {
            preprocess.resize_mode = ResizeMode::Squash;
        }
        let list = |value: &str| channels(&serde_json::from_str::<Value>(value).ok()?);
        let three = "one number or three";
        if let Some(mean) = self.read("image_mean", three, list) {
            preprocess.mean = mean;
        }
        let std = self.read("image_std", three, |value| {
            list(value).filter(|std| std.iter().all(|value| *value > 0.0))
        });
        if let Some(std) = std {
            preprocess.std = std;
        }
        let filters = "bicubic, bilinear or random";
        if let Some(filter) = self.read("image_interpolation", filters, interpolation) {
            preprocess.interpolation = filter;
        }
        let fits = "shortest, longest or squash";
        let fit = self.read("image_resize_mode", fits, |value| {
            serde_json::from_value(value.into()).ok()
        });
        if let Some(fit) = fit {
            preprocess.resize_mode = fit;
        }
        preprocess
    }
}

/// The side of a square, given once or as height and width.
fn square(value: &str) -> Option<usize> {
    if let Ok(side) = value.parse() {
        return Some(side);
    }
    let sides: Vec<usize> = serde_json::from_str(value).ok()?;
    match *sides.as_slice() {
        [side] => Some(side),
        [height, width] if height == width => Some(height),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Interpolation;

    fn read(params: &str) -> Result<Option<Config>, FolderError> {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join(PARAMS_FILE), params).unwrap();
        let checkpoints = run.path().join("checkpoints");
        std::fs::create_dir(&checkpoints).unwrap();
        read_training_params(&checkpoints)
    }

    #[test]
    fn a_runs_preprocessing_and_sizes_are_its_settings() {
        let run = read(
            "force_context_length: 32\nforce_image_size: [160, 160]\nimage_interpolation: bilinear\n\
             image_mean: [0.5, 0.25, 0.125]\nimage_resize_mode: squash\nimage_std: [0.5]\n\
             model: ViT-B-32\npretrained: \nsiglip: True\n",
        );
        let config = run.unwrap().unwrap();
        assert_eq!(config.preprocess.mean, [0.5, 0.25, 0.125]);
        assert_eq!(config.preprocess.std, [0.5; 3]);
        assert_eq!(config.preprocess.interpolation, Interpolation::Bilinear);
        assert_eq!(config.preprocess.resize_mode, ResizeMode::Squash);
        assert_eq!(config.spec.image.image_size(), 160);
        assert_eq!(config.spec.text.context_length, 32);
        assert_eq!(config.spec.init_logit_bias, Some(-10.0));
        assert_eq!(config.spec.activation, Activation::Gelu);
    }

    #[test]
    fn openais_weights_bring_their_activation_until_open_clip_2_29() {
        let activation = |params: &str| read(params).unwrap().unwrap().spec.activation;
        let old = "image_mean: None\nmodel: ViT-B-32\npretrained: openai\n";
        assert_eq!(activation(old), Activation::QuickGelu);
        let new = "cache_dir: None\nmodel: ViT-B-32\npretrained: openai\n";
        assert_eq!(activation(new), Activation::Gelu);
        let named = "cache_dir: None\nmodel: ViT-B-32-quickgelu\npretrained: openai\n";
        assert_eq!(activation(named), Activation::QuickGelu);
        let own = "model: ViT-B-32\npretrained: /weights/openai\n";
        assert_eq!(activation(own), Activation::Gelu);
    }

    #[test]
    fn pretrained_weights_bring_their_preprocessing() {
        let run = read("model: ViT-L-14\npretrained: laion2b_s32b_b82k\n");
        assert_eq!(run.unwrap().unwrap().preprocess.mean, [0.5; 3]);
        let run = read("image_mean: [0, 0, 0]\nmodel: ViT-H-14\npretrained: dfn5b\n");
        let preprocess = run.unwrap().unwrap().preprocess;
        assert_eq!(preprocess.resize_mode, ResizeMode::Squash);
        assert_eq!(preprocess.mean, [0.0; 3]);
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let error = read(
            "force_image_size: [224, 160]\nimage_interpolation: cubic\nimage_mean: [1, 2]\n\
             image_resize_mode: stretch\nimage_std: [1, 0, 1]\nmodel: ViT-B-32\n",
        );
        let error = error.unwrap_err().to_string();
        for key in [
            "force_image_size",
            "image_interpolation",
            "image_mean",
            "image_std",
        ] {
            assert!(error.contains(key), "{error}");
        }
        assert!(error.contains("image_resize_mode = stretch"), "{error}");
        assert!(read("model: coca_ViT-B-32\n").unwrap().is_none());
    }
}
