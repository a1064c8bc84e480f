//! CLIP in Rust: train two-tower image-text models, evaluate them and use them.
//!
//! This crate is what a program depends on. The command `couplet` is the same library with arguments, behind the
//! default feature `cli`; without it, no crate of the command line is built:
//!
//! ```toml
//! [dependencies]
//! couplet = { version = "0.2", default-features = false }
//! ```
//!
//! # Use a model
//!
//! [`Encoder`] opens what `couplet train` writes, open_clip's and Hugging Face's folders, and files of weights.
//!
//! ```no_run
//! use couplet::{Device, Encoder};
//!
//! let encoder = Encoder::open("runs/shapes".as_ref(), &Device::flex())?;
//! let images = encoder.encode_images(&["circle.png"])?; // [1, embed_dim], L2-normalised
//! let texts = encoder.encode_texts(&["a red circle", "a blue star"])?; // [2, embed_dim]
//! let cosines: Vec<f32> = images.matmul(texts.transpose()).into_data().try_to_vec()?; // [1, 2]
//! println!("{cosines:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Evaluate
//!
//! ```no_run
//! use couplet::eval::{DatasetConfig, EvalOptions, zero_shot};
//! use couplet::{Device, Encoder};
//!
//! let encoder = Encoder::open("runs/shapes".as_ref(), &Device::flex())?;
//! let dataset = DatasetConfig::read("pets/test".as_ref())?; // one folder per class, or a TOML file
//! let dataset = dataset.open(encoder.transform().image_size())?;
//! let found = zero_shot(&encoder, &dataset, EvalOptions::default(), |_done| ())?;
//! for metric in &found.report.metrics.0 {
//!     println!("{} {metric}", metric.info.name);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Train
//!
//! A run is a [`train::RunConfig`], from a TOML file or made in code; either is checked in the same way, and all
//! mistakes are reported at once.
//!
//! ```
//! use couplet::data::{ShapesConfig, SourceConfig};
//! use couplet::train::{
//!     AllowedChanges, Event, ModelConfig, Observer, OptimizerConfig, RunBuilder, RunConfig, RunFolder,
//!     ScheduleConfig, StopSignal, train,
//! };
//!
//! struct Losses;
//!
//! impl Observer for Losses {
//!     fn event(&mut self, event: Event) {
//!         if let Event::Step(line) = event {
//!             println!("step {}: {:.4}", line.step, line.loss);
//!         }
//!     }
//! }
//!
//! # let runs = std::env::temp_dir().join(format!("couplet-doc-{}", std::process::id()));
//! let mut config = RunConfig::new(
//!     "tiny",
//!     ModelConfig::preset("ViT-Ti-8-32")?,
//!     SourceConfig::Shapes(ShapesConfig { samples: 16 }),
//!     8,
//!     OptimizerConfig::adamw(1e-3),
//!     ScheduleConfig::cosine("2 steps".parse()?),
//! );
//! config.batch.micro = Some(4.into()); // same gradients, half the memory
//! # config.device = couplet::DeviceSetting::Flex;
//! let run = RunBuilder::new(config).open()?;
//! // Starts the run, or continues it.
//! let folder = RunFolder::resume(&runs.join("tiny"), &run, AllowedChanges::Longer)?;
//! let outcome = train(&run, &folder, &StopSignal::default(), &mut Losses)?;
//! assert_eq!(outcome.steps, 2);
//! # drop(folder);
//! # std::fs::remove_dir_all(runs)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Own data, own loss
//!
//! A type that implements [`data::MapDataset`] is a source like the built-in ones: the order of its samples, skipped
//! samples, workers and resuming are theirs. A type that implements [`loss::PairLoss`] is a loss: a function of the
//! features of the whole batch, with exact gradients for any `batch.micro`. The config records their names, and a run
//! that is resumed without them says which are missing.
//!
//! ```no_run
//! use couplet::Tensor;
//! use couplet::data::{ImageData, ListedFile, MapDataset, Sample, SampleError, SkipCause, SourceConfig};
//! use couplet::loss::{Features, PairLoss};
//! # use couplet::train::{ModelConfig, OptimizerConfig, RunBuilder, RunConfig, ScheduleConfig};
//!
//! struct Rows(Vec<(std::path::PathBuf, String)>);
//!
//! impl MapDataset for Rows {
//!     fn len(&self) -> usize {
//!         self.0.len()
//!     }
//!
//!     fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
//!         let (path, caption) = &self.0[index];
//!         let bytes = std::fs::read(path).map_err(|error| SampleError::new(SkipCause::Unreadable, error))?;
//!         Ok(Sample {
//!             image: ImageData::Encoded(bytes),
//!             caption: caption.clone(),
//!             label: None,
//!         })
//!     }
//!
//!     fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
//!         ("rows".into(), self.0[index].0.display().to_string())
//!     }
//!
//!     fn listing(&self) -> Vec<ListedFile> {
//!         vec![ListedFile::of_texts("rows", self.0.iter().map(|(_, caption)| caption))]
//!     }
//! }
//!
//! /// The mean squared distance of the two features of a pair.
//! struct Distance;
//!
//! impl PairLoss for Distance {
//!     fn name(&self) -> &str {
//!         "distance"
//!     }
//!
//!     fn forward(&self, features: Features) -> Tensor<1> {
//!         (features.image - features.text).square().sum_dim(1).mean()
//!     }
//! }
//!
//! # fn rows() -> Vec<(std::path::PathBuf, String)> { Vec::new() }
//! let config = RunConfig::new(
//!     "rows",
//!     ModelConfig::preset("ViT-B-32")?,
//!     SourceConfig::custom("rows"),
//!     64,
//!     OptimizerConfig::adamw(5e-4),
//!     ScheduleConfig::cosine("10 epochs".parse()?).with_warmup("5 %".parse()?),
//! );
//! let run = RunBuilder::new(config).dataset(Rows(rows())).loss(Distance).open()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `cli` (default) | the command `couplet` |
//! | `parquet` (default) | Parquet files |
//! | `serve` (default) | `couplet serve`, `couplet watch` and `couplet train --page` |
//! | `object-store` | shards at `s3://`, `gs://`, `az://`, `http(s)://` |
//! | `alloc` | [`Allocator`], the command's allocator |
//! | `cuda`, `rocm`, `metal`, `vulkan`, `wgpu` | GPU backends |
//! | `mpi` | ranks: several processes that train one model, joined by MPI |
//! | `dashboard` | `couplet train --dashboard` |
//!
//! The version of Burn is pinned (`=`), and [`burn`] is re-exported: use `couplet::burn`, so that both have the same
//! tensors.
//!
//! On the CPU, training allocates much: with the system's allocator a step takes up to a fifth longer. The feature
//! `alloc` has the command's:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: couplet::Allocator = couplet::Allocator;
//!
//! fn main() {
//!     couplet::keep_freed_memory();
//! }
//! ```
//!
//! # CUDA and ROCm
//!
//! CubeCL's crate `cubecl-llvm` downloads LLVM when it is built, and nothing of it is used here. Couplet replaces it,
//! and a replacement counts only in the workspace that is built, so a program with the feature `cuda` or `rocm` repeats
//! it:
//!
//! ```toml
//! [dependencies]
//! couplet = { version = "0.2", default-features = false, features = ["cuda"] }
//!
//! [patch.crates-io]
//! cubecl-llvm = { git = "https://github.com/couplet-rs/couplet", tag = "v0.2.0" }
//! ```
//!
//! Then `config.device = "cuda:0".parse()?`, or [`DeviceSetting::Auto`], which is the default. Build with `--release`;
//! the CPU's kernels are slow without optimisation.

/// The Rust blocks of the README and the guide, which compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/library.md")]
struct Documents;

#[doc(no_inline)]
pub use burn;
#[doc(no_inline)]
pub use burn::tensor::{Device, Tensor};
#[cfg(feature = "alloc")]
pub use couplet_alloc::{Allocator, keep_freed_memory};
#[doc(inline)]
pub use couplet_eval::{Encoder, OpenOptions};
#[doc(inline)]
pub use couplet_train::DeviceSetting;

/// Image-text pairs: sources, samples, images and tokenizers.
pub mod data {
    #[doc(inline)]
    pub use couplet_data::formats::DataError;
    #[doc(inline)]
    pub use couplet_data::source::{
        ClassFolderConfig, CsvConfig, CustomConfig, FolderConfig, MapDataset, MixConfig, MixEntry,
        PairDataset, ParquetConfig, ShapesConfig, SourceConfig, WebdatasetConfig,
    };
    #[doc(inline)]
    pub use couplet_data::{
        Augment, ColorJitter, DEFAULT_MAX_IMAGE_PIXELS, DataListing, EncodeError, Fingerprint,
        ImageData, ListedFile, RandomErasing, RandomResizedCrop, RgbImage, Sample, SampleError,
        SkipCause, Skipped, Tokenizer, TokenizerError, Transform, decode, printable, with_causes,
    };
}

/// Evaluation: datasets, zero-shot classification, retrieval, probes and their reports.
pub mod eval {
    #[doc(inline)]
    pub use couplet_data::labelled::{
        CompositionalExample, CompositionalKind, CompositionalOptions, CompositionalSet,
    };
    #[doc(inline)]
    pub use couplet_eval::{
        Better, ClassResult, Classification, Classifier, ClassifierError, Compositional,
        ConfusionMatrix, Dataset, DatasetConfig, DatasetError, Division, DivisionError, EvalError,
        EvalOptions, ExportError, FeatureCache, FeatureError, FeatureFile, FeatureFileError,
        Features, FewShot, FewShotClassifier, FewShotDraw, FewShotSettings, Format, Head,
        ImageError, LabelledFeatures, LinearProbe, ListOrFile, MainMetric, Metric, MetricInfo,
        Metrics, MissingTokenizer, OnnxError, OnnxOptions, OpenError, Probe, ProbeData,
        ProbeSettings, PromptMode, Protocol, Report, SolverOptions, Task, TextError, Unit,
        classification, compositional, few_shot, find_model, knn, linear_probe, nearest_neighbours,
        retrieval, retrieval_metrics, zero_shot, zero_shot_by,
    };
}

/// Losses over feature matrices, and the trait of one's own.
pub mod loss {
    #[doc(inline)]
    pub use couplet_loss::{
        CustomLoss, FeatureGradients, Features, LocalGradients, Loss, PairLoss, SigmoidLoss,
        SoftmaxLoss, default_chunk, gradients, pairwise_sigmoid, parts, symmetric_info_nce,
    };
}

/// Models: towers, specs, presets and weights.
pub mod model {
    #[doc(inline)]
    pub use couplet_model::{
        Activation, Clip, Freeze, FreezeConfig, ImageTowerSpec, Loaded, ModelSource, ModelSpec,
        Precision, PreprocessSpec, TextTowerSpec, VitSpec, inspect, l2_normalize, load, presets,
        weights,
    };
}

/// Training: configs, runs, observers and what comes of a run.
pub mod train {
    #[doc(inline)]
    pub use couplet_train::config::{
        BatchConfig, CheckpointConfig, ClassifyConfig, DataConfig, DataPlane, DatasetEvalConfig,
        EvalConfig, EvalWeights, HeadStart, Lengths, LogConfig, MicroBatch, ModelConfig,
        RanksConfig, RunEvalConfig, TrainDataConfig, ValDataConfig,
    };
    #[doc(inline)]
    pub use couplet_train::{
        AllowedChanges, BestMetric, Checkpoint, CheckpointError, ConfigError, ConfigIssue,
        ConstantConfig, ConstantCooldownConfig, CosineConfig, DeviceCheck, DeviceError,
        DeviceSetting, Duration, EmaConfig, EpochSummary, Event, FitError, NoopObserver, Observer,
        OptimizerConfig, OptimizerSettings, Outcome, ParamGroupConfig, ResolvedData, ResolvedRun,
        RsqrtConfig, RunBuilder, RunConfig, RunFolder, RunPlan, RunSizes, ScheduleConfig,
        StopReason, StopSignal, TrainError, TrainLine, Unit, UnknownPreset, train, verify,
    };
}
