//! Mixes of models, and what they reach: along the line between two (WiSE-FT), and greedy soups.

use couplet_data::loader::TokenOptions;
use couplet_model::weights::{self, HostTensor};

use crate::dataset::{Dataset, Task};
use crate::encoder::Encoder;
use crate::metric::Better;
use crate::protocol::{EvalError, EvalOptions};
use crate::report::Report;
use crate::retrieval::retrieval;
use crate::zero_shot::zero_shot;

/// A text of several scripts, by which tokenizers are told apart.
const SAMPLE: &str = "A photo of two cats, \"Grüße\" 42 猫 кошка";

/// Evaluates a model on a dataset, zero-shot or by retrieval.
/// - progress: called with the number of images that are done.
///
/// # Errors
/// As [`zero_shot`] and [`retrieval`].
///
/// # Panics
/// If the device fails.
pub fn evaluate(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Report, EvalError> {
    if let Task::Classify { .. } = dataset.task {
        return Ok(zero_shot(encoder, dataset, options, progress)?.report);
    }
    retrieval(encoder, dataset, options, progress)
}

/// Why models cannot be mixed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MixError {
    #[error(
        "{first} and {other} have different architectures: {differences}; mix models of one origin"
    )]
    Architecture {
        first: String,
        other: String,
        differences: String,
    },
    #[error(
        "{first} and {other} preprocess images differently; give both the same with `--set preprocess.KEY=VALUE`"
    )]
    Preprocess { first: String, other: String },
    #[error(
        "{first} and {other} have different tokenizers, so their token embeddings are of different tokens"
    )]
    Tokenizer { first: String, other: String },
    #[error(
        "{name}: the mix is not finite, or has a negative variance; a batch norm's statistics do not go beyond the line \
         between models (weights below 0 or above 1)"
    )]
    Unusable { name: String },
}

impl Encoder {
    /// A model whose weights are `weight` times this one's and those of the others, each times its weight. Everything
    /// else is this one's; a classifier is left out.
    ///
    /// # Errors
    /// If the models differ in architecture, preprocessing or tokenizer.
    pub fn mixed(&self, weight: f64, others: &[(&Self, f64)]) -> Result<Self, MixError> {
        for (other, _) in others {
            self.check_mixable(other)?;
        }
        let models: Vec<_> = (others.iter())
            .map(|(other, weight)| (other.model(), *weight))
            .collect();
        let mixed = self.model().mixed(weight, &models);
        let tensors = weights::parameters(&mixed);
        let is_unusable = |(name, tensor): &(&String, &HostTensor)| {
            let least = if name.ends_with(".running_var") {
                0.0
            } else {
                f32::MIN
            };
            let mut values = tensor.values.iter();
            values.any(|value| !value.is_finite() || *value < least)
        };
        match tensors.iter().find(is_unusable) {
            Some((name, _)) => Err(MixError::Unusable { name: name.clone() }),
            None => Ok(self.with_model(mixed)),
        }
    }

    /// Checks that a mix with another model has a meaning.
    ///
    /// # Errors
    /// If the models differ in architecture, preprocessing or tokenizer.
    pub fn check_mixable(&self, other: &Self) -> Result<(), MixError> {
        let name = |encoder: &Self| {
            let weights = encoder.weights();
            weights.map_or("a model".to_string(), |path| path.display().to_string())
        };
        let (first, other_name) = (name(self), name(other));
        let differences = self.spec().differences(other.spec());
        if !differences.is_empty() {
            return Err(MixError::Architecture {
                first,
                other: other_name,
                differences: differences.join(", "),
            });
        }
        if self.preprocess() != other.preprocess() {
            return Err(MixError::Preprocess {
                first,
                other: other_name,
            });
        }
        match (self.tokens(), other.tokens()) {
            (Ok(own), Ok(theirs)) if !have_same_ids(own, theirs) => Err(MixError::Tokenizer {
                first,
                other: other_name,
            }),
            _ => Ok(()),
        }
    }
}

fn have_same_ids(own: &TokenOptions, theirs: &TokenOptions) -> bool {
    let ids = |tokens: &TokenOptions| tokens.tokenizer.encode(SAMPLE, tokens.context_length).ok();
    own.tokenizer.vocab_size() == theirs.tokenizer.vocab_size() && ids(own) == ids(theirs)
}

/// The ingredients of a greedy soup: each is added if the mean of all so far is then at least as good. Source:
/// Wortsman et al. 2022, "Model soups", recipe 1.
/// - values: of the models alone, higher is better; measure: the value of the mean of some of them, by their places.
/// - returns the places of the ingredients, the best first, and their value.
///
/// # Errors
/// Those of `measure`.
pub fn greedy_soup<E>(
    values: &[f64],
    mut measure: impl FnMut(&[usize]) -> Result<f64, E>,
) -> Result<(Vec<usize>, f64), E> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| Better::Higher.compare(values[*a], values[*b]));
    let Some(first) = order.first() else {
        return Ok((Vec::new(), f64::NAN));
    };
    let (mut soup, mut best) = (vec![*first], values[*first]);
    for next in &order[1..] {
        let with: Vec<usize> = soup.iter().copied().chain([*next]).collect();
        let value = measure(&with)?;
        if value >= best {
            (soup, best) = (with, value);
        }
    }
    Ok((soup, best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soup_takes_what_does_not_harm_it_best_first() {
        let mut tried = Vec::new();
        let measured = greedy_soup(&[0.5, f64::NAN, 0.7, 0.6], |soup| {
            tried.push(soup.to_vec());
            Ok::<_, ()>(match soup {
                [2, 3] => 0.65,
                [2, 0] => 0.7,
                _ => 0.1,
            })
        });
        assert_eq!(measured, Ok((vec![2, 0], 0.7)));
        assert_eq!(tried, [vec![2, 3], vec![2, 0], vec![2, 0, 1]]);
        assert_eq!(greedy_soup(&[], |_| Err(())).unwrap().0, [0; 0]);
    }
}
