//! `couplet model join`.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use couplet_data::printable_path;
use couplet_eval::{Encoder, find_model, open_tokenizer};
use couplet_model::{JoinOptions, TextPool, TextProjection, join, load};
use couplet_train::DeviceSetting;

use crate::exit_code;
use crate::printing;

#[derive(Debug, Args)]
pub(crate) struct JoinArguments {
    /// Model whose image tower, projection and scale are taken: a run's folder, a checkpoint, an open_clip or Hugging
    /// Face folder, a weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai
    image: PathBuf,
    /// Text encoder: a folder of transformers' BERT, RoBERTa, XLM-RoBERTa or ModernBERT, with its tokenizer.json
    text: PathBuf,
    /// Folder to create
    out: PathBuf,
    /// What becomes a text's feature: the mean of its tokens, its first token, or BERT's pooler
    #[arg(long, default_value = "mean")]
    pool: PoolName,
    /// Projection into the joint space
    #[arg(long, default_value = "linear")]
    projection: ProjectionName,
    /// Tokens of a text; longer texts are cut off
    #[arg(long, value_name = "N", default_value_t = 77)]
    context_length: usize,
    /// Seed of the projection's weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Architecture of image weights that come without one: a preset or an open_clip config file
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PoolName {
    Mean,
    First,
    Pooler,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProjectionName {
    Linear,
    Mlp,
    None,
}

pub(super) fn run(arguments: &JoinArguments) -> anyhow::Result<u8> {
    let device = DeviceSetting::Flex.open()?;
    let image = load(
        &find_model(&arguments.image)?,
        arguments.arch.as_deref(),
        &device,
    )?;
    let options = JoinOptions {
        pool: match arguments.pool {
            PoolName::Mean => TextPool::Mean,
            PoolName::First => TextPool::First,
            PoolName::Pooler => TextPool::Pooler,
        },
        projection: match arguments.projection {
            ProjectionName::Linear => TextProjection::Linear,
            ProjectionName::Mlp => TextProjection::Mlp,
            ProjectionName::None => TextProjection::None,
        },
        context_length: arguments.context_length,
        seed: arguments.seed,
    };
    let joined = join(&image, &arguments.text, &options, &device)?;
    let tokenizer = match open_tokenizer(&joined.tokenizer)? {
        Ok(tokenizer) => tokenizer,
        Err(missing) => bail!("{missing}"),
    };
    let encoder = Encoder::new(
        joined.model,
        &joined.spec,
        &image.source.preprocess,
        tokenizer,
    )?;
    encoder.save_for_couplet(&arguments.out)?;
    let out = printable_path(&arguments.out);
    printing::note(&format!(
        "{out}: drawn at random: {}; train it with model.weights = \"{out}\", and with freeze.image = \"all\" for LiT",
        joined.drawn.join(", ")
    ));
    Ok(exit_code::DONE)
}
