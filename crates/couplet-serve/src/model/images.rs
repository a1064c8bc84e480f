//! `GET /v1/images/ROW`: an image of the index, made small. Only rows have addresses, so no other file is shown.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use couplet_data::decode;
use couplet_data::labelled::LabelledDataset;
use couplet_data::with_causes;
use couplet_pages::jpeg_within;

use super::served::Served;
use crate::api_error::ApiError;

/// The longer side, in pixels.
const SIDE: u32 = 320;

pub(super) async fn thumbnail(
    State(served): State<Arc<Served>>,
    Path(row): Path<String>,
) -> Result<Response, ApiError> {
    let row: usize = row
        .parse()
        .map_err(|_| ApiError::not_found("rows are numbers"))?;
    let jpeg = served.compute(move |own| own.thumbnail(row)).await?;
    let headers = [
        (CONTENT_TYPE, "image/jpeg"),
        (CACHE_CONTROL, "private, max-age=3600"),
    ];
    Ok((headers, jpeg).into_response())
}

impl Served {
    fn thumbnail(&self, row: usize) -> Result<Vec<u8>, ApiError> {
        let index = self.index()?;
        let wanted = index
            .row(row)
            .map_err(|error| ApiError::not_found(with_causes(&error)))?;
        let opened = self.images.get_or_init(|| {
            let images = LabelledDataset::of_any_images(&index.manifest().images);
            images.map_err(|error| with_causes(&error))
        });
        let moved = || ApiError::not_found("the image is not where it was when it was indexed");
        let images = opened
            .as_ref()
            .map_err(|error| ApiError::not_found(error.clone()))?;
        if wanted.image >= images.len() || images.locate(wanted.image) != (wanted.file, wanted.key)
        {
            return Err(moved());
        }
        let image = images
            .read(wanted.image)
            .and_then(|image| decode(image, self.limits.pixels));
        let image = image.map_err(|error| ApiError::not_found(error.to_string()))?;
        Ok(jpeg_within(&image, SIDE))
    }
}
