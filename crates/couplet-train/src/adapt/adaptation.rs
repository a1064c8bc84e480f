//! What a run adapts.

use std::collections::BTreeMap;

use couplet_model::weights::NamedTensors;
use couplet_model::{
    BlockCount, Clip, FreezeConfig, LayerId, LowRank, LowRankUpdate, ModelSpec, TrainableParameters,
};
use globset::{Glob, GlobMatcher};

use super::table::AdaptConfig;

/// The prefix of the image tower's names.
const VISUAL: &str = "visual.";

/// The layers of a model that have low-rank updates, and what is trained beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Adaptation {
    /// By the layers' names.
    pub(crate) layers: BTreeMap<String, LowRank>,
    /// The names of parameters that are trained as they are.
    train: Vec<String>,
    /// Where updates start, if not at nothing.
    start: BTreeMap<String, LowRankUpdate>,
    seed: u64,
}

impl Adaptation {
    /// - adapter: of `adapt.weights`; is_classifier: whether the text tower is not used.
    ///
    /// # Errors
    /// With every glob that holds nothing, and its key.
    pub(crate) fn new(
        config: &AdaptConfig,
        spec: &ModelSpec,
        adapter: Option<BTreeMap<String, LowRankUpdate>>,
        (seed, is_classifier): (u64, bool),
    ) -> Result<Self, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut layers = BTreeMap::new();
        let names: Vec<String> = (spec.adaptable_layers().into_iter())
            .map(|layer| layer.name)
            .filter(|name| !is_classifier || name.starts_with(VISUAL))
            .collect();
        for (prefix, tower, table) in config.tables() {
            let of_tower =
                |name: &&String| tower.is_none_or(|image| image == name.starts_with(VISUAL));
            for (at, pattern) in table.params.iter().flatten().enumerate() {
                let glob = matcher(pattern);
                if !names
                    .iter()
                    .filter(of_tower)
                    .any(|name| glob.is_match(name))
                {
                    let own: Vec<String> = names.iter().filter(of_tower).cloned().collect();
                    let message = no_such(pattern, "layer", "*.attn.q_proj", &own);
                    problems.push((format!("{prefix}params[{at}]"), message));
                }
            }
        }
        for name in names {
            let settings = config.of_tower(name.starts_with(VISUAL));
            let is_held = |pattern: &&str| matcher(pattern).is_match(&name);
            if settings.params.iter().any(is_held) {
                layers.insert(name, settings.size());
            }
        }
        let start = adapter.unwrap_or_default();
        if !start.is_empty() {
            layers = start
                .iter()
                .map(|(name, update)| (name.clone(), size_of(update)))
                .collect();
        }
        let parameters = spec.parameter_names();
        let mut train = Vec::new();
        for (at, pattern) in config.also_train.iter().enumerate() {
            let glob = matcher(pattern);
            let held: Vec<_> = (parameters.iter().filter(|name| glob.is_match(name))).collect();
            if held.is_empty() {
                let message = no_such(pattern, "parameter", "visual.proj", &parameters);
                problems.push((format!("also_train[{at}]"), message));
            }
            train.extend(held.into_iter().cloned());
        }
        for layer in spec.adaptable_layers() {
            let Some(size) = layers.get(&layer.name) else {
                continue;
            };
            let most = layer.inputs.min(layer.outputs);
            if size.rank > most && start.is_empty() {
                let (rank, name) = (size.rank, &layer.name);
                let message = format!("{rank} is more than {most}, the smaller side of {name}");
                problems.push(("rank".to_string(), message));
                break;
            }
            if let Some(at) = train.iter().position(|name| *name == layer.weight) {
                let message = format!(
                    "{} has an update: leave the layer out of adapt.params to train its weight",
                    train[at]
                );
                problems.push(("also_train".to_string(), message));
                break;
            }
        }
        if layers.is_empty() && train.is_empty() && problems.is_empty() && !is_classifier {
            let message = "no layer has an update, so nothing is trained".to_string();
            problems.push(("params".to_string(), message));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            layers,
            train,
            start,
            seed,
        })
    }

    /// The same with the updates of a checkpoint.
    pub(crate) fn continued(self, layers: BTreeMap<String, LowRank>) -> Self {
        Self {
            layers,
            start: BTreeMap::new(),
            ..self
        }
    }

    /// The model with its updates, in which only what the run trains requires gradients.
    pub(crate) fn apply(&self, model: Clip) -> Clip {
        let size = |name: &str| self.layers.get(name).copied();
        let is_trained = |name: &str| self.train.iter().any(|own| own == name);
        let model = model.adapt(size, is_trained, self.seed);
        model.with_updates(&self.start)
    }

    /// The names of all trained parameters, with their numbers of values.
    fn trained(&self, spec: &ModelSpec) -> Vec<(String, u64)> {
        let mut trained = Vec::new();
        for layer in spec.adaptable_layers() {
            if let Some(LowRank { rank, .. }) = self.layers.get(&layer.name) {
                for (half, size) in [("a", layer.inputs), ("b", layer.outputs)] {
                    trained.push((format!("{}.lora.{half}", layer.name), (rank * size) as u64));
                }
            }
        }
        for (name, shape) in spec.parameter_shapes() {
            if self.train.contains(&name) {
                trained.push((name, shape.iter().product::<usize>() as u64));
            }
        }
        trained
    }

    /// What a run of it trains, for the user.
    pub(crate) fn describe(&self, spec: &ModelSpec) -> String {
        let values: u64 = self.trained(spec).iter().map(|(_, values)| values).sum();
        let layers = self.layers.len();
        let from = if self.start.is_empty() {
            ""
        } else {
            ", from adapt.weights"
        };
        let others = match self.train.len() {
            0 => String::new(),
            1 => " and 1 parameter".to_string(),
            others => format!(" and {others} parameters"),
        };
        format!("adapt      updates of {layers} layers{from}{others}: {values} trained values")
    }

    /// The names of the updates' parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let names = |layer: &String| ["a", "b"].map(|half| format!("{layer}.lora.{half}"));
        self.layers.keys().flat_map(names)
    }

    /// What is frozen, as far as that can be said of whole blocks.
    pub(crate) fn freezing(&self, spec: &ModelSpec) -> FreezeConfig {
        let trained = self.trained(spec);
        FreezeConfig::of_trained(trained.iter().map(|(name, _)| name.as_str()), spec)
    }

    pub(crate) fn trained_parameters(&self, spec: &ModelSpec) -> TrainableParameters {
        let blocks = BlockCount::new(spec);
        let mut counts = TrainableParameters::default();
        for (name, values) in self.trained(spec) {
            match blocks.layer_id(&name) {
                LayerId::Image(_) => counts.image += values,
                LayerId::Text(_) => counts.text += values,
                LayerId::Joint => counts.joint += values,
            }
        }
        counts
    }

    /// What a run needs to go on with its updates: they, and the weights that they update.
    /// - parameters: of a model with updates.
    pub(crate) fn state(parameters: NamedTensors, spec: &ModelSpec) -> NamedTensors {
        let updated: Vec<String> = (spec.adaptable_layers().into_iter())
            .filter(|layer| parameters.contains_key(&format!("{}.lora.a", layer.name)))
            .map(|layer| layer.weight)
            .collect();
        let mut state = parameters;
        state.retain(|name, _| is_update(name) || updated.contains(name));
        state
    }
}

/// Whether a parameter is of an update.
pub(crate) fn is_update(name: &str) -> bool {
    name.ends_with(".lora.a") || name.ends_with(".lora.b")
}

impl super::table::TowerSettings<'_> {
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    fn size(&self) -> LowRank {
        LowRank {
            rank: self.rank,
            scale: self.alpha / self.rank as f64,
        }
    }
}

fn size_of(update: &LowRankUpdate) -> LowRank {
    LowRank {
        rank: update.a.shape[0],
        scale: update.scale,
    }
}

/// # Panics
/// If a glob is malformed, which the config's validation rejects.
fn matcher(pattern: &str) -> GlobMatcher {
    let glob = Glob::new(pattern).expect("globs are checked with the config");
    glob.compile_matcher()
}

fn no_such(pattern: &str, what: &str, example: &str, names: &[String]) -> String {
    let last = names.last().map_or("", String::as_str);
    format!("no {what} has a name like `{pattern}`; write such as `{example}` or `{last}`")
}
