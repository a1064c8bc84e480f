use std::fs;

use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, ImageData, labelled};
use couplet_model::hugging_face::read_preprocess;
use couplet_model::{ModelSpec, PreprocessSpec, presets};
use image::RgbImage;

use crate::encoder::eval_transform;

const SIDE: usize = 8;

/// The image that `make_processors.py` draws.
fn test_image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let byte = |v: u32| u8::try_from(v % 256).unwrap();
        image::Rgb([
            byte(x * 7 + y * 3),
            byte(x * x + 5 * y),
            byte(x * y + 31 * (x / 3)),
        ])
    })
}

fn spec() -> ModelSpec {
    let mut spec = presets::find("ViT-Ti-8-32").unwrap();
    spec.image.set_image_size(SIDE);
    spec
}

/// - file: the name and the text of one of a folder's files.
fn read(files: &[(&str, &str)]) -> Result<PreprocessSpec, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    read_preprocess(folder.path(), SIDE).map_err(|error| error.to_string())
}

fn preprocess(spec: &PreprocessSpec, image: RgbImage) -> Vec<f32> {
    let transform = eval_transform(&self::spec(), spec);
    let image = ImageData::Pixels(image);
    let pixels = labelled::prepare(image, &transform, DEFAULT_MAX_IMAGE_PIXELS).unwrap();
    let channels = (0..3).cycle();
    let normalized = pixels
        .iter()
        .zip(channels)
        .map(|(pixel, at)| (f32::from(*pixel) / 255.0 - spec.mean[at]) / spec.std[at]);
    normalized.collect()
}

/// A file, width, height, and the pixels of transformers' processor.
type Case = (String, u32, u32, Vec<f32>);

#[test]
fn pixels_are_those_of_transformers_processors() {
    let fixture = include_str!("../../tests/fixtures/processors.json");
    let cases: Vec<Case> = serde_json::from_str(fixture).unwrap();
    assert!(cases.len() > 40);
    for (file, width, height, expected) in cases {
        let nested =
            format!(r#"{{"image_processor": {file}, "processor_class": "CLIPProcessor"}}"#);
        let own = read(&[("preprocessor_config.json", &file)]).unwrap();
        assert_eq!(
            read(&[("processor_config.json", &nested)]),
            Ok(own.clone()),
            "{file}"
        );
        let ours = preprocess(&own, test_image(width, height));
        for (ours, theirs) in ours.iter().zip(&expected) {
            let tolerance = 1e-5 * theirs.abs().max(1.0);
            assert!(
                (ours - theirs).abs() <= tolerance,
                "{file}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn every_key_that_cannot_be_honoured_is_named() {
    let crop = r#""crop_size": {"height": 8, "width": 8}"#;
    for (keys, named) in [
        (r#""do_resize": false"#, "do_resize = false"),
        (
            r#""do_center_crop": false, "size": {"shortest_edge": 8}"#,
            "size = ",
        ),
        (
            r#""do_center_crop": false, "size": {"height": 9, "width": 9}"#,
            "size = ",
        ),
        (r#""size": {"height": 9, "width": 10}"#, "only squares"),
        (r#""size": {"shortest_edge": 7}"#, "smaller than the crop"),
        (r#""size": {"longest_edge": 8}"#, "size = "),
        (
            r#""size": {"shortest_edge": 8, "longest_edge": 16}"#,
            "size = ",
        ),
        (r#""size": "8""#, "size = "),
        (r#""crop_size": {"height": 9, "width": 9}"#, "crop_size = "),
        (r#""crop_size": {"shortest_edge": 8}"#, "crop_size = "),
        (r#""resample": 6"#, "resample = 6"),
        (r#""resample": "bicubic""#, "resample = "),
        (r#""image_mean": [0.5, 0.5]"#, "image_mean = "),
        (r#""image_std": [0.5, 0, 0.5]"#, "image_std = "),
        (r#""rescale_factor": 0"#, "rescale_factor = 0"),
        (r#""do_normalize": "yes""#, "do_normalize = "),
        (
            r#""do_pad": true, "pad_size": {"height": 16, "width": 16}"#,
            "pad_size = ",
        ),
        (
            r#""do_flip_channel_order": true"#,
            "do_flip_channel_order = true",
        ),
        (r#""crop_pct": 0.9"#, "crop_pct = 0.9"),
        (
            r#""image_processor_type": "ConvNextImageProcessor""#,
            "ConvNextImageProcessor",
        ),
        (r#""data_format": "channels_last""#, "data_format"),
    ] {
        let mut file = format!("{{{keys}");
        for (key, text) in [("crop_size", crop), ("size", r#""size": 8"#)] {
            if !keys.contains(&format!("\"{key}\"")) {
                file = format!("{file}, {text}");
            }
        }
        let file = file + "}";
        let error = read(&[("preprocessor_config.json", &file)]).unwrap_err();
        assert!(error.contains(named), "{file}: {error}");
        assert!(error.contains("preprocessor_config.json"), "{error}");
    }
}

#[test]
fn the_file_that_transformers_reads_is_read() {
    let file = |mean: f32| format!(r#"{{"size": 8, "crop_size": 8, "image_mean": {mean}}}"#);
    let nested = |mean: f32| format!(r#"{{"image_processor": {}}}"#, file(mean));
    let mean = |files: &[(&str, &str)]| read(files).unwrap().mean[0];
    let (whole, own) = ("processor_config.json", "preprocessor_config.json");
    assert_eq!(mean(&[(whole, &nested(0.25)), (own, &file(0.5))]), 0.25);
    // Without images it is about other parts of the processor.
    assert_eq!(
        mean(&[(whole, r#"{"image_seq_len": 4}"#), (own, &file(0.5))]),
        0.5
    );
    assert_eq!(mean(&[(whole, &file(0.25)), (own, &file(0.5))]), 0.5);
    assert_eq!(mean(&[(whole, &file(0.25))]), 0.25);
    assert_eq!(mean(&[]), PreprocessSpec::default().mean[0]);
    let error = read(&[(whole, r#"{"image_processor": "clip"}"#)]).unwrap_err();
    assert!(error.contains("image_processor"), "{error}");
}
