//! The layer that a parameter belongs to, by its open_clip name.

use crate::spec::ModelSpec;

/// The number of residual blocks in both towers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockCount {
    /// In each stage; a ViT has one stage.
    image: Vec<usize>,
    text: usize,
}

/// A parameter's tower and depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerId {
    Image(Layer),
    Text(Layer),
    /// `logit_scale`, `logit_bias`, and a classifier on the image tower.
    Joint,
}

/// A parameter's layer in its tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Before the first block: patches, embeddings, positions.
    Stem,
    /// A residual block, counted from 0 over all stages.
    Block(usize),
    /// After the last block: the last norm, pooling, projection.
    Head,
}

const IMAGE_HEAD: [&str; 6] = [
    "pooler.",
    "ln_post.",
    "proj",
    "attn_pool.",
    "attnpool.",
    "map_head.",
];
const TEXT_HEAD: [&str; 4] = ["ln_final.", "text_projection", "attn_pool.", "pooler."];

impl BlockCount {
    pub fn new(spec: &ModelSpec) -> Self {
        Self {
            image: spec.image.block_counts(),
            text: spec.text.layers,
        }
    }

    /// Residual blocks of the image tower.
    pub fn image(&self) -> usize {
        self.image.iter().sum()
    }

    /// Residual blocks of the text tower.
    pub fn text(&self) -> usize {
        self.text
    }

    /// The tower and layer of the parameter with this open_clip name.
    pub fn layer_id(&self, name: &str) -> LayerId {
        if name.starts_with("logit_") || name.starts_with("head.") {
            LayerId::Joint
        } else if let Some(part) = name.strip_prefix("visual.") {
            LayerId::Image(depth(part, &self.image, &IMAGE_HEAD))
        } else {
            LayerId::Text(depth(name, &[self.text], &TEXT_HEAD))
        }
    }

    /// The number of layers between a parameter and the end of its tower, where each block and the
    /// stem are a layer: 0 for the head, the number of blocks + 1 for the stem.
    pub fn layers_above(&self, name: &str) -> usize {
        let above = |depth, blocks| match depth {
            Layer::Head => 0,
            Layer::Block(block) => blocks - block,
            Layer::Stem => blocks + 1,
        };
        match self.layer_id(name) {
            LayerId::Image(depth) => above(depth, self.image()),
            LayerId::Text(depth) => above(depth, self.text),
            LayerId::Joint => 0,
        }
    }
}

/// - part: a parameter's name within its tower.
/// - stages: blocks of each stage; a transformer has one.
fn depth(part: &str, stages: &[usize], head: &[&str]) -> Layer {
    if let Some(block) = block(part, stages) {
        Layer::Block(block)
    } else if head.iter().any(|head| part.starts_with(head)) {
        Layer::Head
    } else {
        Layer::Stem
    }
}

fn block(part: &str, stages: &[usize]) -> Option<usize> {
    let (stage, rest) = if let Some(rest) = part.strip_prefix("transformer.resblocks.") {
        (0, rest)
    } else {
        let (stage, rest) = part.strip_prefix("layer")?.split_once('.')?;
        (stage.parse::<usize>().ok()?.checked_sub(1)?, rest)
    };
    let within: usize = rest.split('.').next()?.parse().ok()?;
    Some(stages.get(..stage)?.iter().sum::<usize>() + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn blocks_are_counted_over_the_stages_of_a_resnet() {
        let blocks = BlockCount::new(&presets::find("RN50").unwrap());
        assert_eq!((blocks.image(), blocks.text()), (16, 12));
        for (name, place) in [
            (
                "visual.layer1.0.conv1.weight",
                LayerId::Image(Layer::Block(0)),
            ),
            ("visual.layer3.1.bn2.bias", LayerId::Image(Layer::Block(8))),
            ("visual.conv1.weight", LayerId::Image(Layer::Stem)),
            ("visual.attnpool.c_proj.bias", LayerId::Image(Layer::Head)),
            (
                "transformer.resblocks.7.ln_1.bias",
                LayerId::Text(Layer::Block(7)),
            ),
            ("token_embedding.weight", LayerId::Text(Layer::Stem)),
            ("text_projection", LayerId::Text(Layer::Head)),
            ("logit_scale", LayerId::Joint),
            ("head.weight", LayerId::Joint),
        ] {
            assert_eq!(blocks.layer_id(name), place, "{name}");
        }
    }

    #[test]
    fn layers_are_counted_from_the_end() {
        let blocks = BlockCount::new(&presets::find("ViT-B-32").unwrap());
        let above = |name| blocks.layers_above(name);
        assert_eq!(above("visual.proj"), 0);
        assert_eq!(above("visual.transformer.resblocks.11.ln_1.weight"), 1);
        assert_eq!(above("visual.transformer.resblocks.0.ln_1.weight"), 12);
        assert_eq!(above("visual.conv1.weight"), 13);
        assert_eq!(above("positional_embedding"), 13);
        assert_eq!(above("logit_scale"), 0);
    }
}
