//! What a run adapts.

use couplet_data::with_causes;
use couplet_model::peft;

use super::super::tables::RunConfig;
use super::context::{Check, Noted};
use crate::adapt::Adaptation;
use crate::checkpoint::sizes_of_updates;

impl Check<'_> {
    /// What `[adapt]` says, resolved.
    /// - checkpoint: the weights of the one that the run continues from, which knows its updates.
    ///
    /// # Errors
    /// If something is wrong with it.
    pub(super) fn adaptation(
        &mut self,
        config: &RunConfig,
        checkpoint: Option<&std::path::Path>,
    ) -> Result<Option<Adaptation>, Noted> {
        let Some(table) = &config.adapt else {
            return Ok(None);
        };
        let problems = table.problems();
        let is_sound = problems.is_empty();
        for (key, message) in problems {
            self.fail(&format!("adapt.{key}"), message);
        }
        if config.freeze != couplet_model::FreezeConfig::default() {
            let message = "[adapt] freezes all that it does not train; name in adapt.params which layers it adapts";
            self.fail("freeze", message);
        }
        if !is_sound || self.any_broken(&["adapt", "model", "freeze"]) {
            return Err(Noted);
        }
        let spec = config.model.spec();
        let adapter = match (&table.weights, checkpoint) {
            (Some(path), None) => {
                let read = peft::read(path).and_then(|adapter| adapter.layer_updates(&spec));
                match read {
                    Ok(updates) => Some(updates),
                    Err(error) => {
                        self.fail("adapt.weights", with_causes(&error));
                        return Err(Noted);
                    }
                }
            }
            _ => None,
        };
        let seed = (config.seed, config.classify.is_some());
        let adaptation = match Adaptation::new(table, &spec, adapter, seed) {
            Ok(adaptation) => adaptation,
            Err(problems) => {
                for (key, message) in problems {
                    self.fail(&format!("adapt.{key}"), message);
                }
                return Err(Noted);
            }
        };
        // What a resumed run goes on with is read, and what is wrong with it told, when it is opened.
        let sizes = checkpoint.and_then(|weights| sizes_of_updates(weights.parent()?));
        Ok(Some(match sizes {
            Some(sizes) => adaptation.continued(sizes),
            None => adaptation,
        }))
    }
}
