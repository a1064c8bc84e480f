//! CLIP's two towers on Burn: specs, presets, initialisation, forward passes, and weights in
//! open_clip's, Hugging Face's and OpenAI's layouts.
//!
//! Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural
//! Language Supervision"; reference implementation open_clip_torch 3.3.0.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use couplet_model::{Clip, presets};
//!
//! let spec = presets::find("ViT-Ti-16-64").unwrap();
//! let model = Clip::init(&spec, 0, &Device::flex());
//! let images = Tensor::zeros([2, 3, 64, 64], &Device::flex());
//! let tokens = Tensor::<2, Int>::zeros([2, 16], &Device::flex());
//! assert_eq!(model.encode_image(images).dims(), [2, spec.embed_dim]);
//! assert_eq!(model.encode_text(tokens).dims(), [2, spec.embed_dim]);
//! ```

mod adapt;
mod attention;
mod bert;
mod clip;
mod clip_text;
mod cost;
mod depth;
mod digest;
mod files;
mod foreign;
mod forward;
mod freeze;
mod head;
mod head_file;
pub mod hugging_face;
mod image;
mod init;
mod join;
mod layers;
mod load;
mod lora;
mod manifest;
mod map_head;
mod memory;
mod mix;
mod model_weights;
mod modern_bert;
mod names;
pub mod open_clip;
mod openai;
mod padding;
mod parts;
pub mod peft;
mod positions;
mod precision;
pub mod presets;
mod printable;
mod product;
mod resnet;
mod shortest;
mod source;
mod spec;
mod tensors;
mod text;
mod text_parts;
mod token;
mod tokens;
mod transformer;
mod vit;
mod weight_draws;
pub mod weights;

pub use adapt::{AdaptableLayer, LowRank};
pub use bert::BertText;
pub use clip::{Clip, MAX_LOGIT_SCALE, l2_normalize};
pub use clip_text::ClipText;
pub use cost::{ModelCost, TowerCost, TrainableParameters};
pub use depth::{BlockCount, Layer, LayerId};
pub use digest::{FileDigest, RunningDigest};
pub use files::{FolderError, write_json};
pub use forward::ForwardContext;
pub use freeze::{Freeze, FreezeConfig, ParseFreezeError};
pub use head::ClassifierHead;
pub use image::{BatchStatistics, ImageTower};
pub use join::{JoinOptions, Joined, join};
pub use layers::is_buffer;
pub use load::{Loaded, describe, inspect, inspect_as, load, load_as};
pub use lora::LowRankUpdate;
pub use manifest::{Difference, MANIFEST_FILE, Manifest, ManifestError};
pub use memory::PassMemory;
pub use modern_bert::{ModernBertText, rotary_angles};
pub use names::{
    ParameterMapper, ParameterVisitor, map_parameters, narrow_weights, visit_parameters,
};
pub use parts::TowerParts;
pub use precision::Precision;
pub use resnet::ModifiedResNet;
pub use shortest::shortest;
pub use source::{Layout, ModelSource, TOKENIZER_FILE, TokenizerSpec};
pub use spec::{
    Activation, AttentionPoolSpec, CropRounding, ImagePool, ImagePositions, ImageProjection,
    ImageTowerSpec, Interpolation, ModelSpec, PreprocessError, PreprocessSpec, ResNetSpec,
    ResizeMode, SpecProblem, TextEncoder, TextPool, TextProjection, TextTowerSpec, VitSpec,
    clip_init_logit_scale,
};
pub use text::TextTower;
pub use tokens::Tokens;
pub use vit::VisionTransformer;
