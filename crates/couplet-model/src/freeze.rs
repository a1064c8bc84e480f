//! Which parts of a model a run does not train.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use burn::module::Param;
use burn::tensor::Tensor;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clip::Clip;
use crate::depth::{BlockCount, Layer, LayerId};
use crate::names::{ParameterMapper, map_parameters};
use crate::spec::ModelSpec;

/// `[freeze]`: parts of the model that are not trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeConfig {
    /// How much of the image tower is frozen. `"all"` is LiT (Zhai et al. 2022, "LiT: Zero-Shot
    /// Transfer with Locked-image text Tuning").
    #[serde(default)]
    pub image: Freeze,
    /// How much of the text tower is frozen.
    #[serde(default)]
    pub text: Freeze,
}

/// How much of a tower is frozen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Freeze {
    #[default]
    Nothing,
    All,
    /// All but this many of the last blocks, and what comes after them: the last norm,
    /// the pooling and the projection.
    AllButLast(usize),
}

/// A text that does not say how much of a tower is frozen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: write \"none\", \"all\" or \"all but last 2 blocks\"")]
pub struct ParseFreezeError(String);

impl FreezeConfig {
    /// What is frozen where some parameters are trained, as far as that can be said of whole blocks.
    /// - trained: their names.
    pub fn of_trained<'a>(trained: impl IntoIterator<Item = &'a str>, spec: &ModelSpec) -> Self {
        let blocks = BlockCount::new(spec);
        // The number of frozen layers from the stem on.
        let (mut image, mut text) = (None::<usize>, None::<usize>);
        for name in trained {
            let (frozen, layer, count) = match blocks.layer_id(name) {
                LayerId::Image(layer) => (&mut image, layer, blocks.image()),
                LayerId::Text(layer) => (&mut text, layer, blocks.text()),
                LayerId::Joint => continue,
            };
            let before = match layer {
                Layer::Stem => 0,
                Layer::Block(block) => block + 1,
                Layer::Head => count + 1,
            };
            *frozen = Some(frozen.map_or(before, |frozen| frozen.min(before)));
        }
        let freeze = |frozen: Option<usize>, blocks: usize| match frozen {
            None => Freeze::All,
            Some(0) => Freeze::Nothing,
            Some(frozen) => Freeze::AllButLast(blocks + 1 - frozen),
        };
        Self {
            image: freeze(image, blocks.image()),
            text: freeze(text, blocks.text()),
        }
    }

    /// Every setting that does not fit the model, with its key.
    pub fn problems(&self, spec: &ModelSpec) -> Vec<(&'static str, String)> {
        let blocks = BlockCount::new(spec);
        let towers = [
            ("image", self.image, blocks.image()),
            ("text", self.text, blocks.text()),
        ];
        let mut problems = Vec::new();
        for (key, freeze, blocks) in towers {
            if let Freeze::AllButLast(last) = freeze
                && last > blocks
            {
                let message = format!("the tower has {blocks} blocks, not {last}");
                problems.push((key, message));
            }
        }
        if self.image == Freeze::All && self.text == Freeze::All {
            problems.push((
                "text",
                "both towers are frozen, so nothing is trained".into(),
            ));
        }
        problems
    }
}

impl Freeze {
    /// The number of frozen blocks, from the first, of a tower with `blocks` blocks.
    pub fn frozen_blocks(self, blocks: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::All => blocks,
            Self::AllButLast(last) => blocks.saturating_sub(last),
        }
    }

    /// Whether it freezes a parameter at `depth` of a tower of `blocks` blocks.
    fn holds(self, depth: Layer, blocks: usize) -> bool {
        match (self, depth) {
            (Self::Nothing, _) | (Self::AllButLast(_), Layer::Head) => false,
            (Self::All, _) | (Self::AllButLast(_), Layer::Stem) => true,
            (Self::AllButLast(_), Layer::Block(block)) => block < self.frozen_blocks(blocks),
        }
    }
}

impl Clip {
    /// The same model, without gradients for everything that `config` freezes. Frozen batch norms
    /// keep their running statistics and normalise with them.
    /// - spec: the model's.
    ///
    /// # Panics
    /// If `config.problems(spec)` is not empty.
    #[must_use]
    pub fn freeze(mut self, config: FreezeConfig, spec: &ModelSpec) -> Self {
        assert_eq!(config.problems(spec), [], "the freezing fits the model");
        let blocks = BlockCount::new(spec);
        if config.image != Freeze::Nothing {
            let frozen = config.image.frozen_blocks(blocks.image());
            self.visual.freeze_norms(frozen);
        }
        map_parameters(self, &mut FreezeParameters { config, blocks })
    }

    /// The same model, trained in the image tower and the classifier only.
    #[must_use]
    pub fn freeze_all_but_classifier(self) -> Self {
        struct FreezeOthers;
        impl ParameterMapper for FreezeOthers {
            fn map<const D: usize>(
                &mut self,
                name: &str,
                param: Param<Tensor<D>>,
            ) -> Param<Tensor<D>> {
                if name.starts_with("visual.") || name.starts_with("head.") {
                    param
                } else {
                    param.set_require_grad(false)
                }
            }
        }
        map_parameters(self, &mut FreezeOthers)
    }
}

struct FreezeParameters {
    config: FreezeConfig,
    blocks: BlockCount,
}

impl ParameterMapper for FreezeParameters {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = match self.blocks.layer_id(name) {
            LayerId::Image(depth) => self.config.image.holds(depth, self.blocks.image()),
            LayerId::Text(depth) => self.config.text.holds(depth, self.blocks.text()),
            LayerId::Joint => false,
        };
        if frozen {
            param.set_require_grad(false)
        } else {
            param
        }
    }
}

impl FromStr for Freeze {
    type Err = ParseFreezeError;

    fn from_str(text: &str) -> Result<Self, ParseFreezeError> {
        let last = |text: &str| -> Option<usize> {
            let rest = text.strip_prefix("all but last ")?;
            let number = rest.strip_suffix("blocks").or(rest.strip_suffix("block"))?;
            number.trim().parse().ok()
        };
        match text {
            "none" => Ok(Self::Nothing),
            "all" => Ok(Self::All),
            _ => (last(text).map(Self::AllButLast)).ok_or_else(|| ParseFreezeError(text.into())),
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::AllButLast(1) => f.write_str("all but last 1 block"),
            Self::AllButLast(last) => write!(f, "all but last {last} blocks"),
        }
    }
}

impl Serialize for Freeze {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Freeze {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Freeze {
    fn schema_name() -> Cow<'static, str> {
        "Freeze".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Part of a tower that is frozen: `none`, `all`, or all but its last blocks and what follows them.",
            "pattern": r"^(none|all|all but last \s*\+?[0-9]+\s*blocks?)$",
            "examples": ["none", "all", "all but last 2 blocks"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::ClassifierHead;
    use crate::names::{ParameterVisitor, visit_parameters};
    use crate::presets;
    use burn::tensor::Device;

    struct Trained(Vec<String>);

    impl ParameterVisitor for Trained {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.push(name.into());
            }
        }
    }

    fn trained(preset: &str, config: FreezeConfig) -> Vec<String> {
        let spec = presets::find(preset).unwrap();
        let model = Clip::init(&spec, 0, &Device::flex().autodiff()).freeze(config, &spec);
        let mut trained = Trained(Vec::new());
        visit_parameters(&model, &mut trained);
        trained.0
    }

    #[test]
    fn the_last_blocks_and_the_head_stay_trained() {
        let config = FreezeConfig {
            image: Freeze::AllButLast(1),
            text: Freeze::All,
        };
        let trained = trained("ViT-Ti-16-64", config);
        assert!(trained.iter().any(|name| name == "visual.proj"));
        assert!(trained.iter().any(|name| name == "logit_scale"));
        for name in &trained {
            let kept = [
                "visual.transformer.resblocks.3.",
                "visual.ln_post.",
                "visual.proj",
                "logit_scale",
            ];
            assert!(kept.iter().any(|kept| name.starts_with(kept)), "{name}");
        }
    }

    #[test]
    fn more_blocks_than_there_are_cannot_be_frozen() {
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let config = FreezeConfig {
            image: Freeze::AllButLast(9),
            text: Freeze::Nothing,
        };
        let problems = config.problems(&spec);
        assert_eq!(problems[0].0, "image");
        assert_eq!(problems[0].1, "the tower has 4 blocks, not 9");
        assert!("all but 2".parse::<Freeze>().is_err());
        for text in [
            "none",
            "all",
            "all but last 2 blocks",
            "all but last 1 block",
        ] {
            assert_eq!(text.parse::<Freeze>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_the_image_tower_and_the_head_are_trained() {
        struct Trained(Vec<String>);
        impl ParameterVisitor for Trained {
            fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.push(name.into());
                }
            }
        }
        let device = Device::flex().autodiff();
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let head = ClassifierHead::new(Tensor::zeros([3, spec.embed_dim], &device));
        let model = Clip::init(&spec, 0, &device).with_head(head);
        let mut trained = Trained(Vec::new());
        visit_parameters(&model.freeze_all_but_classifier(), &mut trained);
        assert!(
            trained.0.contains(&"head.weight".into()) && trained.0.contains(&"head.bias".into())
        );
        let is_part = |name: &String| name.starts_with("visual.") || name.starts_with("head.");
        assert!(trained.0.len() > 20 && trained.0.iter().all(is_part));
    }
}
