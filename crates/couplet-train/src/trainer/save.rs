//! Writing checkpoints.

use std::path::Path;
use std::time::Instant;

use super::books::Books;
use super::share::first_difference;
use super::{TrainError, Trainer};
use crate::checkpoint::{Checkpoint, Contents, METRICS, SKIPPED, TRAIN_LOG};
use crate::ema::Ema;
use crate::observer::{Event, Observer};
use crate::ranks::other_rank;

impl Trainer<'_> {
    /// Saves a checkpoint of the current step, unless there is one. Rank 0 writes it; the others wait.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.catch_up(observer)?;
        let comm = &self.context.comm;
        let difference = first_difference(self.model(), comm);
        if let Some((rank, name)) = difference.map_err(|lost| self.lost(lost))? {
            return Err(TrainError::Diverged {
                who: other_rank(comm, rank, String::new()).who,
                name,
                step: self.state.step,
                last_good: self.last_good(),
            });
        }
        let saved = match self.books.take() {
            Some(mut books) => {
                let saved = self.write_checkpoint(&mut books, observer);
                self.books = Some(books);
                saved
            }
            None => Ok(()),
        };
        if self.context.comm.is_alone() {
            return saved;
        }
        self.settle_saved(saved)
    }

    /// Writes the checkpoint of the current step, unless there is one.
    pub(super) fn write_checkpoint(
        &mut self,
        books: &mut Books,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let is_saved = |checkpoint: &Checkpoint| checkpoint.step == self.state.step;
        let is_whole = !self.saved_unevaluated || self.state.unevaluated;
        if self.checkpoint.as_ref().is_some_and(is_saved) && is_whole {
            // Since then f16 has only skipped batches; a resumed run skips them again.
            return Ok(());
        }
        self.state.time = self.seconds();
        let logs = [
            (METRICS, books.metrics.sync()?),
            (SKIPPED, books.skipped.sync()?),
        ];
        // Never truncated: what was printed was printed.
        let text_log = books.folder.text_log().sync();
        let text_log = text_log.map(|digest| (TRAIN_LOG, digest));
        self.state.metrics_len = logs[0].1.bytes;
        self.state.skipped_len = logs[1].1.bytes;
        let base = self.run.config.model.weights.as_deref().map(base_name);
        let contents = Contents {
            model: self.model(),
            spec: &self.spec,
            preprocess: &self.preprocess,
            tokens: &self.run.data.tokens,
            optimizer: &self.optimizer,
            base: base.as_deref(),
            start: self.start.as_ref(),
            ema: self.ema.as_ref().map(Ema::model),
            eval_weights: self.run.eval_weights(),
            classes: self.run.data.classes.as_ref(),
            state: self.state.clone(),
            logs: (logs.into_iter().chain(text_log))
                .map(|(name, digest)| (name.to_string(), digest))
                .collect(),
        };
        let keep = self.run.config.checkpoint.keep;
        let saved = books.folder.save(&contents, keep);
        let checkpoint = saved.map_err(|source| TrainError::NotSaved {
            step: self.state.step,
            source: Box::new(source),
            last_good: self.last_good(),
        })?;
        observer.event(Event::Saved(&checkpoint));
        self.checkpoint = Some(checkpoint);
        self.saved_unevaluated = self.state.unevaluated;
        self.saved_at = Instant::now();
        Ok(())
    }
}

/// What PEFT is told of where a model's weights are from: the name of a repository in Hugging Face's cache, else the
/// path.
fn base_name(weights: &Path) -> String {
    let mut parts = weights.iter().filter_map(|part| part.to_str());
    let repository = parts.find_map(|part| part.strip_prefix("models--"));
    if let Some(name) = repository {
        return name.replacen("--", "/", 1);
    }
    let absolute = std::path::absolute(weights);
    let path = absolute.as_deref().unwrap_or(weights);
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_named_by_its_repository() {
        let cached =
            "/c/hub/models--openai--clip-vit-base-patch32/snapshots/3d74/model.safetensors";
        assert_eq!(base_name(Path::new(cached)), "openai/clip-vit-base-patch32");
        assert_eq!(base_name(Path::new("/runs/a")), "/runs/a");
    }
}
