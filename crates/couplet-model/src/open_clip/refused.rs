//! The settings of an open_clip config that Couplet does not support, and the keys that both towers
//! have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::spec::{Activation, DEFAULT_NORM_EPS};

/// Keys that are read only to reject unsupported settings.
pub(super) type Others = BTreeMap<String, Value>;

/// A square's side, given once or as height and width.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
pub(super) enum Side {
    One(usize),
    Two([usize; 2]),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for references"
)]
pub(super) fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Whether a key has the value of one that is not given.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_on) => !is_on,
        Value::String(text) => text.is_empty() || text == "default",
        _ => false,
    }
}

/// The settings of a config that Couplet does not support.
pub(super) struct Refused(pub Vec<String>);

impl Refused {
    pub fn others(&mut self, table: &str, others: &Others, ignored: &[&str]) {
        for (key, value) in others {
            if ignored.contains(&key.as_str()) || is_unset(value) {
                continue;
            }
            // Details of a foreign tower that is refused by its name already.
            let foreign = |prefix: &str, name: &str| key.starts_with(prefix) && key != name;
            if foreign("timm_", "timm_model_name") || foreign("hf_", "hf_model_name") {
                continue;
            }
            let reason = match key.as_str() {
                "timm_model_name" => {
                    "a tower of timm; Couplet builds open_clip's own, and of timm's SigLIP's of fixed resolution"
                }
                "multimodal_cfg" => "CoCa's captioning decoder is not supported by Couplet",
                _ => "not supported by Couplet",
            };
            self.0.push(format!("{table}{key} = {value}: {reason}"));
        }
    }

    pub fn side(&mut self, key: &str, side: Side) -> usize {
        match side {
            Side::One(side) => side,
            Side::Two([height, width]) => {
                if height != width {
                    self.0.push(format!(
                        "{key} = [{height}, {width}]: only squares are supported"
                    ));
                }
                height
            }
        }
    }

    pub fn reject(&mut self, key: &str, value: &Value, reason: &str) {
        self.0.push(format!("{key} = {value}: {reason}"));
    }

    pub fn unknown(&mut self, key: &str, value: &str, known: &str) {
        self.0.push(format!("{key} = {value:?}: expected {known}"));
    }

    /// The activation that `act_kwargs` make of GELU, if not the model's.
    pub fn activation(
        &mut self,
        table: &str,
        kwargs: Option<&Map<String, Value>>,
        quick_gelu: bool,
    ) -> Option<Activation> {
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty())?;
        match kwargs.get("approximate").and_then(Value::as_str) {
            Some("tanh") if kwargs.len() == 1 && !quick_gelu => Some(Activation::GeluTanh),
            Some("none") if kwargs.len() == 1 && !quick_gelu => None,
            _ => {
                let value = Value::Object(kwargs.clone());
                self.0.push(format!(
                    "{table}.act_kwargs = {value}: expected {{\"approximate\": \"tanh\"}} with GELU"
                ));
                None
            }
        }
    }

    pub fn norm_eps(&mut self, table: &str, kwargs: Option<&Map<String, Value>>) -> f64 {
        let Some(kwargs) = kwargs.filter(|kwargs| !kwargs.is_empty()) else {
            return DEFAULT_NORM_EPS;
        };
        match kwargs.get("eps").and_then(Value::as_f64) {
            Some(eps) if kwargs.len() == 1 => eps,
            _ => {
                let value = Value::Object(kwargs.clone());
                self.0.push(format!(
                    "{table}.norm_kwargs = {value}: expected {{\"eps\": a number}}"
                ));
                DEFAULT_NORM_EPS
            }
        }
    }
}

pub(super) fn act_kwargs(activation: Activation) -> Option<Map<String, Value>> {
    let tanh = || {
        [("approximate".to_string(), "tanh".into())]
            .into_iter()
            .collect()
    };
    (activation == Activation::GeluTanh).then(tanh)
}

pub(super) fn norm_kwargs(eps: f64) -> Option<Map<String, Value>> {
    let kwargs = || [("eps".to_string(), eps.into())].into_iter().collect();
    (eps != DEFAULT_NORM_EPS).then(kwargs)
}
