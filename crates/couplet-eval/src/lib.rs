//! Evaluation protocols over a model, its transform and its tokenizer. Evaluation takes
//! a model and datasets, never a trainer.

mod dataset;
mod encoder;
mod export;
mod zero_shot;

pub use dataset::{Dataset, DatasetError, DatasetTable, Lines};
pub use encoder::{
    EMA_WEIGHTS_FILE, Encoder, ImageError, JUDGED_FILE, MissingTokenizer, OpenError, OpenOptions,
    eval_transform, find_model, open_tokenizer, token_options,
};
pub use export::{ExportError, Format, foreign_tokenizer};
pub use zero_shot::{Classifier, ZERO_SHOT_METRICS, ZeroShotReport, zero_shot};
