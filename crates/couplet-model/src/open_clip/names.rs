//! open_clip's names of tensors where they are not ours: of towers that it takes from timm and transformers.

use super::timm;
use crate::clip::Clip;
use crate::hugging_face::text_names;
use crate::spec::{ModelSpec, VitSpec};
use crate::tensors::{NamedTensors, StoredAs};
use crate::weights;

/// The text tower's module in `CustomTextCLIP`. Names are read without it.
const TEXT: &str = "text.";
/// Of the encoder's names.
const ENCODER: &str = "transformer.";
/// The projection behind a Hugging Face encoder: ours, and open_clip's.
const PROJECTION: [(&str, &str); 2] = [
    ("text_projection.c_fc", "proj.0.weight"),
    ("text_projection.c_proj", "proj.2.weight"),
];

/// Where open_clip keeps the tensor with this name of ours, without the prefix of `CustomTextCLIP`.
pub(crate) fn stored_as(spec: &ModelSpec, name: &str) -> StoredAs {
    if name.starts_with("visual.") {
        return if spec.image.as_vit().is_some_and(VitSpec::is_siglip) {
            timm::stored_as(name)
        } else {
            StoredAs::Same(name.into())
        };
    }
    if let Some(stored) = text_names::stored_as(spec.text.encoder, name, ENCODER) {
        return stored;
    }
    if !spec.text.is_clip() {
        if name == "text_projection" {
            return StoredAs::Transposed("proj.weight".into());
        }
        if let Some((_, theirs)) = PROJECTION.iter().find(|(ours, _)| *ours == name) {
            return StoredAs::Same((*theirs).into());
        }
    }
    StoredAs::Same(name.into())
}

/// What the state dict has before the name of a tensor, where its model is a `CustomTextCLIP` for its text encoder.
pub(crate) fn module_prefix(spec: &ModelSpec, name: &str) -> &'static str {
    let is_text =
        !spec.text.is_clip() && !name.starts_with("visual.") && !name.starts_with("logit_");
    if is_text { TEXT } else { "" }
}

/// The parameters and buffers of `model` under the names that open_clip's state dict has.
/// - spec: the model's.
pub fn tensors(model: &Clip, spec: &ModelSpec) -> NamedTensors {
    let split = |(name, tensor): (String, _)| {
        let stored = stored_as(spec, &name).prefixed(module_prefix(spec, &name));
        stored.split(tensor)
    };
    weights::parameters(model)
        .into_iter()
        .flat_map(split)
        .collect()
}
