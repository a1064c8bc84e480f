//! The serde types that describe a model and travel with its weights.

mod abilities;
mod bounds;
mod check;
mod differences;
mod encoder;
mod forms;
mod preprocess;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::SpecProblem;
pub use preprocess::{CropRounding, Interpolation, PreprocessError, PreprocessSpec, ResizeMode};

/// ln(1 / 0.07), CLIP's initial `logit_scale`. Source: Radford et al. 2021, section 2.5.
pub fn clip_init_logit_scale() -> f32 {
    (1.0f32 / 0.07).ln()
}

/// A CLIP model: two towers and their joint embedding space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Width of the joint image-text space.
    pub embed_dim: usize,
    /// Activation of every MLP in both towers, unless a tower names its own.
    #[serde(default)]
    pub activation: Activation,
    /// Initial `logit_scale`, stored as its log.
    #[serde(default = "clip_init_logit_scale")]
    pub init_logit_scale: f32,
    /// Initial `logit_bias`; without it the model has none. SigLIP starts from -10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f32>,
    pub image: ImageTowerSpec,
    pub text: TextTowerSpec,
}

/// The non-linearity between the two linear layers of an MLP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Exact (erf) GELU, as open_clip's plain model names.
    #[default]
    Gelu,
    /// GELU by its tanh approximation, as in SigLIP's text towers.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, as in the paper's models and open_clip's `-quickgelu` names.
    QuickGelu,
}

impl Activation {
    /// As configs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu-tanh",
            Self::QuickGelu => "quick-gelu",
        }
    }
}

/// The image tower, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ImageTowerSpec {
    /// A vision transformer.
    Vit(VitSpec),
    /// CLIP's modified ResNet.
    #[serde(rename = "modified-resnet")]
    ResNet(ResNetSpec),
}

/// A vision transformer: by default with a class token and a projection, as CLIP has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key that configs set by itself"
)]
pub struct VitSpec {
    /// Side of the square input, in pixels.
    #[schemars(range(min = 1, max = bounds::MAX_IMAGE_SIZE))]
    pub image_size: usize,
    /// Side of a square patch, in pixels. Pixels beyond the last whole patch are not used.
    #[schemars(range(min = 1, max = bounds::MAX_IMAGE_SIZE))]
    pub patch_size: usize,
    /// Width of the transformer.
    #[schemars(range(min = 1, max = bounds::MAX_WIDTH))]
    pub width: usize,
    /// Number of transformer blocks.
    #[schemars(range(min = 1, max = bounds::MAX_LAYERS))]
    pub layers: usize,
    /// Number of attention heads; must divide `width`.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`.
    #[serde(default = "default_mlp_ratio")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub mlp_ratio: f64,
    /// Activation of this tower's MLPs. By default the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Epsilon of the layer norms.
    #[serde(
        default = "default_norm_eps",
        skip_serializing_if = "is_default_norm_eps"
    )]
    #[schemars(!skip_serializing_if, extend("exclusiveMinimum" = 0.0))]
    pub norm_eps: f64,
    /// Initial gain of each residual branch (LayerScale); without it branches have none.
    /// Source: Touvron et al. 2021, "Going deeper with Image Transformers".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Applies a layer norm before the first block.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(!skip_serializing_if)]
    pub pre_norm: bool,
    /// Puts a learned token before the patches.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(!skip_serializing_if)]
    pub class_token: bool,
    /// Adds a learned bias to the patch embedding.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub patch_bias: bool,
    /// Position embeddings.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub positions: ImagePositions,
    /// Share of the patches that are dropped in training, drawn for each image. Source: Li et
    /// al. 2022, "Scaling Language-Image Pre-training via Masking".
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if, range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub patch_dropout: f64,
    /// Attention pooling by learned queries over the last block's tokens, before `pool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_pool: Option<AttentionPoolSpec>,
    /// How tokens (or the outputs of the attention pool) become one feature.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub pool: ImagePool,
    /// Applies the last layer norm after pooling instead of before. No difference for the class
    /// token.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub norm_after_pool: bool,
    /// Puts a linear layer with tanh behind the class token's last norm, as Hugging Face's ViT has it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub pooler: bool,
    /// How the pooled output is projected into the joint space.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub projection: ImageProjection,
}

/// How a ViT's tokens become one feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePool {
    /// The class token (with an attention pool: the output of the first query).
    #[default]
    Class,
    /// The mean of all other tokens.
    Mean,
    /// The output of a learned query over all tokens, with the tower's number of heads and an MLP after it:
    /// SigLIP's MAP head. Source: Zhai et al. 2022, "Scaling Vision Transformers".
    Map,
}

/// How an image's pooled output is projected into the joint space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageProjection {
    /// A matrix without bias.
    #[default]
    Linear,
    /// No projection; `width` must be `embed_dim`.
    None,
}

/// A ViT's position embeddings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePositions {
    /// Learned embeddings.
    #[default]
    Learned,
    /// Sines and cosines of row and column, which are not trained. Source: open_clip
    /// `get_2d_sincos_pos_embed`.
    #[serde(rename = "sin-cos-2d")]
    SinCos2d,
}

/// Multi-head attention pooling by learned queries. Source: open_clip `AttentionalPooler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionPoolSpec {
    /// Number of learned queries.
    #[schemars(range(min = 1, max = bounds::MAX_QUERIES))]
    pub queries: usize,
    /// Number of attention heads; must divide `model.embed_dim`.
    #[schemars(range(min = 1))]
    pub heads: usize,
}

/// CLIP's modified ResNet: a stem of three convolutions, strides by average pooling, and
/// attention pooling at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetSpec {
    /// Side of the square input, in pixels; a multiple of 32.
    #[schemars(range(min = 1, max = bounds::MAX_IMAGE_SIZE))]
    pub image_size: usize,
    /// Number of bottleneck blocks in each of the four stages.
    #[schemars(inner(range(min = 1, max = bounds::MAX_LAYERS)))]
    pub layers: [usize; 4],
    /// Number of channels after the stem; the last stage ends with 32 times as many. Must be
    /// even.
    #[schemars(range(min = 1, max = bounds::MAX_STEM_WIDTH))]
    pub width: usize,
    /// Number of heads of the attention pool; must divide 32 times `width`.
    #[schemars(range(min = 1))]
    pub heads: usize,
}

/// The text tower: by default causal and pooled at the end-of-text token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextTowerSpec {
    /// Number of tokens of a text, start and end included; longer texts are cut off.
    #[schemars(range(min = 3, max = bounds::MAX_CONTEXT))]
    pub context_length: usize,
    /// Number of token ids; at least the tokenizer's.
    #[schemars(range(min = 1, max = bounds::MAX_VOCABULARY))]
    pub vocab_size: usize,
    /// Width of the transformer.
    #[schemars(range(min = 1, max = bounds::MAX_WIDTH))]
    pub width: usize,
    /// Number of transformer blocks.
    #[schemars(range(min = 1, max = bounds::MAX_LAYERS))]
    pub layers: usize,
    /// Number of attention heads; must divide `width`.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`.
    #[serde(default = "default_mlp_ratio")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub mlp_ratio: f64,
    /// Activation of this tower's MLPs. By default the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Epsilon of the layer norms.
    #[serde(
        default = "default_norm_eps",
        skip_serializing_if = "is_default_norm_eps"
    )]
    #[schemars(!skip_serializing_if, extend("exclusiveMinimum" = 0.0))]
    pub norm_eps: f64,
    /// Whose encoder it is. Those of Hugging Face's models look at no padding.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub encoder: TextEncoder,
    /// Initial gain of each residual branch (LayerScale); without it branches have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Lets a token attend only to those before it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(!skip_serializing_if)]
    pub causal: bool,
    /// Which token's output becomes the feature.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub pool: TextPool,
    /// Token id that fills a text up to `context_length`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub pad_id: u32,
    /// How the pooled output is projected into the joint space.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub projection: TextProjection,
}

/// Whose encoder a text tower has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TextEncoder {
    /// open_clip's: a layer norm before each half of a block.
    #[default]
    Clip,
    /// BERT's: a layer norm after each half of a block. Source: transformers `BertModel`.
    Bert {
        /// Number of position embeddings.
        #[schemars(range(min = 1, max = bounds::MAX_CONTEXT))]
        positions: usize,
        /// Number of token types. All tokens of a text are of the first.
        #[schemars(range(min = 1, max = bounds::MAX_TOKEN_TYPES))]
        token_types: usize,
    },
    /// RoBERTa's: BERT's, with positions counted from `pad_id + 1`. Source: transformers `RobertaModel`.
    Roberta {
        /// Number of position embeddings, those up to `pad_id` included, which no token has.
        #[schemars(range(min = 1, max = bounds::MAX_CONTEXT))]
        positions: usize,
        /// Number of token types. All tokens of a text are of the first.
        #[schemars(range(min = 1, max = bounds::MAX_TOKEN_TYPES))]
        token_types: usize,
    },
    /// XLM-RoBERTa's: RoBERTa's under another name. Source: transformers `XLMRobertaModel`.
    XlmRoberta {
        /// Number of position embeddings, those up to `pad_id` included, which no token has.
        #[schemars(range(min = 1, max = bounds::MAX_CONTEXT))]
        positions: usize,
        /// Number of token types. All tokens of a text are of the first.
        #[schemars(range(min = 1, max = bounds::MAX_TOKEN_TYPES))]
        token_types: usize,
    },
    /// ModernBERT's: rotary positions, gated MLPs, no biases, and blocks that look at near tokens only.
    /// Source: transformers `ModernBertModel`.
    ModernBert {
        /// Longest text in tokens that the model was made for.
        #[schemars(range(min = 1, max = bounds::MAX_CONTEXT))]
        positions: usize,
        /// Every so many blocks one looks at all tokens, the first among them.
        #[schemars(range(min = 1, max = bounds::MAX_LAYERS))]
        global_every: usize,
        /// Width in tokens of what the other blocks look at.
        #[schemars(range(min = 1, max = bounds::MAX_CONTEXT))]
        local_window: usize,
        /// Base of the rotary frequencies of blocks that look at all tokens.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        global_theta: f64,
        /// Base of the rotary frequencies of the other blocks.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        local_theta: f64,
    },
}

/// Which token's output becomes the feature of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TextPool {
    /// The first with the highest id: CLIP's end of text.
    #[default]
    Argmax,
    /// The first.
    First,
    /// The mean of all but padding, of a Hugging Face encoder.
    Mean,
    /// The first, through a linear layer and tanh: the pooler of BERT and RoBERTa.
    Pooler,
    /// The last of `context_length`, padding or not: SigLIP's.
    Last,
    /// The first with this id.
    Eos {
        /// Token id to pool at; below `vocab_size`.
        id: u32,
    },
    /// The output of one learned query over all tokens (MAP head). Not available in open_clip.
    /// Source: Zhai et al. 2022, "Scaling Vision Transformers".
    Map {
        /// Number of attention heads; must divide `width`.
        #[schemars(range(min = 1))]
        heads: usize,
    },
}

/// How a text's pooled output is projected into the joint space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextProjection {
    /// A matrix without bias.
    #[default]
    Linear,
    /// A matrix with bias.
    LinearBias,
    /// Two matrices with GELU between them, of a Hugging Face encoder; the hidden width is the mean of `width` and
    /// `embed_dim`, rounded down.
    Mlp,
    /// No projection; `width` must be `embed_dim`.
    None,
}

fn default_mlp_ratio() -> f64 {
    4.0
}

/// PyTorch's default.
pub(crate) const DEFAULT_NORM_EPS: f64 = 1e-5;

fn default_norm_eps() -> f64 {
    DEFAULT_NORM_EPS
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
fn is_default_norm_eps(eps: &f64) -> bool {
    *eps == DEFAULT_NORM_EPS
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "open_clip takes int(width * mlp_ratio); both are small and positive"
)]
pub(crate) fn mlp_width(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}

/// A ratio that gives exactly this MLP width.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^52")]
pub(crate) fn mlp_ratio(width: usize, mlp: usize) -> f64 {
    let exact = mlp as f64 / width as f64;
    if mlp_width(width, exact) == mlp {
        exact
    } else {
        (mlp as f64 + 0.5) / width as f64
    }
}
