//! Hugging Face's names and shapes of the tensors of CLIP and SigLIP, and Couplet's.

use super::text_names;
use super::vit;
use crate::spec::{ModelSpec, VitSpec};
use crate::tensors::{NamedTensors, StoredAs};

/// The prefix of a text encoder's names.
const TEXT_MODEL: &str = "text_model.";

/// Hugging Face's name, ours, and whether the matrix is transposed between them.
const OUTSIDE_BLOCKS: [(&str, &str, bool); 21] = [
    ("logit_scale", "logit_scale", false),
    (
        "text_model.embeddings.token_embedding.weight",
        "token_embedding.weight",
        false,
    ),
    (
        "text_model.embeddings.position_embedding.weight",
        "positional_embedding",
        false,
    ),
    (
        "text_model.final_layer_norm.weight",
        "ln_final.weight",
        false,
    ),
    ("text_model.final_layer_norm.bias", "ln_final.bias", false),
    ("text_projection.weight", "text_projection", true),
    (
        "vision_model.embeddings.class_embedding",
        "visual.class_embedding",
        false,
    ),
    (
        "vision_model.embeddings.patch_embedding.weight",
        "visual.conv1.weight",
        false,
    ),
    (
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
        false,
    ),
    // Spelled so by transformers.
    (
        "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.weight",
        false,
    ),
    (
        "vision_model.pre_layrnorm.bias",
        "visual.ln_pre.bias",
        false,
    ),
    (
        "vision_model.post_layernorm.weight",
        "visual.ln_post.weight",
        false,
    ),
    (
        "vision_model.post_layernorm.bias",
        "visual.ln_post.bias",
        false,
    ),
    ("visual_projection.weight", "visual.proj", true),
    ("logit_bias", "logit_bias", false),
    ("text_model.head.weight", "text_projection.weight", false),
    ("text_model.head.bias", "text_projection.bias", false),
    (
        "vision_model.embeddings.patch_embedding.bias",
        "visual.conv1.bias",
        false,
    ),
    ("vision_model.head.probe", "visual.map_head.probe", false),
    (
        "vision_model.head.attention.in_proj_weight",
        "visual.map_head.attn.in_proj_weight",
        false,
    ),
    (
        "vision_model.head.attention.in_proj_bias",
        "visual.map_head.attn.in_proj_bias",
        false,
    ),
];
/// The prefixes of modules with a weight and a bias in SigLIP's MAP head.
const MAP_HEAD: [(&str, &str); 4] = [
    ("attention.out_proj.", "attn.out_proj."),
    ("layernorm.", "norm."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
];
/// The prefixes of a block's number.
const TOWERS: [(&str, &str); 2] = [
    ("text_model.encoder.layers.", "transformer.resblocks."),
    (
        "vision_model.encoder.layers.",
        "visual.transformer.resblocks.",
    ),
];
/// Of a block; each has a weight and a bias.
const IN_BLOCK: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
];
/// The rows of open_clip's packed projection, in their order.
const PACKED: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// Where Hugging Face keeps the tensor with this name of ours. A tensor that its models do not
/// have keeps its name.
pub(crate) fn stored_as(spec: &ModelSpec, name: &str) -> StoredAs {
    let is_vit = spec.image.as_vit().is_some_and(VitSpec::is_hugging_faces);
    let of_image = is_vit.then(|| vit::stored_as(name)).flatten();
    of_image
        .or_else(|| text_names::stored_as(spec.text.encoder, name, TEXT_MODEL))
        .unwrap_or_else(|| own(name))
}

/// Where a tensor of CLIP or SigLIP is kept.
fn own(name: &str) -> StoredAs {
    let outside = OUTSIDE_BLOCKS.iter().find(|(_, ours, _)| *ours == name);
    if let Some((theirs, _, transposed)) = outside {
        return if *transposed {
            StoredAs::Transposed((*theirs).into())
        } else {
            StoredAs::Same((*theirs).into())
        };
    }
    if let Some(part) = name.strip_prefix("visual.map_head.") {
        let renamed = |(theirs, ours): &(&str, &str)| {
            let rest = part.strip_prefix(ours)?;
            Some(StoredAs::Same(format!("vision_model.head.{theirs}{rest}")))
        };
        let renamed = MAP_HEAD.iter().find_map(renamed);
        return renamed.unwrap_or_else(|| StoredAs::Same(name.into()));
    }
    in_block(name).unwrap_or_else(|| StoredAs::Same(name.into()))
}

/// Where the tensor of a block is kept; `None` for another tensor.
fn in_block(name: &str) -> Option<StoredAs> {
    let mut towers = TOWERS.iter();
    let (tower, rest) =
        towers.find_map(|(theirs, ours)| Some((theirs, name.strip_prefix(ours)?)))?;
    let (layer, part) = rest.split_once('.')?;
    let prefix = format!("{tower}{layer}.");
    if let Some(kind) = part.strip_prefix("attn.in_proj_") {
        let parts = PACKED.map(|part| (format!("{prefix}self_attn.{part}.{kind}"), 1));
        return Some(StoredAs::Packed(parts.into()));
    }
    let (module, kind) = part.rsplit_once('.')?;
    let (theirs, _) = IN_BLOCK.iter().find(|(_, ours)| *ours == module)?;
    Some(StoredAs::Same(format!("{prefix}{theirs}.{kind}")))
}

/// Our tensors under Hugging Face's names, for a model that both can hold.
pub(super) fn to_hugging_face(ours: NamedTensors, spec: &ModelSpec) -> NamedTensors {
    let split = |(name, tensor): (String, _)| stored_as(spec, &name).split(tensor);
    ours.into_iter().flat_map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::presets;
    use crate::weights::parameters;
    use burn::tensor::Device;

    #[test]
    fn there_and_back_is_the_same() {
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let ours = parameters(&Clip::init(&spec, 0, &Device::flex()));
        let theirs = to_hugging_face(ours.clone(), &spec);
        assert_eq!(theirs["visual_projection.weight"].shape, [64, 96]);
        let query = "vision_model.encoder.layers.2.self_attn.q_proj.weight";
        assert_eq!(theirs[query].shape, [96, 96]);
        let read = |name: &str| Ok::<_, ()>(theirs[name].clone());
        for (name, tensor) in &ours {
            assert_eq!(
                &stored_as(&spec, name).join(read).unwrap(),
                tensor,
                "{name}"
            );
            for (stored, shape) in stored_as(&spec, name).shapes(&tensor.shape) {
                assert_eq!(theirs[&stored].shape, shape, "{name}");
            }
        }
    }
}
