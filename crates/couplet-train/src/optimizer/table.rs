//! The `[optimizer]` table.

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[optimizer]`: the optimizer and its settings, the same for each kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// AdamW. Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    #[serde(rename = "adamw")]
    AdamW(OptimizerSettings),
    /// LAMB, for very large batches. Source: You et al. 2020, "Large Batch Optimization for
    /// Deep Learning: Training BERT in 76 minutes".
    Lamb(OptimizerSettings),
    /// Lion; needs a lower learning rate and a larger weight decay than AdamW. Source: Chen et
    /// al. 2023, "Symbolic Discovery of Optimization Algorithms".
    Lion(OptimizerSettings),
}

/// Settings of an optimizer. Defaults are the CLIP paper's for its ViTs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Decay rates of the two moments, each at least 0 and below 1.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// Term added to the denominator, 1e-6 by default. Not for Lion, which has no denominator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: Option<f64>,
    /// Decoupled weight decay of every parameter with 2 or more dimensions.
    #[serde(default = "default_weight_decay")]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Parameters without weight decay, although they have 2 or more dimensions: glob patterns
    /// of open_clip parameter names.
    #[serde(default)]
    pub no_decay: Vec<String>,
    /// Largest global gradient norm; larger gradients are scaled down to it. Without it
    /// gradients are not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: Option<f64>,
    /// Factor on the learning rate for each layer further from the end of its tower, above 0
    /// and at most 1. Without it all layers learn at the same rate. Source: Bao et al. 2022,
    /// "BEiT: BERT Pre-Training of Image Transformers".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub layer_decay: Option<f64>,
    /// Parameter groups with settings of their own, one `[[optimizer.group]]` table each; the
    /// first group that matches a parameter counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub group: Vec<ParamGroupConfig>,
}

impl OptimizerSettings {
    /// The CLIP paper's for its ViTs, at a peak learning rate.
    pub fn paper(lr: f64) -> Self {
        Self {
            lr,
            betas: default_betas(),
            eps: None,
            weight_decay: default_weight_decay(),
            no_decay: Vec::new(),
            clip_norm: None,
            layer_decay: None,
            group: Vec::new(),
        }
    }
}

/// `[[optimizer.group]]`: settings for some parameters. Keys that are not set are the
/// optimizer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamGroupConfig {
    /// Parameters of the group: glob patterns of open_clip parameter names, such as `visual.*`.
    #[schemars(extend("examples" = [["visual.*"]]))]
    pub params: Vec<String>,
    /// Factor on the learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub lr_scale: Option<f64>,
    /// Decay rates of the two moments, each at least 0 and below 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Term added to the denominator. Not for Lion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: Option<f64>,
    /// Decoupled weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
}

pub(super) const DEFAULT_EPS: f64 = 1e-6;

fn default_betas() -> [f64; 2] {
    [0.9, 0.98]
}

fn default_weight_decay() -> f64 {
    0.2
}

impl OptimizerConfig {
    /// AdamW with the CLIP paper's settings for its ViTs.
    /// - lr: peak learning rate; the paper has 5e-4 for a batch of 32,768.
    pub fn adamw(lr: f64) -> Self {
        Self::AdamW(OptimizerSettings::paper(lr))
    }

    /// The settings, whichever kind it is.
    pub fn settings(&self) -> &OptimizerSettings {
        match self {
            Self::AdamW(settings) | Self::Lamb(settings) | Self::Lion(settings) => settings,
        }
    }

    /// Globs that hold no parameter's name, each with its key.
    /// - names: gives those of all parameters; asked only if there are globs.
    pub(crate) fn idle_globs(&self, names: impl FnOnce() -> Vec<String>) -> Vec<(String, String)> {
        let settings = self.settings();
        if settings.no_decay.is_empty() && settings.group.is_empty() {
            return Vec::new();
        }
        let names = names();
        let no_decay = ("no_decay".to_string(), &settings.no_decay);
        let groups = (settings.group.iter().enumerate())
            .map(|(at, group)| (format!("group[{at}].params"), &group.params));
        let mut idle = Vec::new();
        for (key, globs) in std::iter::once(no_decay).chain(groups) {
            for (at, glob) in globs.iter().enumerate() {
                let Ok(matcher) = Glob::new(glob).map(|glob| glob.compile_matcher()) else {
                    continue;
                };
                if !names.iter().any(|name| matcher.is_match(name)) {
                    let message = format!(
                        "no parameter has a name like `{glob}`; names are open_clip's, such as `visual.*`"
                    );
                    idle.push((format!("{key}[{at}]"), message));
                }
            }
        }
        idle
    }

    /// What is wrong with the values, each with its key.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let settings = self.settings();
        let mut problems = Problems(Vec::new());
        problems.check("lr", positive(settings.lr), "must be a positive number");
        problems.betas("betas", settings.betas);
        problems.eps("eps", settings.eps, self);
        problems.weight_decay("weight_decay", settings.weight_decay);
        let clip = settings.clip_norm.is_none_or(positive);
        problems.check("clip_norm", clip, "must be a positive number");
        let layer_decay = settings.layer_decay.is_none_or(|d| d > 0.0 && d <= 1.0);
        problems.check("layer_decay", layer_decay, "must be above 0 and at most 1");
        problems.globs("no_decay", &settings.no_decay);
        for (at, group) in settings.group.iter().enumerate() {
            let key = |part: &str| format!("group[{at}].{part}");
            problems.globs(&key("params"), &group.params);
            problems.check(
                &key("params"),
                !group.params.is_empty(),
                "names no parameters",
            );
            let scale = group.lr_scale.is_none_or(|s| s.is_finite() && s >= 0.0);
            problems.check(&key("lr_scale"), scale, "must be 0 or a positive number");
            if let Some(betas) = group.betas {
                problems.betas(&key("betas"), betas);
            }
            problems.eps(&key("eps"), group.eps, self);
            if let Some(decay) = group.weight_decay {
                problems.weight_decay(&key("weight_decay"), decay);
            }
        }
        problems.0
    }
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

struct Problems(Vec<(String, String)>);

impl Problems {
    fn check(&mut self, key: &str, sound: bool, message: &str) {
        if !sound {
            self.0.push((key.to_string(), message.to_string()));
        }
    }

    fn betas(&mut self, key: &str, betas: [f64; 2]) {
        let sound = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        self.check(key, sound, "both must be at least 0 and below 1");
    }

    fn eps(&mut self, key: &str, eps: Option<f64>, table: &OptimizerConfig) {
        self.check(key, eps.is_none_or(positive), "must be a positive number");
        let has_none = matches!(table, OptimizerConfig::Lion(_));
        self.check(
            key,
            !has_none || eps.is_none(),
            "Lion has no eps; remove the key",
        );
    }

    fn weight_decay(&mut self, key: &str, decay: f64) {
        let sound = decay.is_finite() && decay >= 0.0;
        self.check(key, sound, "must be 0 or a positive number");
    }

    fn globs(&mut self, key: &str, globs: &[String]) {
        for (at, glob) in globs.iter().enumerate() {
            if let Err(error) = Glob::new(glob) {
                self.0.push((format!("{key}[{at}]"), error.to_string()));
            }
        }
    }
}
