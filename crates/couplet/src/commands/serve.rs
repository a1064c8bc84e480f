//! `couplet serve`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use couplet_search::Index;
use couplet_serve::{Limits, Served, model_routes};

use super::index::note_cost;
use super::listening::{self, ListenArguments};
use super::model_arguments::ModelOptions;
use super::search::open_model;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Model to serve: a run's folder, a checkpoint, an open_clip or Hugging Face folder, or a
    /// weights file [default: the model that made the index]
    #[arg(long, value_name = "MODEL", required_unless_present = "index")]
    model: Option<PathBuf>,
    /// Index of images to search, as `couplet index` writes it
    #[arg(long, value_name = "FOLDER")]
    index: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    listen: ListenArguments,
    /// Largest image that a request may send, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = Limits::default().pixels)]
    max_pixels: u64,
}

pub(crate) fn run(arguments: &ServeArguments) -> anyhow::Result<u8> {
    let listening = arguments.listen.open()?;
    let index = arguments.index.as_ref().map(|folder| Index::open(folder));
    let index = index.transpose()?;
    let encoder = match (&index, &arguments.model) {
        (Some(index), model) => open_model(index, model.as_ref(), &arguments.options)?,
        (None, Some(model)) => arguments.options.open_aloud(model)?,
        (None, None) => bail!("give --model, --index or both"),
    };
    if let Some(index) = &index {
        note_cost(index.folder(), index.manifest());
    }
    let name = arguments.model.as_ref().or(arguments.index.as_ref());
    let name = name.and_then(|path| std::path::absolute(path).ok());
    let name = name
        .as_ref()
        .and_then(|path| path.file_name())
        .context("the model's path has no name")?;
    let precision = encoder.model().precision().to_string();
    let on = (arguments.options.device.resolved().to_string(), precision);
    let limits = Limits {
        pixels: arguments.max_pixels,
    };
    let served = Served::new(&name.to_string_lossy(), on, encoder, index, limits);
    say!("{}  (Ctrl-C ends)", listening::url(&listening));
    listening.serve(model_routes(served));
    Ok(exit_code::DONE)
}
