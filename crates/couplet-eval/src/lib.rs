//! Evaluation protocols for a model with its transform and tokenizer. Evaluation takes a model and
//! datasets, and does not depend on training.
//!
//! ```
//! use burn::tensor::Device;
//! use couplet_data::Tokenizer;
//! use couplet_eval::Encoder;
//! use couplet_model::{Clip, PreprocessSpec, presets};
//!
//! let spec = presets::find("ViT-Ti-8-32").expect("a preset");
//! let model = Clip::init(&spec, 0, &Device::flex());
//! let encoder = Encoder::new(model, &spec, &PreprocessSpec::default(), Tokenizer::clip())?;
//! let texts = encoder.encode_texts(&["a red circle", "a blue star"])?;
//! assert_eq!(texts.dims(), [2, spec.embed_dim]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classification;
mod classifier;
mod compositional;
mod confusion;
mod dataset;
mod divided;
pub mod division;
mod encoder;
mod export;
mod feature_cache;
mod feature_error;
mod feature_file;
mod features;
mod few_shot;
mod host_rows;
mod inputs;
mod knn;
mod linear_probe;
pub mod metric;
mod mix;
#[cfg(not(feature = "hub"))]
mod no_pretrained;
#[cfg(feature = "hub")]
mod pretrained;
mod probe;
mod protocol;
mod report;
mod retrieval;
mod scoring;
mod texts;
mod unit_rows;
mod zero_shot;

pub use couplet_onnx::{OnnxError, OnnxOptions};

pub use classification::{Classification, classification};
pub use classifier::{Classifier, ClassifierError};
pub use compositional::{Compositional, compositional};
pub use confusion::{ClassResult, ConfusionMatrix};
pub use dataset::{
    DatacompTask, Dataset, DatasetConfig, DatasetError, DatasetSummary, ListOrFile, MainMetric,
    Task, built_in_datasets, datacomp_tasks, dataset_advice, dataset_path_kind,
};
pub use division::{Division, DivisionError};
pub use encoder::{
    CHECKPOINTS_FOLDER, Choice, ChosenCheckpoint, ChosenModel, EMA_HEAD_FILE, EMA_WEIGHTS_FILE,
    EVAL_WEIGHTS_FILE, Encoder, FINDINGS_FOLDER, HEAD_FILE, Head, ImageError, MissingTokenizer,
    OpenError, OpenOptions, Pointer, TRAINER_STATE_FILE, TextError, checkpoint_name,
    checkpoint_step, checkpoints_of, choose_model, eval_transform, find_model, is_checkpoint,
    open_tokenizer, read_pointer, token_options, token_warnings,
};
pub use export::{ExportError, Format, tokenizer_cfg};
pub use feature_cache::FeatureCache;
pub use feature_error::{FeatureError, NotFinite};
pub use feature_file::{FeatureFile, FeatureFileError};
pub use features::{Features, for_each_batch};
pub use few_shot::{FewShot, FewShotClassifier, FewShotDraw, FewShotSettings, few_shot};
pub use knn::nearest_neighbours;
pub use linear_probe::{Ending, LabelledFeatures, LinearProbe, SolverOptions};
pub use metric::{Better, Metric, MetricInfo, Metrics, Unit};
pub use mix::{MixError, evaluate, greedy_soup};
#[cfg(not(feature = "hub"))]
pub use no_pretrained::{PretrainedError, is_model_name, name_hint, named_model};
#[cfg(feature = "hub")]
pub use pretrained::{
    DownloadListener, PretrainedError, download, hear_downloads, is_model_name, name_hint,
    named_model,
};
pub use probe::{Probe, ProbeData, ProbeSettings, knn, linear_probe};
pub use protocol::{EvalError, EvalOptions};
pub use report::{Protocol, Report};
pub use retrieval::{RETRIEVAL_METRICS, retrieval, retrieval_metrics, retrieval_of_features};
pub use scoring::{class_metrics, ranked};
pub use zero_shot::{PromptMode, zero_shot, zero_shot_by};

#[cfg(test)]
mod reference_tests;
