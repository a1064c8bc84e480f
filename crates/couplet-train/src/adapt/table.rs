//! The `[adapt]` table.

use std::path::PathBuf;

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[adapt]`: trains low-rank updates of linear layers and freezes everything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptConfig {
    /// How the model is adapted.
    pub kind: AdaptKind,
    /// Rank of each update, 8 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
    /// Each update counts `alpha / rank` times; by default once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: Option<f64>,
    /// Layers that get an update: glob patterns of their names, such as `*.attn.q_proj`, `*.attn.k_proj`,
    /// `*.attn.v_proj`, `*.attn.out_proj`, `*.mlp.c_fc` and `*.mlp.c_proj`. By default all linear layers of blocks and
    /// pooling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["*.attn.q_proj", "*.attn.v_proj"]]))]
    pub params: Option<Vec<String>>,
    /// Settings of the image tower, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<TowerAdaptConfig>,
    /// Settings of the text tower, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TowerAdaptConfig>,
    /// Parameters that are trained as they are: glob patterns of open_clip parameter names, such as `logit_scale`,
    /// `visual.proj` or `*ln_*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub also_train: Vec<String>,
    /// An adapter in PEFT's form to go on with: a folder with `adapter_config.json`. It says which layers have updates,
    /// their ranks and alphas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
}

/// How a model is adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdaptKind {
    /// By low-rank updates. Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".
    Lora,
}

/// `[adapt.image]` and `[adapt.text]`: what differs in a tower.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TowerAdaptConfig {
    /// Rank of each update of the tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
    /// Each update of the tower counts `alpha / rank` times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: Option<f64>,
    /// Layers of the tower that get an update: glob patterns of their names; none leaves the tower as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["*.attn.q_proj", "*.attn.v_proj"]]))]
    pub params: Option<Vec<String>>,
}

const DEFAULT_RANK: usize = 8;
const ALL_LAYERS: &str = "*";

/// What holds for a tower.
pub(super) struct TowerSettings<'a> {
    pub rank: usize,
    pub alpha: f64,
    pub params: Vec<&'a str>,
}

impl AdaptConfig {
    /// An adaptation of all layers with its defaults.
    pub fn new(kind: AdaptKind) -> Self {
        Self {
            kind,
            rank: None,
            alpha: None,
            params: None,
            image: None,
            text: None,
            also_train: Vec::new(),
            weights: None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    pub(super) fn of_tower(&self, is_image: bool) -> TowerSettings<'_> {
        let own = if is_image { &self.image } else { &self.text }.as_ref();
        let rank = own.and_then(|own| own.rank).or(self.rank);
        let rank = rank.unwrap_or(DEFAULT_RANK);
        let alpha = own.and_then(|own| own.alpha).or(self.alpha);
        let params = own.and_then(|own| own.params.as_ref());
        let params = params.or(self.params.as_ref());
        TowerSettings {
            rank,
            alpha: alpha.unwrap_or(rank as f64),
            params: match params {
                Some(params) => params.iter().map(String::as_str).collect(),
                None => vec![ALL_LAYERS],
            },
        }
    }

    /// The settings that are given, with what their keys begin with, and whether they are the image tower's alone (`true`)
    /// or the text tower's.
    pub(super) fn tables(&self) -> [(&'static str, Option<bool>, TowerAdaptConfig); 3] {
        let all = TowerAdaptConfig {
            rank: self.rank,
            alpha: self.alpha,
            params: self.params.clone(),
        };
        [
            ("", None, all),
            ("image.", Some(true), self.image.clone().unwrap_or_default()),
            ("text.", Some(false), self.text.clone().unwrap_or_default()),
        ]
    }

    /// What is wrong with the values, each with its key.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (prefix, _, table) in self.tables() {
            if table.rank == Some(0) {
                problems.push((format!("{prefix}rank"), "must be at least 1".to_string()));
            }
            if (table.alpha).is_some_and(|alpha| !(alpha.is_finite() && alpha > 0.0)) {
                let message = "must be a positive number".to_string();
                problems.push((format!("{prefix}alpha"), message));
            }
            let params = table.params.iter().flatten();
            problems.extend(malformed(&format!("{prefix}params"), params));
            let given = [
                ("rank", table.rank.is_some()),
                ("alpha", table.alpha.is_some()),
                ("params", table.params.is_some()),
            ];
            let given = given.into_iter().filter(|(_, is_given)| *is_given);
            for (key, _) in given.filter(|_| self.weights.is_some()) {
                let message = "the adapter of adapt.weights has its own; remove the key";
                problems.push((format!("{prefix}{key}"), message.to_string()));
            }
        }
        problems.extend(malformed("also_train", &self.also_train));
        problems
    }
}

fn malformed<'a>(key: &str, globs: impl IntoIterator<Item = &'a String>) -> Vec<(String, String)> {
    let check = |(at, glob): (usize, &String)| {
        let error = Glob::new(glob).err()?;
        Some((format!("{key}[{at}]"), error.to_string()))
    };
    globs.into_iter().enumerate().filter_map(check).collect()
}
