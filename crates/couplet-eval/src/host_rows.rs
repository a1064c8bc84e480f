//! Features as rows in the host's memory, for whatever compares or stores them.

use burn::tensor::Tensor;
use couplet_model::l2_normalize;

use crate::classifier::ClassifierError;
use crate::encoder::Encoder;
use crate::feature_error::NotFinite;

impl Encoder {
    /// Encodes transformed images.
    /// - pixels: `[batch, image_size, image_size, 3]`, as [`Self::transform`] outputs them; name: of an image in errors.
    /// - returns image features `[batch, embed_dim]`, row-major, L2-normalized.
    ///
    /// # Errors
    /// If features are not finite.
    pub fn image_rows(
        &self,
        pixels: Vec<u8>,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<f32>, NotFinite> {
        finite_rows("images", self.encode_pixels_raw(pixels), name)
    }

    /// Encodes texts.
    /// - returns text features `[texts, embed_dim]`, row-major, L2-normalized.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk or has no ids for a text, or features are not finite.
    pub fn text_rows<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Vec<f32>, ClassifierError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.encode_texts_raw(texts)?;
        let name = |row: usize| format!("`{}`", texts[row].as_ref());
        Ok(finite_rows("texts", features, name)?)
    }
}

fn finite_rows(
    items: &'static str,
    features: Tensor<2>,
    name: impl Fn(usize) -> String,
) -> Result<Vec<f32>, NotFinite> {
    let width = features.dims()[1];
    let raw = features.clone().into_data();
    let raw: Vec<f32> = raw.try_to_vec().expect("features are f32");
    NotFinite::check(items, &raw, width, name)?;
    let rows = l2_normalize(features).into_data();
    Ok(rows.try_to_vec().expect("features are f32"))
}
