//! Training runs: config, optimiser, schedule, step, trainer, checkpoints and logs.
//!
//! ```no_run
//! use couplet_train::{DeviceCheck, NoopObserver, ResolvedRun, RunFolder, StopSignal, train};
//!
//! let run = ResolvedRun::open("configs/shapes.toml".as_ref(), &[], DeviceCheck::Local)?;
//! let folder = RunFolder::create("runs/mine".as_ref(), &run.config)?;
//! let outcome = train(&run, &folder, &StopSignal::default(), &mut NoopObserver)?;
//! println!("{:?}", outcome.best);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapt;
mod bench;
mod checkpoint;
mod comm;
pub mod config;
mod cores;
mod device;
mod device_memory;
mod diagnosis;
mod duration;
mod ema;
mod feed;
pub mod import;
mod init;
mod log;
mod loss_scale;
mod machine;
mod memory;
mod nearest;
mod numbers;
mod observer;
mod optimizer;
mod overfitting;
#[cfg(test)]
mod parity;
mod plan;
mod ranks;
mod ranks_model;
mod schedule;
mod step;
mod sweep;
mod tensorboard;
mod text_log;
mod timestamp;
mod trainer;
mod verify;

pub use adapt::{AdaptConfig, AdaptKind, Adaptation, TowerAdaptConfig};
pub use bench::{
    LinkMeasurement, RankMeasurement, RanksBenchError, RanksReport, StepBench, StepBenchError,
    StepBenchSettings, StepSeconds, bench_ranks, bench_step,
};
pub use checkpoint::{
    AllowedChanges, Checkpoint, CheckpointError, Program, RunFolder, Verdict, hold_checkpoints,
};
pub use config::{
    ConfigError, ConfigInput, ConfigIssue, DeviceCheck, EvalTarget, ResolvedData, ResolvedRun,
    RunBuilder, RunConfig, UnknownPreset,
};
pub use cores::share_cores;
pub use device::{DeviceError, DeviceSetting, ParseDeviceError};
pub use duration::{Duration, ParseDurationError, Unit};
pub use ema::EmaConfig;
pub use init::{FirstConfig, InitError, InitOptions, first_config};
pub use log::{LogError, TrainLine};
pub use observer::{
    BestMetric, EpochSummary, Event, NoopObserver, Observer, Outcome, RunSizes, StopReason,
    StopSignal,
};
pub use optimizer::{OptimizerConfig, OptimizerSettings, ParamGroupConfig};
pub use plan::{FitError, MemoryPart, RanksError, RanksOptions, RanksPlan, RunPlan};
pub use ranks::{Disagreement, OtherRank, Ranks};
pub use ranks_model::{
    BUCKET_BYTES, Interconnect, Link, ParseBandwidthError, Prediction, RankWork, STEP_SPREAD,
    StepParts, SumAlgorithm, bandwidth, expected_maximum,
};
pub use schedule::{
    ConstantConfig, ConstantCooldownConfig, CosineConfig, RsqrtConfig, Schedule, ScheduleConfig,
    Shape,
};
pub use sweep::{Goal, Search, Sweep, SweepConfig, SweepError, Trial, TrialResult};
pub use text_log::TextLog;
pub use trainer::{RunPlace, TrainError, train, train_on_ranks};
pub use verify::{
    CheckpointReport, LogReport, Replay, ReplayError, RunReport, replay, verify, verify_with,
};
