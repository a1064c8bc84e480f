//! Hugging Face's names and shapes of CLIP's tensors, and open_clip's.

use crate::depth::BlockCount;
use crate::spec::ModelSpec;
use crate::weights::{HostTensor, NamedTensors};

/// Hugging Face's name, open_clip's, and whether the matrix is transposed between them.
const OUTSIDE_BLOCKS: [(&str, &str, bool); 15] = [
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
const KINDS: [&str; 2] = ["weight", "bias"];

/// Hugging Face's tensors under open_clip's names. A tensor without such a name keeps its own and
/// is reported as superfluous later.
pub(super) fn to_open_clip(mut theirs: NamedTensors, spec: &ModelSpec) -> NamedTensors {
    let mut ours = NamedTensors::new();
    for (name, our_name, transposed) in OUTSIDE_BLOCKS {
        if let Some(tensor) = theirs.remove(name) {
            let tensor = if transposed {
                transpose(tensor)
            } else {
                tensor
            };
            ours.insert(our_name.into(), tensor);
        }
    }
    let image_layers = BlockCount::new(spec).image();
    for ((their_tower, our_tower), layers) in
        TOWERS.into_iter().zip([spec.text.layers, image_layers])
    {
        for (layer, kind) in (0..layers).flat_map(|layer| KINDS.map(|kind| (layer, kind))) {
            for (name, our_name) in IN_BLOCK {
                if let Some(tensor) = theirs.remove(&format!("{their_tower}{layer}.{name}.{kind}"))
                {
                    ours.insert(format!("{our_tower}{layer}.{our_name}.{kind}"), tensor);
                }
            }
            let names = PACKED.map(|part| format!("{their_tower}{layer}.self_attn.{part}.{kind}"));
            if let Some(packed) = pack(&mut theirs, &names) {
                ours.insert(format!("{our_tower}{layer}.attn.in_proj_{kind}"), packed);
            }
        }
    }
    ours.extend(theirs);
    ours
}

/// open_clip's tensors under Hugging Face's names, for a model that both can hold.
pub(super) fn to_hugging_face(ours: NamedTensors) -> NamedTensors {
    let mut theirs = NamedTensors::new();
    for (name, tensor) in ours {
        let outside = OUTSIDE_BLOCKS.iter().find(|(_, ours, _)| *ours == name);
        if let Some((their_name, _, transposed)) = outside {
            let tensor = if *transposed {
                transpose(tensor)
            } else {
                tensor
            };
            theirs.insert((*their_name).into(), tensor);
            continue;
        }
        let (their_tower, rest) = TOWERS
            .iter()
            .find_map(|(theirs, ours)| Some((theirs, name.strip_prefix(ours)?)))
            .expect("every other tensor is a block's");
        let (layer, part) = rest.split_once('.').expect("a block's tensor has a number");
        let prefix = format!("{their_tower}{layer}.");
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            for (part, tensor) in PACKED.into_iter().zip(unpack(&tensor)) {
                theirs.insert(format!("{prefix}self_attn.{part}.{kind}"), tensor);
            }
            continue;
        }
        let (module, kind) = part.rsplit_once('.').expect("a weight or a bias");
        let (their_module, _) = IN_BLOCK
            .iter()
            .find(|(_, ours)| *ours == module)
            .expect("a block of CLIP has no other tensors");
        theirs.insert(format!("{prefix}{their_module}.{kind}"), tensor);
    }
    theirs
}

/// The tensors of these names, one below the other; `None`, and none taken, unless all
/// are there and are alike.
fn pack(tensors: &mut NamedTensors, names: &[String; 3]) -> Option<HostTensor> {
    let shape = tensors.get(&names[0])?.shape.clone();
    if !names.iter().all(|name| {
        tensors
            .get(name)
            .is_some_and(|tensor| tensor.shape == shape)
    }) {
        return None;
    }
    let mut packed = HostTensor {
        shape,
        values: Vec::new(),
    };
    *packed.shape.first_mut()? *= names.len();
    for name in names {
        packed.values.extend(tensors.remove(name)?.values);
    }
    Some(packed)
}

fn unpack(packed: &HostTensor) -> Vec<HostTensor> {
    let mut shape = packed.shape.clone();
    shape[0] /= PACKED.len();
    let parts = packed
        .values
        .chunks_exact(packed.values.len() / PACKED.len());
    parts
        .map(|values| HostTensor {
            shape: shape.clone(),
            values: values.to_vec(),
        })
        .collect()
}

/// Swaps rows and columns. A tensor of another rank is unchanged; its wrong shape is reported
/// later.
fn transpose(tensor: HostTensor) -> HostTensor {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return tensor;
    };
    let at = |column: usize| (0..rows).map(move |row| row * columns + column);
    HostTensor {
        shape: vec![columns, rows],
        values: (0..columns)
            .flat_map(at)
            .map(|index| tensor.values[index])
            .collect(),
    }
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
        let theirs = to_hugging_face(ours.clone());
        assert_eq!(theirs["visual_projection.weight"].shape, [64, 96]);
        let query = "vision_model.encoder.layers.2.self_attn.q_proj.weight";
        assert_eq!(theirs[query].shape, [96, 96]);
        assert_eq!(to_open_clip(theirs, &spec), ours);
    }

    #[test]
    fn a_lost_key_projection_shows_as_surplus_query_and_value() {
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let mut theirs = to_hugging_face(parameters(&Clip::init(&spec, 0, &Device::flex())));
        theirs.remove("text_model.encoder.layers.0.self_attn.k_proj.weight");
        let ours = to_open_clip(theirs, &spec);
        assert!(!ours.contains_key("transformer.resblocks.0.attn.in_proj_weight"));
        assert!(ours.contains_key("text_model.encoder.layers.0.self_attn.q_proj.weight"));
    }
}
