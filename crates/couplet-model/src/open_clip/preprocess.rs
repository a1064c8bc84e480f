//! The `preprocess_cfg` of `open_clip_config.json`. Source: open_clip `PreprocessCfg`,
//! `merge_preprocess_dict` and `image_transform`.

use serde_json::{Map, Value, json};

use crate::shortest::written;
use crate::spec::{CropRounding, Interpolation, PreprocessSpec};

/// Ours: open_clip always resizes to the model's image size, and ignores keys that it does not know.
const RESIZE_SIZE: &str = "resize_size";
const CROP_ROUNDING: &str = "crop_rounding";

pub(super) fn to_cfg(spec: &PreprocessSpec) -> Map<String, Value> {
    let value = json!({
        "mean": spec.mean.map(written),
        "std": spec.std.map(written),
        "mode": "RGB",
        "interpolation": spec.interpolation.name(),
        "resize_mode": spec.resize_mode,
        "fill_color": spec.fill_color,
    });
    let Value::Object(mut cfg) = value else {
        unreachable!("an object was written just above")
    };
    if let Some(side) = spec.resize_size {
        cfg.insert(RESIZE_SIZE.into(), side.into());
    }
    if spec.crop_rounding != CropRounding::default() {
        cfg.insert(CROP_ROUNDING.into(), json!(spec.crop_rounding));
    }
    cfg
}

/// The spec, or every value that open_clip or Couplet does not know. `size` is not read, since
/// open_clip replaces it by the model's image size; neither are keys that open_clip ignores.
/// - image_size: the model's.
pub(super) fn to_spec(
    cfg: &Map<String, Value>,
    image_size: usize,
) -> Result<PreprocessSpec, Vec<String>> {
    let mut cfg = Cfg {
        cfg,
        problems: Vec::new(),
    };
    let default = PreprocessSpec::default();
    if let Some(mode) = cfg.get("mode")
        && mode != "RGB"
    {
        cfg.refuse("mode", mode, "expected \"RGB\"");
    }
    let spec = PreprocessSpec {
        mean: cfg.channels("mean", default.mean),
        std: cfg.channels("std", default.std),
        interpolation: cfg.interpolation(),
        resize_mode: cfg.value("resize_mode", "\"shortest\", \"longest\" or \"squash\""),
        resize_size: cfg.value(RESIZE_SIZE, "a number of pixels"),
        crop_rounding: cfg.value(CROP_ROUNDING, "\"half-even\" or \"down\""),
        fill_color: cfg.value("fill_color", "a gray level from 0 to 255"),
    };
    if cfg.problems.is_empty() {
        let problems = spec.problems(image_size).into_iter();
        cfg.problems
            .extend(problems.map(|(key, message)| format!("preprocess_cfg.{key} {message}")));
    }
    if cfg.problems.is_empty() {
        Ok(spec)
    } else {
        Err(cfg.problems)
    }
}

struct Cfg<'a> {
    cfg: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Cfg<'a> {
    /// A key's value; null is the default.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.cfg.get(key).filter(|value| !value.is_null())
    }

    fn refuse(&mut self, key: &str, value: &Value, expected: &str) {
        self.problems
            .push(format!("preprocess_cfg.{key} = {value}: {expected}"));
    }

    fn value<T: Default + serde::de::DeserializeOwned>(&mut self, key: &str, expected: &str) -> T {
        let Some(value) = self.get(key) else {
            return T::default();
        };
        serde_json::from_value(value.clone()).unwrap_or_else(|_| {
            self.refuse(key, value, &format!("expected {expected}"));
            T::default()
        })
    }

    fn channels(&mut self, key: &str, default: [f32; 3]) -> [f32; 3] {
        let Some(value) = self.get(key) else {
            return default;
        };
        // open_clip takes a single 0 for no value.
        if value.as_f64() == Some(0.0) {
            return default;
        }
        channels(value).unwrap_or_else(|| {
            self.refuse(key, value, "expected a number or a list of three");
            default
        })
    }

    fn interpolation(&mut self) -> Interpolation {
        let Some(value) = self.get("interpolation") else {
            return Interpolation::default();
        };
        let name = value.as_str().unwrap_or_default();
        interpolation(name).unwrap_or_else(|| {
            self.refuse(
                "interpolation",
                value,
                "expected \"bicubic\" or \"bilinear\"",
            );
            Interpolation::default()
        })
    }
}

/// A mean or standard deviation of three channels, or one for all.
pub(super) fn channels(value: &Value) -> Option<[f32; 3]> {
    match value {
        Value::Array(list) if list.len() == 1 => channels(&list[0]),
        Value::Array(_) => serde_json::from_value(value.clone()).ok(),
        one => serde_json::from_value(one.clone()).ok().map(|one| [one; 3]),
    }
}

/// The interpolation with this name in open_clip or, for its other values, in Couplet's configs.
pub(super) fn interpolation(name: &str) -> Option<Interpolation> {
    if name == "random" {
        // Drawn in training only.
        return Some(Interpolation::Bicubic);
    }
    let mut all = Interpolation::ALL.into_iter();
    all.find(|one| one.name() == name)
}
