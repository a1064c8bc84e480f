//! `couplet tokenizer`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use couplet_data::{TrainOptions, train_tokenizer};

use super::bar::working;
use super::inputs::read_lines;
use crate::exit_code;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Train a byte-pair encoding on captions
    Train(TokenizerTrainArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TokenizerTrainArguments {
    /// Files with one caption per line, or - for standard input
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    texts: Vec<PathBuf>,
    /// Size of the vocabulary, at least 514: two tokens for every byte, and two special tokens
    #[arg(long, value_name = "N")]
    vocab_size: usize,
    /// Minimum number of occurrences for a pair to be merged
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
    /// tokenizer.json to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(command: &TokenizerCommand) -> anyhow::Result<u8> {
    match command {
        TokenizerCommand::Train(arguments) => train(arguments),
    }
}

fn train(arguments: &TokenizerTrainArguments) -> anyhow::Result<u8> {
    let mut captions = Vec::new();
    for path in &arguments.texts {
        captions.extend(read_lines(path)?);
    }
    if captions.is_empty() {
        bail!("--texts: the files contain no captions");
    }
    let options = TrainOptions {
        vocab_size: arguments.vocab_size,
        min_frequency: arguments.min_frequency,
    };
    if let Some(folder) = arguments.out.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be written", folder.display()))?;
    }
    let working = working("training");
    let size = train_tokenizer(captions.iter(), options, &arguments.out);
    working.finish_and_clear();
    let size = size?;
    if size < arguments.vocab_size {
        say!(
            "{} tokens fewer than --vocab-size: the captions have no more pairs that occur at least \
             {} times",
            arguments.vocab_size - size,
            arguments.min_frequency
        );
    }
    say!(
        "wrote {size} tokens, trained on {} captions, to {}",
        captions.len(),
        arguments.out.display()
    );
    say!(
        "to train with it, set model.tokenizer = \"{}\" and model.text.vocab_size = {size}",
        arguments.out.display()
    );
    Ok(exit_code::DONE)
}
