//! `[model]` as the weights that it starts from state it.

use couplet_data::with_causes;
use couplet_eval::find_model;
use couplet_model::{FolderError, ModelSource, ModelSpec, describe};
use toml::{Table, Value};

use super::edit::underlay;
use super::issue::ConfigIssue;
use super::tables::ModelConfig;

/// Puts the keys of the weights' architecture under those that the config itself sets, unless a preset
/// or the config itself has all of them.
/// - checkpoint: of the run itself, which then needs no other weights.
pub(super) fn merge_weights(
    table: &mut Table,
    checkpoint: Option<&ModelSource>,
) -> Option<ConfigIssue> {
    let model = table.get_mut("model")?.as_table_mut()?;
    if model.contains_key("preset") || is_complete(model) {
        return None;
    }
    let weights = model.get("weights")?.as_str()?;
    let path = std::path::Path::new(weights);
    let spec = match checkpoint {
        Some(source) => source.spec.clone(),
        // Reported with every place where it was looked for.
        None if !path.exists() => return None,
        None => match spec_of(path) {
            Ok(spec) => spec,
            Err(message) => return Some(ConfigIssue::new("model.weights", message)),
        },
    };
    let mut under = Table::try_from(spec).ok()?;
    for tower in ["image", "text"] {
        let kind = |table: &Table| table.get(tower)?.get("kind").cloned();
        // The keys of one kind are no defaults for another.
        if kind(model).is_some_and(|own| kind(&under).is_some_and(|stated| own != stated)) {
            under.remove(tower);
        }
    }
    underlay(model, under);
    None
}

/// Whether `[model]` has weights that stated no architecture, and lacks keys of its own.
pub(super) fn lacks_architecture(table: &Table) -> bool {
    let model = table.get("model").and_then(Value::as_table);
    model.is_some_and(|model| {
        model.contains_key("weights") && !model.contains_key("preset") && !is_complete(model)
    })
}

fn is_complete(model: &Table) -> bool {
    let has = |key: &&str| model.contains_key(*key);
    let value = Value::Table(model.clone());
    ["embed_dim", "image", "text"].iter().all(has) && value.try_into::<ModelConfig>().is_ok()
}

fn spec_of(path: &std::path::Path) -> Result<ModelSpec, String> {
    let path = find_model(path).map_err(|error| with_causes(&error))?;
    let source = describe(&path).map_err(|error| match &error {
        FolderError::UnknownArchitecture { path, hint, fits } => {
            let hint = hint.as_ref();
            let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
            let fits = match &fits[..] {
                [] => "; no preset has their shapes, so describe [model] by its keys".to_string(),
                fits => format!(
                    "; add `preset` to [model]: their shapes are those of {}",
                    fits.join(", ")
                ),
            };
            let path = path.display();
            format!("{path}: the weights do not name their architecture{hint}{fits}")
        }
        _ => with_causes(&error),
    })?;
    Ok(source.spec)
}
