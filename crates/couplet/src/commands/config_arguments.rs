//! The config that a command reads, with changes to its keys.

use std::path::{Path, PathBuf};

use clap::Args;
use couplet_train::{ConfigInput, DeviceSetting};

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// TOML file that describes the run
    #[arg(value_name = "CONFIG")]
    pub path: PathBuf,
    /// Override a key of the config. The value is TOML, or else a string; an empty value removes
    /// the key. Repeat to override several keys
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Device to run on, as --set device=DEVICE: auto, cpu, cuda:N, rocm:N, metal, vulkan or wgpu
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceSetting>,
    /// Decoding threads, as --set data.threads=N; 0 for one per core
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    #[command(flatten)]
    pub data: DataArguments,
}

/// Where data is looked for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DataArguments {
    /// Folder that paths to data start from, instead of the folder of the file that names them
    /// [default: that folder, then ./data]
    #[arg(
        long,
        value_name = "DIR",
        env = "COUPLET_DATA_ROOT",
        hide_env_values = true
    )]
    data_root: Option<PathBuf>,
}

impl DataArguments {
    pub fn root(&self) -> Option<&Path> {
        let root = self.data_root.as_deref();
        root.filter(|root| !root.as_os_str().is_empty())
    }
}

impl ConfigArguments {
    /// What `--set` and the options that stand for it replace.
    pub fn set(&self) -> Vec<String> {
        let device = self.device.map(|device| format!("device={device}"));
        let threads = (self.threads).map(|threads| format!("data.threads={threads}"));
        let set = self.set.iter().cloned();
        set.chain(device).chain(threads).collect()
    }

    /// - set: of these arguments.
    pub fn input<'a>(&'a self, set: &'a [String]) -> ConfigInput<'a> {
        ConfigInput {
            data_root: self.data.root(),
            ..ConfigInput::new(&self.path, set)
        }
    }
}
