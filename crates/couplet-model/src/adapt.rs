//! Adapting a model: low-rank updates of some of its layers are trained, and little else.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::clip::Clip;
use crate::image::ImageTower;
use crate::init::Initializer;
use crate::lora::{Adaptable, Lora, LowRankUpdate, VisitLayers};
use crate::names::{ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use crate::spec::ModelSpec;
use crate::tensors::HostTensor;

/// The size of a layer's low-rank update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRank {
    pub rank: usize,
    /// The factor on the update.
    pub scale: f64,
}

/// A layer that can have a low-rank update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptableLayer {
    /// Such as `visual.transformer.resblocks.0.attn.q_proj`.
    pub name: String,
    /// The name of the parameter that holds its weight.
    pub weight: String,
    /// The first of its rows there.
    pub first_row: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl ModelSpec {
    /// The layers that can have low-rank updates: the linear layers of blocks and pooling, in order.
    ///
    /// # Panics
    /// If `self.problems()` is not empty.
    pub fn adaptable_layers(&self) -> Vec<AdaptableLayer> {
        let mut layers = Vec::new();
        let mut model = Clip::blank(self, &Device::flex());
        model.visit_layers(&mut |name, layer| {
            layers.push(AdaptableLayer {
                name: name.to_string(),
                weight: layer.weight_name,
                first_row: layer.rows.start,
                inputs: layer.weight.lazy_shape()[1],
                outputs: layer.rows.len(),
            });
        });
        layers
    }
}

impl Clip {
    /// The same model with low-rank updates that change nothing yet. They are trained, and parameters that
    /// `is_trained` says; everything else is frozen, batch norms included.
    /// - size: of the update of the layer with this name, if it gets one; seed: of the draws.
    #[must_use]
    pub fn adapt(
        mut self,
        size: impl Fn(&str) -> Option<LowRank>,
        is_trained: impl Fn(&str) -> bool,
        seed: u64,
    ) -> Self {
        self.visual.freeze_norms(usize::MAX);
        let mut model = map_parameters(self, &mut FreezeOthers { is_trained });
        let device = model.device();
        let init = Initializer {
            seed: Some(seed),
            device: &device,
        };
        model.visit_layers(&mut |name, layer| {
            let Some(LowRank { rank, scale }) = size(name) else {
                return;
            };
            let sizes = [layer.weight.lazy_shape()[1], layer.rows.len()];
            *layer.lora = Some(Lora::init(name, sizes, rank, scale, &init));
        });
        model
    }

    /// Whether a layer has an update.
    pub fn has_updates(&self) -> bool {
        struct Find(bool);
        impl ParameterVisitor for Find {
            fn visit<const D: usize>(&mut self, name: &str, _: &Param<Tensor<D>>) {
                self.0 |= name.ends_with(".lora.a");
            }
        }
        let mut find = Find(false);
        visit_parameters(self, &mut find);
        find.0
    }

    /// The updates by the names of their layers.
    pub fn updates(&self) -> BTreeMap<String, LowRankUpdate> {
        let mut updates = BTreeMap::new();
        // Visiting changes nothing.
        let mut model = self.clone();
        model.visit_layers(&mut |name, layer| {
            if let Some(lora) = layer.lora {
                updates.insert(name.to_string(), lora.to_host());
            }
        });
        updates
    }

    /// The same model with the updates added to the weights: as fast as without, and to be written in every layout.
    #[must_use]
    pub fn merged(mut self) -> Self {
        if !self.has_updates() {
            return self;
        }
        self.visit_layers(&mut |_, layer| {
            let Adaptable {
                weight, rows, lora, ..
            } = layer;
            let Some(lora) = lora.take() else {
                return;
            };
            let mut merged = HostTensor::from_tensor(weight.val());
            let inputs = merged.shape[1];
            let own = &mut merged.values[rows.start * inputs..rows.end * inputs];
            for (value, change) in own.iter_mut().zip(lora.to_host().product().values) {
                *value += change;
            }
            let tensor = merged.into_tensor(&weight.lazy_device());
            let id = weight.id;
            *weight = weight.clone().transform_for_load(tensor, id);
        });
        self
    }

    /// The same model with the values of updates that it has.
    /// - updates: by the names of their layers, and of their sizes.
    #[must_use]
    pub fn with_updates(mut self, updates: &BTreeMap<String, LowRankUpdate>) -> Self {
        self.visit_layers(&mut |name, layer| {
            if let (Some(lora), Some(update)) = (layer.lora, updates.get(name)) {
                for (half, values) in [(&mut lora.a, &update.a), (&mut lora.b, &update.b)] {
                    let tensor = values.clone().into_tensor(&half.lazy_device());
                    let id = half.id;
                    *half = half.clone().transform_for_load(tensor, id);
                }
            }
        });
        self
    }

    fn visit_layers(&mut self, visit: &mut VisitLayers) {
        match &mut self.visual {
            ImageTower::Vit(vit) => vit.visit_layers("visual", visit),
            ImageTower::ResNet(resnet) => resnet.visit_layers("visual", visit),
        }
        self.text.visit_layers(visit);
    }
}

struct FreezeOthers<F> {
    is_trained: F,
}

impl<F: Fn(&str) -> bool> ParameterMapper for FreezeOthers<F> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if (self.is_trained)(name) {
            param
        } else {
            param.set_require_grad(false)
        }
    }
}
