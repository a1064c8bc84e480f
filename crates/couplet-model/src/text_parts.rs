//! What the text towers of all encoders have: the token embedding, and the projection into the joint space.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use couplet_kernels::{embedding, gelu};

use crate::init::{Initializer, inverse_sqrt};
use crate::layers::Linear;
use crate::lora::VisitLayers;
use crate::precision::{Precision, widen};
use crate::product::linear;
use crate::spec::{TextProjection, TextTowerSpec};
use crate::tokens::Tokens;

#[derive(Module, Debug)]
pub(crate) struct TokenEmbedding {
    /// `[vocab_size, width]`
    weight: Param<Tensor<2>>,
}

impl TokenEmbedding {
    pub fn init(spec: &TextTowerSpec, init: &Initializer) -> Self {
        Self {
            weight: init.normal(
                "token_embedding.weight",
                [spec.vocab_size, spec.width],
                0.02,
            ),
        }
    }

    /// - returns `[batch, tokens, width]`.
    pub fn forward(&self, tokens: &Tokens) -> Tensor<3> {
        embedding(self.weight.val(), tokens.ids.clone(), tokens.runs.as_ref())
    }

    /// The number of rows, if they are trained.
    pub fn trained_vocabulary(&self) -> Option<usize> {
        (self.weight.is_require_grad()).then(|| self.weight.shape()[0])
    }
}

#[derive(Module, Debug)]
pub(crate) enum Projection {
    /// `[width, embed_dim]`
    Matrix(Param<Tensor<2>>),
    Biased(Linear),
    Mlp(ProjectionMlp),
}

/// `c_proj gelu(c_fc x)`, without biases. Source: open_clip `HFTextEncoder`.
#[derive(Module, Debug)]
pub(crate) struct ProjectionMlp {
    /// `[hidden, width]`
    c_fc: Param<Tensor<2>>,
    /// `[embed_dim, hidden]`
    c_proj: Param<Tensor<2>>,
}

impl Projection {
    /// With open_clip's own encoder N(0, width^-½), with those of Hugging Face PyTorch's default.
    pub fn init(spec: &TextTowerSpec, embed_dim: usize, init: &Initializer) -> Option<Self> {
        let w = spec.width;
        let matrix = |name: &str, shape: [usize; 2]| {
            if spec.is_clip() {
                init.normal(name, shape, inverse_sqrt(w))
            } else {
                init.uniform(name, shape, inverse_sqrt(w))
            }
        };
        match spec.projection {
            TextProjection::Linear => Some(Self::Matrix(matrix("text_projection", [w, embed_dim]))),
            TextProjection::LinearBias => Some(Self::Biased(Linear {
                weight: matrix("text_projection.weight", [embed_dim, w]),
                bias: init.constant([embed_dim], 0.0),
                lora: None,
            })),
            TextProjection::Mlp => {
                let hidden = usize::midpoint(w, embed_dim);
                Some(Self::Mlp(ProjectionMlp {
                    c_fc: matrix("text_projection.c_fc", [hidden, w]),
                    c_proj: init.uniform(
                        "text_projection.c_proj",
                        [embed_dim, hidden],
                        inverse_sqrt(hidden),
                    ),
                }))
            }
            TextProjection::None => None,
        }
    }

    /// What is pooled in the joint space, projected if there is a projection.
    /// - pooled: `[batch, width]`; returns `[batch, embed_dim]`.
    pub fn apply(projection: Option<&Self>, pooled: Tensor<2>, precision: Precision) -> Tensor<2> {
        match projection {
            Some(projection) => projection.forward(pooled, precision),
            None => pooled,
        }
    }

    pub fn visit_layers(&mut self, visit: &mut VisitLayers) {
        if let Self::Biased(linear) = self {
            linear.visit_layers("text_projection", visit);
        }
    }

    fn forward(&self, pooled: Tensor<2>, precision: Precision) -> Tensor<2> {
        widen(match self {
            Self::Matrix(matrix) => {
                let matrix = precision.narrow(matrix.val());
                couplet_kernels::matmul(precision.narrow(pooled), matrix)
            }
            Self::Biased(linear) => linear.forward(pooled, precision),
            Self::Mlp(mlp) => {
                let hidden = gelu(linear(pooled, mlp.c_fc.val(), None, precision));
                linear(hidden, mlp.c_proj.val(), None, precision)
            }
        })
    }
}
