//! `GET /v1/images/ROW`: an image of the index, made small. Only rows have addresses, so no other file is shown.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use couplet_data::formats::read_image;
use couplet_data::labelled::LabelledDataset;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, ImageData, decode, is_image_name, with_causes};
use couplet_pages::jpeg_within;
use couplet_search::Row;

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
    let index = served.index()?;
    let wanted = index.row(row);
    let wanted = wanted.map_err(|error| ApiError::not_found(with_causes(&error)))?;
    // A file of its own is read where the index says it is; members of shards and rows of tables are found by their number.
    let images = if is_image_name(wanted.file.as_ref()) {
        None
    } else {
        Some(served.images().await?)
    };
    let jpeg = served
        .compute(move |_| small(&wanted, images.as_deref()))
        .await?;
    let headers = [
        (CONTENT_TYPE, "image/jpeg"),
        (CACHE_CONTROL, "private, max-age=3600"),
    ];
    Ok((headers, jpeg).into_response())
}

impl Served {
    /// The index's images, opened once, by whoever asks first; the others wait without a place of what computes.
    async fn images(&self) -> Result<Arc<LabelledDataset>, ApiError> {
        let index = self.index()?;
        let open = || async move {
            let opened = tokio::task::spawn_blocking(move || {
                LabelledDataset::of_any_images(&index.manifest().images)
            });
            let opened = opened
                .await
                .map_err(|_| ApiError::internal("the images cannot be opened"))?;
            opened
                .map(Arc::new)
                .map_err(|error| ApiError::not_found(with_causes(&error)))
        };
        self.images.get_or_try_init(open).await.cloned()
    }
}

fn small(wanted: &Row, images: Option<&LabelledDataset>) -> Result<Vec<u8>, ApiError> {
    let image = match images {
        None => read_image(wanted.file.as_ref()).map(ImageData::Encoded),
        Some(images) => {
            let is_there = wanted.image < images.len()
                && images.locate(wanted.image) == (wanted.file.clone(), wanted.key.clone());
            if !is_there {
                let message = "the image is not where it was when it was indexed";
                return Err(ApiError::not_found(message));
            }
            images.read(wanted.image)
        }
    };
    // As large as the index takes them.
    let image = image.and_then(|image| decode(image, DEFAULT_MAX_IMAGE_PIXELS));
    let image = image.map_err(|error| ApiError::not_found(error.to_string()))?;
    Ok(jpeg_within(&image, SIDE))
}
