//! `couplet search`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use couplet_data::printable;
use couplet_eval::Encoder;
use couplet_search::{Hit, Index};

use super::index::note_cost;
use super::model_arguments::ModelOptions;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// Folder that `couplet index` wrote
    index: PathBuf,
    /// What the images should show
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    words: Option<String>,
    /// Image file to which the images should be similar
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Number of images to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// The model that made the index, if it is not where it was
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    json: JsonArguments,
}

pub(crate) fn run(arguments: &SearchArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let index = Index::open(&arguments.index)?;
    let encoder = open_model(&index, arguments.model.as_ref(), &arguments.options)?;
    note_cost(&arguments.index, index.manifest());
    let query = match (&arguments.words, &arguments.image) {
        (_, Some(image)) => {
            let pixels = encoder.read_images(&[image]).remove(0)?;
            encoder.image_rows(pixels, |_| image.display().to_string())?
        }
        (Some(words), None) => encoder.text_rows(&[words])?,
        (None, None) => bail!("give words, or an image with --image"),
    };
    let begin = Instant::now();
    let hits = index.search(&query, arguments.limit)?;
    let seconds = begin.elapsed().as_secs_f64();
    for hit in &hits {
        let captions = hit
            .image
            .captions
            .first()
            .map_or(String::new(), |caption| format!("  {}", printable(caption)));
        let name = name_of(hit);
        println!("{:.4}  {name}{captions}", hit.score);
    }
    let rows = hits.iter().map(|hit| {
        serde_json::json!({
            "row": hit.row,
            "score": hit.score,
            "file": hit.image.file,
            "key": hit.image.key,
            "captions": hit.image.captions,
        })
    });
    let rows: Vec<_> = rows.collect();
    arguments.json.write(&serde_json::json!({
        "rows": index.len(),
        "seconds": seconds,
        "hits": rows,
    }))?;
    Ok(exit_code::DONE)
}

/// The file of an image, and where it holds several, the image's key in it.
fn name_of(hit: &Hit) -> String {
    let (file, key) = (printable(&hit.image.file), printable(&hit.image.key));
    let is_image = couplet_data::is_image_name(hit.image.file.as_ref());
    if is_image {
        file.to_string()
    } else {
        format!("{file}: {key}")
    }
}

/// Opens the model that made an index, at its place or another.
pub(crate) fn open_model(
    index: &Index,
    model: Option<&PathBuf>,
    options: &ModelOptions,
) -> anyhow::Result<Encoder> {
    let mark = &index.manifest().model;
    let path = model.unwrap_or(&mark.weights);
    if model.is_none() && !path.exists() {
        bail!(
            "{}: the model that made the index is not there any more; give its place with --model",
            path.display()
        );
    }
    let encoder = options.open(path)?;
    if !mark.is(&encoder) {
        bail!(
            "{}: not the model, the precision or the preprocessing that made {}, so their features cannot be compared",
            path.display(),
            index.folder().display()
        );
    }
    if !index.manifest().is_complete() {
        let manifest = index.manifest();
        printing::warn(&format!(
            "{} of {} images are indexed so far; the same `couplet index` command goes on",
            manifest.done, manifest.total
        ));
    }
    Ok(encoder)
}
