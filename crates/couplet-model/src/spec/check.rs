//! Validation of a model spec.

use super::bounds::{
    MAX_CONTEXT, MAX_GRID, MAX_IMAGE_SIZE, MAX_LAYERS, MAX_MLP_WIDTH, MAX_QUERIES, MAX_STEM_WIDTH,
    MAX_TOWER_PARAMETERS, MAX_VOCABULARY, MAX_WIDTH, image_parameters, text_parameters,
};
use super::encoder::encoder_problems;
use super::{
    Activation, ImagePool, ImageProjection, ImageTowerSpec, ModelSpec, ResNetSpec, TextPool,
    TextProjection, VitSpec, mlp_width,
};

/// An invalid field of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// Path of the field inside the spec, such as `image.heads`.
    pub field: String,
    pub message: String,
}

impl ModelSpec {
    /// All invalid values of the spec.
    pub fn problems(&self) -> Vec<SpecProblem> {
        let mut check = Check(Vec::new());
        check.size("embed_dim", self.embed_dim, MAX_WIDTH);
        if !self.init_logit_scale.is_finite() {
            check.fail("init_logit_scale", "must be a finite number".into());
        }
        if self.init_logit_bias.is_some_and(|bias| !bias.is_finite()) {
            check.fail("init_logit_bias", "must be a finite number".into());
        }
        match &self.image {
            ImageTowerSpec::Vit(vit) => check.vit(vit, self.embed_dim),
            ImageTowerSpec::ResNet(resnet) => check.resnet(resnet),
        }
        check.parameters("image", image_parameters(&self.image, self.embed_dim));
        check.text(self);
        check.parameters("text", text_parameters(&self.text, self.embed_dim));
        check.activations(self);
        check.0
    }
}

struct Check(Vec<SpecProblem>);

impl Check {
    fn fail(&mut self, field: &str, message: String) {
        self.0.push(SpecProblem {
            field: field.into(),
            message,
        });
    }

    fn positive(&mut self, field: &str, value: usize) -> bool {
        if value == 0 {
            self.fail(field, "must be at least 1".into());
        }
        value > 0
    }

    /// - returns whether it is from 1 to `most`.
    fn size(&mut self, field: &str, value: usize, most: usize) -> bool {
        if value > most {
            self.fail(field, format!("{value} is more than {most}, the most here"));
        }
        self.positive(field, value) && value <= most
    }

    /// Only where the tower's sizes are valid each by itself.
    fn parameters(&mut self, tower: &str, parameters: f64) {
        let is_sound = self
            .0
            .iter()
            .all(|problem| !problem.field.starts_with(tower) && problem.field != "embed_dim");
        if is_sound && (parameters.is_nan() || parameters > MAX_TOWER_PARAMETERS) {
            self.fail(
                &format!("{tower}.width"),
                format!(
                    "with the tower's other sizes it makes {parameters:.1e} parameters; \
                     {MAX_TOWER_PARAMETERS:.0e} are the most here"
                ),
            );
        }
    }

    fn heads(&mut self, field: &str, heads: usize, width: usize) {
        if self.positive(field, heads) && !width.is_multiple_of(heads) {
            self.fail(field, format!("{heads} heads do not divide width {width}"));
        }
    }

    fn vit(&mut self, vit: &VitSpec, embed_dim: usize) {
        let has_size = self.size("image.image_size", vit.image_size, MAX_IMAGE_SIZE);
        if self.size("image.patch_size", vit.patch_size, MAX_IMAGE_SIZE) {
            if vit.patch_size > vit.image_size {
                self.fail(
                    "image.patch_size",
                    format!(
                        "{} pixels is larger than image_size {}",
                        vit.patch_size, vit.image_size
                    ),
                );
            } else if has_size && vit.grid() > MAX_GRID {
                let grid = vit.grid();
                self.fail(
                    "image.patch_size",
                    format!("{grid} patches along a side are more than {MAX_GRID}, the most here"),
                );
            }
        }
        self.blocks("image", vit.width, vit.layers, vit.heads, vit.mlp_ratio);
        self.norm_eps("image", vit.norm_eps);
        self.layer_scale("image", vit.layer_scale);
        if !(0.0..1.0).contains(&vit.patch_dropout) {
            self.fail(
                "image.patch_dropout",
                format!("{} must be at least 0 and below 1", vit.patch_dropout),
            );
        }
        if let Some(pool) = &vit.attention_pool {
            self.size("image.attention_pool.queries", pool.queries, MAX_QUERIES);
            self.heads("image.attention_pool.heads", pool.heads, embed_dim);
        }
        if !vit.class_token && vit.pool == ImagePool::Class && vit.attention_pool.is_none() {
            self.fail(
                "image.pool",
                "\"class\" needs class_token = true; \"mean\" and \"map\" do without".into(),
            );
        }
        if vit.pool == ImagePool::Map && (vit.attention_pool.is_some() || vit.norm_after_pool) {
            self.fail(
                "image.pool",
                "\"map\" pools the last layer norm's output by itself; attention_pool and \
                 norm_after_pool cannot be set"
                    .into(),
            );
        }
        if vit.pooler && (vit.pool != ImagePool::Class || vit.attention_pool.is_some()) {
            self.fail(
                "image.pooler",
                "follows the class token: it needs pool = \"class\" and no attention_pool".into(),
            );
        }
        let pooled = if vit.attention_pool.is_some() {
            embed_dim
        } else {
            vit.width
        };
        if vit.projection == ImageProjection::None && pooled != embed_dim {
            self.fail(
                "image.projection",
                format!("without one, width {pooled} must be embed_dim {embed_dim}"),
            );
        }
        if vit.positions == super::ImagePositions::SinCos2d && !vit.width.is_multiple_of(4) {
            self.fail(
                "image.positions",
                format!("sin-cos-2d needs a width that 4 divides, not {}", vit.width),
            );
        }
    }

    fn resnet(&mut self, resnet: &ResNetSpec) {
        if resnet.image_size == 0 || !resnet.image_size.is_multiple_of(ResNetSpec::STRIDE) {
            self.fail(
                "image.image_size",
                format!(
                    "{} is not a positive multiple of {}",
                    resnet.image_size,
                    ResNetSpec::STRIDE
                ),
            );
        }
        self.size("image.image_size", resnet.image_size.max(1), MAX_IMAGE_SIZE);
        if resnet.layers.contains(&0) {
            self.fail("image.layers", "every stage has at least 1 block".into());
        }
        let longest = resnet.layers.into_iter().max().unwrap_or(0);
        self.size("image.layers", longest.max(1), MAX_LAYERS);
        let has_width = self.size("image.width", resnet.width, MAX_STEM_WIDTH);
        if has_width && !resnet.width.is_multiple_of(2) {
            self.fail(
                "image.width",
                format!("{} cannot be halved for the stem", resnet.width),
            );
        }
        if has_width {
            self.heads("image.heads", resnet.heads, resnet.feature_width());
        }
    }

    fn text(&mut self, spec: &ModelSpec) {
        let text = &spec.text;
        if text.context_length < 3 {
            self.fail(
                "text.context_length",
                format!(
                    "{} is too short for a start, a word and an end token",
                    text.context_length
                ),
            );
        }
        self.size(
            "text.context_length",
            text.context_length.max(1),
            MAX_CONTEXT,
        );
        if self.size("text.vocab_size", text.vocab_size, MAX_VOCABULARY) {
            self.id("text.pad_id", text.pad_id, text.vocab_size);
            if let TextPool::Eos { id } = text.pool {
                self.id("text.pool.id", id, text.vocab_size);
            }
        }
        self.blocks("text", text.width, text.layers, text.heads, text.mlp_ratio);
        self.norm_eps("text", text.norm_eps);
        self.layer_scale("text", text.layer_scale);
        for (field, message) in encoder_problems(text) {
            self.fail(field, message);
        }
        if let TextPool::Map { heads } = text.pool {
            self.heads("text.pool.heads", heads, text.width);
        }
        if text.projection == TextProjection::None && text.width != spec.embed_dim {
            self.fail(
                "text.projection",
                format!(
                    "without one, width {} must be embed_dim {}",
                    text.width, spec.embed_dim
                ),
            );
        }
    }

    /// open_clip's config has one `quick_gelu` for both towers, if they are its own.
    fn activations(&mut self, spec: &ModelSpec) {
        let is_quick = |activation| activation == Activation::QuickGelu;
        let is_siglip = spec.image.as_vit().is_some_and(VitSpec::is_siglip);
        let towers = [
            ("image", spec.image_activation().filter(|_| !is_siglip)),
            ("text", spec.text.is_clip().then(|| spec.text_activation())),
        ];
        for (tower, own) in towers {
            if own.is_some_and(|own| is_quick(own) != is_quick(spec.activation)) {
                self.fail(
                    &format!("{tower}.activation"),
                    "quick-gelu must be in both towers or in neither; set the model's activation"
                        .into(),
                );
            }
        }
    }

    fn id(&mut self, field: &str, id: u32, vocab_size: usize) {
        if id as usize >= vocab_size {
            self.fail(
                field,
                format!("{id} is not an id of a vocabulary of {vocab_size}"),
            );
        }
    }

    fn blocks(&mut self, tower: &str, width: usize, layers: usize, heads: usize, ratio: f64) {
        self.size(&format!("{tower}.width"), width, MAX_WIDTH);
        self.size(&format!("{tower}.layers"), layers, MAX_LAYERS);
        self.heads(&format!("{tower}.heads"), heads, width);
        if !(ratio.is_finite() && ratio > 0.0 && mlp_width(width, ratio) > 0) {
            self.fail(
                &format!("{tower}.mlp_ratio"),
                format!("{ratio} leaves the MLP without a hidden layer"),
            );
        } else if mlp_width(width, ratio) > MAX_MLP_WIDTH && width <= MAX_WIDTH {
            let mlp = mlp_width(width, ratio);
            self.fail(
                &format!("{tower}.mlp_ratio"),
                format!("{ratio} makes a hidden layer of {mlp}; {MAX_MLP_WIDTH} are the most here"),
            );
        }
    }

    fn norm_eps(&mut self, tower: &str, eps: f64) {
        if !(eps.is_finite() && eps > 0.0) {
            self.fail(
                &format!("{tower}.norm_eps"),
                format!("{eps} is not a positive number"),
            );
        }
    }

    fn layer_scale(&mut self, tower: &str, gain: Option<f64>) {
        if gain.is_some_and(|gain| !gain.is_finite()) {
            self.fail(
                &format!("{tower}.layer_scale"),
                "must be a finite number".into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn all_problems_of_a_spec_are_reported_together() {
        let mut spec = presets::find("ViT-Ti-16-64").unwrap();
        let ImageTowerSpec::Vit(vit) = &mut spec.image else {
            panic!("a ViT preset");
        };
        vit.heads = 5;
        vit.patch_size = 80;
        spec.text.context_length = 2;
        spec.embed_dim = 0;
        let fields: Vec<_> = spec.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(
            fields,
            [
                "embed_dim",
                "image.patch_size",
                "image.heads",
                "text.context_length"
            ]
        );
    }

    #[test]
    fn absurd_sizes_are_refused_one_by_one_and_together() {
        let preset = presets::find("ViT-B-32").unwrap();
        let problems = |change: &dyn Fn(&mut ModelSpec, &mut VitSpec)| {
            let mut spec = preset.clone();
            let ImageTowerSpec::Vit(mut vit) = spec.image.clone() else {
                panic!("a ViT preset");
            };
            change(&mut spec, &mut vit);
            spec.image = ImageTowerSpec::Vit(vit);
            let problems = spec.problems().into_iter();
            problems
                .map(|problem| format!("{}: {}", problem.field, problem.message))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            problems(&|spec, _| spec.text.layers = 4_000_000_000),
            ["text.layers: 4000000000 is more than 1024, the most here"]
        );
        for (list, field) in [
            (problems(&|_, vit| vit.width = usize::MAX), "image.width"),
            (
                problems(&|_, vit| vit.image_size = usize::MAX),
                "image.image_size",
            ),
            (problems(&|_, vit| vit.patch_size = 0), "image.patch_size"),
            (
                problems(&|_, vit| (vit.image_size, vit.patch_size) = (1 << 14, 1)),
                "image.patch_size",
            ),
            (problems(&|_, vit| vit.mlp_ratio = 1e300), "image.mlp_ratio"),
            (problems(&|_, vit| vit.width = 48 << 10), "image.width"),
            (problems(&|spec, _| spec.embed_dim = 1 << 40), "embed_dim"),
            (
                problems(&|spec, _| spec.text.vocab_size = 1 << 40),
                "text.vocab_size",
            ),
            (
                problems(&|spec, _| spec.text.context_length = usize::MAX),
                "text.context_length",
            ),
        ] {
            assert!(list[0].starts_with(field), "{list:?}");
        }
    }
}
