//! `processor_config.json` and `preprocessor_config.json`, key by key. Source: transformers 5
//! `BaseImageProcessor`, `CLIPImageProcessor` and `get_image_processor_dict`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::size::parse_size;
use crate::files::{FolderError, parse_json, read_text};
use crate::shortest::written;
use crate::spec::{CropRounding, Interpolation, PreprocessSpec, ResizeMode};

/// What transformers 5 writes: every part of the processor, one object each.
const PROCESSOR_FILE: &str = "processor_config.json";
/// The image processor's file name inside a model folder, as versions of transformers before 5 and transformers.js have it.
pub const IMAGE_PROCESSOR_FILE: &str = "preprocessor_config.json";
const IMAGE_PROCESSOR: &str = "image_processor";

/// Keys that change no pixel.
const IGNORED: [&str; 10] = [
    "processor_class",
    "_processor_class",
    "_valid_processor_keys",
    "_name_or_path",
    "use_fast",
    "device",
    "disable_grouping",
    "return_tensors",
    "image_seq_length",
    // Images that are RGB already are the same; transformers fails for the others.
    "do_convert_rgb",
];

/// Interpolations in the order of PIL's numbers.
const RESAMPLE: [Interpolation; 6] = [
    Interpolation::Nearest,
    Interpolation::Lanczos,
    Interpolation::Bilinear,
    Interpolation::Bicubic,
    Interpolation::Box,
    Interpolation::Hamming,
];
const RESCALE_FACTOR: f64 = 1.0 / 255.0;

/// The preprocessing that a folder's files describe; as `CLIPImageProcessor`'s if there are none.
/// - image_size: the model's.
///
/// # Errors
/// With every setting that Couplet does not support.
pub fn read(folder: &Path, image_size: usize) -> Result<PreprocessSpec, FolderError> {
    let [whole, own] = [PROCESSOR_FILE, IMAGE_PROCESSOR_FILE].map(|name| folder.join(name));
    if whole.is_file() {
        let mut keys: Map<String, Value> = parse_json(&whole, &read_text(&whole)?)?;
        let nested = keys.remove(IMAGE_PROCESSOR);
        if let Some(nested) = nested.filter(|nested| !nested.is_null()) {
            let Value::Object(nested) = nested else {
                let problem = format!("{IMAGE_PROCESSOR} = {nested}: expected an object");
                return Err(FolderError::unsound(&whole, &[problem]));
            };
            return spec(&whole, nested, image_size);
        }
        let has_image_keys = ["size", "crop_size", "image_mean", "do_resize"];
        if !own.is_file() && has_image_keys.iter().any(|key| keys.contains_key(*key)) {
            return spec(&whole, keys, image_size);
        }
    }
    if own.is_file() {
        return spec(&own, parse_json(&own, &read_text(&own)?)?, image_size);
    }
    Ok(PreprocessSpec {
        crop_rounding: CropRounding::Down,
        ..PreprocessSpec::default()
    })
}

fn spec(
    path: &Path,
    keys: Map<String, Value>,
    image_size: usize,
) -> Result<PreprocessSpec, FolderError> {
    let mut keys = Keys {
        keys,
        problems: Vec::new(),
    };
    let spec = keys.spec(image_size);
    if keys.problems.is_empty() {
        Ok(spec)
    } else {
        Err(FolderError::unsound(path, &keys.problems))
    }
}

/// The defaults of a class of image processors.
struct Class {
    /// Side of the resize: of the shorter side, or of a square.
    size: (ResizeMode, u32),
    crops: bool,
    resample: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
    /// Whether a `size` that is one number is a square.
    default_to_square: bool,
}

/// The classes of image processors that do nothing but resize, crop, rescale and normalize.
fn class(name: &str) -> Option<Class> {
    let name = ["Fast", "Pil"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let clip = PreprocessSpec::default();
    let half = Class {
        size: (ResizeMode::Squash, 224),
        crops: false,
        resample: Interpolation::Bicubic,
        mean: [0.5; 3],
        std: [0.5; 3],
        default_to_square: false,
    };
    match name {
        "CLIPImageProcessor"
        | "CLIPFeatureExtractor"
        | "BitImageProcessor"
        | "ChineseCLIPImageProcessor" => Some(Class {
            size: (ResizeMode::Shortest, 224),
            crops: true,
            mean: clip.mean,
            std: clip.std,
            ..half
        }),
        "SiglipImageProcessor" => Some(half),
        "ViTImageProcessor" | "ViTFeatureExtractor" => Some(Class {
            resample: Interpolation::Bilinear,
            default_to_square: true,
            ..half
        }),
        "DeiTImageProcessor" => Some(Class {
            size: (ResizeMode::Squash, 256),
            crops: true,
            default_to_square: true,
            ..half
        }),
        _ => None,
    }
}

/// The keys that are not read yet, and what is wrong with those that are.
struct Keys {
    keys: Map<String, Value>,
    problems: Vec<String>,
}

impl Keys {
    fn spec(&mut self, image_size: usize) -> PreprocessSpec {
        let class = self.class();
        let resample = self.resample(class.resample);
        let crops = self.flag("do_center_crop", class.crops);
        let (resize_mode, resize_size) = self.resize(&class, crops, image_size);
        let rescales = self.flag("do_rescale", true);
        let factor = self.factor();
        let normalizes = self.flag("do_normalize", true);
        let mean = self.channels("image_mean", class.mean, |_| true);
        let std = self.channels("image_std", class.std, |value| value > 0.0);
        let (mean, std) = if normalizes {
            (mean, std)
        } else {
            ([0.0; 3], [1.0; 3])
        };
        // (x · factor - mean) / std is (x / 255 - mean · scale) / (std · scale).
        let scale = RESCALE_FACTOR / if rescales { factor } else { 1.0 };
        self.pad(image_size);
        self.refuse_others();
        PreprocessSpec {
            mean: mean.map(|value| scaled(value, scale)),
            std: std.map(|value| scaled(value, scale)),
            interpolation: resample,
            resize_mode,
            resize_size,
            crop_rounding: CropRounding::Down,
            fill_color: 0,
        }
    }

    /// The value of a key; none if it is not given or null, which is the default.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, key: &str, value: &Value, reason: &str) {
        self.problems.push(format!("{key} = {value}: {reason}"));
    }

    fn class(&mut self) -> Class {
        let names = ["image_processor_type", "feature_extractor_type"].map(|key| self.take(key));
        let clip = || class("CLIPImageProcessor").expect("CLIP's is known");
        let Some(name) = names.into_iter().flatten().next() else {
            return clip();
        };
        name.as_str().and_then(class).unwrap_or_else(|| {
            let expected = "expected CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor, \
                            DeiTImageProcessor or BitImageProcessor";
            self.refuse("image_processor_type", &name, expected);
            clip()
        })
    }

    fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Bool(is_on)) => is_on,
            Some(other) => {
                self.refuse(key, &other, "expected true or false");
                default
            }
        }
    }

    fn factor(&mut self) -> f64 {
        let Some(value) = self.take("rescale_factor") else {
            return RESCALE_FACTOR;
        };
        match value.as_f64() {
            Some(factor) if factor > 0.0 && factor.is_finite() => factor,
            _ => {
                self.refuse("rescale_factor", &value, "expected a positive number");
                RESCALE_FACTOR
            }
        }
    }

    fn channels(&mut self, key: &str, default: [f32; 3], is_valid: fn(f32) -> bool) -> [f32; 3] {
        let Some(value) = self.take(key) else {
            return default;
        };
        let numbers: Vec<f32> = match &value {
            Value::Array(list) => list.iter().filter_map(number).collect(),
            one => number(one).into_iter().cycle().take(3).collect(),
        };
        let is_list_of_three = value.as_array().is_none_or(|list| list.len() == 3);
        match <[f32; 3]>::try_from(numbers) {
            Ok(numbers) if is_list_of_three && numbers.iter().all(|value| is_valid(*value)) => {
                numbers
            }
            _ => {
                let expected = if is_valid(0.0) {
                    "expected a number or a list of three"
                } else {
                    "expected a positive number or a list of three"
                };
                self.refuse(key, &value, expected);
                default
            }
        }
    }

    fn resample(&mut self, default: Interpolation) -> Interpolation {
        let Some(value) = self.take("resample") else {
            return default;
        };
        let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
        let known = index.and_then(|index| RESAMPLE.get(index).copied());
        known.unwrap_or_else(|| {
            let expected = "expected one of PIL's filters: 0 (nearest), 1 (Lanczos), \
                            2 (bilinear), 3 (bicubic), 4 (box) or 5 (Hamming)";
            self.refuse("resample", &value, expected);
            default
        })
    }

    /// How images are resized, and the side if it is not the image size.
    fn resize(
        &mut self,
        class: &Class,
        crops: bool,
        image_size: usize,
    ) -> (ResizeMode, Option<u32>) {
        let to_square = self.flag("default_to_square", class.default_to_square);
        if self.flag("use_square_size", false) {
            let reason = "KOSMOS-2's key; give size = {\"height\", \"width\"} instead";
            self.refuse("use_square_size", &true.into(), reason);
        }
        let size = self.take("size");
        let crop = self.take("crop_size");
        if crops {
            self.check_crop(crop, image_size);
        }
        if !self.flag("do_resize", true) {
            let reason =
                format!("images keep their size, but the model takes {image_size}x{image_size}");
            self.refuse("do_resize", &false.into(), &reason);
            return class.size_of(image_size);
        }
        let (mode, edge) = match &size {
            None => class.size,
            Some(size) => match parse_size(size, to_square) {
                Ok(found) => found,
                Err(reason) => {
                    self.refuse("size", size, reason);
                    return class.size_of(image_size);
                }
            },
        };
        let shown = size.unwrap_or_else(|| edge.into());
        if edge as usize == image_size && (crops || mode == ResizeMode::Squash) {
            return (mode, None);
        }
        if !crops {
            let reason = if mode == ResizeMode::Shortest {
                format!(
                    "images that are not square stay so without do_center_crop, but the model \
                     takes {image_size}x{image_size}"
                )
            } else {
                format!("the model takes images of {image_size}x{image_size}")
            };
            self.refuse("size", &shown, &reason);
        } else if (edge as usize) < image_size {
            let reason =
                format!("smaller than the crop of {image_size}; padding is not supported here");
            self.refuse("size", &shown, &reason);
        }
        (mode, Some(edge))
    }

    fn check_crop(&mut self, crop: Option<Value>, image_size: usize) {
        let Some(crop) = crop else {
            if image_size != 224 {
                let reason = format!(
                    "the class's crop without crop_size, but the model takes \
                     {image_size}x{image_size}; set crop_size"
                );
                self.refuse("crop_size", &224.into(), &reason);
            }
            return;
        };
        match parse_size(&crop, true) {
            Ok((ResizeMode::Squash, side)) if side as usize == image_size => {}
            Ok((ResizeMode::Squash, _)) => {
                let reason = format!("the model takes images of {image_size}x{image_size}");
                self.refuse("crop_size", &crop, &reason);
            }
            Ok(_) => self.refuse("crop_size", &crop, "expected \"height\" and \"width\""),
            Err(reason) => self.refuse("crop_size", &crop, reason),
        }
    }

    /// Padding after the crop changes nothing where it is of the crop's size.
    fn pad(&mut self, image_size: usize) {
        let size = self.take("pad_size");
        if !self.flag("do_pad", false) {
            return;
        }
        if let Some(size) = size
            && !matches!(parse_size(&size, true), Ok((ResizeMode::Squash, edge)) if edge as usize == image_size)
        {
            let reason = format!("the model takes images of {image_size}x{image_size}");
            self.refuse("pad_size", &size, &reason);
        }
    }

    fn refuse_others(&mut self) {
        for (key, value) in std::mem::take(&mut self.keys) {
            let is_unset = matches!(value, Value::Null | Value::Bool(false));
            let is_default = matches!(key.as_str(), "data_format" | "input_data_format")
                && value == "channels_first";
            if !is_unset && !is_default && !IGNORED.contains(&key.as_str()) {
                self.refuse(&key, &value, "not supported here");
            }
        }
    }
}

impl Class {
    /// Stands in where the file's own size is refused.
    fn size_of(&self, image_size: usize) -> (ResizeMode, Option<u32>) {
        (self.size.0, u32::try_from(image_size).ok())
    }
}

fn number(value: &Value) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "as PyTorch's tensors")]
    let number = value.as_f64()? as f32;
    number.is_finite().then_some(number)
}

fn scaled(value: f32, scale: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "as PyTorch's tensors")]
    let scaled = (f64::from(value) * scale) as f32;
    scaled
}

/// The file of a preprocessing that `CLIPImageProcessor` or `SiglipImageProcessor` can do, or the reason why they
/// cannot.
/// - is_siglip: whether the model is SigLIP's, whose processor is preferred then.
pub(super) fn from_spec(
    spec: &PreprocessSpec,
    image_size: usize,
    is_siglip: bool,
) -> Result<Value, Vec<String>> {
    let resized = spec.resize_size.map_or(image_size, |side| side as usize);
    let square = |side: usize| json!({ "height": side, "width": side });
    let size = match spec.resize_mode {
        ResizeMode::Shortest => json!({ "shortest_edge": resized }),
        ResizeMode::Squash => square(resized),
        ResizeMode::Longest => {
            return Err(vec![
                "CLIPImageProcessor does not pad: resize_mode = \"longest\"".into(),
            ]);
        }
    };
    let resample = RESAMPLE.iter().position(|one| *one == spec.interpolation);
    if is_siglip && spec.resize_mode == ResizeMode::Squash && resized == image_size {
        return Ok(json!({
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "do_resize": true,
            "do_normalize": true,
            "do_rescale": true,
            "do_convert_rgb": true,
            "rescale_factor": RESCALE_FACTOR,
            "size": size,
            "resample": resample,
            "image_mean": spec.mean.map(written),
            "image_std": spec.std.map(written),
        }));
    }
    Ok(json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true,
        "do_center_crop": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_convert_rgb": true,
        "rescale_factor": RESCALE_FACTOR,
        "size": size,
        "crop_size": square(image_size),
        "resample": resample,
        "image_mean": spec.mean.map(written),
        "image_std": spec.std.map(written),
    }))
}
