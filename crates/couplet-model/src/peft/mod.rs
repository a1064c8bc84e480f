//! Low-rank updates as PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`. Source:
//! peft 0.21, `LoraConfig` and `lora.layer`.

mod config;
mod packed;
mod places;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, IN_ATTENTION, TIMES_IN_ATTENTION, shortened};
use packed::{Member, joined};
use places::Places;

use crate::files::{FolderError, write_json};
use crate::hugging_face;
use crate::lora::LowRankUpdate;
use crate::spec::ModelSpec;
use crate::tensors::{HostTensor, NamedTensors};
use crate::weights;

/// The config's name in an adapter's folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weights' name in an adapter's folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
const OLD_WEIGHTS_FILE: &str = "adapter_model.bin";
/// What PEFT puts before the names of a model's modules.
const PREFIX: &str = "base_model.model.";

/// An adapter that was read.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    /// What it says that it was trained from: a name on Hugging Face or a path.
    pub base: Option<String>,
    /// By the names of the base's modules.
    updates: BTreeMap<String, LowRankUpdate>,
    /// Tensors that were trained as a whole (`modules_to_save`), by their names in the base.
    whole: NamedTensors,
}

/// Whether there is an adapter in a folder.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG_FILE).is_file()
}

/// Reads an adapter.
///
/// # Errors
/// If it is damaged, or of a kind that Couplet does not know.
pub fn read(folder: &Path) -> Result<Adapter, FolderError> {
    let config_path = folder.join(CONFIG_FILE);
    if !config_path.is_file() {
        return Err(no_adapter(folder));
    }
    let config = Config::read(&config_path)?;
    let mut path = folder.join(WEIGHTS_FILE);
    if !path.is_file() {
        path = folder.join(OLD_WEIGHTS_FILE);
    }
    if !path.is_file() {
        return Err(FolderError::NoWeights {
            path: folder.to_path_buf(),
            expected: format!("{WEIGHTS_FILE} or {OLD_WEIGHTS_FILE}"),
        });
    }
    let tensors = weights::read(&path)?.tensors;
    let names = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    weights::check_finite(&path, names)?;
    let mut halves: BTreeMap<String, [Option<HostTensor>; 2]> = BTreeMap::new();
    let mut whole = NamedTensors::new();
    let mut problems = Vec::new();
    for (name, tensor) in tensors {
        let own = name.strip_prefix(PREFIX).unwrap_or(&name);
        match config::part(own) {
            config::Part::A(module) => halves.entry(module).or_default()[0] = Some(tensor),
            config::Part::B(module) => halves.entry(module).or_default()[1] = Some(tensor),
            config::Part::Whole(name) => {
                whole.insert(name, tensor);
            }
            config::Part::Unknown(what) => problems.push(format!("{name}: {what}")),
        }
    }
    let mut updates = BTreeMap::new();
    for (module, halves) in halves {
        let [Some(a), Some(b)] = halves else {
            problems.push(format!("{module}: only one of lora_A and lora_B"));
            continue;
        };
        match (a.shape.as_slice(), b.shape.as_slice()) {
            ([rank, _], [_, columns]) if rank == columns && *rank > 0 => {
                // In an attention, rank and alpha are those of the whole.
                let (owner, name, times) = match module.split_once(IN_ATTENTION) {
                    Some((attention, part)) => {
                        let name = format!("{attention}.{part}");
                        (attention.to_string(), name, TIMES_IN_ATTENTION)
                    }
                    None => (module.clone(), module, 1.0),
                };
                let scale = times * config.scale(&owner, *rank);
                if !config.has_rank(&owner, *rank) {
                    problems.push(format!(
                        "{name}: has rank {rank}, and the config says another"
                    ));
                }
                if !scale.is_finite() {
                    problems.push(format!("{name}: its alpha is not a finite number"));
                }
                updates.insert(name, LowRankUpdate { a, b, scale });
            }
            (a, b) => problems.push(format!(
                "{module}: lora_A {a:?} and lora_B {b:?} are not the matrices of a linear layer"
            )),
        }
    }
    if updates.is_empty() && whole.is_empty() && problems.is_empty() {
        problems.push("it has no update".to_string());
    }
    if !problems.is_empty() {
        return Err(FolderError::unsound(&path, &shortened(problems)));
    }
    Ok(Adapter {
        path,
        base: config.base,
        updates,
        whole,
    })
}

/// That there is no adapter in a folder, with those that are in folders below it.
fn no_adapter(folder: &Path) -> FolderError {
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let adapters = below.filter(|entry| is_adapter(&entry.path()));
    let mut names: Vec<String> = adapters
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let problem = if names.is_empty() {
        format!("no adapter here: there is no {CONFIG_FILE}")
    } else {
        format!(
            "no {CONFIG_FILE} here; give the folder of an adapter: {}",
            names.join(", ")
        )
    };
    FolderError::unsound(folder, &[problem])
}

impl Adapter {
    /// The number of updated modules.
    pub fn modules(&self) -> usize {
        self.updates.len()
    }

    /// Adds the updates to a model's tensors, and replaces those that were trained as a whole.
    /// - tensors: all of the model's, under open_clip's names.
    ///
    /// # Errors
    /// If the model has no such modules, or of other sizes.
    pub fn merge(
        &self,
        mut tensors: NamedTensors,
        spec: &ModelSpec,
    ) -> Result<NamedTensors, FolderError> {
        let places = self.places(spec);
        let mut problems = Vec::new();
        for (module, update) in &self.updates {
            // Held against the model before it is multiplied: the product may be far larger than its factors.
            let shape = [update.b.shape[0], update.a.shape[1]];
            let place = places.of_module(module).and_then(|tensor| {
                places.check_shape(tensor, &shape)?;
                Ok(tensor)
            });
            let changed =
                place.and_then(|place| places.add(&mut tensors, place, &update.product()));
            if let Err(message) = changed {
                problems.push(format!("{module}: {message}"));
            }
        }
        for (name, tensor) in &self.whole {
            let place = places.find(name);
            let changed = place.and_then(|place| places.replace(&mut tensors, place, tensor));
            if let Err(message) = changed {
                problems.push(format!("{name}: {message}"));
            }
        }
        if problems.is_empty() {
            Ok(tensors)
        } else {
            Err(FolderError::unsound(&self.path, &shortened(problems)))
        }
    }

    /// The updates by the names of a model's layers, to train them further.
    ///
    /// # Errors
    /// If the model has no such layers, or of other sizes, or the adapter has more than updates.
    pub fn layer_updates(
        &self,
        spec: &ModelSpec,
    ) -> Result<BTreeMap<String, LowRankUpdate>, FolderError> {
        let places = self.places(spec);
        let mut left: BTreeMap<&str, &LowRankUpdate> = (self.updates.iter())
            .map(|(module, update)| (module.as_str(), update))
            .collect();
        let mut updates = BTreeMap::new();
        let mut problems = Vec::new();
        for layer in spec.adaptable_layers() {
            let place = places.of_layer(&layer);
            let Some((module, update)) = (self.updates.iter()).find(|(module, _)| {
                places
                    .of_module(module)
                    .is_ok_and(|tensor| tensor == place.tensor)
            }) else {
                continue;
            };
            left.remove(module.as_str());
            let [inputs, outputs] = [update.a.shape[1], update.b.shape[0]];
            if [inputs, outputs] != [layer.inputs, place.of_rows] {
                problems.push(format!(
                    "{module}: the update is of [{outputs}, {inputs}], the layer of [{}, {}]",
                    place.of_rows, layer.inputs
                ));
                continue;
            }
            if let Some(own) = update.part(place.rows()) {
                updates.insert(layer.name, own);
            }
        }
        let unknown = left.keys().map(|module| (*module).to_string());
        let whole = self.whole.keys().cloned();
        problems.extend(unknown.chain(whole).map(|name| {
            format!("{name}: not a layer that can be adapted; merge the adapter first (`couplet model merge`)")
        }));
        if problems.is_empty() {
            Ok(updates)
        } else {
            Err(FolderError::unsound(&self.path, &shortened(problems)))
        }
    }

    /// Under whose names it has its modules: in the layout that knows the most of them.
    fn places(&self, spec: &ModelSpec) -> Places {
        let known = |places: &Places| {
            let modules = self.updates.keys();
            let of_updates = modules.filter(|module| places.of_module(module).is_ok());
            let of_whole = self.whole.keys().filter(|name| places.find(name).is_ok());
            of_updates.count() + of_whole.count()
        };
        let (first, second) = (Places::hugging_face(spec), Places::open_clip(spec));
        if known(&second) > known(&first) {
            second
        } else {
            first
        }
    }
}

impl LowRankUpdate {
    /// The update of some of the layer's outputs, without the ranks that only others have: those of a B with blocks.
    /// - returns `None` if none of it is of these outputs.
    fn part(&self, rows: std::ops::Range<usize>) -> Option<Self> {
        let (rank, inputs) = (self.a.shape[0], self.a.shape[1]);
        let own = &self.b.values[rows.start * rank..rows.end * rank];
        let is_used = |values: &[f32], at: usize| values.chunks(rank).any(|row| row[at] != 0.0);
        let a_row = |at: usize| &self.a.values[at * inputs..(at + 1) * inputs];
        let kept: Vec<usize> = if self.b.values.iter().any(|value| *value != 0.0) {
            (0..rank).filter(|at| is_used(own, *at)).collect()
        } else {
            // An update that has not been trained yet: B is nothing, but A is not.
            let is_there = |at: &usize| a_row(*at).iter().any(|value| *value != 0.0);
            (0..rank).filter(is_there).collect()
        };
        if kept.is_empty() {
            return None;
        }
        let b = own
            .chunks(rank)
            .flat_map(|row| kept.iter().map(|at| row[*at]));
        Some(Self {
            a: HostTensor {
                shape: vec![kept.len(), inputs],
                values: kept.iter().flat_map(|at| a_row(*at)).copied().collect(),
            },
            b: HostTensor {
                shape: vec![rows.len(), kept.len()],
                values: b.collect(),
            },
            scale: self.scale,
        })
    }
}

/// Writes the updates of a model's layers into the existing folder `folder`: for transformers' form of the model,
/// where it has one, else for open_clip's.
/// - base: what the model was trained from: a name on Hugging Face or a path.
///
/// # Errors
/// If a file cannot be written.
pub fn write(
    folder: &Path,
    spec: &ModelSpec,
    base: Option<&str>,
    updates: &BTreeMap<String, LowRankUpdate>,
) -> Result<(), FolderError> {
    let ids = hugging_face::TokenIds::default();
    let model = hugging_face::model_config(spec, ids).ok();
    let places = match model {
        Some(_) => Places::hugging_face(spec),
        None => Places::open_clip(spec),
    };
    let mut modules: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for layer in spec.adaptable_layers() {
        let Some(update) = updates.get(&layer.name) else {
            continue;
        };
        let place = places.of_layer(&layer);
        let members = modules.entry(place.tensor.clone()).or_default();
        members.push(Member { update, place });
    }
    let updates = joined(modules, &places.attentions());
    let mut tensors = NamedTensors::new();
    for (module, update) in &updates {
        let name = |half: &str| format!("{PREFIX}{module}.{half}.weight");
        tensors.insert(name("lora_A"), update.a.clone());
        tensors.insert(name("lora_B"), update.b.clone());
    }
    let class = model.as_ref().and_then(|config| {
        let class = config.get("architectures")?.get(0)?.as_str()?;
        let kind = config.get("model_type")?.as_str()?;
        Some((class.to_string(), kind.to_string()))
    });
    let config = Config::of(base, class, &updates, model.is_none());
    write_json(&folder.join(CONFIG_FILE), &config)?;
    weights::save(&folder.join(WEIGHTS_FILE), &tensors)?;
    Ok(())
}
