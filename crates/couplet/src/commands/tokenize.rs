//! `couplet tokenize` and `couplet tokenizer`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use couplet_data::{Clean, Tokenizer, TrainOptions, train_tokenizer};

use super::read_lines;
use crate::{TokenizeArguments, TokenizerTrainArguments};

/// The name of CLIP's own tokenizer.
const CLIP: &str = "clip";
/// Texts whose ids are printed at once.
const BATCH: usize = 8192;

pub(crate) fn tokenize(arguments: &TokenizeArguments) -> anyhow::Result<u8> {
    let tokenizer = if arguments.tokenizer == CLIP {
        Tokenizer::clip()
    } else {
        Arc::new(Tokenizer::from_file(
            Path::new(&arguments.tokenizer),
            Clean::None,
        )?)
    };
    let mut texts = arguments.text.clone();
    if let Some(path) = &arguments.texts {
        texts.extend(read_lines(path)?);
    }
    if texts.is_empty() {
        bail!("there is no text: give texts, or a file with one a line by --texts");
    }
    let mut out = std::io::stdout().lock();
    for chunk in texts.chunks(BATCH) {
        let mut lines = String::new();
        for ids in tokenizer.encode_batch(chunk, arguments.context_length) {
            let mut between = "";
            for id in ids {
                write!(lines, "{between}{id}")?;
                between = " ";
            }
            lines.push('\n');
        }
        if out.write_all(lines.as_bytes()).is_err() {
            // Whoever reads has seen enough.
            break;
        }
    }
    Ok(0)
}

pub(crate) fn train(arguments: &TokenizerTrainArguments) -> anyhow::Result<u8> {
    let mut captions = Vec::new();
    for path in &arguments.texts {
        captions.extend(read_lines(path)?);
    }
    if captions.is_empty() {
        bail!("there are no captions in the files of --texts");
    }
    let options = TrainOptions {
        vocab_size: arguments.vocab_size,
        min_frequency: arguments.min_frequency,
    };
    if let Some(folder) = arguments.out.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be written", folder.display()))?;
    }
    let size = train_tokenizer(captions.iter(), options, &arguments.out)?;
    println!(
        "{size} tokens from {} captions in {}",
        captions.len(),
        arguments.out.display()
    );
    println!(
        "train with it:  model.tokenizer = \"{}\" and model.text.vocab_size = {size}",
        arguments.out.display()
    );
    Ok(0)
}
