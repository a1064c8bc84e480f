//! `config.json`: transformers' where it has such a model, else what transformers.js needs to open the files.

use couplet_model::ModelSpec;
use couplet_model::hugging_face::{TokenIds, model_config};
use serde_json::{Map, Value, json};

/// - ids: the tokenizer's.
/// - external: the files whose weights are in files of their own.
pub(crate) fn config(spec: &ModelSpec, ids: TokenIds, external: &[String]) -> Value {
    let mut config = model_config(spec, ids).unwrap_or_else(|_| sizes(spec, ids));
    if !external.is_empty() {
        let files = external.iter().map(|file| (file.clone(), true.into()));
        let files: Map<String, Value> = files.collect();
        config["transformers.js_config"] = json!({ "use_external_data_format": files });
    }
    config
}

/// The sizes of a model that transformers does not have, under CLIP's keys.
fn sizes(spec: &ModelSpec, ids: TokenIds) -> Value {
    let text = &spec.text;
    json!({
        "model_type": "clip",
        "projection_dim": spec.embed_dim,
        "logit_scale_init_value": spec.init_logit_scale,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width(),
            "projection_dim": spec.embed_dim,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "bos_token_id": ids.start,
            "eos_token_id": ids.end,
            "pad_token_id": ids.pad,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": spec.image.image_size(),
            "patch_size": spec.image.patch_size(),
            "hidden_size": spec.image.width(),
            "projection_dim": spec.embed_dim,
            "num_hidden_layers": spec.image.block_counts().iter().sum::<usize>(),
        },
    })
}

#[cfg(test)]
mod tests {
    use couplet_model::presets;

    use super::*;

    #[test]
    fn transformers_models_have_its_config_and_others_their_sizes() {
        let written = |name: &str, external: &[String]| {
            let spec = presets::find(name).unwrap();
            config(&spec, TokenIds::default(), external)
        };
        let clip = written("ViT-B-32", &[]);
        assert_eq!(clip["architectures"][0], "CLIPModel");
        assert!(clip.get("transformers.js_config").is_none());
        let resnet = written("RN50", &["model.onnx".into()]);
        assert_eq!(resnet["vision_config"]["image_size"], 224);
        let files = &resnet["transformers.js_config"]["use_external_data_format"];
        assert_eq!(*files, json!({"model.onnx": true}));
    }
}
