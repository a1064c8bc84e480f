//! What this binary is: its version, commit, features and devices.

use std::sync::OnceLock;

use couplet_train::{DeviceSetting, Program};

/// Features that the binary may be built with.
const FEATURES: [(&str, bool); 11] = [
    ("autotune", cfg!(feature = "autotune")),
    ("cuda", cfg!(feature = "cuda")),
    ("dashboard", cfg!(feature = "dashboard")),
    ("fusion", cfg!(feature = "fusion")),
    ("metal", cfg!(feature = "metal")),
    ("object-store", cfg!(feature = "object-store")),
    ("parquet", cfg!(feature = "parquet")),
    ("rocm", cfg!(feature = "rocm")),
    ("serve", cfg!(feature = "serve")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("wgpu", cfg!(feature = "wgpu")),
];

/// The commit, where the build could find it.
const COMMIT: Option<&str> = option_env!("COUPLET_COMMIT");

fn features() -> Vec<&'static str> {
    let built = FEATURES.iter().filter(|(_, is_built)| *is_built);
    built.map(|(name, _)| *name).collect()
}

/// The version with the commit: `0.1.0 (a84616012345)`.
pub(crate) fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let version = env!("CARGO_PKG_VERSION");
        let commit = COMMIT.map_or(String::new(), |commit| format!(" ({commit})"));
        format!("{version}{commit}")
    })
}

/// As [`version`], with the features and the devices that are built in.
pub(crate) fn long_version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let features = match &features()[..] {
            [] => "none".to_string(),
            names => names.join(", "),
        };
        let devices = DeviceSetting::built_in();
        let devices: Vec<&str> = devices.into_iter().filter(|name| *name != "auto").collect();
        format!(
            "{}\nfeatures: {features}\ndevices: {}",
            version(),
            devices.join(", ")
        )
    })
}

/// This process, for the record of a run.
pub(crate) fn program() -> Program {
    Program {
        name: concat!("couplet ", env!("CARGO_PKG_VERSION")).to_string(),
        commit: COMMIT.map(String::from),
        features: features().into_iter().map(String::from).collect(),
        ..Program::default()
    }
}
