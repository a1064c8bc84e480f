//! Parameters under open_clip's state-dict names. The modules' fields have open_clip's names;
//! their paths differ only by the module `text` and by the variants of enums.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use couplet_kernels::NarrowWeights;

use crate::clip::Clip;
use crate::spec::ModelSpec;

/// Visits each float parameter with its open_clip name.
pub trait ParameterVisitor {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}

/// Replaces each float parameter, given its open_clip name.
pub trait ParameterMapper {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

impl ModelSpec {
    /// The open_clip names of all parameters and buffers. Allocates no parameter.
    ///
    /// # Panics
    /// If `self.problems()` is not empty.
    pub fn parameter_names(&self) -> Vec<String> {
        let shapes = self.parameter_shapes().into_iter();
        shapes.map(|(name, _)| name).collect()
    }

    /// As [`Self::parameter_names`], with shapes; those of scalars are `[1]`.
    ///
    /// # Panics
    /// If `self.problems()` is not empty.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        struct Shapes(Vec<(String, Vec<usize>)>);
        impl ParameterVisitor for Shapes {
            fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                (self.0).push((name.to_string(), param.lazy_shape().to_vec()));
            }
        }
        let mut shapes = Shapes(Vec::new());
        visit_parameters(&Clip::blank(self, &Device::flex()), &mut shapes);
        shapes.0
    }
}

/// Visits every parameter in a fixed order.
pub fn visit_parameters(model: &Clip, visitor: &mut impl ParameterVisitor) {
    model.visit(&mut Walk {
        path: Vec::new(),
        inner: visitor,
    });
}

/// Copies of the weights of linear layers in the dtype of the model's products, for all passes until the next update;
/// `None` in f32. Only a GPU needs them.
pub fn narrow_weights(model: &Clip) -> Option<NarrowWeights> {
    struct Add(NarrowWeights);
    impl ParameterVisitor for Add {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            // What is added or normalised with is not narrow.
            let is_wide = [
                "embedding",
                ".ln_",
                ".bn",
                "logit_scale",
                "logit_bias",
                "gamma",
            ];
            let is_product = D <= 2 || name == "visual.conv1.weight";
            if is_product && !is_wide.iter().any(|part| name.contains(part)) {
                self.0.add(&param.val());
            }
        }
    }
    let mut add = Add(NarrowWeights::new(model.precision().dtype()?));
    visit_parameters(model, &mut add);
    add.0.copy();
    Some(add.0)
}

/// Maps every parameter in a fixed order.
pub fn map_parameters(model: Clip, mapper: &mut impl ParameterMapper) -> Clip {
    model.map(&mut Walk {
        path: Vec::new(),
        inner: mapper,
    })
}

struct Walk<'a, T> {
    path: Vec<Segment>,
    inner: &'a mut T,
}

struct Segment {
    name: String,
    is_variant: bool,
}

impl<T> Walk<'_, T> {
    fn enter(&mut self, name: &str, container_type: &str) {
        self.path.push(Segment {
            name: name.to_string(),
            is_variant: container_type.starts_with("Enum:"),
        });
    }

    fn open_clip_name(&self) -> String {
        let named: Vec<&str> = self
            .path
            .iter()
            .filter(|segment| !segment.is_variant)
            .map(|segment| segment.name.as_str())
            .collect();
        let start = usize::from(named.first() == Some(&"text"));
        named[start..].join(".")
    }
}

impl<T: ParameterVisitor> ModuleVisitor for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.open_clip_name();
        self.inner.visit(&name, param);
    }
}

impl<T: ParameterMapper> ModuleMapper for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.open_clip_name();
        self.inner.map(&name, param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    struct Names(Vec<(String, Vec<usize>)>);

    impl ParameterVisitor for Names {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            self.0.push((name.into(), param.dims().to_vec()));
        }
    }

    #[test]
    fn names_and_shapes_match_open_clip() {
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let mut names = Names(Vec::new());
        visit_parameters(&Clip::init(&spec, 0, &Device::flex()), &mut names);
        let has = |name: &str, shape: &[usize]| {
            assert!(
                names.0.contains(&(name.into(), shape.to_vec())),
                "{name} {shape:?} in {:?}",
                names.0
            );
        };
        has("visual.conv1.weight", &[96, 3, 16, 16]);
        has("visual.class_embedding", &[96]);
        has(
            "visual.transformer.resblocks.3.attn.in_proj_weight",
            &[288, 96],
        );
        has("visual.proj", &[96, 64]);
        has("token_embedding.weight", &[49_408, 64]);
        has("positional_embedding", &[32, 64]);
        has("transformer.resblocks.0.mlp.c_fc.bias", &[256]);
        has("ln_final.weight", &[64]);
        has("text_projection", &[64, 64]);
        has("logit_scale", &[1]);
        let all: Vec<String> = names.0.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(spec.parameter_names(), all);
        // class, positions, conv1, 2 + 2 norm, proj | positions, tokens, 2 norm, proj | scale
        assert_eq!(names.0.len(), (8 + 4 * 12) + (5 + 2 * 12) + 1);
    }
}
