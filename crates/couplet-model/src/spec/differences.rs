//! Whether weights of one spec can continue as another.

use std::fmt::Debug;

use super::{Activation, ImageTowerSpec, ModelSpec, ResNetSpec, TextTowerSpec, VitSpec};

impl ModelSpec {
    /// The differences that keep weights of this spec from continuing as `wanted`. Image size and
    /// context length may differ, since position embeddings are resized, and so may settings of
    /// training: initial values and patch dropout.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut list = Differences(Vec::new());
        list.add("embed_dim", self.embed_dim, wanted.embed_dim);
        list.add(
            "image activation",
            self.image_activation().map_or("none", Activation::name),
            wanted.image_activation().map_or("none", Activation::name),
        );
        list.add(
            "text activation",
            self.text_activation().name(),
            wanted.text_activation().name(),
        );
        list.add(
            "a logit_bias",
            self.init_logit_bias.is_some(),
            wanted.init_logit_bias.is_some(),
        );
        match (&self.image, &wanted.image) {
            (ImageTowerSpec::Vit(ours), ImageTowerSpec::Vit(wanted)) => list.vit(ours, wanted),
            (ImageTowerSpec::ResNet(ours), ImageTowerSpec::ResNet(wanted)) => {
                list.resnet(ours, wanted);
            }
            (ImageTowerSpec::Vit(_) | ImageTowerSpec::ResNet(_), _) => {
                list.add("image.kind", self.image.kind(), wanted.image.kind());
            }
        }
        list.text(&self.text, &wanted.text);
        list.0
    }
}

struct Differences(Vec<String>);

impl Differences {
    fn add<T: PartialEq + Debug + Copy>(&mut self, field: &str, found: T, wanted: T) {
        if found != wanted {
            self.0.push(format!("{field} is {found:?}, not {wanted:?}"));
        }
    }

    fn vit(&mut self, a: &VitSpec, b: &VitSpec) {
        self.add("image.patch_size", a.patch_size, b.patch_size);
        self.add("image.width", a.width, b.width);
        self.add("image.layers", a.layers, b.layers);
        self.add("image.heads", a.heads, b.heads);
        self.add("image MLP width", a.mlp_width(), b.mlp_width());
        self.add("image.norm_eps", a.norm_eps, b.norm_eps);
        self.add(
            "image.layer_scale",
            a.layer_scale.is_some(),
            b.layer_scale.is_some(),
        );
        self.add("image.pre_norm", a.pre_norm, b.pre_norm);
        self.add("image.class_token", a.class_token, b.class_token);
        self.add("image.patch_bias", a.patch_bias, b.patch_bias);
        self.add("image.pooler", a.pooler, b.pooler);
        self.add("image.projection", a.projection, b.projection);
        self.add("image.positions", a.positions, b.positions);
        self.add("image.attention_pool", a.attention_pool, b.attention_pool);
        self.add("image.pool", a.pool, b.pool);
        self.add(
            "image.norm_after_pool",
            a.norm_after_pool,
            b.norm_after_pool,
        );
    }

    fn resnet(&mut self, a: &ResNetSpec, b: &ResNetSpec) {
        self.add("image.layers", a.layers, b.layers);
        self.add("image.width", a.width, b.width);
        self.add("image.heads", a.heads, b.heads);
    }

    fn text(&mut self, a: &TextTowerSpec, b: &TextTowerSpec) {
        self.add("text.vocab_size", a.vocab_size, b.vocab_size);
        self.add("text.width", a.width, b.width);
        self.add("text.layers", a.layers, b.layers);
        self.add("text.heads", a.heads, b.heads);
        self.add("text MLP width", a.mlp_width(), b.mlp_width());
        self.add("text.norm_eps", a.norm_eps, b.norm_eps);
        self.add(
            "text.layer_scale",
            a.layer_scale.is_some(),
            b.layer_scale.is_some(),
        );
        self.add("text.encoder", a.encoder, b.encoder);
        self.add("text.causal", a.causal, b.causal);
        self.add("text.pool", a.pool, b.pool);
        self.add("text.projection", a.projection, b.projection);
    }
}

#[cfg(test)]
mod tests {
    use crate::presets;

    #[test]
    fn sizes_may_differ_but_activations_may_not() {
        let small = presets::find("ViT-L-14-quickgelu").unwrap();
        let large = presets::find("ViT-L-14-336-quickgelu").unwrap();
        assert!(small.differences(&large).is_empty());
        let gelu = presets::find("ViT-L-14").unwrap();
        let list = small.differences(&gelu).join("; ");
        assert!(list.contains(r#""quick-gelu", not "gelu""#), "{list}");
        let resnet = presets::find("RN50").unwrap();
        assert!(!gelu.differences(&resnet).is_empty());
    }
}
