//! A run from a config, in a file or in code, and from what a program gives it by value.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use couplet_data::source::MapDataset;
use couplet_loss::PairLoss;
use toml::Table;

use super::check::DeviceCheck;
use super::given::Given;
use super::issue::{ConfigError, ConfigIssue};
use super::paths::ConfigInput;
use super::resolved::ResolvedRun;
use super::spans::Sources;
use super::tables::RunConfig;

/// Opens a run: a config, and what a program gives by value. A config in code is checked like a file.
///
/// ```no_run
/// use couplet_data::source::{ShapesConfig, SourceConfig};
/// use couplet_train::config::ModelConfig;
/// use couplet_train::{OptimizerConfig, RunBuilder, RunConfig, ScheduleConfig};
///
/// let config = RunConfig::new(
///     "mine",
///     ModelConfig::preset("ViT-Ti-8-32")?,
///     SourceConfig::Shapes(ShapesConfig { samples: 64 }),
///     16,
///     OptimizerConfig::adamw(1e-3),
///     ScheduleConfig::cosine("2 epochs".parse()?),
/// );
/// let run = RunBuilder::new(config).open()?;
/// assert_eq!(run.config.batch.global, 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RunBuilder {
    from: From,
    set: Vec<String>,
    device_check: DeviceCheck,
    /// Whether the run may continue from its own checkpoint.
    resumes: bool,
    /// The run's folder, if not the one that its name gives.
    folder: Option<PathBuf>,
    given: Given,
}

#[derive(Clone)]
enum From {
    File(PathBuf),
    Code(Box<RunConfig>),
}

impl RunBuilder {
    /// A run whose config is made in code. Relative paths in it start from the working directory.
    pub fn new(config: RunConfig) -> Self {
        Self::from(From::Code(Box::new(config)))
    }

    /// A run whose config is a TOML file, as `couplet train FILE` reads it.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self::from(From::File(path.into()))
    }

    fn from(from: From) -> Self {
        Self {
            from,
            set: Vec::new(),
            device_check: DeviceCheck::Local,
            resumes: false,
            folder: None,
            given: Given::default(),
        }
    }

    /// Replaces a key of the config, as `--set key.path=value` does.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.set.push(format!("{key}={value}"));
        self
    }

    /// Trains on the program's own dataset. The config names it:
    /// `SourceConfig::custom("NAME")` in `data.train`.
    ///
    /// Order, augmentation, skipping and resuming are those of built-in datasets: samples are read in an order
    /// that depends only on seed and epoch, from several threads; one that [`MapDataset::read`] gives no sample
    /// for, or panics on, goes to `skipped.jsonl`; and a resumed run compares [`MapDataset::listing`].
    pub fn dataset(mut self, dataset: impl MapDataset + 'static) -> Self {
        self.given.train = Some(Arc::new(dataset));
        self
    }

    /// Evaluates on the program's own held-out pairs. The config names them:
    /// `SourceConfig::custom("NAME")` in `data.val`.
    pub fn val_dataset(mut self, dataset: impl MapDataset + 'static) -> Self {
        self.given.val = Some(Arc::new(dataset));
        self
    }

    /// Trains with the program's own loss, in place of the config's.
    pub fn loss(mut self, loss: impl PairLoss + 'static) -> Self {
        self.given.loss = Some(Arc::new(loss));
        self
    }

    /// Whether the device must be available here, as it must by default.
    pub fn device_check(mut self, device_check: DeviceCheck) -> Self {
        self.device_check = device_check;
        self
    }

    /// Allows for weights and tokenizer that are gone, if the run continues from its own checkpoint. Then open
    /// its folder with [`crate::RunFolder::resume`].
    /// - folder: the run's folder; by default [`RunConfig::folder_of`] the config's name.
    pub fn resuming(mut self, folder: Option<&Path>) -> Self {
        self.resumes = true;
        self.folder = folder.map(Path::to_path_buf);
        self
    }

    /// Checks everything that can be checked before work starts, and opens data and evaluations.
    ///
    /// # Errors
    /// With every mistake at once, each with its key.
    pub fn open(self) -> Result<ResolvedRun, ConfigError> {
        let (read, path) = match &self.from {
            From::File(path) => (Sources::read(path)?, path.clone()),
            From::Code(config) => {
                let path = in_code(&config.name);
                let sources = Sources::in_code(&path);
                match Table::try_from(&**config) {
                    Ok(table) => ((table, sources), path),
                    Err(error) => {
                        let message = format!("cannot be written as TOML: {error}");
                        let issue = ConfigIssue::new("", message);
                        return Err(sources.problems(vec![issue], &[]));
                    }
                }
            }
        };
        let checkpoint = if self.resumes {
            ResolvedRun::checkpoint_of(&read.0, &self.set, self.folder.as_deref())
        } else {
            None
        };
        let input = ConfigInput::new(&path, &self.set);
        ResolvedRun::open_from(read, &input, self.device_check, checkpoint, self.given)
    }
}

/// What stands for a file's path in errors of a config that was made in code.
fn in_code(name: &str) -> PathBuf {
    format!("the config `{name}`, made in code").into()
}

#[cfg(test)]
mod tests {
    use couplet_data::source::{ShapesConfig, SourceConfig};

    use super::super::tables::ModelConfig;
    use super::super::tests::{SOUND, read};
    use super::*;
    use crate::optimizer::OptimizerConfig;
    use crate::schedule::ScheduleConfig;

    fn config(source: SourceConfig) -> RunConfig {
        RunConfig::new(
            "t",
            ModelConfig::preset("ViT-Ti-8-32").unwrap(),
            source,
            16,
            OptimizerConfig::adamw(1e-3),
            ScheduleConfig::cosine("2 epochs".parse().unwrap()),
        )
    }

    fn shapes() -> SourceConfig {
        SourceConfig::Shapes(ShapesConfig { samples: 64 })
    }

    fn problems(builder: RunBuilder) -> Vec<(String, String)> {
        match builder.open() {
            Err(ConfigError::Problems { problems, .. }) => {
                problems.into_iter().map(|p| (p.key, p.message)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_config_in_code_is_that_of_a_file() {
        let run = RunBuilder::new(config(shapes())).open().unwrap();
        assert_eq!(run.config, read(SOUND, &[]).unwrap().config);
    }

    #[test]
    fn all_mistakes_of_a_config_in_code_are_reported_with_their_keys() {
        let mut config = config(shapes());
        config.batch.micro = Some(7.into());
        config.checkpoint.best = Some("eval/val/lost".into());
        let found = problems(RunBuilder::new(config).set("optimizer.lr", 0));
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        for key in ["optimizer.lr", "batch.micro", "checkpoint.best"] {
            assert!(keys.contains(&key), "{found:?}");
        }
        let error = ModelConfig::preset("ViT-Ti-8-23").unwrap_err();
        assert!(error.to_string().contains("did you mean `ViT-Ti-8-32`"));
    }

    #[test]
    fn what_a_program_gave_is_asked_for_by_name() {
        let mut config = config(SourceConfig::custom("rows"));
        config.loss = couplet_loss::Loss::Custom(couplet_loss::CustomLoss {
            name: "triplet".into(),
        });
        let found = problems(RunBuilder::new(config));
        let wanted = [("loss.kind", "`triplet`"), ("data.train.source", "`rows`")];
        for ((key, message), (wanted, name)) in found.iter().zip(wanted) {
            assert_eq!(key, wanted);
            assert!(message.contains(name) && message.contains("RunBuilder::"));
        }
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_value_that_toml_has_not_is_a_mistake() {
        let mut config = config(shapes());
        config.seed = u64::MAX;
        let found = problems(RunBuilder::new(config));
        assert!(
            found[0].1.contains("cannot be written as TOML"),
            "{found:?}"
        );
    }
}
