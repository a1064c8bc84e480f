//! A model from the image tower of one and the text tower of another, with what joins them: the start of LiT, or of a
//! model for another language.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use crate::clip::Clip;
use crate::files::{FolderError, check, parse_json, read_text};
use crate::hugging_face::{self, text_encoder, text_names};
use crate::load::Loaded;
use crate::source::{TokenizerSpec, find_encoder_tokenizer};
use crate::spec::{ModelSpec, TextPool, TextProjection, TextTowerSpec};
use crate::tensors::{HostTensor, NamedTensors};
use crate::weights::{self, StoredTensors, WeightsError};

/// What precedes an encoder's names where it has a head of its own: `BertForMaskedLM` and its like.
const PREFIXES: [&str; 4] = ["", "bert.", "roberta.", "model."];
/// As releases of BERT before transformers call the weight and the bias of a layer norm.
const OLD_NORMS: [(&str, &str); 2] = [
    ("LayerNorm.weight", "LayerNorm.gamma"),
    ("LayerNorm.bias", "LayerNorm.beta"),
];

/// How texts become features behind an encoder.
#[derive(Debug, Clone, Copy)]
pub struct JoinOptions {
    /// What becomes a text's feature.
    pub pool: TextPool,
    /// Into the joint space.
    pub projection: TextProjection,
    /// Number of tokens of a text; longer texts are cut off. At most what the encoder has positions for.
    pub context_length: usize,
    /// Of the draws of what no weights are there for: the projection, and a pooler that the encoder lacks.
    pub seed: u64,
}

/// A joined model.
#[derive(Debug)]
pub struct Joined {
    pub model: Clip,
    pub spec: ModelSpec,
    /// The text tower's.
    pub tokenizer: TokenizerSpec,
    /// The parameters that were drawn.
    pub drawn: Vec<String>,
}

/// A text encoder on disk.
struct StoredEncoder {
    spec: TextTowerSpec,
    /// The weights' file, or the first of several.
    file: PathBuf,
    tensors: StoredTensors,
    tokenizer: TokenizerSpec,
}

/// Joins the image tower of `image` with the text encoder in `text`, a folder of transformers' BERT, RoBERTa,
/// XLM-RoBERTa or ModernBERT. Image projection, scale and bias are those of `image`.
/// - image: a model that was read.
///
/// # Errors
/// If there is no such encoder, its weights are incomplete or do not fit its config, or the options do not fit it.
pub fn join(
    image: &Loaded,
    text: &Path,
    options: &JoinOptions,
    device: &Device,
) -> Result<Joined, FolderError> {
    let encoder = open_encoder(text, options)?;
    let spec = ModelSpec {
        text: encoder.spec.clone(),
        ..image.source.spec.clone()
    };
    check(text, &spec)?;
    let of_text = read_tensors(&encoder, &spec)?;
    let from_image = |name: &str| name.starts_with("visual.") || name.starts_with("logit_");
    let mut tensors = weights::parameters(&Clip::init(&spec, options.seed, &Device::flex()));
    let of_image = weights::parameters(&image.model).into_iter();
    let given = of_image.filter(|(name, _)| from_image(name)).chain(of_text);
    let mut drawn: Vec<String> = tensors.keys().cloned().collect();
    for (name, tensor) in given {
        drawn.retain(|left| *left != name);
        tensors.insert(name, tensor);
    }
    Ok(Joined {
        model: weights::fill(Clip::blank(&spec, device), tensors, text)?,
        spec,
        tokenizer: encoder.tokenizer,
        drawn,
    })
}

fn open_encoder(folder: &Path, options: &JoinOptions) -> Result<StoredEncoder, FolderError> {
    let path = folder.join(hugging_face::CONFIG_FILE);
    if !path.is_file() {
        return Err(FolderError::NoModel {
            path: folder.to_path_buf(),
        });
    }
    let config: Value = parse_json(&path, &read_text(&path)?)?;
    let mut spec =
        text_encoder::read(&config, "").map_err(|list| FolderError::unsound(&path, &list))?;
    spec.pool = options.pool;
    spec.projection = options.projection;
    spec.context_length = options.context_length.min(spec.context_length);
    let candidates = hugging_face::weights_candidates(folder);
    let Some(file) = candidates.first() else {
        return Err(FolderError::NoWeights {
            path: folder.to_path_buf(),
            expected: "model.safetensors or pytorch_model.bin".into(),
        });
    };
    Ok(StoredEncoder {
        tokenizer: find_encoder_tokenizer(folder),
        tensors: weights::open_all(&hugging_face::list_files(file)?)?,
        file: file.clone(),
        spec,
    })
}

/// The encoder's tensors under our names; without a pooler's, if the file has none.
/// - spec: of the joined model.
fn read_tensors(
    StoredEncoder {
        spec: text,
        file,
        tensors: stored,
        ..
    }: &StoredEncoder,
    spec: &ModelSpec,
) -> Result<NamedTensors, FolderError> {
    let embedding =
        |prefix: &str| text_names::stored_as(text.encoder, "token_embedding.weight", prefix);
    let holds = |prefix: &&&str| {
        let stored_as = embedding(prefix);
        stored_as.is_some_and(|stored_as| {
            let names = stored_as.shapes(&[0]);
            names.iter().all(|(name, _)| stored.contains_key(name))
        })
    };
    let Some(prefix) = PREFIXES.iter().find(holds) else {
        let problem = "there is no text encoder of the config's kind among the tensors".to_string();
        return Err(FolderError::unsound(file, &[problem]));
    };
    let mut tensors = NamedTensors::new();
    for name in spec.parameter_names() {
        let Some(stored_as) = text_names::stored_as(text.encoder, &name, prefix) else {
            continue;
        };
        if name.starts_with("pooler.")
            && !stored.contains_key(&format!("{prefix}pooler.dense.weight"))
        {
            continue;
        }
        let tensor = stored_as.join(|in_file| read_tensor(file, stored, in_file))?;
        tensors.insert(name, tensor);
    }
    weights::check_finite(
        file,
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)),
    )?;
    Ok(tensors)
}

fn read_tensor(
    file: &Path,
    stored: &StoredTensors,
    name: &str,
) -> Result<HostTensor, WeightsError> {
    let old = OLD_NORMS
        .iter()
        .find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
    let tensor = stored.get(name).or_else(|| stored.get(&old?));
    let tensor = tensor.ok_or(WeightsError::Mismatch {
        path: file.to_path_buf(),
        list: vec![format!("{name}: missing from the file")],
    })?;
    tensor.read().map_err(|source| WeightsError::Tensor {
        path: file.to_path_buf(),
        name: name.to_string(),
        source,
    })
}
