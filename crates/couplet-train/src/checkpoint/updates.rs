//! The low-rank updates of a checkpoint, with the weights that they update: a checkpoint's own weights have them added.

use std::collections::BTreeMap;
use std::path::Path;

use couplet_model::weights::{self, NamedTensors};
use couplet_model::{Clip, FileDigest, LowRank, ModelSpec, peft};

use super::error::{CheckpointError, io_at};
use super::names::{ADAPTER, UPDATES_FILE};
use super::reading::Checkpoint;
use crate::adapt::{Adaptation, is_update};

/// What comes before the names of the averaged updates.
const AVERAGE: &str = "average:";
/// The file's metadata key of the factors on updates, a JSON object by layer.
const SCALES: &str = "scales";

/// Of which model updates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdatesOf {
    Model,
    /// That of `[ema]`.
    Average,
}

/// Writes what resuming reads, and an adapter in PEFT's form.
/// - model, average: with their updates.
/// - adapter: of whose updates the adapter is; base: what the run began with.
/// - returns the digest of the former.
pub(super) fn save(
    folder: &Path,
    (model, average): (&Clip, Option<&Clip>),
    (adapter, base): (&Clip, Option<&str>),
    spec: &ModelSpec,
) -> Result<FileDigest, CheckpointError> {
    let mut tensors = Adaptation::state(weights::parameters(model), spec);
    let of_average = average.map(weights::parameters).unwrap_or_default();
    let of_average = of_average.into_iter().filter(|(name, _)| is_update(name));
    tensors.extend(of_average.map(|(name, tensor)| (format!("{AVERAGE}{name}"), tensor)));
    let updates = model.updates();
    let scales: BTreeMap<&String, f64> = (updates.iter())
        .map(|(layer, update)| (layer, update.scale))
        .collect();
    let scales = serde_json::to_string(&scales).expect("numbers have a JSON form");
    let metadata = BTreeMap::from([(SCALES.to_string(), scales)]);
    let digest = weights::save_with(&folder.join(UPDATES_FILE), &tensors, metadata)?;
    let adapter_folder = folder.join(ADAPTER);
    std::fs::create_dir_all(&adapter_folder).map_err(io_at(&adapter_folder))?;
    peft::write(&adapter_folder, spec, base, &adapter.updates())?;
    Ok(digest)
}

impl Checkpoint {
    /// The model with the updates of the checkpoint, and the weights without them.
    /// - model: adapted as the run's.
    pub(crate) fn load_updates(&self, model: Clip, of: UpdatesOf) -> Result<Clip, CheckpointError> {
        let path = self.path.join(UPDATES_FILE);
        let all = weights::read(&path)?.tensors;
        let own = all.into_iter().filter_map(|(name, tensor)| {
            let averaged = name.strip_prefix(AVERAGE);
            match (averaged, of) {
                (None, UpdatesOf::Average) if is_update(&name) => None,
                (None, _) => Some((name, tensor)),
                (Some(name), UpdatesOf::Average) => Some((name.to_string(), tensor)),
                (Some(_), UpdatesOf::Model) => None,
            }
        });
        let own: NamedTensors = own.collect();
        Ok(weights::fill_some(model, own, &path)?)
    }
}

/// The sizes of a checkpoint's updates by the names of their layers; `None` if it has none that can be read.
pub(crate) fn sizes_of_updates(checkpoint: &Path) -> Option<BTreeMap<String, LowRank>> {
    let path = checkpoint.join(UPDATES_FILE);
    let scales = weights::metadata(&path).ok()?.remove(SCALES)?;
    let scales: BTreeMap<String, f64> = serde_json::from_str(&scales).ok()?;
    let shapes = weights::shapes(&path).ok()?;
    let sizes = scales.into_iter().map(|(layer, scale)| {
        let rank = *shapes.get(&format!("{layer}.lora.a"))?.first()?;
        Some((layer, LowRank { rank, scale }))
    });
    sizes.collect()
}
