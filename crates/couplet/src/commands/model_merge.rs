//! `couplet model merge`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use couplet_data::printable_path;
use couplet_model::{peft, weights};
use couplet_train::DeviceSetting;

use super::model_arguments::ModelOptions;
use super::output_file::check_folder;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct MergeArguments {
    /// Adapter in PEFT's form: a folder with adapter_config.json and adapter_model.safetensors
    adapter: PathBuf,
    /// Folder to create for the model with the adapter's updates, in open_clip's layout
    out: PathBuf,
    /// Model that the adapter was trained from [default: what the adapter names]
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Architecture of weights that come without one: a preset or an open_clip config file
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
}

pub(super) fn run(arguments: &MergeArguments) -> anyhow::Result<u8> {
    check_folder(&arguments.out)?;
    let adapter = peft::read(&arguments.adapter)?;
    let base = match (&arguments.base, &adapter.base) {
        (Some(base), _) => base.clone(),
        (None, Some(base)) => named_base(base),
        (None, None) => anyhow::bail!("the adapter does not name its base; give it with --base"),
    };
    let options = ModelOptions {
        arch: arguments.arch.clone(),
        set: Vec::new(),
        device: DeviceSetting::Flex,
        precision: None,
    };
    let encoder = options.open_aloud(&base).with_context(|| {
        format!(
            "the adapter's base, {}, cannot be opened; give another with --base",
            base.display()
        )
    })?;
    let tensors = weights::parameters(encoder.model());
    let merged = adapter.merge(tensors, encoder.spec())?;
    let model = weights::fill(encoder.model().clone(), merged, &arguments.adapter)?;
    let mut merged = encoder.with_model(model);
    if let Some(head) = encoder.head() {
        merged = merged.with_head(head.clone());
    }
    merged.save_for_couplet(&arguments.out)?;
    say!(
        "wrote      {}: {} with {} updated modules",
        printable_path(&arguments.out),
        base.display(),
        adapter.modules()
    );
    Ok(exit_code::DONE)
}

/// The base that an adapter names: a path, or a repository on Hugging Face.
fn named_base(base: &str) -> PathBuf {
    let path = PathBuf::from(base);
    let is_repository = base.split('/').count() == 2 && !base.starts_with(['.', '/', '~']);
    if !path.exists() && is_repository {
        return PathBuf::from(format!("hf:{base}"));
    }
    path
}
