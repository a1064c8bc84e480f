//! Where the tensors of a CLIP model are among all tensors of a file: training code wraps models in
//! modules and dictionaries of many names.

use std::collections::BTreeMap;

/// Path components of wrappers, which may be anywhere in a name: DistributedDataParallel,
/// torch.compile, FSDP and activation checkpointing.
const WRAPPERS: [&str; 4] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];
/// The module of the text tower in open_clip's `CustomTextCLIP`.
const TEXT: &str = "text";
/// Hugging Face's towers.
const TOWERS: [&str; 2] = ["vision_model", "text_model"];
/// Suffixes of tensors that are not weights: counters and constants that older releases saved
/// with the model.
const NOT_WEIGHTS: [&str; 3] = ["num_batches_tracked", "attn_mask", "position_ids"];
/// Words in the name of a dictionary that holds averaged weights next to those that are trained.
const AVERAGES: [&str; 6] = ["ema", "swa", "average", "averaged", "avg", "shadow"];

/// Whose names the tensors of a model have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    OpenClip,
    HuggingFace,
}

impl Naming {
    /// Three tensors that every model of this naming has, each under one of these names. A place with two of them is
    /// a model's, so that the third is reported as missing.
    fn anchors(self) -> [&'static [&'static str]; 3] {
        match self {
            Self::OpenClip => [
                &[
                    "visual.conv1.weight",
                    "visual.trunk.patch_embed.proj.weight",
                ],
                &[
                    "token_embedding.weight",
                    "transformer.embeddings.word_embeddings.weight",
                    "transformer.embeddings.tok_embeddings.weight",
                ],
                &["logit_scale"],
            ],
            Self::HuggingFace => [
                &[
                    "vision_model.embeddings.patch_embedding.weight",
                    "vision_model.embeddings.patch_embeddings.projection.weight",
                ],
                &[
                    "text_model.embeddings.token_embedding.weight",
                    "text_model.embeddings.word_embeddings.weight",
                ],
                &["logit_scale"],
            ],
        }
    }
}

/// A model among the tensors of a file.
#[derive(Debug)]
pub(super) struct Place {
    pub naming: Naming,
    /// The model's names of its tensors, each with the name in the file.
    pub names: BTreeMap<String, String>,
    /// The dictionary with averaged weights, if the file has one that was left out.
    pub left_out: Option<String>,
}

/// Why no place was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Several models, by the path of their dictionary.
    Several(Vec<String>),
    /// Two tensors have the same name in the model.
    Twice {
        name: String,
        first: String,
        second: String,
    },
}

/// Finds the only model among the tensors of a file. Averaged weights count only where there are no
/// others. Without any model, all tensors are taken, so that the missing ones are reported.
pub(super) fn find<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Place, Doubt> {
    let places = places(names.clone());
    let averaged = |place: &&Candidate| is_average(&place.prefix);
    let mut left_out = None;
    let chosen = match &places[..] {
        [] => None,
        [only] => Some(only),
        several => {
            let mut trained = several.iter().filter(|place| !averaged(place));
            let (Some(only), None) = (trained.next(), trained.next()) else {
                let paths = several.iter().map(|place| shown(&place.prefix));
                return Err(Doubt::Several(paths.collect()));
            };
            left_out = several
                .iter()
                .find(averaged)
                .map(|place| shown(&place.prefix));
            Some(only)
        }
    };
    let (naming, prefix, path) = match chosen {
        Some(place) => (place.naming, place.prefix.as_str(), place.path.as_str()),
        None => (Naming::OpenClip, "", ""),
    };
    let mut found = BTreeMap::new();
    for name in names.filter(|name| name.starts_with(path)) {
        let plain = without_wrappers(name);
        let Some(own) = plain.strip_prefix(prefix) else {
            continue;
        };
        if NOT_WEIGHTS.iter().any(|end| own.ends_with(end)) {
            continue;
        }
        let own = match own.split_once('.') {
            Some((TEXT, rest)) if naming == Naming::OpenClip => rest,
            // Older versions of transformers wrap the towers of dual encoders once more.
            Some((tower, rest)) if TOWERS.contains(&tower) && rest.starts_with(tower) => rest,
            _ => own,
        };
        if let Some(first) = found.insert(own.to_string(), name.to_string()) {
            return Err(Doubt::Twice {
                name: own.to_string(),
                first,
                second: name.to_string(),
            });
        }
    }
    Ok(Place {
        naming,
        names: found,
        left_out,
    })
}

/// A place that holds a model.
struct Candidate {
    naming: Naming,
    /// What precedes the model's names, without wrappers.
    prefix: String,
    /// What all of its names begin with in the file.
    path: String,
}

fn places<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Candidate> {
    let mut seen: BTreeMap<(Naming, String), ([bool; 3], &str)> = BTreeMap::new();
    for name in names {
        let plain = without_wrappers(name);
        for naming in [Naming::OpenClip, Naming::HuggingFace] {
            for (at, names) in naming.anchors().into_iter().enumerate() {
                let mut prefixes = names.iter().filter_map(|anchor| plain.strip_suffix(anchor));
                let Some(prefix) = prefixes.find(|path| is_path(path)) else {
                    continue;
                };
                let mut mark = |prefix: &str| {
                    let place = seen.entry((naming, prefix.to_string()));
                    let (anchors, path) = place.or_insert(([false; 3], name));
                    anchors[at] = true;
                    *path = shared_path(path, name);
                };
                mark(prefix);
                if naming == Naming::OpenClip
                    && let Some(above) = prefix.strip_suffix("text.")
                    && is_path(above)
                {
                    mark(above);
                }
            }
        }
    }
    let is_model = |anchors: &[bool; 3]| anchors.iter().filter(|found| **found).count() >= 2;
    (seen.into_iter())
        .filter(|(_, (anchors, _))| is_model(anchors))
        .map(|((naming, prefix), (_, path))| Candidate {
            naming,
            prefix,
            path: path.to_string(),
        })
        .collect()
}

/// Empty, or whole components with their dots.
fn is_path(prefix: &str) -> bool {
    prefix.is_empty() || prefix.ends_with('.')
}

/// The components that both names begin with, with their dots.
fn shared_path<'a>(first: &'a str, second: &str) -> &'a str {
    let same = first
        .bytes()
        .zip(second.bytes())
        .take_while(|(a, b)| a == b);
    let same = &first.as_bytes()[..same.count()];
    let end = same.iter().rposition(|byte| *byte == b'.');
    &first[..end.map_or(0, |at| at + 1)]
}

fn without_wrappers(name: &str) -> String {
    let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
    parts.collect::<Vec<_>>().join(".")
}

fn is_average(prefix: &str) -> bool {
    let prefix = prefix.to_lowercase();
    let mut words = prefix.split(['.', '_', '-']);
    words.any(|word| AVERAGES.contains(&word))
}

fn shown(prefix: &str) -> String {
    match prefix.trim_end_matches('.') {
        "" => "the file's own names".into(),
        path => format!("`{path}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "visual.conv1.weight",
        "token_embedding.weight",
        "logit_scale",
        "ln_final.weight",
    ];

    fn found(names: &[String]) -> Result<Vec<String>, Doubt> {
        let place = find(names.iter().map(String::as_str))?;
        Ok(place.names.into_keys().collect())
    }

    fn under(prefix: &str) -> Vec<String> {
        NAMES.iter().map(|name| format!("{prefix}{name}")).collect()
    }

    #[test]
    fn any_nesting_of_wrappers_and_dictionaries_is_seen_through() {
        let mut expected = NAMES.map(String::from).to_vec();
        expected.sort();
        for prefix in [
            "",
            "module.",
            "_orig_mod.module.",
            "module._orig_mod.",
            "state_dict.",
            "state_dict.module._orig_mod.",
            "model_state_dict.",
            "model.",
            "state_dict.model.",
            "checkpoint.student.net.clip.",
            "module.state_dict.clip._orig_mod.",
        ] {
            let mut names = under(prefix);
            if !prefix.is_empty() {
                names.push("optimizer.state.0.exp_avg".into());
                names.push("visual_optimizer.visual.conv1.weight.exp_avg".into());
                names.push("loss.logit_scale".into());
            }
            assert_eq!(found(&names).unwrap(), expected, "{prefix}");
        }
        let inside = [
            "visual._orig_mod.conv1.weight",
            "text.module.token_embedding.weight",
            "logit_scale",
            "text.ln_final.weight",
            "text.attn_mask",
        ];
        assert_eq!(found(&inside.map(String::from)).unwrap(), expected);
    }

    #[test]
    fn averaged_weights_count_only_where_there_are_no_others() {
        let both = [under("state_dict."), under("state_dict_ema.")].concat();
        let place = find(both.iter().map(String::as_str)).unwrap();
        assert_eq!(place.names["logit_scale"], "state_dict.logit_scale");
        assert_eq!(place.left_out.as_deref(), Some("`state_dict_ema`"));
        let place = find(both[4..].iter().map(String::as_str)).unwrap();
        assert_eq!(place.names["logit_scale"], "state_dict_ema.logit_scale");
    }

    #[test]
    fn two_models_are_a_doubt() {
        let both = [under("teacher."), under("student.")].concat();
        let doubt = find(both.iter().map(String::as_str)).unwrap_err();
        let paths = ["`student`", "`teacher`"].map(String::from).to_vec();
        assert_eq!(doubt, Doubt::Several(paths));
        let twice = [under("model."), under("model.module.")].concat();
        let doubt = find(twice.iter().map(String::as_str)).unwrap_err();
        assert!(matches!(doubt, Doubt::Twice { .. }), "{doubt:?}");
    }

    #[test]
    fn hugging_faces_names_are_known_by_their_own() {
        let names = Naming::HuggingFace
            .anchors()
            .map(|names| format!("clip.{}", names[0]));
        let place = find(names.iter().map(String::as_str)).unwrap();
        assert_eq!(place.naming, Naming::HuggingFace);
        assert!(place.names.contains_key("logit_scale"));
    }
}
