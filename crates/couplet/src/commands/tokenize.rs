//! `couplet tokenize`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use couplet_data::{Clean, Tokenizer};

use super::inputs::read_lines;
use super::numbers::at_least_two;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct TokenizeArguments {
    /// Tokenizer to use: clip, or a tokenizer.json
    #[arg(long, default_value = CLIP, value_name = "clip|FILE")]
    tokenizer: String,
    /// Maximum number of ids per text, start and end tokens included; longer texts are truncated
    #[arg(long, value_name = "N", default_value_t = 77, value_parser = at_least_two)]
    context_length: usize,
    /// File with one text per line, or - for standard input
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Texts to tokenize
    text: Vec<String>,
}

/// The name of CLIP's tokenizer.
const CLIP: &str = "clip";
/// Texts encoded and printed at once.
const BATCH: usize = 8192;

pub(crate) fn run(arguments: &TokenizeArguments) -> anyhow::Result<u8> {
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
        bail!("no text to tokenize; give texts, or a file with one per line with --texts");
    }
    let mut out = std::io::stdout().lock();
    for (batch, chunk) in texts.chunks(BATCH).enumerate() {
        let mut lines = String::new();
        let encoded = tokenizer.encode_batch(chunk, arguments.context_length);
        let encoded = encoded.map_err(|(at, error)| {
            anyhow::Error::new(error).context(format!("text {}", batch * BATCH + at + 1))
        })?;
        for ids in encoded {
            let mut between = "";
            for id in ids {
                write!(lines, "{between}{id}")?;
                between = " ";
            }
            lines.push('\n');
        }
        if out.write_all(lines.as_bytes()).is_err() {
            // The reader has closed the pipe.
            break;
        }
    }
    Ok(exit_code::DONE)
}
