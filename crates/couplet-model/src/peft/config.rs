//! `adapter_config.json`, and the names of an adapter's tensors.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::files::{FolderError, parse_json, read_text};
use crate::lora::LowRankUpdate;
use crate::manifest::Manifest;
use crate::weights::WeightsError;

/// Settings that are read, or change nothing in what an adapter computes.
const KNOWN: [&str; 29] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "torch_dtype",
    "use_rslora",
];
/// Initialisations that leave the base as it is.
const LEAVE_BASE: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];
/// Modules that an error lists.
const LISTED: usize = 5;

/// Before the output projection of PyTorch's attention, which PEFT adapts with the rest of it.
pub(super) const IN_ATTENTION: &str = ".base_layer.";
/// PEFT 0.21 adds the update of that projection twice: in `merge` itself, and by the projection's own `merge`. So do its
/// passes in training.
pub(super) const TIMES_IN_ATTENTION: f64 = 2.0;

/// What is read of the config.
#[derive(Debug)]
pub(super) struct Config {
    pub base: Option<String>,
    alpha: f64,
    /// Alphas of modules whose names end so.
    alphas: Vec<(Regex, f64)>,
    rank: u64,
    /// Ranks of modules whose names end so.
    ranks: Vec<(Regex, f64)>,
    is_root: bool,
}

/// A tensor of an adapter, by its name.
pub(super) enum Part {
    /// Of the module with this name.
    A(String),
    B(String),
    /// A tensor of the base, trained as a whole.
    Whole(String),
    Unknown(&'static str),
}

/// - name: in the adapter, without what PEFT puts before it.
pub(super) fn part(name: &str) -> Part {
    if name.contains("lora_magnitude_vector") {
        return Part::Unknown("DoRA, which Couplet does not know");
    }
    if name.contains("lora_embedding_") {
        return Part::Unknown("an update of an embedding, which Couplet does not know");
    }
    for (half, of) in [
        (".lora_A", Part::A as fn(String) -> Part),
        (".lora_B", Part::B),
    ] {
        if let Some((module, rest)) = name.split_once(half) {
            // The name of the adapter may come before `weight`.
            return match rest.rsplit('.').next() {
                Some("weight") => of(module.to_string()),
                _ => Part::Unknown("a bias of an update, which Couplet does not know"),
            };
        }
    }
    let saved = name.split_once(".modules_to_save.");
    Part::Whole(match saved {
        // `MODULE.modules_to_save.ADAPTER.weight`
        Some((module, rest)) => {
            let last = rest.rsplit('.').next().unwrap_or(rest);
            format!("{module}.{last}")
        }
        None => name.to_string(),
    })
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        Manifest::check_path(path).map_err(WeightsError::from)?;
        let config: Value = parse_json(path, &read_text(path)?)?;
        let mut problems = Vec::new();
        let kind = config.get("peft_type").and_then(Value::as_str);
        if kind != Some("LORA") {
            let kind = kind.unwrap_or("missing");
            let problem = format!("peft_type is {kind}; Couplet knows LORA");
            return Err(FolderError::unsound(path, &[problem]));
        }
        let settings = config.as_object().into_iter().flatten();
        let unknown =
            settings.filter(|(key, value)| !KNOWN.contains(&key.as_str()) && is_set(value));
        problems
            .extend(unknown.map(|(key, _)| format!("{key} is set, which Couplet does not know")));
        let bias = config.get("bias").filter(|bias| is_set(bias));
        if let Some(bias) = bias.filter(|bias| bias.as_str() != Some("none")) {
            problems.push(format!("bias = {bias}; Couplet knows \"none\""));
        }
        if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str)
            && !LEAVE_BASE.contains(&init)
        {
            problems.push(format!(
                "init_lora_weights = {init:?}, which may change the base: save the adapter with \
                 `path_initial_model_for_weight_conversion`"
            ));
        }
        let alpha = config.get("lora_alpha").and_then(Value::as_f64);
        if alpha.is_none() {
            problems.push("lora_alpha is not a number".to_string());
        }
        let mut patterns = |name: &str| {
            let mut all = Vec::new();
            let pattern = config.get(name).and_then(Value::as_object);
            for (key, value) in pattern.into_iter().flatten() {
                let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"));
                match (regex, value.as_f64()) {
                    (Ok(regex), Some(value)) => all.push((regex, value)),
                    _ => problems.push(format!("{name}: `{key}` = {value}")),
                }
            }
            all
        };
        let (alphas, ranks) = (patterns("alpha_pattern"), patterns("rank_pattern"));
        let rank = config.get("r").and_then(Value::as_u64);
        if rank.is_none() {
            problems.push("r is not a whole number".to_string());
        }
        if !problems.is_empty() {
            return Err(FolderError::unsound(path, &problems));
        }
        let base = config
            .get("base_model_name_or_path")
            .and_then(Value::as_str);
        Ok(Self {
            base: base.filter(|base| !base.is_empty()).map(str::to_string),
            alpha: alpha.unwrap_or_default(),
            alphas,
            rank: rank.unwrap_or_default(),
            ranks,
            is_root: config.get("use_rslora").is_some_and(is_set),
        })
    }

    /// Whether a module's update has this rank.
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    pub fn has_rank(&self, module: &str, rank: usize) -> bool {
        let own = self.ranks.iter().find(|(name, _)| name.is_match(module));
        own.map_or(self.rank as f64, |(_, rank)| *rank) == rank as f64
    }

    /// The factor on a module's update.
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(name, _)| name.is_match(module));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.is_root { rank.sqrt() } else { rank }
    }

    /// The config of updates by the names of the base's modules.
    /// - class: of transformers, with its `model_type`; is_open_clips: whether the modules are open_clip's.
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    pub fn of(
        base: Option<&str>,
        class: Option<(String, String)>,
        updates: &BTreeMap<String, LowRankUpdate>,
        is_open_clips: bool,
    ) -> Value {
        let size = |update: &LowRankUpdate| {
            let rank = update.a.shape[0];
            (rank, update.scale * rank as f64)
        };
        let (rank, alpha) = updates.values().next().map_or((8, 8.0), size);
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        // PEFT adapts an attention's projections with the rank and alpha of the whole.
        let targets = || (updates.iter()).filter(|(module, _)| !module.contains(IN_ATTENTION));
        for (module, update) in targets() {
            // PEFT takes them for regular expressions, behind any prefix: `transformer.…` is also in `visual.`.
            let key = format!("^{}", regex::escape(module));
            let own = size(update);
            if own.0 != rank {
                ranks.insert(key.clone(), own.0.into());
            }
            if own.1 != alpha {
                alphas.insert(key, number(own.1));
            }
        }
        let names = targets().map(|(module, _)| module);
        let target_modules: Value = if is_open_clips {
            let names: Vec<String> = names.map(|name| regex::escape(name)).collect();
            // As a list they would hold behind any prefix, too.
            format!("(?:{})", names.join("|")).into()
        } else {
            names.cloned().collect::<Vec<_>>().into()
        };
        let auto_mapping = class.map(|(class, kind)| {
            let module = kind.replace('-', "_");
            json!({
                "base_model_class": class,
                "parent_library": format!("transformers.models.{module}.modeling_{module}"),
            })
        });
        json!({
            "peft_type": "LORA",
            "task_type": null,
            "auto_mapping": auto_mapping,
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": rank,
            "lora_alpha": number(alpha),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "target_modules": target_modules,
            "use_dora": false,
            "use_rslora": false,
        })
    }
}

/// Problems with modules, of which there may be hundreds.
pub(super) fn shortened(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(LISTED);
    if more > 1 {
        problems.truncate(LISTED);
        problems.push(format!("and {more} more"));
    }
    problems
}

/// Whether a setting is on.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// PEFT's alphas are whole where they can be.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole")]
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return (value as i64).into();
    }
    value.into()
}
