//! OpenAI's own weights: the architecture follows from the tensors' shapes.
//! Source: open_clip `build_model_from_openai_state_dict`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::files::{FolderError, check};
use crate::spec::clip_init_logit_scale;
use crate::spec::{
    Activation, ImageTowerSpec, ModelSpec, ResNetSpec, TextEncoder, TextPool, TextProjection,
    TextTowerSpec, VitSpec,
};
use crate::weights::StoredTensors;

/// All of OpenAI's towers have heads of this width.
const HEAD_WIDTH: usize = 64;

/// Derives the spec of the model that these tensors belong to.
/// - path: the tensors' file, for errors.
/// - activation: what the archive's code computes, if it is one and says so.
///
/// # Errors
/// If they are not a CLIP model's.
pub(crate) fn spec(
    path: &Path,
    tensors: &StoredTensors,
    activation: Option<Activation>,
) -> Result<ModelSpec, FolderError> {
    let shapes = Shapes(tensors);
    let activation = activation.unwrap_or(Activation::QuickGelu);
    let spec = shapes.spec(activation).map_err(|name| {
        FolderError::unsound(
            path,
            &[format!(
                "not OpenAI's CLIP: tensor {name} is missing or has the wrong shape"
            )],
        )
    })?;
    check(path, &spec)?;
    Ok(spec)
}

struct Shapes<'a>(&'a StoredTensors);

impl Shapes<'_> {
    /// The sizes of a tensor, or its name.
    fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D], String> {
        let tensor = self.0.get(name).ok_or(name)?;
        tensor.shape.as_slice().try_into().map_err(|_| name.into())
    }

    /// How many blocks are numbered after `prefix`.
    fn blocks(&self, prefix: &str) -> usize {
        let numbers: BTreeSet<&str> = self
            .0
            .keys()
            .filter_map(|name| name.strip_prefix(prefix)?.split('.').next())
            .collect();
        numbers.len()
    }

    fn spec(&self, activation: Activation) -> Result<ModelSpec, String> {
        let [_, embed_dim] = self.shape("text_projection")?;
        let [context_length, width] = self.shape("positional_embedding")?;
        let [vocab_size, _] = self.shape("token_embedding.weight")?;
        Ok(ModelSpec {
            embed_dim,
            activation,
            init_logit_scale: clip_init_logit_scale(),
            init_logit_bias: None,
            image: self.image()?,
            text: TextTowerSpec {
                context_length,
                vocab_size,
                width,
                layers: self.blocks("transformer.resblocks."),
                heads: width / HEAD_WIDTH,
                mlp_ratio: 4.0,
                activation: None,
                norm_eps: crate::spec::DEFAULT_NORM_EPS,
                layer_scale: None,
                encoder: TextEncoder::Clip,
                causal: true,
                pool: TextPool::Argmax,
                pad_id: 0,
                projection: TextProjection::Linear,
            },
        })
    }

    fn image(&self) -> Result<ImageTowerSpec, String> {
        if self.0.contains_key("visual.proj") {
            let [width, _, patch_size, _] = self.shape("visual.conv1.weight")?;
            let [positions, _] = self.shape("visual.positional_embedding")?;
            return Ok(ImageTowerSpec::Vit(VitSpec {
                image_size: patch_size.saturating_mul(positions.saturating_sub(1).isqrt()),
                patch_size,
                width,
                layers: self.blocks("visual.transformer.resblocks."),
                heads: width / HEAD_WIDTH,
                mlp_ratio: 4.0,
                norm_eps: crate::spec::DEFAULT_NORM_EPS,
                ..VitSpec::clip_form()
            }));
        }
        let [width] = self.shape("visual.layer1.0.bn1.weight")?;
        let [positions, channels] = self.shape("visual.attnpool.positional_embedding")?;
        Ok(ImageTowerSpec::ResNet(ResNetSpec {
            image_size: ResNetSpec::STRIDE * positions.saturating_sub(1).isqrt(),
            layers: [1, 2, 3, 4].map(|stage| self.blocks(&format!("visual.layer{stage}."))),
            width,
            heads: channels / HEAD_WIDTH,
        }))
    }
}
