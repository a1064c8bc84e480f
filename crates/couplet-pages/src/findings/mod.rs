//! What a run's model gets wrong, and what it makes of the run's data: opens the model and looks at a part of the data.

mod classes;
mod images;
mod map;
mod pairs;
mod predictions;
mod problem;
mod store;

use couplet_data::with_causes;
use couplet_eval::Encoder;
use couplet_train::{EvalTarget, ResolvedRun};
use serde::{Deserialize, Serialize};

use self::classes::ClassFindings;
use self::pairs::PairFindings;
pub(crate) use self::predictions::{Difference, difference};
use self::problem::Problem;
pub use self::store::{Stored, findings_folder};

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Images of each dataset, evenly spaced, at most.
    pub images: usize,
    /// Pairs of the training data and of what is held out, evenly spaced, at most.
    pub pairs: usize,
}

impl Default for Looked {
    fn default() -> Self {
        Self {
            images: 2000,
            pairs: 500,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Of each dataset with classes.
    pub(crate) classes: Vec<ClassFindings>,
    /// Of the training pairs, of those that are held out, and of datasets with captions.
    pub(crate) pairs: Vec<PairFindings>,
    /// What is not looked at, and why: it is as it is.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// What could not be looked at, and why: it may be there another time.
    pub(crate) problems: Vec<String>,
}

impl Findings {
    /// Looks at the data of a run with its model.
    /// - progress: called with what is looked at, and how much of it is done.
    pub fn of(
        encoder: &Encoder,
        run: &ResolvedRun,
        looked: Looked,
        mut progress: impl FnMut(&str, usize, usize),
    ) -> Self {
        let mut found = Self::default();
        let most_pixels = run.training_data().table.max_image_pixels;
        for target in run.evaluations() {
            let name = target.name().to_string();
            let mut told = |done, of| progress(&name, done, of);
            match target {
                EvalTarget::ZeroShot(dataset) | EvalTarget::Classification(dataset) => {
                    let by_head = matches!(target, EvalTarget::Classification(_));
                    let classes = ClassFindings::of(
                        encoder,
                        dataset,
                        by_head,
                        looked.images,
                        most_pixels,
                        &mut told,
                    );
                    found.take(&name, classes, |found| &mut found.classes);
                }
                EvalTarget::Retrieval(dataset) => {
                    let pairs =
                        pairs::of_captions(encoder, dataset, looked.pairs, most_pixels, &mut told);
                    found.take(&name, pairs, |found| &mut found.pairs);
                }
                EvalTarget::HeldOut(data) => {
                    let pairs = pairs::of_dataset(
                        encoder,
                        "held-out pairs",
                        &data.set,
                        looked.pairs,
                        most_pixels,
                        &mut told,
                    );
                    found.take(&name, pairs, |found| &mut found.pairs);
                }
            }
        }
        // A model that learns classes does not pair images with texts.
        if run.config.classify.is_none() {
            let mut told = |done, of| progress("training pairs", done, of);
            let set = &run.training_data().set;
            let pairs = pairs::of_dataset(
                encoder,
                "training pairs",
                set,
                looked.pairs,
                most_pixels,
                &mut told,
            );
            found.take("training pairs", pairs, |found| &mut found.pairs);
        }
        found
    }

    /// Findings that say only why there are none.
    pub fn none(problem: String) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        one: Result<T, Problem>,
        place: impl FnOnce(&mut Self) -> &mut Vec<T>,
    ) {
        match one {
            Ok(one) => place(self).push(one),
            Err(problem) => {
                let text = format!("{name}: {}", with_causes(&problem));
                match problem {
                    Problem::Unfit(_) => self.notes.push(text),
                    _ => self.problems.push(text),
                }
            }
        }
    }
}
