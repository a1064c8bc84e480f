//! What a protocol compares: the features of a dataset's images and of its texts.

use burn::tensor::{Tensor, TensorData};

use crate::dataset::Dataset;
use crate::divided::read_divided;
use crate::encoder::Encoder;
use crate::features::Features;
use crate::protocol::{EvalError, EvalOptions};
use crate::texts::Texts;

/// Features of a dataset.
pub(crate) struct Inputs {
    pub images: Features,
    /// `[rows, embed_dim]`, L2-normalized, in the order of the texts asked for.
    pub texts: Vec<Tensor<2>>,
}

/// Computes the features of a dataset: alone, or with the other ranks.
/// - texts: what to encode besides the images, or why the dataset cannot be evaluated: with other ranks, an
///   error must reach them, too.
/// - progress: called with the number of images that are done; if there are other ranks, with an estimate
///   from this rank's.
pub(crate) fn read_inputs(
    encoder: &Encoder,
    dataset: &Dataset,
    texts: Result<Vec<Texts>, EvalError>,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Inputs, EvalError> {
    let division = options.division.filter(|division| division.ranks() > 1);
    let Some(division) = division else {
        let texts = texts?;
        // First, because a missing tokenizer should not be discovered after an hour of encoding images.
        let texts = texts.iter();
        let texts = texts.map(|texts| texts.features(encoder, options.cache));
        let texts = texts.collect::<Result<_, _>>()?;
        let (images, max_pixels) = (&dataset.images, options.max_image_pixels);
        let images = Features::cached(encoder, images, max_pixels, options.cache, progress)?;
        return Ok(Inputs { images, texts });
    };
    let texts = texts.as_ref().map(Vec::as_slice);
    let (images, texts) = read_divided(division, encoder, dataset, texts, options, progress)?;
    let embed_dim = images.embed_dim;
    let device = encoder.model().device();
    let on_device = |values: Vec<f32>| {
        let shape = [values.len() / embed_dim.max(1), embed_dim];
        Tensor::from_data(TensorData::new(values, shape), &device)
    };
    Ok(Inputs {
        images,
        texts: texts.into_iter().map(on_device).collect(),
    })
}
