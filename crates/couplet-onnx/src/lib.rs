//! ONNX models of CLIP's towers, in the layout that transformers.js and optimum expect.
//!
//! The graphs are written from a model's spec, operator by operator, as `couplet-model` computes the towers in evaluation:
//! `onnx/vision_model.onnx`, `onnx/text_model.onnx` and `onnx/model.onnx` (both, with logits), each in every
//! [`Precision`] that is asked for.
//!
//! | file | inputs | outputs |
//! |---|---|---|
//! | `vision_model` | `pixel_values` `[batch, 3, image_size, image_size]` | `image_embeds`, L2-normalised, and `pooler_output`, the same features as they are, `[batch, embed_dim]` |
//! | `text_model` | `input_ids` `[batch, sequence]`, with encoders of Hugging Face `attention_mask`, too | `text_embeds` and `pooler_output`, the same |
//! | `model` | all of these | `logits_per_image`, `logits_per_text`, `text_embeds`, `image_embeds` |

mod attention;
mod bert;
mod clip_text;
mod config;
mod element;
mod error;
mod export;
mod file;
mod graph;
mod initializer;
mod layers;
mod model;
mod modern_bert;
mod options;
mod resnet;
mod schema;
mod sequence;
mod text;
mod transformer;
mod vit;
mod weights;

pub use error::OnnxError;
pub use export::{check, save};
pub use options::{OnnxOptions, Precision};
