//! Names by which tables and `.json` files call images and captions, the likeliest first.

/// Columns of images or their paths.
pub(crate) const IMAGE_NAMES: [&str; 15] = [
    "filepath",
    "image",
    "image_path",
    "img_path",
    "file_path",
    "path",
    "filename",
    "file_name",
    "file",
    "img",
    "image_file",
    "images",
    "photo",
    "jpg",
    "png",
];
/// Columns and keys of captions.
pub(crate) const CAPTION_NAMES: [&str; 11] = [
    "caption",
    "captions",
    "title",
    "text",
    "texts",
    "description",
    "prompt",
    "alt_text",
    "alt",
    "sentence",
    "sentences",
];
