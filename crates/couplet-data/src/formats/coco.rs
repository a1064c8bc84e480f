//! COCO captions: one JSON file for all images.
//!
//! Source: Chen et al. 2015, "Microsoft COCO Captions: Data Collection and Evaluation Server".

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::error::DataError;
use super::files::{MAX_DOCUMENT_BYTES, read_regular};
use super::json;
use super::text::caption_problem;

/// An image's file name and its captions, trimmed, in the file's order.
pub(crate) struct CocoImage {
    pub file_name: String,
    pub captions: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

/// Reads an annotation file.
///
/// # Errors
/// If the file cannot be read, an image has no caption, or a caption names an unknown image.
pub(crate) fn read(path: &Path) -> Result<Vec<CocoImage>, DataError> {
    let bytes = read_regular(path, MAX_DOCUMENT_BYTES).map_err(DataError::io(path))?;
    let document = json::parse(&bytes).map_err(|error| DataError::invalid(path, error))?;
    let Document {
        images: listed,
        annotations,
    } = document;
    let invalid = |message: String| DataError::invalid(path, message);
    let mut captions: HashMap<u64, Vec<String>> = HashMap::new();
    for annotation in annotations {
        let caption = annotation.caption.trim().to_string();
        if let Some(problem) = caption_problem(&caption) {
            let id = annotation.image_id;
            return Err(invalid(format!("image {id}: {problem}")));
        }
        captions
            .entry(annotation.image_id)
            .or_default()
            .push(caption);
    }
    let mut images = Vec::new();
    for Image { id, file_name } in listed {
        let captions = captions.remove(&id).ok_or_else(|| {
            invalid(format!(
                "{file_name} has no caption; remove the image or add one"
            ))
        })?;
        images.push(CocoImage {
            file_name,
            captions,
        });
    }
    if let Some(id) = captions.keys().next() {
        return Err(invalid(format!(
            "a caption is for image {id}, which `images` does not list"
        )));
    }
    if images.is_empty() {
        return Err(invalid("`images` is empty".into()));
    }
    Ok(images)
}
