//! Which files of a repository a model needs.

/// Files of a tokenizer and of a preprocessing.
const EXTRA: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.model",
    "preprocessor_config.json",
    "processor_config.json",
];

/// What a repository would need, for messages.
pub(crate) const NEEDS: &str = "`open_clip_config.json` with `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`, or \
                                `config.json` with `model.safetensors`, its index and shards, or `pytorch_model.bin`";

/// The index of weights that are in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The files that a model needs, the weights last: whoever finds them, finds the rest too. `None` if there is no model.
///
/// open_clip's layout goes before transformers', and safetensors before pickles. Weights of open_clip without their config
/// count only if `is_known`, where the architecture is known by name.
pub(crate) fn choose<'a>(files: &'a [String], is_known: bool) -> Option<Vec<&'a str>> {
    let find = |wanted: &str| {
        files
            .iter()
            .map(String::as_str)
            .find(|file| *file == wanted)
    };
    let first = |wanted: &[&str]| wanted.iter().find_map(|name| find(name));
    let mut weights: Vec<&'a str> = Vec::new();
    let mut chosen: Vec<&'a str> = Vec::new();
    let config = find("open_clip_config.json");
    let open_clip = first(&["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]);
    if let Some(file) = open_clip.filter(|_| is_known || config.is_some()) {
        chosen.extend(config);
        weights.push(file);
    } else if let Some(config) = find("config.json") {
        chosen.push(config);
        if let Some(file) = find("model.safetensors") {
            weights.push(file);
        } else if let Some(index) = find(INDEX) {
            chosen.push(index);
            weights.extend(
                files
                    .iter()
                    .map(String::as_str)
                    .filter(|file| is_shard(file)),
            );
        } else {
            weights.extend(find("pytorch_model.bin"));
        }
    }
    if weights.is_empty() {
        return None;
    }
    chosen.extend(
        files
            .iter()
            .map(String::as_str)
            .filter(|file| is_extra(file)),
    );
    chosen.extend(weights);
    Some(chosen)
}

/// Whether a snapshot has what a download of it would, as far as its files alone can tell.
pub(crate) fn is_whole(files: &[String]) -> bool {
    let is_tokenizer = |file: &&str| {
        ["tokenizer.json", "vocab.json", "vocab.txt"].contains(file) || is_sentencepiece(file)
    };
    choose(files, false).is_some_and(|chosen| chosen.iter().any(is_tokenizer))
}

fn is_sentencepiece(file: &str) -> bool {
    file.strip_suffix(".model").is_some()
}

fn is_extra(file: &str) -> bool {
    EXTRA.contains(&file) || (!file.contains('/') && is_sentencepiece(file))
}

/// `model-00001-of-00002.safetensors`
fn is_shard(file: &str) -> bool {
    let numbers = file
        .strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"));
    numbers
        .and_then(|numbers| numbers.split_once("-of-"))
        .is_some_and(|(one, all)| {
            [one, all].iter().all(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::{choose, is_whole};

    fn chosen(files: &[&str], is_known: bool) -> Option<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        choose(&files, is_known).map(|chosen| chosen.join(" "))
    }

    #[test]
    fn safetensors_of_open_clip_go_first_and_duplicates_are_left() {
        let all = [
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "onnx/model.onnx",
            "open_clip_config.json",
            "open_clip_model.safetensors",
            "open_clip_pytorch_model.bin",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
            "vocab.json",
        ];
        let expected = "open_clip_config.json merges.txt tokenizer.json vocab.json open_clip_model.safetensors";
        assert_eq!(chosen(&all, false).unwrap(), expected);
        let pickle = ["open_clip_config.json", "open_clip_pytorch_model.bin"];
        assert_eq!(
            chosen(&pickle, false).unwrap(),
            "open_clip_config.json open_clip_pytorch_model.bin"
        );
    }

    #[test]
    fn transformers_models_come_whole_or_in_shards() {
        assert_eq!(
            chosen(
                &["config.json", "model.safetensors", "pytorch_model.bin"],
                false
            )
            .unwrap(),
            "config.json model.safetensors"
        );
        assert_eq!(
            chosen(&["config.json", "pytorch_model.bin"], false).unwrap(),
            "config.json pytorch_model.bin"
        );
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model-x-of-y.safetensors",
            "model.safetensors.index.json",
            "spiece.model",
            "sub/spiece.model",
        ];
        let expected = "config.json model.safetensors.index.json spiece.model model-00001-of-00002.safetensors \
                        model-00002-of-00002.safetensors";
        assert_eq!(chosen(&shards, false).unwrap(), expected);
    }

    #[test]
    fn a_config_is_needed_unless_the_architecture_is_known() {
        assert_eq!(chosen(&["open_clip_model.safetensors"], false), None);
        assert_eq!(
            chosen(&["open_clip_model.safetensors"], true).unwrap(),
            "open_clip_model.safetensors"
        );
        assert_eq!(chosen(&["config.json", "tokenizer.json"], true), None);
        assert_eq!(
            chosen(&["sub/config.json", "sub/model.safetensors"], false),
            None
        );
        assert!(!is_whole(&[
            "config.json".into(),
            "model.safetensors".into()
        ]));
    }
}
